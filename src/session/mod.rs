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
//!                   │  Binding                                            │
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
mod password;
mod transition;

use std::mem;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::BytesMut;

use crate::auth::scram::NONCE_BYTES;
use crate::backend::{SETTINGS_HINT, tls_refusal};
use crate::client::AwaitStartup;
use crate::login::{ClientIo, INPUT_BYTES_MAX, UpstreamIo};
use crate::protocol::{Message, backend, frontend};
use crate::refusal::{Fault, Refusal, sqlstate};
use crate::tenant::Login;

use transition::{LoginState, State};

pub use crate::backend::{Findings, Guard, is_alarm};
pub use crate::login::{Auth, ClientPlace, ClientTls, Handshake, Leg, LoginSettings, UpstreamTls};

/// What the driver is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open the upstream leg, and tell by [`Session::connected`] when it is there.
    Connect,
    /// Start TLS on this leg: behind what its output holds, with what [`Session::take_input`] gives
    /// as the first bytes read. Tell by [`Session::handshake_done`] or [`Session::tls_failed`] how
    /// the handshake ends.
    StartTls(Leg),
    /// Write what the upstream output holds if that can be done at once, then close the leg.
    DropUpstream,
    /// Take both outputs, write them, then move bytes without asking the session again.
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

/// Randomness for one nonce of SCRAM.
pub type Nonce = [u8; NONCE_BYTES];

/// The state machine of one connection.
pub struct Session {
    settings: Rc<LoginSettings>,
    /// For the one exchange by SCRAM in which Multigres answers upstream.
    nonce: Nonce,
    state: State,
    client: ClientIo,
    upstream: UpstreamIo,
    /// Whose session it is, as soon as the StartupMessage has been read.
    login: Option<Rc<Login>>,
    /// What need not be asked of the role and the database again.
    kept: Option<Findings>,
    /// At most one is open at a time; a later one takes the place of what has become pointless.
    action: Option<Action>,
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

impl Session {
    /// A session that waits for the client's first byte.
    ///
    /// `nonce`: bytes that nobody can foresee and that no other session gets.
    pub fn new(settings: Rc<LoginSettings>, client_place: ClientPlace, nonce: Nonce) -> Self {
        Session {
            settings,
            nonce,
            state: State::Login(LoginState::AwaitStartup(AwaitStartup::new(client_place))),
            client: ClientIo::default(),
            upstream: UpstreamIo::default(),
            login: None,
            kept: None,
            action: None,
            outcome: None,
        }
    }

    /// How many bytes [`Session::receive`] takes from a leg now. Zero: do not read it.
    ///
    /// In [`Stage::Refusing`] and [`Stage::Cancelling`] what is received is thrown away.
    pub fn room(&self, leg: Leg) -> usize {
        match (self.stage(), leg) {
            (Stage::Piping | Stage::Ended, _) | (Stage::Refusing, Leg::Upstream) => 0,
            (Stage::Refusing | Stage::Cancelling, Leg::Client) => INPUT_BYTES_MAX,
            (Stage::Login, Leg::Client) => INPUT_BYTES_MAX - self.client.input.len(),
            // What upstream says before AuthenticationOk is passed on; a client that does not read
            // it must not make it pile up.
            (Stage::Login, Leg::Upstream) if self.client.output.len() >= INPUT_BYTES_MAX => 0,
            (Stage::Login | Stage::Cancelling, Leg::Upstream) => {
                INPUT_BYTES_MAX - self.upstream.input.len()
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
                self.client.input.extend_from_slice(bytes);
            }
            (Stage::Login | Stage::Cancelling | Stage::Piping | Stage::Ended, Leg::Upstream) => {
                self.upstream.input.extend_from_slice(bytes);
            }
        }
        self.advance();
    }

    /// The upstream leg is connected. `local_address` tells the address of Multigres' end of it, if
    /// it has one, and is asked only where the context depends on it. Without effect on a session
    /// that does not wait for this.
    ///
    /// # Errors
    /// Those of `local_address`; then the leg is taken for one that is not connected.
    pub fn connected<E>(
        &mut self,
        local_address: impl FnOnce() -> Result<Option<SocketAddr>, E>,
    ) -> Result<(), E> {
        if let State::Login(LoginState::Connecting(state, _)) = &mut self.state {
            state.connected(&self.settings.policy, local_address)?;
        } else if let State::Cancelling(state) = &mut self.state {
            state.negotiation.connected();
        } else {
            return Ok(());
        }
        self.advance();
        Ok(())
    }

    /// Takes back bytes of the leg that were received and belong to TLS.
    pub fn take_input(&mut self, leg: Leg) -> BytesMut {
        match leg {
            Leg::Client => mem::take(&mut self.client.input),
            Leg::Upstream => mem::take(&mut self.upstream.input),
        }
    }

    /// The TLS handshake of this leg is done; what is received from now on was encrypted. Without
    /// effect on a session that does not wait for this.
    pub fn handshake_done(&mut self, leg: Leg, handshake: Handshake) {
        let (input, fault) = match leg {
            Leg::Client => (&self.client.input, Fault::Client),
            Leg::Upstream => (&self.upstream.input, Fault::Upstream),
        };
        if !input.is_empty() {
            return self.refuse(Refusal::protocol(fault, "unencrypted bytes before TLS"));
        }
        let mode = self.settings.upstream_tls;
        let taken = match (leg, &mut self.state) {
            (Leg::Client, State::Login(LoginState::AwaitStartup(state))) => {
                state.handshake_done(handshake)
            }
            (Leg::Client, _) => return,
            (Leg::Upstream, _) => match self.negotiation() {
                Some(negotiation) => negotiation.handshake_done(handshake, mode),
                None => return,
            },
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
                self.client.output.clear();
                self.start_refusing(Outcome::Refused(refusal));
            }
            (Leg::Client, Stage::Refusing) => self.end(None),
            // A cancel is passed on whether the client can be heard or not.
            (Leg::Client, Stage::Cancelling | Stage::Piping | Stage::Ended) => {}
            (Leg::Upstream, _) => {
                let mut refusal = tls_refusal(reason);
                if self.negotiation().is_none() {
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
                self.client.has_ended = true;
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
            State::Login(state) => state.awaited(),
            State::Cancelling(_) => Fault::Upstream,
            State::Piping(_) | State::Refusing | State::Ended => Fault::Client,
        };
        let message = "canceling authentication due to timeout";
        let refusal = Refusal::new(fault, sqlstate::QUERY_CANCELED, message);
        let refusal = refusal.private("login_timeout");
        let is_binding = self.is_binding();
        self.refuse(if is_binding { refusal.hint(SETTINGS_HINT) } else { refusal });
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
                refusal.encode(&mut self.client.output);
                self.start_refusing(Outcome::Refused(refusal));
            }
        }
    }

    /// Bytes to write to a leg. The driver takes from the front what it has written.
    pub fn output(&mut self, leg: Leg) -> &mut BytesMut {
        match leg {
            Leg::Client => &mut self.client.output,
            Leg::Upstream => &mut self.upstream.output,
        }
    }

    /// What is to be done before anything else is fed.
    pub fn next_action(&mut self) -> Option<Action> {
        self.action.take()
    }

    /// Where the session stands.
    pub fn stage(&self) -> Stage {
        match &self.state {
            State::Login(_) => Stage::Login,
            State::Cancelling(_) => Stage::Cancelling,
            State::Piping(_) => Stage::Piping,
            State::Refusing => Stage::Refusing,
            State::Ended => Stage::Ended,
        }
    }

    /// The settings that it began with.
    pub fn settings(&self) -> &Rc<LoginSettings> {
        &self.settings
    }

    /// Whose session it is, as soon as the StartupMessage has been read.
    pub fn login(&self) -> Option<&Login> {
        self.login.as_deref()
    }

    /// What the login has found of the role and the database. Nothing before the pipe.
    pub fn findings(&self) -> Findings {
        if let State::Piping(findings) = self.state { findings } else { Findings::default() }
    }

    /// A login before this one, of the same role to the same database, has found this: the batch
    /// need not ask again. To be called before upstream is read for the first time.
    pub fn keep_verdict(&mut self, findings: Findings) {
        self.kept = Some(findings);
    }

    /// Why the session did not come to the pipe, once that is certain.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Ends the login with an ErrorResponse of upstream's, unchanged if it is well-formed.
    fn pass_error(&mut self, message: &Message) {
        let (sqlstate, text) = match backend::parse_error(message.body()) {
            Ok(parsed) => parsed,
            Err(error) => return self.refuse(Refusal::wire(Fault::Upstream)(error)),
        };
        sometimes!(UpstreamRefused);
        self.client.output.extend_from_slice(message.as_bytes());
        self.start_refusing(Outcome::RefusedByUpstream { sqlstate, message: text });
    }

    /// Forgets what either side has said. An upstream that is past authentication is told to end,
    /// unless that would be read as the rest of half a message; before, as an answer to a question.
    fn start_refusing(&mut self, outcome: Outcome) {
        if mutant!(RefusalLeaks)
            && let State::Login(LoginState::Binding(state)) = &mut self.state
        {
            self.client.output.unsplit(mem::take(&mut state.held));
        }
        self.client.input = BytesMut::new();
        self.upstream.input = BytesMut::new();
        let is_whole = mem::take(&mut self.upstream.output).is_empty();
        if is_whole && self.is_binding() {
            frontend::put_terminate(&mut self.upstream.output);
        }
        self.state = State::Refusing;
        if !mutant!(RefusedKeepsUpstream) {
            self.action = Some(Action::DropUpstream);
        }
        self.outcome = Some(outcome);
    }

    fn end(&mut self, outcome: Option<Outcome>) {
        self.outcome = self.outcome.take().or(outcome);
        self.state = State::Ended;
        self.client = ClientIo::default();
        self.upstream = UpstreamIo::default();
        self.action = Some(Action::Close);
    }
}
