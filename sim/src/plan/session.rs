//! What both peers of one login do, and where in the run it has its place.
//! Knows nothing of how they do it.

use serde::{Deserialize, Serialize};

use super::Script;

/// One login with both of its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Ties both ends together; stands in `application_name`.
    pub number: usize,
    /// Which client host it runs on.
    pub host: usize,
    /// Sessions of one lane of a host run one after the other, lanes side by side.
    #[serde(default)]
    pub lane: usize,
    /// It begins when the core of the network is well again, and has to succeed soon.
    #[serde(default)]
    pub probe: bool,
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
    /// It does not wait for the answers to these before it goes on.
    #[serde(default)]
    pub eager: bool,
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
    /// None: TLS begins with the first byte.
    Direct,
    /// The same without ALPN.
    DirectWithoutAlpn,
}

impl Prelude {
    /// Whether it is answered.
    pub fn is_request(self) -> bool {
        matches!(self, Prelude::Ssl | Prelude::Gss)
    }
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
    /// It sends a Query behind the StartupMessage.
    QueryBehindStart,
    /// It answers SCRAM with a nonce that is not the server's.
    WrongNonce,
    /// It sends its first SASL message twice.
    ReplyTwice,
    /// It goes on talking, far beyond what anybody has room for, to an upstream that is silent.
    Flood,
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

    /// Whether it is refused without a word.
    pub fn is_unanswered(self) -> bool {
        use BadStart::{Http, LengthNegative, LengthSeven, LengthTooBig, LengthZero};
        matches!(self, LengthZero | LengthSeven | LengthTooBig | LengthNegative | Http)
    }

    /// Whether it is no StartupMessage at all: that is found out before all else.
    pub fn is_no_packet(self) -> bool {
        use BadStart::{ProtocolTwo, SslTwice, Trailing, UserTwice};
        matches!(self, ProtocolTwo | SslTwice | Trailing | UserTwice) || self.is_unanswered()
    }

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
    /// The last byte of what is being said then is another one. Of TLS alone.
    Garble,
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
    /// What the client sends on other connections once it is in.
    pub cancel: Cancel,
}

/// CancelRequests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cancel {
    /// None.
    None,
    /// One with its key.
    Right,
    /// One with a key that nobody has.
    WrongKey,
    /// Half of one.
    Half,
    /// So many with its key, all at once.
    Storm(usize),
}

impl Cancel {
    /// How many reach its backend.
    pub fn count(self) -> usize {
        match self {
            Cancel::None | Cancel::WrongKey | Cancel::Half => 0,
            Cancel::Right => 1,
            Cancel::Storm(count) => count,
        }
    }
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
    /// Upstream half-closes when it has said all; the client says its rest behind that and closes.
    UpstreamFirst,
    /// As `ClientFirst`, but with TLS the client does not say that it is the end.
    ClientTruncates,
    /// As `UpstreamLast`, but with TLS upstream does not say that it is the end.
    UpstreamTruncates,
    /// Neither ends it when both have said all.
    Mute,
    /// The client takes nothing of what upstream says before it closes.
    Deaf,
    /// The client goes away when so many bytes have come.
    ClientAbrupt(usize),
    /// Upstream resets when so many bytes have come.
    UpstreamAbrupt(usize),
}
