//! The statements that bind a context to a session and prove it, as data: each says what it asks
//! for and what must be answered.
//! Knows nothing of who sends it, or of how much of the answer has come.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::findings::Findings;
use super::guard::{self, Guard};
use super::role::{PID_COLUMN, ROLE_COLUMN, set_column, users_columns, written};
use super::seal::{IS_SEALED_COLUMN, KEYS_REACHED_COLUMN, SEAL_KEYS_COLUMN};
use crate::protocol::backend::tag;
use crate::protocol::frontend;
use crate::tenant::{Context, GuardDemand, Policy, Pooler, SealDemand, Tenant};

/// Statements in one implicit transaction. Every name in them is qualified and every value a bound
/// parameter, so that neither `search_path` nor what a client sent can change what is said.
pub(crate) struct Batch {
    statements: Vec<Statement>,
    /// Under which all of this happens.
    role: Bytes,
    /// What it does not ask for, since an earlier one was told.
    kept: Findings,
}

/// A SELECT of one row.
pub(crate) struct Statement {
    sql: String,
    parameters: Vec<Bytes>,
    row: Vec<Expected>,
}

/// What must stand in some columns of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// These values, one a column.
    Values(Source, Vec<Bytes>),
    /// One column: the role neither gets past row-level security nor owns what isolates tenants.
    OrdinaryRole,
    /// One column: the pid of BackendKeyData.
    BackendPid,
    /// One column: a pid, which says nothing behind a pooler.
    AnyPid,
    /// One column: the database has no keys for seals.
    NoSealKeys,
    /// Two columns: the database asks for seals as it is to, and the role does not reach the keys.
    Seals(SealDemand),
    /// One column: the guard holds everything.
    Guard {
        demand: GuardDemand,
        /// Only the spelling of the tenant is asked for: an earlier verdict still counts.
        is_verdict_kept: bool,
    },
}

/// Where values are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The session's defaults, which StartupMessage has set.
    Defaults,
    /// What set_config() has set.
    Set,
    /// The session as it now is.
    Current,
    /// `current_user` and `session_user`.
    Users,
    /// `multigres_context()`, which verifies the seals.
    Verified,
}

/// One message of the answer.
#[derive(Clone, Copy)]
pub(crate) enum Reply<'a> {
    ParseComplete,
    BindComplete,
    DataRow(&'a Statement),
    CommandComplete,
    CloseComplete,
    ReadyForQuery,
}

impl Batch {
    /// Reads the defaults, binds, and reads the session back. What a login before this one has
    /// found of the role and the database, if that still counts, is not asked for again.
    pub(crate) fn new(
        tenant: &Tenant,
        context: &Context,
        policy: &Policy,
        kept: Option<Findings>,
    ) -> Self {
        let mut statements = Vec::new();
        // Behind a pooler StartupMessage has set no defaults.
        if policy.upstream_pooler == Pooler::None {
            statements.push(defaults(context));
        }
        statements.push(bind(tenant, context));
        statements.push(read_back(tenant, context, policy, kept));
        let role = Bytes::copy_from_slice(tenant.role());
        Batch { statements, role, kept: kept.unwrap_or_default() }
    }

    /// Appends its messages, up to Sync.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        for statement in &self.statements {
            frontend::put_parse(out, &statement.sql, statement.parameters.len());
            frontend::put_bind(out, &statement.parameters);
            frontend::put_execute(out);
        }
        frontend::put_close_statement(out);
        frontend::put_sync(out);
    }

    /// The message of the answer at this place, from 0. ReadyForQuery is the last.
    pub(crate) fn reply(&self, at: usize) -> Reply<'_> {
        let (statement, message) = (at / STATEMENT_REPLIES, at % STATEMENT_REPLIES);
        match (self.statements.get(statement), message) {
            (Some(_), 0) => Reply::ParseComplete,
            (Some(_), 1) => Reply::BindComplete,
            (Some(statement), 2) => Reply::DataRow(statement),
            (Some(_), _) => Reply::CommandComplete,
            (None, 0) => Reply::CloseComplete,
            (None, _) => Reply::ReadyForQuery,
        }
    }

    /// What is known before it is answered.
    pub(crate) fn kept(&self) -> Findings {
        self.kept
    }

    /// The role under which it runs.
    pub(crate) fn role(&self) -> &[u8] {
        &self.role
    }

    /// Whether the statement that this message of the answer belongs to asks for something that
    /// fits.
    pub(crate) fn asks(&self, at: usize, fits: impl Fn(&Expected) -> bool) -> bool {
        let statement = self.statements.get(at / STATEMENT_REPLIES);
        statement.is_some_and(|statement| statement.row.iter().any(fits))
    }
}

impl Statement {
    fn select<'a>(parameters: impl Iterator<Item = &'a Bytes>) -> Self {
        Statement {
            sql: String::from("SELECT"),
            parameters: parameters.cloned().collect(),
            row: Vec::new(),
        }
    }

    /// Asks for one more column, or several, of which this is expected.
    fn column(mut self, sql: &str, expected: Expected) -> Self {
        self.sql.push_str(if self.row.is_empty() { " " } else { ", " });
        self.sql.push_str(sql);
        self.row.push(expected);
        self
    }

    /// What its row must say, from left to right.
    pub(crate) fn row(&self) -> &[Expected] {
        &self.row
    }
}

impl Expected {
    /// How many columns it is about.
    pub(crate) fn columns(&self) -> usize {
        match self {
            Expected::Values(_, values) => values.len(),
            Expected::Seals(_) => 2,
            Expected::OrdinaryRole
            | Expected::BackendPid
            | Expected::AnyPid
            | Expected::NoSealKeys
            | Expected::Guard { .. } => 1,
        }
    }
}

/// By its name in PostgreSQL's manual.
impl fmt::Display for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reply::ParseComplete => "ParseComplete",
            Reply::BindComplete => "BindComplete",
            Reply::DataRow(_) => "DataRow",
            Reply::CommandComplete => "CommandComplete",
            Reply::CloseComplete => "CloseComplete",
            Reply::ReadyForQuery => "ReadyForQuery",
        })
    }
}

impl Reply<'_> {
    pub(crate) fn tag(self) -> u8 {
        match self {
            Reply::ParseComplete => tag::PARSE_COMPLETE,
            Reply::BindComplete => tag::BIND_COMPLETE,
            Reply::DataRow(_) => tag::DATA_ROW,
            Reply::CommandComplete => tag::COMMAND_COMPLETE,
            Reply::CloseComplete => tag::CLOSE_COMPLETE,
            Reply::ReadyForQuery => tag::READY_FOR_QUERY,
        }
    }
}

fn defaults(context: &Context) -> Statement {
    let expected = Expected::Values(Source::Defaults, values(context));
    Statement::select(names(context)).column(&current_settings(context), expected)
}

fn bind(tenant: &Tenant, context: &Context) -> Statement {
    let role = Bytes::copy_from_slice(&written(tenant.role()));
    let pairs = context.parameters().iter().flat_map(|(name, value)| [name, value]);
    let variable = Bytes::from_static(b"role");
    let count = context.parameters().len();
    let columns = (0..count)
        .map(|at| format!("pg_catalog.set_config(${}, ${}, false)", 2 * at + 1, 2 * at + 2))
        .chain([set_column(tenant.role(), 2 * count + 1, 2 * count + 2)]);
    let columns = columns.collect::<Vec<_>>().join(", ");
    let mut values = values(context);
    values.push(role.clone());
    Statement::select(pairs.chain([&variable, &role]))
        .column(&columns, Expected::Values(Source::Set, values))
}

fn read_back(
    tenant: &Tenant,
    context: &Context,
    policy: &Policy,
    kept: Option<Findings>,
) -> Statement {
    let role = Bytes::copy_from_slice(&written(tenant.role()));
    let pid = match policy.upstream_pooler {
        Pooler::None => Expected::BackendPid,
        Pooler::Session => Expected::AnyPid,
    };
    let mut statement = Statement::select(names(context))
        .column(&current_settings(context), Expected::Values(Source::Current, values(context)))
        .column(
            &users_columns(tenant.role()),
            Expected::Values(Source::Users, vec![role.clone(), role]),
        );
    if kept.is_none() {
        statement = statement.column(ROLE_COLUMN, Expected::OrdinaryRole);
    }
    statement = statement.column(PID_COLUMN, pid);
    if policy.seal.is_some() {
        // Each variable's seal stands behind it.
        let variables = (1..=context.parameters().len()).step_by(2);
        let columns = calls("public.multigres_context", variables, "");
        let values = tenant.values().to_vec();
        statement = statement.column(&columns, Expected::Values(Source::Verified, values));
    }
    if kept.is_none() {
        statement = match &policy.seal {
            None => statement.column(SEAL_KEYS_COLUMN, Expected::NoSealKeys),
            Some(seal) => statement.column(
                &format!("{IS_SEALED_COLUMN}, {KEYS_REACHED_COLUMN}"),
                Expected::Seals(seal.demand),
            ),
        };
    }
    let is_verdict_kept = kept.is_some_and(|kept| kept.guard == Some(Guard::Held));
    match policy.guard {
        GuardDemand::Off => statement,
        demand @ (GuardDemand::Prefer | GuardDemand::Require) => statement
            .column(&guard::column(is_verdict_kept), Expected::Guard { demand, is_verdict_kept }),
    }
}

fn names(context: &Context) -> impl Iterator<Item = &Bytes> {
    context.parameters().iter().map(|(name, _)| name)
}

fn values(context: &Context) -> Vec<Bytes> {
    context.parameters().iter().map(|(_, value)| value.clone()).collect()
}

fn current_settings(context: &Context) -> String {
    calls("pg_catalog.current_setting", 1..=context.parameters().len(), ", true")
}

/// A call of the function for each parameter of these numbers.
fn calls(function: &str, numbers: impl Iterator<Item = usize>, rest: &str) -> String {
    let calls: Vec<_> = numbers.map(|at| format!("{function}(${at}{rest})")).collect();
    calls.join(", ")
}

/// ParseComplete, BindComplete, DataRow, CommandComplete.
const STATEMENT_REPLIES: usize = 4;
