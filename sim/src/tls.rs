//! The model peers' TLS, by rustls itself, and the cryptography that they share with the daemon:
//! its randomness comes from the seed, so that a run with TLS has one trace too.
//! Knows nothing of sockets or PostgreSQL's messages.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::sync::Arc;

use multigres::tls::{
    ALPN, Chain, ClientCertificate, ClientLeg, Identity, Key, Roots, Tls, UpstreamLeg,
    Verification, provider, server_name,
};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret,
    SupportedKxGroup,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Connection, Error, NamedGroup, PeerMisbehaved, RootCertStore,
    ServerConfig, ServerConnection,
};

use crate::plan::{self, TlsAnswer, UpstreamTls};
use crate::rng::Rng;

/// What a peer says and hears, as it is on the wire: records, or plaintext as long as there is no
/// TLS.
#[derive(Default)]
pub struct Codec {
    connection: Option<Connection>,
    /// close_notify has come.
    closed: bool,
}

impl Codec {
    /// TLS begins with what comes next.
    pub fn start(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }

    /// There is TLS, or its handshake.
    pub fn is_tls(&self) -> bool {
        self.connection.is_some()
    }

    /// TLS has begun, and nothing can be said yet.
    pub fn is_handshaking(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.is_handshaking())
    }

    /// The other side has said that nothing more comes.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What is said, as it goes out.
    pub fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let Some(connection) = &mut self.connection else { return plain.to_vec() };
        connection.writer().write_all(plain).expect("there is no limit");
        self.owed()
    }

    /// What TLS itself has to say: its handshake, its alerts.
    pub fn owed(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(connection) = &mut self.connection {
            while connection.wants_write() {
                connection.write_tls(&mut out).expect("memory takes all");
            }
        }
        out
    }

    /// That this side says no more.
    pub fn farewell(&mut self) -> Vec<u8> {
        if let Some(connection) = &mut self.connection {
            connection.send_close_notify();
        }
        self.owed()
    }

    /// What has come, as it was said.
    ///
    /// # Errors
    /// When it is not what this side's TLS waits for.
    pub fn open(&mut self, mut wire: &[u8]) -> Result<Vec<u8>, Error> {
        let Some(connection) = &mut self.connection else { return Ok(wire.to_vec()) };
        let mut plain = Vec::new();
        while !wire.is_empty() && !self.closed {
            connection.read_tls(&mut wire).expect("memory gives all");
            let state = connection.process_new_packets()?;
            self.closed = state.peer_has_closed();
            let before = plain.len();
            plain.resize(before + state.plaintext_bytes_to_read(), 0);
            connection.reader().read_exact(&mut plain[before..]).expect("so much has come");
        }
        Ok(plain)
    }
}

/// A model client's TLS.
pub fn client(plan: &plan::Tls, alpn: bool) -> Connection {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(CA)).expect("a CA");
    let version = if plan.old { &TLS12 } else { &TLS13 };
    let mut config = ClientConfig::builder_with_provider(seeded())
        .with_protocol_versions(&[version])
        .expect("the provider has both")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = if alpn { vec![ALPN.to_vec()] } else { Vec::new() };
    let name = server_name(DAEMON).expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("nothing is missing");
    unlimited(connection.into())
}

/// The model PostgreSQL's TLS.
pub fn server(plan: &plan::Tls, answer: TlsAnswer) -> Connection {
    let shown = match answer {
        TlsAnswer::Stranger => STRANGER,
        TlsAnswer::OtherName => DAEMON_CERT,
        _ => UPSTREAM_CERT,
    };
    let version = if plan.old { &TLS12 } else { &TLS13 };
    let key = PrivateKeyDer::from_pem_slice(KEY).expect("a key");
    let mut config = ServerConfig::builder_with_provider(seeded())
        .with_protocol_versions(&[version])
        .expect("the provider has both")
        .with_no_client_auth()
        .with_single_cert(vec![certificate(shown)], key)
        .expect("they belong together");
    if answer != TlsAnswer::NoAlpn {
        config.alpn_protocols = vec![ALPN.to_vec()];
    }
    config.send_tls13_tickets = 0;
    unlimited(ServerConnection::new(Arc::new(config)).expect("nothing is missing").into())
}

/// The daemon's own TLS.
pub fn daemon(plan: &plan::Tls) -> Tls {
    if *plan == plan::Tls::default() {
        return Tls::default();
    }
    let chain = Chain::from_pem(DAEMON_CERT).expect("a certificate");
    let key = Key::from_pem(KEY).expect("a key");
    let identity = Identity::new(chain, key).expect("they belong together");
    let client = ClientLeg::new(seeded(), identity, &ClientCertificate::None).expect("fits");
    let verification = match plan.upstream {
        UpstreamTls::VerifyFull => {
            Verification::ChainAndName(Roots::from_pem(CA).expect("a certificate"))
        }
        _ => Verification::AnyCertificate,
    };
    let name = server_name(UPSTREAM).expect("a name");
    let upstream = UpstreamLeg::new(seeded(), name, verification, None).expect("fits");
    Tls { client: Some(client), upstream: Some(upstream) }
}

fn certificate(text: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(text).expect("a certificate")
}

/// Models hold what they have to say themselves.
fn unlimited(mut connection: Connection) -> Connection {
    connection.set_buffer_limit(None);
    connection
}

/// The daemon's provider. Signatures need no randomness, as the keys are on Ed25519; what
/// else does is drawn here.
fn seeded() -> Arc<CryptoProvider> {
    let provider = CryptoProvider::clone(&provider());
    Arc::new(CryptoProvider { secure_random: &Seeded, kx_groups: vec![&Group], ..provider })
}

/// The run's random numbers begin anew.
pub fn seed(seed: u64) {
    RANDOM.set(Rng::fork(seed, "tls"));
}

thread_local! {
    static RANDOM: RefCell<Rng> = RefCell::new(Rng::fork(0, "tls"));
}

#[derive(Debug)]
struct Seeded;

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        RANDOM.with_borrow_mut(|rng| bytes.fill_with(|| rng.next() as u8));
        Ok(())
    }
}

/// Diffie and Hellman's exchange in a field so small that it protects nothing: ring's exchanges
/// draw their keys themselves.
#[derive(Debug)]
struct Group;

struct Exchange {
    secret: u64,
    public: [u8; 8],
}

impl SupportedKxGroup for Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = RANDOM.with_borrow_mut(|rng| rng.within(2..PRIME - 1));
        Ok(Box::new(Exchange { secret, public: power(GENERATOR, secret).to_be_bytes() }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, other: &[u8]) -> Result<SharedSecret, Error> {
        let other = other.try_into().map(u64::from_be_bytes);
        let other = other.map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        Ok(SharedSecret::from(&power(other, self.secret).to_be_bytes()[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

fn power(base: u64, mut exponent: u64) -> u64 {
    let times = |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(PRIME)) as u64;
    let (mut square, mut product) = (base, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            product = times(product, square);
        }
        square = times(square, square);
        exponent >>= 1;
    }
    product
}

const PRIME: u64 = (1 << 61) - 1;
const GENERATOR: u64 = 37;

const DAEMON: &str = "daemon";
const UPSTREAM: &str = "upstream";
const CA: &[u8] = include_bytes!("../keys/ca.pem");
/// Of all certificates but the CA's.
const KEY: &[u8] = include_bytes!("../keys/peer.key");
const DAEMON_CERT: &[u8] = include_bytes!("../keys/daemon.pem");
const UPSTREAM_CERT: &[u8] = include_bytes!("../keys/upstream.pem");
/// For upstream's name, by another CA.
const STRANGER: &[u8] = include_bytes!("../keys/stranger.pem");
