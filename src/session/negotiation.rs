//! TLS on the upstream leg: asking for it, and taking the one byte of the answer.
//! Knows nothing of what will be said once the leg is ready.

use super::{Action, Io, Leg, Secured, UpstreamTls};
use crate::protocol::frontend;
use crate::refusal::{Fault, Refusal, sqlstate};

/// How far the upstream leg is on its way to its first message.
pub(super) enum Negotiation {
    /// It is not connected yet.
    Connecting,
    /// SSLRequest has been sent.
    Asked,
    /// The TLS handshake is under way.
    Handshake,
    /// The first message can be sent; encrypted, if there is something to say of that.
    Ready(Option<Secured>),
}

impl Negotiation {
    pub(super) fn connected(&mut self, mode: UpstreamTls, io: &mut Io) {
        *self = match mode {
            UpstreamTls::Disabled => Negotiation::Ready(None),
            UpstreamTls::Preferred | UpstreamTls::Required => {
                frontend::put_ssl_request(&mut io.to_upstream);
                Negotiation::Asked
            }
            UpstreamTls::Direct => {
                io.action = Some(Action::StartTls(Leg::Upstream));
                Negotiation::Handshake
            }
        };
    }

    /// Takes the answer to SSLRequest, if it has come.
    ///
    /// Anything but `S` and `N` is never shown: whoever has not proved itself could have said it
    /// (CVE-2024-10977). What stands behind an `S` was not encrypted, though upstream may only
    /// speak again when it is (CVE-2021-23222).
    pub(super) fn step(&mut self, mode: UpstreamTls, io: &mut Io) -> Result<(), Refusal> {
        if !matches!(self, Negotiation::Asked) {
            return Ok(());
        }
        *self = match (&io.from_upstream[..], mode) {
            ([], _) => return Ok(()),
            (b"S", _) => {
                io.from_upstream.clear();
                io.action = Some(Action::StartTls(Leg::Upstream));
                Negotiation::Handshake
            }
            (b"N", UpstreamTls::Preferred) => {
                io.from_upstream.clear();
                Negotiation::Ready(None)
            }
            ([b'N'], UpstreamTls::Disabled | UpstreamTls::Required | UpstreamTls::Direct) => {
                return Err(failed("upstream does not support TLS").hint(
                    "Switch ssl on in upstream's postgresql.conf, or set \"upstream_tls\" in \
                     Multigres.",
                ));
            }
            ([b'S' | b'N', ..], _) => {
                let private = "unencrypted bytes behind the answer to SSLRequest";
                return Err(Refusal::protocol(Fault::Upstream, private));
            }
            ([other, ..], _) => {
                return Err(failed(format!("answer to SSLRequest: {:?}", *other as char)));
            }
        };
        Ok(())
    }

    /// The handshake is done.
    pub(super) fn secured(&mut self, secured: Secured, mode: UpstreamTls) -> Result<(), Refusal> {
        if !matches!(self, Negotiation::Handshake) {
            return Ok(());
        }
        if mode == UpstreamTls::Direct && !secured.alpn {
            return Err(failed("direct TLS without ALPN"));
        }
        *self = Negotiation::Ready(Some(secured));
        Ok(())
    }

    /// What is known of the leg's TLS, if any, once the first message can be sent.
    pub(super) fn ready(&self) -> Option<Option<Secured>> {
        match self {
            Negotiation::Ready(secured) => Some(secured.clone()),
            Negotiation::Connecting | Negotiation::Asked | Negotiation::Handshake => None,
        }
    }
}

/// TLS with upstream could not be had.
pub(super) fn failed(private: impl Into<String>) -> Refusal {
    Refusal::new(
        Fault::Upstream,
        sqlstate::UNABLE_TO_CONNECT,
        "could not establish TLS with the upstream server",
    )
    .private(private)
}
