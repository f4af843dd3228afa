//! The event loop above poll(): connections in a slab, readiness, deadlines, budgets, limits.
//! Knows no operating system and no clock: streams come from [`Net`], the time is an argument.
//!
//! One [`Proxy::turn`] takes a batch of events and the time, and says how long to sleep:
//!
//! 1. Events only set hints on connections and queue them, so a stale event does no harm.
//! 2. Deadlines that have come refuse, close, or try the next address.
//! 3. New connections are accepted, a bounded number.
//! 4. Every queued connection is pumped once, up to its budget; one that has more to do goes to
//!    the back of the queue and the sleep is zero. So do logins, when a few have had their turn.

mod accept;
mod admission;
mod connection;
mod dial;
mod journal;
mod timers;
mod token;
mod upstream;
mod verdicts;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::net::{Address, Net, Readiness, Stream, Token};
use crate::refusal::{Fault, Refusal, sqlstate};
use crate::relay::{Awaiting, BufferPool, Pumped, Relay};
use crate::session::{self, Stage};
use crate::tls::Tls;

pub use token::DRIVER_TOKENS;
pub use upstream::Upstream;

use accept::Acceptor;
use admission::Admission;
use connection::{Connection, Cut};
use timers::Timers;
use token::{ConnectionKey, Target};
use upstream::Directory;
use verdicts::Verdicts;

/// Settings of the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Settings of every session.
    pub session: Rc<session::LoginSettings>,
    /// TLS of both legs.
    pub tls: Rc<Tls>,
    /// Where PostgreSQL is.
    pub upstream: Upstream,
    /// From accepting a connection to its pipe.
    pub login_timeout: Duration,
    /// For one attempt to connect to one address, and for a look-up of the host name.
    pub upstream_connect_timeout: Duration,
    /// Without a byte in either direction; `None` for ever.
    pub idle_timeout: Option<Duration>,
    /// How long what a login has found of its role and database serves further ones.
    pub verify_ttl: Duration,
    /// Logins are refused while there are so many sessions, from the StartupMessage to the end of
    /// the pipe; cancel requests are not.
    pub connections_max: usize,
    /// Of buffers and turns.
    pub limits: Limits,
}

/// The daemon's defaults.
impl Default for Settings {
    fn default() -> Self {
        let upstream = SocketAddr::from(([127, 0, 0, 1], 5432));
        Settings {
            session: Rc::default(),
            tls: Rc::default(),
            upstream: Upstream::Address(Address::Tcp(upstream)),
            login_timeout: Duration::from_secs(60),
            upstream_connect_timeout: Duration::from_secs(10),
            idle_timeout: None,
            verify_ttl: Duration::from_secs(10),
            connections_max: 1000,
            limits: Limits::default(),
        }
    }
}

/// Sizes that are no settings of the daemon's: a simulator makes them small, to come to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a buffer of the pipe.
    pub buffer_bytes: usize,
    /// How much one connection may move in one direction before the others have their turn; a
    /// buffer may go over it.
    pub turn_bytes: usize,
    /// How many connections one turn accepts.
    pub turn_accepts: usize,
    /// Connections that are no session (silent, refused, cancelling) may be as many as sessions and
    /// these.
    pub spare_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            buffer_bytes: 32 * 1024,
            turn_bytes: 256 * 1024,
            turn_accepts: 64,
            spare_connections: 64,
        }
    }
}

/// What an operator or a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Take no more connections, refuse logins under way, let sessions end.
    Drain,
    /// End everything now.
    Stop,
}

/// Figures of the loop, for the log and for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Slots in use.
    pub connections: usize,
    /// Of these, open pipes.
    pub piping: usize,
    /// Deadlines that are set.
    pub deadlines: usize,
    /// Connections that wait for their next turn.
    pub run_queue: usize,
    /// Buffers lent to connections.
    pub buffers: usize,
}

/// The event loop.
pub struct Proxy<N: Net> {
    net: N,
    /// Of the connections that are accepted from now on.
    settings: Rc<Settings>,
    acceptor: Acceptor<N::Listener>,
    connections: Slab<Connection<N::Stream>>,
    run_queue: VecDeque<ConnectionKey>,
    timers: Timers,
    directory: Directory,
    verdicts: Verdicts,
    pool: BufferPool,
    generation: u32,
    /// Connections accepted so far.
    accepted: u64,
    admission: Admission,
    draining: bool,
}

impl<N: Net> Proxy<N> {
    /// A loop without connections. The listeners are registered already, each under the token that
    /// [`Proxy::listener_token`] gives for its place.
    pub fn new(net: N, settings: Settings, listeners: Vec<N::Listener>) -> Self {
        Proxy {
            net,
            acceptor: Acceptor::new(listeners),
            connections: Slab::new(),
            run_queue: VecDeque::new(),
            timers: Timers::default(),
            directory: Directory::new(settings.upstream.clone()),
            verdicts: Verdicts::default(),
            pool: BufferPool::new(settings.limits.buffer_bytes),
            generation: 0,
            accepted: 0,
            admission: Admission::default(),
            draining: false,
            settings: Rc::new(settings),
        }
    }

    /// The token under which the listener at this place of the list is to be registered.
    pub fn listener_token(at: usize) -> Token {
        token::listener_token(at)
    }

    /// One turn of the loop. Returns how long the driver may sleep unless an event comes; `None`
    /// for ever.
    pub fn turn(
        &mut self,
        now: Instant,
        events: impl IntoIterator<Item = (Token, Readiness)>,
    ) -> Option<Duration> {
        for (token, readiness) in events {
            match Target::of(token) {
                Target::Listener(at) => self.acceptor.ready(at),
                Target::Connection(key, leg) => {
                    match self.connection(key).map(|it| it.relay.ready(leg, readiness)) {
                        Some(true) => self.enqueue(key),
                        Some(false) => sometimes!(OldNews),
                        None => sometimes!(StaleEvent),
                    }
                }
            }
        }
        while let Some(key) = self.timers.expired(now) {
            self.expire(key, now);
        }
        self.accept(now);
        self.drive_queued(now);
        self.sleep(now)
    }

    /// Carries out what an operator asks for. Take a turn afterwards.
    pub fn control(&mut self, control: Control, now: Instant) {
        self.draining = true;
        self.acceptor.close();
        let keys: Vec<ConnectionKey> = self
            .connections
            .iter()
            .map(|(slot, connection)| ConnectionKey { slot, generation: connection.generation })
            .collect();
        for key in keys {
            if let Some(connection) = self.connection(key)
                && is_login(&connection.relay)
            {
                sometimes!(DrainRefused);
                connection.relay.session_mut().refuse(
                    Refusal::new(
                        Fault::Multigres,
                        sqlstate::CANNOT_CONNECT_NOW,
                        "the database system is shutting down",
                    )
                    .private("draining"),
                );
                self.drive(key, now);
            }
            if planted!(control == Control::Stop, DrainCuts => true) {
                sometimes!(StopCut);
                self.close(key, Some(Cut::Stop), now);
            }
        }
    }

    /// Takes other certificates and keys, for the connections that are accepted from now on.
    pub fn renew_tls(&mut self, tls: Rc<Tls>) {
        self.settings = Rc::new(Settings { tls, ..(*self.settings).clone() });
    }

    /// Takes other settings, for the connections that are accepted from now on; the others keep
    /// theirs. The limits, and how many sessions there may be, hold for all at once. What is known
    /// of roles and databases is asked for anew.
    ///
    /// # Errors
    /// When they name another upstream or another size of buffers: neither can be changed while
    /// connections have the old one. Then nothing changes.
    pub fn renew(&mut self, settings: Settings) -> Result<(), String> {
        if settings.upstream != self.settings.upstream {
            return Err("another upstream takes a restart".into());
        }
        if settings.limits.buffer_bytes != self.settings.limits.buffer_bytes {
            return Err("another size of buffers takes a restart".into());
        }
        self.settings = Rc::new(settings);
        self.verdicts = Verdicts::default();
        Ok(())
    }

    /// Whether a drain has begun.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether a drain has come to its end.
    pub fn is_drained(&self) -> bool {
        self.draining && self.connections.is_empty()
    }

    /// Figures of this moment.
    pub fn status(&self) -> Status {
        let piping = self.connections.iter().filter(|(_, it)| it.awaiting == Awaiting::Traffic);
        Status {
            connections: self.connections.len(),
            piping: piping.count(),
            deadlines: self.timers.len(),
            run_queue: self.run_queue.len(),
            buffers: self.pool.lent(),
        }
    }

    fn connection(&mut self, key: ConnectionKey) -> Option<&mut Connection<N::Stream>> {
        self.connections.get_mut(key.slot).filter(|it| it.generation == key.generation)
    }

    fn enqueue(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connection(key)
            && !std::mem::replace(&mut connection.queued, true)
        {
            self.run_queue.push_back(key);
        }
    }

    /// A login can cost milliseconds, by a handshake of TLS or by SCRAM, and a thousand of them may
    /// come at once: those whose turn it is not yet keep their order.
    fn drive_queued(&mut self, now: Instant) {
        let mut logins_left = TURN_LOGINS;
        for _ in 0..self.run_queue.len() {
            let Some(key) = self.run_queue.pop_front() else { return };
            let is_login = self.connection(key).is_some_and(|it| it.awaiting == Awaiting::Login);
            if is_login && logins_left == 0 {
                self.run_queue.push_back(key);
                continue;
            }
            logins_left -= usize::from(is_login);
            self.drive(key, now);
        }
    }

    /// Moves what one connection has to move.
    fn drive(&mut self, key: ConnectionKey, now: Instant) {
        if let Some(connection) = self.connection(key) {
            connection.queued = mutant!(QueuedForGood);
            connection.last_active = now;
        }
        self.check_connect(key, now);
        let budget = self.turn_budget();
        loop {
            let Some(connection) = self.connections.get_mut(key.slot) else { return };
            if connection.generation != key.generation {
                return;
            }
            match connection.relay.pump(&mut self.pool, budget) {
                Pumped::Connect => {
                    self.admit_session(key);
                    self.dial(key, now);
                    // A loopback or unix socket is often connected by now.
                    self.check_connect(key, now);
                }
                Pumped::Waiting => break,
                Pumped::Unfinished if mutant!(BudgetForgets) => break,
                Pumped::Unfinished => {
                    self.enqueue(key);
                    break;
                }
                Pumped::Closed => return self.close(key, None, now),
            }
        }
        self.settle(key, now);
    }

    fn turn_budget(&self) -> usize {
        if mutant!(BudgetIgnored) { usize::MAX } else { self.settings.limits.turn_bytes }
    }

    /// Notes where a connection stands now, and sets its deadline.
    fn settle(&mut self, key: ConnectionKey, now: Instant) {
        let Some(connection) = self.connections.get_mut(key.slot) else { return };
        connection.note_awaiting(now);
        if connection.awaiting != Awaiting::Login && connection.asking.is_some() {
            self.note_verdict(key, now);
        }
        let Some(connection) = self.connections.get_mut(key.slot) else { return };
        let is_over = connection.awaiting == Awaiting::ClientEnd;
        if planted!(is_over, RefusedCounted => false) {
            connection.ticket = None;
        }
        let settings = &connection.settings;
        let deadline = match connection.awaiting {
            Awaiting::Login if mutant!(LoginUnbounded) => None,
            Awaiting::Login => {
                let login = connection.accepted() + settings.login_timeout;
                let dial = connection.dial.as_ref().map(|dial| dial.deadline());
                Some(dial.map_or(login, |dial| dial.min(login)))
            }
            // Set once, and looked at again when it has come: not a change for every message.
            Awaiting::Traffic => settings.idle_timeout.map(|timeout| {
                let armed =
                    connection.deadline.filter(|at| *at <= connection.last_active + timeout);
                armed.unwrap_or(connection.last_active + timeout)
            }),
            Awaiting::LastBytes if mutant!(FlushUnbounded) => None,
            Awaiting::LastBytes => Some(connection.awaiting_since + FLUSH_TIMEOUT),
            Awaiting::ClientEnd if mutant!(LingerUnbounded) => None,
            Awaiting::ClientEnd => Some(connection.awaiting_since + LINGER_TIMEOUT),
        };
        self.timers.set(key, &mut connection.deadline, deadline);
    }

    /// A deadline has come; its entry is gone.
    fn expire(&mut self, key: ConnectionKey, now: Instant) {
        let Some(connection) = self.connection(key) else { return };
        let Settings { login_timeout, idle_timeout, .. } = *connection.settings;
        connection.deadline = None;
        match connection.awaiting {
            Awaiting::Login if now >= connection.accepted() + login_timeout => {
                sometimes!(LoginTimedOut);
                connection.relay.session_mut().time_out();
                self.enqueue(key);
            }
            Awaiting::Login => self.expire_dial(key, now),
            Awaiting::Traffic => match idle_timeout {
                Some(timeout) if connection.is_idle(timeout, now) => {
                    sometimes!(IdleTimedOut);
                    self.close(key, Some(Cut::IdleTimeout), now);
                }
                Some(_) | None => {
                    sometimes!(IdleRenewed);
                    self.settle(key, now);
                }
            },
            Awaiting::LastBytes => {
                sometimes!(FlushTimedOut);
                self.close(key, Some(Cut::Lingered), now);
            }
            Awaiting::ClientEnd => {
                sometimes!(LingerTimedOut);
                self.close(key, Some(Cut::Lingered), now);
            }
        }
    }

    fn close(&mut self, key: ConnectionKey, cut: Option<Cut>, now: Instant) {
        if self.connection(key).is_none() {
            return;
        }
        let mut connection = self.connections.remove(key.slot);
        connection.log_end(now, cut);
        if !mutant!(BufferKept) {
            connection.relay.leave(&mut self.pool);
        }
        if !mutant!(TimerStays) {
            self.timers.set(key, &mut connection.deadline, None);
        }
        self.directory.forget(key);
    }

    fn sleep(&self, now: Instant) -> Option<Duration> {
        if mutant!(Oversleeps) {
            return None;
        }
        if mutant!(NeverSleeps) || !self.run_queue.is_empty() || self.acceptor.is_ready(now) {
            return Some(Duration::ZERO);
        }
        let next = [self.timers.next(), self.acceptor.resumes()].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }
}

/// Whether a drain refuses it.
fn is_login<S: Stream>(relay: &Relay<S>) -> bool {
    planted!(relay.session().stage() == Stage::Login, DrainForgetsLogins => false)
}

/// How many logins have their turn before the open pipes have theirs again.
const TURN_LOGINS: usize = 8;

/// How long a client may take nothing of upstream's last words. A kernel reports room only when a
/// good part of its buffer is free, which takes a slow reader its time.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client that has been told the last may take to close its side.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
