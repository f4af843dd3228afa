//! The server's side of SCRAM: verifies a client by a stored secret, as PostgreSQL does.
//! Knows no password, derives no key from one, and does not know whether a login exists.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Secret, attributes, encode, hmac, is_nonce, key};

/// The mechanism that the client has chosen, and whether it was offered the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// SCRAM-SHA-256, and the -PLUS mechanism was not offered.
    Unoffered,
    /// SCRAM-SHA-256, although the -PLUS mechanism was offered.
    Unbound,
    /// SCRAM-SHA-256-PLUS, bound to this hash of the certificate that the client was shown,
    /// `tls-server-end-point` of RFC 5929.
    EndPoint(Vec<u8>),
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It breaks the protocol: SQLSTATE 08P01.
    Protocol(&'static str),
    /// Its TLS does not end here, or somebody in between has changed the offer: SQLSTATE 28000.
    Binding(&'static str),
    /// It does not know the password, or the login does not exist: SQLSTATE 28P01. Which of them
    /// is unknown here, too.
    Proof,
}

/// A server that waits for the client's first message.
pub struct Server {
    secret: Secret,
    channel: Channel,
    nonce: String,
}

/// A server that waits for the client's proof.
pub struct Challenged {
    secret: Secret,
    /// The attribute `c=` that the client must send.
    binding: String,
    nonce: String,
    /// The AuthMessage of RFC 5802 up to the client's last message.
    auth_message: String,
}

impl Server {
    /// `nonce`: printable ASCII without a comma, never used before.
    ///
    /// # Panics
    /// With another nonce.
    pub fn new(secret: Secret, channel: Channel, nonce: String) -> Self {
        assert!(is_nonce(&nonce), "a nonce is printable");
        Server { secret, channel, nonce }
    }

    /// Answers the client's first message with the server's. The user name in it is not looked at,
    /// as PostgreSQL does not: the StartupMessage has it.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub fn challenge(self, client_first: &[u8]) -> Result<(String, Challenged), Failure> {
        let text = text(client_first)?;
        let (flag, rest) = text.split_once(',').ok_or(Failure::Protocol(NOT_FIRST))?;
        self.channel.check(flag)?;
        let Some(bare) = rest.strip_prefix(',') else {
            let is_identity = rest.starts_with("a=");
            return Err(Failure::Protocol(if is_identity { AUTHORIZATION } else { NOT_FIRST }));
        };
        if bare.starts_with("m=") {
            return Err(Failure::Protocol(EXTENSION));
        }
        let [_, nonce] = attributes(bare, ["n=", "r="]).ok_or(Failure::Protocol(NOT_FIRST))?;
        if !is_nonce(nonce) {
            return Err(Failure::Protocol("the client's nonce is empty or not printable"));
        }
        let nonce = format!("{nonce}{}", self.nonce);
        let salt = encode(&self.secret.salt);
        let first = format!("r={nonce},s={salt},i={}", self.secret.iterations);
        let challenged = Challenged {
            binding: self.channel.binding(flag),
            auth_message: format!("{bare},{first}"),
            secret: self.secret,
            nonce,
        };
        Ok((first, challenged))
    }
}

impl Challenged {
    /// Verifies the client's proof, and answers it with the server's own.
    ///
    /// # Errors
    /// Why the client is not let in.
    pub fn verify(self, client_final: &[u8]) -> Result<String, Failure> {
        let text = text(client_final)?;
        if text.starts_with("m=") {
            return Err(Failure::Protocol(EXTENSION));
        }
        let attributes = attributes(text, ["c=", "r=", "p="]);
        let [binding, nonce, proof] = attributes.ok_or(Failure::Protocol(NOT_FINAL))?;
        if nonce != self.nonce {
            return Err(Failure::Protocol("the nonce is not the one of this exchange"));
        }
        if binding != self.binding {
            return Err(Failure::Binding("the channel binding is not that of this connection"));
        }
        let proof = key(proof).ok_or(Failure::Protocol("the proof is not 32 bytes in base64"))?;
        let without_proof = text.rsplit_once(",p=").map_or("", |(before, _)| before);
        let auth_message = format!("{},{without_proof}", self.auth_message);
        let mut client_key =
            Zeroizing::new(hmac(&self.secret.stored_key[..], auth_message.as_bytes()));
        client_key.iter_mut().zip(*proof).for_each(|(byte, proof)| *byte ^= proof);
        let is_right = Sha256::digest(*client_key)[..].ct_eq(&self.secret.stored_key[..]);
        let signature = hmac(&self.secret.server_key[..], auth_message.as_bytes());
        if bool::from(is_right) {
            Ok(format!("v={}", encode(&signature)))
        } else {
            Err(Failure::Proof)
        }
    }
}

impl Channel {
    /// Whether the flag in front of the client's first message fits what was offered and chosen.
    fn check(&self, flag: &str) -> Result<(), Failure> {
        match (self, flag) {
            (Channel::Unoffered, "n" | "y")
            | (Channel::Unbound, "n")
            | (Channel::EndPoint(_), END_POINT) => Ok(()),
            (Channel::Unbound, "y") => Err(Failure::Binding(
                "channel binding is offered and the client has not seen the offer",
            )),
            (Channel::EndPoint(_), "n" | "y") => Err(Failure::Protocol(
                "the client has chosen SCRAM-SHA-256-PLUS and does not bind the channel",
            )),
            (Channel::Unoffered | Channel::Unbound, flag) if flag.starts_with("p=") => {
                Err(Failure::Protocol(
                    "the client binds the channel and has not chosen SCRAM-SHA-256-PLUS",
                ))
            }
            (Channel::EndPoint(_), flag) if flag.starts_with("p=") => Err(Failure::Protocol(
                "the client binds to something else than tls-server-end-point",
            )),
            _ => Err(Failure::Protocol(NOT_FIRST)),
        }
    }

    /// The attribute `c=`: the header of the first message and what the channel is bound to.
    fn binding(&self, flag: &str) -> String {
        let mut input = format!("{flag},,").into_bytes();
        if let Channel::EndPoint(hash) = self {
            input.extend_from_slice(hash);
        }
        encode(&input)
    }
}

fn text(message: &[u8]) -> Result<&str, Failure> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Failure::Protocol("a SCRAM message is longer than 1024 bytes"));
    }
    str::from_utf8(message).map_err(|_| Failure::Protocol("a SCRAM message is not UTF-8"))
}

/// Of a message of the client's: PostgreSQL's `PG_MAX_SASL_MESSAGE_LENGTH`.
pub const MESSAGE_BYTES_MAX: usize = 1024;

const END_POINT: &str = "p=tls-server-end-point";

const NOT_FIRST: &str = "not the attributes of a client-first-message";
const NOT_FINAL: &str = "not the attributes of a client-final-message";
const EXTENSION: &str = "the client requires an extension of SCRAM";
const AUTHORIZATION: &str = "the client asks for another authorization identity";
