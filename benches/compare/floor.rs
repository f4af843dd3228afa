//! The least that a process in the middle can do: bytes from one socket to another and back, with
//! one wait, one read and one write for what comes at once. What Multigres is measured by.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

/// Listens on this port and copies until it is ended.
pub fn run(port: u16, upstream: u16) -> io::Result<()> {
    let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, upstream));
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(256);
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut scratch = vec![0; SCRATCH_BYTES];
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((client, _)) = listener.accept() {
                    let place = pairs.iter().position(Option::is_none).unwrap_or(pairs.len());
                    let pair = Pair::new(client, upstream, place, &poll)?;
                    match pairs.get_mut(place) {
                        Some(free) => *free = Some(pair),
                        None => pairs.push(Some(pair)),
                    }
                }
                continue;
            }
            let (place, end) = (event.token().0 / 2, event.token().0 % 2);
            let Some(pair) = pairs[place].as_mut() else { continue };
            let mut is_open = true;
            if event.is_writable() && !pair.unwritten[end].is_empty() {
                is_open = pair.flush(end, &mut scratch);
            }
            if is_open && event.is_readable() {
                is_open = pair.copy(end, &mut scratch);
            }
            if !is_open {
                pairs[place] = None;
            }
        }
    }
}

struct Pair {
    ends: [TcpStream; 2],
    /// What each end has not taken yet; the other is not read from until it has.
    unwritten: [Vec<u8>; 2],
}

impl Pair {
    fn new(client: TcpStream, upstream: SocketAddr, at: usize, poll: &Poll) -> io::Result<Pair> {
        let mut ends = [client, TcpStream::connect(upstream)?];
        for (end, stream) in ends.iter_mut().enumerate() {
            stream.set_nodelay(true)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(stream, Token(2 * at + end), both)?;
        }
        Ok(Pair { ends, unwritten: Default::default() })
    }

    /// From this end to the other, until there is no more or the other is full. False: it is over.
    fn copy(&mut self, from: usize, scratch: &mut [u8]) -> bool {
        let to = 1 - from;
        while self.unwritten[to].is_empty() {
            let read = match self.ends[from].read(scratch) {
                Ok(0) => return false,
                Ok(read) => read,
                Err(error) => return is_later(&error),
            };
            let written = match self.ends[to].write(&scratch[..read]) {
                Ok(written) => written,
                Err(error) if is_later(&error) => 0,
                Err(_) => return false,
            };
            self.unwritten[to].extend_from_slice(&scratch[written..read]);
            // A read that does not fill the buffer has emptied the socket.
            if read < scratch.len() {
                break;
            }
        }
        true
    }

    /// What this end has not taken, and then what the other has said meanwhile.
    fn flush(&mut self, to: usize, scratch: &mut [u8]) -> bool {
        match self.ends[to].write(&self.unwritten[to]) {
            Ok(written) => self.unwritten[to].drain(..written),
            Err(error) => return is_later(&error),
        };
        self.copy(1 - to, scratch)
    }
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted)
}

const LISTENER: Token = Token(usize::MAX);
const SCRATCH_BYTES: usize = 64 * 1024;
