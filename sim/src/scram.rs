//! SCRAM-SHA-256 (RFC 5802, RFC 7677) for both model peers, and PostgreSQL's MD5 hash.
//! Real arithmetic, so that a relay which alters a byte fails.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Digest, Sha256};

/// The shared secrets of one exchange.
pub struct Secrets {
    salted: Vec<u8>,
    auth_message: String,
}

impl Secrets {
    /// From the password and the messages of the exchange.
    pub fn new(password: &str, salt: &[u8], rounds: u32, auth_message: String) -> Self {
        Secrets { salted: salted(password, salt, rounds), auth_message }
    }

    /// What the client proves with.
    pub fn proof(&self) -> Vec<u8> {
        let client_key = hmac(&self.salted, b"Client Key");
        let stored_key = Sha256::digest(&client_key);
        let signature = hmac(&stored_key, self.auth_message.as_bytes());
        client_key.iter().zip(signature).map(|(key, signed)| key ^ signed).collect()
    }

    /// What the server proves with.
    pub fn server_signature(&self) -> Vec<u8> {
        hmac(&hmac(&self.salted, b"Server Key"), self.auth_message.as_bytes())
    }
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("keys have any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// PBKDF2 for one block, which is all that SHA-256 needs here.
fn salted(password: &str, salt: &[u8], rounds: u32) -> Vec<u8> {
    let mut block = hmac(password.as_bytes(), &[salt, &1u32.to_be_bytes()].concat());
    let mut sum = block.clone();
    for _ in 1..rounds {
        block = hmac(password.as_bytes(), &block);
        sum.iter_mut().zip(&block).for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

/// `md5` and 32 hexadecimal digits, as in AuthenticationMD5Password's description.
pub fn md5_answer(user: &str, password: &str, salt: [u8; 4]) -> String {
    let inner = hex(&Md5::digest(format!("{password}{user}")));
    let outer = Md5::digest([inner.as_bytes(), &salt].concat());
    format!("md5{}", hex(&outer))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Base64 as SCRAM has it.
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Base64 as SCRAM has it.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The value of an attribute such as `r=` in a SCRAM message.
pub fn attribute(message: &str, name: char) -> Option<&str> {
    message.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}
