//! What a session is told when it starts: settings, and what is known of its legs.
//! Knows nothing of what is made of it.

use bytes::Bytes;

use crate::tenant::Policy;

/// Settings of every session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginSettings {
    /// How user names are read and what is bound.
    pub policy: Policy,
    /// Who answers upstream's authentication requests.
    pub auth: Auth,
    /// Whether a password may go over an unencrypted network, on either leg.
    pub allow_cleartext_password: bool,
    /// Upstream is a unix socket or a loopback address, where nobody can listen in.
    pub upstream_is_local: bool,
    /// Upstream may take Multigres itself for the user: by the owner of its process on a unix
    /// socket (`peer`), or by its certificate (`cert`).
    pub upstream_may_know_multigres: bool,
    /// Whether clients are offered TLS.
    pub client_tls: ClientTls,
    /// Whether upstream is asked for TLS.
    pub upstream_tls: UpstreamTls,
}

/// Whether clients are offered TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientTls {
    /// An SSLRequest is declined.
    #[default]
    Disabled,
    /// The client chooses.
    Allowed,
    /// Logins without it are refused, but for those through a unix socket.
    Required,
}

/// Whether upstream is asked for TLS. How upstream is verified is not the session's concern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamTls {
    /// It is not.
    #[default]
    Disabled,
    /// If upstream declines, the login goes on without.
    Preferred,
    /// If upstream declines, the login is refused.
    Required,
    /// TLS starts with the first byte, as PostgreSQL 17 takes it.
    Direct,
}

/// Who could listen in on a client leg without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientPlace {
    /// A unix socket: nobody, and it never has TLS.
    UnixSocket,
    /// A loopback address: nobody.
    Loopback,
    /// Any other address.
    Network,
}

/// What a TLS handshake has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// ALPN has agreed on `postgresql`.
    pub alpn: bool,
    /// On the upstream leg: upstream has shown the very certificate that clients are shown.
    pub same_certificate: bool,
    /// On the upstream leg: what SCRAM can bind to, the hash of upstream's certificate.
    pub end_point: Option<Bytes>,
}

/// Who answers upstream's authentication requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// The client, and Multigres where a relay cannot succeed.
    #[default]
    Auto,
    /// Always the client.
    Relay,
    /// Always Multigres, with the password for which it asks the client.
    Password,
}
