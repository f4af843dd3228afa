//! The settings: a file, below the environment, below the flags of the command line.
//! Knows what a value means; does nothing with it. The environment comes in as an argument.
//!
//! Every setting stands once, in [`settings::SETTINGS`]; file, environment and flags all take
//! their text through it, so each mistake is found wherever it stands, and all of them are told.

mod file;
mod key_file;
mod named_file;
mod near;
mod settings;
mod tls;
mod value;

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use log::LevelFilter;

use crate::net::{Address, unix_socket};
use crate::proxy::{self, Upstream};
use crate::session::{self, Auth};
use crate::tenant::{GuardDemand, Policy, Pooler, Seal, SealBind, SealDemand, SealKey, seal_name};

pub use key_file::fresh_seal_key;
pub use settings::{SETTINGS, Setting};

use near::nearest;
use tls::{FittedTls, TlsDraft};

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
    /// What is no mistake and yet hardly meant.
    pub warnings: Vec<Mistake>,
}

/// A mistake in the settings, or what looks like one, and its place: `multigres.conf:12: …`,
/// `environment NAME: …`, `--flag: …`.
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

/// Where settings come from. A text that could not be had is told of as one of the mistakes.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Name and text of the file.
    pub file: Option<(String, Result<String, String>)>,
    /// Environment variables, names and values.
    pub environment: Vec<(String, Result<String, String>)>,
    /// Flags, by the names of their settings, and values.
    pub flags: Vec<(String, String)>,
}

impl Config {
    /// Reads all sources, and the files that they name: done again, it takes what is in them then.
    ///
    /// # Errors
    /// Every mistake in any of them, also in a value that a later source replaces.
    pub fn load(sources: &Sources) -> Result<Self, Vec<Mistake>> {
        let mut draft = Draft::default();
        match &sources.file {
            Some((name, Ok(text))) => draft.read_file(name, text),
            Some((name, Err(error))) => draft.mistake(name.clone(), error.clone()),
            None => {}
        }
        for setting in &SETTINGS {
            for (name, value) in &sources.environment {
                if name == setting.environment {
                    draft.set(format!("environment {name}"), setting, value.as_deref());
                }
            }
        }
        draft.warn_of_strangers(&sources.environment);
        for setting in &SETTINGS {
            for (name, value) in &sources.flags {
                if name == setting.name {
                    draft.set(format!("--{}", setting.flag()), setting, Ok(value));
                }
            }
        }
        draft.fit();
        let tls = draft.fit_tls();
        if draft.mistakes.is_empty() { Ok(draft.finish(tls)) } else { Err(draft.mistakes) }
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
    seal_key: Option<SealKey>,
    seal_bind: SealBind,
    seal: SealDemand,
    guard: GuardDemand,
    verify_ttl: Duration,
    tls: TlsDraft,
    /// Where each setting that is not a default was set last.
    places: Vec<(&'static str, String)>,
    mistakes: Vec<Mistake>,
    warnings: Vec<Mistake>,
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
            seal_key: None,
            seal_bind: SealBind::Address,
            seal: SealDemand::Prefer,
            guard: GuardDemand::Prefer,
            verify_ttl: Duration::ZERO,
            tls: TlsDraft::default(),
            places: Vec::new(),
            mistakes: Vec::new(),
            warnings: Vec::new(),
        };
        for setting in &SETTINGS {
            let parsed = (setting.parse)(&mut draft, setting.default);
            assert_eq!(parsed, Ok(()), "the default of {}", setting.name);
        }
        draft
    }
}

impl Draft {
    fn read_file(&mut self, name: &str, text: &str) {
        for (line, entry) in file::entries(text) {
            let place = format!("{name}:{line}");
            match entry {
                Ok((setting, value)) => self.set(place, setting, Ok(value)),
                Err(message) => self.mistake(place, message),
            }
        }
    }

    fn set(&mut self, place: String, setting: &Setting, text: Result<&str, &String>) {
        let parsed = match text {
            Ok(text) => (setting.parse)(self, text),
            Err(error) => Err(error.clone()),
        };
        match parsed {
            Ok(()) => {
                self.places.retain(|(name, _)| *name != setting.name);
                self.places.push((setting.name, place));
            }
            Err(message) => self.mistake(place, format!("{}: {message}", setting.name)),
        }
    }

    fn mistake(&mut self, place: String, message: String) {
        self.mistakes.push(Mistake { place, message });
    }

    fn warning(&mut self, place: String, message: String) {
        self.warnings.push(Mistake { place, message });
    }

    /// A variable with our prefix and no setting's name has no effect, and was meant to have one.
    /// Kubernetes makes some of its own for a service of the name `multigres`.
    fn warn_of_strangers(&mut self, environment: &[(String, Result<String, String>)]) {
        for (name, _) in environment.iter().filter(|(name, _)| name.starts_with("MULTIGRES_")) {
            let is_known = SETTINGS.iter().any(|setting| setting.environment == name);
            let is_links = ["MULTIGRES_SERVICE_", "MULTIGRES_PORT_"];
            if is_known || is_links.iter().any(|link| name.starts_with(link)) {
                continue;
            }
            let near = nearest(name, SETTINGS.iter().map(|setting| setting.environment));
            let near = near.map(|near| format!("; {near} is one")).unwrap_or_default();
            self.warning(format!("environment {name}"), format!("no setting has this name{near}"));
        }
    }

    /// Finds settings that are good alone and do not fit together.
    fn fit(&mut self) {
        let (tenant, value) = (&self.tenant_separator, &self.value_separator);
        if tenant.contains(value.as_str()) || value.contains(tenant.as_str()) {
            let message =
                format!("tenant_separator \"{tenant}\" and value_separator \"{value}\" overlap");
            self.mistake(self.place(&["value_separator", "tenant_separator"]), message);
        }
        if self.is_its_own_upstream() {
            let place = self.place(&["upstream_port", "upstream_host", "port", "listen_host"]);
            self.mistake(place, "upstream is where Multigres itself listens".into());
        }
        self.fit_seal();
    }

    fn fit_seal(&mut self) {
        let is_set = |name: &str| self.places.iter().any(|(set, _)| *set == name);
        if self.seal_key.is_none() {
            // The mistake may be in the file's name, and is told of already.
            let is_meant = is_set("seal_key_file") || self.says("seal_key_file");
            if is_set("seal_bind") && !is_meant {
                let message = "seal_bind is set and seal_key_file is not: nothing is sealed";
                self.mistake(self.place(&["seal_bind"]), message.into());
            }
            if self.seal == SealDemand::Require && !self.says("seal_key_file") {
                let message = "seal = require and no seal_key_file: every login would be refused";
                self.mistake(self.place(&["seal"]), message.into());
            }
            return;
        }
        let is_seal = |name: &&String| {
            let of = |other: &String| seal_name(other).eq_ignore_ascii_case(name);
            self.context_variables.iter().any(of)
        };
        if let Some(name) = self.context_variables.iter().find(is_seal) {
            let message = format!("context_variables: \"{name}\" is the seal of another variable");
            self.mistake(self.place(&["context_variables"]), message);
        }
        if self.seal_bind == SealBind::None {
            return;
        }
        let is_unix = matches!(self.upstream_host, value::UpstreamHost::Directory(_));
        let (cause, between) = match self.upstream_pooler {
            Pooler::Session => ("upstream_pooler", "a pooler's address, not Multigres'"),
            Pooler::None if is_unix => ("upstream_host", "no address behind a unix socket"),
            Pooler::None => return,
        };
        let message = format!(
            "a seal cannot be bound to the address, since PostgreSQL sees {between}: set \
             seal_bind = none"
        );
        self.mistake(self.place(&["seal_bind", cause, "seal_key_file"]), message);
    }

    /// Whether there is a mistake in this setting.
    fn says(&self, setting: &str) -> bool {
        self.mistakes.iter().any(|mistake| {
            mistake.message.strip_prefix(setting).is_some_and(|rest| rest.starts_with(':'))
        })
    }

    /// Every login would come back as another one, until nothing is left.
    fn is_its_own_upstream(&self) -> bool {
        let listens_on = |upstream: &str| self.listen_host.iter().any(|host| host == upstream);
        self.port == self.upstream_port
            && match &self.upstream_host {
                value::UpstreamHost::Ip(ip) => {
                    let everywhere = ["*", "0.0.0.0", "::"].into_iter().any(listens_on);
                    listens_on(&ip.to_string()) || (ip.is_loopback() && everywhere)
                }
                value::UpstreamHost::Name(name) => listens_on(name),
                value::UpstreamHost::Directory(directory) => {
                    self.listen_host.iter().any(|host| directory.as_os_str() == host.as_str())
                }
            }
    }

    /// The place of the first of these settings that was set at all.
    fn place(&self, settings: &[&str]) -> String {
        settings
            .iter()
            .find_map(|setting| self.places.iter().find(|(name, _)| name == setting))
            .map_or_else(|| String::from("defaults"), |(_, place)| place.clone())
    }

    fn finish(self, tls: FittedTls) -> Config {
        let upstream_is_local = self.upstream_host.is_this_machine();
        let is_unix = matches!(self.upstream_host, value::UpstreamHost::Directory(_));
        let upstream_may_know_multigres = is_unix || self.tls.upstream_cert.is_some();
        let upstream = match self.upstream_host {
            value::UpstreamHost::Ip(ip) => {
                Upstream::Address(Address::Tcp((ip, self.upstream_port).into()))
            }
            value::UpstreamHost::Directory(directory) => {
                Upstream::Address(Address::Unix(unix_socket(&directory, self.upstream_port)))
            }
            value::UpstreamHost::Name(host) => Upstream::Name { host, port: self.upstream_port },
        };
        let policy = Policy {
            tenant_separator: self.tenant_separator,
            value_separator: self.value_separator,
            context_variables: self.context_variables,
            superuser_bypass: self.superuser_bypass,
            upstream_pooler: self.upstream_pooler,
            seal: self.seal_key.map(|key| Seal { key, bind: self.seal_bind, demand: self.seal }),
            guard: self.guard,
        };
        let session = session::Settings {
            policy,
            auth: self.auth,
            allow_cleartext_password: self.allow_cleartext_password,
            upstream_is_local,
            upstream_may_know_multigres,
            client_tls: tls.client,
            upstream_tls: tls.upstream,
        };
        Config {
            listen_hosts: self.listen_host,
            port: self.port,
            proxy: proxy::Settings {
                session: Rc::new(session),
                tls: Rc::new(tls.legs),
                upstream,
                login_timeout: self.login_timeout,
                upstream_connect_timeout: self.upstream_connect_timeout,
                idle_timeout: self.idle_timeout,
                verify_ttl: self.verify_ttl,
                connections_max: self.max_connections,
                limits: proxy::Limits::default(),
            },
            log_level: self.log_level,
            warnings: self.warnings,
        }
    }
}
