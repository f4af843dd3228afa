//! What upstream must prove before anything is told it.
//! Knows nothing of settings; the proof of the private key is asked for at every level.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::algorithms::{Algorithms, BY_PSS_KEYS, SUPPORTED};
use super::{Roots, der};

/// What upstream must prove (PostgreSQL's manual, "libpq-ssl").
///
/// At every level it must prove that it has the key of the certificate that it shows.
#[derive(Clone, Debug)]
pub enum Verification {
    /// Nothing else: `prefer`, and `require` without a CA. Good against whoever only listens.
    AnyCertificate,
    /// That one of these CAs knows it, by whatever name: `verify-ca`.
    Chain(Roots),
    /// And that the certificate is for the name or address that is dialled: `verify-full`.
    ChainAndName(Roots),
}

/// [`Verification`], as rustls asks for it.
#[derive(Debug)]
pub(super) struct UpstreamVerifier(Verification);

impl UpstreamVerifier {
    pub(super) fn new(verification: Verification) -> Self {
        UpstreamVerifier(planted(verification))
    }

    /// Whether a root has signed it, by way of the others.
    fn verify_chain(
        &self,
        roots: &Roots,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let shown = ParsedCertificate::try_from(certificate).map_err(explained)?;
        let by_pss_keys = BY_PSS_KEYS.iter().flat_map(|(_, algorithms)| *algorithms);
        let algorithms: Vec<_> = SUPPORTED.all.iter().chain(by_pss_keys).copied().collect();
        let verify = |anchors: &RootCertStore| {
            verify_server_cert_signed_by_trust_anchor(&shown, anchors, others, now, &algorithms)
        };
        let leaf = roots.leaves.iter().find(|(leaf, _)| leaf == certificate);
        match (verify(&roots.anchors), leaf) {
            (Err(error), _) if is_ca(&error) && roots.certificates.contains(certificate) => Ok(()),
            (Err(_), Some((_, alone))) => verify(alone),
            (verified, _) => verified,
        }
    }
}

impl ServerCertVerifier for UpstreamVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.0 {
            Verification::AnyCertificate => {}
            Verification::Chain(roots) => self.verify_chain(roots, certificate, others, now)?,
            Verification::ChainAndName(roots) => {
                self.verify_chain(roots, certificate, others, now)?;
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.0 {
            Verification::AnyCertificate => {
                let key = public_key(certificate)?;
                verify_with_any_algorithm(message, &key, signed, SUPPORTED.mapping)
            }
            Verification::Chain(_) | Verification::ChainAndName(_) => {
                verify_tls12_signature(message, certificate, signed, &SUPPORTED)
            }
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match &self.0 {
            _ if is_by_pss_key(signed.scheme) => {
                let key = public_key(certificate)?;
                verify_with_any_algorithm(message, &key, signed, &BY_PSS_KEYS)
            }
            Verification::AnyCertificate => {
                let key = public_key(certificate)?;
                verify_tls13_signature_with_raw_key(message, &key, signed, &SUPPORTED)
            }
            Verification::Chain(_) | Verification::ChainAndName(_) => {
                verify_tls13_signature(message, certificate, signed, &SUPPORTED)
            }
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let by_pss_keys = BY_PSS_KEYS.iter().map(|(scheme, _)| *scheme);
        SUPPORTED.supported_schemes().into_iter().chain(by_pss_keys).collect()
    }
}

/// Planted bugs.
fn planted(verification: Verification) -> Verification {
    match verification {
        Verification::ChainAndName(roots) if mutant!(NameUnread) => Verification::Chain(roots),
        _ if mutant!(CertificateUnread) => Verification::AnyCertificate,
        Verification::AnyCertificate | Verification::Chain(_) | Verification::ChainAndName(_) => {
            verification
        }
    }
}

/// In words that lead on, for what the recipes of PostgreSQL's manual come to.
fn explained(error: Error) -> Error {
    match webpki_error(&error) {
        Some(webpki::Error::UnsupportedCertVersion) => Error::General(
            "the certificate is of X.509 version 1, which has no subjectAltName: make one that has \
             (openssl x509 -req -extfile)"
                .into(),
        ),
        Some(_) | None => error,
    }
}

/// A certificate that was made by `openssl req -x509`, as PostgreSQL's manual has it, signs itself
/// as a CA; webpki takes no CA for a server. Where it stands itself among the roots it is believed,
/// as by OpenSSL. webpki finds this the matter when the dates are in order, not before.
fn is_ca(error: &Error) -> bool {
    webpki_error(error) == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// What rustls has no word of its own for.
fn webpki_error(error: &Error) -> Option<&webpki::Error> {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(error))) = error else {
        return None;
    };
    error.downcast_ref()
}

/// Of any certificate, whatever else webpki had against it.
fn public_key<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Result<SubjectPublicKeyInfoDer<'a>, Error> {
    der::public_key(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

fn is_by_pss_key(scheme: SignatureScheme) -> bool {
    BY_PSS_KEYS.iter().any(|(known, _)| *known == scheme)
}

/// As rustls does with the key of a certificate (`rustls/src/webpki/verify.rs`): the scheme leaves
/// the curve open in TLS 1.2, and the parameters of a key for RSASSA-PSS, so each algorithm of the
/// scheme is tried that is for such a key.
fn verify_with_any_algorithm(
    message: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
    signed: &DigitallySignedStruct,
    schemes: &[(SignatureScheme, Algorithms)],
) -> Result<HandshakeSignatureValid, Error> {
    let key = webpki::RawPublicKeyEntity::try_from(key)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let scheme = schemes.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let candidates = scheme.map_or(&[][..], |(_, candidates)| candidates);
    let fits = candidates
        .iter()
        .any(|algorithm| key.verify_signature(*algorithm, message, signed.signature()).is_ok());
    if fits {
        Ok(HandshakeSignatureValid::assertion())
    } else {
        Err(Error::InvalidCertificate(CertificateError::BadSignature))
    }
}
