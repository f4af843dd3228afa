//! What a login finds of its role and database, which may serve others.
//! Knows nothing of how it is asked, or of how long it counts.

use super::guard::Guard;

/// What the answer to a batch says of the role and the database: at least that the role can be a
/// tenant's, and reaches no keys of seals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Whether the database asks for seals; `None` without a key.
    pub sealed: Option<bool>,
    /// What its guard has said; `None` where nobody asks.
    pub guard: Option<Guard>,
}
