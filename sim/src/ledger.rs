//! What both peers of each session have seen, for the verdict at the end of a run.
//! Knows nothing of why they have seen it.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::knowledge::Knowledge;
use crate::pipe::{Report, Way};
use crate::plan::{Fate, Happening, Lie, Plan, Session};
use crate::record::{applied, violate};

/// What both peers of all sessions have seen.
#[derive(Clone)]
pub struct Ledger {
    /// Most bytes between both ends of a session.
    between_max: usize,
    entries: Rc<RefCell<Vec<Entry>>>,
    /// Whose connections come from where.
    peers: Rc<RefCell<BTreeMap<SocketAddr, usize>>>,
    /// For whom upstream was dialled from where.
    dials: Rc<RefCell<BTreeMap<SocketAddr, usize>>>,
    knowledge: Rc<RefCell<Knowledge>>,
}

/// What both peers of one session have seen.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The client's side.
    pub client: ClientSide,
    /// The model PostgreSQL's side.
    pub upstream: UpstreamSide,
    /// When the daemon has accepted the connection.
    pub accepted: Option<Duration>,
    /// When it has shut its client leg down for writing.
    pub shut: Option<Duration>,
    /// How the pipe goes, from the client's and from upstream's side.
    pub passing: [Report; 2],
    /// How many other connections there were then whose client leg was not.
    pub others: usize,
    /// When it has closed its client leg.
    pub closed: Option<Duration>,
}

/// What a client has seen.
#[derive(Clone, Debug, Default)]
pub struct ClientSide {
    /// Its connection was accepted.
    pub connected: bool,
    /// When it began to connect.
    pub began: Duration,
    /// When it has heard of the end, or has ended it.
    pub ended: Duration,
    /// Something has come to it by TLS.
    pub secured: bool,
    /// AuthenticationOk has come.
    pub authenticated: bool,
    /// ReadyForQuery has come: the session is up.
    pub up: bool,
    /// When that was.
    pub up_at: Duration,
    /// The ErrorResponse that has ended the login: SQLSTATE and message.
    pub refused: Option<(String, String)>,
    /// The connection has ended before the pipe: with EOF, or with a reset.
    pub login_ended: Option<LoginEnd>,
    /// Its TLS has said that nothing more comes, or something that is not TLS.
    pub farewell: bool,
    /// How the pipe went.
    pub pipe: Option<Report>,
    /// It waited for an end that did not come.
    pub gave_up: bool,
    /// It has done all that it does.
    pub done: bool,
    /// So many of its CancelRequests' connections were closed.
    pub cancelled: usize,
    /// The key with which it has cancelled nobody.
    pub wrong_key: Option<Vec<u8>>,
    /// Bytes of its login that it has sent.
    pub login_bytes: usize,
}

/// Whether a refusal says that Multigres ends. Its SQLSTATE alone does not tell: an upstream that
/// cannot be reached has the same.
pub fn tells_of_the_end(code: &str, words: &str) -> bool {
    code == "57P03" && words == "the database system is shutting down"
}

/// How a connection ended before the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginEnd {
    /// EOF.
    Eof,
    /// EOF of which TLS has said nothing.
    Truncated,
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
    /// When that was.
    pub started_at: Duration,
    /// AuthenticationOk has been sent.
    pub authenticated: bool,
    /// The last byte of the last ReadyForQuery has been sent, and all was right.
    pub confirmed: bool,
    /// Its TLS has said that nothing more comes.
    pub farewell: bool,
    /// Bytes of its login up to that one, when it is sent.
    pub login_end: Option<u64>,
    /// It has refused the password.
    pub wrong_password: bool,
    /// How the pipe went.
    pub pipe: Option<Report>,
    /// When it has closed its side, or heard that the other is closed.
    pub ended: Duration,
    /// When it was last to be let go, having said something wrong or its last.
    pub doomed: Option<Duration>,
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
        let entries = vec![Entry::default(); plan.sessions.len()];
        Ledger {
            between_max: between_max(plan),
            entries: Rc::new(RefCell::new(entries)),
            peers: Rc::default(),
            dials: Rc::default(),
            knowledge: Rc::default(),
        }
    }

    /// The entry of a session.
    pub fn entry(&self, session: usize) -> RefMut<'_, Entry> {
        RefMut::map(self.entries.borrow_mut(), |entries| &mut entries[session])
    }

    /// The login of a session comes from this address.
    pub fn is_at(&self, session: usize, peer: SocketAddr) {
        self.peers.borrow_mut().insert(peer, session);
    }

    /// Whose login comes from this address.
    pub fn session_of(&self, peer: SocketAddr) -> Option<usize> {
        self.peers.borrow().get(&peer).copied()
    }

    /// What one side of a session has sent and received so far. What is between both is bounded.
    pub fn passed(&self, session: usize, out: Way, report: Report) {
        let passing = &mut self.entry(session).passing;
        passing[out as usize] = report;
        for (from, to) in [(0, 1), (1, 0)] {
            let between = passing[from].sent.saturating_sub(passing[to].received);
            // Outside of a simulation nobody knows what the kernels hold.
            if between > self.between_max && turmoil::in_simulation() {
                violate("S8", format!("session {session}: {between} bytes are on their way"));
            }
        }
        applied("S8 on its way");
    }

    /// What the daemon can know of roles and databases.
    pub fn knowledge(&self) -> RefMut<'_, Knowledge> {
        self.knowledge.borrow_mut()
    }

    /// Upstream is dialled from this address for the login of a session.
    pub fn is_dialled(&self, session: usize, from: SocketAddr) {
        self.dials.borrow_mut().insert(from, session);
    }

    /// For whose login upstream is dialled from this address.
    pub fn dialled_for(&self, from: SocketAddr) -> Option<usize> {
        self.dials.borrow().get(&from).copied()
    }

    /// Whether upstream has done with all that have come to it.
    pub fn upstream_is_done(&self) -> bool {
        self.entries.borrow().iter().all(|entry| entry.upstream.done || !entry.upstream.started)
    }

    /// Whether the probes among them have.
    pub fn probes_are_done(&self, plan: &Plan) -> bool {
        plan.sessions.iter().filter(|session| session.probe).all(|session| {
            let Entry { client, upstream, .. } = &*self.entry(session.number);
            client.done && (upstream.done || !client.up)
        })
    }

    /// Whether all clients have done all that they do.
    pub fn clients_are_done(&self) -> bool {
        self.entries.borrow().iter().all(|entry| entry.client.done)
    }
}

/// What the kernels between both ends of a session may hold, and the daemon: of TLS a record on
/// each leg, besides its buffers and what was said before it was asked for.
fn between_max(plan: &Plan) -> usize {
    // A leg that is reset loses what is on its way, and what still comes for it is thrown away. So
    // does one to a host that has crashed.
    let crashes = plan.events.iter().any(|event| event.what == Happening::CrashUpstream);
    if plan.faults.reset_permyriad > 0 || crashes {
        return usize::MAX;
    }
    let asked = |session: &Session| {
        let pipe = &session.pipe;
        let chunk = pipe.client.chunk.max(pipe.upstream.chunk);
        chunk + pipe.early.max(session.script.coalesced)
    };
    let asked = plan.sessions.iter().map(asked).max().unwrap_or(0);
    2 * (plan.network.window + plan.daemon.limits.buffer_bytes + RECORD_BYTES_MAX) + asked
}

/// A record with its overhead.
const RECORD_BYTES_MAX: usize = 17 * 1024;

/// The role of a session's user.
pub fn role(session: &Session) -> String {
    match session.client.user {
        crate::plan::User::Tenant(tenant) => format!("app_{}", tenant % 3),
        crate::plan::User::Bypass => "postgres".into(),
    }
}

/// The database that a session asks for: one of two, in one of which a table is open and nobody can
/// be a tenant.
pub fn database(session: &Session) -> &'static str {
    match session.script.fate {
        Fate::Lie(Lie::GuardOpen | Lie::Privileged | Lie::PrivilegedNull | Lie::OtherKey) => "open",
        _ => "crm",
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
