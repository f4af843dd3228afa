//! The list of all settings: name, environment variable, default, help, and how its text is read.
//! Knows nothing of where a text comes from.

use log::LevelFilter;

use super::tls::{CLIENT_CERTS, CLIENT_TLS, NEGOTIATIONS, UPSTREAM_TLS, certificates, key, roots};
use super::value::{
    context_variables, duration, list, listen_hosts, port, positive_duration, separator, switch,
    upstream_host, whole, word,
};
use super::{Draft, key_file};
use crate::session::Auth;
use crate::tenant::{GuardDemand, Pooler, SealBind, SealDemand};

/// One setting.
pub struct Setting {
    /// Its key in the file.
    pub name: &'static str,
    /// Its environment variable.
    pub environment: &'static str,
    /// The text of its default.
    pub default: &'static str,
    /// One line for `--help`.
    pub help: &'static str,
    /// What stands for the value in `--help`.
    pub value: &'static str,
    pub(super) parse: fn(&mut Draft, &str) -> Result<(), String>,
}

impl Setting {
    /// The name of its flag, without the two dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// Every setting there is.
pub const SETTINGS: [Setting; 31] = [
    Setting {
        name: "port",
        environment: "MULTIGRES_PORT",
        default: "6432",
        help: "port to listen on; 0 lets the kernel choose",
        value: "PORT",
        parse: |draft, text| set(&mut draft.port, port(text, 0)),
    },
    Setting {
        name: "listen_host",
        environment: "MULTIGRES_HOST",
        default: "127.0.0.1",
        help: "addresses, host names, * or unix socket directories to listen on",
        value: "HOST[,...]",
        parse: |draft, text| {
            let hosts = listen_hosts(text).and_then(|hosts| {
                if hosts.is_empty() { Err("at least one is needed".into()) } else { Ok(hosts) }
            });
            set(&mut draft.listen_host, hosts)
        },
    },
    Setting {
        name: "upstream_host",
        environment: "MULTIGRES_UPSTREAM_HOST",
        default: "127.0.0.1",
        help: "address, host name or unix socket directory of PostgreSQL",
        value: "HOST",
        parse: |draft, text| set(&mut draft.upstream_host, upstream_host(text)),
    },
    Setting {
        name: "upstream_port",
        environment: "MULTIGRES_UPSTREAM_PORT",
        default: "5432",
        help: "port of PostgreSQL",
        value: "PORT",
        parse: |draft, text| set(&mut draft.upstream_port, port(text, 1)),
    },
    Setting {
        name: "tenant_separator",
        environment: "MULTIGRES_TENANT_SEPARATOR",
        default: ".",
        help: "stands between role and tenant in the user name",
        value: "TEXT",
        parse: |draft, text| set(&mut draft.tenant_separator, separator(text)),
    },
    Setting {
        name: "context_variables",
        environment: "MULTIGRES_CONTEXT_VARIABLES",
        default: "app.current_tenant_id",
        help: "custom parameters to bind, one for each value in the user name",
        value: "NAME[,...]",
        parse: |draft, text| set(&mut draft.context_variables, context_variables(text)),
    },
    Setting {
        name: "value_separator",
        environment: "MULTIGRES_VALUE_SEPARATOR",
        default: ":",
        help: "stands between two values in the user name",
        value: "TEXT",
        parse: |draft, text| set(&mut draft.value_separator, separator(text)),
    },
    Setting {
        name: "superuser_bypass",
        environment: "MULTIGRES_SUPERUSER_BYPASS",
        default: "postgres",
        help: "users that pass straight through; may be empty",
        value: "USER[,...]",
        parse: |draft, text| set(&mut draft.superuser_bypass, list(text)),
    },
    Setting {
        name: "log_level",
        environment: "MULTIGRES_LOG_LEVEL",
        default: "info",
        help: "off, error, warn, info, debug or trace",
        value: "LEVEL",
        parse: |draft, text| set(&mut draft.log_level, word(text, &LOG_LEVELS)),
    },
    Setting {
        name: "auth",
        environment: "MULTIGRES_AUTH",
        default: "auto",
        help: "auto, relay or password: who answers PostgreSQL's authentication request",
        value: "MODE",
        parse: |draft, text| {
            let modes =
                [("auto", Auth::Auto), ("relay", Auth::Relay), ("password", Auth::Password)];
            set(&mut draft.auth, word(text, &modes))
        },
    },
    Setting {
        name: "login_timeout",
        environment: "MULTIGRES_LOGIN_TIMEOUT",
        default: "60s",
        help: "from accepting a connection to the end of its login",
        value: "TIME",
        parse: |draft, text| set(&mut draft.login_timeout, positive_duration(text)),
    },
    Setting {
        name: "upstream_connect_timeout",
        environment: "MULTIGRES_UPSTREAM_CONNECT_TIMEOUT",
        default: "10s",
        help: "for one attempt to connect to one address of PostgreSQL",
        value: "TIME",
        parse: |draft, text| set(&mut draft.upstream_connect_timeout, positive_duration(text)),
    },
    Setting {
        name: "idle_timeout",
        environment: "MULTIGRES_IDLE_TIMEOUT",
        default: "0",
        help: "closes a session without a byte in either direction for so long; 0 never",
        value: "TIME",
        parse: |draft, text| {
            let timeout = duration(text).map(|time| Some(time).filter(|time| !time.is_zero()));
            set(&mut draft.idle_timeout, timeout)
        },
    },
    Setting {
        name: "max_connections",
        environment: "MULTIGRES_MAX_CONNECTIONS",
        default: "1000",
        help: "client connections at once",
        value: "COUNT",
        parse: |draft, text| set(&mut draft.max_connections, whole(text, 1, 1_000_000)),
    },
    Setting {
        name: "upstream_pooler",
        environment: "MULTIGRES_UPSTREAM_POOLER",
        default: "none",
        help: "none or session: a pooler in session mode stands before PostgreSQL",
        value: "MODE",
        parse: |draft, text| {
            let modes = [("none", Pooler::None), ("session", Pooler::Session)];
            set(&mut draft.upstream_pooler, word(text, &modes))
        },
    },
    Setting {
        name: "allow_cleartext_password",
        environment: "MULTIGRES_ALLOW_CLEARTEXT_PASSWORD",
        default: "off",
        help: "on or off: ask for passwords over unencrypted networks too",
        value: "SWITCH",
        parse: |draft, text| set(&mut draft.allow_cleartext_password, switch(text)),
    },
    Setting {
        name: "seal_key_file",
        environment: "MULTIGRES_SEAL_KEY_FILE",
        default: "",
        help: "file with the key that seals each context; see multigres seal-key",
        value: "FILE",
        parse: |draft, text| set(&mut draft.seal_key, unless_empty(text, key_file::read)),
    },
    Setting {
        name: "seal_bind",
        environment: "MULTIGRES_SEAL_BIND",
        default: "address",
        help: "address or none: whether a seal holds in one connection to PostgreSQL alone",
        value: "BIND",
        parse: |draft, text| {
            let binds = [("address", SealBind::Address), ("none", SealBind::None)];
            set(&mut draft.seal_bind, word(text, &binds))
        },
    },
    Setting {
        name: "seal",
        environment: "MULTIGRES_SEAL",
        default: "prefer",
        help: "prefer or require: whether a database that is not sealed is served or refused",
        value: "DEMAND",
        parse: |draft, text| {
            let demands = [("prefer", SealDemand::Prefer), ("require", SealDemand::Require)];
            set(&mut draft.seal, word(text, &demands))
        },
    },
    Setting {
        name: "guard",
        environment: "MULTIGRES_GUARD",
        default: "prefer",
        help: "off, prefer or require: whether the database is asked if its tables are protected",
        value: "DEMAND",
        parse: |draft, text| {
            let demands = [
                ("off", GuardDemand::Off),
                ("prefer", GuardDemand::Prefer),
                ("require", GuardDemand::Require),
            ];
            set(&mut draft.guard, word(text, &demands))
        },
    },
    Setting {
        name: "verify_ttl",
        environment: "MULTIGRES_VERIFY_TTL",
        default: "10s",
        help: "how long a good answer to guard serves further logins of a role; 0 asks each time",
        value: "TIME",
        parse: |draft, text| set(&mut draft.verify_ttl, duration(text)),
    },
    Setting {
        name: "tls_cert",
        environment: "MULTIGRES_TLS_CERT",
        default: "",
        help: "PEM file: the certificate that clients are shown, and those up to its CA",
        value: "FILE",
        parse: |draft, text| set(&mut draft.tls.cert, unless_empty(text, certificates)),
    },
    Setting {
        name: "tls_key",
        environment: "MULTIGRES_TLS_KEY",
        default: "",
        help: "PEM file: the key of tls_cert; not encrypted",
        value: "FILE",
        parse: |draft, text| set(&mut draft.tls.key, unless_empty(text, key)),
    },
    Setting {
        name: "tls",
        environment: "MULTIGRES_TLS",
        default: "",
        help: "disable, allow or require TLS on the client leg; allow when tls_cert is set",
        value: "MODE",
        parse: |draft, text| {
            set(&mut draft.tls.client, unless_empty(text, |text| word(text, &CLIENT_TLS)))
        },
    },
    Setting {
        name: "tls_client_ca",
        environment: "MULTIGRES_TLS_CLIENT_CA",
        default: "",
        help: "PEM file: CAs of the certificates that clients are asked for",
        value: "FILE",
        parse: |draft, text| set(&mut draft.tls.client_ca, unless_empty(text, roots)),
    },
    Setting {
        name: "tls_client_cert",
        environment: "MULTIGRES_TLS_CLIENT_CERT",
        default: "",
        help: "request or require: whether a client may have none; require with tls_client_ca",
        value: "MODE",
        parse: |draft, text| {
            set(&mut draft.tls.client_cert, unless_empty(text, |text| word(text, &CLIENT_CERTS)))
        },
    },
    Setting {
        name: "upstream_tls",
        environment: "MULTIGRES_UPSTREAM_TLS",
        default: "",
        help: "disable, prefer, require, verify-ca or verify-full; prefer, on loopback disable",
        value: "MODE",
        parse: |draft, text| {
            set(&mut draft.tls.upstream, unless_empty(text, |text| word(text, &UPSTREAM_TLS)))
        },
    },
    Setting {
        name: "upstream_tls_ca",
        environment: "MULTIGRES_UPSTREAM_TLS_CA",
        default: "",
        help: "PEM file: CAs of PostgreSQL's certificate; the system's for verify-full if empty",
        value: "FILE",
        parse: |draft, text| set(&mut draft.tls.upstream_ca, unless_empty(text, roots)),
    },
    Setting {
        name: "upstream_tls_cert",
        environment: "MULTIGRES_UPSTREAM_TLS_CERT",
        default: "",
        help: "PEM file: a certificate to show to PostgreSQL",
        value: "FILE",
        parse: |draft, text| set(&mut draft.tls.upstream_cert, unless_empty(text, certificates)),
    },
    Setting {
        name: "upstream_tls_key",
        environment: "MULTIGRES_UPSTREAM_TLS_KEY",
        default: "",
        help: "PEM file: the key of upstream_tls_cert; not encrypted",
        value: "FILE",
        parse: |draft, text| set(&mut draft.tls.upstream_key, unless_empty(text, key)),
    },
    Setting {
        name: "upstream_tls_negotiation",
        environment: "MULTIGRES_UPSTREAM_TLS_NEGOTIATION",
        default: "postgres",
        help: "postgres or direct: TLS after asking, or from the first byte (PostgreSQL 17)",
        value: "MODE",
        parse: |draft, text| set(&mut draft.tls.negotiation, word(text, &NEGOTIATIONS)),
    },
];

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

const LOG_LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];
