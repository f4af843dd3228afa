//! The operating system's sockets on loopback, as the daemon uses them.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mio::Events;
use multigres::net::{Address, Readiness, Token};
use multigres::server::net::{Listener, LookupAnswer, MioNet, listen_tcp, readiness};
use socket2::{Domain, SockRef, Socket, Type};

use crate::stage::{End, Far, LISTENER, Stage, World};

/// Sockets on loopback.
pub struct Real {
    poll: mio::Poll,
    net: MioNet,
    _answers: Receiver<LookupAnswer>,
    near: Option<SocketAddr>,
    far: TcpListener,
    /// Bound, so that nobody else gets its port, and not listening.
    nowhere: Socket,
    stalled: Option<TcpListener>,
    /// Takes the only place that the stalled listener has.
    in_the_way: Option<TcpStream>,
}

/// A blocking socket.
pub struct Std(TcpStream);

/// Plays a story.
pub fn play(story: impl AsyncFnOnce(&mut Stage<Real>)) {
    let mut stage = Stage::new(Real::new());
    let story = pin!(story(&mut stage));
    let played = story.poll(&mut Context::from_waker(Waker::noop()));
    assert_eq!(played, Poll::Ready(()), "all calls block here");
}

impl Real {
    fn new() -> Self {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER).unwrap());
        let (net, answers) = MioNet::new(poll.registry().try_clone().unwrap(), waker).unwrap();
        let far = TcpListener::bind(ANY_PORT).unwrap();
        SockRef::from(&far).set_read_timeout(Some(PATIENCE)).unwrap();
        Real {
            poll,
            net,
            _answers: answers,
            near: None,
            far,
            nowhere: bound(),
            stalled: None,
            in_the_way: None,
        }
    }

    fn poll(&mut self, timeout: Duration) -> Vec<(Token, Readiness)> {
        let mut events = Events::with_capacity(16);
        self.poll.poll(&mut events, Some(timeout)).unwrap();
        events.iter().map(|event| (Token(event.token().0), readiness(event))).collect()
    }
}

impl World for Real {
    type Net = MioNet;
    type Far = Std;

    fn net(&mut self) -> &mut MioNet {
        &mut self.net
    }

    async fn listen(&mut self) -> Listener {
        let (mut listener, address) = listen_tcp(ANY_PORT.into()).unwrap();
        self.net.register_listener(&mut listener, LISTENER).unwrap();
        self.near = Some(address);
        listener
    }

    fn is_exact(&self) -> bool {
        true
    }

    async fn events(&mut self) -> Vec<(Token, Readiness)> {
        let events = self.poll(PATIENCE);
        assert!(!events.is_empty(), "no event comes");
        events
    }

    async fn lull(&mut self) -> Vec<(Token, Readiness)> {
        self.poll(LULL)
    }

    async fn dial(&mut self) -> Result<Std, ErrorKind> {
        let stream = TcpStream::connect(self.near.unwrap()).map_err(|error| error.kind())?;
        Ok(Std::new(stream))
    }

    fn address(&self) -> Address {
        Address::Tcp(self.far.local_addr().unwrap())
    }

    async fn answered(&mut self) -> Std {
        Std::new(self.far.accept().unwrap().0)
    }

    fn nowhere(&self) -> Address {
        Address::Tcp(self.nowhere.local_addr().unwrap().as_socket().unwrap())
    }

    async fn stalled(&mut self) -> Address {
        let socket = bound();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // One may wait; who comes behind is not answered and tries again after a second.
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        self.in_the_way = Some(TcpStream::connect(address).unwrap());
        self.stalled = Some(listener);
        Address::Tcp(address)
    }

    async fn unstall(&mut self) {
        self.stalled.as_ref().unwrap().accept().unwrap();
    }

    async fn answered_late(&mut self) -> Std {
        Std::new(self.stalled.as_ref().unwrap().accept().unwrap().0)
    }
}

impl Std {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Std(stream)
    }
}

impl Far for Std {
    async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    async fn write_until_broken(&mut self) -> ErrorKind {
        loop {
            if let Err(error) = self.0.write(b"more") {
                return error.kind();
            }
        }
    }

    async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    async fn read_to_end(&mut self) -> (Vec<u8>, End) {
        let mut bytes = Vec::new();
        match self.0.read_to_end(&mut bytes).map_err(|error| error.kind()) {
            Ok(_) => (bytes, End::Eof),
            Err(ErrorKind::ConnectionReset) => (bytes, End::Reset),
            Err(error) => panic!("{error}"),
        }
    }

    async fn await_data(&mut self) {
        assert!(self.0.peek(&mut [0]).unwrap() > 0);
    }

    async fn half_close(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    async fn close(self) {
        drop(self.0);
    }

    async fn reset(self) {
        SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
        drop(self.0);
    }
}

fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(ANY_PORT).into()).unwrap();
    socket
}

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
const WAKER: mio::Token = mio::Token(usize::MAX >> 1);
const PATIENCE: Duration = Duration::from_secs(20);
const LULL: Duration = Duration::from_millis(30);
