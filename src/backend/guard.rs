//! The question whether the database still holds apart what it protects, asked with the context.
//! Knows nothing of how long an answer is kept, or by whom.

use crate::refusal::{Fault, Refusal, sqlstate};
use crate::tenant::GuardDemand;

/// What is known of the database's guard when the pipe opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// A login before this one was told that all is held, and that still counts.
    Kept,
    /// All is held.
    Held,
    /// The database does not have the guard's function.
    Absent,
}

/// The column that asks. `kept`: the verdict need not be asked for again, the spelling of the
/// tenant must.
///
/// A function that may not be there cannot be named in the statement itself; query_to_xml() runs a
/// text, and CASE has it run only where the function belongs to somebody who would run setup.sql.
/// Where CREATE in schema public is granted, anybody else could have laid one there, which the
/// planner would run in spite of the CASE if it were named there and IMMUTABLE. Nothing from a
/// client is in that text.
pub(super) fn column(kept: bool) -> String {
    let verdict = "'open: ' OPERATOR(pg_catalog.||) public.multigres_verdict(), ";
    let asked = if kept { "" } else { verdict };
    let query = format!(
        "SELECT COALESCE ({asked}\
         'tenant: ' OPERATOR(pg_catalog.||) public.multigres_misspelt(), 'held') AS verdict"
    );
    format!(
        "CASE WHEN NOT EXISTS ({FUNCTION}) THEN CASE WHEN EXISTS ({RECORD}) THEN 'lost' \
         ELSE 'absent' END \
         WHEN EXISTS ({FUNCTION} AND EXISTS ({OWNER})) THEN pg_catalog.substring(\
         pg_catalog.query_to_xml('{}', false, true, '')::pg_catalog.text, \
         '<verdict>(.*)</verdict>') ELSE 'foreign' END",
        query.replace('\'', "''")
    )
}

/// What its answer comes to.
///
/// # Errors
/// A refusal unless all is held, or the database has no guard and needs none.
pub(super) fn judge(
    column: Option<&[u8]>,
    kept: bool,
    demand: GuardDemand,
) -> Result<Guard, Refusal> {
    let text = column.map(|text| unescape(&String::from_utf8_lossy(text)));
    match planted!(text.as_deref(), GuardUnread => Some("held")) {
        Some("held") if kept => Ok(Guard::Kept),
        Some("held") => Ok(Guard::Held),
        Some("absent") if demand == GuardDemand::Prefer => Ok(Guard::Absent),
        Some("absent") => Err(unknown("public.multigres_verdict() does not exist").hint(
            "Run sql/setup.sql of this version in the database; with \"guard = prefer\" it is \
             served as it is.",
        )),
        Some("lost") => Err(unknown(
            "public.multigres_verdict() is gone, and multigres.protected is not: schema public \
             was dropped",
        )
        .hint("Run sql/setup.sql in the database, and protect its tables again.")),
        Some("foreign") => Err(unknown(
            "public.multigres_verdict() belongs to a role that is no superuser, does not own the \
             database and may not create roles",
        )
        .hint(
            "If that role has run sql/setup.sql, make it the owner of the database or give it \
             CREATEROLE; if not, drop the function and run sql/setup.sql.",
        )),
        Some(text) => match (text.strip_prefix("open: "), text.strip_prefix("tenant: ")) {
            (Some(open), _) => Err(is_open(open)),
            (None, Some(spelling)) => Err(is_misspelt(spelling)),
            (None, None) => Err(unknown("neither held nor open")),
        },
        None => Err(unknown("no verdict")),
    }
}

/// Whether this is the refusal of a database in which something is open: an error for whoever
/// runs it, whereas the client can do nothing.
pub fn is_alarm(refusal: &Refusal) -> bool {
    refusal.sqlstate == sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE
}

/// The client is not told which table: it may be of another tenant's business.
fn is_open(what: &str) -> Refusal {
    sometimes!(GuardOpen);
    refuse("the database does not hold its tenants apart", what)
        .detail("A table of it is no longer protected as it was, or this role gets past that.")
        .hint(
            "The log of Multigres says which. SELECT multigres_protect(TABLE) protects it again, \
             SELECT multigres_unprotect(TABLE) is the way to open it, and SELECT \
             multigres_forget(NAME) lets go of a name that another table has now.",
        )
}

fn unknown(private: impl Into<String>) -> Refusal {
    refuse("it is not known whether the database holds its tenants apart", private)
}

fn refuse(public: &'static str, private: impl Into<String>) -> Refusal {
    Refusal::new(Fault::Upstream, sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE, public)
        .private(private)
}

fn is_misspelt(spelling: &str) -> Refusal {
    let (message, hint) = if spelling.starts_with("must be spelt") {
        (
            "the tenant is not spelt as the database has it",
            "Log in with the value in that spelling.",
        )
    } else {
        (
            "the tenant is not a value of the type that the database has for it",
            "Log in with a value of that type.",
        )
    };
    Refusal::new(Fault::Client, sqlstate::INVALID_PARAMETER_VALUE, message)
        .detail(format!("The value {spelling}."))
        .hint(hint)
}

/// What query_to_xml() writes for these, undone.
fn unescape(xml: &str) -> String {
    xml.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// Whether an error is about a function of the guard.
pub(super) fn is_in(text: &str) -> bool {
    ["multigres_verdict", "multigres_misspelt"].iter().any(|name| text.contains(name))
}

/// A server that was built without libxml cannot run the question; None for any other error.
pub(super) fn xml_hint(state: &str) -> Option<&'static str> {
    (state == sqlstate::FEATURE_NOT_SUPPORTED).then_some(
        "The question whether tables are still protected needs a PostgreSQL that was built with \
         libxml; \"guard = off\" does without it.",
    )
}

const FUNCTION: &str = "SELECT FROM pg_catalog.pg_proc AS p, pg_catalog.pg_namespace AS n \
    WHERE p.proname OPERATOR(pg_catalog.=) 'multigres_verdict' \
    AND p.pronargs OPERATOR(pg_catalog.=) 0 \
    AND p.pronamespace OPERATOR(pg_catalog.=) n.oid \
    AND n.nspname OPERATOR(pg_catalog.=) 'public'";

const OWNER: &str = "SELECT FROM pg_catalog.pg_roles AS r, pg_catalog.pg_database AS d \
    WHERE r.oid OPERATOR(pg_catalog.=) p.proowner \
    AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() \
    AND (r.rolsuper OR r.rolcreaterole OR r.oid OPERATOR(pg_catalog.=) d.datdba)";

const RECORD: &str = "SELECT FROM pg_catalog.pg_class AS c, pg_catalog.pg_namespace AS n \
    WHERE c.relname OPERATOR(pg_catalog.=) 'protected' \
    AND c.relnamespace OPERATOR(pg_catalog.=) n.oid \
    AND n.nspname OPERATOR(pg_catalog.=) 'multigres'";
