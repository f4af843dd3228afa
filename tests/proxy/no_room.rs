//! Stories of a loop that has no room for one more connection: who has to go, who stays, who waits.

use std::time::Duration;

use multigres::proxy::Status;

use super::{NOTHING, bypass, contains};
use testing::network::{Wire, World};
use testing::session::startup;

/// A loop with room for so many sessions and as many other connections.
fn cramped(sessions: usize) -> World {
    let settings = format!("max_connections = {sessions}");
    World::with(&settings, None, |settings| settings.limits.spare_connections = 0)
}

/// A session whose upstream has ended and whose client still has to take the last words.
fn served(world: &mut World) -> Wire {
    let (client, upstream) = bypass(world);
    upstream.say(b"last words");
    upstream.end();
    world.run();
    assert!(client.is_shut() && !client.is_closed());
    client
}

#[test]
fn a_client_that_has_still_to_take_upstream_s_last_words_is_not_closed_for_another() {
    let mut world = cramped(1);
    let client = served(&mut world);
    let silent = world.client();
    world.run();
    let last = world.client();
    world.run();
    assert!(!client.is_closed());
    assert!(contains(&silent.hear(), b"C53300"), "a silent one goes in its place");
    assert!(silent.is_closed() && !last.is_closed());
}

#[test]
fn whoever_comes_waits_until_a_client_has_taken_upstream_s_last_words() {
    let mut world = cramped(1);
    let clients = [served(&mut world), served(&mut world)];
    let next = world.client();
    next.say(&startup(&[("user", "postgres")]));
    world.run();
    assert_eq!(world.status().connections, 2);
    assert!(!clients[0].is_closed() && !clients[1].is_closed());
    assert_eq!(next.unread_bytes(), startup(&[("user", "postgres")]).len(), "not accepted yet");
    assert!(world.sleep > Some(Duration::ZERO), "it does not spin");
    clients[1].end();
    world.wait(Duration::from_millis(200));
    assert!(clients[1].is_closed() && !clients[0].is_closed());
    assert!(!world.upstream().hear().is_empty(), "though no event has told of it again");
}

#[test]
fn whoever_comes_waits_no_longer_than_others_linger() {
    let mut world = cramped(1);
    let clients = [served(&mut world), served(&mut world)];
    let next = world.client();
    next.say(&startup(&[("user", "postgres")]));
    world.wait(Duration::from_millis(2_200));
    assert!(clients[0].is_closed() && clients[1].is_closed());
    assert!(!world.upstream().hear().is_empty());
}

#[test]
fn a_cancel_request_on_its_way_goes_last() {
    let mut world = cramped(1);
    let silent = world.client();
    world.wait(Duration::from_millis(1));
    let mut cancels = Vec::new();
    for _ in 0..2 {
        let cancel = world.client();
        cancel.say(&CANCEL);
        world.wait(Duration::from_millis(1));
        cancels.push(cancel);
    }
    assert!(silent.is_closed() && !cancels[0].is_closed());
    let silent = world.client();
    world.run();
    assert!(cancels[0].is_closed() && !cancels[1].is_closed(), "there is nobody else");
    let last = world.client();
    world.run();
    assert!(silent.is_closed() && !last.is_closed());
    assert_eq!(world.upstream().hear(), CANCEL);
    assert_eq!((cancels[0].hear(), cancels[1].hear()), (vec![], vec![]), "nothing is said to it");
}

#[test]
fn a_crowd_that_comes_at_once_is_not_taken_in_beyond_the_room_there_is() {
    let mut world = World::new("max_connections = 2");
    let session = bypass(&mut world);
    let crowd = world.crowd(1_000);
    world.accept();
    for _ in 0..1_000 {
        assert!(world.status().connections <= 2 * 2 + 64, "{:?}", world.status());
        world.turn([]);
    }
    world.wait(Duration::from_secs(30));
    assert!(crowd[0].is_closed(), "the first has made room");
    assert!(!crowd[999].is_closed(), "the last has been accepted");
    assert!(!session.0.is_closed());
    world.wait(Duration::from_secs(70));
    assert_eq!(world.status(), Status { connections: 1, piping: 1, ..NOTHING });
}

const CANCEL: [u8; 16] = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 42, 1, 2, 3, 4];
