//! The settings: a file, below the environment, below the flags of the command line.
//! Knows what a value means; does nothing with it. The environment comes in as an argument.
//!
//! Every setting stands once, in [`settings::SETTINGS`]; file, environment and flags all take
//! their text through it, so each mistake is found wherever it stands, and all of them are told.

mod file;
mod settings;
mod value;

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use log::LevelFilter;

use crate::net::Address;
use crate::proxy::{self, Upstream};
use crate::session::{self, Auth};
use crate::tenant::{Policy, Pooler};

pub use settings::{SETTINGS, Setting};

/// All settings, parsed and fitting each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// IP addresses, host names, `*`, or directories of unix sockets to listen on.
    pub listen_hosts: Vec<String>,
    /// Port to listen on; 0 lets the kernel choose.
    pub port: u16,
    /// What the loop is told.
    pub proxy: proxy::Settings,
    /// What is logged.
    pub log_level: LevelFilter,
}

/// A mistake in the settings and its place: `multigres.conf:12: …`, `environment NAME: …`,
/// `--flag: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    place: String,
    message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Name and text of the file.
    pub file: Option<(String, String)>,
    /// Environment variables, names and values.
    pub environment: Vec<(String, String)>,
    /// Flags, by the names of their settings, and values.
    pub flags: Vec<(String, String)>,
}

impl Config {
    /// Reads all sources.
    ///
    /// # Errors
    /// Every mistake in any of them, also in a value that a later source replaces.
    pub fn load(sources: &Sources) -> Result<Self, Vec<Mistake>> {
        let mut draft = Draft::default();
        let mut mistakes = Vec::new();
        let mut set = |place: String, setting: &Setting, text: &str| {
            if let Err(message) = (setting.parse)(&mut draft, text) {
                mistakes.push(Mistake { place, message: format!("{}: {message}", setting.name) });
            } else {
                draft.places.retain(|(name, _)| *name != setting.name);
                draft.places.push((setting.name, place));
            }
        };
        let mut file_mistakes = Vec::new();
        if let Some((name, text)) = &sources.file {
            for (line, entry) in file::entries(text) {
                let place = format!("{name}:{line}");
                match entry {
                    Ok((setting, value)) => set(place, setting, value),
                    Err(message) => file_mistakes.push(Mistake { place, message }),
                }
            }
        }
        for setting in &SETTINGS {
            for (name, value) in &sources.environment {
                if name == setting.environment {
                    set(format!("environment {name}"), setting, value);
                }
            }
        }
        for setting in &SETTINGS {
            for (name, value) in &sources.flags {
                if name == setting.name {
                    set(format!("--{}", setting.flag()), setting, value);
                }
            }
        }
        mistakes.extend(file_mistakes);
        mistakes.extend(draft.misfits());
        if mistakes.is_empty() { Ok(draft.finish()) } else { Err(mistakes) }
    }
}

/// Settings while they are being read, at first the defaults.
#[derive(Clone, Debug)]
pub struct Draft {
    port: u16,
    listen_host: Vec<String>,
    upstream_host: value::UpstreamHost,
    upstream_port: u16,
    tenant_separator: String,
    context_variables: Vec<String>,
    value_separator: String,
    superuser_bypass: Vec<String>,
    log_level: LevelFilter,
    auth: Auth,
    login_timeout: Duration,
    upstream_connect_timeout: Duration,
    idle_timeout: Option<Duration>,
    max_connections: usize,
    upstream_pooler: Pooler,
    allow_cleartext_password: bool,
    /// Where each setting that is not a default was set last.
    places: Vec<(&'static str, String)>,
}

impl Default for Draft {
    fn default() -> Self {
        let mut draft = Draft {
            port: 0,
            listen_host: Vec::new(),
            upstream_host: value::UpstreamHost::default(),
            upstream_port: 0,
            tenant_separator: String::new(),
            context_variables: Vec::new(),
            value_separator: String::new(),
            superuser_bypass: Vec::new(),
            log_level: LevelFilter::Off,
            auth: Auth::Auto,
            login_timeout: Duration::ZERO,
            upstream_connect_timeout: Duration::ZERO,
            idle_timeout: None,
            max_connections: 0,
            upstream_pooler: Pooler::None,
            allow_cleartext_password: false,
            places: Vec::new(),
        };
        for setting in &SETTINGS {
            let parsed = (setting.parse)(&mut draft, setting.default);
            assert_eq!(parsed, Ok(()), "the default of {}", setting.name);
        }
        draft
    }
}

impl Draft {
    /// Settings that are good alone and do not fit together.
    fn misfits(&self) -> Vec<Mistake> {
        let mut misfits = Vec::new();
        let (tenant, value) = (&self.tenant_separator, &self.value_separator);
        if tenant.contains(value.as_str()) || value.contains(tenant.as_str()) {
            misfits.push(self.misfit(
                &["value_separator", "tenant_separator"],
                format!("tenant_separator \"{tenant}\" and value_separator \"{value}\" overlap"),
            ));
        }
        misfits
    }

    /// A mistake at the place of the first of these settings that was set at all.
    fn misfit(&self, settings: &[&str], message: String) -> Mistake {
        let place = settings
            .iter()
            .find_map(|setting| self.places.iter().find(|(name, _)| name == setting))
            .map_or_else(|| String::from("defaults"), |(_, place)| place.clone());
        Mistake { place, message }
    }

    fn finish(self) -> Config {
        let upstream = match self.upstream_host {
            value::UpstreamHost::Ip(ip) => {
                Upstream::Address(Address::Tcp((ip, self.upstream_port).into()))
            }
            value::UpstreamHost::Directory(directory) => {
                Upstream::Address(Address::unix(&directory, self.upstream_port))
            }
            value::UpstreamHost::Name(host) => Upstream::Name { host, port: self.upstream_port },
        };
        let policy = Policy {
            tenant_separator: self.tenant_separator,
            value_separator: self.value_separator,
            context_variables: self.context_variables,
            superuser_bypass: self.superuser_bypass,
            upstream_pooler: self.upstream_pooler,
        };
        let session = session::Settings {
            policy,
            auth: self.auth,
            allow_cleartext_password: self.allow_cleartext_password,
        };
        Config {
            listen_hosts: self.listen_host,
            port: self.port,
            proxy: proxy::Settings {
                session: Rc::new(session),
                upstream,
                login_timeout: self.login_timeout,
                upstream_connect_timeout: self.upstream_connect_timeout,
                idle_timeout: self.idle_timeout,
                connections_max: self.max_connections,
            },
            log_level: self.log_level,
        }
    }
}
