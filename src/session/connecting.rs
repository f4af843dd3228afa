//! The second state: a login that is known, until its upstream leg is connected, and encrypted.
//! Knows nothing of how that is done, or of the client.

use std::net::SocketAddr;
use std::rc::Rc;

use super::io::UpstreamIo;
use super::negotiation::Negotiation;
use super::step::Step;
use super::{Secured, Settings};
use crate::protocol::StartupMessage;
use crate::refusal::Refusal;
use crate::tenant::{Context, Login, Policy};

/// Waits for the upstream leg, on whose address the StartupMessage may depend.
pub(super) struct Connecting {
    login: Rc<Login>,
    /// For upstream, still without the context.
    startup: StartupMessage,
    /// Of Multigres' end of the upstream leg, if the context depends on it.
    local_address: Option<SocketAddr>,
    pub(super) negotiation: Negotiation,
}

/// The upstream leg is ready, and has been sent its StartupMessage.
pub(super) struct Connected {
    pub(super) login: Rc<Login>,
    /// What the StartupMessage binds, and the batch has to.
    pub(super) context: Context,
    /// Of the leg's TLS, if it has TLS.
    pub(super) tls: Option<Secured>,
}

impl Connecting {
    pub(super) fn new(login: Rc<Login>, startup: StartupMessage) -> Self {
        let negotiation = Negotiation::Connecting;
        Connecting { login, startup, local_address: None, negotiation }
    }

    /// The upstream leg is connected. Its address is asked for only where the context needs it.
    pub(super) fn connected<E>(
        &mut self,
        policy: &Policy,
        local_address: impl FnOnce() -> Result<Option<SocketAddr>, E>,
    ) -> Result<(), E> {
        if policy.binds_address(&self.login) {
            self.local_address = local_address()?;
        }
        self.negotiation.connected();
        Ok(())
    }

    pub(super) fn step(
        &mut self,
        io: &mut UpstreamIo,
        settings: &Settings,
    ) -> Result<Step<Connected>, Refusal> {
        self.negotiation.step(settings.upstream_tls, io)?.and_then(|tls| {
            let context = settings.policy.context(&self.login, self.local_address)?;
            settings.policy.bind(&mut self.startup, &self.login, &context);
            self.startup.encode(&mut io.output);
            Ok(Step::Done(Connected { login: self.login.clone(), context, tls }))
        })
    }
}
