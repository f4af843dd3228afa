//! The layout of a settings file: `key = value` lines, `#` comments, blank lines.
//! Knows the names of settings, not what their values mean.

use super::near::nearest;
use super::settings::{Setting, settings};

/// A setting and the text of its value.
pub(super) type Entry<'a> = (&'static Setting, &'a str);

/// The entries of a file by their line numbers, from 1: a setting with its value, or a mistake.
///
/// A comment has a line of its own, so that a value may be `#` or begin with it. A `#` behind a
/// blank is a mistake: it could be meant as either.
pub(super) fn entries(text: &str) -> Vec<(usize, Result<Entry<'_>, String>)> {
    let mut seen: Vec<(&str, usize)> = Vec::new();
    let mut entries = Vec::new();
    // Editors on Windows begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, content) in text.lines().enumerate().map(|(at, content)| (at + 1, content.trim())) {
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        entries.push((line, entry(content, line, &mut seen)));
    }
    entries
}

fn entry<'a>(
    content: &'a str,
    line: usize,
    seen: &mut Vec<(&'a str, usize)>,
) -> Result<Entry<'a>, String> {
    let (key, value) = content
        .split_once('=')
        .map(|(key, value)| (key.trim(), value.trim()))
        .ok_or_else(|| format!("not a line of the form key = value: \"{content}\""))?;
    let setting = settings().find(|setting| setting.name == key).ok_or_else(|| {
        let near = nearest(key, settings().map(|setting| setting.name));
        let near = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        format!("unknown key \"{key}\"{near}")
    })?;
    if [" #", "\t#"].iter().any(|sign| value.contains(sign)) {
        return Err(format!(
            "{key}: a comment has a line of its own, and no value contains \" #\""
        ));
    }
    if let Some((_, first)) = seen.iter().find(|(name, _)| *name == key) {
        return Err(format!("{key} is set twice, first in line {first}"));
    }
    seen.push((key, line));
    Ok((setting, value))
}
