//! How long the slowest honest login of a plan may take, so that no deadline comes before it.
//! An estimate from above: it is not what the oracles judge by, but what makes them exact.

use super::{Event, Happening, Plan, Session};

impl Plan {
    /// A deadline of the daemon's may come before an honest login is done, or in a pause of a pipe.
    pub fn is_hasty(&self) -> bool {
        let busy = 2 * self.slack_ms() + IDLE_MS;
        self.daemon.idle_timeout_ms.is_some_and(|idle| idle < busy)
            || self.daemon.login_timeout_ms < self.login_ms()
            || self.daemon.connect_timeout_ms < self.connect_ms()
    }

    /// How long the slowest honest login may take.
    pub fn login_ms(&self) -> u64 {
        let slowest = self.sessions.iter().map(|session| self.session_ms(session)).max();
        let shared = self.turns_ms(LOGIN_BYTES + self.tls_bytes()) + self.hold_ms() + PAUSE_MS;
        self.connect_ms() + slowest.unwrap_or(0) + shared
    }

    /// How long a look-up and an attempt to connect may take.
    pub fn connect_ms(&self) -> u64 {
        let lookup = self.daemon.lookup.as_ref().map_or(0, |lookup| lookup.delay_ms);
        lookup + self.hold_ms() + 4 * self.hop_ms() + self.turns_ms(64) + CONNECT_MS
    }

    /// How much later than in a still network a byte may come, and a turn may be taken.
    pub fn slack_ms(&self) -> u64 {
        self.hold_ms() + 8 * self.hop_ms() + self.turns_ms(1_000)
    }

    /// Nothing keeps the daemon from telling a client what it has to tell.
    pub fn takes_at_once(&self) -> bool {
        let faults = &self.faults;
        faults.write_max >= 4_096
            && faults.would_block_percent == 0
            && self.network.window >= 4_096
            && !self.is_disruptive()
            && self.hold_ms() == 0
            && faults.batch_max > self.lanes()
    }

    /// There may be more connections than the daemon keeps: those that are no session have to make
    /// room.
    pub fn is_crowded(&self) -> bool {
        let connections: usize =
            self.sessions.iter().map(|session| 1 + session.pipe.cancel.count()).sum();
        connections >= self.daemon.room()
    }

    /// How long accepting may pause for want of descriptors.
    pub fn accept_ms(&self) -> u64 {
        if self.faults.accept_error_percent == 0 {
            return 0;
        }
        (self.lanes() as u64 + 4) * self.faults.accept_error_percent * 10
    }

    /// From one host to the next, at most.
    pub fn hop_ms(&self) -> u64 {
        self.network.latency_ms.1 + 2 * self.network.tick_ms + self.faults.slow_turn_ms
    }

    /// How long turns take, at most, until so many bytes of each session have passed.
    pub fn turns_ms(&self, bytes: usize) -> u64 {
        if self.faults.slow_turn_ms == 0 {
            return 0;
        }
        let grain = self.faults.read_max.min(self.faults.write_max).max(1);
        let turns = bytes.div_ceil(grain) * (1 + self.lanes() / self.faults.batch_max);
        // Three turns of ten are slow, by half of the most on average.
        turns as u64 * self.faults.slow_turn_ms / 4
    }

    fn session_ms(&self, session: &Session) -> u64 {
        let (client, script) = (&session.client, &session.script);
        let said =
            |bytes: usize, chunk: usize, pace_ms: u64| bytes.div_ceil(chunk) as u64 * pace_ms;
        let tls = self.tls_bytes();
        let windows = ((LOGIN_BYTES + tls) / self.network.window.max(1)) as u64;
        said(CLIENT_BYTES + tls / 2, client.chunk, client.pace_ms)
            + said(UPSTREAM_BYTES + tls / 2, script.chunk, script.pace_ms)
            + (LOGIN_HOPS + 2 * windows) * self.hop_ms()
    }

    /// Handshakes on both legs, and what the records of the login have more than its bytes.
    fn tls_bytes(&self) -> usize {
        if self.has_tls() { TLS_BYTES } else { 0 }
    }

    /// How long links are held, all in all.
    fn hold_ms(&self) -> u64 {
        let released = |event: &Event| {
            let undone = event.what.undone_by()?;
            let later = self.events.iter().filter(|later| later.what == undone);
            Some(later.map(|later| later.at_ms).max()?.saturating_sub(event.at_ms))
        };
        let is_hold = |event: &&Event| {
            matches!(event.what, Happening::HoldUpstream | Happening::HoldClient(_))
        };
        self.events.iter().filter(is_hold).filter_map(released).sum()
    }
}

/// Encryption requests, StartupMessage and replies.
const CLIENT_BYTES: usize = 500;
/// The most talkative one's part.
const UPSTREAM_BYTES: usize = 4_000;
/// All that passes in one login.
const LOGIN_BYTES: usize = 7_000;
const TLS_BYTES: usize = 6_000;
const LOGIN_HOPS: u64 = 40;
/// Cuts after which the bytes go on.
const PAUSE_MS: u64 = 400;
/// Between two pieces of a pipe.
const IDLE_MS: u64 = 200;
/// An attempt that has to be started again and again.
const CONNECT_MS: u64 = 200;
