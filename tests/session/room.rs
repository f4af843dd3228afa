//! How much a session takes of each peer before it has done something with it.

use std::rc::Rc;

use multigres::session::{Action, ClientPlace, Leg, LoginSettings, Session, Stage};

use testing::session::{message, startup};

/// The longest message of a login, with its header.
const MOST: usize = 65_540;

fn session() -> Session {
    Session::new(Rc::new(LoginSettings::default()), ClientPlace::Loopback, [7; 18])
}

/// One whose StartupMessage has gone upstream.
fn connected() -> Session {
    let mut session = session();
    session.receive(Leg::Client, &startup(&[("user", "app_user.acme")]));
    assert_eq!(session.next_action(), Some(Action::Connect));
    session.connected(|| Ok::<_, ()>(None)).unwrap();
    session.output(Leg::Upstream).clear();
    session
}

#[test]
fn there_is_room_for_one_message_less_what_has_come_of_it() {
    let mut session = session();
    assert_eq!(session.room(Leg::Client), MOST);
    session.receive(Leg::Client, &[0, 0, 1]);
    assert_eq!(session.room(Leg::Client), MOST - 3);
    let mut session = connected();
    assert_eq!(session.room(Leg::Upstream), MOST);
    session.receive(Leg::Upstream, b"R\0\0");
    assert_eq!(session.room(Leg::Upstream), MOST - 3);
    assert_eq!(session.room(Leg::Client), MOST);
}

#[test]
fn upstream_waits_for_a_client_that_does_not_read() {
    let mut session = connected();
    let notice = message(b'N', &[b"SNOTICE\0M", &vec![b'x'; 30_000][..], b"\0\0"].concat());
    let mut taken = 0;
    while session.room(Leg::Upstream) >= notice.len() {
        session.receive(Leg::Upstream, &notice);
        taken += notice.len();
        assert!(taken < 3 * MOST, "it piles up");
    }
    assert_eq!(session.room(Leg::Upstream), 0);
    assert_eq!(session.output(Leg::Client).len(), taken);
    session.output(Leg::Client).clear();
    assert_eq!(session.room(Leg::Upstream), MOST, "it has read");
}

#[test]
fn a_refused_client_is_listened_to_and_upstream_is_not() {
    let mut session = connected();
    session.receive(Leg::Upstream, b"Z\0\0\0\x05I");
    assert_eq!(session.stage(), Stage::Refusing);
    assert_eq!([session.room(Leg::Client), session.room(Leg::Upstream)], [MOST, 0]);
}
