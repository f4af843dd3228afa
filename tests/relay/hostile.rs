//! Peers that break the rules of TLS: they are told, and leave nothing behind.

use std::time::Duration;

use rustls::ContentType;

use super::peer::{Pace, Peer, settle};
use super::tls_configs::Suites;
use super::tls12_records::Forger;
use super::{
    BOTH, CLIENT, NOTHING, SSL_REQUEST, UPSTREAM, client, contains, log_lines, noise, open, pipe,
    world,
};
use testing::session::startup;

/// A record of this type, with the length that it claims.
fn record(typ: u8, claimed: u16, body: &[u8]) -> Vec<u8> {
    [&[typ, 3, 3][..], &claimed.to_be_bytes(), body].concat()
}

fn whole_record(typ: u8, body: &[u8]) -> Vec<u8> {
    record(typ, u16::try_from(body.len()).unwrap(), body)
}

/// A ClientHello of this version without extensions, for RSA key exchange.
fn old_hello(version: u8) -> Vec<u8> {
    let body = [&[3, version][..], &[7; 32], &[0], &[0, 2, 0, 47], &[1, 0]].concat();
    let length = u8::try_from(body.len()).unwrap();
    whole_record(HANDSHAKE, &[&[1, 0, 0, length][..], &body].concat())
}

const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const ALERT: u8 = 21;
const CHANGE_CIPHER_SPEC: u8 = 20;

/// What is no start of a handshake.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let sslv2 = [&[0x80, 46, 1, 0, 2, 0, 21, 0, 0, 0, 16][..], &[3; 37]].concat();
    vec![
        ("HTTP", b"GET / HTTP/1.1\r\nHost: db.test\r\n\r\n".to_vec()),
        ("a StartupMessage", startup(&[("user", "app_user.acme")])),
        ("another SSLRequest", SSL_REQUEST.to_vec()),
        ("noise", noise(100_000, 9)),
        ("SSLv2", sslv2),
        ("SSLv3", old_hello(0)),
        ("TLS 1.0", old_hello(1)),
        ("TLS 1.1", old_hello(2)),
        ("no cipher in common", old_hello(3)),
        ("an oversized record", record(HANDSHAKE, 0xffff, &[1; 20_000])),
        ("an empty record", record(HANDSHAKE, 0, &[])),
        ("a handshake message of 16 MB", record(HANDSHAKE, 4, &[1, 255, 255, 255]).repeat(2)),
        ("nothing but middlebox compatibility", whole_record(CHANGE_CIPHER_SPEC, &[1]).repeat(99)),
        ("data at once", whole_record(APPLICATION_DATA, b"select 1")),
        ("an unknown record", whole_record(99, b"?")),
    ]
}

#[test]
fn a_client_that_sends_anything_but_a_client_hello_is_told_by_an_alert() {
    for (what, garbage) in garbage() {
        for pace in [Pace::ANY, Pace(3, 1)] {
            let mut world = world(CLIENT, &Suites::all());
            let mut client = Peer::new(world.client());
            client.say(SSL_REQUEST);
            settle(&mut world, &mut [&mut client], pace);
            assert_eq!(client.hear(), b"S");
            // A pace of a few bytes would take noise a while.
            client.say(&garbage[..garbage.len().min(if pace.1 == 1 { 2_000 } else { usize::MAX })]);
            settle(&mut world, &mut [&mut client], pace);
            let said = client.hear();
            assert_eq!(said.first(), Some(&ALERT), "{what}: {said:?}");
            assert_eq!(said.len(), 7, "{what}: the alert, and no ErrorResponse");
            assert!(client.wire.is_shut(), "{what}");
            assert!(!client.wire.is_closed(), "{what}: closing now would reset the alert");
            client.say(&noise(100_000, 1));
            settle(&mut world, &mut [&mut client], Pace::ANY);
            assert_eq!(client.wire.unread_bytes(), 0, "{what}: it is drained");
            assert_eq!(world.dialled().len(), 0, "{what}");
            client.wire.end();
            world.run();
            assert_eq!(world.status(), NOTHING, "{what}");
        }
    }
}

#[test]
fn a_client_that_does_not_go_after_the_alert_is_closed_after_a_while() {
    log_lines::keep();
    let mut world = world(CLIENT, &Suites::all());
    let mut client = Peer::new(world.client());
    client.say(SSL_REQUEST);
    client.step(&mut world, Pace::ANY);
    client.say(b"GET / HTTP/1.1\r\n\r\n");
    settle(&mut world, &mut [&mut client], Pace::ANY);
    let line = log_lines::take_one(" refused ");
    assert!(line.contains("sqlstate=08P01") && line.contains("TLS: "), "{line}");
    world.wait(Duration::from_secs(3));
    assert!(client.wire.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn what_is_thrown_away_behind_an_alert_does_not_keep_others_waiting() {
    let mut world = world(CLIENT, &Suites::all());
    let mut client = Peer::new(world.client());
    client.say(SSL_REQUEST);
    client.step(&mut world, Pace::ANY);
    client.say(b"GET / HTTP/1.1\r\n\r\n");
    settle(&mut world, &mut [&mut client], Pace::ANY);
    client.wire.say(&noise(1_000_000, 1));
    world.turn([client.wire.take_event()]);
    let taken = 1_000_000 - client.wire.unread_bytes();
    assert!(taken > 0 && taken <= 320 * 1024, "{taken} bytes in one turn");
    assert_eq!(world.sleep, Some(Duration::ZERO), "there is more to do");
}

#[test]
fn an_upstream_that_sends_anything_but_a_server_hello_is_refused() {
    for (what, garbage) in garbage() {
        let mut world = world(UPSTREAM, &Suites::all());
        let mut client = client(&mut world, UPSTREAM, &Suites::all(), Pace::ANY);
        client.say(&startup(&[("user", "app_user.acme")]));
        settle(&mut world, &mut [&mut client], Pace::ANY);
        let upstream = world.upstream();
        assert_eq!(upstream.hear(), SSL_REQUEST);
        upstream.say(b"S");
        world.run();
        upstream.hear();
        upstream.say(&garbage);
        settle(&mut world, &mut [&mut client], Pace::ANY);
        assert!(upstream.is_closed(), "{what}");
        assert_eq!(upstream.hear().first(), Some(&ALERT), "{what}");
        assert!(contains(&client.hear(), b"C08001"), "{what}");
        client.wire.end();
        world.run();
        assert_eq!(world.status(), NOTHING, "{what}");
    }
}

#[test]
fn plain_text_behind_the_handshake_is_not_believed() {
    for pace in [Pace::ANY, Pace(1, 1)] {
        let mut world = world(CLIENT, &Suites::all());
        let mut client = client(&mut world, CLIENT, &Suites::all(), pace);
        client.say_raw(&startup(&[("user", "app_user.acme")]));
        settle(&mut world, &mut [&mut client], pace);
        assert_eq!(world.dialled().len(), 0);
        assert!(client.error.take().unwrap().contains("alert"));
        assert!(client.wire.is_shut());
        client.wire.end();
        world.run();
        assert_eq!(world.status(), NOTHING);
    }
}

/// Says this on one leg of an open pipe, past its TLS: the session ends, and the other leg hears
/// nothing of it.
fn breaks_the_pipe(what: &str, by_client: bool, bytes: impl Fn(&mut Peer) -> Vec<u8>) {
    let (mut world, mut client, mut upstream) = pipe(BOTH);
    let (hostile, other) = match by_client {
        true => (&mut client, &mut upstream),
        false => (&mut upstream, &mut client),
    };
    let bytes = bytes(hostile);
    hostile.say_raw(&bytes);
    settle(&mut world, &mut [hostile, other], Pace::ANY);
    assert_eq!(other.hear(), b"", "{what}");
    assert!(other.wire.is_shut() || other.wire.is_closed(), "{what}");
    world.wait(Duration::from_secs(3));
    assert_eq!(world.status(), NOTHING, "{what}");
    let name = if by_client { "client" } else { "upstream" };
    let line = log_lines::take_one(" end ");
    assert!(line.contains(&format!("ended_by={name} reason=\"TLS: ")), "{what}: {line}");
}

#[test]
fn what_is_not_tls_ends_an_open_pipe() {
    log_lines::keep();
    for by_client in [true, false] {
        for (what, bytes) in garbage() {
            breaks_the_pipe(what, by_client, |_| bytes.clone());
        }
        let large = whole_record(APPLICATION_DATA, &[0; 16_384 + 257]);
        breaks_the_pipe("an oversized record", by_client, |_| large.clone());
    }
}

#[test]
fn a_record_altered_anywhere_ends_an_open_pipe() {
    log_lines::keep();
    for by_client in [true, false] {
        // In TLS 1.3 the record's outer type and version say nothing, and are not proved.
        for at in 3..5 + 8 + 1 + 16 {
            breaks_the_pipe(&format!("byte {at}"), by_client, |hostile| {
                hostile.say(b"transfer");
                let mut record = hostile.take_ciphertext();
                record[at] ^= 1;
                // What follows it lets a length that has become larger come to its end.
                hostile.say(&[0; 300]);
                [record, hostile.take_ciphertext()].concat()
            });
        }
    }
}

#[test]
fn renegotiation_is_declined_once_and_ends_the_session_the_second_time() {
    log_lines::keep();
    let hello_request = vec![0, 0, 0, 0];
    let client_hello = old_hello(3).split_off(5);
    for (by_client, request) in [(true, client_hello), (false, hello_request)] {
        let mut world = world(BOTH, &Suites::tls12());
        let (mut client, mut upstream) = open(&mut world, BOTH, &Suites::tls12(), Pace::ANY);
        let (hostile, other) = match by_client {
            true => (&mut client, &mut upstream),
            false => (&mut upstream, &mut client),
        };
        let mut forger = Forger::new(hostile.take_tls());
        hostile.say(&forger.record(ContentType::Handshake, &request));
        settle(&mut world, &mut [hostile, other], Pace::ANY);
        assert_eq!(hostile.hear().first(), Some(&ALERT), "though nothing else is to be written");
        hostile.say(&forger.record(ContentType::ApplicationData, b"goes on"));
        settle(&mut world, &mut [hostile, other], Pace::ANY);
        assert_eq!(other.hear(), b"goes on");
        hostile.say(&forger.record(ContentType::Handshake, &request));
        hostile.say(&forger.record(ContentType::ApplicationData, b"not any more"));
        settle(&mut world, &mut [hostile, other], Pace::ANY);
        assert_eq!(other.hear(), b"");
        assert!(other.wire.is_shut() || other.wire.is_closed());
        world.wait(Duration::from_secs(3));
        assert_eq!(world.status(), NOTHING);
        assert!(log_lines::take_one(" end ").contains("TooManyRenegotiationRequests"));
    }
}

#[test]
fn a_flood_of_key_updates_ends_the_session() {
    log_lines::keep();
    for by_client in [true, false] {
        breaks_the_pipe("key updates", by_client, |hostile| {
            let mut flood = Vec::new();
            for _ in 0..1_000 {
                hostile.tls().refresh_traffic_keys().unwrap();
                flood.extend(hostile.take_ciphertext());
            }
            flood
        });
    }
}

#[test]
fn key_updates_amid_data_are_answered_and_nothing_is_lost() {
    let (mut world, mut client, mut upstream) = pipe(BOTH);
    for round in 0..100u32 {
        client.tls().refresh_traffic_keys().unwrap();
        upstream.tls().refresh_traffic_keys().unwrap();
        client.say(&round.to_be_bytes());
        upstream.say(&round.to_le_bytes());
        settle(&mut world, &mut [&mut client, &mut upstream], Pace(7, 11));
        assert_eq!(upstream.hear(), round.to_be_bytes());
        assert_eq!(client.hear(), round.to_le_bytes());
    }
    assert_eq!(world.status().buffers, 0);
}

#[test]
fn empty_records_without_end_do_not_keep_others_waiting() {
    let (mut world, mut client, upstream) = pipe(CLIENT);
    // rustls writes no empty records: the smallest there are cost a turn just as much.
    let mut dust = Vec::new();
    for _ in 0..30_000 {
        client.say(b".");
        dust.extend(client.take_ciphertext());
    }
    client.wire.say(&dust);
    world.turn([client.wire.take_event()]);
    let taken = dust.len() - client.wire.unread_bytes();
    assert!(taken <= 320 * 1024, "{taken} bytes of ciphertext in one turn");
    assert!(upstream.wire.hear().len() <= taken / 20);
    world.run();
    assert_eq!(client.wire.unread_bytes(), 0);
}

#[test]
fn a_client_that_breaks_tls_after_our_last_word_ends_its_session_alone() {
    log_lines::keep();
    let (mut world, mut client, mut upstream) = pipe(BOTH);
    upstream.close_notify();
    settle(&mut world, &mut [&mut upstream, &mut client], Pace::ANY);
    assert!(client.hears_the_end() && client.wire.is_shut());
    client.say_raw(b"GET / HTTP/1.1\r\n\r\n");
    settle(&mut world, &mut [&mut client], Pace::ANY);
    assert!(client.wire.is_closed());
    assert_eq!(world.status(), NOTHING);
}
