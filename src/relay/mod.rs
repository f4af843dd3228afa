//! Moves bytes between the two legs of a connection and its session: login, pipe, half-close, end.
//! Knows nothing of other connections, of time, or of what the bytes mean.
//!
//! [`Relay::pump`] works until nothing moves or the budget is spent. In the login every byte goes
//! through the session. In the pipe a flow reads into one lent buffer and writes from it at once;
//! it reads again only when all of it has gone, so a peer that does not read costs one buffer.
//! TLS stands between a leg's stream and either of them: they see plaintext.

mod buffer;
mod flow;
mod leg_stream;
mod pipe;
mod tls_stream;
mod transport;

use std::io::{self, ErrorKind};
use std::rc::Rc;

use bytes::{Buf, Bytes};

use crate::net::{Readiness, Stream};
use crate::session::{Action, Handshake, Leg, Session, Stage};
use crate::tls::{ALPN, Tls, end_point};

pub use buffer::BufferPool;
pub use flow::Ending;

use flow::Moved;
use leg_stream::{Closure, Read};
use pipe::Pipe;
use transport::Transport;

/// Both legs of one connection with its session.
pub struct Relay<S> {
    tls: Rc<Tls>,
    session: Session,
    client: Transport<S>,
    upstream: Option<Transport<S>>,
    pipe: Pipe,
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

/// What a connection waits for, as far as its deadline depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaiting {
    /// The end of a login or a cancel, which must come soon.
    Login,
    /// Bytes for an open pipe; the client may have said its last.
    Traffic,
    /// That the client takes the rest of what upstream has said: upstream has ended.
    LastBytes,
    /// The client's end: it has been told everything, and has a little time for it.
    ClientEnd,
}

impl<S: Stream> Relay<S> {
    /// A connection whose client leg has just been accepted.
    pub fn new(session: Session, client: S, tls: Rc<Tls>) -> Self {
        Relay {
            tls,
            session,
            client: Transport::new(client, true),
            upstream: None,
            pipe: Pipe::new(),
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
        self.pipe.ending()
    }

    /// Bytes moved in the pipe: from the client, from upstream. Early bytes and what upstream said
    /// at the start of the session are not counted.
    pub fn piped_bytes(&self) -> (u64, u64) {
        self.pipe.bytes()
    }

    /// Grows with whatever the client takes.
    pub fn taken_bytes(&self) -> u64 {
        self.pipe.taken_bytes() + self.client.ciphertext_bytes()
    }

    /// The TLS version of a leg, for the log; `None` without TLS.
    pub fn tls_version(&self, leg: Leg) -> Option<&'static str> {
        self.leg(leg)?.tls_version()
    }

    /// Why TLS on a leg is broken, for the log.
    pub fn tls_failure(&self, leg: Leg) -> Option<&str> {
        self.leg(leg)?.tls_failure()
    }

    fn leg(&self, leg: Leg) -> Option<&Transport<S>> {
        match leg {
            Leg::Client => Some(&self.client),
            Leg::Upstream => self.upstream.as_ref(),
        }
    }

    /// What the connection waits for.
    pub fn awaiting(&self) -> Awaiting {
        match self.session.stage() {
            Stage::Login | Stage::Cancelling => Awaiting::Login,
            Stage::Piping if self.pipe.is_client_told() => Awaiting::ClientEnd,
            // It has said all, though not all may have been read yet.
            Stage::Piping if self.upstream.as_ref().is_some_and(Transport::hung_up) => {
                Awaiting::LastBytes
            }
            Stage::Piping => Awaiting::Traffic,
            Stage::Refusing | Stage::Ended => Awaiting::ClientEnd,
        }
    }

    /// Gives the upstream leg, whose connection attempt has started.
    pub fn attach(&mut self, upstream: S) {
        self.upstream = Some(Transport::new(upstream, false));
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
            self.session.connected(|| upstream.local_address())?;
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

    /// Says the last that can be said at once, and gives back what the pool has lent. The
    /// connection is of no more use.
    pub fn leave(&mut self, pool: &mut BufferPool) {
        let (to_client, to_upstream) = self.pipe.leave(pool);
        self.client.leave(to_client, pool);
        self.drop_upstream(to_upstream, pool);
    }

    fn drop_upstream(&mut self, closure: Closure, pool: &mut BufferPool) {
        if let Some(mut upstream) = self.upstream.take() {
            upstream.leave(closure, pool);
        }
    }

    fn pump_login(&mut self, pool: &mut BufferPool, budget: usize) -> Pumped {
        let mut left = budget;
        loop {
            self.write_login();
            match self.session.next_action() {
                None => {}
                Some(Action::Connect) => return Pumped::Connect,
                Some(Action::StartTls(leg)) => {
                    self.start_tls(leg);
                    // It may have the first word.
                    continue;
                }
                Some(Action::DropUpstream) if mutant!(RefusalCloses) => return Pumped::Closed,
                Some(Action::DropUpstream) => self.drop_upstream(Closure::Complete, pool),
                Some(Action::Pipe) => {
                    let to_client = std::mem::take(self.session.output(Leg::Client));
                    let to_upstream = std::mem::take(self.session.output(Leg::Upstream));
                    self.pipe.open(to_client, to_upstream);
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

    fn start_tls(&mut self, leg: Leg) {
        let connection = match leg {
            Leg::Client => self.tls.accept().map(Into::into),
            Leg::Upstream => self.tls.connect().map(Into::into),
        };
        let stream = match (leg, &mut self.upstream) {
            (Leg::Client, _) => &mut self.client,
            (Leg::Upstream, Some(upstream)) => upstream,
            (Leg::Upstream, None) => return,
        };
        match connection {
            Ok(connection) => {
                let output = std::mem::take(self.session.output(leg));
                stream.start_tls(connection, output, self.session.take_input(leg));
            }
            Err(reason) => self.session.tls_failed(leg, reason),
        }
    }

    /// Writes what the session has for either leg; its last word is followed by a half-close.
    fn write_login(&mut self) {
        let output = self.session.output(Leg::Upstream);
        if let Some(upstream) = &mut self.upstream {
            // A failure shows when the leg is read, behind what upstream may still have said.
            if output.is_empty() {
                let _ = upstream.flush();
            } else {
                let written = upstream.write(output).unwrap_or(output.len());
                output.advance(written);
            }
        }
        let is_refusing = self.session.stage() == Stage::Refusing;
        let output = self.session.output(Leg::Client);
        if is_refusing && self.client.is_handshaking() {
            // There is no way to tell it anything.
            output.clear();
            return self.session.ended(Leg::Client);
        }
        let written = if output.is_empty() {
            self.client.flush()
        } else {
            self.client.write(output).map(|written| output.advance(written))
        };
        if written.is_err() {
            output.clear();
            self.session.failed(Leg::Client);
        }
        if self.session.stage() == Stage::Refusing && self.session.output(Leg::Client).is_empty() {
            let is_told = mutant!(RefusalStaysOpen) || self.client.shut_down(Closure::Complete);
            if is_told && self.client.read_ended() {
                self.session.ended(Leg::Client);
            }
        }
    }

    /// Feeds the session with one read from a leg; whether there may be more to feed it with.
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
        let moved = match stream.read(&mut space[..room], pool, left) {
            Read::Nothing => stream.is_readable(),
            Read::HandshakeDone => {
                let connection = stream.connection().expect("only TLS says so");
                let chain = connection.peer_certificates().filter(|_| leg == Leg::Upstream);
                let certificate = chain.and_then(|chain| chain.first());
                let is_ours = connection.alpn_protocol() == Some(ALPN);
                let handshake = Handshake {
                    alpn: planted!(is_ours, AlpnUnread => true),
                    same_certificate: self.tls.is_own_certificate(chain),
                    end_point: certificate.and_then(end_point).map(Bytes::from),
                };
                self.session.handshake_done(leg, handshake);
                true
            }
            Read::Bytes(bytes) => {
                sometimes!(self.session.stage() == Stage::Refusing, RefusedDrained);
                self.session.receive(leg, &space[..bytes]);
                true
            }
            Read::End => {
                self.session.ended(leg);
                true
            }
            Read::Failed(kind) => {
                self.read_failed(leg, kind);
                true
            }
        };
        pool.take_back(buffer);
        moved
    }

    /// A stream that ends short is as good as a broken one, but amid upstream's handshake: there it
    /// is how a server says that it has no TLS, or not with us.
    fn read_failed(&mut self, leg: Leg, kind: ErrorKind) {
        let handshake = self.leg(leg).and_then(Transport::connection);
        let is_refused = leg == Leg::Upstream && handshake.is_some_and(|it| it.is_handshaking());
        match self.tls_failure(leg).map(str::to_owned) {
            Some(reason) if kind == ErrorKind::InvalidData || is_refused => {
                self.session.tls_failed(leg, reason);
            }
            Some(_) | None => self.session.failed(leg),
        }
    }

    fn pump_pipe(&mut self, pool: &mut BufferPool, budget: usize) -> Pumped {
        let upstream = self.upstream.as_mut().expect("the pipe has two ends");
        match self.pipe.pump(&mut self.client, upstream, pool, budget) {
            None => Pumped::Closed,
            Some(Moved::Unfinished) => Pumped::Unfinished,
            Some(Moved::Waiting) => Pumped::Waiting,
        }
    }
}
