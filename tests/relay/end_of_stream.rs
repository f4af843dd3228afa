//! How a stream in TLS ends: said, cut short, broken, and what the other leg is told of it.

use std::time::Duration;

use multigres::proxy::Control;

use super::peer::{Pace, settle};
use super::tls_configs::Suites;
use super::{
    BOTH, CLIENT, Legs, NOTHING, UPSTREAM, log_lines, noise, open, pipe, world, world_with,
};

#[test]
fn the_client_ends_first_and_still_gets_its_answer() {
    for pace in [Pace::ANY, Pace(1, 1)] {
        let (mut world, mut client, mut upstream) = pipe(BOTH);
        client.say(b"last question");
        client.close_notify();
        settle(&mut world, &mut [&mut client, &mut upstream], pace);
        assert_eq!(upstream.hear(), b"last question");
        assert!(upstream.hears_the_end() && upstream.wire.is_shut(), "the end is passed on");
        upstream.say(b"answer");
        world.wait(Duration::from_secs(3600));
        settle(&mut world, &mut [&mut upstream, &mut client], pace);
        assert_eq!(client.hear(), b"answer", "however long it takes");
        assert!(!client.wire.is_shut());
        upstream.close_notify();
        settle(&mut world, &mut [&mut upstream, &mut client], pace);
        assert!(client.hears_the_end());
        assert!(client.wire.is_closed() && upstream.wire.is_closed());
        assert_eq!(world.status(), NOTHING);
    }
}

#[test]
fn upstream_ends_first_and_its_last_word_arrives_before_the_end() {
    log_lines::keep();
    for pace in [Pace::ANY, Pace(usize::MAX, 1)] {
        let (mut world, mut client, mut upstream) = pipe(BOTH);
        client.wire.room(3);
        upstream.say(b"last word");
        upstream.close_notify();
        upstream.step(&mut world, Pace::ANY);
        upstream.wire.end();
        client.step(&mut world, Pace(usize::MAX, 3));
        assert!(!client.wire.is_shut(), "not before all has been written");
        client.wire.room(usize::MAX);
        settle(&mut world, &mut [&mut client], pace);
        assert_eq!(client.hear(), b"last word");
        assert!(client.hears_the_end() && client.wire.is_shut());
        assert!(!client.wire.is_closed(), "closing now would reset what is on its way");
        client.wire.end();
        world.run();
        assert!(client.wire.is_closed());
        assert_eq!(world.status(), NOTHING);
        assert!(log_lines::take_one(" end ").contains("ended_by=upstream reason=\"closed\""));
    }
}

#[test]
fn a_client_that_never_closes_is_closed_after_a_while() {
    let (mut world, mut client, mut upstream) = pipe(BOTH);
    upstream.close_notify();
    settle(&mut world, &mut [&mut upstream, &mut client], Pace::ANY);
    assert!(client.hears_the_end() && client.wire.is_shut());
    world.wait(Duration::from_secs(1));
    assert!(!client.wire.is_closed());
    world.wait(Duration::from_secs(2));
    assert!(client.wire.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_client_that_does_not_take_upstream_s_last_words_has_a_minute_from_the_last_it_took() {
    let (mut world, client, mut upstream) = pipe(BOTH);
    client.wire.room(0);
    upstream.say(b"last words");
    upstream.close_notify();
    upstream.step(&mut world, Pace::ANY);
    upstream.wire.end();
    for _ in 0..3 {
        world.wait(Duration::from_secs(50));
        client.wire.room(1);
        world.run();
    }
    assert_eq!(client.wire.hear().len(), 3, "slow is not gone");
    world.control(Control::Drain);
    world.wait(Duration::from_secs(59));
    assert!(!client.wire.is_closed());
    world.wait(Duration::from_secs(2));
    assert!(client.wire.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_stream_of_upstream_s_that_is_cut_short_does_not_look_like_its_end() {
    log_lines::keep();
    for (legs, half_a_record) in [(BOTH, false), (BOTH, true), (UPSTREAM, false)] {
        let (mut world, mut client, mut upstream) = pipe(legs);
        upstream.say(b"some rows");
        settle(&mut world, &mut [&mut upstream], Pace::ANY);
        if half_a_record {
            upstream.say(b"never whole");
            let record = upstream.take_ciphertext();
            upstream.wire.say(&record[..record.len() - 1]);
        }
        upstream.wire.end();
        settle(&mut world, &mut [&mut upstream, &mut client], Pace::ANY);
        assert_eq!(client.hear(), b"some rows", "what came before it is passed on");
        assert!(client.wire.is_shut());
        if legs.client {
            assert!(!client.hears_the_end(), "a direct connection would be cut short too");
        }
        client.wire.end();
        world.run();
        assert_eq!(world.status(), NOTHING);
        let line = log_lines::take_one(" end ");
        assert!(
            line.contains("ended_by=upstream reason=\"TLS: the stream ended without"),
            "{line}"
        );
    }
}

#[test]
fn a_reset_of_upstream_s_does_not_look_like_its_end() {
    let (mut world, mut client, mut upstream) = pipe(CLIENT);
    upstream.say(b"some rows");
    upstream.step(&mut world, Pace::ANY);
    upstream.wire.reset();
    settle(&mut world, &mut [&mut client], Pace::ANY);
    assert_eq!(client.hear(), b"some rows");
    assert!(client.wire.is_shut() && !client.hears_the_end());
}

#[test]
fn a_reset_that_a_write_is_told_of_does_not_look_like_an_end_to_whoever_reads() {
    let (mut world, mut client, upstream) = pipe(CLIENT);
    client.say(b"insert");
    let bytes = client.take_ciphertext();
    client.wire.say(&bytes);
    upstream.wire.reset();
    settle(&mut world, &mut [&mut client], Pace::ANY);
    assert!(client.wire.is_shut() && !client.hears_the_end());

    let (mut world, client, mut upstream) = pipe(UPSTREAM);
    client.wire.reset();
    upstream.say(b"rows");
    settle(&mut world, &mut [&mut upstream], Pace::ANY);
    assert!(upstream.wire.is_shut() || upstream.wire.is_closed());
    assert!(!upstream.hears_the_end());
}

#[test]
fn a_client_that_is_cut_short_takes_its_upstream_along() {
    log_lines::keep();
    let (mut world, mut client, mut upstream) = pipe(BOTH);
    client.say(b"insert");
    let bytes = client.take_ciphertext();
    client.wire.say(&bytes);
    client.wire.end();
    settle(&mut world, &mut [&mut upstream, &mut client], Pace::ANY);
    assert_eq!(upstream.hear(), b"insert");
    assert!(upstream.wire.is_closed() && client.wire.is_closed());
    assert!(!client.hears_the_end(), "upstream had more to say, as far as anybody knows");
    assert_eq!(world.status(), NOTHING);
    assert!(
        log_lines::take_one(" end ").contains("ended_by=client reason=\"TLS: the stream ended")
    );
}

#[test]
fn what_stands_behind_close_notify_is_ignored() {
    log_lines::keep();
    for legs in [CLIENT, BOTH] {
        let (mut world, mut client, mut upstream) = pipe(legs);
        client.say(b"last");
        client.close_notify();
        let last = client.take_ciphertext();
        client.wire.say(&[&last[..], b"garbage, not a record"].concat());
        settle(&mut world, &mut [&mut upstream], Pace::ANY);
        client.wire.say(&noise(100_000, 1));
        settle(&mut world, &mut [&mut upstream], Pace::ANY);
        assert_eq!(upstream.hear(), b"last");
        assert!(upstream.wire.is_shut());
        assert_eq!(world.status().buffers, 0);
        upstream.wire.end();
        settle(&mut world, &mut [&mut upstream], Pace::ANY);
        assert_eq!(world.status(), NOTHING);
        assert!(log_lines::take_one(" end ").contains("ended_by=client reason=\"closed\""));
    }
}

/// Breaks the client's or upstream's TLS from within, as by a bug or a hand in the middle.
fn alert(legs: Legs, by_client: bool) {
    let (mut world, mut client, mut upstream) = pipe(legs);
    let broken = if by_client { &mut client } else { &mut upstream };
    broken.say(b"before");
    let mut bytes = broken.take_ciphertext();
    let _ = broken.tls().read_tls(&mut &[23, 3, 3, 0, 30, 1, 2, 3][..]);
    let _ = broken.tls().read_tls(&mut &[0; 27][..]);
    assert!(broken.tls().process_new_packets().is_err());
    bytes.extend(broken.take_ciphertext());
    broken.wire.say(&bytes);
    let other = if by_client { &mut upstream } else { &mut client };
    settle(&mut world, &mut [other], Pace::ANY);
    assert_eq!(other.hear(), b"before");
    assert!(other.wire.is_shut() || other.wire.is_closed());
    world.wait(Duration::from_secs(3));
    assert_eq!(world.status(), NOTHING);
    let name = if by_client { "client" } else { "upstream" };
    let line = log_lines::take_one(" end ");
    let reason = format!("ended_by={name} reason=\"TLS: received fatal alert: BadRecordMac\"");
    assert!(line.contains(&reason), "{line}");
}

#[test]
fn a_client_that_takes_nothing_of_what_a_broken_upstream_said_is_not_kept() {
    let (mut world, client, mut upstream) = pipe(BOTH);
    client.wire.room(0);
    upstream.say(b"rows");
    upstream.step(&mut world, Pace::ANY);
    upstream.say_raw(b"garbage, not a record");
    upstream.step(&mut world, Pace::ANY);
    world.wait(Duration::from_secs(59));
    assert!(!client.wire.is_closed());
    world.wait(Duration::from_secs(2));
    assert!(client.wire.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn an_alert_ends_the_session_behind_what_came_before_it() {
    log_lines::keep();
    alert(BOTH, true);
    alert(BOTH, false);
    alert(CLIENT, true);
    alert(UPSTREAM, false);
}

#[test]
fn a_session_that_is_cut_says_close_notify_where_it_can() {
    let suites = Suites::all();
    for legs in [CLIENT, UPSTREAM, BOTH] {
        let mut world = world_with(legs, &suites, "idle_timeout = 10s", |_| {});
        let (mut idle_client, mut idle_upstream) = open(&mut world, legs, &suites, Pace::ANY);
        world.wait(Duration::from_secs(11));
        let (mut client, mut upstream) = open(&mut world, legs, &suites, Pace::ANY);
        world.control(Control::Stop);
        for peer in [&mut idle_client, &mut client].into_iter().filter(|_| legs.client) {
            settle(&mut world, &mut [peer], Pace::ANY);
            assert!(peer.hears_the_end() && peer.wire.is_closed());
        }
        for peer in [&mut idle_upstream, &mut upstream].into_iter().filter(|_| legs.upstream) {
            settle(&mut world, &mut [peer], Pace::ANY);
            assert!(peer.hears_the_end() && peer.wire.is_closed());
        }
        assert_eq!(world.status(), NOTHING);
    }
}

#[test]
fn a_session_that_is_cut_does_not_wait_for_one_that_takes_nothing() {
    let suites = Suites::all();
    let mut world = world(BOTH, &suites);
    let (client, mut upstream) = open(&mut world, BOTH, &suites, Pace::ANY);
    client.wire.room(0);
    upstream.say(&noise(1_000_000, 1));
    upstream.step(&mut world, Pace::ANY);
    world.control(Control::Stop);
    assert!(client.wire.is_closed() && upstream.wire.is_closed());
    assert_eq!(world.status(), NOTHING);
}
