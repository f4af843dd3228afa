//! TLS on the client leg: who is let in with it and without, and what a hostile client makes of
//! it.

use std::io::{Read, Write};
use std::path::Path;

use postgres::config::{SslMode, SslNegotiation};
use postgres::{Client, Config, NoTls};

use testing::{
    ACME, Cluster, DEADLINE, Daemon, Files, Message, Offer, PASSWORD, Raw, SSL_REQUEST, TENANTS,
    TlsClient, asked_tls_client, cluster, contacts, sqlstate, startup_message, tls_client,
};

use crate::tls_matrix::stage;

/// A login at the daemon by name, so that its certificate is verified.
fn config(daemon: &Daemon, user: &str) -> Config {
    let mut config = Config::new();
    config.host("localhost").hostaddr([127, 0, 0, 1].into()).port(daemon.port());
    config.user(user).password(PASSWORD).dbname(TENANTS).connect_timeout(DEADLINE);
    config.ssl_mode(SslMode::Require);
    config
}

fn by_tls(daemon: &Daemon, user: &str) -> Client {
    config(daemon, user).connect(stage().authority.connector(None)).expect("a login")
}

/// The messages of a session without a password, inside TLS, up to ReadyForQuery or an error.
fn login(client: &mut TlsClient) -> Vec<Message> {
    let startup = startup_message(&[("user", "app_user.acme"), ("database", TENANTS)]);
    client.write_all(&startup).expect("it is taken");
    let mut messages = Vec::new();
    loop {
        let message = Message::read(client).expect("a message");
        let is_last = matches!(message.tag, b'Z' | b'E');
        messages.push(message);
        if is_last {
            return messages;
        }
    }
}

#[test]
fn where_tls_is_required_a_login_without_it_is_refused() {
    let stage = stage();
    let folder = Files::new();
    let hosts = format!("127.0.0.1,{}", folder.path().display());
    let daemon = stage.offering("own").set("tls", "require").set("listen_host", &hosts).start();
    for user in ["app_user.acme", "postgres"] {
        let error = daemon.try_connect(user).err().expect("refused");
        assert_eq!(sqlstate(&error), "28000");
    }
    let mut config = config(&daemon, "app_user.acme");
    let connector = stage.authority.connector(None);
    let mut client = config.ssl_mode(SslMode::Prefer).connect(connector).expect("a login");
    assert_eq!(contacts(&mut client), ACME);
    let token = client.cancel_token();
    token.cancel_query(NoTls).expect("a cancel holds nothing that TLS would hide from its sender");
    let socket = daemon.wait_for_log(&format!("listening on {}", folder.path().display()));
    let socket = socket.rsplit("listening on ").next().expect("a path");
    let mut raw = Raw::unix(Path::new(socket));
    raw.send(&SSL_REQUEST);
    let mut answer = [0];
    raw.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"N", "no TLS on a unix socket");
    raw.login("app_user.acme", TENANTS);
}

#[test]
fn without_a_certificate_tls_is_declined() {
    let daemon = Daemon::start();
    let error = config(&daemon, "app_user.acme").connect(stage().authority.connector(None));
    assert!(error.is_err(), "the client insists");
    let mut config = config(&daemon, "app_user.acme");
    config
        .ssl_mode(SslMode::Prefer)
        .connect(stage().authority.connector(None))
        .expect("it goes on");
}

#[test]
fn client_certificates_are_asked_for_and_verified() {
    let stage = stage();
    let good = stage.authority.certify("some_client", &[]);
    let foreign = testing::Authority::new("authority").certify("some_client", &[]);
    for (demand, without) in [("request", true), ("require", false)] {
        let daemon = stage
            .offering("own")
            .set("tls_client_ca", &stage.file("ca.pem"))
            .set("tls_client_cert", demand)
            .set("tls", "require")
            .start();
        for (identity, is_welcome) in
            [(None, without), (Some(&good), true), (Some(&foreign), false)]
        {
            let connector = stage.authority.connector(identity);
            let login = config(&daemon, "app_user.acme").connect(connector);
            assert_eq!(login.is_ok(), is_welcome, "{demand}: {:?}", login.err());
        }
        daemon.wait_until_idle();
        let lines = daemon.log();
        assert!(lines.iter().any(|line| line.contains(" refused ") && line.contains("TLS")));
    }
}

#[test]
fn a_cancel_request_goes_through_tls_on_both_legs() {
    let stage = stage();
    let daemon = stage.offering("own").set("upstream_tls", "require").start();
    let mut client = by_tls(&daemon, "app_user.acme");
    let token = client.cancel_token();
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
    let sleeper = std::thread::spawn(move || client.batch_execute("select pg_sleep(60)"));
    stage.cluster.wait_until(&format!(
        "select exists (select from pg_stat_activity where pid = {pid} and state = 'active')"
    ));
    token.cancel_query(stage.authority.connector(None)).expect("a cancel");
    let error = sleeper.join().unwrap().expect_err("cancelled");
    assert_eq!(sqlstate(&error), "57014");
    daemon.wait_until_idle();
}

#[test]
fn tls_from_the_first_byte_needs_alpn() {
    let stage = stage();
    let daemon = stage.offering("own").start();
    let offer = Offer { alpn: &[], ..Offer::default() };
    let mut client = tls_client(daemon.raw(), &stage.authority.der, offer);
    let last = login(&mut client).pop().expect("a message");
    assert_eq!(last.error_fields().sqlstate, "08P01");
    let mut client = tls_client(daemon.raw(), &stage.authority.der, Offer::default());
    assert_eq!(login(&mut client).pop().expect("a message").tag, b'Z');
    let mut client = asked_tls_client(daemon.raw(), &stage.authority.der, offer);
    assert_eq!(login(&mut client).pop().expect("a message").tag, b'Z', "which asked first");
    for asks in [true, false] {
        let offer = Offer { alpn: &[b"http/1.1"], ..Offer::default() };
        let mut client = match asks {
            true => asked_tls_client(daemon.raw(), &stage.authority.der, offer),
            false => tls_client(daemon.raw(), &stage.authority.der, offer),
        };
        client.write_all(b"\0").expect_err("the handshake fails");
    }
}

#[test]
fn the_postgres_crate_starts_with_tls_where_it_is_told_to() {
    let stage = stage();
    let daemon = stage.offering("own").set("tls", "require").start();
    let mut config = config(&daemon, "app_user.acme");
    config.ssl_negotiation(SslNegotiation::Direct);
    let mut client = config.connect(stage.authority.connector(None)).expect("a login");
    assert_eq!(contacts(&mut client), ACME);
}

#[test]
fn tls_1_2_and_1_3_are_spoken_and_told_in_the_log() {
    let stage = stage();
    let daemon = stage.offering("own").start();
    const BOTH: [(&[&rustls::SupportedProtocolVersion], &str); 2] =
        [(&[&rustls::version::TLS12], "TLSv1.2"), (&[&rustls::version::TLS13], "TLSv1.3")];
    for (versions, name) in BOTH {
        let offer = Offer { versions, ..Offer::default() };
        let mut client = asked_tls_client(daemon.raw(), &stage.authority.der, offer);
        assert_eq!(login(&mut client).pop().expect("a message").tag, b'Z');
        daemon.wait_for_log(&format!("client_tls={name}"));
    }
}

#[test]
fn bytes_stuffed_behind_an_ssl_request_are_refused() {
    let daemon = stage().offering("own").start();
    let startup = startup_message(&[("user", "app_user.globex"), ("database", TENANTS)]);
    let mut raw = daemon.raw();
    raw.send(&[&SSL_REQUEST[..], &startup].concat());
    assert_eq!(raw.read_refusal().sqlstate, "08P01");
    daemon.wait_until_idle();
}

#[test]
fn bytes_stuffed_into_the_handshake_are_no_tls() {
    let daemon = stage().offering("own").start();
    let startup = startup_message(&[("user", "app_user.globex"), ("database", TENANTS)]);
    for stuffed in [&startup[..], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xff, 0xff]] {
        let mut raw = daemon.raw();
        raw.send(&SSL_REQUEST);
        let mut answer = [0];
        raw.read_exact(&mut answer).expect("an answer");
        raw.send(stuffed);
        let heard = raw.read_to_close();
        assert!(heard.starts_with(&[0x15]), "an alert and nothing else: {heard:?}");
    }
    daemon.wait_until_idle();
}

#[test]
fn a_client_that_stalls_in_the_handshake_is_closed_in_time() {
    let daemon = stage().offering("own").set("login_timeout", "300ms").start();
    for first in [&SSL_REQUEST[..], &[0x16], &[0x16, 3, 1, 0, 200, 1]] {
        let mut raw = daemon.raw();
        raw.send(first);
        let heard = raw.read_to_close();
        let behind = heard.strip_prefix(b"S").unwrap_or(&heard);
        assert!(behind.is_empty() || behind[0] == 0x15, "at most an alert: {heard:?}");
    }
    daemon.wait_until_idle();
}

#[test]
fn a_truncated_stream_is_an_error_in_the_log_and_a_closed_one_is_not() {
    let stage = stage();
    let daemon = stage.offering("own").start();
    let mut client = asked_tls_client(daemon.raw(), &stage.authority.der, Offer::default());
    login(&mut client);
    client.conn.send_close_notify();
    client.flush().expect("it is sent");
    daemon.wait_for_log("ended_by=client reason=\"closed\"");
    let mut client = asked_tls_client(daemon.raw(), &stage.authority.der, Offer::default());
    login(&mut client);
    client.sock.shutdown_write();
    let line = daemon
        .wait_for_log("ended_by=client reason=\"TLS: the stream ended without close_notify\"");
    assert!(line.contains(" end "), "{line}");
    daemon.wait_until_idle();
}

#[test]
fn what_goes_through_both_legs_comes_out_unaltered() {
    let stage = stage();
    let daemon = stage.offering("own").set("upstream_tls", "verify-full");
    let daemon = daemon.set("upstream_tls_ca", &stage.file("ca.pem")).start();
    let mut client = by_tls(&daemon, "app_user.acme");
    client.batch_execute("create temp table bulk (body text)").unwrap();
    let mut lines = String::new();
    for number in 0..200_000 {
        lines.push_str(&format!("{number} {}\n", "x".repeat(number % 97)));
    }
    let mut writer = client.copy_in("copy bulk from stdin").unwrap();
    for piece in lines.as_bytes().chunks(7_919) {
        writer.write_all(piece).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), 200_000);
    // A table has no order of its own, not even that of its filling.
    let ordered = "copy (select body from bulk order by split_part(body, ' ', 1)::int) to stdout";
    let mut back = String::new();
    client.copy_out(ordered).unwrap().read_to_string(&mut back).unwrap();
    assert!(back == lines, "{} bytes became {}", lines.len(), back.len());
    drop(client);
    daemon.wait_until_idle();
}

#[test]
fn a_cluster_without_tls_is_served_over_tls_all_the_same() {
    let upstream: &Cluster = cluster();
    let daemon = stage()
        .offering("own")
        .set("upstream_port", &upstream.port().to_string())
        .set("upstream_tls", "prefer")
        .start();
    assert_eq!(contacts(&mut by_tls(&daemon, "scram_user.acme")), ACME);
}
