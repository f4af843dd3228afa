//! Settings: where PostgreSQL is.
//! Knows nothing of how it is connected to.

use super::{Form, Section, Setting, set, words};
use crate::config::value::{port, positive_duration, upstream_host, word};
use crate::tenant::Pooler;

pub(super) const SECTION: Section = Section {
    title: "PostgreSQL",
    settings: &[
        Setting {
            name: "upstream_host",
            environment: "MULTIGRES_UPSTREAM_HOST",
            form: Form::Host,
            default: "127.0.0.1",
            summary: "PostgreSQL's address, host name or unix socket directory",
            doc:
                "Where PostgreSQL listens: an IP address, a host name, or the absolute directory of
                its unix socket, for example `/run/postgresql`. All addresses of a name are tried
                in order.

                Change it when PostgreSQL runs on another machine; see `upstream_tls` then.",
            parse: |draft, text| set(&mut draft.upstream_host, upstream_host(text)),
        },
        Setting {
            name: "upstream_port",
            environment: "MULTIGRES_UPSTREAM_PORT",
            form: Form::Port(1),
            default: "5432",
            summary: "PostgreSQL's port",
            doc: "PostgreSQL's TCP port, and the number in the name of its unix socket.

                Change it when PostgreSQL's own `port` is another one.",
            parse: |draft, text| set(&mut draft.upstream_port, port(text, 1)),
        },
        Setting {
            name: "upstream_connect_timeout",
            environment: "MULTIGRES_UPSTREAM_CONNECT_TIMEOUT",
            form: Form::TimeAboveZero,
            default: "10s",
            summary: "longest wait for a connection to one address of PostgreSQL",
            doc: "How long one attempt to connect to one address of PostgreSQL may take, and the
                look-up of a host name. After the last address the client gets SQLSTATE 57P03. A
                client that knows other hosts then tries the next one. `pg_isready -U
                app_user.acme` reports that connections are rejected; without a tenant in the user
                name it reports that Multigres answers.

                Change it when PostgreSQL is far away, or when clients should learn sooner that it
                does not answer.",
            parse: |draft, text| {
                let timeout = positive_duration(text);
                set(&mut draft.config.proxy.upstream_connect_timeout, timeout)
            },
        },
        Setting {
            name: "upstream_pooler",
            environment: "MULTIGRES_UPSTREAM_POOLER",
            form: Form::Word(&words(&POOLERS)),
            default: "none",
            summary: "the pooler between Multigres and PostgreSQL",
            doc: "- `none`: Multigres connects to PostgreSQL itself. It refuses a login (SQLSTATE
                  08004) when it finds a pooler in between.
                - `session`: a pooler in session mode is in between. The pooler must give a
                  connection to one client at a time, and reset it before the next client
                  (PgBouncer: `server_reset_query = DISCARD ALL`). The tenant is then not the
                  session's default: after a `DISCARD ALL` or `RESET ALL` of its own a client has
                  no tenant and sees no rows. A client may not send `options`.

                A pooler in transaction or statement mode cannot be used: it gives the session of
                one tenant to another.

                Change it when the connections of Multigres go through a pooler.",
            parse: |draft, text| set(&mut draft.policy().upstream_pooler, word(text, &POOLERS)),
        },
    ],
};

const POOLERS: [(&str, Pooler); 2] = [("none", Pooler::None), ("session", Pooler::Session)];
