//! Files that settings name: read once, whole, and up to a limit.
//! Knows nothing of what is in them.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use zeroize::Zeroizing;

/// Who may have access to a file besides its owner.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// Anybody.
    Public,
    /// Nobody.
    Secret,
}

/// The first `bytes_max` bytes of a file.
pub(super) fn read(
    path: &str,
    secrecy: Secrecy,
    bytes_max: usize,
) -> Result<Zeroizing<Vec<u8>>, String> {
    // Reading a pipe or a device might never end.
    let found = fs::metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("it is not a file".into());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if secrecy == Secrecy::Secret {
        check_mode(found.mode(), found.uid())?;
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * bytes_max));
    let read = file.take(bytes_max as u64).read_to_end(&mut text);
    read.map_err(|error| error.to_string())?;
    Ok(text)
}

/// PostgreSQL's rule for its own key (`be-secure-common.c`): for the owner alone, except that a
/// file of root's may be readable for its group.
fn check_mode(mode: u32, owner: u32) -> Result<(), String> {
    let too_much = if owner == 0 { 0o037 } else { 0o077 };
    if mode & too_much == 0 {
        return Ok(());
    }
    let mode = mode & 0o777;
    Err(format!("its mode is {mode:03o}, which lets others have the key (chmod 600 fixes it)"))
}
