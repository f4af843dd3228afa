//! Values of settings: from text to what they mean, each with a message that says what is wrong.
//! Knows nothing of the settings they are for.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::net::{Address, unix_socket};
use crate::proxy::Upstream;

/// The forms of `upstream_host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UpstreamHost {
    /// An IPv4 or IPv6 address.
    Ip(IpAddr),
    /// A name to look up.
    Name(String),
    /// The directory of a unix socket.
    Directory(PathBuf),
}

impl Default for UpstreamHost {
    fn default() -> Self {
        UpstreamHost::Name(String::new())
    }
}

impl UpstreamHost {
    /// Whether nobody can listen between it and Multigres. `localhost` is believed by its name.
    pub(super) fn is_this_machine(&self) -> bool {
        match self {
            UpstreamHost::Ip(ip) => ip.to_canonical().is_loopback(),
            UpstreamHost::Name(name) => name.eq_ignore_ascii_case("localhost"),
            UpstreamHost::Directory(_) => true,
        }
    }

    /// The upstream at this port.
    pub(super) fn at(self, port: u16) -> Upstream {
        match self {
            UpstreamHost::Ip(ip) => Upstream::Address(Address::Tcp((ip, port).into())),
            UpstreamHost::Name(host) => Upstream::Name { host, port },
            UpstreamHost::Directory(directory) => {
                Upstream::Address(Address::Unix(unix_socket(&directory, port)))
            }
        }
    }
}

pub(super) fn upstream_host(text: &str) -> Result<UpstreamHost, String> {
    host(text)?;
    if text.starts_with('/') {
        return Ok(UpstreamHost::Directory(text.into()));
    }
    Ok(match unbracketed(text).parse() {
        Ok(ip) => UpstreamHost::Ip(ip),
        Err(_) => UpstreamHost::Name(text.to_owned()),
    })
}

pub(super) fn listen_hosts(text: &str) -> Result<Vec<String>, String> {
    let hosts = list(text)?;
    for text in &hosts {
        if text != "*" {
            host(text)?;
        }
    }
    Ok(hosts.iter().map(|host| unbracketed(host).to_owned()).collect())
}

/// `[::1]` is the form of an IPv6 address in a URL.
fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

/// Finds mistakes of form; the resolver and the kernel decide the rest.
fn host(text: &str) -> Result<(), String> {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:[]%".contains(&byte);
    if text.starts_with('/') {
        let name_bytes_max = 107 - "/.s.PGSQL.65535".len();
        if text.len() > name_bytes_max {
            return Err(format!("a unix socket's directory has at most {name_bytes_max} bytes"));
        }
        return Ok(());
    }
    if text.is_empty() || !text.bytes().all(is_host) {
        return Err(format!(
            "\"{text}\" is neither a host name, nor an address, nor an absolute directory"
        ));
    }
    Ok(())
}

/// A list with commas, spaces around them ignored. Empty text is an empty list.
pub(super) fn list(text: &str) -> Result<Vec<String>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let items: Vec<String> = text.split(',').map(|item| item.trim().to_owned()).collect();
    if items.iter().any(String::is_empty) {
        return Err(format!("an empty item in the list \"{text}\""));
    }
    for (at, item) in items.iter().enumerate() {
        if items[..at].contains(item) {
            return Err(format!("\"{item}\" is in the list twice"));
        }
    }
    Ok(items)
}

pub(super) fn separator(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("\"{text}\" is not a separator of printable ASCII characters"));
    }
    Ok(text.to_owned())
}

/// Names of custom parameters as PostgreSQL takes them: two or more identifiers with dots between
/// (`valid_custom_variable_name` in `guc.c`).
pub(super) fn context_variables(text: &str) -> Result<Vec<String>, String> {
    let names = list(text)?;
    if names.is_empty() {
        return Err("at least one variable is needed".into());
    }
    for (at, name) in names.iter().enumerate() {
        let parts: Vec<&str> = name.split('.').collect();
        if parts.len() < 2 || !parts.iter().all(|part| is_identifier(part)) {
            return Err(format!(
                "\"{name}\" is not the name of a custom parameter, such as app.current_tenant_id"
            ));
        }
        if name.len() > 63 {
            return Err(format!("\"{name}\" is longer than 63 bytes"));
        }
        if name.to_ascii_lowercase().starts_with("_pq_.") {
            return Err(format!("\"{name}\" is a name for protocol options"));
        }
        if names[..at].iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return Err(format!("\"{name}\" is in the list twice, in other letter case"));
        }
    }
    Ok(names)
}

fn is_identifier(part: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let other = |byte: u8| first(byte) || byte.is_ascii_digit() || byte == b'$';
    part.bytes().next().is_some_and(first) && part.bytes().all(other)
}

/// A number of units as in PostgreSQL's settings; without a unit, seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let mistake = || format!("\"{text}\" is not a time such as 500ms, 30s, 5min, 1h or 1d");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| mistake())?;
    let millis = match unit.trim_start() {
        "ms" => 1,
        "" | "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(mistake()),
    };
    let millis = number.checked_mul(millis).filter(|millis| *millis <= TIME_MILLIS_MAX);
    millis.map(Duration::from_millis).ok_or_else(|| format!("\"{text}\" is above 365d"))
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() { Err("it must be above zero".into()) } else { Ok(duration) }
}

pub(super) fn whole(text: &str, least: usize, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("\"{text}\" is not a whole number from {least} to {most}")),
    }
}

pub(super) fn port(text: &str, least: u16) -> Result<u16, String> {
    let port = whole(text, least.into(), u16::MAX.into()).map_err(|message| {
        // Kubernetes sets such variables for each service in reach.
        let link = text.starts_with("tcp://");
        let hint = if link { " (set enableServiceLinks: false in the pod's spec)" } else { "" };
        format!("{message}{hint}")
    })?;
    u16::try_from(port).map_err(|error| error.to_string())
}

/// One of a few words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("\"{text}\" is not one of {}", words.join(", "))
    })
}

pub(super) const SWITCH: [(&str, bool); 2] = [("on", true), ("off", false)];

const TIME_MILLIS_MAX: u64 = 365 * 86_400_000;
