//! The upstream half of a login: from the dialled leg to the proof that the context is bound.
//! Knows nothing of clients, and cannot name a byte of theirs.

mod binding;
mod cancelling;
mod connecting;
mod guard;
mod negotiation;
mod role;
mod seal;

pub(crate) use binding::{Binding, Bound, Findings};
pub(crate) use cancelling::Cancelling;
pub(crate) use connecting::{Connected, Connecting};
pub use guard::{Guard, is_alarm};
pub(crate) use negotiation::{Negotiation, failed as tls_refusal};
pub(crate) use role::SETTINGS_HINT;
