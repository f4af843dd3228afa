//! What the loop keeps for one connection besides its relay: times, its dialling, its log lines.
//! Knows nothing of the other connections.

use std::rc::Rc;
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};

use super::verdicts::Asker;
use crate::net::{Address, Peer};
use crate::refusal::{Fault, Quoted};
use crate::relay::{Ending, Phase, Relay};
use crate::session::{Guard, Leg, Outcome, is_alarm};
use crate::tenant::{Described, Policy};

/// One client connection with its upstream connection.
pub(super) struct Connection<S> {
    pub(super) relay: Relay<S>,
    pub(super) generation: u32,
    /// It stands in the run queue.
    pub(super) queued: bool,
    /// It counts as a session.
    pub(super) counted: bool,
    /// Its entry among the timers.
    pub(super) deadline: Option<Instant>,
    pub(super) dial: Option<Dial>,
    /// Whose verdict its batch asks for, and since when it may.
    pub(super) asker: Option<(Asker, Instant)>,
    pub(super) last_active: Instant,
    /// The phase at the last look, and when it was entered or last came on.
    pub(super) phase: Phase,
    pub(super) phase_since: Instant,
    /// What had gone to the client at the last look, while that was looked at.
    taken_bytes: u64,
    /// Serial number for the log.
    number: u64,
    peer: Peer,
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

impl<S: crate::net::Stream> Connection<S> {
    pub(super) fn new(
        relay: Relay<S>,
        generation: u32,
        number: u64,
        peer: Peer,
        now: Instant,
    ) -> Self {
        Connection {
            relay,
            generation,
            queued: false,
            counted: false,
            deadline: None,
            dial: None,
            asker: None,
            last_active: now,
            phase: Phase::Login,
            phase_since: now,
            taken_bytes: 0,
            number,
            peer,
            accepted: now,
            piped: None,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn accepted(&self) -> Instant {
        self.accepted
    }

    /// It may be closed so that another one can be accepted. A session that has ended counts no
    /// longer, but its client may still have to take upstream's last words: closing would reset
    /// them if the client has said anything since.
    pub(super) fn may_be_crowded_out(&self) -> bool {
        !self.counted && (self.piped.is_none() || mutant!(LastWordsCrowdedOut))
    }

    /// Notes a change of phase, with a line in the log where a session comes up or is refused.
    pub(super) fn note_phase(&mut self, now: Instant, policy: &Policy) {
        let phase = self.relay.phase();
        let taken_bytes = self.relay.taken_bytes();
        if phase == Phase::Flushing && taken_bytes != self.taken_bytes {
            self.taken_bytes = taken_bytes;
            self.phase_since = now;
        }
        if phase == self.phase {
            return;
        }
        self.phase = phase;
        self.phase_since = now;
        match phase {
            Phase::Login => {}
            Phase::Piping | Phase::Flushing if self.piped.is_none() => self.log_up(now, policy),
            Phase::Piping | Phase::Flushing => {}
            // A pipe that opens and ends within one turn was up all the same.
            Phase::Lingering
                if self.piped.is_none() && self.relay.session().outcome().is_none() =>
            {
                self.log_up(now, policy);
            }
            Phase::Lingering => {
                self.dial = None;
                if self.piped.is_none() {
                    self.log_refused(policy);
                }
            }
        }
    }

    fn log_up(&mut self, now: Instant, policy: &Policy) {
        self.piped = Some(now);
        self.last_active = now;
        let seal = match self.relay.session().sealed() {
            None => "",
            Some(true) => " seal=on",
            Some(false) => " seal=off",
        };
        let guard = match self.relay.session().guard() {
            None => "",
            Some(Guard::Kept | Guard::Held) => " guard=on",
            Some(Guard::Absent) => " guard=off",
        };
        let client_tls = self.tls_version(Leg::Client);
        let upstream_tls = self.tls_version(Leg::Upstream);
        info!(
            "session={} up peer={}{}{seal}{client_tls}{upstream_tls} login={}ms{guard}",
            self.number,
            self.peer,
            self.described(policy),
            millis(now, self.accepted),
        );
    }

    fn log_refused(&self, policy: &Policy) {
        let (number, peer, who) = (self.number, self.peer, self.described(policy));
        match self.relay.session().outcome() {
            Some(Outcome::Refused(refusal)) if is_alarm(refusal) => {
                let hint = Quoted(refusal.hint.as_deref().unwrap_or_default());
                error!("session={number} refused peer={peer}{who} {refusal} hint={hint}");
            }
            Some(Outcome::Refused(refusal)) if refusal.fault == Fault::Upstream => {
                warn!("session={number} refused peer={peer}{who} {refusal}");
            }
            Some(Outcome::Refused(refusal)) => {
                info!("session={number} refused peer={peer}{who} {refusal}");
            }
            Some(Outcome::RefusedByUpstream { sqlstate, message }) => info!(
                "session={number} refused peer={peer}{who} fault=upstream sqlstate={sqlstate} \
                 reason={}",
                Quoted(&format!("upstream said: {message}"))
            ),
            Some(Outcome::ClientLeft) => {
                debug!("session={number} left peer={peer}{who} during login");
            }
            Some(Outcome::Cancelled) => debug!("session={number} passed a cancel request on"),
            None => {}
        }
    }

    /// The line at the end of a session that was up. Others have had theirs.
    pub(super) fn log_end(&mut self, now: Instant, cut: Option<Cut>, policy: &Policy) {
        self.note_phase(now, policy);
        let Some(piped) = self.piped else { return };
        let (ended_by, reason) = match (self.relay.ending(), cut) {
            (_, Some(Cut::IdleTimeout)) => ("multigres", String::from("idle_timeout")),
            (_, Some(Cut::Stop)) => ("multigres", String::from("stop")),
            (Some(Ending::Closed(leg)), _) => (name(leg), String::from("closed")),
            (Some(Ending::Failed(leg, kind)), _) => (
                name(leg),
                match self.relay.tls_failure(leg) {
                    None => kind.to_string(),
                    Some(failure) => format!("TLS: {failure}"),
                },
            ),
            (None, Some(Cut::Lingered) | None) => ("multigres", String::from("unknown")),
        };
        let (from_client, from_upstream) = self.relay.piped_bytes();
        info!(
            "session={} end peer={}{} duration={}ms client_bytes={from_client} \
             upstream_bytes={from_upstream} ended_by={ended_by} reason={}",
            self.number,
            self.peer,
            self.described(policy),
            millis(now, piped),
            Quoted(&reason),
        );
    }

    fn tls_version(&self, leg: Leg) -> String {
        match self.relay.tls_version(leg) {
            None => String::new(),
            Some(version) => format!(" {}_tls={version}", name(leg)),
        }
    }

    fn described<'a>(&'a self, policy: &'a Policy) -> impl std::fmt::Display + 'a {
        Described(self.relay.session().login(), policy)
    }
}

fn name(leg: Leg) -> &'static str {
    match leg {
        Leg::Client => "client",
        Leg::Upstream => "upstream",
    }
}

fn millis(now: Instant, since: Instant) -> u128 {
    let elapsed: Duration = now.saturating_duration_since(since);
    elapsed.as_millis()
}
