//! The key of the seals: how it gets into its file, which files are taken, that nothing shows it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

use multigres::config::{Config, Sources};
use multigres::tenant::{Seal, SealBind, SealDemand, SealKey};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A file of this text and mode, in a folder that is gone with the first value.
fn key_file(text: &str, mode: u32) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seal.key");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

fn load(text: &str) -> Result<Config, Vec<String>> {
    let file = Some(("m.conf".to_owned(), Ok(text.to_owned())));
    let loaded = Config::load(&Sources { file, ..Sources::default() });
    loaded.map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

fn seal(text: &str) -> Option<Seal> {
    load(text).unwrap().proxy.session.policy.seal.clone()
}

fn multigres(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_multigres"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MULTIGRES_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).output().unwrap()
}

#[test]
fn a_key_is_64_hex_digits_with_or_without_a_newline() {
    let key = SealKey::from_hex(KEY.as_bytes()).unwrap();
    let texts = [KEY.to_owned(), format!("{KEY}\n"), format!("{KEY}\r\n"), KEY.to_uppercase()];
    for text in texts {
        let (_folder, path) = key_file(&text, 0o600);
        let found = seal(&format!("seal_key_file = {path}\n"));
        let (key, demand) = (key.clone(), SealDemand::Prefer);
        assert_eq!(found, Some(Seal { key, bind: SealBind::Address, demand }), "{text:?}");
    }
    let (_folder, path) = key_file(KEY, 0o400);
    let found = seal(&format!("seal_key_file = {path}\nseal_bind = none\nseal = require"));
    assert_eq!(found, Some(Seal { key, bind: SealBind::None, demand: SealDemand::Require }));
}

#[test]
fn any_other_text_is_told_with_its_place_and_without_the_text() {
    let short = &KEY[1..];
    let bad = [
        ("", "it holds 0 characters"),
        (short, "it holds 63 characters"),
        (&format!("{KEY}0"), "it holds 65 characters"),
        (&format!("{KEY}\n\n"), "it holds 65 characters"),
        (&format!(" {short}"), "character 1 of it is not a hex digit"),
        (&format!("{short}g"), "character 64 of it is not a hex digit"),
        (&format!("{}\u{e9}", &KEY[2..]), "character 63 of it is not a hex digit"),
        (&"0".repeat(100_000), "it holds 1024 characters"),
    ];
    for (text, message) in bad {
        let (_folder, path) = key_file(text, 0o600);
        let told = load(&format!("\nseal_key_file = {path}\nseal_bind = address")).unwrap_err();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("m.conf:2: seal_key_file: \"{path}\": {message}")));
        assert!(!told[0].contains("0001020304"), "{told:?}");
    }
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    for mode in [0o644, 0o604, 0o602, 0o601, 0o620, 0o660, 0o777] {
        let (_folder, path) = key_file(KEY, mode);
        let told = load(&format!("seal_key_file = {path}")).unwrap_err();
        assert_eq!(told.len(), 1);
        assert!(told[0].contains(&format!("its mode is {mode:03o}")), "{told:?}");
    }
}

/// As with PostgreSQL's key: root gives it to the daemon's group.
#[test]
fn a_group_may_read_what_belongs_to_root_alone() {
    let (_folder, path) = key_file(KEY, 0o640);
    let is_taken = |path: &str| load(&format!("seal_key_file = {path}")).is_ok();
    let am_root = fs::metadata(&path).unwrap().uid() == 0;
    assert_eq!(is_taken(&path), am_root);
    if am_root {
        chown(&path, Some(65534), None).unwrap();
        assert!(!is_taken(&path));
    }
}

#[test]
fn settings_that_cannot_seal_are_told_what_to_do() {
    let (_folder, path) = key_file(KEY, 0o600);
    let stories = [
        ("upstream_host = /run/postgresql", "m.conf:2: a seal cannot be bound"),
        ("upstream_pooler = session", "m.conf:2: a seal cannot be bound"),
    ];
    for (line, start) in stories {
        let told = load(&format!("seal_key_file = {path}\n{line}")).unwrap_err();
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with(start) && told[0].ends_with("set seal_bind = none"));
        let text = format!("seal_key_file = {path}\n{line}\nseal_bind = none");
        assert!(seal(&text).is_some());
        assert!(load(line).is_ok(), "without a key there is nothing to say");
    }
    let told = load("seal_bind = none").unwrap_err();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("m.conf:1: seal_bind is set and seal_key_file is not"));
    assert_eq!(seal("seal_bind = none\nseal_key_file ="), None, "sealing is turned off");
    let told = load("seal = require").unwrap_err();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("m.conf:1: seal = require and no seal_key_file"));
    let told = load("seal_key_file = /nowhere\nseal = require").unwrap_err();
    assert_eq!(told.len(), 1, "the file is the mistake");
    assert_eq!(seal("seal = prefer"), None);
    let variables = "context_variables = app.a,App.A_Seal";
    let told = load(&format!("seal_key_file = {path}\n{variables}")).unwrap_err();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("m.conf:2: context_variables: \"App.A_Seal\""));
    assert!(load(variables).is_ok());
}

#[test]
fn a_fresh_key_is_printed_and_is_another_each_time() {
    let mut keys = Vec::new();
    for _ in 0..2 {
        let output = multigres(&["seal-key"]);
        assert!(output.status.success());
        assert_eq!(output.stderr, b"");
        let line = String::from_utf8(output.stdout).unwrap();
        assert!(line.len() == 65 && line.ends_with('\n'));
        assert!(line.trim_end().bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
        let (_folder, path) = key_file(&line, 0o600);
        assert!(multigres(&["--check", "--seal-key-file", &path]).status.success());
        keys.push(line);
    }
    assert_ne!(keys[0], keys[1]);
    assert_eq!(multigres(&["seal-key", "more"]).status.code(), Some(2));
    assert_eq!(multigres(&["--check", "seal-key"]).status.code(), Some(2));
}

#[test]
fn a_key_that_cannot_be_written_is_an_error() {
    if Path::new("/dev/full").exists() {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_multigres"));
        let output = command.arg("seal-key").stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn debug_output_shows_no_key() {
    let (_folder, path) = key_file(KEY, 0o600);
    let shown = format!("{:?}", load(&format!("seal_key_file = {path}")).unwrap());
    assert!(shown.contains("SealKey(..)"));
    for part in ["00010203", "0, 1, 2, 3"] {
        assert!(!shown.contains(part));
    }
}
