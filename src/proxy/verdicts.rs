//! Good verdicts of databases' guards, kept for a while so that not every login asks for one.
//! Knows nothing of what a verdict says; a bad one is never here.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log::warn;

use super::Proxy;
use super::token::ConnectionKey;
use crate::net::{Address, Net};
use crate::session::{Guard, Outcome, is_alarm};
use crate::tenant::{Login, User};

/// Whose verdict it is. The settings are the newest ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asker {
    address: String,
    database: Bytes,
    /// Logs in and works: a tenant's session has one role.
    role: Bytes,
}

impl Asker {
    /// `None` for a bypass user, who is not asked for, and for a database that nothing is kept of:
    /// PostgreSQL cuts a longer name, so that one database would have as many as a client likes.
    pub(super) fn new(address: &Address, login: &Login) -> Option<Self> {
        let User::Tenant(tenant) = &login.user else { return None };
        if login.database.len() > NAME_BYTES_MAX {
            return None;
        }
        let database = planted!(login.database.clone(), VerdictOfAnyDatabase => Bytes::new());
        let role = Bytes::copy_from_slice(tenant.role());
        Some(Asker { address: address.to_string(), database, role })
    }
}

/// Verdicts that were good, and databases without a guard that have been warned of.
#[derive(Default)]
pub(super) struct Verdicts {
    /// When each was asked for.
    held: BTreeMap<Asker, Instant>,
    warned: BTreeSet<Bytes>,
}

impl Verdicts {
    /// Whether the last verdict still counts.
    pub(super) fn is_held(&self, asker: &Asker, ttl: Duration, now: Instant) -> bool {
        self.held.get(asker).is_some_and(|asked| is_fresh(*asked, ttl, now))
    }

    /// Keeps a good verdict that was asked for at `asked`.
    pub(super) fn keep(&mut self, asker: Asker, asked: Instant, ttl: Duration, now: Instant) {
        if !is_fresh(asked, ttl, now) {
            return;
        }
        if self.held.len() >= VERDICTS_MAX {
            self.held.retain(|_, asked| is_fresh(*asked, ttl, now));
        }
        if self.held.len() < VERDICTS_MAX {
            self.held.insert(asker, asked);
        }
    }

    /// Whether this database without a guard has not been warned of yet.
    pub(super) fn is_news(&mut self, database: &Bytes) -> bool {
        self.warned.len() < WARNED_MAX && self.warned.insert(database.clone())
    }
}

impl<N: Net> Proxy<N> {
    /// The connection's upstream leg is there: its session is told if the verdict need not be
    /// asked for.
    pub(super) fn recall_verdict(&mut self, key: ConnectionKey, address: &Address, now: Instant) {
        let (newest, ttl) = (&self.settings.session, self.settings.verify_ttl);
        let Some(connection) = self.connections.get_mut(key.slot) else { return };
        let session = connection.relay.session_mut();
        if !Rc::ptr_eq(session.settings(), newest) {
            return;
        }
        let Some(asker) = session.login().and_then(|login| Asker::new(address, login)) else {
            return;
        };
        if self.verdicts.is_held(&asker, ttl, now) {
            sometimes!(VerdictKept);
            session.keep_verdict();
        } else {
            connection.asker = Some((asker, now));
        }
    }

    /// A login that has asked is up or refused.
    pub(super) fn note_verdict(&mut self, key: ConnectionKey, now: Instant) {
        let Some(connection) = self.connections.get_mut(key.slot) else { return };
        let Some((asker, asked)) = connection.asker.take() else { return };
        let (newest, ttl) = (&self.settings.session, self.settings.verify_ttl);
        let session = connection.relay.session();
        if !Rc::ptr_eq(session.settings(), newest) {
            return;
        }
        match (session.outcome(), session.guard()) {
            (None, Some(Guard::Held)) => self.verdicts.keep(asker, asked, ttl, now),
            (None, Some(Guard::Absent)) if self.verdicts.is_news(&asker.database) => warn!(
                "database={} has no guard: whether its tables are protected is not known; run \
                 sql/setup.sql in it, or set \"guard = off\"",
                asker.database.escape_ascii()
            ),
            (Some(Outcome::Refused(refusal)), _)
                if is_alarm(refusal) && mutant!(BadVerdictKept) =>
            {
                self.verdicts.keep(asker, asked, ttl, now);
            }
            _ => {}
        }
    }
}

fn is_fresh(asked: Instant, ttl: Duration, now: Instant) -> bool {
    now.saturating_duration_since(asked) < planted!(ttl, VerdictForEver => Duration::MAX)
}

/// Longest name of a database or role that PostgreSQL keeps whole (NAMEDATALEN).
const NAME_BYTES_MAX: usize = 63;

/// Some hundred bytes each.
const VERDICTS_MAX: usize = 10_000;

const WARNED_MAX: usize = 1_000;
