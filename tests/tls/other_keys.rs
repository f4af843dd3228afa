//! Upstream's keys that ring cannot verify by itself: on P-521, and for RSASSA-PSS only.

use std::fmt;
use std::sync::Arc;

use multigres::tls::{Roots, Verification};
use p521::ecdsa::signature::Signer as _;
use p521::ecdsa::{Signature, SigningKey as P521Key};
use p521::pkcs8::DecodePrivateKey;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, Error, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion,
};
use testing::certificates::{NAME, element};

use crate::handshake::{connecting, server, shake, start_server};

const P521: [&str; 2] = [include_str!("../keys/p521.pem"), include_str!("../keys/p521.key")];
const PSS: [&str; 2] = [include_str!("../keys/pss.pem"), include_str!("../keys/pss.key")];
const PSS_SHA256: [&str; 2] =
    [include_str!("../keys/pss_sha256.pem"), include_str!("../keys/pss_sha256.key")];

const PSS_SCHEMES: [(u16, SignatureScheme); 3] = [
    (0x0809, SignatureScheme::RSA_PSS_SHA256),
    (0x080a, SignatureScheme::RSA_PSS_SHA384),
    (0x080b, SignatureScheme::RSA_PSS_SHA512),
];

type Sign = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// Signs a handshake and says that it was by this scheme.
#[derive(Clone)]
struct Key {
    scheme: SignatureScheme,
    algorithm: SignatureAlgorithm,
    sign: Sign,
}

impl Key {
    fn p521(pem: &str) -> Key {
        let key = P521Key::from_pkcs8_der(private(pem).secret_der()).unwrap();
        Key {
            scheme: SignatureScheme::ECDSA_NISTP521_SHA512,
            algorithm: SignatureAlgorithm::ECDSA,
            sign: Arc::new(move |message| {
                let signature: Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }),
        }
    }

    /// ring does not read such a key; within, it is one like any other.
    fn pss(pem: &str, said: u16, scheme: SignatureScheme) -> Key {
        let der = private(pem);
        let (_, version, _) = element(der.secret_der());
        let (_, _, algorithm) = element(version);
        let (_, _, rest) = element(algorithm);
        let (_, inner, _) = element(rest);
        let inner = PrivatePkcs1KeyDer::from(inner.to_vec()).into();
        let key = ring::default_provider().key_provider.load_private_key(inner).unwrap();
        Key {
            scheme: SignatureScheme::Unknown(said),
            algorithm: SignatureAlgorithm::RSA,
            sign: Arc::new(move |message| {
                key.choose_scheme(&[scheme]).unwrap().sign(message).unwrap()
            }),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.scheme)
    }
}

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        // rustls hides from a server of TLS 1.3 what it has no name for.
        let is_offered =
            offered.contains(&self.scheme) || self.algorithm == SignatureAlgorithm::RSA;
        is_offered.then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok((self.sign)(message))
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

fn private(pem: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// How Multigres' handshake with this server ends, at each level.
fn dial(
    pem: &str,
    key: &Key,
    version: &'static SupportedProtocolVersion,
) -> Vec<Result<(), Error>> {
    let roots = Roots::from_pem(pem.as_bytes()).unwrap();
    let levels = [
        Verification::AnyCertificate,
        Verification::Chain(roots.clone()),
        Verification::ChainAndName(roots),
    ];
    let shown = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let config = CertifiedKey::new(vec![shown], Arc::new(key.clone()));
    let config = Arc::new(server(config, version));
    let dial = |level| {
        let tls = connecting(NAME, level, None);
        shake(&mut tls.connect().unwrap(), &mut start_server(&config)).client
    };
    levels.into_iter().map(dial).collect()
}

const BAD: Error = Error::InvalidCertificate(CertificateError::BadSignature);

#[test]
fn a_key_on_p521_is_proved_in_either_version() {
    for version in [&TLS12, &TLS13] {
        let ended = dial(P521[0], &Key::p521(P521[1]), version);
        assert_eq!(ended, [Ok(()), Ok(()), Ok(())], "{version:?}");
    }
}

#[test]
fn a_key_for_pss_is_proved_by_any_hash_function_that_it_allows() {
    for (said, scheme) in PSS_SCHEMES {
        let ended = dial(PSS[0], &Key::pss(PSS[1], said, scheme), &TLS13);
        assert_eq!(ended, [Ok(()), Ok(()), Ok(())], "{scheme:?}");
        let ended = dial(PSS_SHA256[0], &Key::pss(PSS_SHA256[1], said, scheme), &TLS13);
        let is_allowed = scheme == SignatureScheme::RSA_PSS_SHA256;
        assert!(ended.iter().all(|ended| ended.is_ok() == is_allowed), "{scheme:?}: {ended:?}");
    }
}

#[test]
fn an_impostor_with_the_genuine_certificate_is_refused() {
    let mut other = P521Key::from_pkcs8_der(private(P521[1]).secret_der()).unwrap().to_bytes();
    other[65] ^= 1;
    let other = P521Key::from_bytes(&other).unwrap();
    let sign = move |message: &[u8]| {
        let signature: Signature = other.sign(message);
        signature.to_der().as_bytes().to_vec()
    };
    let impostor = Key { sign: Arc::new(sign), ..Key::p521(P521[1]) };
    for version in [&TLS12, &TLS13] {
        assert_eq!(dial(P521[0], &impostor, version), [Err(BAD), Err(BAD), Err(BAD)]);
    }
    for (said, scheme) in PSS_SCHEMES {
        let impostor = Key::pss(PSS_SHA256[1], said, scheme);
        assert_eq!(dial(PSS[0], &impostor, &TLS13), [Err(BAD), Err(BAD), Err(BAD)]);
    }
}

#[test]
fn a_signature_of_another_form_or_hash_function_is_refused() {
    let genuine = Key::p521(P521[1]);
    for spoil in [
        (|it| it.truncate(10)) as fn(&mut Vec<u8>),
        |it| it.clear(),
        |it| *it.last_mut().unwrap() ^= 1,
        |it| it.push(0),
        |it| it.iter_mut().for_each(|byte| *byte = 0),
    ] {
        let sign = genuine.sign.clone();
        let spoilt = move |message: &[u8]| {
            let mut signature = sign(message);
            spoil(&mut signature);
            signature
        };
        let key = Key { sign: Arc::new(spoilt), ..genuine.clone() };
        assert_eq!(dial(P521[0], &key, &TLS13), [Err(BAD), Err(BAD), Err(BAD)]);
    }
    // It says one hash function and has used another.
    let key = Key::pss(PSS[1], 0x080a, SignatureScheme::RSA_PSS_SHA256);
    assert_eq!(dial(PSS[0], &key, &TLS13), [Err(BAD), Err(BAD), Err(BAD)]);
}
