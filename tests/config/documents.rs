//! The example file, docs/configuration.md and the README say of each setting what its entry says.
//! `UPDATE_DOCUMENTS=1 cargo test --test config` writes them anew.

use std::fs;
use std::path::{Path, PathBuf};

use multigres::config::{Config, Form, SECTIONS, Setting, Sources, settings};

const COLUMNS: usize = 100;

#[test]
fn entries_have_names_of_one_form_and_say_when_to_change_them() {
    for setting in settings() {
        let name = setting.name;
        assert_eq!(settings().filter(|other| other.name == name).count(), 1, "{name}");
        // One variable is older than the rule.
        let variable = if name == "listen_host" { "HOST".into() } else { name.to_uppercase() };
        assert_eq!(setting.environment, format!("MULTIGRES_{variable}"));
        let advice = ["Change it ", "Set it "].iter().any(|words| setting.doc.contains(words));
        assert!(advice, "{name}: nothing says when to change it");
        assert!(!setting.summary.contains('|') && !setting.summary.ends_with('.'), "{name}");
        if let Form::Word(words) = setting.form {
            let is_named = |word: &&str| setting.doc.contains(&format!("`{word}`"));
            let few = words.iter().filter(|word| !is_named(word)).collect::<Vec<_>>();
            assert!(few.is_empty() || name == "log_level", "{name}: {few:?} in no sentence");
        }
    }
}

#[test]
fn the_example_file_is_made_of_the_entries() {
    let file = root().join("multigres.conf.example");
    let written = fs::read_to_string(&file).unwrap();
    let (head, _) = written.split_once("\n# --- ").expect("a section");
    let mut text = format!("{}\n", head.trim_end());
    for section in SECTIONS {
        let title = format!("# --- {} ", section.title);
        text += &format!("\n\n{title}{}\n", "-".repeat(COLUMNS - title.len()));
        for setting in section.settings {
            text += "\n";
            for line in wrapped(setting.doc, COLUMNS - "# ".len()) {
                text += format!("# {line}").trim_end();
                text += "\n";
            }
            text += &format!("# Environment: {}\n", setting.environment);
            text += format!("#{} = {}", setting.name, setting.default).trim_end();
            text += "\n";
        }
    }
    check(&file, &text);
    // It changes nothing, as it is and with its settings no longer commented out.
    let load = |text: &str| {
        let file = Some(("m.conf".to_owned(), Ok(text.to_owned())));
        Config::load(&Sources { file, ..Sources::default() }).unwrap()
    };
    assert_eq!(load(&text), Config::default());
    let is_setting = |line: &&str| line.starts_with(char::is_lowercase);
    let lines = text.lines().filter_map(|line| line.strip_prefix('#').filter(is_setting));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), settings().count());
    assert_eq!(load(&lines.join("\n")), Config::default());
}

#[test]
fn the_configuration_page_is_made_of_the_entries() {
    let file = root().join("docs/configuration.md");
    let written = fs::read_to_string(&file).unwrap();
    let (head, _) = written.split_once(GENERATED).expect("what is made of the entries");
    let mut text = format!("{head}{GENERATED}\n\n## All settings\n\n{TABLE}");
    for setting in settings() {
        let name = format!("[`{0}`](#{0})", setting.name);
        text += &row(&name, setting);
    }
    for section in SECTIONS {
        text += &format!("\n## {}\n", section.title);
        for setting in section.settings {
            text += &format!("\n### `{}`\n\n", setting.name);
            text += "| type | default | environment | command line |\n| --- | --- | --- | --- |\n";
            text += &format!(
                "| {} | {} | `{}` | `--{} {}` |\n\n",
                setting.form.description(),
                if setting.default.is_empty() { "empty".into() } else { code(setting.default) },
                setting.environment,
                setting.flag(),
                setting.form.placeholder(),
            );
            for line in wrapped(setting.doc, COLUMNS) {
                text += &format!("{line}\n");
            }
        }
    }
    check(&file, &text);
}

/// It chooses a few settings; their rows are those of the entries.
#[test]
fn the_readme_says_what_the_entries_say() {
    let file = root().join("README.md");
    let written = fs::read_to_string(&file).unwrap();
    let mut rows = 0;
    let lines = written.lines().map(|line| {
        let name = line.strip_prefix("| `").and_then(|rest| rest.split_once('`'));
        let setting = name.and_then(|(name, _)| settings().find(|it| it.name == name));
        rows += usize::from(setting.is_some());
        match setting {
            Some(setting) => row(&code(setting.name), setting),
            None => format!("{line}\n"),
        }
    });
    let text: String = lines.collect();
    check(&file, &text);
    assert!(rows >= 5, "{rows} settings");
    assert!(text.contains(TABLE) && text.contains("(docs/configuration.md)"));
}

const GENERATED: &str =
    "<!-- Made of src/config/settings by UPDATE_DOCUMENTS=1 cargo test --test config -->";
const TABLE: &str = "| setting | default | meaning |\n| --- | --- | --- |\n";

fn row(name: &str, setting: &Setting) -> String {
    let default = if setting.default.is_empty() { String::new() } else { code(setting.default) };
    let words = if let Form::Word(words) = setting.form {
        let words: Vec<String> = words.iter().map(|word| code(word)).collect();
        format!(" ({})", words.join(", "))
    } else {
        String::new()
    };
    format!("| {name} | {default} | {}{words} |\n", setting.summary).replace("|  |", "| |")
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// Says in which lines a file differs from what it should be, or makes it so.
fn check(file: &Path, text: &str) {
    let written = fs::read_to_string(file).unwrap();
    if written == text {
        return;
    }
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(file, text).unwrap();
        return;
    }
    let (is, should): (Vec<&str>, Vec<&str>) = (written.lines().collect(), text.lines().collect());
    let same = is.iter().zip(&should).take_while(|(is, should)| is == should).count();
    let pairs = is[same..].iter().rev().zip(should[same..].iter().rev());
    let same_behind = pairs.take_while(|(is, should)| is == should).count();
    let lines = |sign: &str, lines: &[&str]| -> String {
        let lines = &lines[same..lines.len() - same_behind];
        lines.iter().map(|line| format!("{sign}{line}\n")).collect()
    };
    panic!(
        "{}:{}: differs from the entries in src/config/settings\n{}{}\
         UPDATE_DOCUMENTS=1 cargo test --test config writes it anew",
        file.display(),
        same + 1,
        lines("-", &is),
        lines("+", &should),
    );
}

/// The documentation of an entry as lines of so many columns.
fn wrapped(doc: &str, columns: usize) -> Vec<String> {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let rest = doc.lines().skip(1).filter(|line| !line.trim().is_empty());
    let base = rest.map(indentation).min().unwrap_or(0);
    let mut lines: Vec<String> = Vec::new();
    // Indentation of the next line while a paragraph or an item is open.
    let mut open: Option<usize> = None;
    for line in doc.lines() {
        let words = line.trim();
        let is_first_or_base = indentation(line) <= base;
        if words.is_empty() {
            lines.push(String::new());
            open = None;
        } else if open.is_none() && !is_first_or_base {
            lines.push(format!("{}{words}", " ".repeat(indentation(line) - base)));
        } else {
            if words.starts_with("- ") || open.is_none() {
                lines.push(String::new());
                open = Some(if words.starts_with("- ") { 2 } else { 0 });
            }
            for word in words.split_whitespace() {
                put(&mut lines, word, open.unwrap_or_default(), columns);
            }
        }
    }
    lines
}

/// Puts a word behind the last line, or below it.
fn put(lines: &mut Vec<String>, word: &str, indentation: usize, columns: usize) {
    let last = lines.last_mut().expect("a line");
    if last.is_empty() {
        last.push_str(word);
    } else if last.chars().count() + 1 + word.chars().count() <= columns {
        last.push(' ');
        last.push_str(word);
    } else {
        lines.push(format!("{}{word}", " ".repeat(indentation)));
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
