//! One direction of the pipe: reads from one leg, writes to the other, in that order, unaltered.
//! Knows nothing of the other direction.

use std::io::ErrorKind;

use bytes::{Buf, BytesMut};

use super::buffer::{Buffer, BufferPool};
use super::leg_stream::{Closure, Read};
use super::transport::Transport;
use crate::login::Leg;
use crate::net::Stream;

/// One direction of the pipe.
pub(super) struct Flow {
    from: Leg,
    /// What the login has left. It goes first.
    rest: BytesMut,
    /// What has been read and not yet written. Nothing is read before it has gone.
    pending: Option<Buffer>,
    bytes: u64,
    /// Bytes of the login's rest that have been written.
    rest_bytes: u64,
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Open,
    /// The source has ended: what is pending is written, then the sink is shut down.
    Flushing(Closure),
    /// The sink is broken: what comes is thrown away until the source ends.
    Discarding,
    Closed,
}

/// Who ended the pipe, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// End of stream from this leg.
    Closed(Leg),
    /// An error on this leg.
    Failed(Leg, ErrorKind),
}

/// What a call of [`Flow::pump`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// Nothing moves until an event comes.
    Waiting,
    /// The budget is spent.
    Unfinished,
}

impl Flow {
    pub(super) fn new(from: Leg) -> Self {
        Flow {
            from,
            rest: BytesMut::new(),
            pending: None,
            bytes: 0,
            rest_bytes: 0,
            progress: Progress::Open,
        }
    }

    /// Takes what the login has left.
    pub(super) fn open(&mut self, rest: BytesMut) {
        // An empty buffer's memory is of no use here.
        self.rest = if rest.is_empty() { BytesMut::new() } else { rest };
    }

    /// Bytes written to the sink, without the login's rest.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Grows with whatever the sink takes.
    pub(super) fn taken_bytes(&self) -> u64 {
        self.bytes + self.rest_bytes
    }

    pub(super) fn is_closed(&self) -> bool {
        self.progress == Progress::Closed
    }

    /// How the sink's writing side would end now.
    pub(super) fn closure(&self) -> Closure {
        match self.progress {
            _ if self.pending.is_some() => Closure::Truncated,
            Progress::Flushing(closure) => closure,
            Progress::Open | Progress::Discarding => Closure::Complete,
            Progress::Closed if mutant!(GivenUpSaidAsEnd) => Closure::Complete,
            // It was given up, or the sink has been told already.
            Progress::Closed => Closure::Truncated,
        }
    }

    /// Moves up to about `budget` bytes. `ending` is set by whatever ends a leg first.
    pub(super) fn pump<S: Stream>(
        &mut self,
        (from, to): (&mut Transport<S>, &mut Transport<S>),
        pool: &mut BufferPool,
        budget: usize,
        ending: &mut Option<Ending>,
    ) -> Moved {
        if self.progress != Progress::Closed
            && let Err(kind) = to.flush()
        {
            self.sink_failed(kind, pool, ending);
        }
        if !self.rest.is_empty() {
            match write_rest(to, &mut self.rest) {
                Ok(written) => {
                    self.rest_bytes += written as u64;
                    if !self.rest.is_empty() {
                        sometimes!(RestBlocked);
                        return Moved::Waiting;
                    }
                }
                Err(kind) => self.sink_failed(kind, pool, ending),
            }
        }
        if from.read_ended() {
            // It ended during the login, or before its flow was given up.
            ending.get_or_insert(Ending::Closed(self.from));
            self.source_ended(Closure::Complete);
        }
        let mut left = budget;
        loop {
            if mutant!(HalfCloseEarly) && from.hung_up() {
                to.shut_down(Closure::Complete);
            }
            if let Some(buffer) = &mut self.pending {
                match to.write(buffer.pending()) {
                    Ok(written) => {
                        self.bytes += written as u64;
                        let is_empty = planted!(buffer.consume(written), BufferDropped => true);
                        if !is_empty {
                            return Moved::Waiting;
                        }
                        self.release(pool);
                    }
                    Err(kind) => self.sink_failed(kind, pool, ending),
                }
            }
            match self.progress {
                Progress::Open | Progress::Discarding => {}
                Progress::Flushing(closure) => {
                    match self.from {
                        Leg::Client => sometimes!(HalfCloseUp),
                        Leg::Upstream => sometimes!(HalfCloseDown),
                    }
                    if to.shut_down(closure) {
                        self.progress = Progress::Closed;
                    }
                    return Moved::Waiting;
                }
                Progress::Closed => return Moved::Waiting,
            }
            if !from.is_readable() {
                return Moved::Waiting;
            }
            if left == 0 {
                sometimes!(BudgetSpent);
                return Moved::Unfinished;
            }
            self.read(from, pool, &mut left, ending);
        }
    }

    /// Gives the buffer back.
    pub(super) fn release(&mut self, pool: &mut BufferPool) {
        if let Some(buffer) = self.pending.take() {
            pool.take_back(buffer);
        }
    }

    /// Ends the flow where it stands: its sink is known to be gone.
    pub(super) fn abandon(&mut self, pool: &mut BufferPool) {
        self.release(pool);
        self.progress = Progress::Closed;
    }

    /// Reads once. What has come is taken from `left`.
    fn read<S: Stream>(
        &mut self,
        from: &mut Transport<S>,
        pool: &mut BufferPool,
        left: &mut usize,
        ending: &mut Option<Ending>,
    ) {
        let mut buffer = pool.lend();
        let (bytes, end) = match from.read(buffer.space(), pool, left) {
            Read::Bytes(bytes) => (bytes, None),
            Read::Nothing | Read::HandshakeDone => (0, None),
            Read::End => (0, Some((Ending::Closed(self.from), Closure::Complete))),
            Read::Failed(kind) => (0, Some((Ending::Failed(self.from, kind), Closure::Truncated))),
        };
        if bytes > 0 && self.progress == Progress::Open {
            buffer.fill(bytes);
            self.pending = Some(buffer);
        } else {
            sometimes!(bytes > 0, Discarded);
            pool.take_back(buffer);
        }
        if let Some((end, closure)) = end {
            ending.get_or_insert(end);
            self.source_ended(closure);
        }
    }

    fn source_ended(&mut self, closure: Closure) {
        self.progress = match self.progress {
            Progress::Open => Progress::Flushing(closure),
            Progress::Flushing(closure) => Progress::Flushing(closure),
            Progress::Discarding | Progress::Closed => Progress::Closed,
        };
    }

    /// A client that cannot be written to is gone. An upstream that cannot be written to may still
    /// have its last word under way; meanwhile the client is read, so that closing its socket does
    /// not reset it and destroy that word.
    fn sink_failed(&mut self, kind: ErrorKind, pool: &mut BufferPool, ending: &mut Option<Ending>) {
        self.release(pool);
        let (leg, progress) = match (self.from, self.progress) {
            (Leg::Client, Progress::Open | Progress::Discarding) => {
                (Leg::Upstream, Progress::Discarding)
            }
            (Leg::Client, Progress::Flushing(_) | Progress::Closed) => {
                (Leg::Upstream, Progress::Closed)
            }
            (
                Leg::Upstream,
                Progress::Open | Progress::Flushing(_) | Progress::Discarding | Progress::Closed,
            ) => (Leg::Client, Progress::Closed),
        };
        ending.get_or_insert(Ending::Failed(leg, kind));
        self.progress = progress;
    }
}

/// Writes what the login has left; how much of it has gone. Its memory is given back with the last.
fn write_rest<S: Stream>(to: &mut Transport<S>, rest: &mut BytesMut) -> Result<usize, ErrorKind> {
    let result = to.write(rest);
    match result {
        Ok(written) if written < rest.len() => rest.advance(written),
        Ok(_) | Err(_) => *rest = BytesMut::new(),
    }
    result
}
