//! The bytes of a login, each leg's by itself: a state that is lent one leg cannot touch the other.
//! Knows nothing of who reads or writes them.

use bytes::{Buf, BytesMut};

use crate::protocol::message::MESSAGE_HEADER_BYTES;
use crate::protocol::{Message, frontend, message_bytes, take_message};
use crate::refusal::{Fault, Refusal};

/// The client's leg.
#[derive(Default)]
pub(crate) struct ClientIo {
    /// Received, and not taken yet.
    pub(crate) input: BytesMut,
    /// To be written.
    pub(crate) output: BytesMut,
    /// Nothing more will be received.
    pub(crate) has_ended: bool,
}

/// The upstream leg.
#[derive(Default)]
pub(crate) struct UpstreamIo {
    /// Received, and not taken yet.
    pub(crate) input: BytesMut,
    /// To be written.
    pub(crate) output: BytesMut,
    /// Bytes still to come of a message that is thrown away.
    skipped: usize,
}

impl ClientIo {
    /// The client has ended and left nothing to say: there is nobody to go on for.
    pub(crate) fn is_gone(&self) -> bool {
        planted!(self.has_ended && self.input.is_empty(), GoneClientKept => false)
    }
}

impl UpstreamIo {
    /// The next whole message.
    pub(crate) fn take_message(&mut self) -> Result<Option<Message>, Refusal> {
        take_message(&mut self.input, UPSTREAM_BODY_BYTES_MAX)
            .map_err(Refusal::wire(Fault::Upstream))
    }

    /// The next whole message. One of this type that is longer than any message may be is thrown
    /// away, however much of it has come.
    pub(crate) fn take_message_but(&mut self, skipped: u8) -> Result<Option<Message>, Refusal> {
        loop {
            let here = self.skipped.min(self.input.len());
            self.input.advance(here);
            self.skipped -= here;
            match message_bytes(&self.input) {
                Some((tag, bytes)) if tag == skipped && bytes > INPUT_BYTES_MAX => {
                    self.skipped = bytes;
                }
                Some(_) | None => return self.take_message(),
            }
        }
    }
}

/// Longest body of a message from upstream during a login.
const UPSTREAM_BODY_BYTES_MAX: usize = 65_535;

/// One whole message of the longest kind fits, and so much a client can say early.
pub(crate) const INPUT_BYTES_MAX: usize = MESSAGE_HEADER_BYTES + UPSTREAM_BODY_BYTES_MAX;

const _: () = assert!(UPSTREAM_BODY_BYTES_MAX >= frontend::AUTHENTICATION_REPLY_BYTES_MAX);
