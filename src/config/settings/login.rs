//! Settings: how a client logs in.
//! Knows nothing of authentication's messages.

use super::{Form, Section, Setting, set, words};
use crate::config::value::{SWITCH, positive_duration, word};
use crate::session::Auth;

pub(super) const SECTION: Section = Section {
    title: "Logging in",
    settings: &[
        Setting {
            name: "auth",
            environment: "MULTIGRES_AUTH",
            form: Form::Word(&words(&AUTHS)),
            default: "auto",
            summary: "who answers PostgreSQL's authentication request",
            doc:
                "- `auto`: the client answers, and Multigres relays the messages. Where that cannot
                  work, Multigres asks the client for its password and answers PostgreSQL itself.
                  This is so with MD5, whose hash contains the user name, and with SCRAM when both
                  connections have TLS.
                - `relay`: the client answers. A login by MD5 is refused.
                - `password`: Multigres always asks the client for its password.

                docs/encryption.md says what this means for channel binding. Change it to `relay`
                when no password may be known to Multigres.",
            parse: |draft, text| set(&mut draft.session().auth, word(text, &AUTHS)),
        },
        Setting {
            name: "allow_cleartext_password",
            environment: "MULTIGRES_ALLOW_CLEARTEXT_PASSWORD",
            form: Form::Word(&words(&SWITCH)),
            default: "off",
            summary: "whether a password may cross a network without TLS",
            doc:
                "- `off`: Multigres asks a client for its password, and lets PostgreSQL ask for one,
                  only inside TLS, on loopback addresses and on unix sockets.
                - `on`: on every connection.

                Change it only for a network on which nobody can listen.",
            parse: |draft, text| {
                set(&mut draft.session().allow_cleartext_password, word(text, &SWITCH))
            },
        },
        Setting {
            name: "login_timeout",
            environment: "MULTIGRES_LOGIN_TIMEOUT",
            form: Form::TimeAboveZero,
            default: "60s",
            summary: "longest time from a client's connection to the end of its login",
            doc: "How long a login may take, from the client's connection to the first
                ReadyForQuery. Then the client gets SQLSTATE 57014.

                Change it when a login needs longer, because people type their passwords or
                PostgreSQL asks another server, or when connections that never log in should be
                closed sooner.",
            parse: |draft, text| {
                set(&mut draft.config.proxy.login_timeout, positive_duration(text))
            },
        },
    ],
};

const AUTHS: [(&str, Auth); 3] =
    [("auto", Auth::Auto), ("relay", Auth::Relay), ("password", Auth::Password)];
