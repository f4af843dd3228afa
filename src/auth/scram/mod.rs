//! SCRAM-SHA-256 (RFC 5802, RFC 7677), both sides: bytes in, bytes out, the nonce is an argument.
//! Knows nothing of messages of PostgreSQL's.

mod client;
mod secret;
mod server;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

pub use client::{Binding, Client};
pub use secret::Secret;
pub use server::{Challenged, Channel, Failure, MESSAGE_BYTES_MAX, Server};

/// A nonce for [`Client::new`] or [`Server::new`], from bytes that nobody can foresee.
pub fn nonce(random: [u8; NONCE_BYTES]) -> String {
    encode(&random)
}

/// As many as PostgreSQL takes.
pub const NONCE_BYTES: usize = 18;

/// A key of SCRAM-SHA-256.
type Key = Zeroizing<[u8; KEY_BYTES]>;

const KEY_BYTES: usize = 32;

/// The values of attributes: these ones, in this order, and no others. So an attribute that comes
/// twice is refused, and so is every extension, `m=` or not.
fn attributes<'a, const N: usize>(text: &'a str, names: [&str; N]) -> Option<[&'a str; N]> {
    let mut parts = text.split(',');
    let mut values = [""; N];
    for (value, name) in values.iter_mut().zip(names) {
        *value = parts.next()?.strip_prefix(name)?;
    }
    if parts.next().is_some() { None } else { Some(values) }
}

/// A number above zero as RFC 5802 writes it: `posit-number`.
fn positive_number(text: &str) -> Option<u32> {
    let is_canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_canonical)
}

/// Whether this can be a nonce: `printable` of RFC 5802.
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// A key, a proof or a signature in base64.
fn key(text: &str) -> Option<Key> {
    let bytes = Zeroizing::new(STANDARD.decode(text).ok()?);
    <[u8; KEY_BYTES]>::try_from(&bytes[..]).ok().map(Zeroizing::new)
}

fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn decode(text: impl AsRef<[u8]>) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// `Hi` of RFC 5802: PBKDF2 with HMAC-SHA-256, one block. The key is prepared once.
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let keyed = keyed(password);
    let round = |parts: [&[u8]; 2]| -> [u8; KEY_BYTES] {
        let mut mac = keyed.clone();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    };
    let mut last = round([salt, &1_u32.to_be_bytes()]);
    let mut sum = Zeroizing::new(last);
    for _ in 1..iterations {
        last = round([&last, b""]);
        sum.iter_mut().zip(last).for_each(|(sum, last)| *sum ^= last);
    }
    sum
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; KEY_BYTES] {
    let mut mac = keyed(key);
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}
