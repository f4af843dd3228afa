//! Clients upon libpq, as applications have them: psql and psycopg.
//! Knows nothing of what they are asked to do.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{PASSWORD, multigres, shortened};

/// What a login and a query came to: the row with blanks between its columns, or the error.
pub type Answer = Result<String, String>;

/// Logs in by psql and runs the query; `None` when this machine has no psql.
pub fn psql(conninfo: &str, query: &str) -> Option<Answer> {
    let run = Command::new(psql_path()?)
        .args(["-X", "-w", "-A", "-t", "-F", " ", "-c", query, conninfo])
        .env("PGPASSWORD", PASSWORD)
        .env("PGCONNECT_TIMEOUT", "20")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .expect("psql starts");
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let ended_well = run.status.success();
    Some(if ended_well { Ok(text(&run.stdout)) } else { Err(text(&run.stderr)) })
}

/// That of the server under test, or the one on `PATH`.
fn psql_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::var_os("PG_BINDIR").map(PathBuf::from);
    let folders = folders.into_iter().chain(std::env::split_paths(&path));
    let found = folders.map(|folder| folder.join("psql")).find(|path| path.is_file());
    if found.is_none() {
        shortened("no psql on this machine");
    }
    found
}

/// Logs in by psycopg with each of these and runs the query; `None` where `PSYCOPG_PYTHON` is
/// `none`.
///
/// # Panics
/// When this machine has no psycopg, and nobody has said that it need not have one.
pub fn psycopg(conninfos: &[String], query: &str) -> Option<Vec<Answer>> {
    let python = python();
    if python.as_os_str() == "none" {
        shortened("no psycopg: PSYCOPG_PYTHON=none");
        return None;
    }
    let mut child = Command::new(python)
        .args(["-c", include_str!("psycopg.py"), query])
        .env("PGPASSWORD", PASSWORD)
        .env("PGCONNECT_TIMEOUT", "20")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(conninfos.join("\n").as_bytes()).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "psycopg.py ended with {}", output.status);
    let output = String::from_utf8(output.stdout).expect("text");
    let answers: Vec<Answer> = output
        .lines()
        .map(|line| match line.split_once(' ').expect("two words") {
            ("ok", row) => Ok(row.to_owned()),
            (_, error) => Err(error.to_owned()),
        })
        .collect();
    assert_eq!(answers.len(), conninfos.len());
    Some(answers)
}

/// `PSYCOPG_PYTHON`, else what `scripts/psycopg` has made before.
fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("PSYCOPG_PYTHON").filter(|path| !path.is_empty()) {
        return python.into();
    }
    let multigres = multigres();
    let target = multigres.ancestors().nth(2).expect("target/debug/multigres");
    let python = target.join("psycopg/bin/python");
    assert!(
        python.is_file(),
        "no psycopg with libpq 17 here: scripts/psycopg installs it, and PSYCOPG_PYTHON=none does \
         without"
    );
    python
}
