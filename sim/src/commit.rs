//! Which commit this is a build of, and the seeds that are its own.
//! Knows nothing of what is done with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Of the checkout, which `cargo run` builds; for people.
pub fn described() -> String {
    git(&["describe", "--always", "--dirty"]).unwrap_or_else(|| "unknown".into())
}

/// A name that moves with the commit: its hash, or without git that of the sources.
///
/// # Errors
/// When there is no checkout either.
pub fn name() -> Result<String, String> {
    match git(&["rev-parse", "HEAD"]) {
        Some(hash) => Ok(hash),
        None => sources(checkout()),
    }
}

/// Where the seeds of a commit begin, by its name. Far from those that every commit runs, and so
/// far from each other that they hardly overlap.
pub fn first_seed(name: &str) -> u64 {
    FARTHEST + fnv(FNV_BASIS, name.trim().as_bytes()) % (FARTHEST * 9)
}

fn git(arguments: &[&str]) -> Option<String> {
    let told = Command::new("git").arg("-C").arg(checkout()).args(arguments).output().ok()?;
    told.status.success().then(|| String::from_utf8_lossy(&told.stdout).trim().into())
}

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of the workspace")
}

/// The hash of all that a run depends on, in this checkout.
///
/// # Errors
/// When a file of it cannot be read.
pub fn sources(checkout: &Path) -> Result<String, String> {
    let mut files = vec![PathBuf::from("Cargo.lock")];
    for folder in ["src", "sim/src"] {
        list(checkout, Path::new(folder), &mut files)?;
    }
    files.sort();
    let mut hash = FNV_BASIS;
    for file in files {
        let bytes = fs::read(checkout.join(&file)).map_err(|error| told(&file, &error))?;
        hash = fnv(fnv(hash, file.to_string_lossy().as_bytes()), &bytes);
    }
    Ok(format!("sources-{hash:016x}"))
}

fn list(checkout: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = fs::read_dir(checkout.join(folder)).map_err(|error| told(folder, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| told(folder, &error))?;
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            list(checkout, &path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn told(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// FNV-1a: the same everywhere and for ever.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
/// Twelve digits can still be typed.
const FARTHEST: u64 = 100_000_000_000;
