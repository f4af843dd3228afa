//! What carries the bytes of a model peer's socket: turmoil, or, outside of a simulation, the
//! operating system. Knows nothing of who the peers are.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Waker};

use tokio::io::AsyncWrite;

/// An established stream.
pub enum Carrier {
    /// Of turmoil's: it carries frames.
    Simulated(turmoil::net::TcpStream),
    /// Of the operating system's: it carries what it is given.
    Real(tokio::net::TcpStream),
}

impl From<turmoil::net::TcpStream> for Carrier {
    fn from(stream: turmoil::net::TcpStream) -> Self {
        Carrier::Simulated(stream)
    }
}

impl Carrier {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        if turmoil::in_simulation() {
            return Ok(Carrier::Simulated(turmoil::net::TcpStream::connect(to).await?));
        }
        let stream = tokio::net::TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Carrier::Real(stream))
    }

    /// Its own address.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Carrier::Simulated(stream) => stream.local_addr(),
            Carrier::Real(stream) => stream.local_addr(),
        }
    }

    /// The other side's address.
    ///
    /// # Errors
    /// As getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Carrier::Simulated(stream) => stream.peer_addr(),
            Carrier::Real(stream) => stream.peer_addr(),
        }
    }
}

/// As shutdown(2) with SHUT_WR, which does not wait.
pub(crate) fn shut_down(stream: &mut tokio::net::TcpStream) {
    let _ = Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
}

/// The model PostgreSQL's listener.
pub enum Listener {
    /// On its host.
    Simulated(turmoil::net::TcpListener),
    /// The one that was named to [`outside`].
    Real(tokio::net::TcpListener),
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    /// When somebody else does.
    ///
    /// # Panics
    /// Outside of a simulation when [`outside`] has named none.
    pub async fn bind(port: u16) -> io::Result<Self> {
        if turmoil::in_simulation() {
            let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            return Ok(Listener::Simulated(turmoil::net::TcpListener::bind((any, port)).await?));
        }
        let named = UPSTREAM.take().expect("said before the peers begin");
        named.set_nonblocking(true)?;
        Ok(Listener::Real(tokio::net::TcpListener::from_std(named)?))
    }

    /// Accepts.
    ///
    /// # Errors
    /// As accept(2).
    pub async fn accept(&self) -> io::Result<Carrier> {
        match self {
            Listener::Simulated(listener) => Ok(Carrier::Simulated(listener.accept().await?.0)),
            Listener::Real(listener) => Ok(Carrier::Real(listener.accept().await?.0)),
        }
    }
}

thread_local! {
    static DAEMON: Cell<Option<SocketAddr>> = const { Cell::new(None) };
    static UPSTREAM: Cell<Option<std::net::TcpListener>> = const { Cell::new(None) };
}

/// Says where the daemon is and where upstream listens, for peers that this thread plays outside
/// of a simulation.
pub fn outside(daemon: SocketAddr, upstream: std::net::TcpListener) {
    DAEMON.set(Some(daemon));
    UPSTREAM.set(Some(upstream));
}

/// Where the daemon is.
///
/// # Panics
/// Outside of a simulation when [`outside`] has not said it.
pub fn daemon(port: u16) -> SocketAddr {
    if turmoil::in_simulation() {
        return (turmoil::lookup("daemon"), port).into();
    }
    DAEMON.get().expect("said before the peers begin")
}
