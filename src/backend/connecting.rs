//! The second state: a login that is known, until its upstream leg is connected, and encrypted.
//! Knows nothing of how that is done, or of the client.

use std::net::SocketAddr;
use std::rc::Rc;

use super::negotiation::Negotiation;
use crate::login::{Handshake, LoginSettings, Step, UpstreamIo};
use crate::protocol::StartupMessage;
use crate::refusal::Refusal;
use crate::tenant::{Context, Login, Policy};

/// Waits for the upstream leg, on whose address the StartupMessage may depend.
pub(crate) struct Connecting {
    login: Rc<Login>,
    /// For upstream, still without the context.
    startup: StartupMessage,
    /// Of Multigres' end of the upstream leg, if the context depends on it.
    local_address: Option<SocketAddr>,
    pub(crate) negotiation: Negotiation,
}

/// The upstream leg is ready, and has been sent its StartupMessage.
pub(crate) struct Connected {
    pub(crate) login: Rc<Login>,
    /// What the StartupMessage binds, and the batch has to.
    pub(crate) context: Context,
    /// Of the leg's TLS, if it has TLS.
    pub(crate) tls: Option<Handshake>,
}

impl Connecting {
    pub(crate) fn new(login: Rc<Login>, startup: StartupMessage) -> Self {
        let negotiation = Negotiation::Connecting;
        Connecting { login, startup, local_address: None, negotiation }
    }

    /// The upstream leg is connected. Its address is asked for only where the context needs it.
    pub(crate) fn connected<E>(
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

    pub(crate) fn step(
        &mut self,
        io: &mut UpstreamIo,
        settings: &LoginSettings,
    ) -> Result<Step<Connected>, Refusal> {
        self.negotiation.step(settings.upstream_tls, io)?.and_then(|tls| {
            let context = settings.policy.context(&self.login, self.local_address)?;
            settings.policy.bind(&mut self.startup, &self.login, &context);
            self.startup.encode(&mut io.output);
            Ok(Step::Done(Connected { login: self.login.clone(), context, tls }))
        })
    }
}
