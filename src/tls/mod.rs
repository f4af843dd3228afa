//! TLS of both legs, by rustls: what an accepted client is offered, what upstream must prove.
//! Knows nothing of sockets, files or PostgreSQL's messages: PEM text comes in, connections go out.

mod algorithms;
mod client_leg;
mod der;
mod end_point;
mod pem;
mod upstream_leg;
mod verify;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, ServerConnection, SupportedCipherSuite, SupportedProtocolVersion};

pub use client_leg::{ClientCertificate, ClientLeg};
pub use end_point::end_point;
pub use pem::{Chain, Identity, Key, Roots};
pub use upstream_leg::{UpstreamLeg, server_name};
pub use verify::Verification;

/// What is needed to start TLS on either leg.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The client leg: this daemon is the server.
    pub client: Option<ClientLeg>,
    /// The upstream leg: this daemon is the client.
    pub upstream: Option<UpstreamLeg>,
}

/// The same objects, not only equal settings: they cannot be compared.
impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        let objects = |tls: &Tls| {
            let client = tls.client.as_ref().map(|leg| Arc::as_ptr(&leg.config));
            let upstream = tls.upstream.as_ref().map(|leg| Arc::as_ptr(&leg.config));
            (client, upstream)
        };
        objects(self) == objects(other)
    }
}

impl Eq for Tls {}

impl Tls {
    /// Starts TLS on a client leg.
    ///
    /// # Errors
    /// When there is no configuration for it, or rustls cannot start.
    pub fn accept(&self) -> Result<ServerConnection, String> {
        let leg = self.client.as_ref().ok_or("no certificate is configured")?;
        ServerConnection::new(leg.config.clone()).map_err(|error| error.to_string())
    }

    /// Starts TLS on an upstream leg.
    ///
    /// # Errors
    /// When there is no configuration for it, or rustls cannot start.
    pub fn connect(&self) -> Result<ClientConnection, String> {
        let leg = self.upstream.as_ref().ok_or("TLS to upstream is not configured")?;
        ClientConnection::new(leg.config.clone(), leg.name.clone())
            .map_err(|error| error.to_string())
    }

    /// Whether upstream has shown the very certificate that clients are shown: then SCRAM's channel
    /// binding (`tls-server-end-point`, RFC 5929) holds through both legs.
    pub fn is_own_certificate(&self, upstream: Option<&[CertificateDer<'_>]>) -> bool {
        let shown = upstream.and_then(|chain| chain.first());
        self.client.as_ref().is_some_and(|leg| Some(&leg.certificate) == shown)
    }
}

/// The cryptography of both legs: ring's, and for signatures a little more.
///
/// With TLS 1.2 an AES key is worn out after 2^24 records, and cannot be changed; ChaCha20's never
/// is. So that one comes first there.
///
/// Only a simulator gives the legs another one, whose random numbers come from a seed.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.signature_verification_algorithms = algorithms::SUPPORTED;
    provider.cipher_suites.sort_by_key(|suite| match suite {
        SupportedCipherSuite::Tls13(_) => 0,
        SupportedCipherSuite::Tls12(suite) if suite.common.confidentiality_limit == u64::MAX => 1,
        SupportedCipherSuite::Tls12(_) => 2,
    });
    Arc::new(provider)
}

/// The name of PostgreSQL's protocol in ALPN (RFC 7301).
pub const ALPN: &[u8] = b"postgresql";

/// Older ones are broken; PostgreSQL's default is the same (`ssl_min_protocol_version`).
const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
