//! The secret that a server stores in the place of a password, in PostgreSQL's form.
//! Knows nothing of where it is stored, nor of the exchange.

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Key, decode, encode, hmac, key, positive_number, salted};
use crate::auth::saslprep;

/// A password in the form that a server stores: enough to verify a client, too little to log in.
#[derive(Clone)]
pub struct Secret {
    /// At least 1.
    pub(super) iterations: u32,
    /// Not empty.
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
}

impl Secret {
    /// Parses `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, which is what PostgreSQL
    /// keeps in `pg_authid.rolpassword` (its manual, "pg_authid").
    ///
    /// # Errors
    /// What is wrong with it. The message holds nothing of the secret.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let Some(rest) = text.strip_prefix(SCHEME) else {
            let is_md5 = text.len() == 35 && text.starts_with("md5");
            return Err(if is_md5 {
                "it is an MD5 hash: set the password again with password_encryption = scram-sha-256"
            } else {
                "it does not begin with SCRAM-SHA-256$"
            });
        };
        let (rounds, keys) = rest.split_once('$').ok_or("it has no second $")?;
        let (iterations, salt) = rounds.split_once(':').ok_or("it has no salt")?;
        let (stored, server) = keys.split_once(':').ok_or("it has no ServerKey")?;
        let iterations = positive_number(iterations)
            .filter(|number| *number <= ITERATIONS_MAX)
            .ok_or("its iterations are not a number from 1 to 2147483647")?;
        let salt = decode(salt).ok_or("its salt is not base64")?;
        if !(1..=SALT_BYTES_MAX).contains(&salt.len()) {
            return Err("its salt is empty or longer than 256 bytes");
        }
        let stored_key = key(stored).ok_or("its StoredKey is not 32 bytes in base64")?;
        let server_key = key(server).ok_or("its ServerKey is not 32 bytes in base64")?;
        Ok(Secret { iterations, salt, stored_key, server_key })
    }

    /// The secret of a password. Hashes as often as `iterations` says, so it has no place in a
    /// login.
    ///
    /// # Panics
    /// Without salt or iterations.
    pub fn of_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        assert!(!salt.is_empty() && iterations > 0, "a secret has a salt and iterations");
        let password = Zeroizing::new(saslprep::prepare(password).into_owned());
        let salted = salted(&password, salt, iterations);
        let client_key = Zeroizing::new(hmac(&*salted, b"Client Key"));
        Secret {
            iterations,
            salt: salt.to_vec(),
            stored_key: Zeroizing::new(Sha256::digest(*client_key).into()),
            server_key: Zeroizing::new(hmac(&*salted, b"Server Key")),
        }
    }

    /// A secret for a login that does not exist: the exchange looks as if the login existed and the
    /// password were wrong. No password fits it, as nobody can find the ClientKey to its StoredKey.
    /// The same login has the same salt each time.
    ///
    /// `key` must be secret and stay the same, or a restart would tell such logins from real ones.
    /// `iterations` must be those of real secrets, for the same reason.
    ///
    /// # Panics
    /// Without iterations.
    pub fn mock(key: &[u8], login: &[u8], iterations: u32) -> Self {
        assert!(iterations > 0, "a secret has iterations");
        let salt = hmac(key, &[b"salt ", login].concat());
        Secret {
            iterations,
            salt: salt[..SALT_BYTES].to_vec(),
            stored_key: Zeroizing::new(hmac(key, &[b"stored ", login].concat())),
            server_key: Zeroizing::new(hmac(key, &[b"server ", login].concat())),
        }
    }

    /// PostgreSQL's form of it.
    pub fn to_text(&self) -> Zeroizing<String> {
        let [stored, server] =
            [&self.stored_key, &self.server_key].map(|key| Zeroizing::new(encode(&key[..])));
        Zeroizing::new(format!(
            "{SCHEME}{}:{}${}:{}",
            self.iterations,
            encode(&self.salt),
            *stored,
            *server
        ))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

const SCHEME: &str = "SCRAM-SHA-256$";

/// PostgreSQL's `scram_iterations` goes up to this.
const ITERATIONS_MAX: u32 = i32::MAX as u32;

/// PostgreSQL's salts have 16 bytes.
const SALT_BYTES: usize = 16;

const SALT_BYTES_MAX: usize = 256;
