//! The states of a session, and which of them follows which.
//! Knows nothing of what a state does.

use std::mem;

use super::authenticating::{Authenticated, Authenticating};
use super::{Action, Outcome, Session};
use crate::backend::{
    Batch, Binding, Bound, Cancelling, Connected, Connecting, Findings, Negotiation,
};
use crate::client::{AwaitStartup, Wanted};
use crate::login::{ClientChannel, ClientIo, Legs, Step, UpstreamIo};
use crate::refusal::{Fault, Refusal};
use crate::tenant::{Context, User};

pub(super) enum State {
    Login(LoginState),
    Cancelling(Box<Cancelling>),
    Piping(Findings),
    Refusing,
    Ended,
}

/// The states of a login. What only a later one needs stands beside the one that passes it by.
pub(super) enum LoginState {
    AwaitStartup(AwaitStartup),
    Connecting(Box<Connecting>, ClientChannel),
    Authenticating(Box<Authenticating>, Context),
    Binding(Box<Binding>),
}

impl Session {
    /// Lets the states work until one needs more bytes.
    pub(super) fn advance(&mut self) {
        loop {
            match self.step() {
                Ok(Step::Wait) => return,
                Ok(Step::Again) => {}
                Ok(Step::StartTls(leg)) => {
                    self.action = Some(Action::StartTls(leg));
                    return;
                }
                Ok(Step::Done(next)) => self.state = next,
                Ok(Step::ClientLeft) => return self.end(Some(Outcome::ClientLeft)),
                Ok(Step::RefusedSilently(refusal)) => {
                    return self.start_refusing(Outcome::Refused(refusal));
                }
                Ok(Step::RefusedByUpstream(message)) => return self.pass_error(&message),
                Err(refusal) => return self.refuse(refusal),
            }
        }
    }

    /// The transition table: a state hands over what it has come to, and is lent the legs that it
    /// may touch. To bind the context is a matter between Multigres and upstream: what the client
    /// says early is out of its reach.
    fn step(&mut self) -> Result<Step<State>, Refusal> {
        let Session { settings, nonce, state, client, upstream, login, kept, action, .. } = self;
        Ok(match state {
            State::Login(LoginState::AwaitStartup(state)) => {
                state.step(client, settings)?.map(|wanted| {
                    *action = Some(Action::Connect);
                    match wanted {
                        Wanted::Cancel(packet) => {
                            State::Cancelling(Box::new(Cancelling::new(packet)))
                        }
                        Wanted::Session { login: known, startup, channel } => {
                            *login = Some(known.clone());
                            let state = Box::new(Connecting::new(known, startup));
                            State::Login(LoginState::Connecting(state, channel))
                        }
                    }
                })
            }
            State::Login(LoginState::Connecting(state, channel)) => {
                if client.is_gone() {
                    sometimes!(LeftConnecting);
                    return Ok(Step::ClientLeft);
                }
                state.step(upstream, settings)?.map(|Connected { login, context, tls }| {
                    let legs = Legs { client: *channel, upstream: tls };
                    let state = Box::new(Authenticating::new(login, legs, *nonce));
                    State::Login(LoginState::Authenticating(state, context))
                })
            }
            State::Login(LoginState::Authenticating(state, context)) => {
                let step = state.step(client, upstream, settings)?;
                step.map(|Authenticated { login, ok }| match &login.user {
                    User::Bypass(_) => {
                        client.output.extend_from_slice(ok.as_bytes());
                        *action = Some(Action::Pipe);
                        open_pipe(client, upstream, Findings::default())
                    }
                    User::Tenant(tenant) => {
                        forward_early_bytes(client, upstream);
                        let batch = Batch::new(tenant, context, &settings.policy, *kept);
                        State::Login(LoginState::Binding(Box::new(Binding::new(batch, &ok))))
                    }
                })
            }
            State::Login(LoginState::Binding(state)) => {
                if client.is_gone() {
                    sometimes!(LeftBinding);
                    return Ok(Step::ClientLeft);
                }
                let step = state.step(upstream)?;
                leak_held(state, client);
                step.map(|Bound { held, findings }| {
                    client.output.unsplit(held);
                    *action = Some(Action::Pipe);
                    open_pipe(client, upstream, findings)
                })
            }
            State::Cancelling(state) => state.step(upstream, settings)?,
            State::Piping(_) | State::Refusing | State::Ended => Step::Wait,
        })
    }

    /// How the upstream leg comes to its TLS, in the states that wait for it.
    pub(super) fn negotiation(&mut self) -> Option<&mut Negotiation> {
        match &mut self.state {
            State::Login(LoginState::Connecting(state, _)) => Some(&mut state.negotiation),
            State::Cancelling(state) => Some(&mut state.negotiation),
            State::Login(_) | State::Piping(_) | State::Refusing | State::Ended => None,
        }
    }

    pub(super) fn is_binding(&self) -> bool {
        matches!(&self.state, State::Login(LoginState::Binding(_)))
    }
}

impl LoginState {
    /// Whose turn it is.
    pub(super) fn awaited(&self) -> Fault {
        match self {
            LoginState::AwaitStartup(_) => Fault::Client,
            LoginState::Authenticating(state, _) if state.waits_for_client() => Fault::Client,
            LoginState::Connecting(..)
            | LoginState::Authenticating(..)
            | LoginState::Binding(_) => Fault::Upstream,
        }
    }
}

/// Opens the pipe: what either side has said early goes first.
fn open_pipe(client: &mut ClientIo, upstream: &mut UpstreamIo, findings: Findings) -> State {
    sometimes!(!client.input.is_empty(), EarlyBytes);
    sometimes!(!upstream.input.is_empty(), LateBytes);
    if mutant!(EarlyBytesLost) {
        client.input.clear();
    }
    upstream.output.unsplit(mem::take(&mut client.input));
    client.output.unsplit(mem::take(&mut upstream.input));
    State::Piping(findings)
}

/// Planted bugs.
fn forward_early_bytes(client: &mut ClientIo, upstream: &mut UpstreamIo) {
    if mutant!(EarlyBytesForwarded) {
        upstream.output.unsplit(mem::take(&mut client.input));
    }
}

fn leak_held(state: &mut Binding, client: &mut ClientIo) {
    if mutant!(HeldLeaks) {
        client.output.unsplit(mem::take(&mut state.held));
    }
}
