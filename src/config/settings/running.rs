//! Settings: sessions that idle, and the log.
//! Knows nothing of what is logged.

use log::LevelFilter;

use super::{Form, Section, Setting, set, words};
use crate::config::value::{duration, word};

pub(super) const SECTION: Section = Section {
    title: "Running",
    settings: &[
        Setting {
            name: "idle_timeout",
            environment: "MULTIGRES_IDLE_TIMEOUT",
            form: Form::Time,
            default: "0",
            summary: "how long a session may be idle; 0 is for ever",
            doc: "How long a session may exist without a byte in either direction; then it is
                closed. 0 means for ever. A client that waits for a long query, or for a
                notification, moves no bytes either.

                Change it when clients leave connections open that they do not use.",
            parse: |draft, text| {
                let timeout = duration(text).map(|time| Some(time).filter(|time| !time.is_zero()));
                set(&mut draft.config.proxy.idle_timeout, timeout)
            },
        },
        Setting {
            name: "log_level",
            environment: "MULTIGRES_LOG_LEVEL",
            form: Form::Word(&words(&LOG_LEVELS)),
            default: "info",
            summary: "how much is logged",
            doc:
                "How much is logged to standard error. `info` logs one line when a session is up and
                one when it ends, and refusals. `debug` adds addresses of PostgreSQL that cannot be
                connected to, clients that leave during their login, and cancel requests; `trace`
                adds nothing of Multigres' own. No level logs passwords, keys or SQL. Multigres
                never waits for the reader of its log: when the reader stops, a line says later how
                many lines were lost.

                Change it to `debug` while you look for clients that disappear or for an address
                that does not answer.",
            parse: |draft, text| set(&mut draft.config.log_level, word(text, &LOG_LEVELS)),
        },
    ],
};

const LOG_LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];
