//! Answers upstream's authentication requests with a password that the client has given.
//! Knows nothing of how the password was asked for.

use std::mem;

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{SCRAM_SHA_256, SCRAM_SHA_256_PLUS};

use super::Nonce;
use crate::auth::scram::{self, Binding, Client};
use crate::protocol::frontend;
use crate::refusal::{Fault, Refusal, sqlstate};

/// An authentication request that a password answers.
pub(super) enum Request {
    /// The password itself.
    Cleartext,
    /// Its hash with the role's name and this salt.
    Md5([u8; 4]),
    /// A SASL exchange by one of these mechanisms.
    Sasl(Vec<String>),
}

impl Request {
    /// Refuses before the client is asked for a password that would not help.
    pub(super) fn checked(self) -> Result<Self, Refusal> {
        match &self {
            Request::Sasl(offered) if !offered.iter().any(|name| name == SCRAM_SHA_256) => {
                Err(Refusal::new(
                    Fault::Upstream,
                    sqlstate::INVALID_AUTHORIZATION,
                    "upstream offers no authentication mechanism that Multigres knows",
                )
                .private(format!("offered: {}", offered.join(", "))))
            }
            Request::Sasl(_) | Request::Cleartext | Request::Md5(_) => Ok(self),
        }
    }

    /// Refuses a password that it would take long to answer with: SCRAM hashes all of it in each of
    /// thousands of rounds, before anybody has proved anything, while the other sessions wait.
    pub(super) fn check_password(&self, password: &[u8]) -> Result<(), Refusal> {
        match self {
            Request::Sasl(_) if password.len() > SCRAM_PASSWORD_BYTES_MAX => Err(Refusal::new(
                Fault::Client,
                sqlstate::INVALID_PASSWORD,
                "password is too long for SCRAM",
            )
            .private(format!("{} bytes", password.len()))),
            Request::Sasl(_) | Request::Cleartext | Request::Md5(_) => Ok(()),
        }
    }
}

/// How far Multigres has come in answering upstream itself.
#[derive(Default)]
pub(super) enum Exchange {
    /// It has not been asked to.
    #[default]
    Idle,
    /// SCRAM-SHA-256 goes on; upstream has yet to prove that it knows the password too.
    Scram(Box<Client>),
    /// All has been said from this side.
    Done,
}

impl Exchange {
    /// Answers the first request; the password is not kept beyond what SCRAM needs. SCRAM is bound
    /// to the end point of the TLS with upstream, if it has one: then it fails with whoever stands
    /// in between, whatever certificate they show.
    pub(super) fn start(
        &mut self,
        request: Request,
        user: &[u8],
        password: &[u8],
        end_point: Option<&[u8]>,
        nonce: Nonce,
        to_upstream: &mut BytesMut,
    ) {
        *self = match request {
            Request::Cleartext => {
                frontend::put_password(to_upstream, password);
                Exchange::Done
            }
            Request::Md5(salt) => {
                let hash = md5_hash(user, password, salt);
                frontend::put_password(to_upstream, hash.as_bytes());
                Exchange::Done
            }
            Request::Sasl(offered) => {
                let is_offered = offered.iter().any(|name| name == SCRAM_SHA_256_PLUS);
                let (mechanism, binding) = match end_point {
                    Some(hash) if is_offered => {
                        (SCRAM_SHA_256_PLUS, Binding::EndPoint(hash.to_vec()))
                    }
                    Some(_) => (SCRAM_SHA_256, Binding::Unoffered),
                    None => (SCRAM_SHA_256, Binding::Unsupported),
                };
                let scram = Client::new(password, binding, scram::nonce(nonce));
                let first = scram.first();
                frontend::put_sasl_initial_response(to_upstream, mechanism, first.as_bytes());
                Exchange::Scram(Box::new(scram))
            }
        };
    }

    /// Whether a SCRAM exchange is under way.
    pub(super) fn is_running(&self) -> bool {
        matches!(self, Exchange::Scram(_))
    }

    /// Whether a password has been given.
    pub(super) fn has_started(&self) -> bool {
        !matches!(self, Exchange::Idle)
    }

    /// AuthenticationSASLContinue.
    pub(super) fn proceed(
        &mut self,
        data: &[u8],
        to_upstream: &mut BytesMut,
    ) -> Result<(), Refusal> {
        let Exchange::Scram(scram) = self else { return Err(out_of_turn()) };
        let proof = scram.prove(data).map_err(failed)?;
        frontend::put_sasl_response(to_upstream, proof.as_bytes());
        Ok(())
    }

    /// AuthenticationSASLFinal, with upstream's own proof.
    pub(super) fn finish(&mut self, data: &[u8]) -> Result<(), Refusal> {
        let Exchange::Scram(scram) = mem::replace(self, Exchange::Done) else {
            return Err(out_of_turn());
        };
        let verified = planted!(scram.verify(data), ProofUnread => Ok(()));
        verified.map_err(failed)?;
        sometimes!(ScramFinished);
        Ok(())
    }
}

fn out_of_turn() -> Refusal {
    Refusal::protocol(Fault::Upstream, "a SASL message outside of an exchange")
}

fn failed(private: &str) -> Refusal {
    let message = "SCRAM authentication with upstream failed";
    Refusal::new(Fault::Upstream, sqlstate::INVALID_AUTHORIZATION, message).private(private)
}

/// SASLprep can make eleven times as much of it.
const SCRAM_PASSWORD_BYTES_MAX: usize = 256;
