//! The packages from npm and PyPI that tests run: where they are, and whether they are the right
//! ones. Knows nothing of what a test does with them.

use std::fs;
use std::path::PathBuf;

use crate::{multigres, shortened};

/// What `scripts/schema-tools` has installed: `SCHEMA_TOOLS`, or where it puts it.
///
/// # Panics
/// Without it, where `CI` says that nothing may be left out.
pub fn schema_tools() -> Option<PathBuf> {
    let script = include_str!("../../scripts/schema-tools");
    installed("schema-tools", script, "SCHEMA_TOOLS", "no Drizzle, TypeORM and Express")
}

/// The same of `scripts/python-orms`: `PYTHON_ORMS`.
///
/// # Panics
/// Without it, where `CI` says that nothing may be left out.
pub fn python_orms() -> Option<PathBuf> {
    let script = include_str!("../../scripts/python-orms");
    installed("python-orms", script, "PYTHON_ORMS", "no SQLAlchemy, Alembic and Django")
}

/// A folder in which a script has installed the packages that it lists.
fn installed(name: &str, script: &str, variable: &str, without: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).filter(|path| !path.is_empty());
    let folder = named.map(PathBuf::from).or_else(|| {
        let daemon = multigres();
        Some(daemon.parent()?.parent()?.join(name))
    });
    let found = folder.filter(|folder| {
        let installed = fs::read_to_string(folder.join("installed")).unwrap_or_default();
        installed.split_whitespace().eq(packages(script))
    });
    if found.is_none() {
        let why = format!(
            "{without} on this machine, or of other versions: scripts/{name} installs them"
        );
        assert!(std::env::var_os("CI").is_none(), "{why}");
        shortened(&why);
    }
    found
}

/// The packages that a script installs.
fn packages(script: &str) -> impl Iterator<Item = &str> {
    let (_, list) = script.split_once("PACKAGES=(").expect("its list");
    list.split_once(')').expect("the end of the list").0.split_whitespace()
}
