//! What the model PostgreSQL says in one login, right or wrong.
//! Knows nothing of the bytes.

use serde::{Deserialize, Serialize};

use super::{Cut, TlsAnswer};

/// The model PostgreSQL's side of a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// How the client is to prove who it is.
    pub auth: Auth,
    /// What it makes of the wish for TLS.
    #[serde(default)]
    pub tls: TlsAnswer,
    /// What goes wrong.
    pub fate: Fate,
    /// NoticeResponse, more ParameterStatus and NegotiateProtocolVersion in between.
    pub talkative: bool,
    /// So many bytes of the pipe come in one piece with the last of the login.
    #[serde(default)]
    pub coalesced: usize,
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
    /// Only SASL mechanisms that nobody here knows.
    UnknownMechanism,
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
    /// Notices without end before ReadyForQuery.
    Flood,
    /// A notification in the middle of the answer.
    Notification,
    /// The answer begins again in its middle.
    AnswerTwice,
    /// The database is sealed with another key, with one that the role can read, or with one where
    /// the daemon has none.
    OtherKey,
    /// A table of the database is open; its neighbour's are not.
    GuardOpen,
}

impl Lie {
    /// All of them.
    pub const ALL: [Lie; 32] = [
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
        Lie::Flood,
        Lie::Notification,
        Lie::AnswerTwice,
        Lie::OtherKey,
        Lie::GuardOpen,
    ];

    /// The SQLSTATE of its refusal.
    pub fn sqlstate(self) -> &'static str {
        match self {
            Lie::Privileged | Lie::PrivilegedNull | Lie::Superuser | Lie::SuperuserLate => "28000",
            Lie::LengthZero
            | Lie::LengthThree
            | Lie::LengthHuge
            | Lie::OkTwice
            | Lie::EarlyRow
            | Lie::Flood => "08P01",
            Lie::GuardOpen => "55000",
            _ => "08004",
        }
    }

    /// A pooler before PostgreSQL makes it pass.
    pub fn passes_behind_a_pooler(self) -> bool {
        matches!(self, Lie::WrongPid | Lie::NoKey | Lie::WrongDefault)
    }
}
