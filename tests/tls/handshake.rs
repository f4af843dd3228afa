//! A handshake between two connections in memory, and peers that are not Multigres.

use std::sync::Arc;

use multigres::tls::{
    ClientCertificate, ClientLeg, Identity, Tls, UpstreamLeg, Verification, provider, server_name,
};
use rustls::client::ClientConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::ServerConfig;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, Error, ServerConnection, SupportedProtocolVersion};

use testing::certificates::Certified;

pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// How it ended for each side.
pub struct Ended {
    pub client: Result<(), Error>,
    pub server: Result<(), Error>,
}

impl Ended {
    /// That both sides are content.
    #[track_caller]
    pub fn well(self) {
        assert_eq!(self.client, Ok(()));
        assert_eq!(self.server, Ok(()));
    }
}

/// Carries bytes until neither side has more to say; if both are content, a word each way, too.
pub fn shake(client: &mut ClientConnection, server: &mut ServerConnection) -> Ended {
    let mut ended = Ended { client: Ok(()), server: Ok(()) };
    loop {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut is_quiet = bytes.is_empty();
        let mut rest = &bytes[..];
        while !rest.is_empty() && ended.server.is_ok() {
            server.read_tls(&mut rest).unwrap();
            ended.server = server.process_new_packets().map(drop);
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        is_quiet &= bytes.is_empty();
        let mut rest = &bytes[..];
        while !rest.is_empty() && ended.client.is_ok() {
            client.read_tls(&mut rest).unwrap();
            ended.client = client.process_new_packets().map(drop);
        }
        if is_quiet {
            break;
        }
    }
    if ended.client.is_ok() && ended.server.is_ok() {
        assert!(!client.is_handshaking() && !server.is_handshaking(), "one waits for the other");
    }
    ended
}

/// Multigres' client leg.
pub fn accepting(identity: Identity, asked: &ClientCertificate) -> Tls {
    Tls { client: Some(ClientLeg::new(provider(), identity, asked).unwrap()), upstream: None }
}

/// Multigres' upstream leg to a host.
pub fn connecting(host: &str, verification: Verification, shown: Option<Identity>) -> Tls {
    let leg =
        UpstreamLeg::new(provider(), server_name(host).unwrap(), verification, shown).unwrap();
    Tls { client: None, upstream: Some(leg) }
}

/// A server that is not Multigres, of one version alone.
pub fn server(key: CertifiedKey, version: &'static SupportedProtocolVersion) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
}

/// A client that is not Multigres, of one version alone; it believes this certificate.
pub fn client(of: &Certified, version: &'static SupportedProtocolVersion) -> ClientConfig {
    client_with(ring::default_provider(), of, version)
}

/// The same with cryptography of its own.
pub fn client_with(
    provider: CryptoProvider,
    of: &Certified,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(of.der.clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub fn start_server(config: &Arc<ServerConfig>) -> ServerConnection {
    ServerConnection::new(config.clone()).unwrap()
}

pub fn start_client(config: &Arc<ClientConfig>, host: &str) -> ClientConnection {
    ClientConnection::new(config.clone(), server_name(host).unwrap()).unwrap()
}
