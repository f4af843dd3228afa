//! Dials upstream for a connection: look-up, one address after the other, a deadline for each.
//! Knows nothing of what will be said once it is connected.

use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Proxy;
use super::connection::Dial;
use super::journal::Event;
use super::token::ConnectionKey;
use super::upstream::Directions;
use crate::net::{Address, Net};
use crate::refusal::{Fault, Refusal, sqlstate};
use crate::session::{Leg, Stage};

impl<N: Net> Proxy<N> {
    /// The session wants its upstream leg.
    pub(super) fn dial(&mut self, key: ConnectionKey, now: Instant) {
        if !self.is_wanted(key) {
            return;
        }
        match self.directory.ask(key, now) {
            Directions::To(addresses) => self.try_address(key, addresses, 0, None, now),
            Directions::Wait(lookup) => {
                if let Some(connection) = self.connection(key) {
                    let deadline = now + connection.settings.upstream_connect_timeout;
                    connection.dial = Some(Dial::Resolving { deadline });
                }
                match lookup {
                    Some((host, port)) => {
                        sometimes!(LookupStarted);
                        self.net.resolve(&host, port);
                    }
                    None => sometimes!(LookupShared),
                }
            }
        }
    }

    /// Takes the answer to [`Net::resolve`]. Take a turn afterwards.
    ///
    /// `answer` holds at least one address, or what went wrong.
    pub fn resolved(&mut self, now: Instant, answer: Result<Vec<Address>, String>) {
        let (addresses, error) = match answer {
            Ok(addresses) => (Some(addresses).filter(|it| !it.is_empty()), String::new()),
            Err(error) => (None, error),
        };
        let (waiting, addresses) = self.directory.answered(now, addresses);
        for key in waiting {
            let is_wanted = planted!(self.is_wanted(key), LateAnswerDials => true);
            if !is_wanted {
                sometimes!(LateAnswer);
                continue;
            }
            match &addresses {
                Some(addresses) => self.try_address(key, addresses.clone(), 0, None, now),
                None => {
                    sometimes!(LookupFailed);
                    let host = self.directory.name();
                    self.unreachable(key, format!("cannot look up {host}: {error}"));
                }
            }
            self.enqueue(key);
        }
    }

    /// Sees whether the attempt that is under way has ended.
    pub(super) fn check_connect(&mut self, key: ConnectionKey, now: Instant) {
        if !self.is_wanted(key) {
            return;
        }
        let Some(connection) = self.connection(key) else { return };
        let Some(Dial::Trying { addresses, at, again: None, .. }) = &connection.dial else {
            return;
        };
        let (addresses, at) = (addresses.clone(), *at);
        match connection.relay.connect_result() {
            Ok(false) => {}
            Ok(true) => {
                connection.dial = None;
                self.directory.prefer(&addresses[at]);
                self.recall_verdict(key, &addresses[at], now);
            }
            Err(error) => {
                sometimes!(ConnectRefused);
                self.next_address(key, addresses, at, &error, now);
            }
        }
    }

    /// A deadline of the dialling has come.
    pub(super) fn expire_dial(&mut self, key: ConnectionKey, now: Instant) {
        let Some(connection) = self.connection(key) else { return };
        match connection.dial.take() {
            None => {}
            Some(Dial::Resolving { deadline }) if deadline > now => {
                connection.dial = Some(Dial::Resolving { deadline });
            }
            Some(Dial::Resolving { .. }) => {
                sometimes!(LookupTimedOut);
                self.directory.forget(key);
                let host = self.directory.name();
                self.unreachable(key, format!("looking up {host} takes too long"));
            }
            Some(Dial::Trying { addresses, at, deadline, .. }) if deadline <= now => {
                sometimes!(ConnectTimedOut);
                self.next_address(key, addresses, at, &ErrorKind::TimedOut.into(), now);
            }
            Some(Dial::Trying { addresses, at, deadline, again: Some(_) }) => {
                self.try_address(key, addresses, at, Some(deadline), now);
            }
            Some(dial @ Dial::Trying { again: None, .. }) => connection.dial = Some(dial),
        }
        self.enqueue(key);
    }

    fn next_address(
        &mut self,
        key: ConnectionKey,
        addresses: Rc<[Address]>,
        at: usize,
        error: &io::Error,
        now: Instant,
    ) {
        let Some(connection) = self.connection(key) else { return };
        connection.relay.detach();
        connection.dial = None;
        connection.log(Event::NotConnected(&addresses[at], error));
        self.verdicts.address_failed(&addresses[at], self.settings.verify_ttl, now);
        if planted!(at + 1 < addresses.len(), FirstAddressOnly => false) {
            sometimes!(NextAddress);
            self.try_address(key, addresses, at + 1, None, now);
        } else {
            self.directory.failed();
            self.unreachable(key, format!("{}: {error}", addresses[at]));
        }
    }

    /// Starts an attempt to connect to the address at this place, or starts it again within the
    /// deadline that it has.
    fn try_address(
        &mut self,
        key: ConnectionKey,
        addresses: Rc<[Address]>,
        at: usize,
        deadline: Option<Instant>,
        now: Instant,
    ) {
        let stream = self.net.connect(&addresses[at]).and_then(|mut stream| {
            self.net.register(&mut stream, key.token(Leg::Upstream))?;
            Ok(stream)
        });
        let Some(connection) = self.connection(key) else { return };
        let timeout = connection.settings.upstream_connect_timeout;
        let deadline = deadline.unwrap_or(now + timeout);
        match stream {
            Ok(stream) => {
                connection.relay.attach(stream);
                connection.dial = Some(Dial::Trying { addresses, at, deadline, again: None });
            }
            // The backlog of a unix socket is full, of which no event tells the end.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                sometimes!(ConnectAgain);
                let again = Some(now + CONNECT_PAUSE);
                connection.dial = Some(Dial::Trying { addresses, at, deadline, again });
            }
            Err(error) => self.next_address(key, addresses, at, &error, now),
        }
    }

    /// The connection is there and has not been refused meanwhile.
    fn is_wanted(&mut self, key: ConnectionKey) -> bool {
        self.connection(key).is_some_and(|connection| {
            matches!(connection.relay.session().stage(), Stage::Login | Stage::Cancelling)
        })
    }

    fn unreachable(&mut self, key: ConnectionKey, private: String) {
        let Some(connection) = self.connection(key) else { return };
        connection.dial = None;
        connection.relay.session_mut().refuse(
            Refusal::new(
                Fault::Upstream,
                // pg_isready and clients with several hosts know it, and try again or elsewhere.
                sqlstate::CANNOT_CONNECT_NOW,
                "could not connect to the upstream server",
            )
            .private(private),
        );
    }
}

const CONNECT_PAUSE: Duration = Duration::from_millis(20);
