//! Stories of the loop and the relay on a network in memory: what the operating system does rarely
//! or never on loopback.

mod no_room;
mod renewal;
mod verdicts;

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use multigres::net::Address;
use multigres::proxy::{Control, Status};
use testing::SEAL_KEY;
use testing::network::{Wire, World};
use testing::session::{message, startup, startup_of};

const NOTHING: Status =
    Status { connections: 0, piping: 0, deadlines: 0, run_queue: 0, buffers: 0 };

/// A bypass login comes to the pipe with AuthenticationOk alone: what is told here is the same for
/// tenants, whose login has its stories elsewhere.
fn bypass(world: &mut World) -> (Wire, Wire) {
    let client = world.client();
    client.say(&startup(&[("user", "postgres")]));
    world.run();
    let upstream = world.upstream();
    assert_eq!(upstream.hear(), startup(&[("user", "postgres")]));
    let ok = message(b'R', &[0, 0, 0, 0]);
    upstream.say(&ok);
    world.run();
    assert_eq!(client.hear(), ok);
    (client, upstream)
}

#[test]
fn a_pipe_moves_bytes_and_holds_no_buffer() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    client.say(b"question");
    upstream.say(b"answer");
    world.run();
    assert_eq!(upstream.hear(), b"question");
    assert_eq!(client.hear(), b"answer");
    let status = Status { connections: 1, piping: 1, ..NOTHING };
    assert_eq!(world.status(), status, "no deadline either");
    assert_eq!(world.sleep, None);
}

#[test]
fn a_seal_asks_once_for_the_address_of_a_connected_leg() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("seal.key");
    std::fs::write(&key, SEAL_KEY).unwrap();
    std::fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let key = format!("seal_key_file = {}\n", key.display());
    let no_bind = format!("{key}seal_bind = none\n");
    // By openssl(1): see the session's stories.
    let bound = "bcd55d67bf8ab52f9fdba60d9970937a1d6d520d7c96fbc6e6d08381c6e63b11";
    let not_bound = "70d654506798780ae2663edd909ffb1fa5c27ee622ae1a5ebdd2553dba21c83d";
    let stories = [("", None, 0), (&key, Some(bound), 1), (&no_bind, Some(not_bound), 0)];
    for (settings, seal, calls) in stories {
        let mut world = World::new(settings);
        let client = world.client();
        client.say(&startup(&[("user", "app_user.acme"), ("database", "crm")]));
        world.run();
        let (_, wire) = world.dialled().pop().unwrap();
        assert_eq!((wire.hear(), wire.address_calls()), (vec![], 0), "it is not connected yet");
        let upstream = world.upstream();
        let sent = startup_of(&upstream.hear());
        let sealed = sent.iter().find(|(name, _)| name == "app.current_tenant_id_seal");
        assert_eq!(sealed.map(|(_, seal)| seal.as_str()), seal);
        upstream.say(&message(b'R', &[0, 0, 0, 0]));
        world.run();
        assert_eq!(upstream.address_calls(), calls);
    }
    let mut world = World::new(&key);
    let (client, upstream) = bypass(&mut world);
    client.say(b"question");
    world.run();
    assert_eq!((upstream.hear(), upstream.address_calls()), (b"question".to_vec(), 0));
}

#[test]
fn a_client_that_leaves_before_upstream_is_connected_leaves_nothing() {
    let mut world = World::new("");
    let client = world.client();
    client.say(&startup(&[("user", "app_user.acme")]));
    world.run();
    let (_, upstream) = world.dialled().pop().unwrap();
    client.end();
    world.run();
    assert!(upstream.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_message_costs_one_read_and_one_write() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    // The first turns in the pipe may still learn that there is nothing to read.
    client.say(b"first");
    upstream.say(b"first");
    world.run();
    let _ = (client.take_calls(), upstream.take_calls());
    for _ in 0..10 {
        client.say(b"question");
        world.run();
        upstream.say(b"answer");
        world.run();
    }
    assert_eq!(client.take_calls(), (10, 10));
    assert_eq!(upstream.take_calls(), (10, 10));
}

#[test]
fn the_client_ends_first_and_still_gets_its_answer() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    client.say(b"last question");
    client.end();
    world.run();
    assert_eq!(upstream.hear(), b"last question");
    assert!(upstream.is_shut(), "the end is passed on");
    upstream.say(b"answer");
    world.wait(Duration::from_secs(3600));
    assert_eq!(client.hear(), b"answer", "however long it takes");
    assert!(!client.is_shut());
    upstream.end();
    world.run();
    assert!(client.is_closed() && upstream.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn upstream_ends_first_and_its_last_word_arrives() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    client.room(3);
    upstream.say(b"last word");
    upstream.end();
    world.run();
    assert_eq!(client.hear(), b"las");
    assert!(!client.is_shut(), "not before all has been written");
    client.room(usize::MAX);
    world.run();
    assert_eq!(client.hear(), b"t word");
    assert!(client.is_shut());
    assert!(!client.is_closed(), "closing now would reset what is on its way");
    client.end();
    world.run();
    assert!(client.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_client_that_never_closes_is_closed_after_a_while() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    upstream.end();
    world.wait(Duration::from_secs(1));
    assert!(!client.is_closed());
    world.wait(Duration::from_secs(2));
    assert!(client.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_client_that_does_not_take_upstream_s_last_words_has_a_minute_from_the_last_it_took() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    client.room(0);
    upstream.say(b"last words");
    upstream.end();
    for _ in 0..3 {
        world.wait(Duration::from_secs(50));
        client.room(1);
        world.run();
    }
    assert_eq!(client.hear(), b"las", "slow is not gone");
    world.control(Control::Drain);
    world.wait(Duration::from_secs(61));
    assert!(client.is_closed());
    assert!(world.proxy.is_drained());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_client_that_takes_the_start_of_its_session_slowly_has_a_minute_from_the_last_it_took() {
    let mut world = World::new("");
    let client = world.client();
    client.say(&startup(&[("user", "postgres")]));
    world.run();
    let upstream = world.upstream();
    client.room(0);
    let start = message(b'R', &[0, 0, 0, 0]);
    upstream.say(&[&start[..], b"last words"].concat());
    upstream.end();
    let mut heard = Vec::new();
    for _ in 0..start.len() + 2 {
        world.wait(Duration::from_secs(50));
        client.room(1);
        world.run();
        heard.extend(client.hear());
    }
    assert_eq!(heard, [&start[..], b"la"].concat(), "slow is not gone");
    world.wait(Duration::from_secs(61));
    assert!(client.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn what_stands_in_front_of_a_reset_is_passed_on() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    client.say(b"question");
    upstream.say(b"FATAL");
    upstream.reset();
    world.run();
    assert_eq!(client.hear(), b"FATAL");
    assert!(client.is_shut());
    assert_eq!(client.unread_bytes(), 0, "unread bytes would reset the client in turn");
    client.end();
    world.run();
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_client_that_is_reset_takes_its_upstream_along() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    client.say(b"insert");
    client.reset();
    upstream.say(b"rows");
    world.run();
    assert_eq!(upstream.hear(), b"insert");
    assert!(upstream.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn what_a_client_said_before_it_was_reset_still_goes_upstream() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    upstream.room(3);
    client.say(b"insert");
    world.run();
    client.reset();
    world.run();
    assert_eq!(upstream.hear(), b"ins");
    upstream.room(usize::MAX);
    world.run();
    assert_eq!(upstream.hear(), b"ert");
    assert!(upstream.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_client_that_cannot_be_written_to_is_not_kept_for_a_blocked_upstream() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    upstream.room(0);
    client.say(b"insert");
    world.run();
    client.reset();
    upstream.say(b"rows");
    world.wait(Duration::from_secs(10));
    assert!(upstream.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_peer_that_does_not_read_costs_one_buffer_and_stops_the_other() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    client.room(0);
    upstream.say(&vec![7; 10_000_000]);
    world.run();
    assert_eq!(world.status().buffers, 1);
    assert_eq!(10_000_000 - upstream.unread_bytes(), 32 * 1024);
    client.say(b"the other way goes on");
    world.run();
    assert_eq!(upstream.hear(), b"the other way goes on");
    client.room(usize::MAX);
    world.run();
    assert_eq!(client.hear(), vec![7; 10_000_000]);
    assert_eq!(world.status().buffers, 0);
}

#[test]
fn a_bulk_transfer_does_not_keep_a_short_one_waiting() {
    let mut world = World::new("");
    let (bulk_client, bulk_upstream) = bypass(&mut world);
    let (client, upstream) = bypass(&mut world);
    bulk_upstream.say(&vec![7; 10_000_000]);
    client.say(b"short");
    // One turn, with both events in it.
    let events = [&bulk_upstream, &client].map(Wire::take_event);
    world.turn(events);
    assert_eq!(upstream.hear(), b"short");
    let moved = bulk_client.hear().len();
    assert!(moved > 0 && moved <= 256 * 1024, "{moved} bytes in one turn");
    assert_eq!(world.sleep, Some(Duration::ZERO), "there is more to do");
}

#[test]
fn an_event_for_a_slot_s_earlier_user_is_ignored() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    let (old_client, old_upstream) = (client.token(), upstream.token());
    client.end();
    upstream.end();
    world.run();
    let (client, _upstream) = bypass(&mut world);
    assert_ne!(client.token(), old_client);
    world.stale_event(old_client);
    world.stale_event(old_upstream);
    assert_eq!(world.status().piping, 1);
    assert!(!client.is_closed());
}

#[test]
fn a_refusal_stands_whole_behind_what_was_half_written() {
    let mut world = World::new("");
    let client = world.client();
    client.say(&startup(&[("user", "app_user.acme")]));
    world.run();
    let upstream = world.upstream();
    client.room(5);
    let request = message(b'R', &[&10u32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat());
    upstream.say(&request);
    upstream.say(b"garbage, not a message");
    world.run();
    assert!(upstream.is_closed());
    client.room(usize::MAX);
    world.run();
    let said = client.hear();
    assert!(said.starts_with(&request));
    assert!(said[request.len()..].starts_with(b"E"));
    assert!(client.is_shut());
}

#[test]
fn a_refused_client_that_has_ended_already_is_closed_at_once() {
    let mut world = World::new("");
    let client = world.client();
    client.say(&startup(&[("user", "nobody")]));
    client.end();
    world.run();
    assert!(client.hear().starts_with(b"E"));
    assert!(client.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_silent_client_is_told_that_its_time_is_over() {
    let mut world = World::new("login_timeout = 5s");
    let client = world.client();
    world.wait(Duration::from_secs(4));
    assert_eq!(client.hear(), b"");
    world.wait(Duration::from_secs(2));
    assert!(contains(&client.hear(), b"C57014"));
    world.wait(Duration::from_secs(3));
    assert!(client.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_connect_that_hangs_ends_with_its_own_deadline() {
    let mut world = World::new("upstream_connect_timeout = 2s");
    let client = world.client();
    client.say(&startup(&[("user", "app_user.acme")]));
    world.wait(Duration::from_secs(3));
    assert!(contains(&client.hear(), b"C57P03"));
    let (_, upstream) = world.dialled().pop().unwrap();
    assert!(upstream.is_closed());
}

#[test]
fn every_address_of_a_name_is_tried_and_the_good_one_remembered() {
    let mut world = World::new("upstream_host = db\nupstream_connect_timeout = 2s");
    let addresses: Vec<Address> = ["10.0.0.1:5432", "10.0.0.2:5432", "10.0.0.3:5432"]
        .map(|address| Address::Tcp(address.parse().unwrap()))
        .to_vec();
    let client = world.client();
    client.say(&startup(&[("user", "app_user.acme")]));
    world.run();
    assert_eq!((world.lookups(), world.dialled().len()), (1, 0));
    world.resolved(Ok(addresses.clone()));
    world.dialled()[0].1.connect(Err(ErrorKind::ConnectionRefused));
    world.wait(Duration::from_secs(3));
    assert_eq!(world.dialled().len(), 3, "the second has timed out");
    let upstream = world.upstream();
    assert!(!upstream.hear().is_empty());
    let dialled: Vec<Address> = world.dialled().into_iter().map(|(to, _)| to).collect();
    assert_eq!(dialled, addresses);
    let next = world.client();
    next.say(&startup(&[("user", "app_user.acme")]));
    world.run();
    assert_eq!(world.dialled()[3].0, addresses[2]);
    assert_eq!(world.lookups(), 1, "the answer is fresh");
}

/// After a failover by DNS the old address is not tried for five seconds more.
#[test]
fn addresses_that_cannot_be_connected_to_are_looked_up_again_at_once() {
    let mut world = World::new("upstream_host = db");
    let to = |last: u8| Address::Tcp(([10, 0, 0, last], 5432).into());
    for (count, last) in [1, 2].into_iter().enumerate() {
        let client = world.client();
        client.say(&startup(&[("user", "app_user.acme")]));
        world.run();
        assert_eq!(world.lookups(), count + 1);
        world.resolved(Ok(vec![to(last)]));
        let (dialled, upstream) = world.dialled().pop().unwrap();
        assert_eq!(dialled, to(last));
        upstream.connect(Err(ErrorKind::ConnectionRefused));
        world.run();
        assert!(contains(&client.hear(), b"C57P03"));
    }
}

#[test]
fn an_answer_to_a_look_up_that_comes_too_late_dials_for_nobody() {
    let mut world = World::new("upstream_host = db\nlogin_timeout = 3s");
    let client = world.client();
    client.say(&startup(&[("user", "app_user.acme")]));
    world.wait(Duration::from_secs(4));
    assert!(contains(&client.hear(), b"C57014"));
    world.resolved(Ok(vec![Address::Tcp("10.0.0.1:5432".parse().unwrap())]));
    assert_eq!(world.dialled().len(), 0);
}

#[test]
fn a_look_up_that_fails_is_told() {
    let mut world = World::new("upstream_host = db");
    let client = world.client();
    client.say(&startup(&[("user", "app_user.acme")]));
    world.run();
    world.resolved(Err("Name or service not known".into()));
    assert!(contains(&client.hear(), b"C57P03"));
}

#[test]
fn a_full_backlog_of_a_unix_socket_is_tried_again() {
    let mut world = World::new("upstream_host = /run/x");
    world.next_attempt(Err(ErrorKind::WouldBlock));
    let client = world.client();
    client.say(&startup(&[("user", "app_user.acme")]));
    world.run();
    assert_eq!(world.dialled().len(), 0);
    world.wait(Duration::from_millis(50));
    assert_eq!(world.dialled().len(), 1);
}

#[test]
fn a_lack_of_descriptors_pauses_accepting_and_loses_nobody() {
    let mut world = World::new("");
    world.arrives(Err(ErrorKind::OutOfMemory));
    let client = world.client();
    client.say(&startup(&[("user", "nobody")]));
    world.run();
    assert_eq!(world.status().connections, 0);
    assert!(world.sleep > Some(Duration::ZERO), "it does not spin");
    world.wait(Duration::from_millis(200));
    assert!(contains(&client.hear(), b"C28000"), "though no event has told of it again");
}

#[test]
fn sessions_are_counted_from_their_startup_message_to_their_end() {
    let mut world = World::new("max_connections = 1");
    let silent = world.client();
    let (client, upstream) = bypass(&mut world);
    silent.say(&startup(&[("user", "app_user.acme")]));
    world.run();
    assert!(contains(&silent.hear(), b"C53300"));
    let cancel = world.client();
    cancel.say(&[&[0, 0, 0, 16, 4, 210, 22, 46][..], &[0, 0, 0, 42, 1, 2, 3, 4]].concat());
    world.run();
    assert_eq!(world.upstream().hear().len(), 16, "a cancel goes through all the same");
    client.end();
    upstream.end();
    world.run();
    bypass(&mut world);
}

#[test]
fn silent_clients_do_not_keep_others_out() {
    let mut world = World::new("max_connections = 2");
    let sessions = [bypass(&mut world), bypass(&mut world)];
    let silent: Vec<Wire> = (0..200)
        .map(|_| {
            let silent = world.client();
            world.wait(Duration::from_millis(1));
            silent
        })
        .collect();
    assert_eq!(world.status().connections, 2 * 2 + 64);
    assert!(contains(&silent[0].hear(), b"C53300"), "the oldest has gone first, and was told");
    assert!(silent[0].is_closed() && !silent[199].is_closed());
    let (client, upstream) = &sessions[0];
    client.end();
    upstream.end();
    world.run();
    bypass(&mut world);
    assert!(!sessions[1].0.is_closed(), "no session is given up for it");
    world.wait(Duration::from_secs(70));
    assert_eq!(world.status(), Status { connections: 2, piping: 2, ..NOTHING });
}

#[test]
fn an_idle_session_is_closed_and_a_busy_one_is_not() {
    let mut world = World::new("idle_timeout = 10s");
    let (client, _upstream) = bypass(&mut world);
    for _ in 0..5 {
        world.wait(Duration::from_secs(8));
        client.say(b"x");
        world.run();
    }
    assert!(!client.is_closed());
    world.wait(Duration::from_secs(11));
    assert!(client.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_drain_lets_sessions_end_and_logins_not_begin() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    let late = world.client();
    late.say(&startup(&[("user", "app_user.acme")]));
    world.run();
    world.control(Control::Drain);
    assert!(contains(&late.hear(), b"C57P03"));
    client.say(b"still there");
    world.run();
    assert_eq!(upstream.hear(), b"still there");
    late.end();
    client.end();
    upstream.end();
    world.run();
    assert!(world.proxy.is_drained());
}

#[test]
fn a_stop_ends_everything() {
    let mut world = World::new("");
    let (client, upstream) = bypass(&mut world);
    world.control(Control::Stop);
    assert!(client.is_closed() && upstream.is_closed());
    assert!(world.proxy.is_drained());
    assert_eq!(world.status(), NOTHING);
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
