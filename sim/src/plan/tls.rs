//! TLS of both legs: what the daemon offers and demands, how the model PostgreSQL answers.
//! Knows nothing of how it is done.

use multigres::session;
use serde::{Deserialize, Serialize};

use super::{Conduct, Ending, Plan, Prelude, Session};

/// The daemon's settings, and which version its peers speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// `tls`
    pub client: ClientTls,
    /// `upstream_tls`
    pub upstream: UpstreamTls,
    /// TLS 1.2.
    pub old: bool,
}

/// `tls`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientTls {
    /// `disable`
    #[default]
    Off,
    /// `allow`
    Allow,
    /// `require`
    Require,
}

/// `upstream_tls` and `upstream_tls_negotiation`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpstreamTls {
    /// `disable`
    #[default]
    Disable,
    /// `prefer`
    Prefer,
    /// `require`
    Require,
    /// `verify-full`
    VerifyFull,
    /// `require` with `direct`
    Direct,
}

impl UpstreamTls {
    /// All of them.
    pub const ALL: [UpstreamTls; 5] = [
        UpstreamTls::Disable,
        UpstreamTls::Prefer,
        UpstreamTls::Require,
        UpstreamTls::VerifyFull,
        UpstreamTls::Direct,
    ];

    /// Nothing is to be told upstream without it.
    pub fn is_demanded(self) -> bool {
        !matches!(self, UpstreamTls::Disable | UpstreamTls::Prefer)
    }
}

impl From<ClientTls> for session::ClientTls {
    fn from(tls: ClientTls) -> Self {
        match tls {
            ClientTls::Off => session::ClientTls::Disabled,
            ClientTls::Allow => session::ClientTls::Allowed,
            ClientTls::Require => session::ClientTls::Required,
        }
    }
}

impl From<UpstreamTls> for session::UpstreamTls {
    fn from(tls: UpstreamTls) -> Self {
        match tls {
            UpstreamTls::Disable => session::UpstreamTls::Disabled,
            UpstreamTls::Prefer => session::UpstreamTls::Preferred,
            UpstreamTls::Require | UpstreamTls::VerifyFull => session::UpstreamTls::Required,
            UpstreamTls::Direct => session::UpstreamTls::Direct,
        }
    }
}

/// What the model PostgreSQL makes of the wish for TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsAnswer {
    /// It has TLS.
    #[default]
    Yes,
    /// `N`
    No,
    /// An ErrorResponse, which nobody may be shown.
    Error,
    /// A byte that means nothing.
    Garbage,
    /// `S`, and bytes behind it that are not encrypted.
    Stuffed,
    /// It shows a certificate by another CA.
    Stranger,
    /// It shows a certificate for another name: the daemon's own.
    OtherName,
    /// It does not take part in ALPN.
    NoAlpn,
}

impl TlsAnswer {
    /// All of them.
    pub const ALL: [TlsAnswer; 8] = [
        TlsAnswer::Yes,
        TlsAnswer::No,
        TlsAnswer::Error,
        TlsAnswer::Garbage,
        TlsAnswer::Stuffed,
        TlsAnswer::Stranger,
        TlsAnswer::OtherName,
        TlsAnswer::NoAlpn,
    ];
}

impl Session {
    /// Whether its client wants TLS: from the first byte on, or once it is granted.
    pub fn wants_tls(&self) -> bool {
        self.client.prelude.iter().any(|it| *it != Prelude::Gss)
    }

    /// Whether its client begins with TLS.
    pub fn is_direct(&self) -> bool {
        self.client.prelude.iter().any(|it| !it.is_request())
    }
}

impl Plan {
    /// Whether there is TLS anywhere.
    pub fn has_tls(&self) -> bool {
        self.daemon.tls.client != ClientTls::Off || self.daemon.tls.upstream != UpstreamTls::Disable
    }

    /// Whether this session's client leg has TLS, should it come so far.
    pub fn client_has_tls(&self, session: &Session) -> bool {
        self.daemon.tls.client != ClientTls::Off && session.wants_tls()
    }

    /// Whether this session's upstream leg has TLS, should it come so far.
    pub fn upstream_has_tls(&self, session: &Session) -> bool {
        match self.daemon.tls.upstream {
            UpstreamTls::Disable => false,
            UpstreamTls::Prefer => session.script.tls != TlsAnswer::No,
            UpstreamTls::Require | UpstreamTls::VerifyFull | UpstreamTls::Direct => true,
        }
    }

    /// Both legs of this session have TLS, and not with the same certificate: a client cannot bind
    /// its authentication to upstream's channel.
    pub fn breaks_binding(&self, session: &Session) -> bool {
        let is_same = session.script.tls == TlsAnswer::OtherName;
        self.client_has_tls(session) && self.upstream_has_tls(session) && !is_same
    }

    /// A client says something in clear behind its SSLRequest although that is granted.
    pub fn is_stuffed(&self, session: &Session) -> bool {
        let client = &session.client;
        let is_eager = client.eager && client.prelude.contains(&Prelude::Ssl);
        let says_more = is_eager || client.conduct == Conduct::Bad(super::BadStart::SslTwice);
        says_more && self.daemon.tls.client != ClientTls::Off
    }

    /// What fails on the way to TLS with upstream, by its SQLSTATEs.
    pub fn upstream_tls_fails(&self, session: &Session) -> Option<Vec<&'static str>> {
        use TlsAnswer::{Error, Garbage, No, NoAlpn, OtherName, Stranger, Stuffed, Yes};
        let mode = self.daemon.tls.upstream;
        let is_asked = !matches!(mode, UpstreamTls::Disable | UpstreamTls::Direct);
        match session.script.tls {
            No if is_asked && mode != UpstreamTls::Prefer => Some(vec![NO_TLS]),
            Error | Garbage if is_asked => Some(vec![NO_TLS]),
            // In pieces, they come where the handshake should.
            Stuffed if is_asked => Some(vec!["08P01", NO_TLS]),
            Stranger | OtherName if mode == UpstreamTls::VerifyFull => Some(vec![NO_TLS]),
            NoAlpn if mode == UpstreamTls::Direct => Some(vec![NO_TLS]),
            Yes | No | Error | Garbage | Stuffed | Stranger | OtherName | NoAlpn => None,
        }
    }
}

impl Ending {
    /// Whether this end of a stream says that it is the end.
    pub fn is_said(self) -> bool {
        !matches!(self, Ending::ClientTruncates | Ending::UpstreamTruncates)
    }
}

/// SQLSTATE of an upstream with which there can be no TLS.
pub const NO_TLS: &str = "08001";
