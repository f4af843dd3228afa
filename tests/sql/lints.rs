//! The names of the lints: docs/lints.md, the list in the database, the linter and its tests have
//! the same ones. Knows nothing of what a lint is about.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use testing::{PASSWORD, SETUP, cluster, set_up_database, shortened};

const PAGE: &str = include_str!("../../docs/lints.md");

/// The names and their severities, as this database lists them.
fn listed(database: &str) -> BTreeMap<String, String> {
    let mut owner = cluster().superuser(&set_up_database(database));
    let rows = owner.query("select lint, severity from multigres.lints()", &[]).unwrap();
    let lints: BTreeMap<_, _> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(lints.len(), rows.len(), "a lint is listed once");
    lints
}

#[test]
fn each_lint_has_a_section_with_its_severity_and_its_parts() {
    let mut sections = BTreeMap::new();
    for section in PAGE.split("\n### ").skip(1) {
        let (name, text) = section.split_once("\n\n**").expect(section);
        let text = text.split("\n## ").next().unwrap();
        let (severity, text) = text.split_once("** ").expect(name);
        assert!(text.contains("\n```sql\n"), "{name} has an example");
        assert!(text.contains("\nFix: "), "{name} has a fix");
        let words: Vec<_> = text.split_whitespace().collect();
        let ignore = words.windows(2).any(|pair| pair[0].eq_ignore_ascii_case("ignore"));
        assert!(ignore, "{name} says when to ignore it");
        assert_eq!(sections.insert(name.to_owned(), severity.to_owned()), None, "{name} twice");
    }
    assert_eq!(sections, listed("lints_page"));
}

#[test]
fn each_lint_is_in_the_linter_and_in_a_test_that_finds_it() {
    let tests: String = [Path::new("tests/sql"), Path::new("tests/e2e")]
        .into_iter()
        .flat_map(|folder| folder.read_dir().unwrap())
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for lint in listed("lints_linter").keys() {
        let in_linter = SETUP.matches(&format!("'{lint}'")).count() > 1;
        assert!(in_linter, "{lint} is in the list, and no check answers it");
        let found = [format!("\"{lint} |"), format!("\"{lint}\"")];
        assert!(found.iter().any(|text| tests.contains(text)), "no test finds {lint}");
    }
}

#[test]
fn the_script_of_the_page_fails_if_there_is_a_finding() {
    let database = set_up_database("lints_script");
    let script = PAGE.split("```sh\n").nth(1).and_then(|text| text.split("```").next()).unwrap();
    let run = || {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).env("PGHOST", "127.0.0.1").env("PGUSER", "postgres");
        shell.env("PGPORT", cluster().port().to_string()).env("PGPASSWORD", PASSWORD);
        let output = shell.env("PGDATABASE", &database).output().expect("sh starts");
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = run();
    if code == Some(127) {
        shortened("no psql on this machine");
        return;
    }
    assert_eq!(code, Some(0), "{text}");
    let open = "create table notes (tenant_id text); grant select on notes to app_user";
    cluster().superuser(&database).batch_execute(open).unwrap();
    let (code, text) = run();
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("table_not_protected"), "{text}");
}
