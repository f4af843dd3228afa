//! A panic is told in the log, behind what was logged before it. Runs itself as a child, since the
//! daemon has no panic to show.

use std::process::{Command, Stdio};

use multigres::logging::Logging;

const CHILD: &str = "PANICS";

fn main() {
    if std::env::var_os(CHILD).is_some() {
        let _logging = Logging::start(log::LevelFilter::Info).unwrap();
        log::info!("before it");
        panic!("on purpose");
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    let child = command.env(CHILD, "1").env_remove("RUST_BACKTRACE").stderr(Stdio::piped());
    let output = child.output().unwrap();
    assert_eq!(output.status.code(), Some(101));
    let lines = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].ends_with("[INFO] before it"), "{lines:#?}");
    assert!(lines[1].starts_with("thread \"main\" panicked at tests/panic.rs:"), "{lines:#?}");
    assert_eq!(lines[2], "on purpose");
    println!("a panic is told behind what was logged before it ... ok");
}
