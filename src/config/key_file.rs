//! The file that holds the key of the seals, and fresh keys for it.
//! Knows nothing of what is sealed with them.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use zeroize::Zeroizing;

use crate::tenant::{SEAL_KEY_BYTES, SealKey, hex};

/// The key in the file: 64 hex digits, and a newline if it has one.
pub(super) fn read(path: &str) -> Result<SealKey, String> {
    let mistake = |what: String| format!("\"{path}\": {what}");
    // What is no file might be waited for without end.
    let found = fs::metadata(path).map_err(|error| mistake(error.to_string()))?;
    if !found.is_file() {
        return Err(mistake("it is no file".into()));
    }
    let file = File::open(path).map_err(|error| mistake(error.to_string()))?;
    let found = file.metadata().map_err(|error| mistake(error.to_string()))?;
    check_mode(found.mode(), found.uid()).map_err(mistake)?;
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * FILE_BYTES_MAX));
    let read = file.take(FILE_BYTES_MAX as u64).read_to_end(&mut text);
    read.map_err(|error| mistake(error.to_string()))?;
    let line = text.strip_suffix(b"\n").unwrap_or(&text);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    SealKey::from_hex(line).map_err(|error| mistake(error.to_string()))
}

/// As PostgreSQL has it with its own key (`be-secure-common.c`): for the owner alone; one of
/// root's may be read by a group.
fn check_mode(mode: u32, owner: u32) -> Result<(), String> {
    let too_much = if owner == 0 { 0o037 } else { 0o077 };
    if mode & too_much == 0 {
        return Ok(());
    }
    let mode = mode & 0o777;
    Err(format!("its mode is {mode:03o}, which lets others have the key (chmod 600 mends it)"))
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
