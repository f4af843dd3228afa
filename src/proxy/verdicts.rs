//! What logins have found of roles and databases, kept for a while so that not every login asks.
//! Knows nothing of what is asked; of a login that was refused nothing is here.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log::warn;

use super::Proxy;
use super::token::ConnectionKey;
use crate::net::{Address, Net};
use crate::session::{Findings, Guard, Outcome, is_alarm};
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
        let role = planted!(tenant.role(), VerdictOfAnyRole => b"");
        let role = Bytes::copy_from_slice(role);
        Some(Asker { address: address.to_string(), database, role })
    }
}

/// What may be kept of a login, which is under way.
pub(super) struct Asking {
    asker: Asker,
    /// Since when its answers count; `None` if it asks for nothing that can be kept.
    since: Option<Instant>,
}

/// Verdicts that were good, and databases without a guard that have been warned of.
#[derive(Default)]
pub(super) struct Verdicts {
    held: BTreeMap<Asker, Verdict>,
    /// When all were forgotten for want of room, refusals too: nothing asked before counts.
    forgotten: Option<Instant>,
    /// When the last attempt to connect to an address failed: another server may be there now.
    failed: BTreeMap<String, Instant>,
    warned: BTreeSet<Bytes>,
}

/// What was found, or that a login was refused, and since when that counts.
struct Verdict {
    findings: Option<Findings>,
    since: Instant,
}

impl Verdicts {
    /// What was found, if it still counts.
    fn recall(&self, asker: &Asker, ttl: Duration, now: Instant) -> Option<Findings> {
        let verdict = self.held.get(asker)?;
        let counts =
            is_fresh(verdict.since, ttl, now) && !self.has_failed_since(asker, verdict.since);
        verdict.findings.filter(|_| counts)
    }

    /// Keeps what a login has found that was let in, or that one was refused; what is known from a
    /// later one stays. At one time a refusal is the later.
    fn keep(&mut self, asker: Asker, found: Verdict, ttl: Duration, now: Instant) {
        let age = |verdict: &Verdict| (verdict.since, verdict.findings.is_none());
        let is_outdated = self.held.get(&asker).is_some_and(|known| age(known) >= age(&found))
            || self.has_failed_since(&asker, found.since)
            || self.forgotten.is_some_and(|forgotten| forgotten >= found.since);
        if is_outdated || !is_fresh(found.since, ttl, now) {
            return;
        }
        if self.held.len() >= VERDICTS_MAX {
            self.held.retain(|_, verdict| is_fresh(verdict.since, ttl, now));
        }
        if self.held.len() >= VERDICTS_MAX {
            self.held.clear();
            self.forgotten = Some(now);
        }
        self.held.insert(asker, found);
    }

    /// An attempt to connect to the address has failed.
    pub(super) fn address_failed(&mut self, address: &Address, ttl: Duration, now: Instant) {
        self.failed.retain(|_, at| is_fresh(*at, ttl, now));
        self.failed.insert(address.to_string(), now);
    }

    fn has_failed_since(&self, asker: &Asker, since: Instant) -> bool {
        let has_failed = self.failed.get(&asker.address).is_some_and(|failed| *failed >= since);
        planted!(has_failed, FailureKeepsVerdict => false)
    }

    /// Whether this database without a guard has not been warned of yet.
    fn is_news(&mut self, database: &Bytes) -> bool {
        self.warned.len() < WARNED_MAX && self.warned.insert(database.clone())
    }
}

impl<N: Net> Proxy<N> {
    /// The connection's upstream leg is there: its session is told what need not be asked for.
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
        let known = self.verdicts.recall(&asker, ttl, now);
        if let Some(findings) = known {
            sometimes!(VerdictKept);
            session.keep_verdict(findings);
        }
        let since = known.is_none().then_some(now);
        connection.asking = Some(Asking { asker, since });
    }

    /// A login that has asked is up or refused.
    pub(super) fn note_verdict(&mut self, key: ConnectionKey, now: Instant) {
        let Some(connection) = self.connections.get_mut(key.slot) else { return };
        let Some(Asking { asker, since }) = connection.asking.take() else { return };
        let (newest, ttl) = (&self.settings.session, self.settings.verify_ttl);
        let session = connection.relay.session();
        if !Rc::ptr_eq(session.settings(), newest) {
            return;
        }
        let findings = session.findings();
        let verdict = match session.outcome() {
            None => since.map(|since| Verdict { findings: Some(findings), since }),
            Some(Outcome::Refused(refusal)) if is_alarm(refusal) && mutant!(BadVerdictKept) => {
                let findings = Some(Findings { sealed: None, guard: Some(Guard::Held) });
                since.map(|since| Verdict { findings, since })
            }
            Some(Outcome::Refused(_) | Outcome::RefusedByUpstream { .. }) => {
                sometimes!(VerdictDropped);
                let refused = Some(Verdict { findings: None, since: now });
                planted!(refused, RefusalKeepsVerdict => None)
            }
            Some(Outcome::ClientLeft | Outcome::Cancelled) => None,
        };
        if findings.guard == Some(Guard::Absent) && self.verdicts.is_news(&asker.database) {
            warn!(
                "database={} has no guard: whether its tables are protected is not known; run \
                 sql/setup.sql in it, or set \"guard = off\"",
                asker.database.escape_ascii()
            );
        }
        if let Some(verdict) = verdict {
            self.verdicts.keep(asker, verdict, ttl, now);
        }
    }
}

fn is_fresh(since: Instant, ttl: Duration, now: Instant) -> bool {
    now.saturating_duration_since(since) < planted!(ttl, VerdictForEver => Duration::MAX)
}

/// Longest name of a database or role that PostgreSQL keeps whole (NAMEDATALEN).
const NAME_BYTES_MAX: usize = 63;

/// Some hundred bytes each.
const VERDICTS_MAX: usize = 10_000;

const WARNED_MAX: usize = 1_000;
