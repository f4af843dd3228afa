//! Seals as Multigres makes them, written once more from their description: a test that takes the
//! daemon's own would not notice when the daemon and `sql/setup.sql` disagree.

use std::net::SocketAddr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes 0 to 31.
pub const SEAL_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

pub const TENANT_VARIABLE: &str = "app.current_tenant_id";

/// The startup option that binds a variable, and its seal, as the session's defaults.
pub fn sealed_options(variable: &str, value: &str, seal: &str) -> String {
    format!("-c {variable}={value} -c {variable}_seal={seal}")
}

/// What a seal is made over, beside its version.
#[derive(Clone, Copy)]
pub struct SealedLogin<'a> {
    pub key: &'a str,
    pub variable: &'a str,
    pub value: &'a str,
    pub database: &'a str,
    pub role: &'a str,
    /// None where seal_bind is `none`.
    pub address: Option<SocketAddr>,
}

impl<'a> SealedLogin<'a> {
    pub fn new(database: &'a str, value: &'a str) -> SealedLogin<'a> {
        SealedLogin {
            key: SEAL_KEY,
            variable: TENANT_VARIABLE,
            value,
            database,
            role: "app_user",
            address: None,
        }
    }

    /// The 64 hexadecimal digits that Multigres would send.
    pub fn seal(&self) -> String {
        let bind = if self.address.is_some() { "address" } else { "none" };
        let fields =
            ["multigres-seal-2", bind, self.variable, self.value, self.database, self.role];
        self.hmac(fields.map(|field| format!("{field}\x01")).concat())
    }

    /// The same, from the release before.
    pub fn seal_1(&self) -> String {
        let fields = [self.variable, self.value, self.database, self.role];
        let fields = fields.map(|field| format!("{}:{field}", field.len()));
        self.hmac(format!("multigres-seal-1 {}", fields.concat()))
    }

    fn hmac(&self, message: String) -> String {
        let key: Vec<u8> = (0..self.key.len() / 2)
            .map(|byte| u8::from_str_radix(&self.key[2 * byte..2 * byte + 2], 16).unwrap())
            .collect();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(message.as_bytes());
        match self.address {
            None => {}
            Some(SocketAddr::V4(address)) => {
                mac.update(&[&[2, 32, 0, 4][..], &address.ip().octets()].concat());
                mac.update(&i32::from(address.port()).to_be_bytes());
            }
            Some(SocketAddr::V6(address)) => {
                mac.update(&[&[3, 128, 0, 16][..], &address.ip().octets()].concat());
                mac.update(&i32::from(address.port()).to_be_bytes());
            }
        }
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
