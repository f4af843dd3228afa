//! TLS on the upstream leg: what PostgreSQL must prove before it hears a word of a login, and what
//! whoever stands in its place makes of it.

use std::io::{Read, Write};
use std::sync::mpsc;

use testing::{
    ACME, Authority, Certified, Daemon, FakeUpstream, Files, Message, Offer, PASSWORD, Raw, Run,
    SSL_REQUEST, TENANTS, asked_tls_client, asked_tls_server, binding, bound, cluster, contacts,
    sqlstate, startup_message, swallow, tls_server,
};

use crate::tls_matrix::stage;

/// What an upstream with this certificate hears of a login inside TLS, and how that ends for the
/// client.
fn heard_by(identity: &Certified, settings: &[(&str, &str)]) -> (Vec<u8>, String) {
    let (told, heard) = mpsc::channel();
    let identity = identity.clone();
    let fake = FakeUpstream::serve(move |raw| {
        let mut server = asked_tls_server(raw, &identity);
        let mut bytes = vec![0; 1024];
        let read = server.read(&mut bytes).unwrap_or(0);
        bytes.truncate(read);
        told.send(bytes).expect("the test listens");
    });
    let run = Run::upstream(fake.port());
    let daemon = settings.iter().fold(run, |run, (key, value)| run.set(key, value)).start();
    let mut raw = daemon.raw();
    raw.send_startup(&[("user", "app_user.acme"), ("database", TENANTS)]);
    let refusal = raw.read_refusal();
    let texts = [Some(refusal.message), refusal.detail, refusal.hint];
    let texts = texts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    assert!(!texts.contains("ertificate"), "the reason is the operator's: {texts}");
    // A refused connection lingers until its client has closed.
    drop(raw);
    daemon.wait_until_idle();
    (heard.recv().expect("it was asked"), refusal.sqlstate)
}

#[test]
fn an_upstream_hears_nothing_of_a_login_before_it_has_proved_who_it_is() {
    let (right, wrong, files) =
        (Authority::new("authority"), Authority::new("authority"), Files::new());
    let ca = files.put("ca.pem", &right.pem).display().to_string();
    let named = right.certify("postgresql", &["127.0.0.1"]);
    let misnamed = right.certify("postgresql", &["elsewhere.example", "127.0.0.2"]);
    let foreign = wrong.certify("postgresql", &["127.0.0.1"]);
    let levels = [
        ("prefer", None, [true, true, true]),
        ("require", None, [true, true, true]),
        ("require", Some(&ca), [true, true, false]),
        ("verify-ca", Some(&ca), [true, true, false]),
        ("verify-full", Some(&ca), [true, false, false]),
    ];
    for (level, ca, welcome) in levels {
        for (identity, is_welcome) in [&named, &misnamed, &foreign].into_iter().zip(welcome) {
            let mut settings = vec![("upstream_tls", level)];
            settings.extend(ca.map(|ca| ("upstream_tls_ca", ca.as_str())));
            let (heard, sqlstate) = heard_by(identity, &settings);
            if is_welcome {
                let text = String::from_utf8_lossy(&heard);
                assert!(text.contains("app.current_tenant_id\0acme"), "{level}: {text}");
                assert_eq!(sqlstate, "08006", "it ends there");
            } else {
                assert_eq!(heard, b"", "{level}");
                assert_eq!(sqlstate, "08001");
            }
        }
    }
}

/// With a certificate of his own, between Multigres and PostgreSQL, passing messages on.
#[test]
fn whoever_stands_in_between_with_another_certificate_fails_at_scram() {
    let stage = stage();
    let impostor = Authority::new("authority").certify("postgresql", &["127.0.0.1"]);
    let (port, authority) = (stage.cluster.port(), stage.authority.der.clone());
    let fake = FakeUpstream::serve(move |raw| {
        let mut multigres = asked_tls_server(raw, &impostor);
        let postgresql = Raw::tcp(([127, 0, 0, 1], port).into());
        let mut postgresql = asked_tls_client(postgresql, &authority, Offer::default());
        let mut startup = vec![0; 4096];
        let read = multigres.read(&mut startup).expect("a startup message");
        postgresql.write_all(&startup[..read]).expect("it is taken");
        // PostgreSQL asks and Multigres answers, until one of them has had enough.
        while let Ok(message) = Message::read(&mut postgresql) {
            let is_question = message.tag == b'R';
            if multigres.write_all(&message.to_bytes()).is_err() || !is_question {
                return;
            }
            let Ok(answer) = Message::read(&mut multigres) else { return };
            postgresql.write_all(&answer.to_bytes()).expect("it is taken");
        }
    });
    let daemon = stage
        .offering("own")
        .set("upstream_port", &fake.port().to_string())
        .set("upstream_tls", "require")
        .start();
    let mut client = asked_tls_client(daemon.raw(), &stage.authority.der, Offer::default());
    let startup = startup_message(&[("user", "scram_user.acme"), ("database", TENANTS)]);
    client.write_all(&startup).expect("it is taken");
    assert_eq!(Message::read(&mut client).expect("a question").body, 3i32.to_be_bytes());
    client.write_all(&Message::password(PASSWORD).to_bytes()).expect("it is taken");
    let refusal = Message::read(&mut client).expect("an answer").error_fields();
    assert_eq!(refusal.sqlstate, "28000");
    assert!(refusal.message.contains("channel binding"), "by PostgreSQL: {refusal:?}");
    daemon.wait_until_idle();
}

#[test]
fn a_server_without_tls_is_good_enough_only_where_tls_is_preferred() {
    let with = |level: &str| {
        let run = Run::on(cluster()).set("upstream_tls", level);
        run.start()
    };
    assert_eq!(contacts(&mut with("prefer").connect("scram_user.acme")), ACME);
    let daemon = with("require");
    let error = daemon.try_connect("scram_user.acme").err().expect("refused");
    assert_eq!(sqlstate(&error), "08001");
    daemon.wait_for_log("upstream does not support TLS");
    daemon.wait_until_idle();
}

#[test]
fn postgresql_takes_multigres_certificate_for_a_login() {
    let stage = stage();
    let identity = stage.authority.certify("cert_user", &[]);
    stage.files.put("cert_user.pem", &identity.chain);
    stage.files.put("cert_user.key", &identity.key);
    let run = || {
        Run::on(&stage.cluster)
            .set("upstream_tls", "verify-full")
            .set("upstream_tls_ca", &stage.file("ca.pem"))
    };
    let daemon = run()
        .set("upstream_tls_cert", &stage.file("cert_user.pem"))
        .set("upstream_tls_key", &stage.file("cert_user.key"))
        .start();
    let mut client = daemon.connect("cert_user.acme");
    assert_eq!(bound(&mut client), binding("acme", "cert_user"));
    daemon.wait_for_log("upstream_tls=TLSv1.3");
    let error = run().start().try_connect("cert_user.acme").err().expect("refused");
    assert_eq!(sqlstate(&error), "28000", "by PostgreSQL itself");
}

#[test]
fn what_stands_in_upstreams_place_is_not_heard() {
    let error = Message::error("FATAL", "53300", "call this number").to_bytes();
    let stuffed = [b"S", &Message::authentication_ok().to_bytes()[..]].concat();
    for (answer, expected) in [(error, "08001"), (stuffed, "08P01"), (b"X".to_vec(), "08001")] {
        let fake = FakeUpstream::serve(move |mut raw| {
            let mut request = [0; 8];
            raw.read_exact(&mut request).expect("a request");
            assert_eq!(request, SSL_REQUEST);
            raw.write_all(&answer).expect("it is read");
            swallow(&mut raw);
        });
        let daemon = Run::upstream(fake.port()).set("upstream_tls", "require").start();
        let mut raw = daemon.raw();
        raw.send_startup(&[("user", "app_user.acme")]);
        let refusal = raw.read_refusal();
        assert_eq!(refusal.sqlstate, expected);
        assert!(!refusal.message.contains("number"));
        daemon.wait_until_idle();
    }
}

#[test]
fn an_upstream_that_stalls_in_the_handshake_costs_no_more_than_the_login_timeout() {
    for answer in ["", "S"] {
        let fake = FakeUpstream::serve(move |mut raw| {
            let mut request = [0; 8];
            raw.read_exact(&mut request).expect("a request");
            raw.write_all(answer.as_bytes()).expect("it is read");
            swallow(&mut raw);
        });
        let run = Run::upstream(fake.port()).set("upstream_tls", "prefer");
        let daemon = run.set("login_timeout", "300ms").start();
        let mut raw = daemon.raw();
        raw.send_startup(&[("user", "app_user.acme")]);
        assert_eq!(raw.read_refusal().sqlstate, "57014");
        daemon.wait_until_idle();
    }
}

#[test]
fn direct_tls_to_upstream_needs_alpn() {
    let authority = Authority::new("authority");
    let identity = authority.certify("postgresql", &["127.0.0.1"]);
    const OFFERS: [(&[&[u8]], bool); 2] = [(&[b"postgresql"], true), (&[], false)];
    for (alpn, hears) in OFFERS {
        let (told, heard) = mpsc::channel();
        let identity = identity.clone();
        let fake = FakeUpstream::serve(move |raw| {
            let mut server = tls_server(raw, &identity, alpn);
            let mut bytes = vec![0; 1024];
            let read = server.read(&mut bytes).unwrap_or(0);
            told.send(read > 0).expect("the test listens");
        });
        let run = Run::upstream(fake.port()).set("upstream_tls", "require");
        let daemon = run.set("upstream_tls_negotiation", "direct").start();
        let mut raw = daemon.raw();
        raw.send_startup(&[("user", "app_user.acme")]);
        let expected = if hears { "08006" } else { "08001" };
        assert_eq!(raw.read_refusal().sqlstate, expected);
        assert_eq!(heard.recv(), Ok(hears));
        daemon.wait_until_idle();
    }
}

#[test]
fn the_key_of_a_cancel_request_is_never_sent_in_clear_where_tls_is_required() {
    let authority = Authority::new("authority");
    let identity = authority.certify("postgresql", &["127.0.0.1"]);
    let cancel = [&16u32.to_be_bytes()[..], &[4, 210, 22, 46, 0, 0, 0, 42], b"keys"].concat();
    let (told, heard) = mpsc::channel();
    let fake = FakeUpstream::serve(move |raw| {
        let mut server = asked_tls_server(raw, &identity);
        let mut bytes = vec![0; 16];
        server.read_exact(&mut bytes).expect("the request");
        told.send(bytes).expect("the test listens");
    });
    let daemon = Run::upstream(fake.port()).set("upstream_tls", "require").start();
    let mut raw = daemon.raw();
    raw.send(&cancel);
    assert_eq!(raw.read_to_close(), b"");
    assert_eq!(heard.recv(), Ok(cancel));
    daemon.wait_until_idle();
}

#[test]
fn a_backend_that_is_terminated_says_its_last_inside_tls() {
    let stage = stage();
    let daemon = Run::on(&stage.cluster).set("upstream_tls", "require").start();
    let (mut raw, pid) = session(&daemon);
    let mut client = stage.cluster.superuser(TENANTS);
    client.execute("select pg_terminate_backend($1)", &[&pid]).expect("a signal");
    let heard = raw.read_to_close();
    assert!(!heard.is_empty(), "PostgreSQL's own last word comes through");
    daemon.wait_for_log("ended_by=upstream reason=\"closed\"");
    daemon.wait_until_idle();
}

fn session(daemon: &Daemon) -> (Raw, i32) {
    let mut raw = daemon.raw();
    raw.send(&startup_message(&[("user", "app_user.acme"), ("database", TENANTS)]));
    raw.read_until(b"Z");
    let pid = raw.query_value("select pg_backend_pid()").parse().expect("a pid");
    (raw, pid)
}
