//! Takes connections from the listeners, a bounded number a turn; outlives a lack of descriptors.
//! Knows nothing of what becomes of them.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use log::warn;

use super::Proxy;
use super::connection::Connection;
use super::token::{self, Key};
use crate::net::{Net, Peer};
use crate::relay::Relay;
use crate::session::{ClientPlace, Leg, Session};

/// The listeners and whether they are to be asked.
pub(super) struct Acceptor<L> {
    listeners: Vec<Listener<L>>,
    /// Which of them is asked first.
    first: usize,
    /// Accepting has failed and is tried again then: a lack of descriptors brings no event.
    paused_until: Option<Instant>,
    /// The lack has been logged.
    warned: bool,
}

struct Listener<L> {
    listener: L,
    /// Connections may be waiting.
    ready: bool,
}

impl<L> Acceptor<L> {
    pub(super) fn new(listeners: Vec<L>) -> Self {
        let listeners =
            listeners.into_iter().map(|listener| Listener { listener, ready: true }).collect();
        Acceptor { listeners, first: 0, paused_until: None, warned: false }
    }

    pub(super) fn ready(&mut self, at: usize) {
        if let Some(listener) = self.listeners.get_mut(at) {
            listener.ready = true;
        }
    }

    /// Closes the listeners.
    pub(super) fn close(&mut self) {
        self.listeners.clear();
        self.paused_until = None;
    }

    /// Whether there may be something to accept now.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.paused_until.is_none_or(|until| until <= now)
            && self.listeners.iter().any(|listener| listener.ready)
    }

    /// When accepting is tried again after a failure.
    pub(super) fn resumes(&self) -> Option<Instant> {
        self.paused_until
    }
}

impl<N: Net> Proxy<N> {
    pub(super) fn accept(&mut self, now: Instant) {
        if !self.acceptor.is_ready(now) {
            return;
        }
        self.acceptor.paused_until = None;
        let mut left = self.settings.limits.turn_accepts;
        let listeners = self.acceptor.listeners.len();
        // Another one is the first each time, so that a flood on one leaves the others their share.
        self.acceptor.first = (self.acceptor.first + 1) % listeners;
        let first = self.acceptor.first;
        for at in (0..listeners).map(|at| (first + at) % listeners) {
            while (left > 0 || mutant!(AcceptsUnbounded)) && self.acceptor.listeners[at].ready {
                left = left.saturating_sub(1);
                let accepted = self.net.accept(&mut self.acceptor.listeners[at].listener);
                match accepted {
                    Ok((stream, peer)) => {
                        self.acceptor.warned = false;
                        if !self.has_room() {
                            sometimes!(CrowdedOut);
                            self.make_room(now);
                        }
                        self.admit(stream, peer, now);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.acceptor.listeners[at].ready = false;
                    }
                    Err(error) if is_passing(error.kind()) => sometimes!(AcceptRetried),
                    Err(error) => {
                        sometimes!(AcceptPaused);
                        if mutant!(AcceptGivesUp) {
                            self.acceptor.listeners[at].ready = false;
                            return;
                        }
                        self.acceptor.paused_until = Some(now + ACCEPT_PAUSE);
                        if !std::mem::replace(&mut self.acceptor.warned, true) {
                            warn!("accepting paused: {error}");
                        }
                        return;
                    }
                }
            }
        }
        sometimes!(left == 0, AcceptsSpent);
    }

    fn admit(&mut self, mut stream: N::Stream, peer: Peer, now: Instant) {
        self.generation = token::next_generation(self.generation);
        self.accepted += 1;
        let entry = self.connections.vacant_entry();
        let key = Key { slot: entry.key(), generation: self.generation };
        if let Err(error) = self.net.register(&mut stream, key.token(Leg::Client)) {
            sometimes!(ClientUnregistered);
            warn!("session={} dropped peer={peer}: {error}", self.accepted);
            return;
        }
        let session = Session::new(self.settings.session.clone(), place(peer));
        let relay = Relay::new(session, stream, self.settings.tls.clone());
        let connection = Connection::new(relay, key.generation, self.accepted, peer, now);
        self.connections.insert(connection);
        self.enqueue(key);
    }
}

fn place(peer: Peer) -> ClientPlace {
    match peer {
        Peer::Unix => ClientPlace::UnixSocket,
        Peer::Tcp(_) if peer.is_loopback() => ClientPlace::Loopback,
        Peer::Tcp(_) => ClientPlace::Network,
    }
}

/// The connection was given up before it was accepted; the next may be well.
fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Interrupted | ErrorKind::ConnectionAborted)
}

/// Long enough not to spin, short enough that nobody gives up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
