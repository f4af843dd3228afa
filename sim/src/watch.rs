//! Counts what the daemon does with its sockets: bounds, busy loops, fairness of a turn.
//! Counted in the kernel, so that a fault of the daemon cannot hide itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use multigres::net::{Readiness, Token};
use multigres::proxy::{Limits, Status};

use crate::life::Lives;
use crate::record::{self, applied, violate};

/// The counters of one daemon.
pub struct Watch {
    connections: BTreeMap<usize, Legs>,
    lives: Option<Lives>,
    limits: Limits,
    /// Most bytes that a connection may hold in one direction. With TLS, whose records are longer
    /// than what is in them, both ends alone know.
    held_bytes_max: Option<u64>,
    accepts: usize,
    /// Calls since something has moved, and when that was.
    calls: usize,
    moved: u64,
    moved_before: u64,
    idle_turns: usize,
    since: Duration,
    /// Turns so far.
    pub turns: u64,
}

#[derive(Default)]
struct Legs {
    /// The client has been told the last before there was a pipe.
    refused: bool,
    /// Upstream is there and takes bytes: what comes from one leg has to go to the other.
    joined: bool,
    /// One of the legs takes no bytes any more.
    parted: bool,
    /// The client could not be told something: perhaps why its login is refused.
    blocked: bool,
    read: [u64; 2],
    written: [u64; 2],
    read_in_turn: [u64; 2],
}

impl Watch {
    /// The daemon has these limits, and peers say at most so many bytes before they are asked to.
    pub fn new(limits: Limits, early_bytes: usize, has_tls: bool) -> Self {
        let held_bytes_max = (limits.buffer_bytes + LOGIN_BYTES_MAX + early_bytes) as u64;
        Watch {
            connections: BTreeMap::new(),
            lives: None,
            limits,
            held_bytes_max: (!has_tls).then_some(held_bytes_max),
            accepts: 0,
            calls: 0,
            moved: 0,
            moved_before: 0,
            idle_turns: 0,
            since: Duration::ZERO,
            turns: 0,
        }
    }

    /// The deadlines are watched too.
    pub fn know(&mut self, lives: Lives) {
        self.lives = Some(lives);
    }

    /// The daemon is told to end everything.
    pub fn stop(&mut self) {
        self.live(Lives::stop);
    }

    /// The daemon is told to drain.
    pub fn drain(&mut self) {
        self.live(Lives::drain);
    }

    fn live(&mut self, use_it: impl FnOnce(&mut Lives)) {
        if let Some(lives) = &mut self.lives {
            use_it(lives);
        }
    }

    /// An event is told, which is nonsense unless `is_true`.
    pub(crate) fn told(&mut self, token: Token, what: Readiness, is_true: bool) {
        self.live(|lives| lives.told(token, what, is_true));
    }

    pub(crate) fn held_back(&mut self, token: Option<Token>) {
        if let Some(token) = token {
            self.live(|lives| lives.held_back(token));
        }
    }

    pub(crate) fn connected(&mut self, token: Option<Token>, local: Option<SocketAddr>) {
        if let Some(token) = token {
            self.live(|lives| lives.connected(token, local));
        }
    }

    pub(crate) fn connect_failed(&mut self, address: SocketAddr) {
        self.live(|lives| lives.connect_failed(address));
    }

    pub(crate) fn opened(&mut self, token: Token, peer: Option<SocketAddr>) {
        self.moved += 1;
        self.live(|lives| lives.opened(token, peer));
        let legs = self.connections.entry(token.0 >> 1).or_default();
        legs.joined |= token.0 & 1 == 1;
        if legs.refused {
            violate("S3", "upstream is dialled for a login that has been refused");
        }
    }

    pub(crate) fn closed(&mut self, token: Token) {
        self.moved += 1;
        self.live(|lives| lives.closed(token));
        if token.0 & 1 == 0 {
            self.connections.remove(&(token.0 >> 1));
        } else {
            self.broken(Some(token));
        }
    }

    /// The daemon has shut a leg down for writing.
    pub(crate) fn shut(&mut self, token: Option<Token>) {
        if let Some(token) = token {
            self.live(|lives| lives.shut(token));
        }
        let Some(token) = token.filter(|token| token.0 & 1 == 0) else { return };
        if let Some(legs) = self.connections.get_mut(&(token.0 >> 1)) {
            legs.refused = true;
        }
    }

    /// A call has told that the leg is broken.
    pub(crate) fn failed(&mut self, token: Option<Token>) {
        if let Some(token) = token {
            self.live(|lives| lives.failed(token));
        }
    }

    /// A leg takes no bytes any more: what comes for it is thrown away.
    pub(crate) fn broken(&mut self, token: Option<Token>) {
        if let Some(legs) = token.and_then(|token| self.connections.get_mut(&(token.0 >> 1))) {
            (legs.joined, legs.parted) = (false, true);
        }
    }

    /// A leg could not be written to.
    pub(crate) fn blocked(&mut self, token: Option<Token>) {
        let Some(token) = token.filter(|token| token.0 & 1 == 0) else { return };
        self.live(|lives| lives.blocked(token));
        if let Some(legs) = self.connections.get_mut(&(token.0 >> 1)) {
            legs.blocked = true;
        }
    }

    pub(crate) fn accepted(&mut self) {
        self.moved += 1;
        self.accepts += 1;
    }

    /// The daemon has made a call.
    pub(crate) fn call(&mut self) {
        self.calls += 1;
        assert!(self.calls <= CALLS_MAX, "R2: {CALLS_MAX} calls of sockets and nothing moves");
    }

    pub(crate) fn read(&mut self, token: Option<Token>, count: usize) {
        self.count(token, count, false, |legs, leg| {
            legs.read_in_turn[leg] += count as u64;
            &mut legs.read[leg]
        });
    }

    pub(crate) fn written(&mut self, token: Option<Token>, count: usize) {
        self.count(token, count, true, |legs, leg| &mut legs.written[leg]);
    }

    fn count(
        &mut self,
        token: Option<Token>,
        count: usize,
        wrote: bool,
        field: impl FnOnce(&mut Legs, usize) -> &mut u64,
    ) {
        self.calls = 0;
        self.moved += 1;
        let Some(token) = token else { return violate("S10", "a stream is used unregistered") };
        self.live(|lives| lives.moved(token, wrote, count));
        let Some(legs) = self.connections.get_mut(&(token.0 >> 1)) else { return };
        *field(legs, token.0 & 1) += count as u64;
        if !legs.joined {
            let may_discard = legs.parted || legs.refused || legs.blocked;
            // With TLS, a buffer of records and what is in one of them.
            let more = if self.held_bytes_max.is_some() { 0 } else { self.limits.buffer_bytes };
            if !may_discard && legs.read[0] > EARLY_BYTES_MAX + 2 * more as u64 {
                violate("S8", format!("a login without upstream has taken {} bytes", legs.read[0]));
            }
            return;
        }
        applied("S8");
        for from in [0, 1] {
            let held = legs.read[from].saturating_sub(legs.written[1 - from]);
            if self.held_bytes_max.is_some_and(|most| held > most) {
                violate("S8", format!("a connection holds {held} bytes from leg {from}"));
            }
        }
    }

    /// A turn begins.
    pub fn begin_turn(&mut self) {
        self.turns += 1;
        self.accepts = 0;
        self.live(Lives::begin_turn);
        for legs in self.connections.values_mut() {
            legs.read_in_turn = [0; 2];
        }
    }

    /// A turn has ended, and the daemon will sleep so long, with so many connections waiting of
    /// which no event will tell.
    pub(crate) fn end_turn(&mut self, waiting: usize, nap: Option<Duration>, status: &Status) {
        if waiting > 0 {
            applied("R5");
            if nap.is_none_or(|nap| nap > ACCEPT_PAUSE) {
                violate("R5", format!("{waiting} connections wait for accept, nap is {nap:?}"));
            }
        }
        self.live(|lives| lives.check(nap, status));
        if self.accepts > self.limits.turn_accepts {
            violate("R3", format!("{} connections accepted in one turn", self.accepts));
        }
        // The read that goes over it, and what a login has read before it has dialled, which
        // counts by itself.
        let Limits { buffer_bytes, turn_bytes, .. } = self.limits;
        let limit = (turn_bytes + buffer_bytes + LOGIN_BYTES_MAX) as u64;
        for legs in self.connections.values() {
            let most = legs.read_in_turn[0].max(legs.read_in_turn[1]);
            if most >= turn_bytes as u64 {
                applied("R3");
            }
            if most > limit {
                violate("R3", format!("{most} bytes of one connection in one turn"));
            }
        }
        let now = record::now();
        if now > self.since || self.moved > self.moved_before {
            (self.since, self.moved_before, self.idle_turns) = (now, self.moved, 0);
            self.calls = 0;
        }
        self.idle_turns += 1;
        assert!(self.idle_turns <= IDLE_TURNS_MAX, "R2: {IDLE_TURNS_MAX} turns, nothing moves");
    }
}

/// A client's bytes before upstream is connected: a first packet, and what it says early.
const EARLY_BYTES_MAX: u64 = 10_000 + 65_540;
/// What a login of these scripts may pile up beside the pipe's buffer.
const LOGIN_BYTES_MAX: usize = 16 * 1024;
/// After a failure the daemon tries again no later.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const CALLS_MAX: usize = 200_000;
const IDLE_TURNS_MAX: usize = 2_000;
