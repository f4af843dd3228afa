//! The packages from npm that tests run: where they are, and whether they are the right ones.
//! Knows nothing of what a test does with them.

use std::fs;
use std::path::PathBuf;

use crate::{multigres, shortened};

/// What `scripts/schema-tools` has installed: `SCHEMA_TOOLS`, or where it puts it.
///
/// # Panics
/// Without it, where `CI` says that nothing may be left out.
pub fn schema_tools() -> Option<PathBuf> {
    let named = std::env::var_os("SCHEMA_TOOLS").filter(|path| !path.is_empty());
    let folder = named.map(PathBuf::from).or_else(|| {
        let daemon = multigres();
        Some(daemon.parent()?.parent()?.join("schema-tools"))
    });
    let found = folder.filter(|folder| {
        let installed = fs::read_to_string(folder.join("installed")).unwrap_or_default();
        !installed.is_empty() && installed.split_whitespace().eq(packages())
    });
    if found.is_none() {
        let why = "no Drizzle, TypeORM and Express on this machine, or of other versions: \
                   scripts/schema-tools installs them";
        assert!(std::env::var_os("CI").is_none(), "{why}");
        shortened(why);
    }
    found
}

/// The packages that `scripts/schema-tools` installs.
fn packages() -> impl Iterator<Item = &'static str> {
    let script = include_str!("../../scripts/schema-tools");
    let (_, list) = script.split_once("PACKAGES=(").expect("its list");
    list.split_once(')').expect("the end of the list").0.split_whitespace()
}
