//! What SCRAM binds to: the hash of a server's certificate (`tls-server-end-point`, RFC 5929).
//! Knows nothing of SCRAM.

use rustls::pki_types::CertificateDer;

use super::algorithms::{Hash, sha256, sha384, sha512};
use super::der;

/// The hash of a certificate by the hash function of its own signature, but SHA-256 in the place of
/// MD5 and SHA-1 (RFC 5929, section 4.1). `None` where that leaves none: Ed25519.
pub fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let hash: Hash = match der::signature_algorithm(certificate)? {
        [rsa @ .., function] if rsa == RSA => match function {
            4 | 5 | 11 => sha256,
            12 => sha384,
            13 => sha512,
            10 => match der::pss_hash(certificate)?.strip_prefix(SHA2)? {
                [1] => sha256,
                [2] => sha384,
                [3] => sha512,
                _ => return None,
            },
            _ => return None,
        },
        algorithm if algorithm == ECDSA_SHA1 => sha256,
        [ecdsa @ .., function] if ecdsa == ECDSA_SHA2 => match function {
            2 => sha256,
            3 => sha384,
            4 => sha512,
            _ => return None,
        },
        _ => return None,
    };
    Some(hash(certificate))
}

/// 1.2.840.113549.1.1, `pkcs-1` (RFC 8017, appendix A.2.4).
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];

/// 1.2.840.10045.4.3, `ecdsa-with-SHA2` (RFC 5758, section 3.2).
const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];

/// 1.2.840.10045.4.1, `ecdsa-with-SHA1` (RFC 3279, section 2.2.3).
const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];

/// 2.16.840.1.101.3.4.2, the hash functions of NIST (RFC 5754, section 2).
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
