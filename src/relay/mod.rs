//! Moves bytes between the two legs of a connection and its session: login, pipe, half-close, end.
//! Knows nothing of other connections, of time, or of what the bytes mean.
//!
//! [`Relay::pump`] works until nothing moves or the budget is spent. In the login every byte goes
//! through the session. In the pipe a flow reads into one lent buffer and writes from it at once;
//! it reads again only when all of it has gone, so a peer that does not read costs one buffer.

mod buffer;
mod flow;
mod leg_stream;

use std::io;
use std::rc::Rc;

use bytes::Buf;

use crate::net::{Readiness, Stream};
use crate::session::{Action, Leg, Session, Stage};
use crate::tls::Tls;

pub use buffer::BufferPool;
use flow::{Flow, Moved};
use leg_stream::{LegStream, Read};

/// Both legs of one connection with its session.
pub struct Relay<S> {
    tls: Rc<Tls>,
    session: Session,
    client: LegStream<S>,
    upstream: Option<LegStream<S>>,
    /// Client to upstream.
    up: Flow,
    /// Upstream to client.
    down: Flow,
    ending: Option<Ending>,
}

/// What a call of [`Relay::pump`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing moves until an event comes.
    Waiting,
    /// The budget is spent: call again without waiting.
    Unfinished,
    /// An upstream leg is wanted: see [`Relay::attach`].
    Connect,
    /// The connection is at its end: drop it.
    Closed,
}

/// Where a connection stands, as far as its deadline depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Login or cancel: it must end soon.
    Login,
    /// The pipe is open in both directions, or the client has said its last.
    Piping,
    /// Upstream has said its last, and the client has not taken all of it yet.
    Flushing,
    /// The client has been told the last; what it still sends is awaited for a while only.
    Lingering,
}

/// Who ended the pipe, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// End of stream from this leg.
    Closed(Leg),
    /// An error on this leg.
    Failed(Leg, io::ErrorKind),
}

impl<S: Stream> Relay<S> {
    /// A connection whose client leg has just been accepted.
    pub fn new(session: Session, client: S, tls: Rc<Tls>) -> Self {
        Relay {
            tls,
            session,
            client: LegStream::new(client, true),
            upstream: None,
            up: Flow::new(Leg::Client),
            down: Flow::new(Leg::Upstream),
            ending: None,
        }
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, to refuse it from outside. Pump afterwards.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Who ended the pipe first, if it has begun to end.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Bytes moved in the pipe: from the client, from upstream. Early bytes and what upstream said
    /// at the start of the session are not counted.
    pub fn piped_bytes(&self) -> (u64, u64) {
        (self.up.bytes(), self.down.bytes())
    }

    /// Where the connection stands.
    pub fn phase(&self) -> Phase {
        match self.session.stage() {
            Stage::Login | Stage::Cancelling => Phase::Login,
            Stage::Piping if self.down.is_closed() => Phase::Lingering,
            // It has said all, though not all may have been read yet.
            Stage::Piping if self.upstream.as_ref().is_some_and(LegStream::hung_up) => {
                Phase::Flushing
            }
            Stage::Piping => Phase::Piping,
            Stage::Refusing | Stage::Ended => Phase::Lingering,
        }
    }

    /// Gives the upstream leg, whose connection attempt has started.
    pub fn attach(&mut self, upstream: S) {
        self.upstream = Some(LegStream::new(upstream, false));
    }

    /// Takes the upstream leg away after a failed attempt.
    pub fn detach(&mut self) {
        self.upstream = None;
    }

    /// How the connection attempt of the upstream leg goes; `Ok(false)` when it goes on, or when
    /// there is none. The session is told when it is connected.
    ///
    /// # Errors
    /// Why the attempt failed.
    pub fn connect_result(&mut self) -> io::Result<bool> {
        let Some(upstream) = &mut self.upstream else { return Ok(false) };
        let connected = upstream.connect_result()?;
        if connected {
            let is_needed = self.session.needs_address();
            let end = if is_needed { upstream.local_address()? } else { None };
            self.session.connected(end);
        }
        Ok(connected)
    }

    /// Notes what an event says; whether that is news.
    pub fn ready(&mut self, leg: Leg, readiness: Readiness) -> bool {
        match (leg, &mut self.upstream) {
            (Leg::Client, _) => self.client.ready(readiness),
            (Leg::Upstream, Some(upstream)) => upstream.ready(readiness),
            (Leg::Upstream, None) => false,
        }
    }

    /// Moves what can be moved, up to about `budget` bytes in each direction.
    pub fn pump(&mut self, pool: &mut BufferPool, budget: usize) -> Pumped {
        match self.session.stage() {
            Stage::Piping => self.pump_pipe(pool, budget),
            Stage::Login | Stage::Cancelling | Stage::Refusing | Stage::Ended => {
                self.pump_login(pool, budget)
            }
        }
    }

    /// Gives back what the pool has lent.
    pub fn release(&mut self, pool: &mut BufferPool) {
        self.up.release(pool);
        self.down.release(pool);
    }

    fn pump_login(&mut self, pool: &mut BufferPool, budget: usize) -> Pumped {
        let mut left = budget;
        loop {
            self.write_login();
            match self.session.next_action() {
                None => {}
                Some(Action::Connect) => return Pumped::Connect,
                Some(Action::StartTls(_)) => return Pumped::Closed,
                Some(Action::DropUpstream) if mutant!(RefusalCloses) => return Pumped::Closed,
                Some(Action::DropUpstream) => self.upstream = None,
                Some(Action::Pipe) => {
                    self.session.shrink();
                    return self.pump_pipe(pool, left);
                }
                Some(Action::Close) => return Pumped::Closed,
            }
            if left == 0 {
                sometimes!(BudgetSpent);
                return Pumped::Unfinished;
            }
            let client = self.read_login(Leg::Client, pool, &mut left);
            let upstream = self.read_login(Leg::Upstream, pool, &mut left);
            if !client && !upstream {
                return Pumped::Waiting;
            }
        }
    }

    /// Writes what the session has for either leg; its last word is followed by a half-close.
    fn write_login(&mut self) {
        let output = self.session.output(Leg::Upstream);
        if let Some(upstream) = &mut self.upstream
            && !output.is_empty()
        {
            // A failure shows when the leg is read, behind what upstream may still have said.
            let written = upstream.write(output).unwrap_or(output.len());
            output.advance(written);
        }
        let output = self.session.output(Leg::Client);
        if !output.is_empty() {
            match self.client.write(output) {
                Ok(written) => output.advance(written),
                Err(_) => {
                    output.clear();
                    self.session.failed(Leg::Client);
                }
            }
        }
        if self.session.stage() == Stage::Refusing && self.session.output(Leg::Client).is_empty() {
            if !mutant!(RefusalStaysOpen) {
                self.client.shut_down();
            }
            if self.client.read_ended() {
                self.session.ended(Leg::Client);
            }
        }
    }

    /// Feeds the session with one read from a leg; whether there was anything to feed it with.
    fn read_login(&mut self, leg: Leg, pool: &mut BufferPool, left: &mut usize) -> bool {
        let room = self.session.room(leg);
        let stream = match (leg, &mut self.upstream) {
            (Leg::Client, _) => &mut self.client,
            (Leg::Upstream, Some(upstream)) => upstream,
            (Leg::Upstream, None) => return false,
        };
        if room == 0 || !stream.is_readable() {
            return false;
        }
        let mut buffer = pool.lend();
        let space = buffer.space();
        let room = room.min(space.len());
        let moved = match stream.read(&mut space[..room]) {
            Read::Nothing => false,
            Read::Bytes(bytes) => {
                sometimes!(self.session.stage() == Stage::Refusing, RefusedDrained);
                self.session.receive(leg, &space[..bytes]);
                *left = left.saturating_sub(bytes);
                true
            }
            Read::End => {
                self.session.ended(leg);
                true
            }
            Read::Failed(_) => {
                self.session.failed(leg);
                true
            }
        };
        pool.take_back(buffer);
        moved
    }

    fn pump_pipe(&mut self, pool: &mut BufferPool, budget: usize) -> Pumped {
        let upstream = self.upstream.as_mut().expect("the pipe has two ends");
        let client = &mut self.client;
        let ending = &mut self.ending;
        let rest = self.session.output(Leg::Upstream);
        let up = self.up.pump((&mut *client, &mut *upstream), rest, pool, budget, ending);
        if let Some(Ending::Failed(Leg::Client, _)) = ending {
            sometimes!(Abandoned);
            self.down.abandon(pool);
        }
        let rest = self.session.output(Leg::Client);
        let down = self.down.pump((upstream, client), rest, pool, budget, ending);
        let upstream_failed = matches!(ending, Some(Ending::Failed(Leg::Upstream, _)));
        if mutant!(ErrorEndsBoth) && upstream_failed || mutant!(EndEndsBoth) && self.up.is_closed()
        {
            return Pumped::Closed;
        }
        if self.up.is_closed() && self.down.is_closed() {
            Pumped::Closed
        } else if up == Moved::Unfinished || down == Moved::Unfinished {
            Pumped::Unfinished
        } else {
            Pumped::Waiting
        }
    }
}
