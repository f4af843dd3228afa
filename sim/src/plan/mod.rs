//! What happens in a run, as plain values: a plan can be printed, shrunk, kept and played again.
//! Knows nothing of how it is carried out.

mod haste;
mod script;
mod session;
mod tls;

use std::fmt;

use multigres::{proxy, tenant};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use script::{Auth, Fate, Lie, Script};
pub use session::{
    BadStart, Cancel, Client, Conduct, Cut, End, Ending, Pace, Password, Pipe, Prelude, Session,
    User,
};
pub use tls::{ClientTls, NO_TLS, Tls, TlsAnswer, UpstreamTls};

/// A whole run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Of the streams of random numbers that are drawn while the run goes on.
    pub seed: u64,
    /// Which kind of run this is.
    pub profile: Profile,
    /// Turmoil's part.
    pub network: Network,
    /// What the daemon's kernel does wrong.
    pub faults: Faults,
    /// The daemon's settings.
    pub daemon: Daemon,
    /// Logins, each with both of its peers.
    pub sessions: Vec<Session>,
    /// What befalls the network and the hosts.
    pub events: Vec<Event>,
}

/// Kinds of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Profile {
    /// No faults but those of the peers' scripts: everything is exact.
    Quiet,
    /// Each fault on or off.
    Swarm,
    /// Many logins, every way to authenticate.
    Auth,
    /// Small windows, much to move.
    Backpressure,
    /// Faults until a moment, then health.
    Liveness,
    /// Any of these, with TLS.
    Tls,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 6] = [
        Profile::Quiet,
        Profile::Auth,
        Profile::Backpressure,
        Profile::Swarm,
        Profile::Liveness,
        Profile::Tls,
    ];
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Quiet => "quiet",
            Profile::Swarm => "swarm",
            Profile::Auth => "auth",
            Profile::Backpressure => "backpressure",
            Profile::Liveness => "liveness",
            Profile::Tls => "tls",
        })
    }
}

/// Turmoil's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Least and most latency of a segment.
    pub latency_ms: (u64, u64),
    /// Grain of virtual time.
    pub tick_ms: u64,
    /// Hosts run in another order in each tick.
    pub random_order: bool,
    /// Bytes that may be under way in each direction of a connection.
    pub window: usize,
}

/// What the daemon's kernel does wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// A read brings at most so much.
    pub read_max: usize,
    /// A write takes at most so much.
    pub write_max: usize,
    /// EINTR.
    pub interrupt_percent: u64,
    /// EAGAIN although there is something.
    pub would_block_percent: u64,
    /// Events for nothing, also of closed sockets.
    pub spurious_percent: u64,
    /// Events in another order than they came.
    pub shuffle: bool,
    /// Events tell only what has changed, as kqueue's, not all that is, as epoll's.
    pub narrow_events: bool,
    /// Events in one batch.
    pub batch_max: usize,
    /// Longest pause before a turn.
    pub slow_turn_ms: u64,
    /// Connections that wait for accept(2).
    pub backlog: usize,
    /// EMFILE or EINTR from accept(2).
    pub accept_error_percent: u64,
    /// ECONNABORTED from accept(2): a connection is lost.
    pub abort_percent: u64,
    /// EAGAIN from connect(2).
    pub connect_again_percent: u64,
    /// EMFILE or EADDRNOTAVAIL from connect(2).
    pub connect_error_percent: u64,
    /// epoll_ctl(2) fails.
    pub register_error_percent: u64,
    /// A connection breaks during a call, so many times of ten thousand.
    pub reset_permyriad: u64,
    /// Clients seem to come from a loopback address.
    pub private_peers: bool,
    /// From this moment on, none of the faults that end a session.
    pub heal_ms: Option<u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            read_max: usize::MAX,
            write_max: usize::MAX,
            interrupt_percent: 0,
            would_block_percent: 0,
            spurious_percent: 0,
            shuffle: false,
            narrow_events: false,
            batch_max: 1024,
            slow_turn_ms: 0,
            backlog: 128,
            accept_error_percent: 0,
            abort_percent: 0,
            connect_again_percent: 0,
            connect_error_percent: 0,
            register_error_percent: 0,
            reset_permyriad: 0,
            private_peers: true,
            heal_ms: None,
        }
    }
}

/// The daemon's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// `auth`
    pub auth: AuthMode,
    /// `allow_cleartext_password`
    pub allow_cleartext: bool,
    /// `upstream_pooler = session`
    pub pooler: bool,
    /// `login_timeout`
    pub login_timeout_ms: u64,
    /// `upstream_connect_timeout`
    pub connect_timeout_ms: u64,
    /// `idle_timeout`
    pub idle_timeout_ms: Option<u64>,
    /// `max_connections`
    pub connections_max: usize,
    /// How many context variables there are.
    pub variables: usize,
    /// Upstream is a host name.
    pub lookup: Option<Lookup>,
    /// The database is sealed, and this is `seal_bind` on both sides.
    #[serde(default)]
    pub seal: Option<SealBind>,
    /// `verify_ttl`
    #[serde(default)]
    pub verify_ttl_ms: u64,
    /// TLS of both legs.
    #[serde(default)]
    pub tls: Tls,
    /// Sizes of its buffers and turns.
    #[serde(default)]
    pub limits: Limits,
}

impl Daemon {
    /// How many connections it keeps at once: as many that are no session as sessions, and the
    /// spare ones.
    pub fn room(&self) -> usize {
        2 * self.connections_max + self.limits.spare_connections
    }
}

/// `seal_bind`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SealBind {
    /// `address`
    Address,
    /// `none`
    None,
}

impl From<SealBind> for tenant::SealBind {
    fn from(bind: SealBind) -> Self {
        match bind {
            SealBind::Address => tenant::SealBind::Address,
            SealBind::None => tenant::SealBind::None,
        }
    }
}

/// Sizes of the daemon's buffers and turns, as in its `proxy::Limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Of a buffer.
    pub buffer_bytes: usize,
    /// Of one connection in one direction.
    pub turn_bytes: usize,
    /// Connections in one turn.
    pub turn_accepts: usize,
    /// Connections beyond twice `max_connections`.
    pub spare_connections: usize,
}

impl From<Limits> for proxy::Limits {
    fn from(limits: Limits) -> Self {
        let Limits { buffer_bytes, turn_bytes, turn_accepts, spare_connections } = limits;
        proxy::Limits { buffer_bytes, turn_bytes, turn_accepts, spare_connections }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let limits = proxy::Limits::default();
        let proxy::Limits { buffer_bytes, turn_bytes, turn_accepts, spare_connections } = limits;
        Limits { buffer_bytes, turn_bytes, turn_accepts, spare_connections }
    }
}

/// How the resolver answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// After so long.
    pub delay_ms: u64,
    /// What.
    pub answer: LookupAnswer,
}

/// What the resolver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LookupAnswer {
    /// The address.
    Good,
    /// An address where nobody listens, then the address.
    BadFirst,
    /// An address where nobody listens.
    Bad,
    /// That there is no such name.
    Unknown,
    /// Nothing.
    Never,
}

/// `auth`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthMode {
    /// `auto`
    Auto,
    /// `relay`
    Relay,
    /// `password`
    Password,
}

/// What befalls the network and the hosts, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Virtual time.
    pub at_ms: u64,
    /// What.
    pub what: Happening,
}

/// What befalls the network and the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// Nothing passes between the daemon and upstream; it comes later.
    HoldUpstream,
    /// It passes again.
    ReleaseUpstream,
    /// Nothing passes between a client host and the daemon; it comes later.
    HoldClient(usize),
    /// It passes again.
    ReleaseClient(usize),
    /// Nothing ever passes again between a client host and the daemon.
    PartitionClient(usize),
    /// Nothing ever passes again from a client host to the daemon.
    PartitionFromClient(usize),
    /// Nothing ever passes again from the daemon to a client host.
    PartitionToClient(usize),
    /// Upstream dies.
    CrashUpstream,
    /// Upstream starts anew.
    BounceUpstream,
    /// The daemon is asked to drain.
    Drain,
    /// The daemon is asked to stop at once.
    Stop,
}

impl Happening {
    /// The one that undoes it, if there is one.
    fn undone_by(self) -> Option<Happening> {
        match self {
            Happening::HoldUpstream => Some(Happening::ReleaseUpstream),
            Happening::HoldClient(host) => Some(Happening::ReleaseClient(host)),
            Happening::CrashUpstream => Some(Happening::BounceUpstream),
            _ => None,
        }
    }

    /// Sessions end by it, or hang, through no fault of the daemon's.
    fn is_disaster(self) -> bool {
        match self {
            Happening::HoldUpstream
            | Happening::ReleaseUpstream
            | Happening::HoldClient(_)
            | Happening::ReleaseClient(_)
            | Happening::Drain => false,
            Happening::PartitionClient(_)
            | Happening::PartitionFromClient(_)
            | Happening::PartitionToClient(_)
            | Happening::CrashUpstream
            | Happening::BounceUpstream
            | Happening::Stop => true,
        }
    }
}

impl Plan {
    /// As it stands in a file: without the faults that it does not have.
    ///
    /// # Panics
    /// Never: these are plain values.
    pub fn to_text(&self) -> String {
        let value = |plan: &Plan| serde_json::to_value(plan).expect("plain values");
        let (mut own, mut calm) = (value(self), self.clone());
        (calm.faults, calm.daemon.limits) = (Faults::default(), Limits::default());
        let calm = value(&calm);
        for path in ["/faults", "/daemon/limits"] {
            if let (Some(Value::Object(own)), Some(calm)) =
                (own.pointer_mut(path), calm.pointer(path))
            {
                own.retain(|name, value| *value != calm[name.as_str()]);
            }
        }
        serde_json::to_string_pretty(&own).expect("plain values")
    }

    /// A session may end otherwise than its script says, through no fault of the daemon's. A drain
    /// is none of these: what it does to which session is certain.
    pub fn is_disruptive(&self) -> bool {
        let faults = &self.faults;
        let breaks = faults.abort_percent
            + faults.connect_error_percent
            + faults.register_error_percent
            + faults.reset_permyriad;
        let is_deaf = self.upstream_is_deaf();
        breaks > 0
            || self.is_hasty()
            || self.events.iter().any(|event| {
                let excused = is_deaf && event.what.undone_by().is_some();
                !excused && (event.what.is_disaster() || self.is_for_ever(event))
            })
    }

    /// A peer that nothing reaches any more keeps its connection.
    pub fn may_hang(&self) -> bool {
        self.events.iter().any(|event| {
            matches!(
                event.what,
                Happening::PartitionClient(_)
                    | Happening::PartitionFromClient(_)
                    | Happening::PartitionToClient(_)
                    | Happening::CrashUpstream
            ) || self.is_for_ever(event)
        })
    }

    /// From before the first login to the end, no attempt to connect to upstream is answered.
    pub fn upstream_is_deaf(&self) -> bool {
        let begins =
            |what: Happening| matches!(what, Happening::HoldUpstream | Happening::CrashUpstream);
        self.events
            .iter()
            .any(|event| event.at_ms == 0 && begins(event.what) && self.is_for_ever(event))
            && self.events.len() == 1
    }

    fn is_for_ever(&self, event: &Event) -> bool {
        let Some(undone) = event.what.undone_by() else { return false };
        // What comes at the same moment comes in the order of the plan.
        let mut events: Vec<&Event> = self.events.iter().collect();
        events.sort_by_key(|event| event.at_ms);
        let last = events.iter().rposition(|other| *other == event).unwrap_or(0);
        !events[last..].iter().any(|later| later.what == undone)
    }

    /// When the daemon is first asked to end, if it is.
    pub fn ends_at(&self) -> Option<u64> {
        let ends = |event: &&Event| matches!(event.what, Happening::Drain | Happening::Stop);
        self.events.iter().filter(ends).map(|event| event.at_ms).min()
    }

    /// Whether the daemon is asked to stop at once.
    pub fn stops(&self) -> bool {
        self.events.iter().any(|event| event.what == Happening::Stop)
    }

    /// How many client hosts there are.
    pub fn hosts(&self) -> usize {
        self.sessions.iter().map(|session| session.host + 1).max().unwrap_or(0)
    }

    /// How many sessions there may be side by side.
    pub fn lanes(&self) -> usize {
        let lanes: std::collections::BTreeSet<_> =
            self.sessions.iter().map(|session| (session.host, session.lane)).collect();
        lanes.len()
    }
}
