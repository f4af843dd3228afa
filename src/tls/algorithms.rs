//! Signatures that OpenSSL makes for PostgreSQL and ring cannot verify by itself: by keys on the
//! curve P-521, and by RSA keys that are for RSASSA-PSS only.
//! Knows nothing of certificates or handshakes.

use p521::ecdsa::signature::hazmat::PrehashVerifier;
use p521::ecdsa::{Signature, VerifyingKey};
use rustls::SignatureScheme as Scheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use sha2::{Digest, Sha256, Sha384, Sha512};
use webpki::ring;

pub(super) type Algorithms = &'static [&'static dyn SignatureVerificationAlgorithm];

/// What rustls has for ring (`rustls/src/crypto/ring/mod.rs`), and P-521. Before TLS 1.3 a scheme
/// of ECDSA says nothing of the curve, and each of its algorithms is tried.
pub(super) const SUPPORTED: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        ring::ECDSA_P256_SHA256,
        ring::ECDSA_P256_SHA384,
        ring::ECDSA_P384_SHA256,
        ring::ECDSA_P384_SHA384,
        P521_SHA256,
        P521_SHA384,
        P521_SHA512,
        ring::ED25519,
        ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        ring::RSA_PKCS1_2048_8192_SHA256,
        ring::RSA_PKCS1_2048_8192_SHA384,
        ring::RSA_PKCS1_2048_8192_SHA512,
        ring::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        ring::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        ring::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    mapping: &[
        (Scheme::ECDSA_NISTP521_SHA512, &[P521_SHA512]),
        (
            Scheme::ECDSA_NISTP384_SHA384,
            &[ring::ECDSA_P384_SHA384, ring::ECDSA_P256_SHA384, P521_SHA384],
        ),
        (
            Scheme::ECDSA_NISTP256_SHA256,
            &[ring::ECDSA_P256_SHA256, ring::ECDSA_P384_SHA256, P521_SHA256],
        ),
        (Scheme::ED25519, &[ring::ED25519]),
        (Scheme::RSA_PSS_SHA512, &[ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
        (Scheme::RSA_PSS_SHA384, &[ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
        (Scheme::RSA_PSS_SHA256, &[ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
        (Scheme::RSA_PKCS1_SHA512, &[ring::RSA_PKCS1_2048_8192_SHA512]),
        (Scheme::RSA_PKCS1_SHA384, &[ring::RSA_PKCS1_2048_8192_SHA384]),
        (Scheme::RSA_PKCS1_SHA256, &[ring::RSA_PKCS1_2048_8192_SHA256]),
    ],
};

/// `rsa_pss_pss_*` (RFC 8446, section 4.2.3): by keys for RSASSA-PSS. rustls has no name for them,
/// and refuses them as if they had not been offered.
pub(super) const BY_PSS_KEYS: [(Scheme, Algorithms); 3] = [
    (Scheme::Unknown(0x0809), &[PSS_SHA256, PSS_ONLY_SHA256]),
    (Scheme::Unknown(0x080a), &[PSS_SHA384, PSS_ONLY_SHA384]),
    (Scheme::Unknown(0x080b), &[PSS_SHA512, PSS_ONLY_SHA512]),
];

/// A hash function.
pub(super) type Hash = fn(&[u8]) -> Vec<u8>;

pub(super) fn sha256(message: &[u8]) -> Vec<u8> {
    Sha256::digest(message).to_vec()
}

pub(super) fn sha384(message: &[u8]) -> Vec<u8> {
    Sha384::digest(message).to_vec()
}

pub(super) fn sha512(message: &[u8]) -> Vec<u8> {
    Sha512::digest(message).to_vec()
}

/// ECDSA by a key on P-521.
#[derive(Debug)]
struct P521Ecdsa {
    hash: Hash,
    signature: AlgorithmIdentifier,
}

const P521_SHA256: &P521Ecdsa = &P521Ecdsa { hash: sha256, signature: alg_id::ECDSA_SHA256 };
const P521_SHA384: &P521Ecdsa = &P521Ecdsa { hash: sha384, signature: alg_id::ECDSA_SHA384 };
const P521_SHA512: &P521Ecdsa = &P521Ecdsa { hash: sha512, signature: alg_id::ECDSA_SHA512 };

impl SignatureVerificationAlgorithm for P521Ecdsa {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let key = VerifyingKey::from_sec1_bytes(public_key).map_err(|_| InvalidSignature)?;
        let signature = Signature::from_der(signature).map_err(|_| InvalidSignature)?;
        // A hash is an integer, shorter than the field: zeros in front change nothing. The library
        // refuses one that is shorter than half of it.
        let mut number = [0; P521_BYTES];
        let hash = (self.hash)(message);
        number[P521_BYTES - hash.len()..].copy_from_slice(&hash);
        key.verify_prehash(&number, &signature).map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

/// RSASSA-PSS by a key whose algorithm is id-RSASSA-PSS (RFC 4055, section 3.1): but for that name
/// it is the key of any RSA signature, and ring verifies it.
#[derive(Debug)]
struct PssKey {
    verify: &'static dyn SignatureVerificationAlgorithm,
    key: AlgorithmIdentifier,
}

const PSS_SHA256: &PssKey =
    &PssKey { verify: ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY, key: ANY_PSS };
const PSS_SHA384: &PssKey =
    &PssKey { verify: ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY, key: ANY_PSS };
const PSS_SHA512: &PssKey =
    &PssKey { verify: ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY, key: ANY_PSS };

// The key itself names the one hash function that it may be used with.
const PSS_ONLY_SHA256: &PssKey =
    &PssKey { verify: ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY, key: alg_id::RSA_PSS_SHA256 };
const PSS_ONLY_SHA384: &PssKey =
    &PssKey { verify: ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY, key: alg_id::RSA_PSS_SHA384 };
const PSS_ONLY_SHA512: &PssKey =
    &PssKey { verify: ring::RSA_PSS_2048_8192_SHA512_LEGACY_KEY, key: alg_id::RSA_PSS_SHA512 };

impl SignatureVerificationAlgorithm for PssKey {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.verify.verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.verify.signature_alg_id()
    }
}

/// id-RSASSA-PSS without parameters (RFC 4055, section 3.1): any hash function.
const ANY_PSS: AlgorithmIdentifier = AlgorithmIdentifier::from_slice(&[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a,
]);

/// Bytes of an integer modulo the order of P-521.
const P521_BYTES: usize = 66;
