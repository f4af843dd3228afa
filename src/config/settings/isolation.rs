//! Settings: the seal of a context, and the guard of protected tables.
//! Knows nothing of how either is verified.

use super::{Form, Section, Setting, set, unless_empty, words};
use crate::config::key_file;
use crate::config::value::{duration, word};
use crate::tenant::{GuardDemand, SealBind, SealDemand};

pub(super) const SECTION: Section = Section {
    title: "The seal and the guard",
    settings: &[
        Setting {
            name: "seal_key_file",
            environment: "MULTIGRES_SEAL_KEY_FILE",
            form: Form::File,
            default: "",
            summary: "file with the key that seals each context",
            doc: "The file with the key that seals each context: 64 hex digits, as `multigres
                seal-key` prints them. Only the owner of the file may have access to it; a file of
                root's may be readable for its group. The database gets the same key by
                `select multigres_seal()`. Its policies then accept a tenant from Multigres alone:
                in a session that sets another tenant by SQL they show no rows. Empty means no
                seal.

                Set it when somebody whom you do not trust may run SQL in a session. Give the key
                to Multigres first: with the key it serves a database that is not sealed yet, and
                without the key it refuses logins to a sealed one.",
            parse: |draft, text| set(&mut draft.seal_key, unless_empty(text, key_file::read)),
        },
        Setting {
            name: "seal_bind",
            environment: "MULTIGRES_SEAL_BIND",
            form: Form::Word(&words(&SEAL_BINDS)),
            default: "address",
            summary: "whether a seal is valid in one connection only",
            doc: "- `address`: a seal is valid in one connection only, the one from Multigres'
                  address and port. PostgreSQL must see this same address.
                - `none`: a seal is valid in every connection of the role to the database. The
                  database must be sealed in the same way: `select multigres_seal(bind => 'none')`.

                Change it when PostgreSQL does not see the address of Multigres: behind a unix
                socket, NAT, or a pooler.",
            parse: |draft, text| set(&mut draft.seal_bind, word(text, &SEAL_BINDS)),
        },
        Setting {
            name: "seal",
            environment: "MULTIGRES_SEAL",
            form: Form::Word(&words(&SEAL_DEMANDS)),
            default: "prefer",
            summary: "whether a database without its seal is served",
            doc:
                "- `prefer`: a database that is not sealed is served. The session's line in the log
                  says `seal=off`.
                - `require`: a login to a database that is not sealed is refused.

                Change it to `require` once `multigres_seal()` has been run: a database that is
                restored, or set up anew, without its seal is then noticed.",
            parse: |draft, text| set(&mut draft.seal, word(text, &SEAL_DEMANDS)),
        },
        Setting {
            name: "guard",
            environment: "MULTIGRES_GUARD",
            form: Form::Word(&words(&GUARD_DEMANDS)),
            default: "prefer",
            summary: "whether the database is asked at login if its tables are still protected",
            doc: "Whether Multigres asks the database at login if every table that
                `multigres_protect()` has protected still is: a schema tool may have dropped a
                policy. If one is not, tenants are refused (SQLSTATE 55000), and the log names the
                table.

                - `off`: the database is not asked.
                - `prefer`: it is asked. A database that cannot answer, because `sql/setup.sql` has
                  not been run in it, is served with one warning.
                - `require`: it is asked, and a database that cannot answer is refused.

                Change it to `require` when every database behind Multigres has been set up.",
            parse: |draft, text| set(&mut draft.policy().guard, word(text, &GUARD_DEMANDS)),
        },
        Setting {
            name: "verify_ttl",
            environment: "MULTIGRES_VERIFY_TTL",
            form: Form::Time,
            default: "10s",
            summary: "how long what a login has found of its role and database serves further ones",
            doc: "How long what a login has found also serves further logins of the same role to
                the same database: that the role can be a tenant's, whether the database is sealed,
                and a good answer to `guard`. After a refusal, a failed attempt to connect or other
                settings the next login asks again. 0 asks at every login.

                Change it when a role should be refused sooner after it was given more than a tenant
                may have, or after a table was opened. Asking costs a login more than half of
                PostgreSQL's processor time for it, and more where hundreds of tables are
                protected.",
            parse: |draft, text| set(&mut draft.config.proxy.verify_ttl, duration(text)),
        },
    ],
};

const SEAL_BINDS: [(&str, SealBind); 2] =
    [("address", SealBind::Address), ("none", SealBind::None)];

const SEAL_DEMANDS: [(&str, SealDemand); 2] =
    [("prefer", SealDemand::Prefer), ("require", SealDemand::Require)];

const GUARD_DEMANDS: [(&str, GuardDemand); 3] =
    [("off", GuardDemand::Off), ("prefer", GuardDemand::Prefer), ("require", GuardDemand::Require)];
