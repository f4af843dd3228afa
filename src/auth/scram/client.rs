//! The client's side of SCRAM: proves that it knows a password, and has the server prove it, too.
//! Knows nothing of how a server stores it.

use hmac::Mac;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Key, attributes, decode, encode, hmac, is_nonce, keyed, positive_number, salted};
use crate::auth::saslprep;

/// How the channel is bound. The header of the first message says it, and both sides hash it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Not at all, without TLS: `n`.
    Unsupported,
    /// Not at all, since the server does not offer it: `y`.
    Unoffered,
    /// To the hash of the server's certificate, `tls-server-end-point` of RFC 5929: `p`.
    EndPoint(Vec<u8>),
}

/// A client that knows a password and wants a server to prove that it knows it, too.
pub struct Client {
    password: Zeroizing<Vec<u8>>,
    binding: Binding,
    nonce: String,
    /// Its first message without the header.
    bare: String,
    /// The proof that the server must give, once the client has given its own.
    server: Option<Expected>,
}

struct Expected {
    server_key: Key,
    auth_message: String,
}

impl Client {
    /// `nonce`: printable ASCII without a comma, never used before.
    ///
    /// # Panics
    /// With another nonce.
    pub fn new(password: &[u8], binding: Binding, nonce: String) -> Self {
        assert!(is_nonce(&nonce), "a nonce is printable");
        let password = Zeroizing::new(saslprep::prepare(password).into_owned());
        // PostgreSQL knows the user from the StartupMessage, and does not look here.
        let bare = format!("n=,r={nonce}");
        Client { password, binding, nonce, bare, server: None }
    }

    /// The client's first message.
    pub fn first(&self) -> String {
        format!("{}{}", self.header(), self.bare)
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
        let [nonce, salt, iterations] = attributes(text, ["r=", "s=", "i="])
            .ok_or("not the attributes of a server-first-message")?;
        let added = nonce.strip_prefix(self.nonce.as_str());
        if !added.is_some_and(is_nonce) {
            return Err("the server's nonce does not continue the client's");
        }
        let salt = decode(salt).ok_or("the salt is not base64")?;
        let iterations = positive_number(iterations)
            .filter(|iterations| *iterations <= ITERATIONS_MAX)
            .ok_or("the iteration count is not a number from 1 to 100000")?;
        let salted = salted(&self.password, &salt, iterations);
        let mut input = self.header().as_bytes().to_vec();
        if let Binding::EndPoint(hash) = &self.binding {
            input.extend_from_slice(hash);
        }
        let without_proof = format!("c={},r={nonce}", encode(&input));
        let auth_message = format!("{},{text},{without_proof}", self.bare);
        let client_key = Zeroizing::new(hmac(&*salted, b"Client Key"));
        let stored_key = Sha256::digest(*client_key);
        let mut proof = hmac(&stored_key, auth_message.as_bytes());
        for (proof, key) in proof.iter_mut().zip(*client_key) {
            *proof ^= key;
        }
        let server_key = Zeroizing::new(hmac(&*salted, b"Server Key"));
        self.server = Some(Expected { server_key, auth_message });
        Ok(format!("{without_proof},p={}", encode(&proof)))
    }

    /// Whether the server's last message proves that it knows the password's verifier.
    ///
    /// # Errors
    /// When it does not.
    pub fn verify(self, server_final: &[u8]) -> Result<(), &'static str> {
        let Some(expected) = self.server else { return Err("a proof before it was asked for") };
        let proof = server_final.strip_prefix(b"v=").ok_or("no proof of the server's")?;
        let proof = decode(proof).ok_or("the server's proof is not base64")?;
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
}

/// PostgreSQL's default is 4,096; a server that asks for millions would stop all sessions.
const ITERATIONS_MAX: u32 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3. Its client names a user, which ours does not.
    #[test]
    fn the_proofs_are_those_of_the_rfc() {
        let nonce = "rOprNGfwEbeRWgbNEkqO";
        let mut client = Client::new(b"pencil", Binding::Unsupported, nonce.into());
        client.bare = format!("n=user,r={nonce}");
        let proof = client.prove(
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,\
              i=4096",
        );
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(proof.as_deref(), Ok(expected));
        assert_eq!(client.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
    }
}
