//! The handshake on either leg: how it starts, what it tells the session, how it fails.

use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use multigres::session::UpstreamTls;

use super::peer::{Pace, Peer, settle};
use super::tls_configs::{Identity, OURS, Suites, THEIRS, tls};
use super::{
    BOTH, CLIENT, NOTHING, SSL_REQUEST, UPSTREAM, client, contains, log_lines, open, upstream,
    world, world_with,
};
use testing::session::{message, startup};

#[test]
fn direct_tls_starts_with_the_first_byte_on_both_legs() {
    for pace in [Pace::ANY, Pace(1, 1), Pace(100, 7)] {
        let suites = Suites::all();
        let mut world = world_with(BOTH, &suites, "", |proxy| {
            Rc::make_mut(&mut proxy.session).upstream_tls = UpstreamTls::Direct;
        });
        let mut client = Peer::new(world.client());
        client.start_client(OURS.client(&suites), OURS.name());
        let login = startup(&[("user", "postgres")]);
        client.say(&login);
        settle(&mut world, &mut [&mut client], pace);
        let mut upstream = Peer::new(world.dialled().pop().unwrap().1);
        upstream.start_server(THEIRS.server(&suites));
        world.upstream();
        settle(&mut world, &mut [&mut upstream], pace);
        assert_eq!(upstream.hear(), login);
        assert_eq!(world.status().buffers, 0);
    }
}

#[test]
fn what_a_client_says_right_behind_its_handshake_is_not_lost() {
    for suites in [Suites::all(), Suites::tls12()] {
        let mut world = world(CLIENT, &suites);
        let mut client = Peer::new(world.client());
        client.say(SSL_REQUEST);
        settle(&mut world, &mut [&mut client], Pace::ANY);
        client.start_client(OURS.client(&suites), OURS.name());
        let login = startup(&[("user", "postgres")]);
        // In the same packet as the handshake's last message.
        client.say(&login);
        client.say(b"early");
        settle(&mut world, &mut [&mut client], Pace::ANY);
        let mut upstream = Peer::new(world.upstream());
        settle(&mut world, &mut [&mut upstream], Pace::ANY);
        assert_eq!(upstream.hear(), login);
        upstream.say(&message(b'R', &[0, 0, 0, 0]));
        settle(&mut world, &mut [&mut upstream, &mut client], Pace::ANY);
        assert_eq!(upstream.hear(), b"early");
    }
}

#[test]
fn the_log_tells_the_version_of_each_leg() {
    log_lines::keep();
    let (new, old) = (Suites::all(), Suites::tls12());
    for (legs, suites, told) in [
        (CLIENT, &new, " client_tls=TLSv1.3 login="),
        (UPSTREAM, &old, " upstream_tls=TLSv1.2 login="),
        (BOTH, &new, " client_tls=TLSv1.3 upstream_tls=TLSv1.3 login="),
    ] {
        let mut world = world(legs, suites);
        open(&mut world, legs, suites, Pace::ANY);
        let line = log_lines::take_one(" up ");
        assert!(line.contains(told), "{line}");
    }
}

#[test]
fn scram_s_channel_binding_passes_only_where_both_ends_see_the_same_certificate() {
    let offer = message(
        b'R',
        &[&10u32.to_be_bytes()[..], b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"].concat(),
    );
    for same in [false, true] {
        let suites = Suites::all();
        let theirs = if same { &OURS } else { &THEIRS };
        let mut world = world_with(BOTH, &suites, "", |proxy| {
            proxy.tls = Rc::new(tls(&OURS, theirs, &suites));
        });
        let mut client = client(&mut world, BOTH, &suites, Pace::ANY);
        client.say(&startup(&[("user", "app_user.acme")]));
        settle(&mut world, &mut [&mut client], Pace::ANY);
        let mut upstream = Peer::new(world.upstream());
        upstream.say(b"S");
        upstream.wire.hear();
        upstream.start_server(theirs.server(&suites));
        settle(&mut world, &mut [&mut upstream], Pace::ANY);
        upstream.say(&offer);
        settle(&mut world, &mut [&mut upstream, &mut client], Pace::ANY);
        let password = message(b'R', &3u32.to_be_bytes());
        assert_eq!(client.hear(), if same { offer.clone() } else { password });
    }
}

#[test]
fn an_upstream_that_cannot_prove_itself_is_sent_nothing() {
    log_lines::keep();
    let mallory = Identity::new("db.test");
    let suites = Suites::all();
    let mut world = world(UPSTREAM, &suites);
    let mut client = client(&mut world, UPSTREAM, &suites, Pace::ANY);
    client.say(&startup(&[("user", "app_user.acme")]));
    settle(&mut world, &mut [&mut client], Pace::ANY);
    let mut upstream = Peer::new(world.upstream());
    settle(&mut world, &mut [&mut upstream], Pace::ANY);
    assert_eq!(upstream.hear(), SSL_REQUEST);
    upstream.say(b"S");
    upstream.start_server(mallory.server(&suites));
    settle(&mut world, &mut [&mut upstream, &mut client], Pace::ANY);
    assert_eq!(upstream.hear(), b"");
    assert!(upstream.error.unwrap().contains("alert"), "it is told why");
    assert!(upstream.wire.is_closed());
    assert!(contains(&client.hear(), b"C08001"));
    assert!(log_lines::take_one(" refused ").contains("invalid peer certificate"));
    client.wire.end();
    world.run();
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn an_upstream_that_hangs_up_amid_the_handshake_has_no_tls_for_us() {
    for suites in [Suites::all(), Suites::tls12()] {
        let mut world = world(UPSTREAM, &suites);
        let mut client = client(&mut world, UPSTREAM, &suites, Pace::ANY);
        client.say(&startup(&[("user", "app_user.acme")]));
        settle(&mut world, &mut [&mut client], Pace::ANY);
        let upstream = world.upstream();
        upstream.say(b"S");
        world.run();
        upstream.end();
        settle(&mut world, &mut [&mut client], Pace::ANY);
        assert!(upstream.is_closed());
        assert!(contains(&client.hear(), b"C08001"));
    }
}

#[test]
fn a_client_that_does_not_trust_us_is_gone_and_leaves_nothing() {
    let suites = Suites::all();
    let mut world = world(CLIENT, &suites);
    let mut client = Peer::new(world.client());
    client.say(SSL_REQUEST);
    settle(&mut world, &mut [&mut client], Pace::ANY);
    client.start_client(THEIRS.client(&suites), THEIRS.name());
    settle(&mut world, &mut [&mut client], Pace::ANY);
    assert!(client.error.is_some());
    assert!(client.wire.is_shut());
    client.wire.end();
    world.run();
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_handshake_that_stalls_ends_with_the_login_s_time() {
    let suites = Suites::all();
    for bytes in [0, 1, 5, 100] {
        let mut world = world_with(CLIENT, &suites, "login_timeout = 5s", |_| {});
        let mut client = Peer::new(world.client());
        client.say(SSL_REQUEST);
        settle(&mut world, &mut [&mut client], Pace::ANY);
        client.start_client(OURS.client(&suites), OURS.name());
        let hello = client.take_ciphertext();
        client.wire.say(&hello[..bytes]);
        world.wait(Duration::from_secs(4));
        assert!(!client.wire.is_closed());
        world.wait(Duration::from_secs(2));
        assert!(client.wire.is_closed());
        assert!(!contains(&client.wire.hear(), b"57014"), "nothing can be told");
        assert_eq!(world.status(), NOTHING);
    }
}

#[test]
fn a_client_that_takes_nothing_of_the_handshake_ends_with_the_login_s_time() {
    let suites = Suites::all();
    let mut world = world_with(CLIENT, &suites, "login_timeout = 5s", |_| {});
    let mut client = Peer::new(world.client());
    client.say(SSL_REQUEST);
    settle(&mut world, &mut [&mut client], Pace::ANY);
    client.wire.room(10);
    client.start_client(OURS.client(&suites), OURS.name());
    let hello = client.take_ciphertext();
    client.wire.say(&hello);
    world.wait(Duration::from_secs(6));
    assert!(client.wire.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn an_upstream_handshake_that_stalls_is_refused_in_words() {
    let suites = Suites::all();
    let mut world = world_with(BOTH, &suites, "login_timeout = 5s", |_| {});
    let mut client = client(&mut world, BOTH, &suites, Pace::ANY);
    client.say(&startup(&[("user", "app_user.acme")]));
    settle(&mut world, &mut [&mut client], Pace::ANY);
    let upstream = world.upstream();
    upstream.say(b"S");
    world.wait(Duration::from_secs(6));
    assert!(upstream.is_closed());
    settle(&mut world, &mut [&mut client], Pace::ANY);
    assert!(contains(&client.hear(), b"C57014"), "encrypted");
    assert!(client.hears_the_end() && client.wire.is_shut());
    world.wait(Duration::from_secs(3));
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_refusal_stands_in_tls_with_its_end_and_is_drained_behind() {
    let suites = Suites::all();
    for pace in [Pace::ANY, Pace(1, 1)] {
        let mut world = world(CLIENT, &suites);
        let mut client = client(&mut world, CLIENT, &suites, Pace::ANY);
        client.say(&startup(&[("user", "nobody")]));
        settle(&mut world, &mut [&mut client], pace);
        assert!(contains(&client.hear(), b"C28000"));
        assert!(client.hears_the_end() && client.wire.is_shut());
        client.say(b"said before it was read");
        settle(&mut world, &mut [&mut client], pace);
        assert_eq!(client.wire.unread_bytes(), 0, "unread bytes would reset the client");
        client.close_notify();
        settle(&mut world, &mut [&mut client], pace);
        assert!(client.wire.is_closed());
        assert_eq!(world.status(), NOTHING);
    }
}

#[test]
fn a_refusal_that_is_not_taken_at_once_is_not_cut() {
    let suites = Suites::all();
    let mut world = world(CLIENT, &suites);
    let mut client = client(&mut world, CLIENT, &suites, Pace::ANY);
    client.wire.room(10);
    client.say(&startup(&[("user", "nobody")]));
    client.step(&mut world, Pace(usize::MAX, 10));
    assert!(!client.wire.is_shut());
    client.wire.room(usize::MAX);
    settle(&mut world, &mut [&mut client], Pace::ANY);
    assert!(contains(&client.hear(), b"C28000"));
    assert!(client.hears_the_end() && client.wire.is_shut());
}

#[test]
fn a_refusal_waits_for_a_client_that_has_said_its_last_before_it() {
    let suites = Suites::all();
    let mut world = world(CLIENT, &suites);
    let mut client = client(&mut world, CLIENT, &suites, Pace::ANY);
    client.say(&startup(&[("user", "app_user.acme")]));
    client.say(b"early, so that there is somebody to go on for");
    client.close_notify();
    client.wire.room(10);
    client.step(&mut world, Pace(usize::MAX, 10));
    let (_, upstream) = world.dialled().pop().unwrap();
    upstream.connect(Err(ErrorKind::ConnectionRefused));
    client.step(&mut world, Pace(usize::MAX, 10));
    assert!(!client.wire.is_closed(), "ten bytes are not all");
    client.wire.room(usize::MAX);
    settle(&mut world, &mut [&mut client], Pace::ANY);
    assert!(contains(&client.hear(), b"C57P03"));
    assert!(client.hears_the_end() && client.wire.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn a_cancel_request_goes_through_tls_on_both_legs() {
    let suites = Suites::all();
    let mut world = world(BOTH, &suites);
    let mut client = client(&mut world, BOTH, &suites, Pace::ANY);
    let cancel = [&[0, 0, 0, 16, 4, 210, 22, 46][..], &[0, 0, 0, 42, 1, 2, 3, 4]].concat();
    client.say(&cancel);
    settle(&mut world, &mut [&mut client], Pace::ANY);
    let mut upstream = upstream(&mut world, BOTH, &suites, Pace::ANY);
    assert_eq!(upstream.hear(), cancel);
    assert!(!client.wire.is_closed(), "libpq waits for it");
    upstream.wire.end();
    settle(&mut world, &mut [&mut client], Pace::ANY);
    assert!(client.hears_the_end() && client.wire.is_closed());
    assert_eq!(world.status(), NOTHING);
}

#[test]
fn renewed_certificates_are_shown_to_new_connections_and_old_ones_go_on() {
    let suites = Suites::all();
    let mut world = world(BOTH, &suites);
    let (mut old, mut upstream) = open(&mut world, BOTH, &suites, Pace::ANY);
    // Its TLS has not started yet, but it was accepted before.
    let mut between = Peer::new(world.client());
    let renewed = Identity::new("multigres.test");
    world.proxy.renew_tls(Rc::new(tls(&renewed, &THEIRS, &suites)));
    let mut new = Peer::new(world.client());
    for (peer, trusted) in [(&mut between, &*OURS), (&mut new, &renewed)] {
        peer.say(SSL_REQUEST);
        settle(&mut world, &mut [peer], Pace::ANY);
        peer.start_client(trusted.client(&suites), trusted.name());
        settle(&mut world, &mut [peer], Pace::ANY);
        assert_eq!(peer.error, None);
        let shown = peer.tls().peer_certificates().unwrap();
        assert_eq!(shown, std::slice::from_ref(&trusted.certificate()));
    }
    old.say(b"still there");
    settle(&mut world, &mut [&mut old, &mut upstream], Pace::ANY);
    assert_eq!(upstream.hear(), b"still there");
}

#[test]
fn a_flood_of_handshakes_does_not_keep_a_pipe_waiting() {
    let suites = Suites::all();
    let mut world = world(CLIENT, &suites);
    let (mut piping, upstream) = open(&mut world, CLIENT, &suites, Pace::ANY);
    let mut flood = Vec::new();
    for _ in 0..50 {
        let mut client = Peer::new(world.client());
        client.say(SSL_REQUEST);
        settle(&mut world, &mut [&mut client], Pace::ANY);
        client.start_client(OURS.client(&suites), OURS.name());
        flood.push(client);
    }
    piping.say(b"short");
    let mut events = Vec::new();
    for peer in flood.iter_mut().chain([&mut piping]) {
        let bytes = peer.take_ciphertext();
        peer.wire.say(&bytes);
        events.push(peer.wire.take_event());
    }
    world.turn(events);
    assert_eq!(upstream.wire.hear(), b"short");
    let answered = flood.iter().filter(|client| !client.wire.hear().is_empty()).count();
    assert!(answered > 0 && answered < 10, "{answered} handshakes in one turn");
    assert_eq!(world.sleep, Some(Duration::ZERO), "there is more to do");
    world.run();
    let rest = flood.iter().filter(|client| !client.wire.hear().is_empty()).count();
    assert_eq!(answered + rest, 50);
}
