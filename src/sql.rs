//! The SQL of the database side, which the daemon carries: `multigres sql setup` prints it.
//! Knows nothing of what is in it.

/// `sql/setup.sql` as one text, under a line with its release. Each file that it includes stands in
/// the place of its `\ir`, so that an SQL editor or a driver takes it as well as psql.
pub fn setup() -> String {
    let lines = SETUP.lines().map(|line| match line.strip_prefix(r"\ir ") {
        Some(name) => included(name).to_owned(),
        None => format!("{line}\n"),
    });
    RELEASE.to_owned() + &lines.collect::<String>()
}

fn included(name: &str) -> &'static str {
    let file = INCLUDED.iter().find(|(file, _)| *file == name);
    file.map(|(_, text)| *text).unwrap_or_else(|| panic!("setup.sql includes {name}"))
}

/// `sql/teardown.sql`, under a line with its release.
pub const TEARDOWN: &str =
    concat!("-- Multigres ", env!("CARGO_PKG_VERSION"), "\n", include_str!("../sql/teardown.sql"));

const RELEASE: &str = concat!("-- Multigres ", env!("CARGO_PKG_VERSION"), "\n");

const SETUP: &str = include_str!("../sql/setup.sql");

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../sql/", $name)))),*]
    };
}

const INCLUDED: &[(&str, &str)] = &files![
    "origin.sql",
    "unguard.sql",
    "schema.sql",
    "seal_keys.sql",
    "context.sql",
    "seal.sql",
    "role.sql",
    "policy.sql",
    "protect.sql",
    "unprotect.sql",
    "maintain.sql",
    "status.sql",
    "guard.sql",
    "upgrade.sql",
    "alter.sql",
    "check/lints.sql",
    "check/privileges.sql",
    "check/settings.sql",
    "check/role.sql",
    "check/tables.sql",
    "check/policies.sql",
    "check/key_columns.sql",
    "check/constraints.sql",
    "check/indexes.sql",
    "check/views.sql",
    "check/triggers.sql",
    "check/connections.sql",
    "check/installation.sql",
    "check/owners.sql",
    "check/functions.sql",
    "check/expressions.sql",
    "check/system_privileges.sql",
    "check.sql",
    "harden.sql",
    "adopt.sql",
    "release.sql",
];

#[cfg(test)]
mod tests {
    use super::{INCLUDED, RELEASE, SETUP, TEARDOWN, setup};

    #[test]
    fn setup_is_every_included_file_once_in_its_order() {
        let names: Vec<_> = SETUP.lines().filter_map(|line| line.strip_prefix(r"\ir ")).collect();
        let carried: Vec<_> = INCLUDED.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, carried);
        let whole = setup();
        assert!(INCLUDED.iter().all(|(_, text)| whole.matches(text).count() == 1));
        assert!(!whole.contains(r"\ir "), "no psql command is left");
    }

    #[test]
    fn the_sql_says_its_release() {
        let setup = setup();
        assert!(setup.starts_with(RELEASE) && TEARDOWN.starts_with(RELEASE));
        let (_, function) = setup.split_once("public.multigres_release()").expect("its function");
        let says = format!("select '{}'", env!("CARGO_PKG_VERSION"));
        assert!(function.contains(&says), "sql/release.sql says another release than Cargo.toml");
    }
}
