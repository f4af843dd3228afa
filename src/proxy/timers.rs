//! Deadlines of all connections in one ordered set, at most one for each.
//! Knows nothing of what a deadline is for.

use std::collections::BTreeSet;
use std::time::Instant;

use super::token::ConnectionKey;

/// The deadlines. A connection keeps its own beside it, to change or remove it.
#[derive(Default)]
pub(super) struct Timers(BTreeSet<(Instant, ConnectionKey)>);

impl Timers {
    /// Puts `new` in the place of `old`, and into `old`.
    pub(super) fn set(
        &mut self,
        key: ConnectionKey,
        old: &mut Option<Instant>,
        new: Option<Instant>,
    ) {
        if *old == new {
            return;
        }
        if let Some(old) = *old {
            self.0.remove(&(old, key));
        }
        if let Some(new) = new {
            self.0.insert((new, key));
        }
        *old = new;
    }

    /// Takes out one deadline that has come.
    pub(super) fn expired(&mut self, now: Instant) -> Option<ConnectionKey> {
        let &(at, key) = self.0.first()?;
        if at > now {
            return None;
        }
        self.0.remove(&(at, key));
        Some(key)
    }

    /// The nearest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|&(at, _)| at)
    }

    /// Whose they are, the nearest first.
    pub(super) fn keys(&self) -> impl Iterator<Item = ConnectionKey> {
        self.0.iter().map(|&(_, key)| key)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
