//! The settings: a file, below the environment, below the flags of the command line.
//! Knows what a value means; does nothing with it. The environment comes in as an argument.
//!
//! Every setting has one entry in [`SECTIONS`]. File, environment and flags are all read by it, so
//! that each mistake is found wherever it is, and all of them are reported.

mod file;
mod key_file;
mod named_file;
mod near;
mod settings;
mod tls;
mod value;

use std::fmt;
use std::rc::Rc;

use log::LevelFilter;

use crate::proxy;
use crate::session;
use crate::tenant::{Policy, Pooler, Seal, SealBind, SealDemand, SealKey, seal_name};

pub use key_file::fresh_seal_key;
pub use settings::{Form, SECTIONS, Section, Setting, settings};

use near::nearest;
use tls::{FittedTls, TlsDraft};

/// All settings, parsed and fitting each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// IP addresses, host names, `*`, or directories of unix sockets to listen on.
    pub listen_hosts: Vec<String>,
    /// Port to listen on; 0 lets the kernel choose.
    pub port: u16,
    /// Settings of the loop and of every session.
    pub proxy: proxy::Settings,
    /// The least severe level that is logged.
    pub log_level: LevelFilter,
    /// Values that are allowed and probably not intended.
    pub warnings: Vec<Mistake>,
}

/// The same as [`Config::load`] without any source.
impl Default for Config {
    fn default() -> Self {
        let session =
            session::LoginSettings { upstream_is_local: true, ..session::LoginSettings::default() };
        Config {
            listen_hosts: vec!["127.0.0.1".into()],
            port: 6432,
            proxy: proxy::Settings { session: Rc::new(session), ..proxy::Settings::default() },
            log_level: LevelFilter::Info,
            warnings: Vec::new(),
        }
    }
}

/// A mistake in the settings, or a warning of one, and its place: `multigres.conf:12: …`,
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

/// Where settings come from. A text that could not be read is reported as one of the mistakes.
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
    /// Reads all sources, and the files that they name, anew at each call.
    ///
    /// # Errors
    /// Every mistake in any of them, also in a value that a later source replaces.
    pub fn load(sources: &Sources) -> Result<Self, Vec<Mistake>> {
        let mut draft = Draft::of_defaults();
        match &sources.file {
            Some((name, Ok(text))) => draft.read_file(name, text),
            Some((name, Err(error))) => draft.mistake(name.clone(), error.clone()),
            None => {}
        }
        for setting in settings() {
            for (name, value) in &sources.environment {
                if name == setting.environment {
                    draft.set(format!("environment {name}"), setting, value.as_deref());
                }
            }
        }
        draft.warn_of_strangers(&sources.environment);
        for setting in settings() {
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

/// Settings while they are being read. Those that depend on no other one are in `config` already.
#[derive(Clone, Debug, Default)]
struct Draft {
    config: Config,
    upstream_host: value::UpstreamHost,
    upstream_port: u16,
    seal_key: Option<SealKey>,
    seal_bind: SealBind,
    seal: SealDemand,
    tls: TlsDraft,
    /// Where each setting that is not a default was set last.
    places: Vec<(&'static str, String)>,
    mistakes: Vec<Mistake>,
}

impl Draft {
    /// The defaults, as the entries have them.
    fn of_defaults() -> Self {
        let mut draft = Draft::default();
        for setting in settings() {
            let parsed = (setting.parse)(&mut draft, setting.default);
            assert_eq!(parsed, Ok(()), "the default of {}", setting.name);
        }
        draft
    }

    fn session(&mut self) -> &mut session::LoginSettings {
        Rc::make_mut(&mut self.config.proxy.session)
    }

    fn policy(&mut self) -> &mut Policy {
        &mut self.session().policy
    }

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
        self.config.warnings.push(Mistake { place, message });
    }

    /// Warns of variables that have our prefix and set nothing: they were meant to. Those that
    /// Kubernetes makes for a service with the name `multigres` are left out.
    fn warn_of_strangers(&mut self, environment: &[(String, Result<String, String>)]) {
        for (name, _) in environment.iter().filter(|(name, _)| name.starts_with("MULTIGRES_")) {
            let is_known = settings().any(|setting| setting.environment == name);
            let is_links = ["MULTIGRES_SERVICE_", "MULTIGRES_PORT_"];
            if is_known || is_links.iter().any(|link| name.starts_with(link)) {
                continue;
            }
            let near = nearest(name, settings().map(|setting| setting.environment));
            let near = near.map(|near| format!("; {near} is one")).unwrap_or_default();
            self.warning(format!("environment {name}"), format!("no setting has this name{near}"));
        }
    }

    /// Finds settings that are good alone and do not fit together.
    fn fit(&mut self) {
        let Policy { tenant_separator: tenant, value_separator: value, .. } =
            &self.config.proxy.session.policy;
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
            // A mistake in the file is reported already.
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
        let policy = &self.config.proxy.session.policy;
        let is_seal = |name: &&String| {
            let of = |other: &String| seal_name(other).eq_ignore_ascii_case(name);
            policy.context_variables.iter().any(of)
        };
        if let Some(name) = policy.context_variables.iter().find(is_seal) {
            let message = format!("context_variables: \"{name}\" is the seal of another variable");
            self.mistake(self.place(&["context_variables"]), message);
        }
        if self.seal_bind == SealBind::None {
            return;
        }
        let is_unix = matches!(self.upstream_host, value::UpstreamHost::Directory(_));
        let (cause, between) = match self.config.proxy.session.policy.upstream_pooler {
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

    /// Every login would come back as another one, until a limit is reached.
    fn is_its_own_upstream(&self) -> bool {
        let listens_on =
            |upstream: &str| self.config.listen_hosts.iter().any(|host| host == upstream);
        self.config.port == self.upstream_port
            && match &self.upstream_host {
                value::UpstreamHost::Ip(ip) => {
                    let everywhere = ["*", "0.0.0.0", "::"].into_iter().any(listens_on);
                    listens_on(&ip.to_string()) || (ip.is_loopback() && everywhere)
                }
                value::UpstreamHost::Name(name) => listens_on(name),
                value::UpstreamHost::Directory(directory) => self
                    .config
                    .listen_hosts
                    .iter()
                    .any(|host| directory.as_os_str() == host.as_str()),
            }
    }

    /// The place of the first of these settings that was set at all.
    fn place(&self, settings: &[&str]) -> String {
        settings
            .iter()
            .find_map(|setting| self.places.iter().find(|(name, _)| name == setting))
            .map_or_else(|| String::from("defaults"), |(_, place)| place.clone())
    }

    fn finish(mut self, tls: FittedTls) -> Config {
        let is_unix = matches!(self.upstream_host, value::UpstreamHost::Directory(_));
        let is_local = self.upstream_host.is_this_machine();
        let (bind, demand) = (self.seal_bind, self.seal);
        let seal = self.seal_key.take().map(|key| Seal { key, bind, demand });
        let may_know_multigres = is_unix || self.tls.upstream_cert.is_some();
        let session = self.session();
        session.policy.seal = seal;
        session.upstream_is_local = is_local;
        session.upstream_may_know_multigres = may_know_multigres;
        session.client_tls = tls.client;
        session.upstream_tls = tls.upstream;
        let mut config = self.config;
        config.proxy.tls = Rc::new(tls.legs);
        config.proxy.upstream = self.upstream_host.at(self.upstream_port);
        config
    }
}
