//! TLS towards upstream: Multigres is the client.
//! Knows nothing of when TLS is asked for; how upstream is verified stands in `verify`.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{DnsName, ServerName};

use super::verify::{UpstreamVerifier, Verification};
use super::{ALPN, Identity, VERSIONS};

/// TLS towards upstream.
#[derive(Clone, Debug)]
pub struct UpstreamLeg {
    /// rustls' configuration.
    pub config: Arc<ClientConfig>,
    /// The name that is asked for (SNI, unless it is an address), and verified if so configured.
    pub name: ServerName<'static>,
}

impl UpstreamLeg {
    /// What upstream must prove, and what it is shown should it ask.
    ///
    /// # Errors
    /// What rustls says against it.
    pub fn new(
        provider: Arc<CryptoProvider>,
        name: ServerName<'static>,
        verification: Verification,
        identity: Option<Identity>,
    ) -> Result<Self, String> {
        let verifier = UpstreamVerifier::new(verification);
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(VERSIONS)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            Some(identity) => config.with_client_cert_resolver(identity.resolver()),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        // A session that is taken up again is not verified again.
        config.resumption = Resumption::disabled();
        Ok(UpstreamLeg { config: Arc::new(config), name })
    }
}

/// The name of an upstream host: an IP address, or a name as in DNS.
///
/// # Errors
/// When it is neither, and can be in no certificate.
pub fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    // What stands behind the % of a link-local address means something on this machine only.
    let address = host.split_once('%').and_then(|(ip, _)| ip.parse::<Ipv6Addr>().ok());
    let address = address.map(IpAddr::V6).or_else(|| host.parse().ok());
    if let Some(address) = address {
        return Ok(ServerName::IpAddress(address.into()));
    }
    DnsName::try_from(host.to_owned())
        .map(ServerName::DnsName)
        .map_err(|_| format!("\"{host}\" is not a name that a certificate can be for"))
}
