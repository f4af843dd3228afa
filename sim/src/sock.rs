//! A socket as a kernel gives it, on top of turmoil's: byte windows, coalescing, FIN and RST in
//! their places. Knows nothing of who uses it.
//!
//! Turmoil carries whole segments; reads of it never coalesce, writes of it are never partial, a
//! reset of it overtakes data, and a blocked writer does not hear of it. So it carries frames here
//! and its own ends are never used: a stream of turmoil's stays open until its host stops, and
//! what the two sides see of FIN, RST and room comes in frames, in order, with turmoil's latency.
//!
//! Outside of a simulation a real kernel does all that, and what stands here only passes it on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use crate::carrier::{self, Carrier};

/// The kernel's half of a socket.
pub struct Kernel {
    stream: Carrier,
    /// Who has pumped last.
    waker: Waker,
    /// An incomplete frame.
    frame: Vec<u8>,
    received: VecDeque<u8>,
    fin_received: bool,
    fin_sent: bool,
    reset: Reset,
    /// What has come and has not been told.
    arrived: Arrived,
    /// Bytes that may be sent before the peer has read some.
    room: usize,
    window: usize,
    /// Bytes that were read and not yet told to the peer.
    untold: usize,
    /// Nobody uses the socket any more: data that comes is answered with RST.
    orphaned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reset {
    None,
    /// The next call tells.
    Pending,
    Told,
}

/// What has come since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Data.
    pub data: bool,
    /// End of stream or reset.
    pub end: bool,
    /// Room to write where there was none.
    pub room: bool,
}

impl Kernel {
    /// A socket over an established stream; `window` bytes may be under way in each direction.
    pub fn new(stream: impl Into<Carrier>, window: usize) -> Self {
        Kernel {
            stream: stream.into(),
            waker: Waker::noop().clone(),
            frame: Vec::new(),
            received: VecDeque::new(),
            fin_received: false,
            fin_sent: false,
            reset: Reset::None,
            arrived: Arrived::default(),
            room: window,
            window,
            untold: 0,
            orphaned: false,
        }
    }

    /// Takes in what the network has brought, and asks to be woken for more.
    pub fn pump(&mut self, cx: &mut Context<'_>) -> Arrived {
        let mut space = [0; 4096];
        while let Carrier::Simulated(stream) = &mut self.stream {
            let mut buffer = ReadBuf::new(&mut space);
            match Pin::new(stream).poll_read(cx, &mut buffer) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.frame.extend_from_slice(buffer.filled());
                    self.take_frames();
                }
                // Only a host that has crashed ends turmoil's own stream.
                Poll::Ready(_) => {
                    self.be_reset();
                    break;
                }
            }
        }
        self.pump_real(cx);
        std::mem::take(&mut self.arrived)
    }

    /// Reads ahead, within the window: more stays in the kernel and holds the other side back.
    fn pump_real(&mut self, cx: &mut Context<'_>) {
        let mut space = [0; 4096];
        while let Carrier::Real(stream) = &self.stream
            && !self.is_ended()
            && self.received.len() < self.window
            && stream.poll_read_ready(cx).is_ready()
        {
            match stream.try_read(&mut space) {
                Ok(0) => {
                    self.fin_received = true;
                    self.arrived.end = true;
                }
                Ok(count) => {
                    self.received.extend(&space[..count]);
                    self.arrived.data = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.be_reset(),
            }
        }
        if let Carrier::Real(stream) = &self.stream {
            self.waker.clone_from(cx.waker());
            self.arrived.room |= stream.poll_write_ready(cx).is_ready();
        }
    }

    fn take_frames(&mut self) {
        while let Some(&[kind, a, b, c, d]) = self.frame.get(..FRAME_HEADER_BYTES) {
            let count = u32::from_be_bytes([a, b, c, d]) as usize;
            let body = if kind == DATA { count } else { 0 };
            if self.frame.len() < FRAME_HEADER_BYTES + body {
                return;
            }
            let frame: Vec<u8> = self.frame.drain(..FRAME_HEADER_BYTES + body).collect();
            match kind {
                DATA if self.orphaned => self.send(RST, 0, &[]),
                DATA if self.reset == Reset::None => {
                    self.received.extend(&frame[FRAME_HEADER_BYTES..]);
                    self.arrived.data = true;
                }
                DATA => {}
                ROOM => {
                    self.arrived.room |= self.room == 0;
                    self.room += count;
                }
                FIN => {
                    self.fin_received = true;
                    self.arrived.end = true;
                }
                RST => self.be_reset(),
                other => unreachable!("a frame of kind {other}"),
            }
        }
    }

    /// Behind the end of the stream no read tells of a reset, and a write says `BrokenPipe`.
    fn be_reset(&mut self) {
        if self.reset == Reset::None {
            self.reset = if self.fin_received { Reset::Told } else { Reset::Pending };
            self.arrived.end = true;
            self.arrived.room = true;
        }
    }

    /// A failure to send means that the peer's host is gone, which a read will tell.
    fn send(&mut self, kind: u8, count: usize, body: &[u8]) {
        let stream = match &mut self.stream {
            Carrier::Simulated(stream) => stream,
            Carrier::Real(stream) => {
                match kind {
                    FIN => carrier::shut_down(stream),
                    RST => drop(stream.set_zero_linger()),
                    _ => {}
                }
                return;
            }
        };
        let mut frame = vec![kind];
        frame.extend_from_slice(&(count as u32).to_be_bytes());
        frame.extend_from_slice(body);
        match stream.try_write(&frame) {
            Ok(sent) => assert_eq!(sent, frame.len(), "turmoil takes a segment whole"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                unreachable!("turmoil's own window is larger than any run")
            }
            Err(_) => self.be_reset(),
        }
    }

    /// As recv(2): what stands before the end, the end, or `WouldBlock`.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = into.len().min(self.received.len());
        if count > 0 {
            for (slot, byte) in into.iter_mut().zip(self.received.drain(..count)) {
                *slot = byte;
            }
            self.untold += count;
            if self.untold * 2 >= self.window || self.received.is_empty() {
                let told = std::mem::take(&mut self.untold);
                self.send(ROOM, told, &[]);
            }
            return Ok(count);
        }
        match self.reset {
            Reset::Pending => {
                self.reset = Reset::Told;
                Err(ErrorKind::ConnectionReset.into())
            }
            Reset::Told => Ok(0),
            Reset::None if self.fin_received || into.is_empty() => Ok(0),
            Reset::None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// As send(2): as much as there is room for.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.reset {
            Reset::Pending => {
                self.reset = Reset::Told;
                return Err(ErrorKind::ConnectionReset.into());
            }
            Reset::Told => return Err(ErrorKind::BrokenPipe.into()),
            Reset::None if self.fin_sent => return Err(ErrorKind::BrokenPipe.into()),
            Reset::None => {}
        }
        if let Carrier::Real(stream) = &self.stream {
            let written = stream.try_write(bytes);
            if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                // Only a poll that finds no room is told of it later.
                self.waker.wake_by_ref();
            }
            return written;
        }
        let count = bytes.len().min(self.room).min(FRAME_BODY_BYTES_MAX);
        if count == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.room -= count;
        self.send(DATA, count, &bytes[..count]);
        Ok(count)
    }

    /// What SO_ERROR and getpeername(2) say: whether there is a connection.
    pub fn connect_result(&mut self) -> io::Result<bool> {
        if self.reset == Reset::Pending {
            self.reset = Reset::Told;
            return Err(ErrorKind::ConnectionReset.into());
        }
        Ok(self.reset == Reset::None)
    }

    /// Its own address, as getsockname(2).
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// As shutdown(2) with SHUT_WR.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        let has_ended = self.fin_sent && self.fin_received;
        if self.reset != Reset::None || has_ended {
            return Err(ErrorKind::NotConnected.into());
        }
        if !std::mem::replace(&mut self.fin_sent, true) {
            self.send(FIN, 0, &[]);
        }
        Ok(())
    }

    /// Breaks the connection on both sides, as a firewall does.
    pub fn break_off(&mut self) {
        if self.reset == Reset::None {
            self.send(RST, 0, &[]);
            self.be_reset();
        }
    }

    /// As close(2): FIN, or RST when there is unread data.
    fn orphan(&mut self, linger: Linger) {
        self.orphaned = true;
        if self.reset != Reset::None {
            return;
        }
        if linger == Linger::Reset || !self.received.is_empty() {
            self.send(RST, 0, &[]);
        } else if !self.fin_sent {
            self.fin_sent = true;
            self.send(FIN, 0, &[]);
        }
    }

    /// There is something to read, be it the end.
    pub fn is_readable(&self) -> bool {
        !self.received.is_empty() || self.is_ended()
    }

    /// The end of what can be read has come.
    pub fn is_ended(&self) -> bool {
        self.fin_received || self.reset != Reset::None
    }

    /// A write would not block.
    pub fn is_writable(&self) -> bool {
        self.room > 0 || self.fin_sent || self.reset != Reset::None
    }

    /// What could be read at once.
    pub fn peek(&self) -> impl Iterator<Item = u8> {
        self.received.iter().copied()
    }

    /// Bytes that could be read at once.
    pub fn unread(&self) -> usize {
        self.received.len()
    }
}

/// How a socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Linger {
    Default,
    /// As SO_LINGER with a time of zero.
    Reset,
}

/// Sockets of a host that nobody uses any more; the kernel still answers for them.
#[derive(Clone, Default)]
pub struct Orphans(Rc<RefCell<(Vec<Kernel>, Option<Waker>)>>);

impl Orphans {
    /// Closes a socket.
    pub fn take_in(&self, kernel: Kernel) {
        self.close(kernel, Linger::Default);
    }

    /// Closes a socket with a reset.
    pub fn reset(&self, kernel: Kernel) {
        self.close(kernel, Linger::Reset);
    }

    fn close(&self, mut kernel: Kernel, linger: Linger) {
        if let Carrier::Real(_) = kernel.stream {
            return kernel.orphan(linger);
        }
        if !turmoil::in_simulation() {
            return;
        }
        kernel.orphan(linger);
        let mut inner = self.0.borrow_mut();
        inner.0.push(kernel);
        if let Some(waker) = inner.1.take() {
            waker.wake();
        }
    }

    /// Looks after all of them.
    pub fn pump(&self, cx: &mut Context<'_>) {
        let mut inner = self.0.borrow_mut();
        for kernel in &mut inner.0 {
            kernel.pump(cx);
        }
        inner.1 = Some(cx.waker().clone());
    }

    /// Looks after them until the host stops.
    pub async fn keep(self) {
        poll_fn(|cx| {
            self.pump(cx);
            Poll::<()>::Pending
        })
        .await;
    }
}

/// A socket of a model peer.
pub struct Sock {
    kernel: Option<Kernel>,
    orphans: Orphans,
}

impl Sock {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(to: SocketAddr, window: usize, orphans: &Orphans) -> io::Result<Self> {
        let stream = Carrier::connect(to).await?;
        Ok(Sock::new(stream, window, orphans))
    }

    /// A socket over an accepted stream.
    pub fn new(stream: impl Into<Carrier>, window: usize, orphans: &Orphans) -> Self {
        Sock { kernel: Some(Kernel::new(stream, window)), orphans: orphans.clone() }
    }

    /// Its own address.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.kernel.as_ref().expect("open until it is dropped").stream.local_addr()
    }

    /// The other side's address.
    ///
    /// # Errors
    /// As getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.kernel.as_ref().expect("open until it is dropped").stream.peer_addr()
    }

    /// The kernel's half.
    pub fn kernel(&mut self) -> &mut Kernel {
        self.kernel.as_mut().expect("open until it is dropped")
    }

    /// Reads, waiting for the first byte.
    ///
    /// # Errors
    /// When the connection was reset.
    pub async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        poll_fn(|cx| {
            self.kernel().pump(cx);
            ready(self.kernel().read(into))
        })
        .await
    }

    /// Writes, waiting for room.
    ///
    /// # Errors
    /// When the connection was reset.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| {
            self.kernel().pump(cx);
            ready(self.kernel().write(bytes))
        })
        .await
    }

    /// Closes with a reset.
    pub fn reset(mut self) {
        if let Some(kernel) = self.kernel.take() {
            self.orphans.close(kernel, Linger::Reset);
        }
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        if let Some(kernel) = self.kernel.take() {
            self.orphans.close(kernel, Linger::Default);
        }
    }
}

fn ready(result: io::Result<usize>) -> Poll<io::Result<usize>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

const DATA: u8 = 0;
const FIN: u8 = 1;
const RST: u8 = 2;
const ROOM: u8 = 3;
const FRAME_HEADER_BYTES: usize = 5;
const FRAME_BODY_BYTES_MAX: usize = 16 * 1024;
