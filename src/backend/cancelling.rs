//! A CancelRequest on its way: passed on byte for byte once the upstream leg is ready.
//! Knows nothing of the session that it cancels.

use bytes::Bytes;

use super::negotiation::Negotiation;
use crate::login::{LoginSettings, Step, UpstreamIo};
use crate::refusal::Refusal;

/// Passes a CancelRequest on. Upstream answers by closing the connection.
pub(crate) struct Cancelling {
    /// The packet, until it is sent.
    packet: Option<Bytes>,
    pub(crate) negotiation: Negotiation,
}

impl Cancelling {
    pub(crate) fn new(packet: Bytes) -> Self {
        Cancelling { packet: Some(packet), negotiation: Negotiation::Connecting }
    }

    /// Never done: upstream's end is the end.
    pub(crate) fn step<T>(
        &mut self,
        io: &mut UpstreamIo,
        settings: &LoginSettings,
    ) -> Result<Step<T>, Refusal> {
        self.negotiation.step(settings.upstream_tls, io)?.and_then(|_| {
            if let Some(packet) = self.packet.take() {
                io.output.extend_from_slice(&packet);
            }
            // Nothing is said to a CancelRequest.
            io.input.clear();
            Ok(Step::Wait)
        })
    }

    /// Whether upstream has been given the packet.
    pub(crate) fn is_sent(&self) -> bool {
        self.packet.is_none()
    }
}
