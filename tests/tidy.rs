//! Holds the rules that no compiler knows: who may import whom, what a pure layer may not name,
//! how long a file may be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer of `src/` with the layers it may name; `docs/architecture.md` draws it.
const LAYERS: [(&str, &[&str]); 17] = [
    ("protocol", &[]),
    ("refusal", &["protocol"]),
    ("tenant", &["protocol", "refusal"]),
    ("auth", &[]),
    ("login", &["protocol", "refusal", "tenant"]),
    ("client", &["login", "protocol", "refusal", "tenant"]),
    ("backend", &["login", "protocol", "refusal", "tenant"]),
    ("session", &["auth", "backend", "client", "login", "protocol", "refusal", "tenant"]),
    ("net", &[]),
    ("tls", &[]),
    ("relay", &["login", "net", "session", "tls"]),
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
const PURE: [&str; 12] = [
    "protocol", "refusal", "tenant", "auth", "login", "client", "backend", "session", "tls", "net",
    "relay", "proxy",
];

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
fn the_pipe_does_not_know_the_session() {
    for (file, line, code) in code_of("relay") {
        let is_joint = file.ends_with("relay/mod.rs");
        assert!(is_joint || !code.contains("session"), "{}:{line}", file.display());
    }
}

#[test]
fn no_imports_go_in_a_circle() {
    let source = root().join("src");
    let modules = rust_files(&source).into_iter().map(|file| {
        let text = fs::read_to_string(&file).unwrap();
        (module_path(file.strip_prefix(&source).unwrap()), text)
    });
    assert_eq!(Modules::new(modules).circle(), None);
}

#[test]
fn a_circle_is_found_through_a_re_export_and_through_a_child() {
    let circle = |files: &[(&str, &str)]| {
        let modules =
            files.iter().map(|(file, text)| (module_path(Path::new(file)), text.to_string()));
        Modules::new(modules).circle()
    };
    let tree = [
        ("lib.rs", "pub mod a;"),
        ("a/mod.rs", "mod b;\nmod c;\npub use c::Two;\npub struct Zero;"),
        ("a/b.rs", "use super::{\n    Zero, // a child may name what its parent defines\n};"),
        ("a/c.rs", "pub struct Two(super::b::One);"),
    ];
    assert_eq!(circle(&tree), None);
    let mut siblings = tree;
    siblings[2].1 = "use super::{Two, Zero};\npub struct One(Two);";
    assert_eq!(circle(&siblings), Some("a::b -> a::c -> a::b".into()));
    let mut parents = tree.to_vec();
    parents[2].1 = "use crate::d;";
    parents.push(("d.rs", "use crate::a::Zero;"));
    assert_eq!(circle(&parents), Some("a -> a::b -> d -> a".into()));
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
            // A start compares certificates with the date; the writer of the log, a thread of its
            // own, waits for its pipe.
            for (word, only) in [("SystemTime::now", "config"), ("thread::sleep", "logging")] {
                let is_there = code.contains(word) && *layer != only;
                assert!(!is_there, "{}:{line}: {word}", file.display());
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

#[test]
fn prose_is_wrapped_at_one_width() {
    for file in pages() {
        let text = fs::read_to_string(&file).unwrap();
        let mut is_code = false;
        for (at, line) in text.lines().enumerate() {
            is_code ^= line.trim_start().starts_with("```");
            let is_prose = !is_code && !line.trim_start().starts_with('|');
            let columns = line.chars().count();
            assert!(
                !is_prose || columns <= 100,
                "{}:{}: {columns} columns",
                file.display(),
                at + 1
            );
        }
        assert!(!is_code, "{}: a fence is left open", file.display());
    }
}

#[test]
fn the_readme_is_read_in_a_few_minutes() {
    let words = fs::read_to_string(root().join("README.md")).unwrap().split_whitespace().count();
    assert!(words <= 1_200, "{words} words");
}

#[test]
fn pages_keep_to_plain_english() {
    let words = ["whoever", "himself", " him ", " his ", " but for ", " stands "];
    for file in pages() {
        let text = fs::read_to_string(&file).unwrap().to_lowercase();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let found = words.iter().find(|word| text.contains(**word));
        assert_eq!(found, None, "{}", file.display());
    }
}

#[test]
fn links_between_pages_lead_somewhere() {
    for file in pages() {
        let text = fs::read_to_string(&file).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (page, part) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") {
                continue;
            }
            let target = if page.is_empty() { file.clone() } else { file.with_file_name(page) };
            let text = fs::read_to_string(&target);
            let text = text.unwrap_or_else(|_| panic!("{}: no {link}", file.display()));
            let is_there = part.is_empty() || text.lines().any(|line| anchor(line) == part);
            assert!(is_there, "{}: no {link}", file.display());
        }
    }
}

/// The name of a heading in a link to it; nothing for any other line.
fn anchor(line: &str) -> String {
    let Some(heading) = line.strip_prefix('#') else { return String::new() };
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let words = words.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    words.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// README, CHANGELOG and what is in `docs/`.
fn pages() -> Vec<PathBuf> {
    let folders = [root(), root().join("docs")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let pages = files.map(|entry| entry.unwrap().path());
    pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// A module by the names that lead to it from the crate's root.
type ModulePath = Vec<String>;

/// The module of a file, by its place under `src/`.
fn module_path(file: &Path) -> ModulePath {
    let file = file.with_extension("");
    let names = file.iter().map(|name| name.to_str().unwrap().to_owned());
    names.filter(|name| !["mod", "lib"].contains(&name.as_str())).collect()
}

/// The modules of a crate with what each of them names.
struct Modules(BTreeMap<ModulePath, Names>);

#[derive(Default)]
struct Names {
    /// What `use` brings into the module, by the name that it has there.
    imports: BTreeMap<String, ModulePath>,
    /// Each path that the module names, in a `use` or in its code.
    paths: Vec<ModulePath>,
}

impl Modules {
    fn new(files: impl Iterator<Item = (ModulePath, String)>) -> Self {
        Modules(files.map(|(module, text)| (module, Names::read(&text))).collect())
    }

    /// The shortest way of imports from a module back to itself.
    fn circle(&self) -> Option<String> {
        let graph: BTreeMap<_, _> = self.0.keys().map(|it| (it, self.imported(it))).collect();
        let circles = self.0.keys().filter_map(|module| {
            let mut seen = BTreeSet::new();
            let mut ways = VecDeque::from([vec![module]]);
            while let Some(way) = ways.pop_front() {
                for next in &graph[way[way.len() - 1]] {
                    let longer = [&way[..], &[next]].concat();
                    if next == module {
                        return Some(longer);
                    }
                    if seen.insert(next) {
                        ways.push_back(longer);
                    }
                }
            }
            None
        });
        let shortest = circles.min_by_key(Vec::len)?;
        let names: Vec<String> = shortest.iter().map(|module| module.join("::")).collect();
        Some(names.join(" -> "))
    }

    /// The other modules that a module names, and its children, but not those that it is part of.
    fn imported(&self, module: &ModulePath) -> BTreeSet<ModulePath> {
        let children = self.0.keys().filter(|other| {
            other.split_last().is_some_and(|(_, parent)| parent == module.as_slice())
        });
        let named = self.0[module].paths.iter().filter_map(|path| self.resolve(module, path));
        let others = children.cloned().chain(named);
        others.filter(|other| !module.starts_with(other)).collect()
    }

    /// The module that defines what a path in `module` leads to; `None` outside of the crate.
    fn resolve(&self, module: &ModulePath, path: &[String]) -> Option<ModulePath> {
        let (first, mut rest) = path.split_first()?;
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => module.split_last()?.1.to_vec(),
            _ => module.iter().chain([first]).cloned().collect(),
        };
        self.0.get(&at)?;
        while let Some((name, further)) = rest.split_first() {
            let parent = at.split_last().filter(|_| name == "super");
            let child = || at.iter().chain([name]).cloned().collect();
            let inner = parent.map_or_else(child, |(_, parent)| parent.to_vec());
            if self.0.contains_key(&inner) {
                at = inner;
            } else {
                let import = self.0[&at].imports.get(name).filter(|import| *import != path);
                return Some(import.and_then(|import| self.resolve(&at, import)).unwrap_or(at));
            }
            rest = further;
        }
        Some(at)
    }
}

impl Names {
    fn read(text: &str) -> Self {
        let code: Vec<&str> =
            text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        let mut names = Names::default();
        for statement in code.join("\n").split(';') {
            // Behind an attribute or a block a `use` begins its line.
            let lines = statement.split_inclusive('\n');
            let at: usize = lines.take_while(|line| !is_use(line)).map(str::len).sum();
            if let Some((_, tree)) = statement[at..].split_once("use ") {
                names.import(&[], tree);
            }
            for start in ["crate::", "super::"] {
                for (at, _) in statement[..at].match_indices(start) {
                    let path = statement[at..].split(|c: char| !c.is_alphanumeric() && c != '_');
                    // Two colons have an empty text between them.
                    let names_of = path.step_by(2).map(str::to_owned);
                    names.paths.push(names_of.take_while(|name| !name.is_empty()).collect());
                }
            }
        }
        names
    }

    /// Takes the tree of a `use` apart, behind `prefix`.
    fn import(&mut self, prefix: &[String], tree: &str) {
        let (path, group) = match tree.split_once('{') {
            Some((path, group)) => (path, group.trim_end().strip_suffix('}')),
            None => (tree, None),
        };
        let (path, alias) = path.split_once(" as ").unwrap_or((path, ""));
        let mut full = prefix.to_vec();
        full.extend(path.split("::").map(|name| name.trim().to_owned()));
        full.retain(|name| !name.is_empty());
        if let Some(group) = group {
            return split_group(group).iter().for_each(|tree| self.import(&full, tree));
        }
        full = if full.ends_with(&["self".into()]) && full.len() > 1 {
            full[..full.len() - 1].to_vec()
        } else {
            full
        };
        let Some(name) = full.last().cloned() else { return };
        let name = if alias.is_empty() { name } else { alias.trim().to_owned() };
        self.paths.push(full.clone());
        self.imports.insert(name, full);
    }
}

fn is_use(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("use ") || line.starts_with("pub") && line.contains(" use ")
}

/// Splits the inside of braces at the commas that stand in no braces of their own.
fn split_group(group: &str) -> Vec<&str> {
    let mut depth = 0;
    let is_end = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    };
    group.split(is_end).filter(|tree| !tree.trim().is_empty()).collect()
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
