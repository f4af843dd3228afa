//! TLS towards clients: Multigres is the server.
//! Knows nothing of upstream, nor of whether a client must come with TLS at all.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use super::{ALPN, Identity, Roots, VERSIONS};

/// TLS towards clients.
#[derive(Clone, Debug)]
pub struct ClientLeg {
    /// rustls' configuration.
    pub config: Arc<ServerConfig>,
    /// The certificate that clients are shown.
    pub certificate: CertificateDer<'static>,
}

/// What clients are asked for, once TLS is agreed on.
#[derive(Clone, Debug)]
pub enum ClientCertificate {
    /// No certificate.
    None,
    /// One of these CAs', or none: another one's ends the handshake.
    Requested(Roots),
    /// One of these CAs'.
    Required(Roots),
}

impl ClientLeg {
    /// What clients are shown, and asked for.
    ///
    /// # Errors
    /// What rustls says against it.
    pub fn new(
        provider: Arc<CryptoProvider>,
        identity: Identity,
        asked: &ClientCertificate,
    ) -> Result<Self, String> {
        let verifier = |roots: &Roots| {
            WebPkiClientVerifier::builder_with_provider(roots.anchors.clone(), provider.clone())
        };
        let verifier: Arc<dyn ClientCertVerifier> = match asked {
            ClientCertificate::None => WebPkiClientVerifier::no_client_auth(),
            ClientCertificate::Requested(roots) => verifier(roots)
                .allow_unauthenticated()
                .build()
                .map_err(|error| error.to_string())?,
            ClientCertificate::Required(roots) => {
                verifier(roots).build().map_err(|error| error.to_string())?
            }
        };
        let certificate = identity.certificate().clone();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(VERSIONS)
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(identity.resolver());
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ignore_client_order = true;
        // No session is taken up again, as with PostgreSQL (`be-secure-openssl.c`): a ticket would
        // outlive a change of certificates, and logins are too rare to gain by it.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(ClientLeg { config: Arc::new(config), certificate })
    }
}
