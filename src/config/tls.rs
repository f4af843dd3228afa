//! The settings of TLS: the files they name, and which of them fit together.
//! Knows what an operator may get wrong; what a handshake proves is the layer `tls`'.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::ServerName;

use super::named_file::{self, Secrecy};
use super::{Draft, value};
use crate::session::{ClientTls, UpstreamTls};
use crate::tls::{
    Chain, ClientCertificate, ClientLeg, Identity, Key, Roots, Tls, UpstreamLeg, Verification,
    provider, server_name,
};

/// The settings of TLS while they are being read.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsDraft {
    pub cert: Option<Chain>,
    pub key: Option<Key>,
    pub client: Option<ClientTls>,
    pub client_ca: Option<Roots>,
    pub client_cert: Option<ClientCert>,
    pub upstream: Option<UpstreamMode>,
    pub upstream_ca: Option<Roots>,
    pub upstream_cert: Option<Chain>,
    pub upstream_key: Option<Key>,
    pub start: TlsStart,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientCert {
    Request,
    Require,
}

/// libpq's `sslmode`, except `allow`, which tries without TLS first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpstreamMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// libpq's `sslnegotiation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TlsStart {
    #[default]
    Postgres,
    Direct,
}

/// The settings of TLS, put together.
pub(super) struct FittedTls {
    pub client: ClientTls,
    pub upstream: UpstreamTls,
    pub legs: Tls,
}

pub(super) fn certificates(path: &str) -> Result<Chain, String> {
    parsed(path, Secrecy::Public, Chain::from_pem)
}

pub(super) fn key(path: &str) -> Result<Key, String> {
    parsed(path, Secrecy::Secret, Key::from_pem)
}

pub(super) fn roots(path: &str) -> Result<Roots, String> {
    parsed(path, Secrecy::Public, Roots::from_pem)
}

fn parsed<T>(
    path: &str,
    secrecy: Secrecy,
    parse: fn(&[u8]) -> Result<T, String>,
) -> Result<T, String> {
    let text = named_file::read(path, secrecy, FILE_BYTES_MAX).and_then(|text| {
        if text.len() < FILE_BYTES_MAX { Ok(text) } else { Err("it is 1 MiB or more".into()) }
    });
    text.and_then(|text| parse(&text)).map_err(|what| format!("\"{path}\": {what}"))
}

fn in_days(seconds: i64) -> String {
    match seconds / DAY {
        0 => String::from("within a day"),
        1 => String::from("in 1 day"),
        days => format!("in {days} days"),
    }
}

impl Draft {
    /// Puts the settings of TLS together, and finds those that do not fit.
    pub(super) fn fit_tls(&mut self) -> FittedTls {
        let (client, client_leg) = self.fit_client();
        let (upstream, upstream_leg) = self.fit_upstream();
        FittedTls { client, upstream, legs: Tls { client: client_leg, upstream: upstream_leg } }
    }

    fn fit_client(&mut self) -> (ClientTls, Option<ClientLeg>) {
        let TlsDraft { cert, key, client, client_ca, client_cert, .. } = self.tls.clone();
        let identity = self.identity(("tls_cert", &cert), ("tls_key", &key));
        self.warn_of_dates("tls_cert", cert.as_ref());
        let has_cert = self.is_meant("tls_cert", &cert) || self.is_meant("tls_key", &key);
        let by_default = if has_cert { ClientTls::Allowed } else { ClientTls::Disabled };
        let mode = client.unwrap_or(by_default);
        if !has_cert && mode != ClientTls::Disabled {
            let word = word_of(mode, &CLIENT_TLS);
            let message = format!("tls = {word} and no tls_cert: there is nothing to show");
            self.mistake(self.place(&["tls"]), message);
        }
        if client_ca.is_some() && !self.says("tls") {
            let is_required = client_cert != Some(ClientCert::Request);
            let mistake = match mode {
                _ if !has_cert => Some("tls_cert is not: without TLS nobody is asked"),
                ClientTls::Disabled => Some("tls = disable: without TLS nobody is asked"),
                ClientTls::Allowed if is_required => Some(
                    "tls is not require: clients without TLS would need no certificate (set tls = \
                     require, or tls_client_cert = request)",
                ),
                ClientTls::Allowed | ClientTls::Required => None,
            };
            if let Some(mistake) = mistake {
                let message = format!("tls_client_ca is set and {mistake}");
                self.mistake(self.place(&["tls_client_ca"]), message);
            }
        }
        if client_cert.is_some() && !self.is_meant("tls_client_ca", &client_ca) {
            let message = "tls_client_cert is set and tls_client_ca is not: no certificate could \
                           be verified";
            self.mistake(self.place(&["tls_client_cert"]), message.into());
        }
        if client_ca.as_ref().is_some_and(|roots| !roots.has_ca()) {
            let message = "tls_client_ca: no certificate in it is a CA's".into();
            self.mistake(self.place(&["tls_client_ca"]), message);
        }
        let asked = match (client_ca.filter(Roots::has_ca), client_cert) {
            (None, _) => ClientCertificate::None,
            (Some(roots), Some(ClientCert::Request)) => ClientCertificate::Requested(roots),
            (Some(roots), Some(ClientCert::Require) | None) => ClientCertificate::Required(roots),
        };
        let leg = identity.and_then(|identity| {
            let leg = ClientLeg::new(provider(), identity, &asked);
            leg.map_err(|error| self.mistake(self.place(&["tls_cert"]), error)).ok()
        });
        (mode, leg.filter(|_| mode != ClientTls::Disabled))
    }

    /// A peer rejects a certificate outside of its time, and nothing would say why.
    fn warn_of_dates(&mut self, setting: &'static str, chain: Option<&Chain>) {
        let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else { return };
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let Some(chain) = chain else { return };
        for (at, (from, to)) in chain.validities().enumerate() {
            let which = if at == 0 { "the certificate" } else { "a certificate above it" };
            let message = if now < from {
                format!("{which} is not yet valid: its time begins {}", in_days(from - now))
            } else if now > to {
                match (now - to) / DAY {
                    0 => format!("{which} has expired, less than a day ago"),
                    1 => format!("{which} has expired, 1 day ago"),
                    days => format!("{which} has expired, {days} days ago"),
                }
            } else if to - now < 30 * DAY {
                format!("{which} expires {}", in_days(to - now))
            } else {
                continue;
            };
            self.warning(self.place(&[setting]), format!("{setting}: {message}"));
        }
    }

    fn fit_upstream(&mut self) -> (UpstreamTls, Option<UpstreamLeg>) {
        let TlsDraft { upstream_cert, upstream_key, start, .. } = self.tls.clone();
        self.warn_of_dates("upstream_tls_cert", upstream_cert.as_ref());
        let cert = ("upstream_tls_cert", &upstream_cert);
        let identity = self.identity(cert, ("upstream_tls_key", &upstream_key));
        // A mistake in these is reported already; the rest depends on them.
        if self.says("upstream_host") || self.says("upstream_tls") {
            return NO_UPSTREAM_TLS;
        }
        let Some(mode) = self.upstream_mode() else {
            return NO_UPSTREAM_TLS;
        };
        let is_direct = start == TlsStart::Direct;
        let wanted = match mode {
            UpstreamMode::Disable => return NO_UPSTREAM_TLS,
            UpstreamMode::Prefer => UpstreamTls::Preferred,
            UpstreamMode::Require | UpstreamMode::VerifyCa | UpstreamMode::VerifyFull => {
                if is_direct {
                    UpstreamTls::Direct
                } else {
                    UpstreamTls::Required
                }
            }
        };
        if is_direct && wanted == UpstreamTls::Preferred {
            let message = "upstream_tls_negotiation = direct needs upstream_tls = require, \
                           verify-ca or verify-full: it cannot go on without TLS";
            self.mistake(self.place(&["upstream_tls_negotiation"]), message.into());
        }
        let verification = self.verification(mode);
        let name = match &self.upstream_host {
            value::UpstreamHost::Ip(ip) => Ok(ServerName::from(*ip)),
            value::UpstreamHost::Name(name) => server_name(name),
            value::UpstreamHost::Directory(_) => return NO_UPSTREAM_TLS,
        };
        let name = name.map_err(|error| {
            self.mistake(self.place(&["upstream_host"]), format!("upstream_host: {error}"));
        });
        let (Some(verification), Ok(name)) = (verification, name) else {
            return (wanted, None);
        };
        let leg = UpstreamLeg::new(provider(), name, verification, identity);
        (wanted, leg.map_err(|error| self.mistake(self.place(&["upstream_tls"]), error)).ok())
    }

    /// The level for this upstream, or `None` without TLS.
    fn upstream_mode(&mut self) -> Option<UpstreamMode> {
        let because = match (self.tls.upstream, &self.upstream_host) {
            (Some(UpstreamMode::Disable), _) => "upstream_tls = disable",
            (Some(UpstreamMode::Prefer) | None, value::UpstreamHost::Directory(_)) => {
                "upstream_host is a unix socket, which never has TLS"
            }
            (Some(mode), value::UpstreamHost::Directory(_)) => {
                let word = word_of(mode, &UPSTREAM_TLS);
                let message = format!(
                    "upstream_tls = {word} and upstream_host is a unix socket, which never has TLS"
                );
                self.mistake(self.place(&["upstream_tls"]), message);
                return None;
            }
            (Some(mode), _) => return Some(mode),
            (None, host) if !host.is_this_machine() => return Some(UpstreamMode::Prefer),
            (None, _) => {
                "upstream_host is this machine, where the default of upstream_tls is disable"
            }
        };
        let tls = &self.tls;
        let in_vain = [
            ("upstream_tls_ca", "is set", tls.upstream_ca.is_some()),
            ("upstream_tls_cert", "is set", tls.upstream_cert.is_some()),
            ("upstream_tls_key", "is set", tls.upstream_key.is_some()),
            ("upstream_tls_negotiation", "= direct", tls.start == TlsStart::Direct),
        ];
        for (setting, says, _) in in_vain.iter().filter(|(_, _, is_set)| *is_set) {
            self.mistake(self.place(&[setting]), format!("{setting} {says} and {because}"));
        }
        None
    }

    /// How upstream is verified, or `None` after a mistake.
    fn verification(&mut self, mode: UpstreamMode) -> Option<Verification> {
        let roots = self.tls.upstream_ca.clone();
        let mistake = match (mode, roots) {
            _ if self.says("upstream_tls_ca") => return None,
            (UpstreamMode::Disable, _) => return None,
            (UpstreamMode::Prefer | UpstreamMode::Require, None) => {
                return Some(Verification::AnyCertificate);
            }
            // As libpq takes `require` where it finds a CA (PostgreSQL's manual, "libpq-ssl").
            (UpstreamMode::Require | UpstreamMode::VerifyCa, Some(roots)) => {
                return Some(Verification::Chain(roots));
            }
            (UpstreamMode::VerifyFull, Some(roots)) => {
                return Some(Verification::ChainAndName(roots));
            }
            (UpstreamMode::Prefer, Some(_)) => (
                "upstream_tls_ca",
                "upstream_tls_ca is set and upstream_tls is prefer, which verifies nothing: set \
                 upstream_tls = verify-full or verify-ca"
                    .into(),
            ),
            (UpstreamMode::VerifyCa, None) => (
                "upstream_tls",
                "upstream_tls = verify-ca and no upstream_tls_ca: with the system's CAs anybody's \
                 certificate would do (verify-full takes them)"
                    .into(),
            ),
            (UpstreamMode::VerifyFull, None) => match system_roots() {
                Ok(roots) => return Some(Verification::ChainAndName(roots)),
                Err(error) => (
                    "upstream_tls",
                    format!("upstream_tls = verify-full and no upstream_tls_ca: {error}"),
                ),
            },
        };
        self.mistake(self.place(&[mistake.0]), mistake.1);
        None
    }

    /// A certificate with its key, if both are set and fit each other.
    fn identity(
        &mut self,
        (cert, chain): (&str, &Option<Chain>),
        (key, private): (&str, &Option<Key>),
    ) -> Option<Identity> {
        let alone = match (chain, private) {
            (Some(_), None) => Some((cert, key)),
            (None, Some(_)) => Some((key, cert)),
            (Some(_), Some(_)) | (None, None) => None,
        };
        if let Some((set, missing)) = alone.filter(|(_, missing)| !self.says(missing)) {
            self.mistake(self.place(&[set]), format!("{set} is set and {missing} is not"));
        }
        let identity = Identity::new(chain.clone()?, private.clone()?);
        identity
            .map_err(|error| {
                let message = format!("{key} does not fit {cert}: {error}");
                self.mistake(self.place(&[key]), message);
            })
            .ok()
    }

    /// Whether this setting is set, if only to a value with a mistake.
    fn is_meant<T>(&self, setting: &str, value: &Option<T>) -> bool {
        value.is_some() || self.says(setting)
    }
}

fn system_roots() -> Result<Roots, String> {
    let found = rustls_native_certs::load_native_certs();
    Roots::from_system(found.certs).map_err(|error| {
        let errors = found.errors.iter().map(|error| format!("; {error}"));
        error + &errors.collect::<String>()
    })
}

fn word_of<T: PartialEq>(value: T, words: &[(&'static str, T)]) -> &'static str {
    words.iter().find(|(_, other)| *other == value).map_or("", |(word, _)| word)
}

const NO_UPSTREAM_TLS: (UpstreamTls, Option<UpstreamLeg>) = (UpstreamTls::Disabled, None);

pub(super) const CLIENT_TLS: [(&str, ClientTls); 3] = [
    ("disable", ClientTls::Disabled),
    ("allow", ClientTls::Allowed),
    ("require", ClientTls::Required),
];

pub(super) const CLIENT_CERTS: [(&str, ClientCert); 2] =
    [("request", ClientCert::Request), ("require", ClientCert::Require)];

pub(super) const UPSTREAM_TLS: [(&str, UpstreamMode); 5] = [
    ("disable", UpstreamMode::Disable),
    ("prefer", UpstreamMode::Prefer),
    ("require", UpstreamMode::Require),
    ("verify-ca", UpstreamMode::VerifyCa),
    ("verify-full", UpstreamMode::VerifyFull),
];

pub(super) const TLS_STARTS: [(&str, TlsStart); 2] =
    [("postgres", TlsStart::Postgres), ("direct", TlsStart::Direct)];

/// A bundle of all public CAs has a quarter of this size.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// In seconds.
const DAY: i64 = 24 * 60 * 60;
