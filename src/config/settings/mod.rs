//! Every setting, each in one entry: its name, the form of its value, its default, what it means,
//! and the field that it fills. Knows nothing of where a value comes from.
//!
//! To add a setting, write its entry in the file of its section and the field that the entry fills.
//! `UPDATE_DOCUMENTS=1 cargo test --test config` then writes it into `multigres.conf.example` and
//! `docs/configuration.md`; `--help` takes it from here.

mod isolation;
mod listening;
mod login;
mod running;
mod tenant;
mod tls;
mod upstream;

use super::Draft;

/// One setting.
pub struct Setting {
    /// Its key in the file; the flag is the same with dashes.
    pub name: &'static str,
    /// Its environment variable: the name in capitals behind `MULTIGRES_`.
    pub environment: &'static str,
    /// The form of its value.
    pub form: Form,
    /// The default, as text of the file.
    pub default: &'static str,
    /// Its meaning in one phrase: for `--help` and for tables.
    pub summary: &'static str,
    /// Its effect, and when to change it. Paragraphs have a blank line between them, the items of
    /// a list begin with `- `, code has four more columns. Other lines are wrapped anew.
    pub doc: &'static str,
    /// Fills its field, or says what is wrong with the value.
    pub(super) parse: fn(&mut Draft, &str) -> Result<(), String>,
}

impl Setting {
    /// Its flag, without the two dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Whether the value, or an item of the list, stands in quotes: they would be a part of it.
    pub(super) fn is_quoted(&self, value: &str) -> bool {
        let is_list = matches!(self.form, Form::Hosts | Form::Parameters | Form::Users);
        let mut items = value.split(',').filter(|_| is_list);
        in_quotes(value) || items.any(|item| in_quotes(item.trim()))
    }

    /// Its line in `--help`.
    pub fn help(&self) -> String {
        let words = if let Form::Word(words) = self.form {
            format!(" ({})", alternatives(words))
        } else {
            String::new()
        };
        let default = if self.default.is_empty() { "none" } else { self.default };
        let summary = self.summary.replace('`', "");
        format!("{summary}{words} [{default}] [{}]", self.environment)
    }
}

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A port, at least this one.
    Port(u16),
    /// A whole number, at least the first and at most the second.
    Count(usize, usize),
    /// A time, which may be zero.
    Time,
    /// A time above zero.
    TimeAboveZero,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Printable ASCII characters.
    Text,
    /// The name of a file.
    File,
    /// An address, a host name, or a directory.
    Host,
    /// A list of hosts.
    Hosts,
    /// A list of custom parameters.
    Parameters,
    /// A list of users, which may be empty.
    Users,
}

impl Form {
    /// The word for the value in `--help`.
    pub fn placeholder(self) -> &'static str {
        match self {
            Form::Port(_) => "PORT",
            Form::Count(..) => "COUNT",
            Form::Time | Form::TimeAboveZero => "TIME",
            Form::Word(_) => "WORD",
            Form::Text => "TEXT",
            Form::File => "FILE",
            Form::Host => "HOST",
            Form::Hosts => "HOST[,...]",
            Form::Parameters => "NAME[,...]",
            Form::Users => "USER[,...]",
        }
    }

    /// The type of the value, with its unit and its limits.
    pub fn description(self) -> String {
        match self {
            Form::Port(least) => format!("port, from {least} to 65535"),
            Form::Count(least, most) => format!("whole number, from {least} to {most}"),
            Form::Time => "time in s, or with a unit".into(),
            Form::TimeAboveZero => "time in s, or with a unit; above zero".into(),
            Form::Word(words) => alternatives(words),
            Form::Text => "printable ASCII".into(),
            Form::File => "file name".into(),
            Form::Host => "host, address or directory".into(),
            Form::Hosts => "list of hosts, addresses, directories".into(),
            Form::Parameters => "list of parameter names".into(),
            Form::Users => "list of user names".into(),
        }
    }
}

/// A heading with its settings, in the order of the documentation.
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// Its settings.
    pub settings: &'static [Setting],
}

/// All settings.
pub static SECTIONS: &[Section] = &[
    listening::SECTION,
    upstream::SECTION,
    tenant::SECTION,
    isolation::SECTION,
    login::SECTION,
    tls::SECTION,
    running::SECTION,
];

/// All settings, without their sections.
pub fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

fn in_quotes(text: &str) -> bool {
    let stands_in =
        |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    stands_in('"') || stands_in('\'')
}

/// `a, b or c`.
fn alternatives(words: &[&str]) -> String {
    match words {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        words => words.concat(),
    }
}

/// The words of a table that says what each of them means.
const fn words<T, const N: usize>(table: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = table[at].0;
        at += 1;
    }
    words
}

fn unless_empty<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn set<T>(field: &mut T, parsed: Result<T, String>) -> Result<(), String> {
    *field = parsed?;
    Ok(())
}
