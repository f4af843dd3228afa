//! Upstreams that do not know the password, where Multigres itself proves that the client does.

use std::io::Write;
use std::sync::mpsc;
use std::time::Instant;

use crate::packets::{contains, messages, read_all};
use testing::{
    DEADLINE, Daemon, FakeUpstream, Message, PASSWORD, Raw, Run, TENANTS, cluster, swallow,
};

use crate::after_attack::assert_serves;

const SASL: i32 = 10;
const CONTINUE: i32 = 11;
const FINAL: i32 = 12;

fn authentication(code: i32, data: &[u8]) -> Message {
    Message::new(b'R', [code.to_be_bytes().as_slice(), data].concat())
}

/// Plays upstream up to the client's first message; answers with its nonce.
fn start_exchange(raw: &mut Raw) -> String {
    raw.read_startup();
    raw.send_message(&authentication(SASL, b"SCRAM-SHA-256\0\0"));
    let Ok(first) = raw.try_read_message() else { return String::new() };
    let text = String::from_utf8_lossy(&first.body).into_owned();
    let (_, nonce) = text.rsplit_once("r=").expect("a nonce");
    nonce.to_owned()
}

/// What a client is told whose upstream says this behind the first message.
fn refusal(script: impl Fn(&mut Raw, &str) + Send + Sync + 'static) -> (Vec<Message>, Daemon) {
    let fake = FakeUpstream::serve(move |mut raw| {
        let nonce = start_exchange(&mut raw);
        script(&mut raw, &nonce);
        swallow(&mut raw);
    });
    let run = Run::upstream(fake.port()).set("auth", "password").set("login_timeout", "2s");
    let daemon = run.start();
    let mut raw = daemon.raw();
    raw.send_startup(&[("user", "scram_user.acme"), ("database", TENANTS)]);
    assert_eq!(raw.read_message().body, 3i32.to_be_bytes(), "it is asked for its password");
    raw.send_message(&Message::password(PASSWORD));
    let said = messages(&read_all(&mut raw));
    drop(raw);
    daemon.wait_until_idle();
    (said, daemon)
}

fn assert_refused(
    what: &str,
    states: &[&str],
    script: impl Fn(&mut Raw, &str) + Send + Sync + 'static,
) {
    let (said, daemon) = refusal(script);
    assert_eq!(said.iter().map(|message| message.tag).collect::<Vec<_>>(), b"E", "{what}");
    let fields = said[0].error_fields();
    assert!(states.contains(&fields.sqlstate.as_str()), "{what}: {fields:?}");
    for line in daemon.log() {
        assert!(!line.contains(PASSWORD), "{line}");
    }
}

#[test]
fn no_two_sessions_have_the_same_nonce() {
    let (sender, nonces) = mpsc::channel();
    let fake = FakeUpstream::serve(move |mut raw| {
        sender.send(start_exchange(&mut raw)).expect("the test waits");
    });
    let daemon = Run::upstream(fake.port()).set("auth", "password").start();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut raw = daemon.raw();
        raw.send_startup(&[("user", "scram_user.acme"), ("database", TENANTS)]);
        assert_eq!(raw.read_message().body, 3i32.to_be_bytes(), "it is asked for its password");
        raw.send_message(&Message::password(PASSWORD));
        let nonce = nonces.recv_timeout(DEADLINE).expect("a nonce");
        assert!(nonce.len() == 24 && !seen.contains(&nonce), "{nonce} behind {seen:?}");
        seen.push(nonce);
    }
}

#[test]
fn a_server_first_message_that_is_none_is_refused() {
    for (what, text) in [
        ("a nonce that does not extend", "r=other,s=c2FsdA==,i=4096"),
        ("no nonce", "s=c2FsdA==,i=4096"),
        ("nothing", ""),
        ("no salt", "r={nonce}x,i=4096"),
        ("a salt that is not base64", "r={nonce}x,s=!!!,i=4096"),
        ("no count", "r={nonce}x,s=c2FsdA==,i="),
        ("a negative count", "r={nonce}x,s=c2FsdA==,i=-1"),
        ("a count above all numbers", "r={nonce}x,s=c2FsdA==,i=99999999999999999999"),
        ("an extension that must be known", "m=x,r={nonce}x,s=c2FsdA==,i=4096"),
        ("something behind it", "r={nonce}x,s=c2FsdA==,i=4096,canary"),
        ("bytes that are no text", "\u{fffd}\u{0}"),
    ] {
        assert_refused(what, &["28000", "08P01"], move |raw, nonce| {
            let text = text.replace("{nonce}", nonce);
            let _ = raw.write_all(&authentication(CONTINUE, text.as_bytes()).to_bytes());
        });
    }
}

#[test]
fn a_count_of_iterations_that_would_take_for_ever_does_not_stop_the_daemon() {
    for count in ["4294967295", "2147483648", "2147483647", "10000000"] {
        let started = Instant::now();
        assert_refused(count, &["28000", "08P01"], move |raw, nonce| {
            let text = format!("r={nonce}x,s=c2FsdA==,i={count}");
            let _ = raw.write_all(&authentication(CONTINUE, text.as_bytes()).to_bytes());
        });
        assert!(started.elapsed().as_secs() < 5, "{count} iterations were made");
    }
}

#[test]
fn an_upstream_that_cannot_prove_itself_is_refused() {
    let continued = |raw: &mut Raw, nonce: &str| {
        let text = format!("r={nonce}x,s=c2FsdA==,i=4096");
        raw.send_message(&authentication(CONTINUE, text.as_bytes()));
        let _ = raw.try_read_message();
    };
    for (what, text) in [
        ("a wrong signature", "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ("a short signature", "v=AAAA"),
        ("an empty signature", "v="),
        ("an error", "e=other-error"),
        ("nothing", ""),
    ] {
        assert_refused(what, &["28000", "08P01"], move |raw, nonce| {
            continued(raw, nonce);
            let _ = raw.write_all(&authentication(FINAL, text.as_bytes()).to_bytes());
            let _ = raw.write_all(&Message::authentication_ok().to_bytes());
        });
    }
    assert_refused("AuthenticationOk before SASLFinal", &["28000", "08P01"], move |raw, nonce| {
        continued(raw, nonce);
        let _ = raw.write_all(&Message::authentication_ok().to_bytes());
    });
}

#[test]
fn steps_out_of_turn_are_refused() {
    let server_first = |nonce: &str| {
        authentication(CONTINUE, format!("r={nonce}x,s=c2FsdA==,i=4096").as_bytes()).to_bytes()
    };
    let states = &["28000", "08P01"];
    assert_refused("AuthenticationOk at once", states, |raw, _| {
        let _ = raw.write_all(&Message::authentication_ok().to_bytes());
    });
    assert_refused("SASLFinal at once", states, |raw, _| {
        let _ = raw.write_all(&authentication(FINAL, b"v=AAAA").to_bytes());
    });
    assert_refused("SASLContinue twice", states, move |raw, nonce| {
        let _ = raw.write_all(&server_first(nonce).repeat(2));
    });
    assert_refused("SASL again", states, |raw, _| {
        let _ = raw.write_all(&authentication(SASL, b"SCRAM-SHA-256\0\0").to_bytes());
    });
    assert_refused("a cleartext request behind SASL", states, |raw, _| {
        let _ = raw.write_all(&authentication(3, b"").to_bytes());
    });
    assert_refused("an MD5 request behind SASL", states, |raw, _| {
        let _ = raw.write_all(&authentication(5, b"salt").to_bytes());
    });
}

#[test]
fn mechanisms_that_nobody_can_do_are_refused_before_the_password_is_asked_for() {
    for mechanisms in [
        b"\0".as_slice(),
        b"PLAIN\0\0",
        b"SCRAM-SHA-256-PLUS\0\0",
        b"SCRAM-SHA-25\0\0",
        b"",
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-256\0\0more",
    ] {
        let fake = FakeUpstream::serve(move |mut raw| {
            raw.read_startup();
            let _ = raw.write_all(&authentication(SASL, mechanisms).to_bytes());
            swallow(&mut raw);
        });
        let daemon = Run::upstream(fake.port()).set("auth", "password").start();
        let mut raw = daemon.raw();
        raw.send_startup(&[("user", "scram_user.acme"), ("database", TENANTS)]);
        crate::after_attack::refused(&mut raw, &["28000", "08P01"]);
        drop(raw);
        daemon.wait_until_idle();
    }
}

#[test]
fn an_upstream_that_lets_anyone_in_still_has_to_bind_the_context() {
    // It says what it likes behind AuthenticationOk; the rows of another tenant among it.
    let fake = FakeUpstream::serve(|mut raw| {
        raw.read_startup();
        let session = [
            Message::authentication_ok(),
            Message::parameter_status("is_superuser", "off"),
            Message::backend_key_data(7, *b"keys"),
            Message::ready_for_query(),
            Message::new(b'D', b"\0\x01\0\0\0\x06canary".as_slice()),
            Message::new(b'C', b"SELECT 1\0".as_slice()),
            Message::ready_for_query(),
        ];
        for message in session {
            let _ = raw.write_all(&message.to_bytes());
        }
        swallow(&mut raw);
    });
    for auth in ["auto", "relay", "password"] {
        let daemon = Run::upstream(fake.port()).set("auth", auth).start();
        let mut raw = daemon.raw();
        raw.send_startup(&[("user", "app_user.acme"), ("database", TENANTS)]);
        let bytes = read_all(&mut raw);
        assert!(!contains(&bytes, "canary"));
        let said = messages(&bytes);
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(said[0].error_fields().sqlstate, "08004");
        drop(raw);
        daemon.wait_until_idle();
    }
}

#[test]
fn after_all_that_a_real_scram_login_succeeds() {
    for auth in ["auto", "password"] {
        let daemon = Run::on(cluster()).set("auth", auth).start();
        let mut client = daemon.connect("scram_user.acme");
        assert_eq!(testing::contacts(&mut client), testing::ACME);
        drop(client);
        assert_serves(&daemon);
    }
}
