//! A CancelRequest on its way: passed on byte for byte once the upstream leg is ready.
//! Knows nothing of the session that it cancels.

use bytes::Bytes;

use super::negotiation::Negotiation;
use super::{Io, Settings, Step};
use crate::refusal::Refusal;

/// Passes a CancelRequest on. Upstream answers by closing the connection.
pub(super) struct Cancelling {
    /// The packet, until it is sent.
    packet: Option<Bytes>,
    pub(super) negotiation: Negotiation,
}

impl Cancelling {
    pub(super) fn new(packet: Bytes) -> Self {
        Cancelling { packet: Some(packet), negotiation: Negotiation::Connecting }
    }

    pub(super) fn step(&mut self, io: &mut Io, settings: &Settings) -> Result<Step, Refusal> {
        self.negotiation.step(settings.upstream_tls, io)?;
        if self.negotiation.ready().is_some() {
            if let Some(packet) = self.packet.take() {
                io.to_upstream.extend_from_slice(&packet);
            }
            // Nothing is said to a CancelRequest.
            io.from_upstream.clear();
        }
        Ok(Step::Wait)
    }

    /// Whether upstream has been given the packet.
    pub(super) fn is_sent(&self) -> bool {
        self.packet.is_none()
    }
}
