//! The file that holds the key of the seals, and fresh keys for it.
//! Knows nothing of what is sealed with them.

use zeroize::Zeroizing;

use super::named_file::{self, Secrecy};
use crate::tenant::{SEAL_KEY_BYTES, SealKey, hex};

/// The key in the file: 64 hex digits, with or without a newline.
pub(super) fn read(path: &str) -> Result<SealKey, String> {
    let mistake = |what: String| format!("\"{path}\": {what}");
    let text = named_file::read(path, Secrecy::Secret, FILE_BYTES_MAX).map_err(mistake)?;
    let line = text.strip_suffix(b"\n").unwrap_or(&text);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    SealKey::from_hex(line).map_err(|error| mistake(error.to_string()))
}

/// A fresh key, as the file holds it.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn fresh_seal_key() -> Result<Zeroizing<String>, String> {
    let mut key = Zeroizing::new([0; SEAL_KEY_BYTES]);
    getrandom::fill(&mut key[..]).map_err(|error| error.to_string())?;
    Ok(Zeroizing::new(hex(&key[..])))
}

/// Longer than any key with its newline, so that a longer text shows.
const FILE_BYTES_MAX: usize = 1024;
