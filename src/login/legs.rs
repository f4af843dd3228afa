//! What is known of the two legs of a login: who can listen in, and what channel binding sees.
//! Knows nothing of messages or states.

use super::settings::Handshake;

/// One of the two network connections of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// The one that the client opened.
    Client,
    /// The one that Multigres opens to PostgreSQL.
    Upstream,
}

/// What is known of the client leg.
#[derive(Clone, Copy)]
pub(crate) struct ClientChannel {
    /// Nobody can listen in on it, with TLS or without.
    pub(crate) is_local: bool,
    pub(crate) has_tls: bool,
}

/// What is known of both legs.
pub(crate) struct Legs {
    pub(crate) client: ClientChannel,
    /// Of the upstream leg's TLS, if it has TLS.
    pub(crate) upstream: Option<Handshake>,
}

/// What becomes of SCRAM's channel binding (`tls-server-end-point`, RFC 5929) on the way through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    /// Upstream does not offer it, or both ends see the same certificate.
    Holds,
    /// The client has no TLS to bind to: upstream's offer of it is taken out.
    ClientHasNone,
    /// Either end would bind to another certificate.
    Breaks,
}

impl Legs {
    pub(crate) fn channel_binding(&self) -> ChannelBinding {
        match (self.client.has_tls, &self.upstream) {
            (_, None) | (true, Some(Handshake { same_certificate: true, .. })) => {
                ChannelBinding::Holds
            }
            (false, Some(_)) => ChannelBinding::ClientHasNone,
            (true, Some(_)) => ChannelBinding::Breaks,
        }
    }
}
