//! What SCRAM binds to: RFC 5929 says by which hash function.

use multigres::tls::end_point;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// As much of a certificate as tells how it was signed.
fn signed_by(algorithm: &[u8]) -> CertificateDer<'static> {
    let element = |tag: u8, content: &[u8]| [&[tag, content.len() as u8], content].concat();
    let algorithm = element(0x30, &element(0x06, algorithm));
    element(0x30, &[element(0x30, b""), algorithm, element(0x03, b"\0")].concat()).into()
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

#[test]
fn the_hash_is_that_of_the_signature_and_never_a_broken_one() {
    type Hash = fn(&[u8]) -> Vec<u8>;
    let (sha256, sha384, sha512): (Hash, Hash, Hash) = (
        |der| Sha256::digest(der).to_vec(),
        |der| Sha384::digest(der).to_vec(),
        |der| Sha512::digest(der).to_vec(),
    );
    for (prefix, last, hash) in [
        (RSA, 4, Some(sha256)),
        (RSA, 5, Some(sha256)),
        (RSA, 10, None),
        (RSA, 11, Some(sha256)),
        (RSA, 12, Some(sha384)),
        (RSA, 13, Some(sha512)),
        (ECDSA_SHA2, 1, None),
        (ECDSA_SHA2, 2, Some(sha256)),
        (ECDSA_SHA2, 3, Some(sha384)),
        (ECDSA_SHA2, 4, Some(sha512)),
    ] {
        let certificate = signed_by(&[prefix, &[last]].concat());
        assert_eq!(end_point(&certificate), hash.map(|hash| hash(&certificate)), "{last}");
    }
    let old = signed_by(ECDSA_SHA1);
    assert_eq!(end_point(&old), Some(sha256(&old)));
    assert_eq!(end_point(&signed_by(ED25519)), None);
}

#[test]
fn a_signature_by_pss_names_its_hash_function_in_its_parameters() {
    for pem in [include_str!("../keys/pss.pem"), include_str!("../keys/pss_sha256.pem")] {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(end_point(&certificate), Some(Sha256::digest(&certificate).to_vec()));
    }
    let pss = [RSA, &[10]].concat();
    assert_eq!(end_point(&signed_by(&pss)), None, "SHA-1, by default, and not said");
}

#[test]
fn what_is_no_certificate_has_no_end_point() {
    let whole = signed_by(&[RSA, &[11]].concat());
    for length in 0..whole.len() - 3 {
        assert_eq!(end_point(&whole[..length].into()), None, "{length}");
    }
}
