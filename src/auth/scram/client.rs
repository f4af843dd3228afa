//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as a client: bytes in, bytes out, the nonce is an argument.
//! Knows nothing of messages of PostgreSQL's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::auth::saslprep;

/// What is said of channel binding, in the header that both sides hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// There is no TLS to bind to: `n`.
    Unsupported,
    /// There is, and the server does not offer to bind to it: `y`.
    Unoffered,
    /// To the hash of the server's certificate, `tls-server-end-point` of RFC 5929: `p`.
    EndPoint(Vec<u8>),
}

/// A client that knows a password and wants a server to prove that it knows it, too.
pub struct Client {
    password: Zeroizing<Vec<u8>>,
    binding: Binding,
    nonce: String,
    /// What the server's proof must be, once the client's has been given.
    server: Option<Expected>,
}

struct Expected {
    server_key: Zeroizing<[u8; 32]>,
    auth_message: String,
}

impl Client {
    /// `nonce`: printable ASCII without a comma, never used before.
    pub fn new(password: &[u8], binding: Binding, nonce: String) -> Self {
        let password = Zeroizing::new(saslprep::prepare(password).into_owned());
        Client { password, binding, nonce, server: None }
    }

    /// The client's first message. PostgreSQL knows the user already, and reads none here.
    pub fn first(&self) -> String {
        format!("{}{}", self.header(), self.bare())
    }

    /// Answers the server's first message with the client's proof.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn prove(&mut self, server_first: &[u8]) -> Result<String, &'static str> {
        if self.server.is_some() {
            return Err("a second server-first-message");
        }
        let text = str::from_utf8(server_first).map_err(|_| "server-first-message is not UTF-8")?;
        let [nonce, salt, iterations] = attributes(text, ["r=", "s=", "i="])?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the server's nonce does not continue the client's");
        }
        let salt = STANDARD.decode(salt).map_err(|_| "the salt is not base64")?;
        let iterations: u32 =
            iterations.parse().map_err(|_| "the iteration count is not a number")?;
        if !(1..=ITERATIONS_MAX).contains(&iterations) {
            return Err("the iteration count is 0 or above 100000");
        }
        let salted = salted(&self.password, &salt, iterations);
        let mut input = self.header().as_bytes().to_vec();
        if let Binding::EndPoint(hash) = &self.binding {
            input.extend_from_slice(hash);
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(input));
        let auth_message = format!("{},{text},{without_proof}", self.bare());
        let client_key = Zeroizing::new(hmac(&*salted, b"Client Key"));
        let stored_key = Sha256::digest(*client_key);
        let mut proof = hmac(&stored_key, auth_message.as_bytes());
        for (proof, key) in proof.iter_mut().zip(*client_key) {
            *proof ^= key;
        }
        let server_key = Zeroizing::new(hmac(&*salted, b"Server Key"));
        self.server = Some(Expected { server_key, auth_message });
        Ok(format!("{without_proof},p={}", STANDARD.encode(proof)))
    }

    /// Whether the server's last message proves that it knows the password's verifier.
    ///
    /// # Errors
    /// When it does not.
    pub fn verify(self, server_final: &[u8]) -> Result<(), &'static str> {
        let Some(expected) = self.server else { return Err("a proof before it was asked for") };
        let proof = server_final.strip_prefix(b"v=").ok_or("no proof of the server's")?;
        let proof = STANDARD.decode(proof).map_err(|_| "the server's proof is not base64")?;
        let mut mac = keyed(&*expected.server_key);
        mac.update(expected.auth_message.as_bytes());
        mac.verify_slice(&proof).map_err(|_| "the server's proof is wrong")
    }

    fn header(&self) -> &'static str {
        match self.binding {
            Binding::Unsupported => "n,,",
            Binding::Unoffered => "y,,",
            Binding::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }
}

/// A nonce that nobody can foresee.
///
/// # Errors
/// When the operating system has no randomness.
pub fn fresh_nonce() -> Result<String, String> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(STANDARD.encode(bytes))
}

/// The values of these attributes, which are all, in their order.
fn attributes<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Result<[&'a str; N], &'static str> {
    let mut parts = text.split(',');
    let mut values = [""; N];
    for (value, name) in values.iter_mut().zip(names) {
        *value = parts.next().and_then(|part| part.strip_prefix(name)).ok_or(MALFORMED)?;
    }
    if parts.next().is_some() { Err(MALFORMED) } else { Ok(values) }
}

/// `Hi` of RFC 5802: PBKDF2 with HMAC-SHA-256, one block. The key is prepared once.
fn salted(password: &[u8], salt: &[u8], iterations: u32) -> Zeroizing<[u8; 32]> {
    let keyed = keyed(password);
    let round = |parts: [&[u8]; 2]| -> [u8; 32] {
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

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = keyed(key);
    mac.update(text);
    mac.finalize().into_bytes().into()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// PostgreSQL's default is 4,096; a server that asks for millions would stop all sessions.
const ITERATIONS_MAX: u32 = 100_000;

const MALFORMED: &str = "not the attributes of a server-first-message";
