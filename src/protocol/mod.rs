//! PostgreSQL's frontend/backend protocol, version 3: the part of it that a login needs.
//! Knows nothing of sockets, sessions, tenants or settings: bytes in, values out, and back.
//!
//! Messages are taken whole from the front of a buffer ([`startup::take_first_packet`] before the
//! StartupMessage, [`message::take_message`] after it); a buffer that does not hold a whole one
//! yet is left as it is. Nothing here allocates more than the maximum its caller names.

pub mod backend;
pub mod frontend;
pub mod message;
pub mod startup;

pub use message::{Message, WireError, message_bytes, take_message};
pub use startup::{FirstPacket, StartupError, StartupMessage, take_first_packet};
