//! How the model PostgreSQL lets a client prove who it is.

use super::Backend;
use crate::ledger::{password, role};
use crate::plan::{Auth, Fate};
use crate::record::violate;
use crate::rng::Rng;
use crate::scram::{self, Secrets};
use crate::talk::Stop;
use crate::wire;

impl Backend<'_> {
    /// Up to, and without, AuthenticationOk.
    pub(super) async fn authenticate(&mut self) -> Result<(), Stop> {
        if self.session.script.fate == Fate::UnknownAuth {
            self.talk.say(&wire::authentication(99, &[])).await?;
            return Err(Stop::Own);
        }
        if self.session.script.fate == Fate::UnknownMechanism {
            let offer = [wire::text("SCRAM-SHA-1"), wire::text("OAUTHBEARER"), vec![0]].concat();
            self.talk.say(&wire::authentication(10, &offer)).await?;
            return Err(Stop::Own);
        }
        if self.session.script.fate == Fate::Impatient {
            let request = wire::authentication(3, &[]);
            let impatient = [request, wire::authentication(0, &[])].concat();
            self.talk.say(&impatient).await?;
            return Err(Stop::Own);
        }
        let role = role(self.session);
        let secret = password(&role);
        let proven = match self.session.script.auth {
            Auth::Trust => true,
            Auth::Cleartext => {
                self.talk.say(&wire::authentication(3, &[])).await?;
                self.reply().await? == wire::text(&secret)
            }
            Auth::Md5 => {
                let salt = self.rng("salt").bytes();
                self.talk.say(&wire::authentication(5, &salt)).await?;
                self.reply().await? == wire::text(scram::md5_answer(&role, &secret, salt))
            }
            Auth::Scram => self.scram(&secret).await?,
        };
        if proven {
            return Ok(());
        }
        self.ledger.entry(self.session.number).upstream.wrong_password = true;
        self.refuse("28P01", "password authentication failed").await
    }

    fn rng(&self, purpose: &str) -> Rng {
        Rng::fork(self.plan.seed, &format!("{purpose}{}", self.session.number))
    }

    /// The one message that was asked for, and nothing behind it.
    async fn reply(&mut self) -> Result<Vec<u8>, Stop> {
        let (tag, body) = self.talk.hear().await?;
        if tag != b'p' {
            let number = self.session.number;
            violate("S1", format!("session {number}: message {tag} for an authentication reply"));
            return Err(Stop::Own);
        }
        self.expect_quiet();
        Ok(body)
    }

    async fn scram(&mut self, secret: &str) -> Result<bool, Stop> {
        let salt: [u8; 16] = self.rng("scram salt").bytes();
        // Upstream has a channel that can be bound to if it has TLS.
        let bound = self.talk.codec.is_tls().then(|| wire::text("SCRAM-SHA-256-PLUS"));
        let offer = [bound.unwrap_or_default(), wire::text("SCRAM-SHA-256"), vec![0]].concat();
        self.talk.say(&wire::authentication(10, &offer)).await?;
        let initial = self.reply().await?;
        let Some(client_first) = initial_response(&initial) else {
            violate("S1", format!("session {}: bad SASLInitialResponse", self.session.number));
            return Err(Stop::Own);
        };
        let Some(bare) = client_first.strip_prefix("n,,").or(client_first.strip_prefix("y,,"))
        else {
            violate("S1", format!("session {}: bad SCRAM header", self.session.number));
            return Err(Stop::Own);
        };
        let nonce: [u8; 9] = self.rng("scram nonce").bytes();
        let nonce =
            format!("{}{}", scram::attribute(bare, 'r').unwrap_or_default(), scram::encode(&nonce));
        let server_first = format!("r={nonce},s={},i={ROUNDS}", scram::encode(&salt));
        self.talk.say(&wire::authentication(11, server_first.as_bytes())).await?;
        let client_final = String::from_utf8_lossy(&self.reply().await?).into_owned();
        let (without_proof, proof) = client_final.rsplit_once(",p=").unwrap_or_default();
        let auth_message = format!("{bare},{server_first},{without_proof}");
        let secrets = Secrets::new(secret, &salt, ROUNDS, auth_message);
        let repeats_nonce = scram::attribute(without_proof, 'r') == Some(nonce.as_str());
        if !repeats_nonce || scram::decode(proof) != Some(secrets.proof()) {
            return Ok(false);
        }
        let mut signature = secrets.server_signature();
        if self.session.script.fate == Fate::BadSignature {
            signature[0] ^= 1;
        }
        let server_final = format!("v={}", scram::encode(&signature));
        self.talk.say(&wire::authentication(12, server_final.as_bytes())).await?;
        Ok(true)
    }
}

/// The data in a SASLInitialResponse for SCRAM-SHA-256.
fn initial_response(body: &[u8]) -> Option<&str> {
    let rest = body.strip_prefix(b"SCRAM-SHA-256\0")?;
    let (length, data) = rest.split_first_chunk::<4>()?;
    let fits = u32::from_be_bytes(*length) as usize == data.len();
    fits.then(|| std::str::from_utf8(data).ok())?
}

/// Few, for speed.
const ROUNDS: u32 = 16;
