//! What both peers of each session have seen, for the verdict at the end of a run.
//! Knows nothing of why they have seen it.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;

use crate::pipe::Report;
use crate::plan::{Plan, Session};

/// What both peers of all sessions have seen.
#[derive(Clone)]
pub struct Ledger(Rc<RefCell<Vec<Entry>>>);

/// What both peers of one session have seen.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The client's side.
    pub client: ClientSide,
    /// The model PostgreSQL's side.
    pub upstream: UpstreamSide,
}

/// What a client has seen.
#[derive(Clone, Debug, Default)]
pub struct ClientSide {
    /// Its connection was accepted.
    pub connected: bool,
    /// AuthenticationOk has come.
    pub authenticated: bool,
    /// ReadyForQuery has come: the session is up.
    pub up: bool,
    /// The ErrorResponse that has ended the login: SQLSTATE and message.
    pub refused: Option<(String, String)>,
    /// The connection has ended before the pipe: with EOF, or with a reset.
    pub login_ended: Option<LoginEnd>,
    /// How the pipe went.
    pub pipe: Option<Report>,
    /// It waited for an end that did not come.
    pub gave_up: bool,
    /// It has done all that it does.
    pub done: bool,
    /// Its CancelRequest's connection was closed.
    pub cancelled: bool,
    /// Bytes of its login that it has sent.
    pub login_bytes: usize,
}

/// How a connection ended before the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginEnd {
    /// EOF.
    Eof,
    /// A reset.
    Reset,
    /// The client itself.
    Own,
}

/// What the model PostgreSQL has seen.
#[derive(Clone, Debug, Default)]
pub struct UpstreamSide {
    /// The StartupMessage has come.
    pub started: bool,
    /// AuthenticationOk has been sent.
    pub authenticated: bool,
    /// The last byte of the last ReadyForQuery has been sent, and all was right.
    pub confirmed: bool,
    /// It has refused the password.
    pub wrong_password: bool,
    /// How the pipe went.
    pub pipe: Option<Report>,
    /// CancelRequests with its key.
    pub cancels: usize,
    /// It has done all that it does.
    pub done: bool,
    /// Bytes of its login that it has sent.
    pub login_bytes: usize,
}

impl Ledger {
    /// An empty ledger for the sessions of a plan.
    pub fn new(plan: &Plan) -> Self {
        Ledger(Rc::new(RefCell::new(vec![Entry::default(); plan.sessions.len()])))
    }

    /// The entry of a session.
    pub fn entry(&self, session: usize) -> RefMut<'_, Entry> {
        RefMut::map(self.0.borrow_mut(), |entries| &mut entries[session])
    }

    /// Whether upstream has done with all that have come to it.
    pub fn upstream_is_done(&self) -> bool {
        self.0.borrow().iter().all(|entry| entry.upstream.done || !entry.upstream.started)
    }

    /// Whether all clients have done all that they do.
    pub fn clients_are_done(&self) -> bool {
        self.0.borrow().iter().all(|entry| entry.client.done)
    }
}

/// The role of a session's user.
pub fn role(session: &Session) -> String {
    match session.client.user {
        crate::plan::User::Tenant(tenant) => format!("app_{}", tenant % 3),
        crate::plan::User::Bypass => "postgres".into(),
    }
}

/// The values of a session's context.
pub fn values(session: &Session, variables: usize) -> Vec<String> {
    match session.client.user {
        crate::plan::User::Tenant(tenant) => {
            (0..variables).map(|at| format!("tenant{tenant}v{at}")).collect()
        }
        crate::plan::User::Bypass => Vec::new(),
    }
}

/// The names of the context variables.
pub fn variables(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("app.context_{at}")).collect()
}

/// The password of a role.
pub fn password(role: &str) -> String {
    format!("secret of {role}")
}
