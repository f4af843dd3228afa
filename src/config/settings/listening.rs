//! Settings: where clients connect, and how many may.
//! Knows nothing of how a socket listens.

use super::{Form, Section, Setting, set};
use crate::config::value::{listen_hosts, port, whole};

pub(super) const SECTION: Section = Section {
    title: "Listening",
    settings: &[
        Setting {
            name: "port",
            environment: "MULTIGRES_PORT",
            form: Form::Port(0),
            default: "6432",
            summary: "TCP port to listen on",
            doc:
                "The TCP port to listen on, and the number in the name of a unix socket. With 0 the
                kernel chooses a free port, and the log says which one.

                Change it when another program has the port: 6432 is also the default of
                PgBouncer.",
            parse: |draft, text| set(&mut draft.config.port, port(text, 0)),
        },
        Setting {
            name: "listen_host",
            environment: "MULTIGRES_HOST",
            form: Form::Hosts,
            default: "127.0.0.1",
            summary: "addresses, host names, `*` or unix socket directories to listen on",
            doc:
                "Where to listen: IP addresses, host names, `*` for every address of the machine, or
                absolute directories. In a directory Multigres makes the unix socket
                `.s.PGSQL.<port>`.

                Change it when clients are on other machines, and set `tls_cert` with it unless you
                trust the network.",
            parse: |draft, text| {
                let hosts = listen_hosts(text).and_then(|hosts| {
                    if hosts.is_empty() { Err("at least one is needed".into()) } else { Ok(hosts) }
                });
                set(&mut draft.config.listen_hosts, hosts)
            },
        },
        Setting {
            name: "max_connections",
            environment: "MULTIGRES_MAX_CONNECTIONS",
            form: Form::Count(1, CONNECTIONS_MAX),
            default: "1000",
            summary: "sessions at one time",
            doc:
                "How many sessions there may be at one time. The next login is refused with SQLSTATE
                53300. Each session has a connection to PostgreSQL of its own.

                Change it to fit PostgreSQL's `max_connections`: keep it below, by as many as other
                clients of PostgreSQL use.",
            parse: |draft, text| {
                set(&mut draft.config.proxy.connections_max, whole(text, 1, CONNECTIONS_MAX))
            },
        },
    ],
};

const CONNECTIONS_MAX: usize = 1_000_000;
