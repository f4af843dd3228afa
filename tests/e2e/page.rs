//! The code blocks of a page in `docs/`, which name themselves: as a file of an application
//! (`file=src/app.ts`) or as commands (`run=migrate`); and how commands are run. Knows nothing of
//! any one page.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use testing::{PASSWORD, multigres};

/// A fenced code block, in the order of the page.
pub(crate) struct Block {
    /// The words behind the language, `key=value`.
    pub(crate) keys: BTreeMap<String, String>,
    pub(crate) text: String,
}

impl Block {
    pub(crate) fn key(&self, name: &str) -> Option<&str> {
        self.keys.get(name).map(String::as_str)
    }

    /// Writes the file that the block is into an application's folder.
    pub(crate) fn write(&self, folder: &Path) {
        let path = folder.join(self.key("file").expect("a block that is a file"));
        fs::create_dir_all(path.parent().expect("it is in the folder")).unwrap();
        fs::write(path, &self.text).unwrap();
    }
}

/// The blocks of a page.
///
/// # Panics
/// When one of them is neither a file nor run, so that nothing tests it, unless it is `text`.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let mut words = info.split(' ');
        let language = words.next().unwrap_or_default();
        let keys: BTreeMap<String, String> = words
            .map(|word| word.split_once('=').unwrap_or_else(|| panic!("{word} in {line}")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let named = keys.contains_key("file") || keys.contains_key("run");
        assert!(named || language == "text", "nothing tests this block: {line}");
        let text = lines.by_ref().take_while(|line| *line != "```");
        let text = text.flat_map(|line| [line, "\n"]).collect();
        blocks.push(Block { keys, text });
    }
    assert!(!blocks.is_empty(), "a page without code");
    blocks
}

/// Runs a page's commands in the application's folder.
pub(crate) struct Commands<'a> {
    pub(crate) folder: &'a Path,
    /// Where programs are looked for first.
    pub(crate) programs: PathBuf,
    /// PostgreSQL, as the migrating role.
    pub(crate) migration_url: String,
    /// Multigres, or PostgreSQL, for the application.
    pub(crate) port: u16,
}

impl Commands<'_> {
    /// Without npx, which takes longer to find a program than PATH does here, and finds the same.
    pub(crate) fn shell(&self, script: &str) -> Output {
        let mut command = self.command("sh");
        command.args(["-e", "-c", &script.replace("npx ", "")]).stdin(Stdio::null());
        command.output().expect("sh starts")
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let multigres = multigres();
        let daemons = multigres.parent().expect("a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.folder)
            .env("PATH", format!("{}:{}:{path}", self.programs.display(), daemons.display()))
            .env("npm_config_offline", "true")
            .env("MIGRATION_URL", &self.migration_url)
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGDATABASE", "mydb")
            .env("PGPASSWORD", PASSWORD);
        command
    }
}
