//! The second state: a login that is known, until its upstream leg is connected, and encrypted.
//! Knows nothing of how that is done.

use std::net::SocketAddr;
use std::rc::Rc;

use super::authenticating::Authenticating;
use super::legs::{ClientChannel, Legs};
use super::negotiation::Negotiation;
use super::{Io, Outcome, Settings, State, Step, UpstreamTls};
use crate::protocol::StartupMessage;
use crate::refusal::Refusal;
use crate::tenant::Login;

/// Waits for the upstream leg, on whose address the StartupMessage may depend.
pub(super) struct Connecting {
    pub(super) login: Rc<Login>,
    /// For upstream, but for the context.
    startup: StartupMessage,
    client: ClientChannel,
    /// Of Multigres' end of the upstream leg, once it is connected.
    end: Option<SocketAddr>,
    pub(super) negotiation: Negotiation,
}

impl Connecting {
    pub(super) fn new(login: Rc<Login>, startup: StartupMessage, client: ClientChannel) -> Self {
        let negotiation = Negotiation::Connecting;
        Connecting { login, startup, client, end: None, negotiation }
    }

    /// The upstream leg is connected; `end` is the address of Multigres' end of it.
    pub(super) fn connected(&mut self, end: Option<SocketAddr>, mode: UpstreamTls, io: &mut Io) {
        self.end = end;
        self.negotiation.connected(mode, io);
    }

    pub(super) fn step(&mut self, io: &mut Io, settings: &Settings) -> Result<Step, Refusal> {
        if io.client_is_gone() {
            sometimes!(LeftConnecting);
            return Ok(Step::End(Outcome::ClientLeft));
        }
        self.negotiation.step(settings.upstream_tls, io)?;
        let Some(upstream) = self.negotiation.ready() else { return Ok(Step::Wait) };
        let context = settings.policy.context(&self.login, self.end)?;
        settings.policy.bind(&mut self.startup, &self.login, &context);
        self.startup.encode(&mut io.to_upstream);
        let legs = Legs { client: self.client, upstream };
        let next = Authenticating::new(self.login.clone(), context, legs);
        Ok(Step::Next(State::Authenticating(Box::new(next))))
    }
}
