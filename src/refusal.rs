//! Why a login is refused: whose fault, what the client is told, what the log is told.
//! Knows nothing of states or sockets; the two texts are never mixed.

use std::borrow::Cow;
use std::fmt;

use bytes::BytesMut;

use crate::protocol::{WireError, backend};

/// Who has to change something before the next try can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client, or whoever configured its login.
    Client,
    /// Multigres or its settings: limits, shutdown.
    Multigres,
    /// The upstream server or the network to it.
    Upstream,
}

/// A refused login: one FATAL ErrorResponse and a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whose fault it is.
    pub fault: Fault,
    /// Five characters from PostgreSQL's list, "PostgreSQL Error Codes".
    pub sqlstate: &'static str,
    /// Primary message for the client: fixed, or with names that come from the settings.
    pub message: Cow<'static, str>,
    /// What the client can learn about the cause.
    pub detail: Option<Cow<'static, str>>,
    /// What the client can change.
    pub hint: Option<Cow<'static, str>>,
    /// For the log alone, which escapes it. Holds nothing secret.
    pub private: String,
}

impl Refusal {
    /// A refusal without DETAIL, HINT or private text.
    pub fn new(
        fault: Fault,
        sqlstate: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Refusal {
            fault,
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
            private: String::new(),
        }
    }

    /// Adds the DETAIL field.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the HINT field.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what the log is told beyond the public message.
    #[must_use]
    pub fn private(mut self, private: impl Into<String>) -> Self {
        self.private = private.into();
        self
    }

    /// A peer that does not keep to the protocol.
    pub fn protocol(fault: Fault, private: impl Into<String>) -> Self {
        let message = match fault {
            Fault::Client => "invalid message from client during login",
            Fault::Multigres | Fault::Upstream => "invalid message from upstream during login",
        };
        Refusal::new(fault, sqlstate::PROTOCOL_VIOLATION, message).private(private)
    }

    /// [`Refusal::protocol`] for bytes that could not be parsed.
    pub fn wire(fault: Fault) -> impl Fn(WireError) -> Self {
        move |error| Refusal::protocol(fault, error.to_string())
    }

    /// Appends the ErrorResponse.
    pub fn encode(&self, out: &mut BytesMut) {
        let (detail, hint) = (self.detail.as_deref(), self.hint.as_deref());
        backend::put_fatal(out, self.sqlstate, &self.message, detail, hint);
    }
}

/// The log's view, quoted so that nobody's text looks like a field of its own.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            Fault::Client => "client",
            Fault::Multigres => "multigres",
            Fault::Upstream => "upstream",
        };
        let separator = if self.private.is_empty() { "" } else { ": " };
        let reason = format!("{}{separator}{}", self.message, self.private);
        write!(f, "fault={fault} sqlstate={} reason={}", self.sqlstate, Quoted(&reason))
    }
}

/// A text for the log: quoted, and cut to a length that nobody can fill a disk with.
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(QUOTED_CHARS_MAX) {
            None => write!(f, "{:?}", self.0),
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
        }
    }
}

const QUOTED_CHARS_MAX: usize = 200;

/// The SQLSTATEs in use, by their condition names in PostgreSQL's appendix "Error Codes".
pub mod sqlstate {
    /// `protocol_violation`
    pub const PROTOCOL_VIOLATION: &str = "08P01";
    /// `sqlclient_unable_to_establish_sqlconnection`
    pub const UNABLE_TO_CONNECT: &str = "08001";
    /// `sqlserver_rejected_establishment_of_sqlconnection`
    pub const REJECTED_CONNECTION: &str = "08004";
    /// `connection_failure`
    pub const CONNECTION_FAILURE: &str = "08006";
    /// `feature_not_supported`
    pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
    /// `invalid_parameter_value`
    pub const INVALID_PARAMETER_VALUE: &str = "22023";
    /// `invalid_authorization_specification`
    pub const INVALID_AUTHORIZATION: &str = "28000";
    /// `invalid_password`
    pub const INVALID_PASSWORD: &str = "28P01";
    /// `object_not_in_prerequisite_state`
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
    /// `too_many_connections`
    pub const TOO_MANY_CONNECTIONS: &str = "53300";
    /// `query_canceled`, with which PostgreSQL itself ends a login that takes too long
    pub const QUERY_CANCELED: &str = "57014";
    /// `cannot_connect_now`
    pub const CANNOT_CONNECT_NOW: &str = "57P03";
}
