//! Where a setting comes from, which source wins, and what is said of a bad one.

use std::path::{Path, PathBuf};
use std::process::Output;

use testing::{ACME, Daemon, Run, binding, bound, cluster, contacts, sqlstate};

/// A configuration file that lives as long as this value.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn with(text: &str) -> File {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("multigres.conf"), text).unwrap();
        File { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("multigres.conf")
    }
}

fn run_with(path: &Path) -> Run {
    Run::bare().argument("--config").argument(path.to_str().unwrap())
}

/// The output of `--check`, line by line.
fn complaints(output: &Output) -> Vec<String> {
    String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect()
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let port = cluster().port().to_string();
    let file = File::with(&format!(
        "# where\nport = 0\n\n   # loopback alone\nlisten_host = 127.0.0.1\n\
         \tupstream_port={port}  \ntenant_separator = /\n"
    ));
    let from_file = || run_with(&file.path());
    let from_environment = || from_file().environment("MULTIGRES_TENANT_SEPARATOR", "+");
    for (run, login) in [
        (from_file(), "app_user/acme"),
        (from_environment(), "app_user+acme"),
        (from_environment().set("tenant_separator", "%"), "app_user%acme"),
    ] {
        let daemon = run.start();
        assert_eq!(contacts(&mut daemon.connect(login)), ACME, "{login}");
        for other in ["app_user/acme", "app_user+acme", "app_user%acme"] {
            if other != login {
                let error = daemon.try_connect(other).err().expect(other);
                assert_eq!(sqlstate(&error), "28000", "{other} where {login} is right");
            }
        }
    }
}

#[test]
fn help_names_a_default_for_every_setting() {
    let output = Run::bare().argument("--help").output();
    let help = String::from_utf8(output.stdout).unwrap();
    for line in help.lines().filter(|line| line.contains("[MULTIGRES_")) {
        let default = line.rsplit('[').nth(1).unwrap();
        assert!(default.trim_end().len() > "]".len(), "{line}");
    }
    assert!(help.contains("[none] [MULTIGRES_SEAL_KEY_FILE]"), "{help}");
}

#[test]
fn every_setting_can_come_from_the_environment() {
    let daemon = Run::bare()
        .environment("MULTIGRES_PORT", "0")
        .environment("MULTIGRES_HOST", "localhost")
        .environment("MULTIGRES_UPSTREAM_HOST", cluster().socket_folder().to_str().unwrap())
        .environment("MULTIGRES_UPSTREAM_PORT", &cluster().port().to_string())
        .environment("MULTIGRES_TENANT_SEPARATOR", "+")
        .environment("MULTIGRES_CONTEXT_VARIABLES", "app.current_list_id, app.current_user_id")
        .environment("MULTIGRES_VALUE_SEPARATOR", "/")
        .environment("MULTIGRES_SUPERUSER_BYPASS", "other_superuser,clear_user")
        .environment("MULTIGRES_LOG_LEVEL", "trace")
        .environment("MULTIGRES_AUTH", "password")
        .environment("MULTIGRES_LOGIN_TIMEOUT", "1min")
        .environment("MULTIGRES_UPSTREAM_CONNECT_TIMEOUT", "5")
        .environment("MULTIGRES_IDLE_TIMEOUT", "1h")
        .environment("MULTIGRES_MAX_CONNECTIONS", "1")
        .environment("MULTIGRES_UPSTREAM_POOLER", "session")
        .environment("MULTIGRES_ALLOW_CLEARTEXT_PASSWORD", "on")
        .start();
    let mut client = daemon.connect("scram_user+list123/user456");
    let count: i64 = client.query_one("select count(*) from list_items", &[]).unwrap().get(0);
    assert_eq!(count, 1);
    let error = daemon.try_connect("scram_user+list123/user456").err().expect("one at most");
    assert_eq!(sqlstate(&error), "53300");
    drop(client);
    daemon.wait_until_idle();
    let user = Some("clear_user".to_owned());
    assert_eq!(bound(&mut daemon.connect("clear_user")), [None, user.clone(), user]);
    daemon.wait_until_idle();
    // The unix socket lets everybody in whom nobody asks.
    let error = daemon.try_connect("other_superuser").err().expect("nothing was proven");
    assert!(error.as_db_error().unwrap().message().contains("has to prove"), "{error:?}");
    daemon.wait_until_idle();
    let error = daemon.try_connect("postgres").err().expect("not in the list");
    assert_eq!(sqlstate(&error), "28000");
    assert!(daemon.log().iter().any(|line| line.contains("TRACE")));
}

#[test]
fn every_setting_can_come_from_the_file() {
    let file = File::with(&format!(
        "port = 0\nlisten_host = 127.0.0.1\nupstream_host = localhost\nupstream_port = {}\n\
         tenant_separator = +\ncontext_variables = app.current_tenant_id\nvalue_separator = /\n\
         superuser_bypass = postgres, other_superuser\nlog_level = debug\nauth = auto\n\
         login_timeout = 2000ms\nupstream_connect_timeout = 30s\nidle_timeout = 5min\n\
         max_connections = 10\nupstream_pooler = none\nallow_cleartext_password = off\n",
        cluster().port()
    ));
    let daemon = run_with(&file.path()).start();
    assert_eq!(bound(&mut daemon.connect("md5_user+acme")), binding("acme", "md5_user"));
    assert_eq!(contacts(&mut daemon.connect("other_superuser")).len(), 5);
    assert_eq!(daemon.raw().read_refusal().sqlstate, "57014");
}

#[test]
fn a_warning_is_printed_by_check_and_logged_at_the_start() {
    let misspelt = |run: Run| run.environment("MULTIGRES_UPSTREAM_HOTS", "db");
    let output = misspelt(Run::on(cluster())).argument("--check").output();
    assert_eq!(output.status.code(), Some(0));
    let said = complaints(&output);
    let warning = "environment MULTIGRES_UPSTREAM_HOTS: no setting has this name";
    assert!(said[0].starts_with(&format!("warning: {warning}")), "{said:?}");
    assert_eq!(said.len(), 1, "{said:?}");
    let daemon = misspelt(Run::on(cluster())).start();
    assert!(daemon.wait_for_log(warning).contains("[WARN]"));
}

#[test]
fn without_a_file_the_defaults_hold() {
    let output = Run::bare().argument("--check").output();
    assert_eq!(output.status.code(), Some(0), "{:?}", complaints(&output));
}

#[test]
fn check_finds_nothing_wrong_with_the_example() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("multigres.conf.example");
    let output = run_with(&example).argument("--check").output();
    assert_eq!(output.status.code(), Some(0), "{:?}", complaints(&output));
}

#[test]
fn check_reports_every_mistake_with_its_file_and_line() {
    let mistakes = [
        (2, "port = 70000"),
        (3, "upstream_port = many"),
        (4, "colour = blue"),
        (5, "log_level = loud"),
        (6, "auth = maybe"),
        (7, "login_timeout = 5 parsecs"),
        (8, "idle_timeout = -1"),
        (9, "max_connections = few"),
        (10, "upstream_pooler = transaction"),
        (11, "allow_cleartext_password = perhaps"),
        (12, "context_variables = current_tenant_id"),
        (13, "just some words"),
        (14, "tenant_separator ="),
    ];
    let mut text = "# a file with mistakes only\n".to_owned();
    for (_, line) in mistakes {
        text.push_str(line);
        text.push('\n');
    }
    let file = File::with(&text);
    let output = run_with(&file.path()).argument("--check").output();
    assert_eq!(output.status.code(), Some(2));
    let complaints = complaints(&output);
    for (number, line) in mistakes {
        let place = format!("{}:{number}: ", file.path().display());
        let about = complaints.iter().filter(|complaint| complaint.starts_with(&place)).count();
        assert_eq!(about, 1, "{place}{line}: {complaints:#?}");
    }
    let key = format!("{}:4: ", file.path().display());
    assert!(complaints.iter().any(|line| line.starts_with(&key) && line.contains("colour")));
}

#[test]
fn a_key_given_twice_is_a_mistake() {
    let file = File::with("port = 0\nport = 1\n");
    let output = run_with(&file.path()).argument("--check").output();
    assert_eq!(output.status.code(), Some(2));
    let place = format!("{}:2: ", file.path().display());
    let complaints = complaints(&output);
    assert!(complaints.iter().any(|line| line.starts_with(&place)), "{complaints:#?}");
}

#[test]
fn separators_that_overlap_are_a_mistake() {
    for (tenant, value) in [(":", ":"), ("::", ":"), ("/", "//")] {
        let text = format!("tenant_separator = {tenant}\nvalue_separator = {value}\n");
        let file = File::with(&text);
        let output = run_with(&file.path()).argument("--check").output();
        assert_eq!(output.status.code(), Some(2), "{tenant} {value}");
        let place = format!("{}:", file.path().display());
        let complaints = complaints(&output);
        assert!(complaints.iter().any(|line| line.starts_with(&place)), "{complaints:#?}");
    }
}

#[test]
fn a_context_variable_must_be_a_custom_parameter() {
    for name in
        ["tenant", "app.", ".tenant", "app.my tenant", "app.ten-ant", "1app.x", "a.b, a.b", "a.b,,"]
    {
        let output = Run::bare().set("context_variables", name).argument("--check").output();
        assert_eq!(output.status.code(), Some(2), "{name}");
        let complaints = complaints(&output);
        let named = complaints.iter().any(|line| line.starts_with("--context-variables: "));
        assert!(named, "{name}: {complaints:#?}");
    }
    let output = Run::bare().set("context_variables", "a_b.c_1.d$").argument("--check").output();
    assert_eq!(output.status.code(), Some(0), "{:?}", complaints(&output));
}

#[test]
fn mistakes_in_the_environment_and_in_flags_name_their_place() {
    let file = File::with("port = nonsense\n");
    let output = run_with(&file.path())
        .environment("MULTIGRES_MAX_CONNECTIONS", "0x10")
        .environment("MULTIGRES_HOST", "")
        .set("upstream_port", "-1")
        .argument("--check")
        .output();
    assert_eq!(output.status.code(), Some(2));
    let complaints = complaints(&output);
    let file = format!("{}:1: ", file.path().display());
    for place in [
        file.as_str(),
        "environment MULTIGRES_MAX_CONNECTIONS: ",
        "environment MULTIGRES_HOST: ",
        "--upstream-port: ",
    ] {
        let about = complaints.iter().filter(|line| line.starts_with(place)).count();
        assert_eq!(about, 1, "{place}: {complaints:#?}");
    }
}

#[test]
fn a_mistake_keeps_the_daemon_from_starting() {
    let output = Run::on(cluster()).set("max_connections", "lots").output();
    assert_eq!(output.status.code(), Some(2));
    let complaints = complaints(&output);
    assert!(complaints.iter().any(|line| line.starts_with("--max-connections: ")));
    assert!(complaints.iter().all(|line| !line.contains("listening on")));
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent.conf");
    let output = run_with(&path).argument("--check").output();
    assert_eq!(output.status.code(), Some(2));
    let complaints = complaints(&output);
    assert!(complaints.iter().any(|line| line.contains("absent.conf")), "{complaints:#?}");
}

#[test]
fn check_does_not_listen() {
    let daemon = Daemon::start();
    let port = daemon.port().to_string();
    let output = Run::on(cluster()).set("port", &port).argument("--check").output();
    assert_eq!(output.status.code(), Some(0), "{:?}", complaints(&output));
    assert_eq!(bound(&mut daemon.connect("app_user.acme")), binding("acme", "app_user"));
}
