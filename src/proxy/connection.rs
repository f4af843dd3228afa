//! What the loop keeps for one connection besides its relay: times, its dialling, its log lines.
//! Knows nothing of the other connections.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Settings;
use super::admission::Ticket;
use super::journal::{Ended, Entry, Event, Up};
use super::verdicts::Asking;
use crate::net::{Address, ClientAddress, Stream};
use crate::relay::{Awaiting, Ending, Relay};
use crate::session::{Findings, Leg};
use crate::tenant::Described;

/// One client connection with its upstream connection.
pub(super) struct Connection<S> {
    pub(super) relay: Relay<S>,
    /// Those of the loop when it was accepted.
    pub(super) settings: Rc<Settings>,
    pub(super) generation: u32,
    /// It stands in the run queue.
    pub(super) queued: bool,
    /// For as long as it counts as a session.
    pub(super) ticket: Option<Ticket>,
    /// Its entry among the timers.
    pub(super) deadline: Option<Instant>,
    pub(super) dial: Option<Dial>,
    /// What may be kept of its login, once upstream is there.
    pub(super) asking: Option<Asking>,
    pub(super) last_active: Instant,
    /// What it waited for at the last look, and since when, or since it last came on.
    pub(super) awaiting: Awaiting,
    pub(super) awaiting_since: Instant,
    /// What had gone to the client at the last look, while that was looked at.
    taken_bytes: u64,
    /// Serial number for the log.
    number: u64,
    client: ClientAddress,
    accepted: Instant,
    /// When the pipe was opened, if it has been.
    piped: Option<Instant>,
}

/// The way to an upstream leg that is connected.
pub(super) enum Dial {
    /// The host name is being looked up.
    Resolving {
        /// When to give up.
        deadline: Instant,
    },
    /// An address is being tried.
    Trying {
        addresses: Rc<[Address]>,
        /// The place of that address.
        at: usize,
        /// When to go on to the next.
        deadline: Instant,
        /// When to start the attempt again, if it could not be started.
        again: Option<Instant>,
    },
}

/// Why the loop ends a connection whose legs have not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    IdleTimeout,
    Stop,
    /// The client has not closed its side in the time that is given for it.
    Lingered,
}

impl Dial {
    pub(super) fn deadline(&self) -> Instant {
        match self {
            Dial::Resolving { deadline } => *deadline,
            Dial::Trying { deadline, again, .. } => again.unwrap_or(*deadline).min(*deadline),
        }
    }
}

impl<S: Stream> Connection<S> {
    pub(super) fn new(
        relay: Relay<S>,
        settings: Rc<Settings>,
        generation: u32,
        number: u64,
        client: ClientAddress,
        now: Instant,
    ) -> Self {
        Connection {
            relay,
            settings,
            generation,
            queued: false,
            ticket: None,
            deadline: None,
            dial: None,
            asking: None,
            last_active: now,
            awaiting: Awaiting::Login,
            awaiting_since: now,
            taken_bytes: 0,
            number,
            client,
            accepted: now,
            piped: None,
        }
    }

    pub(super) fn accepted(&self) -> Instant {
        self.accepted
    }

    /// Nothing has come for so long.
    pub(super) fn is_idle(&self, timeout: Duration, now: Instant) -> bool {
        planted!(now >= self.last_active + timeout, IdleNotRenewed => true)
    }

    /// It may be closed so that another one can be accepted. A session that has ended counts no
    /// longer, but its client may still have to take upstream's last words: closing would reset
    /// them if the client has said anything since.
    pub(super) fn may_be_crowded_out(&self) -> bool {
        let was_up = planted!(self.piped.is_some(), LastWordsCrowdedOut => false);
        self.ticket.is_none() && !was_up
    }

    /// Notes what it waits for now, with a line in the log where a session comes up or is refused.
    pub(super) fn note_awaiting(&mut self, now: Instant) {
        let awaiting = self.relay.awaiting();
        let taken_bytes = self.relay.taken_bytes();
        if awaiting == Awaiting::LastBytes && taken_bytes != self.taken_bytes {
            self.taken_bytes = taken_bytes;
            self.awaiting_since = now;
        }
        if awaiting == self.awaiting {
            return;
        }
        self.awaiting = awaiting;
        self.awaiting_since = now;
        match awaiting {
            Awaiting::Login => {}
            Awaiting::Traffic | Awaiting::LastBytes if self.piped.is_none() => self.log_up(now),
            Awaiting::Traffic | Awaiting::LastBytes => {}
            // A pipe that opens and ends within one turn was up all the same.
            Awaiting::ClientEnd
                if self.piped.is_none() && self.relay.session().outcome().is_none() =>
            {
                self.log_up(now);
            }
            Awaiting::ClientEnd => {
                self.dial = None;
                if self.piped.is_none() {
                    self.log_outcome();
                }
            }
        }
    }

    fn log_up(&mut self, now: Instant) {
        self.piped = Some(now);
        self.last_active = now;
        let Findings { sealed, guard } = self.relay.session().findings();
        self.log(Event::Up(Up {
            sealed,
            guard,
            client_tls: self.relay.tls_version(Leg::Client),
            upstream_tls: self.relay.tls_version(Leg::Upstream),
            login: now.saturating_duration_since(self.accepted),
        }));
    }

    fn log_outcome(&self) {
        if let Some(outcome) = self.relay.session().outcome() {
            self.log(Event::Stopped(outcome));
        }
    }

    /// The line at the end of a session that was up. Others have had theirs.
    pub(super) fn log_end(&mut self, now: Instant, cut: Option<Cut>) {
        self.note_awaiting(now);
        let Some(piped) = self.piped else { return };
        let (ended_by, reason) = match (self.relay.ending(), cut) {
            (_, Some(Cut::IdleTimeout)) => (None, String::from("idle_timeout")),
            (_, Some(Cut::Stop)) => (None, String::from("stop")),
            (Some(Ending::Closed(leg)), _) => (Some(leg), String::from("closed")),
            (Some(Ending::Failed(leg, kind)), _) => (
                Some(leg),
                match self.relay.tls_failure(leg) {
                    None => kind.to_string(),
                    Some(failure) => format!("TLS: {failure}"),
                },
            ),
            (None, Some(Cut::Lingered) | None) => (None, String::from("unknown")),
        };
        let (client_bytes, upstream_bytes) = self.relay.piped_bytes();
        let duration = now.saturating_duration_since(piped);
        self.log(Event::Ended(Ended { duration, client_bytes, upstream_bytes, ended_by, reason }));
    }

    /// Writes a line, in which the session is described by the settings that it began with.
    pub(super) fn log(&self, event: Event<'_>) {
        let session = self.relay.session();
        let who = Described(session.login(), &session.settings().policy);
        Entry { session: self.number, client: self.client, who, event }.log();
    }
}
