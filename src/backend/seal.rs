//! What is asked of a database about the seals of the context, and what is said of its answer.
//! Knows nothing of the messages in which it is asked.

use super::not_bound;
use crate::refusal::Refusal;
use crate::tenant::{SEAL_BIND_HINT, SealDemand};

/// With a key: whether the database asks for seals. The role must not reach the keys.
pub(super) fn judge(
    asks: Option<&[u8]>,
    reached: Option<&[u8]>,
    demand: SealDemand,
) -> Result<bool, Refusal> {
    sometimes!(SealFits);
    let reached = planted!(reached, ReachedUnread => None);
    if let Some(how) = reached {
        sometimes!(KeysReached);
        return Err(reaches_keys(how));
    }
    match (asks, demand) {
        (Some(b"t"), _) => Ok(true),
        (Some(b"f"), SealDemand::Prefer) => Ok(false),
        (Some(b"f"), SealDemand::Require) => Err(is_not_sealed()),
        (None, _) => Err(is_foreign()),
        (Some(_), _) => Err(not_bound("neither sealed nor not")),
    }
}

/// Without a key: the database must not ask for seals.
pub(super) fn judge_unsealed(tables_of_keys: Option<&[u8]>) -> Result<(), Refusal> {
    match planted!(tables_of_keys, SealedUnnoticed => Some(&b"0"[..])) {
        Some(b"0") => Ok(()),
        Some(_) | None => {
            sometimes!(SealKeyMissing);
            Err(not_bound("a table of seal keys exists")
                .detail("The database is sealed, and Multigres has no key.")
                .hint(
                    "Set \"seal_key_file\" to the key that multigres_seal() has stored, or run \
                     multigres_unseal() in the database.",
                ))
        }
    }
}

/// PostgreSQL does not see the context through the seals.
pub(super) fn misfits() -> Refusal {
    sometimes!(SealMisfits);
    not_bound("multigres_context() answers with other values")
        .detail("The database does not accept the seal of the context.")
        .hint(format!(
            "\"seal_key_file\" must hold the key that multigres_seal() has stored, and \
             sql/setup.sql must be of this version. {SEAL_BIND_HINT}"
        ))
}

fn reaches_keys(how: &[u8]) -> Refusal {
    not_bound(format!("the seal keys are not safe: {}", how.escape_ascii()))
        .detail("Others than their owner may read or change the keys of the seal in the database.")
        .hint(
            "Multigres' log says by which right. Revoke it, and change the key if a tenant had it: \
             multigres_seal() with a new one, which also goes into \"seal_key_file\".",
        )
}

fn is_not_sealed() -> Refusal {
    not_bound("multigres_context() answers for a variable that has no seal")
        .detail("The database is not sealed, and \"seal = require\".")
        .hint(
            "Run select multigres_seal() in the database, with the key of \"seal_key_file\" in the \
             setting multigres.seal_key; with \"seal = prefer\" it is served as it is.",
        )
}

fn is_foreign() -> Refusal {
    not_bound("multigres_context() asks for seals and belongs to no administrator")
        .detail(
            "public.multigres_context(text) belongs to a role that is no superuser, does not own \
             the database and may not create roles.",
        )
        .hint(
            "If that role has run sql/setup.sql, make it the owner of the database or give it \
             CREATEROLE; if not, drop the function and run sql/setup.sql.",
        )
}

/// Whether the database is sealed: its keys' table stands only then, where it is now or where an
/// older `setup.sql` has it.
pub(super) const SEAL_KEYS_COLUMN: &str = "(SELECT pg_catalog.count(*) \
    FROM pg_catalog.pg_class AS c, pg_catalog.pg_namespace AS n \
    WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid \
    AND (c.relname OPERATOR(pg_catalog.=) 'seal_keys' \
    AND n.nspname OPERATOR(pg_catalog.=) 'multigres' \
    OR c.relname OPERATOR(pg_catalog.=) 'multigres_seal_keys' \
    AND n.nspname OPERATOR(pg_catalog.=) 'public'))";

/// How the session's role may reach the keys of the seal; NULL when it does not. Any right but the
/// owner's on their table or a column of it counts, whoever has it: to look for the roles that this
/// one can become would cost each login a millisecond. In schema public, where an older `setup.sql`
/// has the table and others may create one, that of the function's owner alone counts.
pub(super) const KEYS_REACHED_COLUMN: &str = "(SELECT pg_catalog.string_agg(CASE \
    WHEN pg_catalog.pg_has_role(session_user, c.relowner, 'MEMBER') \
    THEN 'the role can act as their owner' \
    WHEN c.relacl OPERATOR(pg_catalog.<>) pg_catalog.acldefault('r', c.relowner) \
    THEN pg_catalog.concat('rights on their table are ', c.relacl) \
    WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute AS f \
    WHERE f.attrelid OPERATOR(pg_catalog.=) c.oid AND f.attacl IS NOT NULL) \
    THEN 'a column of their table is granted' \
    WHEN pg_catalog.pg_has_role(session_user, \
    pg_catalog.to_regrole('pg_read_all_data'), 'MEMBER') \
    OR pg_catalog.pg_has_role(session_user, \
    pg_catalog.to_regrole('pg_write_all_data'), 'MEMBER') \
    THEN 'the role can act as pg_read_all_data or pg_write_all_data' END, ', ') \
    FROM pg_catalog.pg_class AS c, pg_catalog.pg_namespace AS n \
    WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid \
    AND (c.relname OPERATOR(pg_catalog.=) 'seal_keys' \
    AND n.nspname OPERATOR(pg_catalog.=) 'multigres' \
    OR c.relname OPERATOR(pg_catalog.=) 'multigres_seal_keys' \
    AND n.nspname OPERATOR(pg_catalog.=) 'public' \
    AND c.relowner OPERATOR(pg_catalog.=) (SELECT p.proowner FROM pg_catalog.pg_proc AS p \
    WHERE p.oid OPERATOR(pg_catalog.=) \
    'public.multigres_context(pg_catalog.text)'::pg_catalog.regprocedure)))";

/// Whether multigres_context() asks for seals: of a setting that everyone has and that cannot have
/// a seal. What it does is asked, and not which objects there are, for a role with CREATE in schema
/// public could lay those there. It could lay there a function, too, that says what is wanted: NULL
/// where the function belongs to nobody who would run setup.sql.
pub(super) const IS_SEALED_COLUMN: &str = "CASE \
    WHEN public.multigres_context('server_version'::pg_catalog.text) IS NOT NULL THEN false \
    WHEN EXISTS (SELECT FROM pg_catalog.pg_proc AS p, pg_catalog.pg_roles AS r, \
    pg_catalog.pg_database AS d \
    WHERE p.oid OPERATOR(pg_catalog.=) \
    'public.multigres_context(pg_catalog.text)'::pg_catalog.regprocedure \
    AND r.oid OPERATOR(pg_catalog.=) p.proowner \
    AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() \
    AND (r.rolsuper OR r.rolcreaterole OR r.oid OPERATOR(pg_catalog.=) d.datdba)) THEN true END";

/// `undefined_function`, `invalid_schema_name`, `insufficient_privilege`.
pub(super) const NOT_CALLABLE: [&str; 3] = ["42883", "3F000", "42501"];

pub(super) const NO_FUNCTION: &str =
    "The role cannot call public.multigres_context(text), which checks the seal of the context.";

pub(super) const SETUP_HINT: &str = "Run sql/setup.sql of this version in the database, then \
    multigres_seal() with the key in \"seal_key_file\".";
