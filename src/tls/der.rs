//! As much of DER (X.690) as finds the public key of a certificate, how it was signed, and whether
//! it is a CA's.
//! Judges nothing: whether the certificate is to be believed is not asked here.

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};

/// The SubjectPublicKeyInfo of a certificate of any version (RFC 5280, section 4.1), if it is one.
///
/// webpki reads no X.509 version 1; the recipes of PostgreSQL's manual ("Creating Certificates")
/// make such certificates.
pub(super) fn public_key<'a>(
    certificate: &'a CertificateDer<'_>,
) -> Option<SubjectPublicKeyInfoDer<'a>> {
    let certificate = Element::take(certificate)?.of(SEQUENCE)?;
    let mut fields = Element::take(certificate.content)?.of(SEQUENCE)?.content;
    let first = Element::take(fields)?;
    if first.tag == VERSION {
        fields = first.rest;
    }
    for tag in [SERIAL_NUMBER, SIGNATURE, ISSUER, VALIDITY, SUBJECT] {
        fields = Element::take(fields)?.of(tag)?.rest;
    }
    let key = Element::take(fields)?.of(SEQUENCE)?;
    Some(SubjectPublicKeyInfoDer::from(key.whole))
}

/// The first and the last second of a certificate's time, since 1970 (RFC 5280, section 4.1.2.5).
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let certificate = Element::take(certificate)?.of(SEQUENCE)?;
    let mut fields = Element::take(certificate.content)?.of(SEQUENCE)?.content;
    let first = Element::take(fields)?;
    if first.tag == VERSION {
        fields = first.rest;
    }
    for tag in [SERIAL_NUMBER, SIGNATURE, ISSUER] {
        fields = Element::take(fields)?.of(tag)?.rest;
    }
    let from = Element::take(Element::take(fields)?.of(VALIDITY)?.content)?;
    let to = Element::take(from.rest)?;
    Some((seconds(&from)?, seconds(&to)?))
}

/// `YYMMDDhhmmssZ`, or with four digits for the year.
fn seconds(time: &Element<'_>) -> Option<i64> {
    let text = str::from_utf8(time.content).ok()?.strip_suffix('Z')?;
    let (year, rest) = match time.tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(2 * at..2 * at + 2)?.parse::<i64>().ok();
    let (month, day) = (part(0)?, part(1)?);
    // Years begin in March: the day that leap years add is their last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    Some(((days - DAYS_TO_1970) * 24 + part(2)?) * 3600 + part(3)? * 60 + part(4)?)
}

/// The object identifier of the algorithm that a certificate was signed with, without its tag.
pub(super) fn signature_algorithm<'a>(certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    Some(signature(certificate)?.content)
}

/// The same with its tag; behind it stand the algorithm's parameters.
fn signature<'a>(certificate: &'a CertificateDer<'_>) -> Option<Element<'a>> {
    let certificate = Element::take(certificate)?.of(SEQUENCE)?;
    let signed = Element::take(certificate.content)?.of(SEQUENCE)?;
    let algorithm = Element::take(signed.rest)?.of(SEQUENCE)?;
    Element::take(algorithm.content)?.of(OBJECT_IDENTIFIER)
}

/// The object identifier of the hash function of a certificate's signature by RSASSA-PSS, where its
/// parameters name one (RFC 4055, section 3.1).
pub(super) fn pss_hash<'a>(certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    let parameters = Element::take(signature(certificate)?.rest)?.of(SEQUENCE)?;
    let hash = Element::take(parameters.content)?.of(HASH_FUNCTION)?;
    let hash = Element::take(hash.content)?.of(SEQUENCE)?;
    Some(Element::take(hash.content)?.of(OBJECT_IDENTIFIER)?.content)
}

/// Whether a certificate of any version says that it may sign others (RFC 5280, section 4.2.1.9).
/// Version 1 has no way to say so, and is believed, as by OpenSSL.
pub(super) fn is_ca(certificate: &CertificateDer<'_>) -> Option<bool> {
    let certificate = Element::take(certificate)?.of(SEQUENCE)?;
    let mut fields = Element::take(certificate.content)?.of(SEQUENCE)?.content;
    if Element::take(fields)?.tag != VERSION {
        return Some(true);
    }
    while !fields.is_empty() {
        let field = Element::take(fields)?;
        if field.tag == EXTENSIONS {
            return constraints(field.content);
        }
        fields = field.rest;
    }
    Some(false)
}

fn constraints(extensions: &[u8]) -> Option<bool> {
    let mut extensions = Element::take(extensions)?.of(SEQUENCE)?.content;
    while !extensions.is_empty() {
        let extension = Element::take(extensions)?.of(SEQUENCE)?;
        extensions = extension.rest;
        let name = Element::take(extension.content)?;
        if name.content != BASIC_CONSTRAINTS {
            continue;
        }
        let mut value = Element::take(name.rest)?;
        if value.tag == BOOLEAN {
            value = Element::take(value.rest)?;
        }
        let value = Element::take(value.of(OCTET_STRING)?.content)?.of(SEQUENCE)?;
        let first = Element::take(value.content);
        return Some(first.is_some_and(|it| it.tag == BOOLEAN && it.content == [0xff]));
    }
    Some(false)
}

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    /// Tag, length and content.
    whole: &'a [u8],
    /// What stands behind it.
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn take(input: &'a [u8]) -> Option<Self> {
        let (&tag, after_tag) = input.split_first()?;
        let (&first, after_first) = after_tag.split_first()?;
        let (length, after_length) = match first {
            0..=0x7f => (usize::from(first), after_first),
            0x81..=0x83 => {
                let (length, rest) = after_first.split_at_checked(usize::from(first - 0x80))?;
                (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = after_length.split_at_checked(length)?;
        Some(Element { tag, content, whole: &input[..input.len() - rest.len()], rest })
    }

    fn of(self, tag: u8) -> Option<Self> {
        (self.tag == tag).then_some(self)
    }
}

const SEQUENCE: u8 = 0x30;
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;
const HASH_FUNCTION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const SERIAL_NUMBER: u8 = INTEGER;
const SIGNATURE: u8 = SEQUENCE;
const ISSUER: u8 = SEQUENCE;
const VALIDITY: u8 = SEQUENCE;
const SUBJECT: u8 = SEQUENCE;

/// 2.5.29.19
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];

/// Of the years that begin in March of the year 0, with the 0th of March as day 0.
const DAYS_TO_1970: i64 = 719_469;
