//! Both directions of the pipe, and who ends it.
//! Knows nothing of the login before it: what that has left over is handed in when the pipe opens.

use bytes::BytesMut;

use super::buffer::BufferPool;
use super::flow::{Ending, Flow, Moved};
use super::leg_stream::Closure;
use super::transport::Transport;
use crate::login::Leg;
use crate::net::Stream;

/// The pipe between two legs.
pub(super) struct Pipe {
    /// Client to upstream.
    up: Flow,
    /// Upstream to client.
    down: Flow,
    ending: Option<Ending>,
}

impl Pipe {
    pub(super) fn new() -> Self {
        Pipe { up: Flow::new(Leg::Client), down: Flow::new(Leg::Upstream), ending: None }
    }

    /// Takes what the login has left for either leg: it goes first.
    pub(super) fn open(&mut self, to_client: BytesMut, to_upstream: BytesMut) {
        self.up.open(to_upstream);
        self.down.open(to_client);
    }

    /// Who ended it first, if it has begun to end.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Bytes moved, without what the login has left: from the client, from upstream.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.up.bytes(), self.down.bytes())
    }

    /// Grows with whatever the client's stream takes.
    pub(super) fn taken_bytes(&self) -> u64 {
        self.down.taken_bytes()
    }

    /// The client has been told the last.
    pub(super) fn is_client_told(&self) -> bool {
        self.down.is_closed()
    }

    /// Moves what can be moved, up to about `budget` bytes in each direction. `None` when both have
    /// come to their ends.
    pub(super) fn pump<S: Stream>(
        &mut self,
        client: &mut Transport<S>,
        upstream: &mut Transport<S>,
        pool: &mut BufferPool,
        budget: usize,
    ) -> Option<Moved> {
        let ending = &mut self.ending;
        let up = self.up.pump((&mut *client, &mut *upstream), pool, budget, ending);
        if let Some(Ending::Failed(Leg::Client, _)) = ending {
            sometimes!(Abandoned);
            self.down.abandon(pool);
        }
        let down = self.down.pump((upstream, client), pool, budget, ending);
        let is_over = self.up.is_closed() && self.down.is_closed();
        if is_over || self.is_cut_short() {
            return None;
        }
        Some(if down == Moved::Unfinished { down } else { up })
    }

    /// How each leg's writing side would end now: the client's, upstream's. Gives back what the
    /// pool has lent.
    pub(super) fn leave(&mut self, pool: &mut BufferPool) -> (Closure, Closure) {
        let closure = (self.down.closure(), self.up.closure());
        self.up.release(pool);
        self.down.release(pool);
        closure
    }

    /// Planted bugs.
    fn is_cut_short(&self) -> bool {
        let upstream_failed = matches!(self.ending, Some(Ending::Failed(Leg::Upstream, _)));
        mutant!(ErrorEndsBoth) && upstream_failed || mutant!(EndEndsBoth) && self.up.is_closed()
    }
}
