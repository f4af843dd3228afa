//! What a state says to its parent, which alone knows what follows it.
//! Knows nothing of any state.

use std::convert::Infallible;

use super::legs::Leg;
use crate::protocol::Message;
use crate::refusal::Refusal;

/// What a state makes of what has come so far. A refusal that the client is told is the error
/// beside it.
pub(crate) enum Step<T> {
    /// It needs more bytes.
    Wait,
    /// It came on; there may be more to do at once.
    Again,
    /// It waits until TLS is there on this leg.
    StartTls(Leg),
    /// It is done, and hands this over.
    Done(T),
    /// The client has gone: nobody is left to go on for.
    ClientLeft,
    /// The login is refused, and the client is not told why: PostgreSQL closes without a word, too.
    RefusedSilently(Refusal),
    /// Upstream's own ErrorResponse ends the login.
    RefusedByUpstream(Message),
}

impl<T> Step<T> {
    /// Makes something else of what is handed over.
    pub(crate) fn map<U>(self, next: impl FnOnce(T) -> U) -> Step<U> {
        let Ok(step) = self.and_then(|value| Ok::<_, Infallible>(Step::Done(next(value))));
        step
    }

    /// Goes on with what is handed over.
    pub(crate) fn and_then<U, E>(
        self,
        next: impl FnOnce(T) -> Result<Step<U>, E>,
    ) -> Result<Step<U>, E> {
        Ok(match self {
            Step::Wait => Step::Wait,
            Step::Again => Step::Again,
            Step::StartTls(leg) => Step::StartTls(leg),
            Step::Done(value) => return next(value),
            Step::ClientLeft => Step::ClientLeft,
            Step::RefusedSilently(refusal) => Step::RefusedSilently(refusal),
            Step::RefusedByUpstream(message) => Step::RefusedByUpstream(message),
        })
    }
}
