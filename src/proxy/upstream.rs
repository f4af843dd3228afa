//! Where upstream is: fixed addresses, or a host name whose addresses are looked up off the loop.
//! Knows nothing of connections but their keys.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::token::ConnectionKey;
use crate::net::Address;

/// The upstream of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// An address literal, or a unix socket.
    Address(Address),
    /// A host name, all of whose addresses are tried in their order.
    Name {
        /// As the resolver takes it.
        host: String,
        /// TCP port.
        port: u16,
    },
}

/// What is known of the upstream's addresses.
pub(super) struct Directory {
    upstream: Upstream,
    /// The last answer of the resolver, and when it came.
    known: Option<(Instant, Rc<[Address]>)>,
    /// The address that was connected to last: a dead one before it costs a timeout but once.
    preferred: Option<Address>,
    /// A look-up is under way.
    asking: bool,
    /// Connections that wait for its answer.
    waiting: Vec<ConnectionKey>,
}

/// Where to connect.
pub(super) enum Directions {
    /// To one of these, the first first.
    To(Rc<[Address]>),
    /// An answer will come; this name has to be looked up for it unless `None`.
    Wait(Option<(String, u16)>),
}

impl Directory {
    pub(super) fn new(upstream: Upstream) -> Self {
        Directory { upstream, known: None, preferred: None, asking: false, waiting: Vec::new() }
    }

    /// The addresses to try for a connection.
    pub(super) fn ask(&mut self, key: ConnectionKey, now: Instant) -> Directions {
        let (host, port) = match &self.upstream {
            Upstream::Address(address) => return Directions::To(Rc::new([address.clone()])),
            Upstream::Name { host, port } => (host, *port),
        };
        match &self.known {
            Some((since, addresses)) if now.saturating_duration_since(*since) < FRESH => {
                sometimes!(LookupReused);
                Directions::To(addresses.clone())
            }
            Some(_) | None => {
                self.waiting.push(key);
                let first = !std::mem::replace(&mut self.asking, true);
                Directions::Wait(first.then(|| (host.clone(), port)))
            }
        }
    }

    /// Notes the resolver's answer. Returns the connections that have waited for it, with the
    /// addresses unless the look-up failed.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        addresses: Option<Vec<Address>>,
    ) -> (Vec<ConnectionKey>, Option<Rc<[Address]>>) {
        self.asking = false;
        self.known = addresses.map(|mut addresses| {
            // Stable: the others keep the resolver's order.
            addresses.sort_by_key(|address| Some(address) != self.preferred.as_ref());
            (now, addresses.into())
        });
        let addresses = self.known.as_ref().map(|(_, addresses)| addresses.clone());
        (std::mem::take(&mut self.waiting), addresses)
    }

    /// This address could be connected to: it is tried first from now on.
    pub(super) fn prefer(&mut self, address: &Address) {
        if let Some((_, addresses)) = &mut self.known
            && self.preferred.as_ref() != Some(address)
        {
            let mut sorted = addresses.to_vec();
            sorted.sort_by_key(|other| other != address);
            *addresses = sorted.into();
            self.preferred = Some(address.clone());
        }
    }

    /// None of the addresses could be connected to: whoever comes next asks for others.
    pub(super) fn failed(&mut self) {
        self.known = None;
    }

    /// A connection waits no more.
    pub(super) fn forget(&mut self, key: ConnectionKey) {
        self.waiting.retain(|waiting| *waiting != key);
    }

    /// For the log: where connections go.
    pub(super) fn name(&self) -> String {
        match &self.upstream {
            Upstream::Address(address) => address.to_string(),
            Upstream::Name { host, port } => format!("{host}:{port}"),
        }
    }
}

/// How long an answer serves: a resolver is not asked for each login of a burst, and a failover by
/// DNS is noticed soon.
const FRESH: Duration = Duration::from_secs(5);
