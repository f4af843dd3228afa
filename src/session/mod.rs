//! One client's way from its first byte to the pipe, as a state machine: bytes and actions, no I/O.
//! Knows nothing of sockets, buffers of the pipe, clocks or other sessions.
//!
//! The driver ([`crate::relay`]) feeds what it reads with [`Session::receive`], writes what stands
//! in [`Session::output`], and carries out what [`Session::next_action`] asks for:
//!
//! ```text
//!                    SSLRequest, GSSENCRequest: N
//!                       ┌──────┐
//!                       ▼      │
//!                   AwaitStartup ───────── CancelRequest ──────────► Cancelling
//!                       │ StartupMessage of a known login                 │
//!                       │ (Connect)                                       │
//!                       ▼                                                 │
//!                   Connecting                                            │
//!                       │ the upstream leg is there                       │
//!                       ▼ (StartupMessage, with the context)              │
//!                 Authenticating ◄─┐ one request, one reply               │
//!                   │   │   └──────┘                                      │
//!       bypass:     │   │ AuthenticationOk (held from here on)            │
//!  AuthenticationOk │   ▼                                                 │
//!                   │  Injecting                                          │
//!                   │   │ the answer to the batch is exactly right        │
//!                   ▼   ▼ (what was held is let through)                  ▼
//!                  Piping                                               Ended
//!
//!   any login state ──── error, refusal, timeout ───► Refusing (ErrorResponse, DropUpstream)
//! ```
//!
//! The first refusal is final. Nothing that upstream says between AuthenticationOk and the proof
//! of the binding reaches the client, and no byte of the client's but its answers to
//! authentication requests reaches upstream before it.

mod authenticating;
mod await_startup;
mod connecting;
mod injecting;
mod password;

use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::BytesMut;

use crate::protocol::message::MESSAGE_HEADER_BYTES;
use crate::protocol::{Message, backend, frontend, take_message};
use crate::refusal::{Fault, Refusal, sqlstate};
use crate::tenant::{Login, Policy};

use authenticating::Authenticating;
use await_startup::AwaitStartup;
use connecting::Connecting;
use injecting::Injecting;

/// Settings of every session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How user names are read and what is bound.
    pub policy: Policy,
    /// Who answers upstream's authentication requests.
    pub auth: Auth,
    /// Whether a client may be asked for its password over an unencrypted network.
    pub allow_cleartext_password: bool,
}

/// Who answers upstream's authentication requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// The client, and Multigres where a relay cannot succeed.
    Auto,
    /// Always the client.
    Relay,
    /// Always Multigres, with the password for which it asks the client.
    Password,
}

/// One of the two network connections of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// The one that the client opened.
    Client,
    /// The one that Multigres opens to PostgreSQL.
    Upstream,
}

/// What the driver is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open the upstream leg, and tell by [`Session::connected`] when it is there.
    Connect,
    /// Write what the upstream output holds if that can be done at once, then close the leg.
    DropUpstream,
    /// Write both outputs, then move bytes without asking the session again.
    Pipe,
    /// Close both legs at once.
    Close,
}

/// Where a session stands, as far as its driver treats it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before the pipe: the login deadline runs.
    Login,
    /// A CancelRequest is on its way.
    Cancelling,
    /// The context is bound; the session has no more say.
    Piping,
    /// The client is told why not; then its leg is shut down, drained and closed.
    Refusing,
    /// Nothing is left to do.
    Ended,
}

/// The state machine of one connection.
pub struct Session {
    settings: Rc<Settings>,
    state: State,
    io: Io,
    outcome: Option<Outcome>,
}

/// Why a session did not come to the pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Multigres refused it.
    Refused(Refusal),
    /// Upstream refused it, with this SQLSTATE and message; passed on unchanged.
    RefusedByUpstream {
        /// SQLSTATE of upstream's ErrorResponse.
        sqlstate: String,
        /// Its primary message.
        message: String,
    },
    /// The client went away.
    ClientLeft,
    /// It was a CancelRequest, and that is done.
    Cancelled,
}

enum State {
    AwaitStartup(Box<AwaitStartup>),
    Connecting(Box<Connecting>),
    Authenticating(Box<Authenticating>),
    Injecting(Box<Injecting>),
    Piping(Rc<Login>),
    Cancelling,
    Refusing(Option<Rc<Login>>),
    Ended(Option<Rc<Login>>),
}

/// What a state makes of what has come so far.
enum Step {
    /// It needs more bytes.
    Wait,
    /// It moved without leaving the state; there may be more to do at once.
    Again,
    /// It moved on.
    Next(State),
    /// The session ends without a word to the client.
    End(Outcome),
    /// Upstream's own ErrorResponse ends the login.
    RefusedByUpstream(Message),
}

/// Bytes in and out, shared by all login states.
#[derive(Default)]
struct Io {
    from_client: BytesMut,
    from_upstream: BytesMut,
    to_client: BytesMut,
    to_upstream: BytesMut,
    client_ended: bool,
    /// Whether the database asks for seals: known once it has answered a daemon that has a key.
    sealed: Option<bool>,
    /// At most one is open at a time; a later one takes the place of what has become pointless.
    action: Option<Action>,
}

impl Session {
    /// A session that waits for the client's first byte. `client_is_local`: the client leg is a
    /// unix socket or a loopback address, where nobody else can listen in.
    pub fn new(settings: Rc<Settings>, client_is_local: bool) -> Self {
        Session {
            settings,
            state: State::AwaitStartup(Box::new(AwaitStartup::new(client_is_local))),
            io: Io::default(),
            outcome: None,
        }
    }

    /// How many bytes [`Session::receive`] takes from a leg now. Zero: do not read it.
    ///
    /// In [`Stage::Refusing`] and [`Stage::Cancelling`] what is received is thrown away.
    pub fn room(&self, leg: Leg) -> usize {
        match (&self.state, leg) {
            (State::Piping(_) | State::Ended(_), _) => 0,
            (State::Refusing(_), Leg::Upstream) => 0,
            (State::Refusing(_), Leg::Client) | (State::Cancelling, _) => INBOX_BYTES_MAX,
            (
                State::AwaitStartup(_)
                | State::Connecting(_)
                | State::Authenticating(_)
                | State::Injecting(_),
                Leg::Client,
            ) => INBOX_BYTES_MAX - self.io.from_client.len(),
            (
                State::AwaitStartup(_)
                | State::Connecting(_)
                | State::Authenticating(_)
                | State::Injecting(_),
                Leg::Upstream,
            ) if self.io.to_client.len() < INBOX_BYTES_MAX => {
                INBOX_BYTES_MAX - self.io.from_upstream.len()
            }
            // What upstream says before AuthenticationOk is passed on; a client that does not read
            // it must not make it pile up.
            (
                State::AwaitStartup(_)
                | State::Connecting(_)
                | State::Authenticating(_)
                | State::Injecting(_),
                Leg::Upstream,
            ) => 0,
        }
    }

    /// Takes bytes that were read from a leg.
    ///
    /// # Panics
    /// When they are more than [`Session::room`].
    pub fn receive(&mut self, leg: Leg, bytes: &[u8]) {
        assert!(bytes.len() <= self.room(leg), "more bytes than the session has room for");
        if matches!(self.state, State::Refusing(_) | State::Cancelling) {
            return;
        }
        match leg {
            Leg::Client => self.io.from_client.extend_from_slice(bytes),
            Leg::Upstream => self.io.from_upstream.extend_from_slice(bytes),
        }
        self.advance();
    }

    /// Whether [`Session::connected`] needs the address of Multigres' end of the upstream leg.
    pub fn needs_address(&self) -> bool {
        match &self.state {
            State::Connecting(state) => self.settings.policy.binds_address(&state.login),
            State::AwaitStartup(_)
            | State::Authenticating(_)
            | State::Injecting(_)
            | State::Piping(_)
            | State::Cancelling
            | State::Refusing(_)
            | State::Ended(_) => false,
        }
    }

    /// The upstream leg is connected. `end` is the address of Multigres' end of it, if it has one
    /// and [`Session::needs_address`]. Without effect on a session that does not wait for this.
    pub fn connected(&mut self, end: Option<SocketAddr>) {
        let State::Connecting(state) = &mut self.state else { return };
        match state.connected(end, &mut self.io, &self.settings) {
            Ok(next) => {
                self.state = State::Authenticating(Box::new(next));
                self.advance();
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// The leg has said its last byte.
    pub fn ended(&mut self, leg: Leg) {
        match (leg, &self.state) {
            (Leg::Client, State::Refusing(_)) => self.end(None),
            (
                Leg::Client,
                State::AwaitStartup(_)
                | State::Connecting(_)
                | State::Authenticating(_)
                | State::Injecting(_),
            ) => {
                self.io.client_ended = true;
                self.advance();
            }
            (Leg::Upstream, State::Cancelling) => self.end(Some(Outcome::Cancelled)),
            (
                Leg::Upstream,
                State::AwaitStartup(_)
                | State::Connecting(_)
                | State::Authenticating(_)
                | State::Injecting(_),
            ) => self.upstream_left(),
            // A cancel is passed on whether the client waits for it or not.
            (Leg::Client, State::Cancelling)
            | (Leg::Upstream, State::Refusing(_))
            | (Leg::Client | Leg::Upstream, State::Piping(_) | State::Ended(_)) => {}
        }
    }

    fn upstream_left(&mut self) {
        sometimes!(UpstreamLeft);
        if mutant!(UpstreamEndUnseen) {
            return;
        }
        self.refuse(
            Refusal::new(
                Fault::Upstream,
                sqlstate::CONNECTION_FAILURE,
                "upstream closed the connection during login",
            )
            .private("end of stream from upstream"),
        );
    }

    /// The leg is broken: what it has not been told it will not hear. For upstream that is as good
    /// as its end.
    pub fn failed(&mut self, leg: Leg) {
        match (leg, &self.state) {
            (
                Leg::Client,
                State::AwaitStartup(_)
                | State::Connecting(_)
                | State::Authenticating(_)
                | State::Injecting(_),
            ) => self.end(Some(Outcome::ClientLeft)),
            (
                Leg::Client,
                State::Piping(_) | State::Cancelling | State::Refusing(_) | State::Ended(_),
            )
            | (Leg::Upstream, _) => self.ended(leg),
        }
    }

    /// The time for the login is over.
    pub fn time_out(&mut self) {
        let fault = match &self.state {
            State::Authenticating(state) if !state.waits_for_client() => Fault::Upstream,
            State::Connecting(_) | State::Injecting(_) | State::Cancelling => Fault::Upstream,
            State::AwaitStartup(_)
            | State::Authenticating(_)
            | State::Piping(_)
            | State::Refusing(_)
            | State::Ended(_) => Fault::Client,
        };
        self.refuse(
            Refusal::new(
                fault,
                sqlstate::QUERY_CANCELED,
                "canceling authentication due to timeout",
            )
            .private("login_timeout"),
        );
    }

    /// Ends the login with an ErrorResponse. Without effect on a session that is past its login,
    /// refused already or ended. A CancelRequest is never answered: it just ends.
    pub fn refuse(&mut self, refusal: Refusal) {
        match &self.state {
            State::Piping(_) | State::Refusing(_) | State::Ended(_) => {}
            State::Cancelling if mutant!(CancelAnswered) => {
                refusal.encode(&mut self.io.to_client);
                self.start_refusing(Outcome::Refused(refusal));
            }
            State::Cancelling => self.end(Some(Outcome::Refused(refusal))),
            State::AwaitStartup(_)
            | State::Connecting(_)
            | State::Authenticating(_)
            | State::Injecting(_) => {
                refusal.encode(&mut self.io.to_client);
                self.start_refusing(Outcome::Refused(refusal));
            }
        }
    }

    /// Bytes to write to a leg. The driver takes from the front what it has written.
    pub fn output(&mut self, leg: Leg) -> &mut BytesMut {
        match leg {
            Leg::Client => &mut self.io.to_client,
            Leg::Upstream => &mut self.io.to_upstream,
        }
    }

    /// What is to be done before anything else is fed.
    pub fn next_action(&mut self) -> Option<Action> {
        self.io.action.take()
    }

    /// Gives the memory of emptied outputs back, which the pipe has no use for.
    pub fn shrink(&mut self) {
        for output in [&mut self.io.to_client, &mut self.io.to_upstream] {
            if output.is_empty() {
                *output = BytesMut::new();
            }
        }
    }

    /// Where the session stands.
    pub fn stage(&self) -> Stage {
        match &self.state {
            State::AwaitStartup(_)
            | State::Connecting(_)
            | State::Authenticating(_)
            | State::Injecting(_) => Stage::Login,
            State::Cancelling => Stage::Cancelling,
            State::Piping(_) => Stage::Piping,
            State::Refusing(_) => Stage::Refusing,
            State::Ended(_) => Stage::Ended,
        }
    }

    /// Whose session it is, as soon as the StartupMessage has been read.
    pub fn login(&self) -> Option<&Login> {
        self.shared_login().map(Rc::as_ref)
    }

    /// Whether the database asks for the seal of the context; None without a key, and before the
    /// pipe.
    pub fn sealed(&self) -> Option<bool> {
        self.io.sealed
    }

    fn shared_login(&self) -> Option<&Rc<Login>> {
        match &self.state {
            State::Connecting(state) => Some(&state.login),
            State::Authenticating(state) => Some(&state.login),
            State::Injecting(state) => Some(&state.login),
            State::Piping(login) => Some(login),
            State::Refusing(login) | State::Ended(login) => login.as_ref(),
            State::AwaitStartup(_) | State::Cancelling => None,
        }
    }

    /// Why the session did not come to the pipe, once that is certain.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Lets the state work until it needs more bytes.
    fn advance(&mut self) {
        loop {
            let stepped = match &mut self.state {
                State::AwaitStartup(state) => state.step(&mut self.io, &self.settings),
                State::Connecting(state) => Ok(state.step(&self.io)),
                State::Authenticating(state) => state.step(&mut self.io, &self.settings),
                State::Injecting(state) => state.step(&mut self.io, &self.settings.policy),
                State::Piping(_) | State::Cancelling | State::Refusing(_) | State::Ended(_) => {
                    return;
                }
            };
            match stepped {
                Ok(Step::Wait) => return,
                Ok(Step::Again) => {}
                Ok(Step::Next(state)) => self.state = state,
                Ok(Step::End(outcome)) => return self.end(Some(outcome)),
                Ok(Step::RefusedByUpstream(message)) => return self.pass_error(&message),
                Err(refusal) => return self.refuse(refusal),
            }
        }
    }

    /// Ends the login with an ErrorResponse of upstream's, unchanged.
    fn pass_error(&mut self, message: &Message) {
        sometimes!(UpstreamRefused);
        let (sqlstate, text) = backend::parse_error(message.body());
        self.io.to_client.extend_from_slice(message.as_bytes());
        self.start_refusing(Outcome::RefusedByUpstream { sqlstate, message: text });
    }

    /// Forgets what either side has said. An upstream that is past authentication is told to end;
    /// before, Terminate would only be a wrong answer to its question.
    fn start_refusing(&mut self, outcome: Outcome) {
        if mutant!(RefusalLeaks)
            && let State::Injecting(state) = &mut self.state
        {
            self.io.to_client.extend_from_slice(&state.held);
        }
        self.io.from_client = BytesMut::new();
        self.io.from_upstream = BytesMut::new();
        self.io.to_upstream.clear();
        if matches!(self.state, State::Injecting(_)) {
            frontend::put_terminate(&mut self.io.to_upstream);
        }
        let login = self.shared_login().cloned();
        self.state = State::Refusing(login);
        if !mutant!(RefusedKeepsUpstream) {
            self.io.action = Some(Action::DropUpstream);
        }
        self.outcome = Some(outcome);
    }

    fn end(&mut self, outcome: Option<Outcome>) {
        let login = self.shared_login().cloned();
        self.outcome = self.outcome.take().or(outcome);
        self.state = State::Ended(login);
        self.io = Io::default();
        self.io.action = Some(Action::Close);
    }
}

impl Io {
    /// Opens the pipe: what the client said early goes first.
    fn pipe(&mut self, login: Rc<Login>) -> Step {
        sometimes!(!self.from_client.is_empty(), EarlyBytes);
        sometimes!(!self.from_upstream.is_empty(), LateBytes);
        if mutant!(EarlyBytesLost) {
            self.from_client.clear();
        }
        self.to_upstream.unsplit(mem::take(&mut self.from_client));
        self.to_client.unsplit(mem::take(&mut self.from_upstream));
        self.action = Some(Action::Pipe);
        Step::Next(State::Piping(login))
    }

    /// The client has ended and left nothing to say: there is nobody to go on for.
    fn client_is_gone(&self) -> bool {
        self.client_ended && self.from_client.is_empty() && !mutant!(GoneClientKept)
    }

    /// The next whole message from upstream.
    fn take_upstream(&mut self) -> Result<Option<Message>, Refusal> {
        take_message(&mut self.from_upstream, UPSTREAM_BODY_BYTES_MAX)
            .map_err(Refusal::wire(Fault::Upstream))
    }
}

/// Longest body of a message from upstream during a login.
const UPSTREAM_BODY_BYTES_MAX: usize = 65_535;

/// One whole message of the longest kind fits, and so much a client can say early.
const INBOX_BYTES_MAX: usize = MESSAGE_HEADER_BYTES + UPSTREAM_BODY_BYTES_MAX;

const _: () = assert!(UPSTREAM_BODY_BYTES_MAX >= frontend::AUTHENTICATION_REPLY_BYTES_MAX);
