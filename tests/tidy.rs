//! Holds the rules that no compiler knows: who may import whom, what a pure layer may not name,
//! how long a file may be.

use std::fs;
use std::path::{Path, PathBuf};

/// Each layer of `src/` with the layers it may name; `docs/architecture.md` draws it.
const LAYERS: [(&str, &[&str]); 14] = [
    ("protocol", &[]),
    ("refusal", &["protocol"]),
    ("tenant", &["protocol", "refusal"]),
    ("auth", &[]),
    ("session", &["auth", "protocol", "refusal", "tenant"]),
    ("net", &[]),
    ("tls", &[]),
    ("relay", &["net", "session", "tls"]),
    ("proxy", &["net", "refusal", "relay", "session", "tenant", "tls"]),
    ("server", &["net", "proxy"]),
    ("config", &["net", "proxy", "session", "tenant", "tls"]),
    ("logging", &[]),
    ("sql", &[]),
    (PROBE, &[]),
];

/// What all layers may name: nothing is left of it in a daemon.
const PROBE: &str = "probe";

/// Layers that must run the same in a simulator: bytes, values and time come in as arguments.
const PURE: [&str; 8] =
    ["protocol", "refusal", "tenant", "session", "tls", "net", "relay", "proxy"];

const IMPURE: [&str; 19] = [
    "Instant::now",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UnixStream",
    "UnixListener",
    "UdpSocket",
    "ToSocketAddrs",
    "socket2",
    "std::env",
    "std::fs",
    "std::process",
    "std::thread",
    "thread_local!",
    "rand::",
    "getrandom",
    "HashMap",
    "HashSet",
    "println!",
];

#[test]
fn imports_point_one_way() {
    for (layer, allowed) in LAYERS {
        for (file, line, code) in code_of(layer) {
            for named in code.split("crate::").skip(1) {
                let named: String =
                    named.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                assert!(
                    named == layer || named == PROBE || allowed.contains(&named.as_str()),
                    "{}:{line}: {layer} must not know {named}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn every_module_has_its_place_among_the_layers() {
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mut modules: Vec<&str> = library
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    let mut layers: Vec<&str> = LAYERS.iter().map(|(layer, _)| *layer).collect();
    layers.sort_unstable();
    modules.sort_unstable();
    assert_eq!(modules, layers);
}

#[test]
fn pure_layers_name_nothing_impure() {
    for layer in PURE {
        for (file, line, code) in code_of(layer) {
            let impure = IMPURE.iter().find(|word| code.contains(**word));
            assert_eq!(impure, None, "{}:{line}", file.display());
            let is_static = code.trim_start().trim_start_matches("pub ").starts_with("static ");
            assert!(!is_static, "{}:{line}: a static", file.display());
        }
    }
}

#[test]
fn mio_and_the_clock_are_the_servers_alone() {
    for (layer, _) in LAYERS.iter().filter(|(layer, _)| *layer != "server") {
        for (file, line, code) in code_of(layer) {
            for word in ["mio::", "Instant::now", "signal_hook"] {
                assert!(!code.contains(word), "{}:{line}: {word}", file.display());
            }
        }
    }
}

#[test]
fn files_say_what_they_are_for_and_stay_short() {
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("//! "), "{}: no first line of docs", file.display());
        let lines = text.lines().count();
        assert!(lines <= 600, "{}: {lines} lines", file.display());
        let long = text.lines().position(|line| line.chars().count() > 100);
        assert_eq!(long, None, "{}: a line of over 100 columns", file.display());
    }
}

#[test]
fn nothing_is_left_open() {
    let open = [concat!("to", "do!("), concat!("unimplemented", "!("), concat!("#[", "ignore")];
    for file in all_rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        for word in open {
            assert!(!text.contains(word), "{}: {word}", file.display());
        }
    }
}

fn all_rust_files() -> Vec<PathBuf> {
    let folders = ["src", "tests", "testing/src", "sim/src", "sim/tests"];
    folders.iter().flat_map(|folder| rust_files(&root().join(folder))).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The lines of a layer without comments: file, line number from 1, code.
fn code_of(layer: &str) -> Vec<(PathBuf, usize, String)> {
    let directory = root().join("src").join(layer);
    let files = if directory.is_dir() {
        rust_files(&directory)
    } else {
        vec![directory.with_extension("rs")]
    };
    assert!(!files.is_empty(), "{layer} has no files");
    let mut lines = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (at, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            lines.push((file.clone(), at + 1, code.to_owned()));
        }
    }
    lines
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
