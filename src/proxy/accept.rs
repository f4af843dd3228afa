//! Takes connections from the listeners, a bounded number a turn; outlives a lack of descriptors.
//! Knows nothing of what becomes of them.

use std::fmt;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use log::warn;

use super::admission::too_many;
use super::connection::Connection;
use super::journal::{Entry, Event};
use super::token::{self, ConnectionKey};
use super::{Proxy, Settings};
use crate::net::{ClientAddress, Net};
use crate::relay::Relay;
use crate::session::{ClientPlace, Leg, Nonce, Session, Stage};
use crate::tenant::Described;

/// Whether one more connection can be accepted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Free,
    /// If this one is closed.
    InPlaceOf(ConnectionKey),
    None,
}

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

    fn pause(&mut self, now: Instant, reason: &dyn fmt::Display) {
        self.paused_until = Some(now + ACCEPT_PAUSE);
        if !std::mem::replace(&mut self.warned, true) {
            warn!("accepting paused: {reason}");
        }
    }
}

impl<N: Net> Proxy<N> {
    pub(super) fn accept(&mut self, now: Instant) {
        if !self.acceptor.is_ready(now) {
            return;
        }
        self.acceptor.paused_until = None;
        let most = self.settings.limits.turn_accepts;
        let mut left = planted!(most, AcceptsUnbounded => usize::MAX);
        let listeners = self.acceptor.listeners.len();
        // Another one is the first each time, so that a flood on one leaves the others their share.
        self.acceptor.first = (self.acceptor.first + 1) % listeners;
        let first = self.acceptor.first;
        for at in (0..listeners).map(|at| (first + at) % listeners) {
            while left > 0 && self.acceptor.listeners[at].ready {
                let room = self.room();
                if room == Room::None {
                    return self.wait_for_room(now);
                }
                left = left.saturating_sub(1);
                let accepted = self.net.accept(&mut self.acceptor.listeners[at].listener);
                match accepted {
                    Ok((stream, client)) => {
                        self.acceptor.warned = false;
                        if let Room::InPlaceOf(key) = room {
                            self.crowd_out(key, now);
                        }
                        self.admit(stream, client, now);
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
                        return self.acceptor.pause(now, &error);
                    }
                }
            }
        }
        sometimes!(left == 0, AcceptsSpent);
    }

    /// Leaves whoever comes in the kernel's queue: nobody who is here may be closed for them. Those
    /// who wait for their first turn soon can be. The others end by themselves, of which no event
    /// tells the acceptor.
    fn wait_for_room(&mut self, now: Instant) {
        sometimes!(NoRoom);
        if self.run_queue.is_empty() {
            self.acceptor.pause(now, &"there is no room for another connection");
        }
    }

    /// Closes a connection that is no session, so that another one can take its place.
    fn crowd_out(&mut self, key: ConnectionKey, now: Instant) {
        sometimes!(CrowdedOut);
        let relay = &mut self.connections[key.slot].relay;
        relay.session_mut().refuse(too_many().private("crowded out"));
        relay.pump(&mut self.pool, self.settings.limits.turn_bytes);
        self.close(key, None, now);
    }

    /// Room for one more connection, if only to refuse it or to pass a cancel request on. The
    /// connection that is no session and whose time is over first has to make room, so that silent
    /// clients, however many, do not keep others out. A cancel request on its way goes last: while
    /// upstream is dialled its time is always the shortest.
    fn room(&self) -> Room {
        let Settings { connections_max, limits, .. } = &*self.settings;
        let most = 2 * connections_max + limits.spare_connections;
        if self.connections.len() < planted!(most, RoomIgnored => usize::MAX) {
            return Room::Free;
        }
        let mut room = Room::None;
        for key in self.timers.keys() {
            let connection = &self.connections[key.slot];
            if !connection.may_be_crowded_out() {
                continue;
            }
            if connection.relay.session().stage() != Stage::Cancelling {
                return Room::InPlaceOf(key);
            }
            if room == Room::None {
                room = Room::InPlaceOf(key);
            }
        }
        room
    }

    fn admit(&mut self, mut stream: N::Stream, client: ClientAddress, now: Instant) {
        self.generation = token::next_generation(self.generation);
        self.accepted += 1;
        let entry = self.connections.vacant_entry();
        let key = ConnectionKey { slot: entry.key(), generation: self.generation };
        let mut nonce = Nonce::default();
        let registered = self.net.register(&mut stream, key.token(Leg::Client));
        if let Err(error) = registered.and_then(|()| self.net.fill_random(&mut nonce)) {
            sometimes!(ClientUnregistered);
            let who = Described(None, &self.settings.session.policy);
            let event = Event::Dropped(&error);
            return Entry { session: self.accepted, client, who, event }.log();
        }
        let settings = self.settings.clone();
        let session = Session::new(settings.session.clone(), place(client), nonce);
        let relay = Relay::new(session, stream, settings.tls.clone());
        let connection =
            Connection::new(relay, settings, key.generation, self.accepted, client, now);
        self.connections.insert(connection);
        self.enqueue(key);
    }
}

fn place(client: ClientAddress) -> ClientPlace {
    match client {
        ClientAddress::Unix => ClientPlace::UnixSocket,
        ClientAddress::Tcp(_) if client.is_loopback() => ClientPlace::Loopback,
        ClientAddress::Tcp(_) => ClientPlace::Network,
    }
}

/// The connection was given up before it was accepted; the next may be well.
fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Interrupted | ErrorKind::ConnectionAborted)
}

/// Long enough not to spin, short enough that nobody gives up.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
