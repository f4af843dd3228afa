//! Upstreams that lie, stall or break in the middle of a login: no client gets a session through
//! them, and none hears anything of what they said.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::after_attack::assert_serves;
use crate::packets::{contains, lying, messages, read_all};
use testing::{Daemon, ErrorFields, FakeUpstream, Message, Raw, Run, TENANTS, swallow};

use crate::man_in_the_middle::{Change, Middle, attack};

/// What nobody may hear.
const CANARY: &str = "canary";

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
    assert!(!contains(&bytes, CANARY), "{what}: the client has heard it");
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

fn canary(tag: u8) -> Vec<u8> {
    Message::new(tag, format!("{CANARY}\0{CANARY}\0")).to_bytes()
}

#[test]
fn an_end_before_any_message_is_refused() {
    at_every_message(&["08006"], |_| Change::Close(vec![]));
}

#[test]
fn an_end_amid_any_message_is_refused() {
    at_every_message(&["08006"], |message| Change::Close(half(message)));
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
fn a_length_below_four_in_any_message_is_refused() {
    at_every_message(&["08P01"], |message| Change::Hush(lying(message.tag, 3, CANARY.as_bytes())));
    at_every_message(&["08P01"], |message| Change::Hush(lying(message.tag, 0, CANARY.as_bytes())));
}

#[test]
fn a_length_beyond_all_measure_in_any_message_is_refused_at_once() {
    at_every_message(&["08P01"], |message| {
        Change::Hush(lying(message.tag, i32::MAX as u32, CANARY.as_bytes()))
    });
    at_every_message(&["08P01"], |message| {
        Change::Hush(lying(message.tag, u32::MAX, CANARY.as_bytes()))
    });
}

#[test]
fn a_message_of_no_known_type_in_any_place_is_refused() {
    at_every_message(&["08P01", "08004"], |message| {
        Change::Say([canary(b'~'), message.to_bytes()].concat())
    });
    at_every_message(&["08P01", "08004"], |message| {
        Change::Say([canary(0), message.to_bytes()].concat())
    });
}

#[test]
fn copy_and_rows_that_nobody_asked_for_are_refused_in_any_place() {
    for tag in [b'G', b'H', b'W', b'd', b'T', b'A', b'V', b'n', b's', b'I', b't', b'c'] {
        let middle = Middle::start(move |place, message| {
            let early = place.index == place.attack;
            let bytes = [canary(tag), message.to_bytes()].concat();
            if early { Change::Say(bytes) } else { Change::Pass }
        });
        let daemon = Run::upstream(middle.port()).start();
        for at in [0, 1, 5, 16, 17, 20, 25] {
            let what = format!("{:?} before message {at}", char::from(tag));
            refused(&mut login(&daemon, at), &["08P01", "08004"], &what);
        }
        assert_serves(&daemon);
    }
}

#[test]
fn any_message_of_the_batch_left_out_or_said_twice_is_refused() {
    let tags = honest_login();
    let batch = tags.iter().position(|tag| *tag == b'Z').expect("ReadyForQuery") + 1;
    let middle = Middle::start(|place, message| match (place.attack / 2, place.attack % 2) {
        (at, 0) if at == place.index => Change::Say(vec![]),
        (at, 1) if at == place.index => {
            Change::Say([message.to_bytes(), message.to_bytes()].concat())
        }
        _ => Change::Pass,
    });
    let daemon = Run::upstream(middle.port()).set("login_timeout", "3s").start();
    // The last one is ReadyForQuery: left out, it is waited for; said twice, the pipe is open.
    for (at, tag) in tags.iter().enumerate().take(tags.len() - 1).skip(batch) {
        for way in 0..2 {
            let what = format!("message {at}, {:?}, way {way}", char::from(*tag));
            refused(&mut login(&daemon, 2 * at + way), &["08P01", "08004"], &what);
        }
    }
    assert_serves(&daemon);
}

#[test]
fn an_error_at_any_message_of_the_batch_is_refused_in_the_daemons_own_words() {
    let tags = honest_login();
    let batch = tags.iter().position(|tag| *tag == b'Z').expect("ReadyForQuery") + 1;
    let middle = Middle::start(|place, _| {
        if place.index == place.attack {
            Change::Say(Message::error("ERROR", "42501", CANARY).to_bytes())
        } else {
            Change::Pass
        }
    });
    let daemon = Run::upstream(middle.port()).start();
    for at in batch..tags.len() {
        refused(&mut login(&daemon, at), &["08004"], &format!("message {at}"));
    }
    assert_serves(&daemon);
}

#[test]
fn an_error_before_the_batch_is_upstreams_own_word_and_the_last() {
    let tags = honest_login();
    let batch = tags.iter().position(|tag| *tag == b'Z').expect("ReadyForQuery");
    let middle = Middle::start(|place, message| {
        let error = Message::error("FATAL", "42704", "as it was said").to_bytes();
        if place.index == place.attack {
            Change::Say([error, message.to_bytes(), canary(b'N')].concat())
        } else {
            Change::Pass
        }
    });
    let daemon = Run::upstream(middle.port()).start();
    for at in 0..=batch {
        let fields = refused(&mut login(&daemon, at), &["42704"], &format!("message {at}"));
        assert_eq!(fields.message, "as it was said");
    }
    assert_serves(&daemon);
}

#[test]
fn what_an_upstream_says_before_a_refusal_is_heard_by_nobody() {
    let notice = format!("SNOTICE\0VNOTICE\0C00000\0M{CANARY}\0\0");
    let notice = Message::new(b'N', notice).to_bytes();
    let status = Message::parameter_status(CANARY, CANARY).to_bytes();
    let middle = Middle::start(move |place, message| {
        let asides = [notice.clone(), status.clone(), message.to_bytes()].concat();
        match message.tag {
            b'K' => Change::Say(Message::backend_key_data(1, *b"cana").to_bytes()),
            b'R' => Change::Pass,
            _ if place.readies < 2 => Change::Say(asides),
            _ => Change::Pass,
        }
    });
    let daemon = Run::upstream(middle.port()).start();
    refused(&mut login(&daemon, 0), &["08004"], "another pid");
    assert_serves(&daemon);
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
fn a_notice_amid_the_batch_is_heard_behind_the_binding() {
    let notice = Message::new(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mhello\0\0".as_slice()).to_bytes();
    let middle = Middle::start(move |place, message| {
        if place.readies == 1 {
            Change::Say([notice.clone(), message.to_bytes()].concat())
        } else {
            Change::Pass
        }
    });
    let daemon = Run::upstream(middle.port()).start();
    let mut raw = login(&daemon, 0);
    let greeting = raw.read_until(b"Z");
    assert_eq!(greeting.iter().filter(|message| message.tag == b'N').count(), 14);
    assert_eq!(greeting.iter().filter(|message| b"12CD3".contains(&message.tag)).count(), 0);
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
        if answer != b"E\0\0\0\x04" {
            let state = said[0].error_fields().sqlstate;
            assert!(["08006", "08P01"].contains(&state.as_str()), "{answer:?} {state}");
        }
    }
    daemon.wait_until_idle();
}
