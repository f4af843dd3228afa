//! Stories of TLS in the relay, on a network in memory: nothing is lost, altered, kept or believed.

mod end_of_stream;
mod handshake;
mod hostile;
mod log_lines;
mod peer;
mod pipe;
mod system_calls;
mod tls12_records;
mod tls_configs;

use std::net::SocketAddr;
use std::rc::Rc;

use multigres::net;
use multigres::proxy::{Settings, Status};
use multigres::session::{ClientTls, UpstreamTls};

use peer::{Pace, Peer, settle};
use testing::network::World;
use testing::session::{message, startup};
use tls_configs::{OURS, Suites, THEIRS, tls};

const NOTHING: Status =
    Status { connections: 0, piping: 0, deadlines: 0, run_queue: 0, buffers: 0 };

const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];

/// Which legs have TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Legs {
    client: bool,
    upstream: bool,
}

const CLIENT: Legs = Legs { client: true, upstream: false };
const UPSTREAM: Legs = Legs { client: false, upstream: true };
const BOTH: Legs = Legs { client: true, upstream: true };

/// A daemon with TLS on these legs.
fn world(legs: Legs, suites: &Suites) -> World {
    world_with(legs, suites, "", |_| {})
}

fn world_with(
    legs: Legs,
    suites: &Suites,
    settings: &str,
    change: impl FnOnce(&mut Settings),
) -> World {
    let client = net::ClientAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 40000)));
    World::with(settings, Some(client), |proxy| {
        proxy.tls = Rc::new(tls(&OURS, &THEIRS, suites));
        let session = Rc::make_mut(&mut proxy.session);
        session.client_tls = if legs.client { ClientTls::Required } else { ClientTls::Disabled };
        session.upstream_tls =
            if legs.upstream { UpstreamTls::Required } else { UpstreamTls::Disabled };
        change(proxy);
    })
}

/// A client, behind its handshake if it has TLS.
fn client(world: &mut World, legs: Legs, suites: &Suites, pace: Pace) -> Peer {
    let mut client = Peer::new(world.client());
    if legs.client {
        client.say(SSL_REQUEST);
        settle(world, &mut [&mut client], pace);
        assert_eq!(client.hear(), b"S");
        client.start_client(OURS.client(suites), OURS.name());
        settle(world, &mut [&mut client], pace);
        assert!(!client.tls().is_handshaking());
    }
    client
}

/// The upstream that was dialled last, behind its handshake if it has TLS.
fn upstream(world: &mut World, legs: Legs, suites: &Suites, pace: Pace) -> Peer {
    let mut upstream = Peer::new(world.upstream());
    settle(world, &mut [&mut upstream], pace);
    if legs.upstream {
        assert_eq!(upstream.hear(), SSL_REQUEST);
        upstream.say(b"S");
        upstream.start_server(THEIRS.server(suites));
        settle(world, &mut [&mut upstream], pace);
        assert!(!upstream.tls().is_handshaking(), "{:?}", upstream.error);
    }
    upstream
}

/// An open pipe: a bypass login comes to it with AuthenticationOk alone.
fn open(world: &mut World, legs: Legs, suites: &Suites, pace: Pace) -> (Peer, Peer) {
    let login = startup(&[("user", "postgres")]);
    let mut client = client(world, legs, suites, pace);
    client.say(&login);
    settle(world, &mut [&mut client], pace);
    let mut upstream = upstream(world, legs, suites, pace);
    assert_eq!(upstream.hear(), login);
    let ok = message(b'R', &[0, 0, 0, 0]);
    upstream.say(&ok);
    settle(world, &mut [&mut upstream, &mut client], pace);
    assert_eq!(client.hear(), ok);
    let status = world.status();
    assert_eq!((status.run_queue, status.buffers), (0, 0));
    (client, upstream)
}

/// An open pipe in a world of its own.
fn pipe(legs: Legs) -> (World, Peer, Peer) {
    let mut world = world(legs, &Suites::all());
    let (client, upstream) = open(&mut world, legs, &Suites::all(), Pace::ANY);
    (world, client, upstream)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Bytes that are nowhere the same.
fn noise(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(next).collect()
}
