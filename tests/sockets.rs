//! The seam on the operating system's own sockets: options, readiness, room to write.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Waker};
use multigres::net::{Address, Net, Readiness, Stream, Token};
use multigres::server::net::{Listener, MioNet, Socket, listen_tcp, readiness};
use socket2::SockRef;

struct World {
    poll: Poll,
    net: MioNet,
}

impl World {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(999)).unwrap());
        let (net, _answers) = MioNet::new(poll.registry().try_clone().unwrap(), waker).unwrap();
        World { poll, net }
    }

    /// A connection: the end that dialled, registered as 1, and the end that was accepted, as 2.
    fn pair(&mut self, listener: &mut Listener, address: &Address) -> (Socket, Socket) {
        self.net.register_listener(listener, Token(0)).unwrap();
        let mut dialled = self.net.connect(address).unwrap();
        self.net.register(&mut dialled, Token(1)).unwrap();
        let mut accepted = loop {
            match self.net.accept(listener) {
                Ok((accepted, _)) => break accepted,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            self.wait();
        };
        self.net.register(&mut accepted, Token(2)).unwrap();
        while !dialled.connect_result().unwrap() {
            self.wait();
        }
        (dialled, accepted)
    }

    fn tcp(&mut self) -> (Socket, Socket) {
        let (mut listener, address) = listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        self.pair(&mut listener, &Address::Tcp(address))
    }

    fn unix(&mut self) -> (Socket, Socket) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut listener = Listener::Unix(mio::net::UnixListener::bind(&path).unwrap());
        self.pair(&mut listener, &Address::Unix(path))
    }

    /// The events that come within a while, at least one.
    fn wait(&mut self) -> Vec<(Token, Readiness)> {
        let events = self.events(Duration::from_secs(20));
        assert!(!events.is_empty(), "no event comes");
        events
    }

    fn events(&mut self, timeout: Duration) -> Vec<(Token, Readiness)> {
        let mut events = Events::with_capacity(16);
        self.poll.poll(&mut events, Some(timeout)).unwrap();
        events.iter().map(|event| (Token(event.token().0), readiness(event))).collect()
    }

    /// What one end reads until its stream ends.
    fn read_to_end(&mut self, socket: &mut Socket) -> Vec<u8> {
        let (mut all, mut part) = (Vec::new(), [0; 65536]);
        loop {
            match socket.read(&mut part) {
                Ok(0) => return all,
                Ok(bytes) => all.extend(&part[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => drop(self.wait()),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn tcp_sockets_send_at_once_and_keep_alive_on_either_side() {
    let mut world = World::new();
    let (dialled, accepted) = world.tcp();
    for socket in [&dialled, &accepted] {
        let Socket::Tcp(stream) = socket else { panic!("not TCP") };
        let socket = SockRef::from(stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(60));
    }
}

type WriteBytes = fn(&mut Socket, &[u8]) -> io::Result<usize>;

/// In two slices, as the records of TLS are.
fn write_sliced(socket: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
    let (first, second) = bytes.split_at(100);
    socket.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
}

#[test]
fn a_writer_that_has_found_no_room_is_told_of_it_later() {
    for unix in [false, true] {
        no_room(unix, |socket, bytes| socket.write(bytes));
        no_room(unix, write_sliced);
    }
}

fn no_room(unix: bool, write: WriteBytes) {
    let mut world = World::new();
    let (mut writer, mut reader) = if unix { world.unix() } else { world.tcp() };
    let bytes = vec![7; 1 << 20];
    let mut written = 0;
    loop {
        match write(&mut writer, &bytes) {
            Ok(some) if some == bytes.len() => written += some,
            // Full now, or an event has come before this looked.
            Ok(some) => {
                written += some;
                break;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    while !world.events(Duration::from_millis(50)).is_empty() {}
    let (mut read, mut part) = (0, vec![0; 1 << 20]);
    while read < written {
        match reader.read(&mut part) {
            Ok(bytes) => read += bytes,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                world.wait();
            }
        }
    }
    let mut told = false;
    while !told {
        told = world.wait().iter().any(|(token, event)| *token == Token(1) && event.writable);
    }
    assert!(write(&mut writer, &bytes).unwrap() > 100);
}

#[test]
fn a_unix_socket_with_room_says_nothing_when_the_other_side_reads() {
    let mut world = World::new();
    let (mut writer, mut reader) = world.unix();
    while !world.events(Duration::from_millis(50)).is_empty() {}
    writer.write_all(b"question").unwrap();
    assert_eq!(reader.read(&mut [0; 100]).unwrap(), 8);
    let events = world.events(Duration::from_millis(200));
    assert!(events.iter().all(|(token, _)| *token != Token(1)), "{events:?}");
}

#[test]
fn a_half_close_is_told_as_one_and_the_other_way_stays_open() {
    for unix in [false, true] {
        let mut world = World::new();
        let (mut dialled, mut accepted) = if unix { world.unix() } else { world.tcp() };
        dialled.write_all(b"last").unwrap();
        dialled.shutdown_write().unwrap();
        let mut told = false;
        while !told {
            told =
                world.wait().iter().any(|(token, event)| *token == Token(2) && event.read_closed);
        }
        assert_eq!(world.read_to_end(&mut accepted), b"last");
        accepted.write_all(b"answer").unwrap();
        drop(accepted);
        assert_eq!(world.read_to_end(&mut dialled), b"answer");
    }
}

#[test]
fn a_connect_that_nobody_accepts_fails() {
    let mut world = World::new();
    let (listener, address) = listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    drop(listener);
    let Ok(mut dialled) = world.net.connect(&Address::Tcp(address)) else { return };
    world.net.register(&mut dialled, Token(1)).unwrap();
    loop {
        match dialled.connect_result() {
            Ok(connected) => assert!(!connected),
            Err(error) => return assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        }
        world.wait();
    }
}

#[test]
fn randomness_comes_from_the_operating_system() {
    let mut world = World::new();
    let mut seen = Vec::new();
    for _ in 0..100 {
        let mut bytes = [0; 18];
        world.net.fill_random(&mut bytes).unwrap();
        assert!(!seen.contains(&bytes));
        seen.push(bytes);
    }
}
