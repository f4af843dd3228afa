//! What happens in a run, as plain values: a plan can be printed, shrunk, kept and played again.
//! Knows nothing of how it is carried out.

use std::fmt;

use serde::{Deserialize, Serialize};

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
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 5] =
        [Profile::Quiet, Profile::Auth, Profile::Backpressure, Profile::Swarm, Profile::Liveness];
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Quiet => "quiet",
            Profile::Swarm => "swarm",
            Profile::Auth => "auth",
            Profile::Backpressure => "backpressure",
            Profile::Liveness => "liveness",
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

/// One login with both of its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Ties both ends together; stands in `application_name`.
    pub number: usize,
    /// Which client host it runs on; sessions of one host run one after the other.
    pub host: usize,
    /// Not before this moment.
    pub start_ms: u64,
    /// The client.
    pub client: Client,
    /// The model PostgreSQL's side.
    pub script: Script,
    /// What goes through the pipe.
    pub pipe: Pipe,
}

/// How a client logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Who it is.
    pub user: User,
    /// Encryption requests before the StartupMessage.
    pub prelude: Vec<Prelude>,
    /// What it knows.
    pub password: Password,
    /// What it does wrong.
    pub conduct: Conduct,
    /// It writes so many bytes at once.
    pub chunk: usize,
    /// And waits so long after each.
    pub pace_ms: u64,
    /// It keeps its socket so long after it has been refused.
    pub linger_ms: u64,
}

/// Who a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum User {
    /// A role with a tenant, told apart by this number.
    Tenant(usize),
    /// `postgres`
    Bypass,
}

/// An encryption request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prelude {
    /// SSLRequest.
    Ssl,
    /// GSSENCRequest.
    Gss,
}

/// What a client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Password {
    /// The password.
    Right,
    /// Another one.
    Wrong,
    /// Nothing.
    Empty,
}

/// What a client does wrong during its login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Conduct {
    /// Nothing.
    Good,
    /// Its bytes end after so many.
    Cut(Cut),
    /// It sends something else for a StartupMessage.
    Bad(BadStart),
    /// It sends a Query where a password is asked for.
    QueryForPassword,
}

/// First packets that must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BadStart {
    /// Length word 0.
    LengthZero,
    /// Length word 7.
    LengthSeven,
    /// Length word 10001.
    LengthTooBig,
    /// Length word -1.
    LengthNegative,
    /// Another protocol altogether.
    Http,
    /// Protocol 2.0.
    ProtocolTwo,
    /// SSLRequest twice.
    SslTwice,
    /// Bytes behind the last NUL.
    Trailing,
    /// `user` twice.
    UserTwice,
    /// The context variable, in capitals.
    Context,
    /// `role`
    Role,
    /// `replication`
    Replication,
    /// No tenant in the user name.
    NoTenant,
    /// `postgres.acme`
    BypassTenant,
    /// One value too many.
    ManyValues,
}

impl BadStart {
    /// All of them.
    pub const ALL: [BadStart; 15] = [
        BadStart::LengthZero,
        BadStart::LengthSeven,
        BadStart::LengthTooBig,
        BadStart::LengthNegative,
        BadStart::Http,
        BadStart::ProtocolTwo,
        BadStart::SslTwice,
        BadStart::Trailing,
        BadStart::UserTwice,
        BadStart::Context,
        BadStart::Role,
        BadStart::Replication,
        BadStart::NoTenant,
        BadStart::BypassTenant,
        BadStart::ManyValues,
    ];

    /// The SQLSTATE of its refusal.
    pub fn sqlstate(self) -> &'static str {
        match self {
            BadStart::ProtocolTwo => "0A000",
            BadStart::Context | BadStart::Role => "22023",
            BadStart::Replication
            | BadStart::NoTenant
            | BadStart::BypassTenant
            | BadStart::ManyValues => "28000",
            BadStart::LengthZero
            | BadStart::LengthSeven
            | BadStart::LengthTooBig
            | BadStart::LengthNegative
            | BadStart::Http
            | BadStart::SslTwice
            | BadStart::Trailing
            | BadStart::UserTwice => "08P01",
        }
    }
}

/// Where a peer's bytes end during a login, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// After so many bytes of the login.
    pub at: usize,
    /// How.
    pub how: End,
}

/// How a peer's bytes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// They go on a little later.
    Pause,
    /// Half-close; it still listens.
    HalfClose,
    /// close(2)
    Close,
    /// RST
    Reset,
    /// Nothing more comes.
    Silence,
}

/// The model PostgreSQL's side of a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// How the client is to prove who it is.
    pub auth: Auth,
    /// What goes wrong.
    pub fate: Fate,
    /// NoticeResponse, more ParameterStatus and NegotiateProtocolVersion in between.
    pub talkative: bool,
    /// It writes so many bytes at once.
    pub chunk: usize,
    /// And waits so long after each.
    pub pace_ms: u64,
}

/// Authentication methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Auth {
    /// No question asked.
    Trust,
    /// AuthenticationCleartextPassword.
    Cleartext,
    /// AuthenticationMD5Password.
    Md5,
    /// AuthenticationSASL with SCRAM-SHA-256.
    Scram,
}

impl Auth {
    /// All of them.
    pub const ALL: [Auth; 4] = [Auth::Trust, Auth::Cleartext, Auth::Md5, Auth::Scram];
}

/// What goes wrong upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// Nothing.
    Honest,
    /// An ErrorResponse to the StartupMessage.
    ErrorFirst,
    /// An ErrorResponse after AuthenticationOk.
    ErrorAfterOk,
    /// An authentication request that nobody knows.
    UnknownAuth,
    /// AuthenticationOk without waiting for the reply.
    Impatient,
    /// A SCRAM server that cannot prove that it knows the password.
    BadSignature,
    /// The answer to the batch, or what stands before it, is not right.
    Lie(Lie),
    /// Its bytes end after so many.
    Cut(Cut),
}

/// Ways in which what follows AuthenticationOk can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lie {
    /// ErrorResponse to the batch.
    Error,
    /// EmptyQueryResponse for CommandComplete.
    EmptyQuery,
    /// CopyInResponse.
    CopyIn,
    /// Two rows.
    ExtraRow,
    /// No row.
    MissingRow,
    /// `SELECT 2`
    NotOneRow,
    /// ReadyForQuery in a transaction, after the batch.
    StatusT,
    /// ReadyForQuery in a failed transaction, after the batch.
    StatusE,
    /// ReadyForQuery in a transaction, before the batch.
    StartStatusT,
    /// ReadyForQuery twice before the batch.
    ReadyTwice,
    /// A length word of 0.
    LengthZero,
    /// A length word of 3.
    LengthThree,
    /// A length word of 2^31 - 1.
    LengthHuge,
    /// The default is another tenant's.
    WrongDefault,
    /// set_config answers another tenant.
    WrongBound,
    /// Another tenant reads back.
    WrongValue,
    /// NULL reads back.
    NullValue,
    /// Another role reads back.
    WrongUser,
    /// A column too many.
    ExtraColumn,
    /// A privileged role.
    Privileged,
    /// Nobody knows whether the role is privileged.
    PrivilegedNull,
    /// pg_backend_pid() is another one.
    WrongPid,
    /// No BackendKeyData.
    NoKey,
    /// `is_superuser = on`, before the batch.
    Superuser,
    /// `is_superuser = on`, within its answer.
    SuperuserLate,
    /// AuthenticationOk twice.
    OkTwice,
    /// A row before ReadyForQuery.
    EarlyRow,
}

impl Lie {
    /// All of them.
    pub const ALL: [Lie; 27] = [
        Lie::Error,
        Lie::EmptyQuery,
        Lie::CopyIn,
        Lie::ExtraRow,
        Lie::MissingRow,
        Lie::NotOneRow,
        Lie::StatusT,
        Lie::StatusE,
        Lie::StartStatusT,
        Lie::ReadyTwice,
        Lie::LengthZero,
        Lie::LengthThree,
        Lie::LengthHuge,
        Lie::WrongDefault,
        Lie::WrongBound,
        Lie::WrongValue,
        Lie::NullValue,
        Lie::WrongUser,
        Lie::ExtraColumn,
        Lie::Privileged,
        Lie::PrivilegedNull,
        Lie::WrongPid,
        Lie::NoKey,
        Lie::Superuser,
        Lie::SuperuserLate,
        Lie::OkTwice,
        Lie::EarlyRow,
    ];

    /// The SQLSTATE of its refusal.
    pub fn sqlstate(self) -> &'static str {
        match self {
            Lie::Privileged | Lie::PrivilegedNull | Lie::Superuser | Lie::SuperuserLate => "28000",
            Lie::LengthZero | Lie::LengthThree | Lie::LengthHuge | Lie::OkTwice | Lie::EarlyRow => {
                "08P01"
            }
            _ => "08004",
        }
    }

    /// A pooler before PostgreSQL makes it pass.
    pub fn passes_behind_a_pooler(self) -> bool {
        matches!(self, Lie::WrongPid | Lie::NoKey | Lie::WrongDefault)
    }
}

/// What goes through the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipe {
    /// Bytes from the client.
    pub up: usize,
    /// Bytes from upstream.
    pub down: usize,
    /// Of the client's, so many are sent with its last word of the login.
    pub early: usize,
    /// Neither runs ahead of the other by more than a few bytes.
    pub pingpong: bool,
    /// How the client reads and writes.
    pub client: Pace,
    /// How upstream reads and writes.
    pub upstream: Pace,
    /// Who ends it.
    pub ending: Ending,
    /// The client sends a CancelRequest once it is in.
    pub cancel: bool,
}

/// How a peer reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// So many bytes at once.
    pub chunk: usize,
    /// With so long a pause.
    pub pause_ms: u64,
}

/// How a pipe ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The client half-closes when it has said all; upstream says its rest and closes.
    ClientFirst,
    /// Upstream closes when both have said all.
    UpstreamLast,
    /// The client goes away when so many bytes have come.
    ClientAbrupt(usize),
    /// Upstream resets when so many bytes have come.
    UpstreamAbrupt(usize),
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
    /// Upstream dies.
    CrashUpstream,
    /// Upstream starts anew.
    BounceUpstream,
    /// The daemon is asked to drain.
    Drain,
}

impl Plan {
    /// A session may end otherwise than its script says, through no fault of the daemon's.
    pub fn is_disruptive(&self) -> bool {
        let faults = &self.faults;
        faults.abort_percent
            + faults.connect_error_percent
            + faults.register_error_percent
            + faults.reset_permyriad
            > 0
            || self.daemon.login_timeout_ms < HASTE_MS
            || self.daemon.idle_timeout_ms.is_some()
            || self.events.iter().any(|event| {
                !matches!(
                    event.what,
                    Happening::HoldUpstream
                        | Happening::ReleaseUpstream
                        | Happening::HoldClient(_)
                        | Happening::ReleaseClient(_)
                )
            })
    }

    /// How many client hosts there are.
    pub fn hosts(&self) -> usize {
        self.sessions.iter().map(|session| session.host + 1).max().unwrap_or(0)
    }
}

/// A login timeout below this may come before an honest login is done.
const HASTE_MS: u64 = 1_000;
