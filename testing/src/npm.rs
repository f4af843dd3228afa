//! The npm packages that tests run. Knows nothing about what is done with them.

use std::fs;
use std::path::PathBuf;

use super::{multigres, shortened};

/// The folder in which `scripts/schema-tools` has installed its packages: `SCHEMA_TOOLS`, or where
/// it puts it. Without them, or with other versions, the test's closing line says that it was
/// shortened.
///
/// # Panics
/// Without them, where `CI` says that nothing may be left out.
pub fn npm_packages() -> Option<PathBuf> {
    let named = std::env::var_os("SCHEMA_TOOLS").filter(|path| !path.is_empty());
    let folder = named.map_or_else(
        || multigres().ancestors().nth(2).expect("target/debug/multigres").join("schema-tools"),
        PathBuf::from,
    );
    let installed = fs::read_to_string(folder.join("installed")).unwrap_or_default();
    let wanted = include_str!("../../scripts/schema-tools");
    let (_, wanted) = wanted.split_once("PACKAGES=(").expect("a list");
    let (wanted, _) = wanted.split_once(')').expect("its end");
    if installed.split_whitespace().eq(wanted.split_whitespace()) {
        return Some(folder);
    }
    let why = "no Drizzle, TypeORM and Express on this machine, or other versions: \
               scripts/schema-tools installs them";
    assert!(std::env::var_os("CI").is_none(), "{why}");
    shortened(why);
    None
}
