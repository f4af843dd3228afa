//! What is asked of the role that a tenant logs in as, and what is said of one that cannot be: it
//! reads past the policies, owns them, or has settings that break the login.
//! Knows nothing of the messages in which it is asked.

use std::borrow::Cow;

use crate::refusal::{Fault, Refusal, sqlstate};
use crate::tenant::hex;

/// A role's name as the batch has it: as it is, or in hexadecimal digits if it is not ASCII.
/// PostgreSQL takes the name in StartupMessage as it stands, and everything else in the client's
/// encoding, in which the same name has other bytes.
pub(super) fn written(role: &[u8]) -> Cow<'_, [u8]> {
    if role.is_ascii() { role.into() } else { hex(role).into_bytes().into() }
}

/// Sets the role, which is the value of this parameter, and answers it as [`written`].
pub(super) fn set_column(role: &[u8], name: usize, value: usize) -> String {
    if role.is_ascii() {
        return format!("pg_catalog.set_config(${name}, ${value}, false)");
    }
    let text = format!("pg_catalog.convert_from(pg_catalog.decode(${value}, 'hex'), {ENCODING})");
    in_digits(&format!("pg_catalog.set_config(${name}, {text}, false)"))
}

/// Current and session user, as [`written`].
pub(super) fn users_columns(role: &[u8]) -> String {
    let users = ["current_user", "session_user"];
    if role.is_ascii() {
        return users.join(", ");
    }
    users.map(|user| in_digits(&format!("{user}::pg_catalog.text"))).join(", ")
}

fn in_digits(text: &str) -> String {
    format!("pg_catalog.encode(pg_catalog.convert_to({text}, {ENCODING}), 'hex')")
}

const ENCODING: &str = "pg_catalog.getdatabaseencoding()";

/// What the answer to [`ROLE_COLUMN`] comes to.
pub(super) fn judge(column: Option<&[u8]>) -> Result<(), Refusal> {
    match planted!(column, PrivilegesUnread => Some(&b"0"[..])) {
        Some(b"0") => Ok(()),
        Some(b"2") => Err(is_owner()),
        Some(_) | None => Err(is_privileged()),
    }
}

pub(super) fn is_privileged() -> Refusal {
    sometimes!(Privileged);
    Refusal::new(
        Fault::Client,
        sqlstate::INVALID_AUTHORIZATION,
        "a privileged role cannot log in as a tenant",
    )
    .detail(
        "It is, or is a member of, a role that row-level security does not bind or that can make \
         itself one: SUPERUSER, BYPASSRLS, CREATEROLE, REPLICATION, pg_read_server_files, \
         pg_write_server_files or pg_execute_server_program.",
    )
    .hint("Use a role without these attributes and memberships.")
}

fn is_owner() -> Refusal {
    sometimes!(Privileged);
    Refusal::new(
        Fault::Client,
        sqlstate::INVALID_AUTHORIZATION,
        "the owner of protected tables cannot log in as a tenant",
    )
    .detail(
        "It owns, or is a member of a role that owns, a table with policies, its schema, or a \
         table or function that policies use: it can open other tenants' rows.",
    )
    .hint(
        "Log in as a role that has privileges on the tables and owns none of them. For migrations \
         add the owner to \"superuser_bypass\" and log in without a tenant.",
    )
}

/// A tenant can change the role's settings for all others, by ALTER ROLE in a session of their own.
pub(super) fn setting_hint(sqlstate: &str, role: &[u8]) -> String {
    let role = String::from_utf8_lossy(role).replace('"', "\"\"");
    match LIMITS.iter().find(|(state, _)| *state == sqlstate) {
        Some((_, setting)) => format!(
            "The role or the database may have a \"{setting}\" that is too short: ALTER ROLE \
             \"{role}\" RESET {setting}. pg_db_role_setting lists what is set."
        ),
        None => SETTINGS_HINT.to_owned(),
    }
}

/// Whether the session can act as a role that reads past row-level
/// security or can get there (1), or that owns what isolates tenants (2), or neither (0).
///
/// CREATEROLE grants itself other roles (before PostgreSQL 16 nearly any), REPLICATION decodes
/// every table's changes by SQL, the `pg_…_server_…` roles read and write the server's files.
///
/// What policies use, their own tables first of all, stands in `pg_depend`, and who owns it in
/// `pg_shdepend`. Who owns a function that they call can write another one, and who owns a schema
/// can put a table of their own in the place of a protected one. Temporary tables do not count: any
/// tenant could make one, with a policy, and keep the others out. OFFSET 0: what costs is asked
/// last, and for few.
pub(super) const ROLE_COLUMN: &str = "CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles AS r \
    WHERE (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolreplication \
    OR r.rolname OPERATOR(pg_catalog.=) ANY (ARRAY['pg_execute_server_program', \
    'pg_read_server_files', 'pg_write_server_files']::pg_catalog.name[])) \
    AND (pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER') \
    OR pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER'))) THEN 1 \
    WHEN EXISTS (SELECT FROM pg_catalog.pg_roles AS r \
    WHERE (pg_catalog.pg_has_role(session_user, r.oid, 'MEMBER') \
    OR pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER')) \
    AND EXISTS (SELECT FROM pg_catalog.pg_shdepend AS s, pg_catalog.pg_depend AS d, \
    pg_catalog.pg_policy AS p, pg_catalog.pg_class AS c \
    WHERE s.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_authid'::pg_catalog.regclass \
    AND s.refobjid OPERATOR(pg_catalog.=) r.oid AND s.deptype OPERATOR(pg_catalog.=) 'o' \
    AND s.dbid OPERATOR(pg_catalog.=) (SELECT b.oid FROM pg_catalog.pg_database AS b \
    WHERE b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
    AND d.refclassid OPERATOR(pg_catalog.=) s.classid \
    AND d.refobjid OPERATOR(pg_catalog.=) s.objid \
    AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_policy'::pg_catalog.regclass \
    AND p.oid OPERATOR(pg_catalog.=) d.objid AND c.oid OPERATOR(pg_catalog.=) p.polrelid \
    AND c.relpersistence OPERATOR(pg_catalog.<>) 't'::\"char\" OFFSET 0)) \
    OR EXISTS (SELECT FROM pg_catalog.pg_namespace AS n \
    WHERE (pg_catalog.pg_has_role(session_user, n.nspowner, 'MEMBER') \
    OR pg_catalog.pg_has_role(current_user, n.nspowner, 'MEMBER')) \
    AND EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relrowsecurity \
    AND c.relpersistence OPERATOR(pg_catalog.<>) 't'::\"char\" \
    AND c.relnamespace OPERATOR(pg_catalog.=) n.oid OFFSET 0)) THEN 2 \
    ELSE 0 END";

pub(super) const PID_COLUMN: &str = "pg_catalog.pg_backend_pid()";

/// Where the setting is not known.
pub(crate) const SETTINGS_HINT: &str = "A setting of the role or the database may be the cause: \
    pg_db_role_setting lists them, and ALTER ROLE ... RESET takes one away.";

/// What PostgreSQL says when one of its limits has come, which a role can set for itself.
const LIMITS: [(&str, &str); 5] = [
    ("57014", "statement_timeout"),
    ("55P03", "lock_timeout"),
    ("57P05", "idle_session_timeout"),
    ("25P03", "idle_in_transaction_session_timeout"),
    ("25P04", "transaction_timeout"),
];
