//! Certificates and keys as PEM text (RFC 7468) has them.
//! Knows nothing of where a text comes from, and says nothing of what is in a key.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};

use super::der;

/// The certificates of one end: its own first, then those that lead to a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain(Vec<CertificateDer<'static>>);

/// The private key of a certificate, of a kind that TLS can sign with.
#[derive(Clone)]
pub struct Key(Arc<dyn SigningKey>);

/// A chain and the key of its first certificate.
#[derive(Clone, Debug)]
pub struct Identity {
    chain: Chain,
    key: Key,
}

/// The certificates that others are believed by.
#[derive(Clone)]
pub struct Roots {
    /// CAs, in the form that webpki builds paths to. It takes any certificate here for a CA's.
    pub(super) anchors: Arc<RootCertStore>,
    /// Those that are no CA's: each is believed itself, if it has signed itself, and no other.
    pub(super) leaves: Arc<[(CertificateDer<'static>, RootCertStore)]>,
    /// As they came.
    pub(super) certificates: Arc<[CertificateDer<'static>]>,
}

impl Chain {
    /// All certificates of a text; other sections are passed over.
    ///
    /// # Errors
    /// When there is none, or one that cannot be read.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let chain = certificates(text)?;
        if der::public_key(&chain[0]).is_none() {
            return Err("its first certificate cannot be read".into());
        }
        Ok(Chain(chain))
    }

    /// From when to when each certificate is valid, in seconds since 1970; those that do not say so
    /// in a form of RFC 5280 are left out.
    pub fn validities(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0.iter().filter_map(der::validity)
    }
}

impl Key {
    /// The first private key of a text: PKCS #8, PKCS #1 or SEC 1; other sections are passed over.
    ///
    /// # Errors
    /// When there is none, when it is encrypted, or of a kind that is not supported.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let key = match PrivateKeyDer::from_pem_slice(text) {
            Ok(key) => key,
            // What an encrypted key has more than another is no PEM that is known here.
            Err(_) if ENCRYPTED.iter().any(|mark| contains(text, mark)) => {
                return Err("the key in it is encrypted, and nobody is there to be asked for the \
                            passphrase: it must be unencrypted (openssl pkey -in OLD -out NEW)"
                    .into());
            }
            Err(pem::Error::NoItemsFound) => {
                return Err("no private key in it (PEM: -----BEGIN PRIVATE KEY-----)".into());
            }
            Err(error) => return Err(broken(&error)),
        };
        let key = ring::default_provider().key_provider.load_private_key(key);
        key.map(Key).map_err(|_| {
            "the key in it is broken or of a kind that is not supported: RSA from 2048 to 4096 \
             bits, ECDSA (P-256, P-384) and Ed25519 are"
                .into()
        })
    }
}

/// Nothing of the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.0.algorithm())
    }
}

impl Identity {
    /// Puts both together.
    ///
    /// # Errors
    /// When they do not belong together.
    pub fn new(chain: Chain, key: Key) -> Result<Self, String> {
        let fits = key.0.public_key().is_some_and(|own| Some(own) == der::public_key(&chain.0[0]));
        if fits {
            Ok(Identity { chain, key })
        } else {
            Err("the key is not that of the first certificate".into())
        }
    }

    /// The certificate itself, without those behind it.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.chain.0[0]
    }

    /// What shows and uses it, whatever the other side asks for.
    pub(super) fn resolver(self) -> Arc<SingleCertAndKey> {
        Arc::new(CertifiedKey::new(self.chain.0, self.key.0).into())
    }
}

impl Roots {
    /// All certificates of a text, which somebody chose: each of them has to be readable.
    ///
    /// # Errors
    /// When there is none, or one that cannot be read.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let certificates = certificates(text)?;
        let mut anchors = RootCertStore::empty();
        let mut leaves = Vec::new();
        for (at, certificate) in certificates.iter().enumerate() {
            let mut alone = RootCertStore::empty();
            let is_ca = alone.add(certificate.clone()).ok().and(der::is_ca(certificate));
            match is_ca.ok_or_else(|| format!("certificate {} of it cannot be read", at + 1))? {
                true => anchors.roots.append(&mut alone.roots),
                false => leaves.push((certificate.clone(), alone)),
            }
        }
        let (anchors, leaves) = (Arc::new(anchors), leaves.into());
        Ok(Roots { anchors, leaves, certificates: certificates.into() })
    }

    /// Whether there is one among them that makes others believed.
    pub fn has_ca(&self) -> bool {
        !self.anchors.is_empty()
    }

    /// Those that the operating system has, as far as they can be read: nobody here chose them.
    ///
    /// # Errors
    /// When none is left.
    pub fn from_system(certificates: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let mut anchors = RootCertStore::empty();
        anchors.add_parsable_certificates(certificates.iter().cloned());
        if anchors.is_empty() {
            return Err("the system has no root certificates".into());
        }
        let (anchors, leaves) = (Arc::new(anchors), Arc::new([]));
        Ok(Roots { anchors, leaves, certificates: certificates.into() })
    }
}

/// Their number: a system has more than a hundred.
impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.certificates.len())
    }
}

/// At least one.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = certificates.map_err(|error| broken(&error))?;
    if certificates.is_empty() {
        return Err("no certificate in it (PEM: -----BEGIN CERTIFICATE-----)".into());
    }
    Ok(certificates)
}

/// Never with the text itself, which may be a key's.
fn broken(error: &pem::Error) -> String {
    let what = if matches!(error, pem::Error::MissingSectionEnd { .. }) {
        "a section of it has no -----END line"
    } else if matches!(error, pem::Error::Base64Decode(_)) {
        "a section of it is not base64"
    } else {
        "it is not PEM text"
    };
    what.into()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// PKCS #8 (RFC 5958), and OpenSSL's older form.
const ENCRYPTED: [&[u8]; 2] = [b"BEGIN ENCRYPTED PRIVATE KEY", b"Proc-Type: 4,ENCRYPTED"];
