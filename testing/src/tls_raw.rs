//! TLS by hand over a plain socket, as a client and as an upstream, for what no driver does.
//! Knows nothing of PostgreSQL's messages but SSLRequest.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};

use crate::certificates::provider;
use crate::{Certified, Raw};

pub type TlsClient = StreamOwned<ClientConnection, Raw>;
pub type TlsServer = StreamOwned<ServerConnection, Raw>;

pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What a client by hand offers.
#[derive(Clone, Copy)]
pub struct Offer {
    pub alpn: &'static [&'static [u8]],
    pub versions: &'static [&'static SupportedProtocolVersion],
}

impl Default for Offer {
    fn default() -> Self {
        Offer { alpn: &[b"postgresql"], versions: rustls::ALL_VERSIONS }
    }
}

/// A client that verifies the authority's certificates; the handshake waits for the first byte.
pub fn tls_client(raw: Raw, authority: &CertificateDer<'static>, offer: Offer) -> TlsClient {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).expect("an authority's certificate");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(offer.versions)
        .expect("the provider knows them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offer.alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a configuration");
    StreamOwned::new(connection, raw)
}

/// The same behind an SSLRequest that was granted.
pub fn asked_tls_client(
    mut raw: Raw,
    authority: &CertificateDer<'static>,
    offer: Offer,
) -> TlsClient {
    raw.send(&SSL_REQUEST);
    let mut answer = [0];
    raw.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"S");
    tls_client(raw, authority, offer)
}

/// An upstream's end, behind an SSLRequest that it grants.
pub fn asked_tls_server(mut raw: Raw, identity: &Certified) -> TlsServer {
    let mut request = [0; 8];
    raw.read_exact(&mut request).expect("a request");
    assert_eq!(request, SSL_REQUEST);
    raw.write_all(b"S").expect("it is read");
    tls_server(raw, identity, &[])
}

/// An upstream's end, with TLS from the first byte on.
pub fn tls_server(raw: Raw, identity: &Certified, alpn: &[&[u8]]) -> TlsServer {
    let (chain, key) = identity.pair();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they fit");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let connection = ServerConnection::new(Arc::new(config)).expect("a configuration");
    StreamOwned::new(connection, raw)
}
