//! What the kernel knows of the daemon's deadlines: when each connection has to end at the latest,
//! and that none ends without a reason before.
//!
//! Times are taken where the daemon's calls come in, so they are exact: a turn that begins at a
//! deadline or after it must act on it, and may not ask for a longer sleep than up to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use multigres::net::{Readiness, Token};
use multigres::proxy::Status;

use crate::ledger::Ledger;
use crate::plan::{Conduct, Plan, Session};
use crate::record::{self, applied, violate};

/// The connections of one daemon, by what their two tokens have in common.
pub struct Lives {
    times: Times,
    ledger: Ledger,
    lives: BTreeMap<usize, Life>,
    /// Events for the next turn.
    told: Vec<(Token, Readiness, bool)>,
    stopped: bool,
    /// No login goes on from now on.
    draining: bool,
    sessions_max: usize,
    /// Sessions whose clients say nothing before they are asked to: when one of them has ended, its
    /// login has.
    terse: BTreeSet<usize>,
    /// Sessions with TLS on the client leg.
    tls: BTreeSet<usize>,
    /// As many connections as there is room for: then silent ones are crowded out.
    connections_max: usize,
}

struct Times {
    login: Duration,
    connect: Duration,
    idle: Option<Duration>,
    /// How late a turn may be.
    turn: Duration,
    /// How long a client may take to take its refusal.
    slack: Duration,
    /// A client takes its refusal in the turn in which it is said.
    at_once: bool,
    has_tls: bool,
}

struct Life {
    peer: Option<SocketAddr>,
    accepted: Duration,
    dialled: Option<Duration>,
    /// When upstream was closed.
    let_go: Option<Duration>,
    connected: bool,
    /// The client leg was shut down for writing.
    shut: Option<Duration>,
    /// The daemon has heard that the client has ended, or that its leg is broken.
    client_ended: bool,
    /// When it has heard that it is broken.
    client_broken: Option<Duration>,
    upstream_ended: bool,
    /// An event has told that upstream has said its last, be it true or not.
    hung_up: Option<Duration>,
    /// The same as long as it is true and no read has looked otherwise.
    ended: Option<Duration>,
    /// Bytes that were read from the client, and from upstream.
    read: [u64; 2],
    /// A byte has moved.
    moved: Duration,
    /// The same, before the moment of that: with TLS, the last words of a connection move too.
    moved_before: Duration,
    /// Something has gone to the client.
    told_client: Duration,
    /// That began before so much was read that it can be a CancelRequest.
    told_early: bool,
    /// An event or a call.
    active: Duration,
}

impl Lives {
    /// Of a plan's daemon.
    pub fn new(plan: &Plan, ledger: Ledger) -> Self {
        let daemon = &plan.daemon;
        let times = Times {
            login: Duration::from_millis(daemon.login_timeout_ms),
            connect: Duration::from_millis(daemon.connect_timeout_ms),
            idle: daemon.idle_timeout_ms.map(Duration::from_millis),
            turn: Duration::from_millis(plan.faults.slow_turn_ms),
            slack: Duration::from_millis(plan.slack_ms()),
            at_once: plan.takes_at_once(),
            has_tls: plan.has_tls(),
        };
        let is_terse = |session: &&Session| {
            let client = &session.client;
            let is_cut = matches!(client.conduct, Conduct::Cut(_));
            is_cut && !client.eager && session.pipe.early == 0
        };
        let terse = plan.sessions.iter().filter(is_terse).map(|session| session.number).collect();
        let tls = plan.sessions.iter().filter(|session| plan.client_has_tls(session));
        let tls = tls.map(|session| session.number).collect();
        let sessions_max = daemon.connections_max;
        let connections_max = daemon.room();
        let (lives, told) = (BTreeMap::new(), Vec::new());
        Lives {
            times,
            ledger,
            lives,
            told,
            stopped: false,
            draining: false,
            sessions_max,
            terse,
            tls,
            connections_max,
        }
    }

    /// The daemon is told to end everything: no reason is asked for from now on.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// The daemon is told to take no more logins.
    pub fn drain(&mut self) {
        self.draining = true;
        for life in self.lives.values().filter(|life| life.shut.is_none()) {
            let number = self.session_of(life.peer);
            if number.is_some_and(|number| !self.ledger.entry(number).upstream.confirmed) {
                applied("L5 under way");
            }
        }
    }

    /// Whose it is. A client is known only once it has been told that it is connected.
    fn session_of(&self, peer: Option<SocketAddr>) -> Option<usize> {
        self.ledger.session_of(peer?)
    }

    fn life(&mut self, token: Token) -> Option<&mut Life> {
        self.lives.get_mut(&(token.0 >> 1))
    }

    /// A leg has been registered; a client's with its peer.
    pub(crate) fn opened(&mut self, token: Token, peer: Option<SocketAddr>) {
        let now = record::now();
        if token.0 & 1 == 1 {
            if let Some(life) = self.life(token) {
                (life.dialled, life.connected, life.let_go) = (Some(now), false, None);
                // What was said of an earlier attempt does not count.
                (life.hung_up, life.ended, life.upstream_ended) = (None, None, false);
                life.read[1] = 0;
            }
            return;
        }
        let life = Life {
            peer,
            accepted: now,
            dialled: None,
            let_go: None,
            connected: false,
            shut: None,
            client_ended: false,
            client_broken: None,
            upstream_ended: false,
            hung_up: None,
            ended: None,
            read: [0; 2],
            moved: now,
            moved_before: now,
            told_client: now,
            told_early: false,
            active: now,
        };
        self.lives.insert(token.0 >> 1, life);
        let open = self.lives.len();
        if open > self.connections_max {
            violate("S8", format!("{open} connections at once"));
        } else if open == self.connections_max {
            applied("S8 as many connections as may be");
        }
    }

    /// The attempt to connect has succeeded, as far as the kernel knows.
    pub(crate) fn connected(&mut self, token: Token, local: Option<SocketAddr>) {
        let Some(life) = self.life(token).filter(|_| token.0 & 1 == 1) else { return };
        life.connected = true;
        let peer = life.peer;
        if let (Some(number), Some(local)) = (self.session_of(peer), local) {
            self.ledger.is_dialled(number, local);
        }
    }

    /// An attempt to connect could not be started.
    pub(crate) fn connect_failed(&self, address: SocketAddr) {
        self.ledger.knowledge().connect_failed(address, record::now());
    }

    /// An event was told, which counts from the turn that takes it.
    /// Of nonsense, nothing follows for certain.
    pub(crate) fn told(&mut self, token: Token, what: Readiness, is_true: bool) {
        self.told.push((token, what, is_true));
    }

    /// A read has found nothing although there was something.
    pub(crate) fn held_back(&mut self, token: Token) {
        if let Some(life) = self.life(token).filter(|_| token.0 & 1 == 1) {
            life.ended = None;
        }
    }

    /// A turn begins.
    pub(crate) fn begin_turn(&mut self) {
        let now = record::now();
        for (token, what, is_true) in std::mem::take(&mut self.told) {
            let Some(life) = self.life(token) else { continue };
            life.active = now;
            if token.0 & 1 == 1 && what.read_closed {
                life.hung_up.get_or_insert(now);
                if is_true {
                    life.ended.get_or_insert(now);
                }
            }
        }
    }

    /// A call that has moved so many bytes; none may be an end.
    pub(crate) fn moved(&mut self, token: Token, wrote: bool, count: usize) {
        let now = record::now();
        let peer = self.life(token).and_then(|life| life.peer);
        let session = self.session_of(peer);
        let is_truncated = session.is_some_and(|number| {
            self.tls.contains(&number) && !self.ledger.entry(number).client.farewell
        });
        let Some(life) = self.life(token) else { return };
        life.active = now;
        if count > 0 && life.moved < now {
            (life.moved_before, life.moved) = (life.moved, now);
        }
        match (token.0 & 1, wrote, count) {
            (0, true, 1..) => {
                life.told_client = now;
                life.told_early |= life.read[0] < CANCEL_BYTES;
            }
            (0, false, 0) => {
                life.client_ended = true;
                life.client_broken = is_truncated.then_some(now);
            }
            (1, false, 0) => life.upstream_ended = true,
            (leg, false, 1..) => life.read[leg] += count as u64,
            _ => {}
        }
        let (peer, heard, told_early) = (life.peer, life.read[0], life.told_early);
        let is_answered = token.0 & 1 == 0 && wrote && count > 0 && !told_early;
        if is_answered && self.is_cancel(peer, heard) {
            violate("S3", "a CancelRequest is answered");
        }
    }

    /// Whether the daemon has read a whole CancelRequest from this peer, having read so much.
    fn is_cancel(&self, peer: Option<SocketAddr>, heard: u64) -> bool {
        self.session_of(peer).is_none() && heard >= CANCEL_BYTES
    }

    /// A client's leg has taken nothing of what it was to be told.
    pub(crate) fn blocked(&mut self, token: Token) {
        if let Some(life) = self.life(token) {
            life.told_early |= life.read[0] < CANCEL_BYTES;
        }
    }

    /// A call has told that the leg is broken.
    pub(crate) fn failed(&mut self, token: Token) {
        let now = record::now();
        let Some(life) = self.life(token) else { return };
        life.active = now;
        match token.0 & 1 {
            0 => (life.client_ended, life.client_broken) = (true, Some(now)),
            _ => life.upstream_ended = true,
        }
    }

    /// A leg was shut down for writing.
    pub(crate) fn shut(&mut self, token: Token) {
        let now = record::now();
        let Some(life) = self.life(token) else { return };
        if token.0 & 1 == 0 {
            life.shut = Some(now);
            let (peer, accepted) = (life.peer, life.accepted);
            if let Some(number) = self.session_of(peer) {
                let others = self.lives.values().filter(|life| life.shut.is_none()).count();
                let mut entry = self.ledger.entry(number);
                (entry.accepted, entry.shut) = (Some(accepted), Some(now));
                entry.others = others;
            }
        }
    }

    /// A leg was closed.
    pub(crate) fn closed(&mut self, token: Token) {
        if token.0 & 1 == 1 {
            if let Some(life) = self.life(token) {
                life.dialled = None;
                life.let_go = Some(record::now());
            }
            return;
        }
        let is_full = self.lives.len() >= self.connections_max;
        let Some(life) = self.lives.remove(&(token.0 >> 1)) else { return };
        if let Some(number) = self.session_of(life.peer) {
            let mut entry = self.ledger.entry(number);
            (entry.accepted, entry.closed) = (Some(life.accepted), Some(record::now()));
        }
        if self.is_cancel(life.peer, life.read[0]) {
            applied("S3 no answer to a cancel");
        }
        let has_left = |number| {
            let client = &self.ledger.entry(number).client;
            // Amid a handshake there is no telling it anything, nor waiting for it.
            client.farewell || self.tls.contains(&number) && !client.secured
        };
        if self.stopped || life.client_ended || self.session_of(life.peer).is_some_and(has_left) {
            return;
        }
        applied("L3 not before");
        if let Some(text) = self.has_no_reason(&life, is_full) {
            violate("L3", text);
        }
    }

    /// Why a connection whose client is still there may not be closed now. Only if `is_full` may it
    /// have been for another.
    fn has_no_reason(&self, life: &Life, is_full: bool) -> Option<String> {
        let now = record::now();
        let Some(number) = self.session_of(life.peer) else {
            // A CancelRequest.
            return None;
        };
        let entry = self.ledger.entry(number);
        // Upstream has said the last of the login, and the daemon has read it: a reset can come in
        // between, and then the login is refused.
        let is_in = entry.upstream.login_end.is_some_and(|end| life.read[1] >= end);
        // A refused one has been told to go before it has taken all of that.
        let early = if is_in { Duration::ZERO } else { self.times.slack };
        // A refusal begins when upstream is let go, however slowly the client takes it.
        let told =
            |shut: Duration| if is_in { shut } else { life.let_go.unwrap_or(shut).min(shut) };
        let lingered = life.shut.is_some_and(|shut| now + early >= told(shut) + LINGER);
        let untold = life.shut.is_none() && !is_in && now >= life.accepted + LINGER;
        let flushed = life.hung_up.is_some_and(|at| now >= at.max(life.told_client) + FLUSH);
        let is_said = self.times.has_tls && life.moved == now;
        let moved = if is_said { life.moved_before } else { life.moved };
        let idle = self.times.idle.is_some_and(|idle| now >= moved + idle);
        let reasons = [
            (lingered, "L3 linger"),
            (flushed, "L3 flush"),
            (idle && is_in, "L3 idle"),
            (untold, "L3 refusal not taken"),
            (is_full && !is_in, "L3 crowded out"),
        ];
        if let Some((_, reason)) = reasons.into_iter().find(|(holds, _)| *holds) {
            applied(reason);
            return None;
        }
        let since = |at: Duration| (now - at).as_millis();
        Some(format!(
            "session {number} is closed {} ms after it was accepted, {:?} ms after it was shut, {} \
             ms after a byte has moved",
            since(life.accepted),
            life.shut.map(since),
            since(life.moved)
        ))
    }

    /// After a turn: no deadline has passed, and none will while the daemon sleeps.
    pub(crate) fn check(&self, nap: Option<Duration>, status: &Status) {
        let now = record::now();
        let mut next: Option<Duration> = None;
        self.check_sessions();
        for life in self.lives.values() {
            self.check_let_go(life);
            self.check_gone(life, status);
            let Some((at, what)) = self.deadline(life) else { continue };
            next = Some(next.map_or(at, |next| next.min(at)));
            if at <= now {
                let late = (now - at).as_millis();
                let number = self.session_of(life.peer);
                violate("L3", format!("session {number:?}: {what}, {late} ms ago"));
            }
        }
        if self.draining && self.times.at_once {
            self.check_drained();
        }
        if status.run_queue > 0 && nap != Some(Duration::ZERO) {
            violate("R4", format!("{} connections wait and nap is {nap:?}", status.run_queue));
        }
        if status.deadlines > 0 && nap.is_none() {
            violate("R4", format!("{} deadlines and no end to the sleep", status.deadlines));
        }
        if let Some(next) = next {
            applied("R4");
            if nap.is_none_or(|nap| now + nap > next) {
                violate("R4", format!("a nap of {nap:?} is beyond a deadline in {:?}", next - now));
            }
        }
    }

    /// Sessions are no more than `max_connections`.
    fn check_sessions(&self) {
        let is_session =
            |life: &&Life| life.dialled.is_some() && self.session_of(life.peer).is_some();
        // One whose client is gone has ended, though upstream may still get its last bytes.
        let goes_on = |life: &&Life| life.shut.is_none() && life.client_broken.is_none();
        let sessions = self.lives.values().filter(is_session).filter(goes_on);
        let sessions = sessions.count();
        if sessions > self.sessions_max {
            violate("S8", format!("{sessions} sessions at once"));
        } else if sessions == self.sessions_max {
            applied("S8 as many sessions as may be");
        }
    }

    /// A login whose client has gone does not go on.
    fn check_gone(&self, life: &Life, status: &Status) {
        let Some(number) = self.session_of(life.peer) else { return };
        let is_over = life.shut.is_some() || self.ledger.entry(number).upstream.confirmed;
        // The answer of TLS to what was read may be what has failed.
        let is_over = is_over || self.times.has_tls && life.client_broken == Some(record::now());
        if life.client_ended && !is_over && self.terse.contains(&number) && status.run_queue == 0 {
            violate("L3", format!("session {number}: its client has gone, its login goes on"));
        }
    }

    /// Once its login is refused, nothing holds on to upstream.
    fn check_let_go(&self, life: &Life) {
        let Some(number) = self.session_of(life.peer).filter(|_| life.shut.is_some()) else {
            return;
        };
        if life.dialled.is_some() && !self.ledger.entry(number).upstream.confirmed {
            violate("S3", format!("session {number} is refused, and upstream is still there"));
        }
    }

    /// Each login has been refused in the turn in which the drain began.
    fn check_drained(&self) {
        for life in self.lives.values() {
            let Some(number) = self.session_of(life.peer) else { continue };
            let confirmed = self.ledger.entry(number).upstream.confirmed;
            if !confirmed && life.shut.is_none() && !life.client_ended {
                violate("L5", format!("session {number}: its login goes on in a drain"));
            }
        }
    }

    /// When something has to happen to the connection at the latest.
    fn deadline(&self, life: &Life) -> Option<(Duration, &'static str)> {
        if let Some(shut) = life.shut {
            return Some((shut + LINGER, "it lingers no longer"));
        }
        let number = self.session_of(life.peer);
        // It may have been told, and the daemon not.
        let up = number.is_some_and(|number| self.ledger.entry(number).upstream.confirmed);
        let mut found: Vec<(Duration, &'static str)> = Vec::new();
        if !up {
            // Refused then, and let go when it does not take the refusal.
            let refused = life.accepted + self.times.login + self.times.turn;
            found.push((refused + LINGER, "its login is over"));
            if let Some(at) = life.dialled.filter(|_| !life.connected) {
                found.push((at + self.times.connect, "the attempt to connect is over"));
            }
        }
        let is_in = number.is_some_and(|number| self.ledger.entry(number).client.up);
        if is_in {
            let said = number.is_some_and(|number| self.ledger.entry(number).upstream.farewell);
            if let Some(at) = life.client_broken {
                // What TLS has said last may be what has failed: an event tells it again.
                let is_told = !(self.times.has_tls && at == record::now());
                // What upstream has said last is still offered to a client that is cut off.
                let last = if said { at.max(life.told_client) + FLUSH } else { at + LINGER };
                // Upstream, if it is broken too, shows that at once.
                if !life.upstream_ended && is_told {
                    found.push((last, "nobody is there any more"));
                }
            } else if let Some(at) = life.ended {
                found.push((at.max(life.told_client) + FLUSH, "it takes none of the last words"));
            } else if let Some(idle) = self.times.idle.filter(|_| life.hung_up.is_none() && !said) {
                found.push((life.active + idle, "it is idle no longer"));
            }
        }
        found.into_iter().min()
    }
}

/// A CancelRequest with a key of the model PostgreSQL's.
const CANCEL_BYTES: u64 = 16;
/// How long a client may take to close its side.
const LINGER: Duration = Duration::from_secs(2);
/// How long a client may take nothing of upstream's last words.
const FLUSH: Duration = Duration::from_secs(60);
