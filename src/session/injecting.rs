//! The fourth state: binds the context to the session and proves that the binding holds.
//! Knows nothing of how upstream was authenticated.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use super::io::UpstreamIo;
use super::role::{SESSION_COLUMNS, is_owner, is_privileged, setting_hint};
use super::role::{set_column, users_columns, written};
use super::seal::{IS_SEALED_COLUMN, KEYS_REACHED_COLUMN, SEAL_KEYS_COLUMN, not_bound};
use super::step::Step;
use super::{Guard, guard, seal};
use crate::protocol::backend::{self, tag};
use crate::protocol::{Message, frontend};
use crate::refusal::{Fault, Refusal};
use crate::tenant::{Context, GuardDemand, Identity, Login, Policy, Pooler, SealDemand, Tenant};

/// Holds back what upstream says until the injected batch has been answered exactly right.
pub(super) struct Injecting {
    login: Rc<Login>,
    context: Context,
    /// The database's guard need not be asked again.
    is_verdict_kept: bool,
    /// AuthenticationOk and all that follows, for the client, up to ReadyForQuery.
    pub(super) held: BytesMut,
    /// How much of it is notices.
    notice_bytes: usize,
    backend_pid: Option<i32>,
    progress: Progress,
    findings: Findings,
}

/// The context is bound, and that is proved.
pub(super) struct Bound {
    /// AuthenticationOk and all that followed, for the client, with a ReadyForQuery as the last.
    pub(super) held: BytesMut,
    pub(super) findings: Findings,
}

/// What the answer to the batch says of the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Whether it asks for seals; `None` without a key.
    pub(super) sealed: Option<bool>,
    /// What its guard has said; `None` where nobody asks.
    pub(super) guard: Option<Guard>,
}

enum Progress {
    /// Upstream has still to say ReadyForQuery for its own start.
    Starting,
    /// The batch is sent; these are the messages of its answer that have still to come.
    Injected(&'static [Expected]),
}

/// Of a row, in text.
type Columns<'a> = &'a [Option<&'a [u8]>];

/// One message of the answer to the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    ParseComplete,
    BindComplete,
    /// The session's defaults, which StartupMessage has set.
    Defaults,
    /// What the variables and the role were set to.
    Bound,
    /// The session as it now is.
    Session,
    CommandComplete,
    CloseComplete,
    ReadyForQuery,
}

impl Injecting {
    pub(super) fn new(
        login: Rc<Login>,
        context: Context,
        authentication_ok: &Message,
        is_verdict_kept: bool,
    ) -> Self {
        let mut held = BytesMut::new();
        held.extend_from_slice(authentication_ok.as_bytes());
        Injecting {
            login,
            context,
            is_verdict_kept,
            held,
            notice_bytes: 0,
            backend_pid: None,
            progress: Progress::Starting,
            findings: Findings::default(),
        }
    }

    pub(super) fn step(
        &mut self,
        io: &mut UpstreamIo,
        policy: &Policy,
    ) -> Result<Step<Bound>, Refusal> {
        let Some(message) = io.take_message_but(tag::NOTICE_RESPONSE)? else {
            return Ok(Step::Wait);
        };
        match message.tag() {
            tag::PARAMETER_STATUS => {
                check_parameter_status(&message)?;
                self.hold(&message)
            }
            tag::NOTICE_RESPONSE => self.notice(&message),
            _ => match self.progress {
                Progress::Starting => self.starting(&message, io, policy),
                Progress::Injected(expected) => self.injected(expected, &message, policy),
            },
        }
    }

    /// Whoever set `client_min_messages = debug5` for the role, another tenant perhaps: some of
    /// what PostgreSQL then says is passed on, and no login fails for the rest.
    fn notice<T>(&mut self, message: &Message) -> Result<Step<T>, Refusal> {
        let bytes = self.notice_bytes + message.as_bytes().len();
        if bytes > NOTICE_BYTES_MAX {
            return Ok(Step::Again);
        }
        self.notice_bytes = bytes;
        self.hold(message)
    }

    fn hold<T>(&mut self, message: &Message) -> Result<Step<T>, Refusal> {
        if self.held.len() + message.as_bytes().len() > HELD_BYTES_MAX {
            return Err(Refusal::protocol(Fault::Upstream, "too much said before ReadyForQuery"));
        }
        self.held.extend_from_slice(message.as_bytes());
        Ok(Step::Again)
    }

    fn tenant(&self) -> &Tenant {
        match &self.login.identity {
            Identity::Tenant(tenant) => tenant,
            Identity::Bypass(_) => unreachable!("a bypass login is never injected"),
        }
    }

    fn starting(
        &mut self,
        message: &Message,
        io: &mut UpstreamIo,
        policy: &Policy,
    ) -> Result<Step<Bound>, Refusal> {
        match message.tag() {
            tag::BACKEND_KEY_DATA if self.backend_pid.is_none() => {
                let pid = backend::parse_backend_pid(message.body())
                    .map_err(Refusal::wire(Fault::Upstream))?;
                self.backend_pid = Some(pid);
                self.hold(message)
            }
            tag::READY_FOR_QUERY => {
                check_idle(message)?;
                let guard = asks_guard(policy).then(|| guard::column(self.is_verdict_kept));
                put_batch(&mut io.output, self.tenant(), &self.context, policy, guard);
                self.progress = Progress::Injected(match policy.upstream_pooler {
                    Pooler::None => &ANSWER,
                    Pooler::Session => &ANSWER[DEFAULTS_MESSAGES..],
                });
                if mutant!(GateOpensEarly) {
                    return Ok(self.open(message));
                }
                Ok(Step::Again)
            }
            // Unknown database, role denied, bad parameter: upstream's own word on the login.
            tag::ERROR_RESPONSE => Ok(Step::RefusedByUpstream(message.clone())),
            other => Err(Refusal::protocol(
                Fault::Upstream,
                format!("a message of type {:?} before ReadyForQuery", other as char),
            )),
        }
    }

    fn injected(
        &mut self,
        expected: &'static [Expected],
        message: &Message,
        policy: &Policy,
    ) -> Result<Step<Bound>, Refusal> {
        let (&next, rest) = expected.split_first().expect("ReadyForQuery is the last");
        if message.tag() == tag::ERROR_RESPONSE {
            let (state, text) = backend::parse_error(message.body());
            let refusal = not_bound(format!("upstream said {state}: {text}"));
            let is_seal = policy.seal.is_some() && seal::NOT_CALLABLE.contains(&state.as_str());
            let xml = guard::xml_hint(&state).filter(|_| asks_guard(policy)).map(str::to_owned);
            return Err(if is_seal {
                refusal.detail(seal::NO_FUNCTION).hint(seal::SETUP_HINT)
            } else {
                refusal.hint(xml.unwrap_or_else(|| setting_hint(&state, self.tenant().role())))
            });
        }
        if message.tag() != next.tag() {
            let tag = message.tag() as char;
            return Err(not_bound(format!("a message of type {tag:?} in place of {next:?}")));
        }
        if !mutant!(ConfirmationUnread) {
            self.check(next, message, policy)?;
        }
        if next == Expected::ReadyForQuery {
            return Ok(self.open(message));
        }
        self.progress = Progress::Injected(rest);
        Ok(Step::Again)
    }

    /// Lets through what was held, up to ReadyForQuery.
    fn open(&mut self, ready_for_query: &Message) -> Step<Bound> {
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(ready_for_query.as_bytes());
        Step::Done(Bound { held, findings: self.findings })
    }

    fn check(
        &mut self,
        expected: Expected,
        message: &Message,
        policy: &Policy,
    ) -> Result<(), Refusal> {
        match expected {
            Expected::ParseComplete | Expected::BindComplete | Expected::CloseComplete => Ok(()),
            Expected::CommandComplete if message.body() == ONE_ROW_SELECTED => Ok(()),
            Expected::CommandComplete if mutant!(RowCountUnread) => Ok(()),
            Expected::CommandComplete => Err(not_bound("not one row")),
            Expected::ReadyForQuery => check_idle(message),
            Expected::Defaults => match row(message)?.as_slice() {
                values if self.are_bound(values) || mutant!(DefaultsUnread) => Ok(()),
                _ => Err(not_bound("the context did not become the session's default")),
            },
            Expected::Bound if mutant!(BoundUnread) => Ok(()),
            Expected::Bound => match row(message)?.as_slice() {
                [values @ .., role]
                    if self.are_bound(values) && *role == Some(&*written(self.tenant().role())) =>
                {
                    Ok(())
                }
                _ => Err(not_bound("set_config answered with other values")),
            },
            Expected::Session => {
                let row = row(message)?;
                let bound = self.context.parameters().len();
                match row.split_at_checked(bound) {
                    Some((values, [current, session, privileged, pid, seal @ ..])) => {
                        let [seal, verdict] = split_verdict(seal, asks_guard(policy))?;
                        let users = [current, session];
                        self.check_session(values, users, privileged, pid, policy)?;
                        self.findings.sealed = self.check_seal(seal, policy)?;
                        if let [verdict] = *verdict {
                            let guard = guard::judge(verdict, self.is_verdict_kept, policy)?;
                            self.findings.guard = Some(guard);
                        }
                        Ok(())
                    }
                    Some(_) | None => Err(not_bound("not the columns that were asked for")),
                }
            }
        }
    }

    fn are_bound(&self, columns: &[Option<&[u8]>]) -> bool {
        are(columns, self.context.parameters().iter().map(|(_, value)| value))
    }

    fn check_session(
        &self,
        values: &[Option<&[u8]>],
        users: [&Option<&[u8]>; 2],
        privileged: &Option<&[u8]>,
        pid: &Option<&[u8]>,
        policy: &Policy,
    ) -> Result<(), Refusal> {
        let tenant = self.tenant();
        if !self.are_bound(values) {
            return Err(not_bound("the context does not read back"));
        }
        let is_other = users.iter().any(|user| **user != Some(&*written(tenant.role())));
        if is_other && !mutant!(UsersUnread) {
            return Err(not_bound("current_user or session_user is another role"));
        }
        match *privileged {
            Some(b"0") => {}
            _ if mutant!(PrivilegesUnread) => {}
            Some(b"2") => return Err(is_owner()),
            Some(_) | None => return Err(is_privileged()),
        }
        let announced = self.backend_pid.map(|pid| pid.to_string());
        let is_own_backend = announced.is_some() && announced.as_deref().map(str::as_bytes) == *pid;
        let is_direct = policy.upstream_pooler == Pooler::None && !mutant!(PidUnread);
        if is_direct && !is_own_backend {
            return Err(not_bound("pg_backend_pid() is not the pid of BackendKeyData")
                .detail("Another proxy or pooler stands between Multigres and PostgreSQL.")
                .hint(
                    "Connect Multigres to PostgreSQL itself, or to a pooler in session mode with \
                     \"upstream_pooler = session\".",
                ));
        }
        Ok(())
    }

    /// With a key, PostgreSQL must see the tenant through the seals, and the role must not reach
    /// the keys; without, it must not ask for any. Answers whether it asks, where there is a key.
    fn check_seal(
        &self,
        columns: &[Option<&[u8]>],
        policy: &Policy,
    ) -> Result<Option<bool>, Refusal> {
        let Some(policy) = &policy.seal else {
            return seal::check_unsealed(columns).map(|()| None);
        };
        match columns {
            [values @ .., asks, reached] if values.len() == self.tenant().values().len() => {
                if !are(values, self.tenant().values()) && !mutant!(SealUnread) {
                    sometimes!(SealMisfits);
                    return Err(seal::seal_misfits());
                }
                sometimes!(SealFits);
                if let Some(how) = reached
                    && !mutant!(ReachedUnread)
                {
                    sometimes!(KeysReached);
                    return Err(seal::reaches_keys(how));
                }
                match (*asks, policy.demand) {
                    (Some(b"t"), _) => Ok(Some(true)),
                    (Some(b"f"), SealDemand::Prefer) => Ok(Some(false)),
                    (Some(b"f"), SealDemand::Require) => Err(seal::is_not_sealed()),
                    (None, _) => Err(seal::is_foreign()),
                    (Some(_), _) => Err(not_bound("neither sealed nor not")),
                }
            }
            _ => Err(not_bound("not the columns that were asked for")),
        }
    }
}

impl Expected {
    fn tag(self) -> u8 {
        match self {
            Expected::ParseComplete => tag::PARSE_COMPLETE,
            Expected::BindComplete => tag::BIND_COMPLETE,
            Expected::Defaults | Expected::Bound | Expected::Session => tag::DATA_ROW,
            Expected::CommandComplete => tag::COMMAND_COMPLETE,
            Expected::CloseComplete => tag::CLOSE_COMPLETE,
            Expected::ReadyForQuery => tag::READY_FOR_QUERY,
        }
    }
}

/// Three statements in one implicit transaction: read the defaults, bind, read the session back.
/// Every name is qualified and every value a bound parameter, so that neither `search_path` nor
/// what a client sent can change what is said.
fn put_batch(
    out: &mut BytesMut,
    tenant: &Tenant,
    context: &Context,
    policy: &Policy,
    guard: Option<String>,
) {
    let parameters = context.parameters();
    let names: Vec<&[u8]> = parameters.iter().map(|(name, _)| name.as_ref()).collect();
    if policy.upstream_pooler == Pooler::None {
        put_statement(out, &format!("SELECT {}", current_settings(names.len())), &names);
    }
    let (variable, role): (&[u8], _) = (b"role", written(tenant.role()));
    let bound: Vec<&[u8]> = parameters
        .iter()
        .map(|(name, value)| (name.as_ref(), value.as_ref()))
        .chain([(variable, &*role)])
        .flat_map(|(name, value)| [name, value])
        .collect();
    put_statement(out, &bind_sql(parameters.len(), tenant.role()), &bound);
    let seal = match &policy.seal {
        None => String::from(SEAL_KEYS_COLUMN),
        // Each variable's seal stands behind it.
        Some(_) => {
            let values = columns("public.multigres_context", (1..=names.len()).step_by(2), "");
            format!("{values}, {IS_SEALED_COLUMN}, {KEYS_REACHED_COLUMN}")
        }
    };
    let guard = guard.map(|column| format!(", {column}")).unwrap_or_default();
    let (values, users) = (current_settings(names.len()), users_columns(tenant.role()));
    let session = format!("SELECT {values}, {users}, {SESSION_COLUMNS}, {seal}{guard}");
    put_statement(out, &session, &names);
    frontend::put_close_statement(out);
    frontend::put_sync(out);
}

/// Whether the batch has a column for the guard.
fn asks_guard(policy: &Policy) -> bool {
    policy.guard != GuardDemand::Off
}

/// The columns for the seal, and the one for the guard if it was asked.
fn split_verdict<'a>(columns: Columns<'a>, asked: bool) -> Result<[Columns<'a>; 2], Refusal> {
    if !asked {
        return Ok([columns, &[]]);
    }
    match columns.split_last_chunk::<1>() {
        Some((seal, verdict)) => Ok([seal, verdict]),
        None => Err(not_bound("not the columns that were asked for")),
    }
}

fn put_statement(out: &mut BytesMut, sql: &str, parameters: &[&[u8]]) {
    frontend::put_parse(out, sql, parameters.len());
    frontend::put_bind(out, parameters);
    frontend::put_execute(out);
}

fn current_settings(count: usize) -> String {
    columns("pg_catalog.current_setting", 1..=count, ", true")
}

/// A call of the function for each parameter of these numbers.
fn columns(function: &str, numbers: impl Iterator<Item = usize>, rest: &str) -> String {
    let columns: Vec<_> = numbers.map(|at| format!("{function}(${at}{rest})")).collect();
    columns.join(", ")
}

fn bind_sql(count: usize, role: &[u8]) -> String {
    let columns = (0..count)
        .map(|at| format!("pg_catalog.set_config(${}, ${}, false)", 2 * at + 1, 2 * at + 2))
        .chain([set_column(role, 2 * count + 1, 2 * count + 2)]);
    format!("SELECT {}", columns.collect::<Vec<_>>().join(", "))
}

fn row(message: &Message) -> Result<Vec<Option<&[u8]>>, Refusal> {
    backend::parse_data_row(message.body()).map_err(Refusal::wire(Fault::Upstream))
}

fn are<'a>(
    columns: &[Option<&[u8]>],
    values: impl IntoIterator<Item = &'a Bytes, IntoIter: ExactSizeIterator>,
) -> bool {
    let values = values.into_iter();
    columns.len() == values.len()
        && columns.iter().zip(values).all(|(column, value)| match column {
            Some(column) if mutant!(ValuesBegin) => column.starts_with(value),
            column => *column == Some(value.as_ref()),
        })
}

fn check_idle(message: &Message) -> Result<(), Refusal> {
    match backend::parse_transaction_status(message.body()) {
        Ok(b'I') => Ok(()),
        Ok(_) if mutant!(StatusUnread) => Ok(()),
        Ok(_) => Err(not_bound("the session is not idle")),
        Err(error) => Err(Refusal::wire(Fault::Upstream)(error)),
    }
}

/// PostgreSQL reports `is_superuser` of the session user at its start and of the current user
/// whenever it changes.
fn check_parameter_status(message: &Message) -> Result<(), Refusal> {
    let (name, value) =
        backend::parse_parameter_status(message.body()).map_err(Refusal::wire(Fault::Upstream))?;
    let is_superuser = name == b"is_superuser" && value != b"off";
    if is_superuser && !mutant!(SuperuserUnread) { Err(is_privileged()) } else { Ok(()) }
}

const ANSWER: [Expected; 14] = [
    Expected::ParseComplete,
    Expected::BindComplete,
    Expected::Defaults,
    Expected::CommandComplete,
    Expected::ParseComplete,
    Expected::BindComplete,
    Expected::Bound,
    Expected::CommandComplete,
    Expected::ParseComplete,
    Expected::BindComplete,
    Expected::Session,
    Expected::CommandComplete,
    Expected::CloseComplete,
    Expected::ReadyForQuery,
];

/// How many of them answer the first statement.
const DEFAULTS_MESSAGES: usize = 4;

/// Command tag of a SELECT of one row.
const ONE_ROW_SELECTED: &[u8] = b"SELECT 1\0";

/// Far above what PostgreSQL says at the start of a session: some 15 parameters and a key.
const HELD_BYTES_MAX: usize = 256 * 1024;

/// Of it, what may be notices.
const NOTICE_BYTES_MAX: usize = 64 * 1024;
