//! Bytes through the pipe: unaltered, however they are cut, and bounded when they are not taken.

use std::time::Duration;

use multigres::proxy::Status;
use proptest::prelude::*;

use super::peer::{Pace, Peer, settle};
use super::tls_configs::Suites;
use super::{BOTH, CLIENT, Legs, NOTHING, UPSTREAM, log_lines, noise, open, pipe, world};
use testing::network::World;

#[test]
fn a_pipe_moves_bytes_and_holds_no_buffer() {
    for legs in [CLIENT, UPSTREAM, BOTH] {
        for suites in [Suites::all(), Suites::tls12()] {
            let mut world = world(legs, &suites);
            let (mut client, mut upstream) = open(&mut world, legs, &suites, Pace::ANY);
            client.say(b"question");
            upstream.say(b"answer");
            settle(&mut world, &mut [&mut client, &mut upstream], Pace::ANY);
            assert_eq!(upstream.hear(), b"question");
            assert_eq!(client.hear(), b"answer");
            let status = Status { connections: 1, piping: 1, ..NOTHING };
            assert_eq!(world.status(), status, "no deadline either");
            assert_eq!(world.sleep, None);
        }
    }
}

/// Says this in both directions at once, and checks that it comes out.
fn exchange(world: &mut World, client: &mut Peer, upstream: &mut Peer, bytes: usize, pace: Pace) {
    let (up, down) = (noise(bytes, 1), noise(bytes, 2));
    client.say(&up);
    upstream.say(&down);
    settle(world, &mut [client, upstream], pace);
    assert!(upstream.hear() == up, "the client's bytes");
    assert!(client.hear() == down, "upstream's bytes");
    assert_eq!(world.status().buffers, 0);
}

#[test]
fn one_byte_at_a_time_from_the_first_on() {
    for legs in [CLIENT, UPSTREAM, BOTH] {
        for suites in [Suites::all(), Suites::tls12()] {
            let pace = Pace(1, 1);
            let mut world = world(legs, &suites);
            let (mut client, mut upstream) = open(&mut world, legs, &suites, pace);
            exchange(&mut world, &mut client, &mut upstream, 300, pace);
        }
    }
}

#[test]
fn a_record_cut_at_any_byte_comes_out_whole_and_not_before() {
    let (mut world, mut client, mut upstream) = pipe(BOTH);
    for downward in [false, true] {
        let (from, to) = match downward {
            false => (&mut client, &mut upstream),
            true => (&mut upstream, &mut client),
        };
        for cut in 1.. {
            from.say(b"a message");
            let record = from.take_ciphertext();
            if cut == record.len() {
                from.say_raw(&record);
                settle(&mut world, &mut [from, to], Pace::ANY);
                to.hear();
                break;
            }
            from.say_raw(&record[..cut]);
            settle(&mut world, &mut [from, to], Pace::ANY);
            assert_eq!(to.heard_bytes(), 0, "it is not proved yet");
            assert_eq!(world.status().buffers, 0, "half a record costs none");
            from.say_raw(&record[cut..]);
            settle(&mut world, &mut [from, to], Pace::ANY);
            assert_eq!(to.hear(), b"a message");
        }
    }
}

#[test]
fn more_than_the_buffers_hold_goes_both_ways_at_once() {
    for legs in [CLIENT, UPSTREAM, BOTH] {
        let (mut world, mut client, mut upstream) = pipe(legs);
        for pace in [Pace::ANY, Pace(40_000, 10_000), Pace(7_001, 20_011)] {
            exchange(&mut world, &mut client, &mut upstream, 1_000_000, pace);
        }
    }
}

#[test]
fn a_stream_that_writes_one_slice_at_a_time_is_written_to_all_the_same() {
    let (mut world, mut client, mut upstream) = pipe(BOTH);
    client.wire.take_one_slice();
    upstream.wire.take_one_slice();
    for pace in [Pace::ANY, Pace(5_000, 5_000)] {
        exchange(&mut world, &mut client, &mut upstream, 300_000, pace);
    }
}

#[test]
fn a_peer_that_does_not_read_costs_two_buffers_and_stops_the_other() {
    for legs in [CLIENT, UPSTREAM, BOTH] {
        let (mut world, mut client, mut upstream) = pipe(legs);
        let bulk = noise(3_000_000, 3);
        client.wire.room(0);
        upstream.say(&bulk);
        let ciphertext = upstream.take_ciphertext();
        upstream.wire.say(&ciphertext);
        world.run();
        let taken = ciphertext.len() - upstream.wire.unread_bytes();
        assert!(taken <= 4 * 32 * 1024, "{legs:?}: {taken} bytes taken");
        assert!(world.status().buffers <= 2, "{legs:?}: {}", world.status().buffers);
        assert_eq!(world.sleep, None, "nothing is left to do");
        client.say(b"the other way goes on");
        settle(&mut world, &mut [&mut client, &mut upstream], Pace::ANY);
        assert_eq!(upstream.hear(), b"the other way goes on");
        client.wire.room(usize::MAX);
        settle(&mut world, &mut [&mut client, &mut upstream], Pace::ANY);
        assert!(client.hear() == bulk);
        assert_eq!(world.status(), Status { connections: 1, piping: 1, ..NOTHING });
    }
}

#[test]
fn a_bulk_transfer_does_not_keep_a_short_one_waiting() {
    let suites = Suites::all();
    let mut world = world(BOTH, &suites);
    let (mut bulk_client, mut bulk_upstream) = open(&mut world, BOTH, &suites, Pace::ANY);
    let (mut client, mut upstream) = open(&mut world, BOTH, &suites, Pace::ANY);
    bulk_upstream.say(&noise(3_000_000, 4));
    client.say(b"short");
    for peer in [&mut bulk_upstream, &mut client] {
        let bytes = peer.take_ciphertext();
        peer.wire.say(&bytes);
    }
    // One turn, with both events in it.
    world.turn([bulk_upstream.wire.take_event(), client.wire.take_event()]);
    assert!(!upstream.wire.hear().is_empty());
    let moved = bulk_client.wire.hear().len();
    assert!(moved > 0 && moved <= 320 * 1024, "{moved} bytes in one turn");
    assert_eq!(world.sleep, Some(Duration::ZERO), "there is more to do");
    settle(&mut world, &mut [&mut bulk_client, &mut upstream], Pace::ANY);
}

#[test]
fn keys_that_wear_out_are_changed_and_nothing_is_lost() {
    let suites = Suites::short_lived(&rustls::version::TLS13, 20);
    let mut world = world(BOTH, &suites);
    let (mut client, mut upstream) = open(&mut world, BOTH, &suites, Pace::ANY);
    for _ in 0..100 {
        exchange(&mut world, &mut client, &mut upstream, 100, Pace::ANY);
    }
    exchange(&mut world, &mut client, &mut upstream, 1_000_000, Pace::ANY);
}

#[test]
fn keys_that_wear_out_and_cannot_be_changed_end_the_session_and_lose_nothing_silently() {
    log_lines::keep();
    for legs in [CLIENT, UPSTREAM] {
        let mut world = world(legs, &Suites::short_lived(&rustls::version::TLS12, 60));
        // The other end's would wear out as well.
        let (mut client, mut upstream) = open(&mut world, legs, &Suites::tls12(), Pace::ANY);
        let (from, to) = match legs.client {
            true => (&mut upstream, &mut client),
            false => (&mut client, &mut upstream),
        };
        let mut said = 0;
        while world.status().piping == 1 {
            from.say(b"a message");
            settle(&mut world, &mut [from, to], Pace::ANY);
            said += 1;
            assert!(said < 60);
        }
        assert_eq!(to.hear(), b"a message".repeat(said - 1), "the one that was not sent");
        world.wait(Duration::from_secs(3));
        settle(&mut world, &mut [to], Pace::ANY);
        assert!(!to.hears_the_end(), "{legs:?}: what was lost looks complete");
        assert!(client.wire.is_closed() && upstream.wire.is_closed());
        assert_eq!(world.status(), NOTHING);
        let leg = if legs.client { "client" } else { "upstream" };
        let reason = format!("ended_by={leg} reason=\"TLS: the keys are worn out");
        assert!(log_lines::take_one(" end ").contains(&reason));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn however_the_ciphertext_is_cut_and_blocked(
        legs in prop_oneof![Just(CLIENT), Just(UPSTREAM), Just(BOTH)],
        old in any::<bool>(),
        steps in prop::collection::vec(
            (any::<bool>(), 0usize..70_000, 1usize..40_000, 1usize..40_000), 1..20),
    ) {
        let suites = if old { Suites::tls12() } else { Suites::all() };
        play(legs, &suites, &steps);
    }
}

/// Each step: who says how much, and how many bytes then go in and out on either leg.
fn play(legs: Legs, suites: &Suites, steps: &[(bool, usize, usize, usize)]) {
    let mut world = world(legs, suites);
    let (mut client, mut upstream) = open(&mut world, legs, suites, Pace::ANY);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (at, &(upward, bytes, into, out)) in steps.iter().enumerate() {
        let said = noise(bytes, at as u32);
        if upward {
            client.say(&said);
            up.extend(said);
        } else {
            upstream.say(&said);
            down.extend(said);
        }
        client.step(&mut world, Pace(into, out));
        upstream.step(&mut world, Pace(out, into));
    }
    for peer in [&client, &upstream] {
        peer.wire.room(usize::MAX);
    }
    settle(&mut world, &mut [&mut client, &mut upstream], Pace::ANY);
    assert!(upstream.hear() == up && client.hear() == down);
    assert_eq!(world.status(), Status { connections: 1, piping: 1, ..NOTHING });
}
