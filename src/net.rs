//! The seam between the event loop and the world: what a stream, a listener and an event are.
//! Knows no operating system; `server` implements it with mio, a simulator with its own network.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A non-blocking byte stream, registered once for edge-triggered events in both directions.
///
/// `WouldBlock` means: wait for an event. A read or write may move fewer bytes than asked for; then
/// the stream is drained or full, as after `WouldBlock`, and an event tells when that changes
/// (epoll(7), "Questions and answers"). The one exception is a read with the end of the stream, or
/// an error, already behind the data: an event with [`Readiness::read_closed`] has told of it or
/// will. (TCP's urgent mark makes a short read too: what stands behind it waits for the next event,
/// which is the sender's own affair, for no driver sends one.) A vectored write may take the first
/// slice alone, whatever room there is, as the one that `io::Write` provides does.
pub trait Stream: io::Read + io::Write {
    /// How the connection attempt ended: `Ok(false)` while it has not.
    ///
    /// # Errors
    /// Why the attempt failed; told once, by this or by a read or a write.
    fn connect_result(&mut self) -> io::Result<bool>;

    /// The address of this end of a connected stream, if it has one: a unix socket does not.
    ///
    /// # Errors
    /// What the operating system says.
    fn local_address(&self) -> io::Result<Option<SocketAddr>>;

    /// Sends the end of the stream behind what has been written; reading goes on.
    ///
    /// # Errors
    /// What the operating system says, when the connection is broken.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

/// Listeners, connections and names.
pub trait Net {
    /// Takes connections.
    type Listener;
    /// One end of a connection; dropped, it is closed and no longer registered.
    type Stream: Stream;

    /// Accepts one connection.
    ///
    /// # Errors
    /// `WouldBlock` when none waits; otherwise what the operating system says.
    fn accept(
        &mut self,
        listener: &mut Self::Listener,
    ) -> io::Result<(Self::Stream, ClientAddress)>;

    /// Starts a connection attempt, to be asked after with [`Stream::connect_result`].
    ///
    /// # Errors
    /// When the attempt cannot even start. `WouldBlock` means: try again a little later.
    fn connect(&mut self, to: &Address) -> io::Result<Self::Stream>;

    /// Asks for the events of a stream, under a token.
    ///
    /// # Errors
    /// What the operating system says.
    fn register(&mut self, stream: &mut Self::Stream, token: Token) -> io::Result<()>;

    /// Starts to look up the addresses of a host name. The answer comes by
    /// [`Proxy::resolved`](crate::proxy::Proxy::resolved); one look-up at a time is under way.
    fn resolve(&mut self, host: &str, port: u16);

    /// Fills this with bytes that nobody can foresee.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    fn fill_random(&mut self, bytes: &mut [u8]) -> io::Result<()>;
}

/// Names one leg of one connection, or a listener, in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub usize);

/// What an event says of a stream: hints, for a read or write has the last word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// There may be something to read.
    pub readable: bool,
    /// There may be room to write; a connection attempt may have ended.
    pub writable: bool,
    /// The end of what can be read has come, or an error: read until it shows.
    pub read_closed: bool,
}

/// Where upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// The unix socket that PostgreSQL makes in `directory` for `port`.
pub fn unix_socket(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAddress {
    /// IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix,
}

impl ClientAddress {
    /// A loopback address, where nobody else can listen in.
    pub fn is_loopback(&self) -> bool {
        match self {
            ClientAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
            ClientAddress::Unix => false,
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientAddress::Tcp(address) => address.fmt(f),
            ClientAddress::Unix => f.write_str("unix"),
        }
    }
}
