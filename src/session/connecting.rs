//! The second state: a login that is known, until its upstream leg is connected.
//! Knows nothing of how that is done.

use std::net::SocketAddr;
use std::rc::Rc;

use super::authenticating::Authenticating;
use super::{Io, Outcome, Settings, Step};
use crate::protocol::StartupMessage;
use crate::refusal::Refusal;
use crate::tenant::Login;

/// Waits for the upstream leg, on whose address the StartupMessage may depend.
pub(super) struct Connecting {
    pub(super) login: Rc<Login>,
    /// For upstream, but for the context.
    startup: StartupMessage,
    client_is_local: bool,
}

impl Connecting {
    pub(super) fn new(login: Rc<Login>, startup: StartupMessage, client_is_local: bool) -> Self {
        Connecting { login, startup, client_is_local }
    }

    pub(super) fn step(&self, io: &Io) -> Step {
        if io.client_is_gone() {
            sometimes!(LeftConnecting);
            return Step::End(Outcome::ClientLeft);
        }
        Step::Wait
    }

    /// The upstream leg is connected; `end` is the address of Multigres' end of it.
    pub(super) fn connected(
        &mut self,
        end: Option<SocketAddr>,
        io: &mut Io,
        settings: &Settings,
    ) -> Result<Authenticating, Refusal> {
        let context = settings.policy.context(&self.login, end)?;
        settings.policy.bind(&mut self.startup, &self.login, &context);
        self.startup.encode(&mut io.to_upstream);
        Ok(Authenticating::new(self.login.clone(), context, self.client_is_local))
    }
}
