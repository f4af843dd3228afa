//! The seal of a context variable: proof for PostgreSQL that its value comes from Multigres.
//! Knows nothing of how it is sent, nor of how PostgreSQL checks it (`sql/setup.sql`).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// How contexts are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// What Multigres and the database share.
    pub key: SealKey,
    /// Where a seal holds.
    pub bind: SealBind,
    /// What a database that does not ask for seals is to Multigres.
    pub demand: SealDemand,
}

/// What a database that does not ask for seals is to Multigres.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SealDemand {
    /// Good enough: it is to be sealed later.
    #[default]
    Prefer,
    /// Refused: a session in it may set itself to another tenant.
    Require,
}

/// Where a seal holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SealBind {
    /// In the one session whose upstream leg has this address and port at Multigres' end, as
    /// PostgreSQL must see them too.
    #[default]
    Address,
    /// In every session of the same role in the same database.
    None,
}

/// The key of the seals: 32 bytes, which no log and no Debug output shows, and which are wiped.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey(Rc<Zeroizing<[u8; SEAL_KEY_BYTES]>>);

/// A text that is no key. It does not say what the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealKeyError {
    /// It has so many bytes.
    Length(usize),
    /// A character, at this place from 1, is not a hex digit.
    Digit(usize),
}

/// What a seal vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The variable, in any case of letters.
    pub variable: &'a str,
    /// Its value, without [`SEAL_SEPARATOR`], as the two that follow.
    pub value: &'a [u8],
    /// The database of the session.
    pub database: &'a [u8],
    /// The role that logs in upstream.
    pub role: &'a [u8],
    /// Multigres' end of the upstream leg, unless the seal is not bound to it.
    pub local_address: Option<SocketAddr>,
}

impl SealKey {
    /// The key that stands in 64 hex digits.
    ///
    /// # Errors
    /// [`SealKeyError`] for any other text.
    pub fn from_hex(text: &[u8]) -> Result<Self, SealKeyError> {
        if text.len() != 2 * SEAL_KEY_BYTES {
            return Err(SealKeyError::Length(text.len()));
        }
        let digit = |at: usize| {
            let digit = char::from(text[at]).to_digit(16).ok_or(SealKeyError::Digit(at + 1))?;
            Ok(u8::try_from(digit).expect("a hex digit is below 16"))
        };
        let mut key = Zeroizing::new([0; SEAL_KEY_BYTES]);
        for (at, byte) in key.iter_mut().enumerate() {
            *byte = digit(2 * at)? << 4 | digit(2 * at + 1)?;
        }
        Ok(SealKey(Rc::new(key)))
    }

    /// The seal of a claim: 64 lower-case hex digits.
    ///
    /// HMAC-SHA256 over the version, how the key is bound, and the claim's parts, each with
    /// [`SEAL_SEPARATOR`] behind it, so that no two claims look the same.
    /// Behind them, if it is bound, address and port as `inet_send` and `int4send` give them.
    /// PostgreSQL builds this once for every query, hence the form that costs it the least
    /// (`concat_ws`).
    ///
    /// # Panics
    /// If a part of the claim holds the separator.
    pub fn seal(&self, claim: &Claim<'_>) -> Bytes {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0[..]).expect("any length is a key");
        let bind: &[u8] = if claim.local_address.is_some() { b"address" } else { b"none" };
        let variable = claim.variable.to_ascii_lowercase();
        for part in [VERSION, bind, variable.as_bytes(), claim.value, claim.database, claim.role] {
            assert!(!part.contains(&SEAL_SEPARATOR), "a part would run into the next");
            mac.update(part);
            mac.update(&[SEAL_SEPARATOR]);
        }
        if let Some(address) = claim.local_address {
            mac.update(&network_address(address.ip()));
            mac.update(&u32::from(address.port()).to_be_bytes());
        }
        hex(&mac.finalize().into_bytes()).into()
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(..)")
    }
}

impl fmt::Display for SealKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SealKeyError::Length(bytes) => {
                write!(f, "it holds {bytes} characters where 64 hex digits are a key")
            }
            SealKeyError::Digit(at) => write!(f, "character {at} of it is not a hex digit"),
        }
    }
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(HEX_DIGITS[usize::from(digit)])).collect()
}

/// As `inet_send` gives it: family, bits of the mask, that it is no network, length, bytes
/// (`network_send` in `network.c`). PostgreSQL, whose IPv6 sockets take IPv6 alone, sees an
/// IPv4-mapped address as the IPv4 one.
fn network_address(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => [&[2, 32, 0, 4], &ip.octets()[..]].concat(),
        IpAddr::V6(ip) => [&[3, 128, 0, 16], &ip.octets()[..]].concat(),
    }
}

/// Bytes of a key.
pub const SEAL_KEY_BYTES: usize = 32;

/// Digits of a seal.
pub const SEAL_DIGITS: usize = 64;

/// Stands behind each part of what is sealed, and in none of them: values are printable, and a
/// login whose role or database holds it is refused.
pub const SEAL_SEPARATOR: u8 = 0x01;

const VERSION: &[u8] = b"multigres-seal-2";

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";
