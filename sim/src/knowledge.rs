//! What logins have told the daemon of roles and databases, and what has ended that: whether a
//! later one may leave questions out.
//! Knows nothing of what is asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::ledger::{database, role};
use crate::plan::Session;

/// What the daemon can know, and when it has last heard it.
#[derive(Default)]
pub struct Knowledge {
    /// When a login that was let in has asked for all of it.
    told: BTreeMap<Asker, Duration>,
    /// When the last login began that was refused, and when its client knew.
    refused: BTreeMap<Asker, (Duration, Duration)>,
    /// When an attempt to connect to this address last failed.
    failed: BTreeMap<SocketAddr, Duration>,
}

/// A database and a role.
type Asker = (&'static str, String);

impl Knowledge {
    /// The session's login is let in, having asked for all of it at `asked`.
    pub fn told(&mut self, session: &Session, asked: Duration) {
        let last = self.told.entry(asker(session)).or_default();
        *last = asked.max(*last);
    }

    /// The session's login is refused: that was after `began` and before `known`.
    pub fn refused(&mut self, session: &Session, began: Duration, known: Duration) {
        let last = self.refused.entry(asker(session)).or_default();
        if began >= last.0 {
            *last = (began, known);
        }
    }

    /// The daemon is told that an attempt to connect has failed.
    pub fn connect_failed(&mut self, address: SocketAddr, now: Duration) {
        self.failed.insert(address, now);
    }

    /// Why the session's login, whose connection has come to `address` at `accepted`, has to ask.
    pub fn objection(
        &self,
        session: &Session,
        accepted: Duration,
        address: SocketAddr,
        ttl: Duration,
    ) -> Option<&'static str> {
        let asker = asker(session);
        let Some(&told) = self.told.get(&asker) else { return Some("none has asked before it") };
        let is_refused = self
            .refused
            .get(&asker)
            .is_some_and(|&(began, known)| told < began && known < accepted);
        let has_failed =
            self.failed.get(&address).is_some_and(|&failed| told < failed && failed < accepted);
        [
            (accepted.saturating_sub(told) >= ttl, "the last answer is too old"),
            (is_refused, "one has been refused since"),
            (has_failed, "an attempt to connect has failed since"),
        ]
        .into_iter()
        .find_map(|(holds, why)| holds.then_some(why))
    }
}

fn asker(session: &Session) -> Asker {
    (database(session), role(session))
}
