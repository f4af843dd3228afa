//! One client's way from its first byte to the pipe, as a state machine: bytes and actions, no I/O.
//! Knows nothing of sockets, buffers of the pipe, clocks or other sessions.
//!
//! The driver ([`crate::relay`]) feeds what it reads with [`Session::receive`], writes what stands
//! in [`Session::output`], and carries out what [`Session::next_action`] asks for:
//!
//! ```text
//!                 SSLRequest: S or N (StartTls), GSSENCRequest: N
//!                       ┌──────┐
//!                       ▼      │
//!                   AwaitStartup ───────── CancelRequest ──────────► Cancelling
//!                       │ StartupMessage of a known login                 │
//!                       │ (Connect)                                       │
//!                       ▼                                                 │
//!                   Connecting                                            │
//!                       │ the upstream leg is there, with its TLS         │
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
mod cancelling;
mod connecting;
mod guard;
mod injecting;
mod legs;
mod negotiation;
mod password;
mod role;
mod settings;

use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::{Buf, BytesMut};

use crate::protocol::message::MESSAGE_HEADER_BYTES;
use crate::protocol::{Message, backend, frontend, message_bytes, take_message};
use crate::refusal::{Fault, Refusal, sqlstate};
use crate::tenant::{GuardDemand, Login};

use authenticating::Authenticating;
use await_startup::AwaitStartup;
use cancelling::Cancelling;
use connecting::Connecting;
use injecting::Injecting;

pub use guard::{Guard, is_alarm};
pub use settings::{Auth, ClientPlace, ClientTls, Secured, Settings, UpstreamTls};

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
    /// Start TLS on this leg: behind what its output holds, with what [`Session::take_input`] gives
    /// as the first bytes read. Tell by [`Session::secured`] or [`Session::tls_failed`] how the
    /// handshake ends.
    StartTls(Leg),
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
    Cancelling(Box<Cancelling>),
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
    /// The login is refused, and the client is not told why: PostgreSQL closes without a word, too.
    Hush(Refusal),
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
    /// Bytes still to come of a message from upstream that is thrown away.
    upstream_skipped: usize,
    /// Whether the database asks for seals: known once it has answered a daemon that has a key.
    sealed: Option<bool>,
    /// What is known of the database's guard; `None` until it is, and where nobody asks.
    guard: Option<Guard>,
    /// At most one is open at a time; a later one takes the place of what has become pointless.
    action: Option<Action>,
}

impl Session {
    /// A session that waits for the client's first byte.
    pub fn new(settings: Rc<Settings>, client_place: ClientPlace) -> Self {
        Session {
            settings,
            state: State::AwaitStartup(Box::new(AwaitStartup::new(client_place))),
            io: Io::default(),
            outcome: None,
        }
    }

    /// How many bytes [`Session::receive`] takes from a leg now. Zero: do not read it.
    ///
    /// In [`Stage::Refusing`] and [`Stage::Cancelling`] what is received is thrown away.
    pub fn room(&self, leg: Leg) -> usize {
        match (self.stage(), leg) {
            (Stage::Piping | Stage::Ended, _) | (Stage::Refusing, Leg::Upstream) => 0,
            (Stage::Refusing | Stage::Cancelling, Leg::Client) => INBOX_BYTES_MAX,
            (Stage::Login, Leg::Client) => INBOX_BYTES_MAX - self.io.from_client.len(),
            // What upstream says before AuthenticationOk is passed on; a client that does not read
            // it must not make it pile up.
            (Stage::Login, Leg::Upstream) if self.io.to_client.len() >= INBOX_BYTES_MAX => 0,
            (Stage::Login | Stage::Cancelling, Leg::Upstream) => {
                INBOX_BYTES_MAX - self.io.from_upstream.len()
            }
        }
    }

    /// Takes bytes that were read from a leg.
    ///
    /// # Panics
    /// When they are more than [`Session::room`].
    pub fn receive(&mut self, leg: Leg, bytes: &[u8]) {
        assert!(bytes.len() <= self.room(leg), "more bytes than the session has room for");
        match (self.stage(), leg) {
            (Stage::Refusing, _) | (Stage::Cancelling, Leg::Client) => return,
            (Stage::Login | Stage::Piping | Stage::Ended, Leg::Client) => {
                self.io.from_client.extend_from_slice(bytes);
            }
            (Stage::Login | Stage::Cancelling | Stage::Piping | Stage::Ended, Leg::Upstream) => {
                self.io.from_upstream.extend_from_slice(bytes);
            }
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
            | State::Cancelling(_)
            | State::Refusing(_)
            | State::Ended(_) => false,
        }
    }

    /// The upstream leg is connected. `end` is the address of Multigres' end of it, if it has one
    /// and [`Session::needs_address`]. Without effect on a session that does not wait for this.
    pub fn connected(&mut self, end: Option<SocketAddr>) {
        let mode = self.settings.upstream_tls;
        match &mut self.state {
            State::Connecting(state) => state.connected(end, mode, &mut self.io),
            State::Cancelling(state) => state.negotiation.connected(mode, &mut self.io),
            State::AwaitStartup(_)
            | State::Authenticating(_)
            | State::Injecting(_)
            | State::Piping(_)
            | State::Refusing(_)
            | State::Ended(_) => return,
        }
        self.advance();
    }

    /// Takes back bytes of the leg that were received and belong to TLS.
    pub fn take_input(&mut self, leg: Leg) -> BytesMut {
        match leg {
            Leg::Client => mem::take(&mut self.io.from_client),
            Leg::Upstream => mem::take(&mut self.io.from_upstream),
        }
    }

    /// The TLS handshake of this leg is done; what is received from now on was encrypted. Without
    /// effect on a session that does not wait for this.
    pub fn secured(&mut self, leg: Leg, secured: Secured) {
        let (inbox, fault) = match leg {
            Leg::Client => (&self.io.from_client, Fault::Client),
            Leg::Upstream => (&self.io.from_upstream, Fault::Upstream),
        };
        if !inbox.is_empty() {
            return self.refuse(Refusal::protocol(fault, "unencrypted bytes before TLS"));
        }
        let taken = match (leg, &mut self.state) {
            (Leg::Client, State::AwaitStartup(state)) => state.secured(secured),
            (Leg::Upstream, State::Connecting(state)) => {
                state.negotiation.secured(secured, self.settings.upstream_tls)
            }
            (Leg::Upstream, State::Cancelling(state)) => {
                state.negotiation.secured(secured, self.settings.upstream_tls)
            }
            (
                Leg::Client,
                State::Connecting(_)
                | State::Authenticating(_)
                | State::Injecting(_)
                | State::Cancelling(_)
                | State::Piping(_)
                | State::Refusing(_)
                | State::Ended(_),
            )
            | (
                Leg::Upstream,
                State::AwaitStartup(_)
                | State::Authenticating(_)
                | State::Injecting(_)
                | State::Piping(_)
                | State::Refusing(_)
                | State::Ended(_),
            ) => return,
        };
        match taken {
            Ok(()) => self.advance(),
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// TLS on this leg is broken, in the handshake or behind it; `reason` is for the log. Nothing
    /// but TLS' own alert can be said on the leg any more. A client is not sent an ErrorResponse:
    /// it is in [`Stage::Refusing`] with an empty output.
    pub fn tls_failed(&mut self, leg: Leg, reason: String) {
        match (leg, self.stage()) {
            (Leg::Client, Stage::Login) => {
                let refusal = Refusal::protocol(Fault::Client, format!("TLS: {reason}"));
                self.io.to_client.clear();
                self.start_refusing(Outcome::Refused(refusal));
            }
            (Leg::Client, Stage::Refusing) => self.end(None),
            // A cancel is passed on whether the client can be heard or not.
            (Leg::Client, Stage::Cancelling | Stage::Piping | Stage::Ended) => {}
            (Leg::Upstream, _) => {
                let mut refusal = negotiation::failed(reason);
                if matches!(self.state, State::Authenticating(_) | State::Injecting(_)) {
                    refusal.sqlstate = sqlstate::CONNECTION_FAILURE;
                    refusal.message = "the TLS connection to the upstream server is broken".into();
                }
                self.refuse(refusal);
            }
        }
    }

    /// The leg has said its last byte.
    pub fn ended(&mut self, leg: Leg) {
        match (leg, self.stage()) {
            (Leg::Client, Stage::Refusing) => self.end(None),
            (Leg::Client, Stage::Login) => {
                self.io.client_ended = true;
                self.advance();
            }
            (Leg::Upstream, Stage::Cancelling) if self.has_cancelled() => {
                self.end(Some(Outcome::Cancelled));
            }
            (Leg::Upstream, Stage::Login | Stage::Cancelling) => self.upstream_left(),
            // A cancel is passed on whether the client waits for it or not.
            (Leg::Client, Stage::Cancelling)
            | (Leg::Upstream, Stage::Refusing)
            | (Leg::Client | Leg::Upstream, Stage::Piping | Stage::Ended) => {}
        }
    }

    fn has_cancelled(&self) -> bool {
        matches!(&self.state, State::Cancelling(state) if state.is_sent())
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
        match (leg, self.stage()) {
            (Leg::Client, Stage::Login) => self.end(Some(Outcome::ClientLeft)),
            (Leg::Client, Stage::Piping | Stage::Cancelling | Stage::Refusing | Stage::Ended)
            | (Leg::Upstream, _) => self.ended(leg),
        }
    }

    /// The time for the login is over.
    pub fn time_out(&mut self) {
        let fault = match &self.state {
            State::Authenticating(state) if !state.waits_for_client() => Fault::Upstream,
            State::Connecting(_) | State::Injecting(_) | State::Cancelling(_) => Fault::Upstream,
            State::AwaitStartup(_)
            | State::Authenticating(_)
            | State::Piping(_)
            | State::Refusing(_)
            | State::Ended(_) => Fault::Client,
        };
        let message = "canceling authentication due to timeout";
        let refusal = Refusal::new(fault, sqlstate::QUERY_CANCELED, message);
        let refusal = refusal.private("login_timeout");
        let is_late = matches!(self.state, State::Injecting(_));
        self.refuse(if is_late { refusal.hint(role::SETTINGS_HINT) } else { refusal });
    }

    /// Ends the login with an ErrorResponse. Without effect on a session that is past its login,
    /// refused already or ended. A CancelRequest is never answered: it just ends.
    pub fn refuse(&mut self, refusal: Refusal) {
        match self.stage() {
            Stage::Piping | Stage::Refusing | Stage::Ended => {}
            Stage::Cancelling if !mutant!(CancelAnswered) => {
                self.end(Some(Outcome::Refused(refusal)));
            }
            Stage::Login | Stage::Cancelling => {
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
            State::Cancelling(_) => Stage::Cancelling,
            State::Piping(_) => Stage::Piping,
            State::Refusing(_) => Stage::Refusing,
            State::Ended(_) => Stage::Ended,
        }
    }

    /// Whose session it is, as soon as the StartupMessage has been read.
    pub fn login(&self) -> Option<&Login> {
        Some(self.shared_login()?)
    }

    /// Whether the database asks for the seal of the context; None without a key, and before the
    /// pipe.
    pub fn sealed(&self) -> Option<bool> {
        self.io.sealed
    }

    /// What the database's guard has said; `None` where it is not asked, and before the pipe.
    pub fn guard(&self) -> Option<Guard> {
        self.io.guard
    }

    /// A login before this one, of the same role to the same database, was told that all is held:
    /// the batch need not ask again. To be called before upstream is read for the first time.
    pub fn keep_verdict(&mut self) {
        if self.settings.policy.guard != GuardDemand::Off {
            self.io.guard = Some(Guard::Kept);
        }
    }

    fn shared_login(&self) -> Option<&Rc<Login>> {
        match &self.state {
            State::Connecting(state) => Some(&state.login),
            State::Authenticating(state) => Some(&state.login),
            State::Injecting(state) => Some(&state.login),
            State::Piping(login) => Some(login),
            State::Refusing(login) | State::Ended(login) => login.as_ref(),
            State::AwaitStartup(_) | State::Cancelling(_) => None,
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
                State::Connecting(state) => state.step(&mut self.io, &self.settings),
                State::Authenticating(state) => state.step(&mut self.io, &self.settings),
                State::Injecting(state) => state.step(&mut self.io, &self.settings.policy),
                State::Cancelling(state) => state.step(&mut self.io, &self.settings),
                State::Piping(_) | State::Refusing(_) | State::Ended(_) => return,
            };
            match stepped {
                Ok(Step::Wait) => return,
                Ok(Step::Again) => {}
                Ok(Step::Next(state)) => self.state = state,
                Ok(Step::End(outcome)) => return self.end(Some(outcome)),
                Ok(Step::Hush(refusal)) => {
                    return self.start_refusing(Outcome::Refused(refusal));
                }
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

    /// Forgets what either side has said. An upstream that is past authentication is told to end,
    /// unless that would be read as the rest of half a message; before, as an answer to a question.
    fn start_refusing(&mut self, outcome: Outcome) {
        if mutant!(RefusalLeaks)
            && let State::Injecting(state) = &mut self.state
        {
            self.io.to_client.extend_from_slice(&state.held);
        }
        self.io.from_client = BytesMut::new();
        self.io.from_upstream = BytesMut::new();
        let is_whole = mem::take(&mut self.io.to_upstream).is_empty();
        if is_whole && matches!(self.state, State::Injecting(_)) {
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
        self.outcome = self.outcome.take().or(outcome);
        self.state = State::Ended(self.shared_login().cloned());
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

    /// The next whole message from upstream. One of this type that is longer than any message may
    /// be is thrown away, however much of it has come.
    fn take_upstream_but(&mut self, skipped: u8) -> Result<Option<Message>, Refusal> {
        loop {
            let buffer = &mut self.from_upstream;
            let here = self.upstream_skipped.min(buffer.len());
            buffer.advance(here);
            self.upstream_skipped -= here;
            match message_bytes(buffer) {
                Some((tag, bytes)) if tag == skipped && bytes > INBOX_BYTES_MAX => {
                    self.upstream_skipped = bytes;
                }
                Some(_) | None => return self.take_upstream(),
            }
        }
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
