//! Upstreams that stall, break off or never end in the middle of a login: no client gets a session
//! through them. Wrong answers are told to the session alone, in `tests/session/wrong_answers.rs`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::after_attack::assert_serves;
use crate::packets::{contains, messages, read_all};
use testing::{Daemon, ErrorFields, FakeUpstream, Message, Raw, Run, TENANTS, swallow};

use crate::man_in_the_middle::{Change, Middle, attack};

/// Logs in with a query right behind, under this attack.
pub(crate) fn login(daemon: &Daemon, number: usize) -> Raw {
    let mut raw = daemon.raw();
    raw.send_startup(&[
        ("user", "app_user.acme"),
        ("database", TENANTS),
        ("application_name", &attack(number)),
    ]);
    let _ = std::io::Write::write_all(&mut raw, &Message::query("select 'reached'").to_bytes());
    raw
}

/// Reads one refusal in which nothing of upstream's stands.
pub(crate) fn refused(raw: &mut Raw, sqlstates: &[&str], what: &str) -> ErrorFields {
    let bytes = raw.read_to_close();
    let said = messages(&bytes);
    let tags: Vec<char> = said.iter().map(|message| message.tag.into()).collect();
    assert_eq!(tags, ['E'], "{what}");
    let fields = said[0].error_fields();
    assert_eq!(fields.severity, "FATAL", "{what}");
    assert!(sqlstates.contains(&fields.sqlstate.as_str()), "{what}: {fields:?}");
    fields
}

/// The tags of an honest login's messages, up to the ReadyForQuery that lets the client in.
fn honest_login() -> Vec<u8> {
    let tags: Arc<Mutex<Vec<(usize, u8)>>> = Arc::default();
    let notes = Arc::clone(&tags);
    let middle = Middle::start(move |place, message| {
        notes.lock().unwrap().push((place.readies, message.tag));
        Change::Pass
    });
    let daemon = Run::upstream(middle.port()).start();
    let mut raw = login(&daemon, 0);
    raw.read_until(b"Z");
    raw.read_until(b"Z");
    let tags = tags.lock().unwrap();
    tags.iter().filter(|(readies, _)| *readies < 2).map(|(_, tag)| *tag).collect()
}

/// Tries the change at every message of an honest login, each time with a login of its own.
fn at_every_message(sqlstates: &[&str], change: fn(&Message) -> Change) {
    let tags = honest_login();
    let middle =
        Middle::start(
            move |place, message| {
                if place.index == place.attack { change(message) } else { Change::Pass }
            },
        );
    let daemon = Run::upstream(middle.port()).set("login_timeout", "3s").start();
    let mut clients: Vec<Raw> = (0..tags.len()).map(|at| login(&daemon, at)).collect();
    for (at, raw) in clients.iter_mut().enumerate() {
        let what = format!("message {at}, {:?}", char::from(tags[at]));
        refused(raw, sqlstates, &what);
    }
    drop(clients);
    for heard in middle.said() {
        assert!(!contains(&heard, "select 'reached'"));
    }
    assert_serves(&daemon);
}

fn half(message: &Message) -> Vec<u8> {
    let bytes = message.to_bytes();
    bytes[..bytes.len() / 2].to_vec()
}

#[test]
fn a_reset_at_any_message_is_refused() {
    at_every_message(&["08006"], |message| Change::Reset(half(message)));
}

#[test]
fn silence_from_any_message_on_is_refused_when_the_time_is_up() {
    at_every_message(&["57014"], |_| Change::Hush(vec![]));
}

#[test]
fn an_upstream_that_never_stops_talking_before_it_is_ready_is_refused() {
    let status = Message::parameter_status("filler", &"x".repeat(60_000)).to_bytes();
    let middle = Middle::start(move |_, message| match message.tag {
        b'Z' => Change::Hush(status.repeat(200)),
        _ => Change::Pass,
    });
    let daemon = Run::upstream(middle.port()).start();
    let before = daemon.resident_bytes();
    refused(&mut login(&daemon, 0), &["08P01"], "12 MB of ParameterStatus");
    assert!(daemon.resident_bytes() < before + (4 << 20));
    assert_serves(&daemon);
}

#[test]
fn an_upstream_that_never_stops_talking_before_it_has_authenticated_costs_no_memory() {
    let notice = Message::new(b'N', format!("SNOTICE\0C00000\0M{}\0\0", "x".repeat(60_000)));
    let notice = notice.to_bytes();
    let fake = FakeUpstream::serve(move |mut raw| {
        raw.read_startup();
        while std::io::Write::write_all(&mut raw, &notice).is_ok() {}
    });
    let daemon = Run::upstream(fake.port()).set("login_timeout", "700ms").start();
    let before = daemon.resident_bytes();
    // It does not read.
    let raw = login(&daemon, 0);
    daemon.wait_for_log("57014");
    assert!(daemon.resident_bytes() < before + (4 << 20), "{}", daemon.resident_bytes());
    drop(raw);
    daemon.wait_until_idle();
}

#[test]
fn a_login_that_upstream_spells_byte_by_byte_is_the_same_login() {
    let middle = Middle::start(|_, message| Change::Spell(message.to_bytes()));
    let daemon = Run::upstream(middle.port()).start();
    let mut raw = login(&daemon, 0);
    let greeting = raw.read_until(b"ZE");
    assert_eq!(greeting.last().unwrap().tag, b'Z');
    raw.read_until(b"Z");
    assert_eq!(raw.query_value("select string_agg(name, ' ') from contacts"), "Ada Alan");
    drop(raw);
    assert_serves(&daemon);
}

#[test]
fn an_upstream_that_speaks_first_or_in_another_protocol_is_refused() {
    let answers: [&[u8]; 8] = [
        b"N",
        b"S",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x15\x03\x03\0\x02\x02\x28",
        b"Ecould not fork new process for connection: Cannot allocate memory\n\0",
        b"\0\0\0\0\0\0\0\0\0\0",
        b"Z\0\0\0\x05I",
        b"E\0\0\0\x04",
    ];
    let served = AtomicUsize::new(0);
    let fake = FakeUpstream::serve(move |mut raw| {
        let answer = answers[served.fetch_add(1, Ordering::SeqCst) % answers.len()];
        let _ = std::io::Write::write_all(&mut raw, answer);
        raw.shutdown_write();
        swallow(&mut raw);
    });
    let daemon = Run::upstream(fake.port()).start();
    for answer in answers {
        let mut raw = login(&daemon, 0);
        let said = messages(&read_all(&mut raw));
        assert_eq!(said.iter().map(|message| message.tag).collect::<Vec<_>>(), b"E", "{answer:?}");
        let state = said[0].error_fields().sqlstate;
        assert!(["08006", "08P01"].contains(&state.as_str()), "{answer:?} {state}");
    }
    daemon.wait_until_idle();
}
