//! The upstream half of a login: from the dialled leg to the proof that the context is bound.
//! Knows nothing of clients, and cannot name a byte of theirs.

mod batch;
mod binding;
mod cancelling;
mod connecting;
mod findings;
mod guard;
mod negotiation;
mod proof;
mod role;
mod seal;

use crate::refusal::{Fault, Refusal, sqlstate};

pub(crate) use batch::Batch;
pub(crate) use binding::{Binding, Bound};
pub(crate) use cancelling::Cancelling;
pub(crate) use connecting::{Connected, Connecting};
pub use findings::Findings;
pub use guard::{Guard, is_alarm};
pub(crate) use negotiation::{Negotiation, failed as tls_refusal};
pub(crate) use role::SETTINGS_HINT;

fn not_bound(private: impl Into<String>) -> Refusal {
    sometimes!(NotBound);
    Refusal::new(
        Fault::Upstream,
        sqlstate::REJECTED_CONNECTION,
        "the tenant context could not be bound to the session",
    )
    .private(private)
}
