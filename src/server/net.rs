//! The seam implemented with mio: TCP and unix sockets, and a thread that looks up host names.
//! Knows nothing of the protocol or of connections as the loop sees them.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use mio::event::{Event, Source};
use mio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use mio::{Interest, Registry, Waker};
use socket2::{SockRef, TcpKeepalive};

use crate::net::{Address, ClientAddress, Net, Readiness, Stream, Token};

/// A non-blocking socket.
pub enum Socket {
    /// TCP, without delay and with keepalive.
    Tcp(TcpStream),
    /// A unix stream socket.
    Unix(UnixSocket),
}

/// A unix stream socket. The kernel reports room to write in it whenever the other side has read,
/// which would wake the loop for nothing after each message: it is asked to only once a write has
/// found no room.
pub struct UnixSocket {
    stream: UnixStream,
    registered: Option<(Rc<Registry>, mio::Token)>,
    reports_room: bool,
}

impl UnixSocket {
    fn new(stream: UnixStream) -> Self {
        UnixSocket { stream, registered: None, reports_room: false }
    }

    /// Asks for the report when not all of the bytes could be written.
    fn note_room(&mut self, written: io::Result<usize>, bytes: usize) -> io::Result<usize> {
        if !matches!(&written, Ok(written) if *written == bytes) {
            self.report_room()?;
        }
        written
    }

    /// A change of interest makes the kernel look again, so no room is missed.
    fn report_room(&mut self) -> io::Result<()> {
        match &self.registered {
            Some((registry, token)) if !self.reports_room => {
                self.reports_room = true;
                registry.reregister(&mut self.stream, *token, BOTH)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// A listening socket.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix stream socket.
    Unix(UnixListener),
}

/// The operating system's network.
pub struct MioNet {
    registry: Rc<Registry>,
    lookups: Sender<(String, u16)>,
}

/// What a look-up has found, or why it found nothing.
pub type LookupAnswer = Result<Vec<Address>, String>;

impl MioNet {
    /// Sockets will be registered with `registry`. `waker` wakes the loop when the receiver has an
    /// answer to [`Net::resolve`].
    ///
    /// # Errors
    /// When the thread for look-ups cannot be started.
    pub fn new(
        registry: Registry,
        waker: Arc<Waker>,
    ) -> io::Result<(Self, Receiver<LookupAnswer>)> {
        let (lookups, questions) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        thread::Builder::new()
            .name("resolver".into())
            .spawn(move || answer_lookups(&questions, &answer, &waker))?;
        Ok((MioNet { registry: Rc::new(registry), lookups }, answers))
    }

    /// Registers a listener for its connections.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn register_listener(&self, listener: &mut Listener, token: Token) -> io::Result<()> {
        let source: &mut dyn Source = match listener {
            Listener::Tcp(listener) => listener,
            Listener::Unix(listener) => listener,
        };
        self.registry.register(source, mio::Token(token.0), Interest::READABLE)
    }
}

/// Ends when either end of the channels is gone.
fn answer_lookups(
    questions: &Receiver<(String, u16)>,
    answers: &Sender<LookupAnswer>,
    waker: &Waker,
) {
    while let Ok((host, port)) = questions.recv() {
        let answer = (host.as_str(), port)
            .to_socket_addrs()
            .map(|found| found.map(Address::Tcp).collect())
            .map_err(|error| error.to_string());
        if answers.send(answer).is_err() || waker.wake().is_err() {
            return;
        }
    }
}

/// What an event of mio's means to the loop.
pub fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable(),
        writable: event.is_writable() || event.is_write_closed() || event.is_error(),
        read_closed: event.is_read_closed() || event.is_error(),
    }
}

impl Net for MioNet {
    type Listener = Listener;
    type Stream = Socket;

    fn accept(&mut self, listener: &mut Listener) -> io::Result<(Socket, ClientAddress)> {
        match listener {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((Socket::Tcp(stream), ClientAddress::Tcp(peer)))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                Ok((Socket::Unix(UnixSocket::new(stream)), ClientAddress::Unix))
            }
        }
    }

    fn connect(&mut self, to: &Address) -> io::Result<Socket> {
        match to {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(*address)?;
                set_options(&SockRef::from(&stream));
                Ok(Socket::Tcp(stream))
            }
            Address::Unix(path) => Ok(Socket::Unix(UnixSocket::new(UnixStream::connect(path)?))),
        }
    }

    fn register(&mut self, stream: &mut Socket, token: Token) -> io::Result<()> {
        let token = mio::Token(token.0);
        match stream {
            Socket::Tcp(stream) => self.registry.register(stream, token, BOTH),
            Socket::Unix(socket) => {
                socket.registered = Some((self.registry.clone(), token));
                self.registry.register(&mut socket.stream, token, Interest::READABLE)
            }
        }
    }

    fn resolve(&mut self, host: &str, port: u16) {
        let asked = self.lookups.send((host.to_owned(), port));
        assert!(asked.is_ok(), "the resolver thread lives as long as the loop");
    }

    fn fill_random(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(io::Error::other)
    }
}

impl Stream for Socket {
    fn connect_result(&mut self) -> io::Result<bool> {
        let (error, peer) = match self {
            Socket::Tcp(stream) => (stream.take_error()?, stream.peer_addr().map(drop)),
            Socket::Unix(socket) => {
                (socket.stream.take_error()?, socket.stream.peer_addr().map(drop))
            }
        };
        match (error, peer) {
            (Some(error), _) => Err(error),
            (None, Ok(())) => Ok(true),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            (None, Err(error)) => Err(error),
        }
    }

    fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Socket::Tcp(stream) => stream.local_addr().map(Some),
            Socket::Unix(_) => Ok(None),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket.stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.read(buffer),
            Socket::Unix(socket) => socket.stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(buffer),
            Socket::Unix(socket) => {
                let written = socket.stream.write(buffer);
                socket.note_room(written, buffer.len())
            }
        }
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write_vectored(slices),
            Socket::Unix(socket) => {
                let written = socket.stream.write_vectored(slices);
                socket.note_room(written, slices.iter().map(|slice| slice.len()).sum())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A chain of small messages must not wait for delayed ACKs, and an idle session whose host has
/// vanished must be noticed. A socket that takes no options is as good as broken, which its first
/// use will tell. What is accepted inherits the listener's.
fn set_options(socket: &SockRef<'_>) {
    let _ = socket.set_tcp_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL);
    let _ = socket.set_tcp_keepalive(&keepalive);
}

/// Binds a TCP listener. IPv6 sockets take IPv6 alone, so that both wildcards can be bound.
///
/// # Errors
/// What the operating system says.
pub fn listen_tcp(address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    set_options(&SockRef::from(&socket));
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into());
    let bound = listener.local_addr()?;
    Ok((Listener::Tcp(listener), bound))
}

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The kernel cuts it down to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
