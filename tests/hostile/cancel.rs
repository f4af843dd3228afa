//! CancelRequests: the right key reaches its query and no other does anything, whoever sends it.

use crate::after_attack::{Unreached, assert_serves};
use crate::packets::{CANCEL_REQUEST, packet, read_all};
use testing::{Daemon, Message, Raw, Run, TENANTS, cluster};

use crate::man_in_the_middle::{Middle, reset};

/// A session with a query that only a cancel ends.
struct Sleeper {
    raw: Raw,
    /// The body of its BackendKeyData.
    key: Vec<u8>,
}

impl Sleeper {
    fn start(daemon: &Daemon) -> Sleeper {
        let mut raw = daemon.raw();
        let greeting = raw.login("app_user.acme", TENANTS);
        let key = greeting.iter().find(|message| message.tag == b'K').expect("a key").body.clone();
        raw.send_message(&Message::query("select pg_sleep(600)"));
        let pid = i32::from_be_bytes(key[..4].try_into().unwrap());
        cluster().wait_until(&format!(
            "select exists (select from pg_stat_activity
                 where pid = {pid} and wait_event = 'PgSleep')"
        ));
        Sleeper { raw, key }
    }

    fn assert_cancelled(mut self) {
        let said = self.raw.read_until(b"Z");
        let error = said.iter().find(|message| message.tag == b'E').expect("it was cancelled");
        assert_eq!(error.error_fields().sqlstate, "57014");
    }

    fn assert_asleep(&self) {
        let pid = i32::from_be_bytes(self.key[..4].try_into().unwrap());
        cluster().wait_until(&format!(
            "select wait_event = 'PgSleep' from pg_stat_activity where pid = {pid}"
        ));
    }

    fn cancel(&self, daemon: &Daemon) -> Raw {
        let mut raw = daemon.raw();
        raw.send(&packet(CANCEL_REQUEST, &self.key));
        raw
    }
}

#[test]
fn the_right_key_cancels_and_the_client_is_told_nothing_but_the_end() {
    let middle = Middle::listening();
    let daemon = Run::upstream(middle.port()).start();
    let sleeper = Sleeper::start(&daemon);
    let request = packet(CANCEL_REQUEST, &sleeper.key);
    let mut raw = daemon.raw();
    raw.send(&request);
    assert_eq!(read_all(&mut raw), b"");
    sleeper.assert_cancelled();
    assert_eq!(middle.said()[1], request, "not byte for byte");
    drop(raw);
    assert_serves(&daemon);
}

#[test]
fn a_wrong_key_cancels_nothing() {
    let daemon = Daemon::start();
    let sleeper = Sleeper::start(&daemon);
    for at in 0..8 {
        let mut key = sleeper.key.clone();
        key[at] ^= 1;
        let mut raw = daemon.raw();
        raw.send(&packet(CANCEL_REQUEST, &key));
        assert_eq!(read_all(&mut raw), b"");
    }
    for key in [vec![], vec![0; 200]] {
        let mut raw = daemon.raw();
        raw.send(&packet(CANCEL_REQUEST, &[&sleeper.key[..4], &[1, 2, 3, 4], &key].concat()));
        assert_eq!(read_all(&mut raw), b"");
    }
    sleeper.assert_asleep();
    sleeper.cancel(&daemon);
    sleeper.assert_cancelled();
    assert_serves(&daemon);
}

#[test]
fn a_client_that_closes_behind_its_cancel_request_has_cancelled() {
    let daemon = Daemon::start();
    for how in ["close", "shutdown", "reset soon"] {
        let sleeper = Sleeper::start(&daemon);
        let mut raw = sleeper.cancel(&daemon);
        match how {
            "close" => drop(raw),
            "shutdown" => raw.shutdown_write(),
            _ => {
                daemon.wait_for_status(|status| status.connections <= 2);
                reset(&raw);
                drop(raw);
            }
        }
        sleeper.assert_cancelled();
    }
    assert_serves(&daemon);
}

#[test]
fn a_cancel_request_in_pieces_behind_encryption_requests_cancels() {
    let daemon = Daemon::start();
    let sleeper = Sleeper::start(&daemon);
    let mut raw = daemon.raw();
    let bytes = [
        packet(crate::packets::SSL_REQUEST, b""),
        packet(crate::packets::GSSENC_REQUEST, b""),
        packet(CANCEL_REQUEST, &sleeper.key),
    ]
    .concat();
    for byte in bytes {
        raw.send(&[byte]);
    }
    assert_eq!(read_all(&mut raw), b"NN");
    sleeper.assert_cancelled();
    drop(raw);
    assert_serves(&daemon);
}

#[test]
fn a_cancel_request_of_an_impossible_length_reaches_nobody() {
    let unreached = Unreached::start();
    for key_bytes in [0, 1, 3, 257, 300, 9_980] {
        unreached.closes(&packet(CANCEL_REQUEST, &vec![7; 4 + key_bytes]), "cancel key");
    }
    for body in [b"".as_slice(), b"\0", b"\0\0\0"] {
        unreached.closes(&packet(CANCEL_REQUEST, body), "cancel key");
    }
    unreached.assert_untouched();
}

#[test]
fn a_cancel_request_goes_upstream_byte_for_byte_and_nothing_behind_it_does() {
    let middle = Middle::listening();
    let daemon = Run::upstream(middle.port()).start();
    for (at, key_bytes) in [4, 32, 256].into_iter().enumerate() {
        let request = packet(CANCEL_REQUEST, &vec![7; 4 + key_bytes]);
        let mut raw = daemon.raw();
        raw.send(&[request.as_slice(), b"and something behind it"].concat());
        assert_eq!(read_all(&mut raw), b"");
        assert_eq!(middle.said()[at], request);
    }
    assert_serves(&daemon);
}

#[test]
fn a_cancel_gets_through_when_all_connections_are_taken() {
    let daemon = Daemon::with(&[("max_connections", "2")]);
    let sleeper = Sleeper::start(&daemon);
    let _other = daemon.connect("app_user.globex");
    // And more that want in and are told that it is full, and stay.
    let mut refused: Vec<Raw> = (0..20).map(|_| daemon.raw()).collect();
    for raw in &mut refused {
        raw.send_startup(&[("user", "app_user.acme"), ("database", TENANTS)]);
        assert_eq!(raw.read_message().error_fields().sqlstate, "53300");
    }
    sleeper.cancel(&daemon);
    sleeper.assert_cancelled();
}

#[test]
fn a_cancel_of_an_absent_upstream_ends_silently() {
    let daemon = Run::upstream(1).start();
    let mut raw = daemon.raw();
    raw.send(&packet(CANCEL_REQUEST, &[7; 8]));
    assert_eq!(read_all(&mut raw), b"");
    drop(raw);
    daemon.wait_until_idle();
}

#[test]
fn a_cancel_to_a_silent_upstream_ends_with_the_login_deadline() {
    let unreached = Unreached::with(&[("login_timeout", "300ms")]);
    let mut raw = unreached.daemon.raw();
    raw.send(&packet(CANCEL_REQUEST, &[7; 8]));
    assert_eq!(read_all(&mut raw), b"");
    drop(raw);
    unreached.daemon.wait_until_idle();
}
