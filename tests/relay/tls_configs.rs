//! The configurations of TLS of both ends of both legs.

use std::sync::{Arc, LazyLock};

use multigres::tls::{ALPN, ClientLeg, Tls, UpstreamLeg};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use testing::certificates::{Certified, server_params};

/// A certificate that vouches for itself, for a host name, and its key.
#[derive(Clone)]
pub struct Identity {
    made: Certified,
    name: &'static str,
}

impl Identity {
    pub fn new(name: &'static str) -> Self {
        Identity { made: Certified::self_signed_leaf(&server_params(&[name])), name }
    }

    pub fn certificate(&self) -> CertificateDer<'static> {
        self.made.der.clone()
    }

    pub fn name(&self) -> ServerName<'static> {
        ServerName::try_from(self.name).unwrap()
    }

    /// A server that shows this certificate.
    pub fn server(&self, suites: &Suites) -> Arc<ServerConfig> {
        let (chain, key) = self.made.pair();
        let mut config = ServerConfig::builder_with_provider(suites.provider.clone())
            .with_protocol_versions(suites.versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = true;
        Arc::new(config)
    }

    /// A client that trusts this certificate alone.
    pub fn client(&self, suites: &Suites) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate()).unwrap();
        let mut config = ClientConfig::builder_with_provider(suites.provider.clone())
            .with_protocol_versions(suites.versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_secret_extraction = true;
        config.resumption = rustls::client::Resumption::disabled();
        Arc::new(config)
    }
}

/// Versions and cipher suites.
#[derive(Clone)]
pub struct Suites {
    versions: &'static [&'static SupportedProtocolVersion],
    provider: Arc<CryptoProvider>,
}

impl Suites {
    pub fn all() -> Self {
        let provider = Arc::new(ring::default_provider());
        Suites { versions: rustls::ALL_VERSIONS, provider }
    }

    pub fn tls12() -> Self {
        Suites { versions: TLS12, ..Suites::all() }
    }

    /// One suite of this version, whose keys are good for so many records.
    pub fn short_lived(version: &'static SupportedProtocolVersion, records: u64) -> Self {
        use rustls::{CipherSuiteCommon, SupportedCipherSuite as Suite};
        let mut provider = ring::default_provider();
        let of_version = |suite: &Suite| suite.version().version == version.version;
        let suite = provider.cipher_suites.into_iter().find(of_version).unwrap();
        let common = |it: &CipherSuiteCommon| CipherSuiteCommon {
            suite: it.suite,
            hash_provider: it.hash_provider,
            confidentiality_limit: records,
        };
        let suite = match suite {
            Suite::Tls12(it) => Suite::Tls12(Box::leak(Box::new(rustls::Tls12CipherSuite {
                common: common(&it.common),
                prf_provider: it.prf_provider,
                kx: it.kx,
                sign: it.sign,
                aead_alg: it.aead_alg,
            }))),
            Suite::Tls13(it) => Suite::Tls13(Box::leak(Box::new(rustls::Tls13CipherSuite {
                common: common(&it.common),
                hkdf_provider: it.hkdf_provider,
                aead_alg: it.aead_alg,
                quic: None,
            }))),
        };
        provider.cipher_suites = vec![suite];
        Suites { versions: rustls::ALL_VERSIONS, provider: Arc::new(provider) }
    }
}

static TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];

/// What Multigres shows its clients.
pub static OURS: LazyLock<Identity> = LazyLock::new(|| Identity::new("multigres.test"));

/// What upstream shows.
pub static THEIRS: LazyLock<Identity> = LazyLock::new(|| Identity::new("db.test"));

/// Both legs of a Multigres that shows `ours` and trusts `theirs`.
pub fn tls(ours: &Identity, theirs: &Identity, suites: &Suites) -> Tls {
    Tls {
        client: Some(ClientLeg { config: ours.server(suites), certificate: ours.certificate() }),
        upstream: Some(UpstreamLeg { config: theirs.client(suites), name: theirs.name() }),
    }
}
