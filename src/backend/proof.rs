//! The answer to a batch, message by message: it proves the binding, or refuses the login.
//! Knows nothing of what else upstream says, or of who waits for the proof.

use bytes::Bytes;

use super::batch::{Batch, Expected, Reply, Source, Statement};
use super::findings::Findings;
use super::guard;
use super::{not_bound, role, seal};
use crate::protocol::Message;
use crate::protocol::backend::{self, tag};
use crate::refusal::{Fault, Refusal};

/// How far the answer to a batch has come, and what it has said.
pub(crate) struct Proof {
    batch: Batch,
    /// How many messages of the answer have come.
    replies: usize,
    findings: Findings,
}

/// Of a row, in text.
type Columns<'a> = &'a [Option<&'a [u8]>];

impl Proof {
    /// Nothing of the answer has come.
    pub(crate) fn new(batch: Batch) -> Self {
        Proof { findings: batch.kept(), batch, replies: 0 }
    }

    pub(crate) fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Takes the next message of the answer; with the last one the findings, which prove that the
    /// context is bound. `backend_pid` is the one of BackendKeyData.
    ///
    /// # Errors
    /// A refusal for anything but the expected message.
    pub(crate) fn take(
        &mut self,
        message: &Message,
        backend_pid: Option<i32>,
    ) -> Result<Option<Findings>, Refusal> {
        if message.tag() == tag::ERROR_RESPONSE {
            return Err(self.failed(message));
        }
        let reply = self.batch.reply(self.replies);
        if message.tag() != reply.tag() {
            let tag = message.tag() as char;
            return Err(not_bound(format!("a message of type {tag:?} in place of {reply}")));
        }
        let is_last = matches!(reply, Reply::ReadyForQuery);
        let judged = judge_reply(reply, message, backend_pid, &mut self.findings);
        planted!(judged, ConfirmationUnread => Ok(()))?;
        self.replies += 1;
        Ok(is_last.then_some(self.findings))
    }

    /// The batch ends in an ErrorResponse.
    fn failed(&self, message: &Message) -> Refusal {
        let (state, text) = match backend::parse_error(message.body()) {
            Ok(parsed) => parsed,
            Err(error) => return Refusal::wire(Fault::Upstream)(error),
        };
        let refusal = not_bound(format!("upstream said {state}: {text}"));
        let asks_for_seals = self.batch.asks(self.replies, |it| matches!(it, Expected::Seals(_)));
        let asks_guard = self.batch.asks(self.replies, |it| matches!(it, Expected::Guard { .. }));
        if asks_for_seals && seal::NOT_CALLABLE.contains(&state.as_str()) && !guard::is_in(&text) {
            return refusal.detail(seal::NO_FUNCTION).hint(seal::SETUP_HINT);
        }
        let xml_hint = guard::xml_hint(&state).filter(|_| asks_guard);
        let hint = xml_hint.or(function_hint(&state).filter(|_| asks_guard || asks_for_seals));
        match hint {
            Some(hint) => refusal.hint(hint),
            None => refusal.hint(role::setting_hint(&state, self.batch.role())),
        }
    }
}

/// Adds what the message says of the database, if it is a row.
fn judge_reply(
    reply: Reply<'_>,
    message: &Message,
    backend_pid: Option<i32>,
    findings: &mut Findings,
) -> Result<(), Refusal> {
    match reply {
        Reply::ParseComplete | Reply::BindComplete | Reply::CloseComplete => Ok(()),
        Reply::DataRow(statement) => judge_row(statement, message, backend_pid, findings),
        Reply::CommandComplete => check_row_count(message),
        Reply::ReadyForQuery => check_idle(message),
    }
}

fn judge_row(
    statement: &Statement,
    message: &Message,
    backend_pid: Option<i32>,
    findings: &mut Findings,
) -> Result<(), Refusal> {
    let row = backend::parse_data_row(message.body()).map_err(Refusal::wire(Fault::Upstream))?;
    let mut rest = &row[..];
    for expected in statement.row() {
        let (columns, others) = rest.split_at(expected.columns().min(rest.len()));
        judge(expected, columns, backend_pid, findings)?;
        rest = others;
    }
    if rest.is_empty() { Ok(()) } else { Err(other_columns()) }
}

fn judge(
    expected: &Expected,
    columns: Columns<'_>,
    backend_pid: Option<i32>,
    findings: &mut Findings,
) -> Result<(), Refusal> {
    match (expected, columns) {
        (Expected::Values(source, values), _) => check_values(*source, values, columns),
        (Expected::OrdinaryRole, [column]) => role::judge(*column),
        (Expected::BackendPid, [column]) => check_pid(backend_pid, *column),
        (Expected::AnyPid, [_]) => Ok(()),
        (Expected::NoSealKeys, [column]) => seal::judge_unsealed(*column),
        (Expected::Seals(demand), [asks, reached]) => {
            findings.sealed = Some(seal::judge(*asks, *reached, *demand)?);
            Ok(())
        }
        (Expected::Guard { demand, is_verdict_kept }, [column]) => {
            findings.guard = Some(guard::judge(*column, *is_verdict_kept, *demand)?);
            Ok(())
        }
        (
            Expected::OrdinaryRole
            | Expected::BackendPid
            | Expected::AnyPid
            | Expected::NoSealKeys
            | Expected::Seals(_)
            | Expected::Guard { .. },
            _,
        ) => Err(other_columns()),
    }
}

fn check_values(source: Source, values: &[Bytes], columns: Columns<'_>) -> Result<(), Refusal> {
    let are_right = are(columns, values) || is_overlooked(source);
    if are_right {
        return Ok(());
    }
    Err(match source {
        Source::Defaults => not_bound("the context did not become the session's default"),
        Source::Set => not_bound("set_config answered with other values"),
        Source::Current => not_bound("the context does not read back"),
        Source::Users => not_bound("current_user or session_user is another role"),
        Source::Verified => seal::misfits(),
    })
}

fn are(columns: Columns<'_>, values: &[Bytes]) -> bool {
    columns.len() == values.len()
        && columns.iter().zip(values).all(|(column, value)| {
            let column = begun(*column, value);
            column == Some(value.as_ref())
        })
}

/// Another pid than that of BackendKeyData means that a pooler stands in between, where the context
/// of one client would reach the next.
fn check_pid(announced: Option<i32>, column: Option<&[u8]>) -> Result<(), Refusal> {
    let announced = announced.map(|pid| pid.to_string());
    let is_own = announced.is_some() && announced.as_deref().map(str::as_bytes) == column;
    let is_own = planted!(is_own, PidUnread => true);
    if is_own {
        return Ok(());
    }
    Err(not_bound("pg_backend_pid() is not the pid of BackendKeyData")
        .detail("Another proxy or pooler stands between Multigres and PostgreSQL.")
        .hint(
            "Connect Multigres to PostgreSQL itself, or to a pooler in session mode with \
             \"upstream_pooler = session\".",
        ))
}

fn check_row_count(message: &Message) -> Result<(), Refusal> {
    let command = planted!(message.body(), RowCountUnread => ONE_ROW_SELECTED);
    if command == ONE_ROW_SELECTED { Ok(()) } else { Err(not_bound("not one row")) }
}

/// Where a statement calls functions of `sql/setup.sql`: what is wrong with them. An error of this
/// class is about the names, rights and types in a statement, theirs or ours.
fn function_hint(sqlstate: &str) -> Option<&'static str> {
    match sqlstate {
        AMBIGUOUS_FUNCTION => Some(
            "There is another function in schema public with the name of one that sql/setup.sql \
             creates: multigres_check() lists it. Drop it.",
        ),
        INVALID_SCHEMA_NAME => Some(SETUP_HINT),
        _ if sqlstate.starts_with(SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION) => Some(SETUP_HINT),
        _ => None,
    }
}

/// ReadyForQuery must say that no transaction is open.
pub(crate) fn check_idle(message: &Message) -> Result<(), Refusal> {
    let status = backend::parse_transaction_status(message.body())
        .map_err(Refusal::wire(Fault::Upstream))?;
    let status = planted!(status, StatusUnread => b'I');
    if status == b'I' { Ok(()) } else { Err(not_bound("the session is not idle")) }
}

fn other_columns() -> Refusal {
    not_bound("not the columns that were asked for")
}

/// Planted bugs: values that are not compared, or only as far as the expected ones go.
fn is_overlooked(source: Source) -> bool {
    match source {
        Source::Defaults => mutant!(DefaultsUnread),
        Source::Set => mutant!(BoundUnread),
        Source::Current => false,
        Source::Users => mutant!(UsersUnread),
        Source::Verified => mutant!(SealUnread),
    }
}

fn begun<'a>(column: Option<&'a [u8]>, value: &[u8]) -> Option<&'a [u8]> {
    match column {
        Some(column) if mutant!(ValuesBegin) => Some(&column[..column.len().min(value.len())]),
        column => column,
    }
}

const SETUP_HINT: &str = "A function of Multigres in the database is missing, changed or not \
    granted: the log of Multigres says how. Run sql/setup.sql of this version in the database.";

const AMBIGUOUS_FUNCTION: &str = "42725";
const INVALID_SCHEMA_NAME: &str = "3F000";
/// The class of SQLSTATEs.
const SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION: &str = "42";

/// Command tag of a SELECT of one row.
const ONE_ROW_SELECTED: &[u8] = b"SELECT 1\0";
