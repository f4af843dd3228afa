//! One leg of a connection: its stream, and what is known of its readiness and its end.
//! Knows nothing of the other leg, or of TLS.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;

use crate::net::{Readiness, Stream};

/// A leg's stream with its readiness.
pub(super) struct LegStream<S> {
    stream: S,
    read_side: ReadSide,
    write_side: WriteSide,
}

/// What is known of the reading side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadSide {
    /// Nothing stands there, unless an event says so.
    Empty,
    /// Something may stand there.
    Readable,
    /// So may the end, perhaps behind data: a short read does not mean that it is empty.
    HungUp,
    /// The end has been read, or an error.
    Ended,
}

/// What is known of the writing side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WriteSide {
    /// The leg is not connected yet: nothing can be read or written.
    Connecting,
    /// There is no room, unless an event says so.
    Full,
    /// There may be room.
    Writable,
    /// It has been shut down.
    Ended,
    /// A write has told that the leg is broken. The kernel tells it once, and an end of the stream
    /// to whoever reads after that.
    Broken(ErrorKind),
}

/// What a read came to.
pub(super) enum Read {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing for now. If the leg is still readable something has come all the same, and all of
    /// it was TLS' own.
    Nothing,
    /// The TLS handshake is done: told once, before the first bytes.
    HandshakeDone,
    /// End of stream.
    End,
    /// The leg is broken.
    Failed(ErrorKind),
}

/// How a leg's writing side ends. Without TLS there is no difference to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closure {
    /// All has been said.
    Complete,
    /// More was to come: whoever listens must not take it for the whole.
    Truncated,
}

impl<S: Stream> LegStream<S> {
    /// Readiness is not known yet, so it is hoped for: a first try costs less than a wait.
    pub(super) fn new(stream: S, connected: bool) -> Self {
        let (read_side, write_side) = if connected {
            (ReadSide::Readable, WriteSide::Writable)
        } else {
            (ReadSide::Empty, WriteSide::Connecting)
        };
        LegStream { stream, read_side, write_side }
    }

    pub(super) fn connect_result(&mut self) -> io::Result<bool> {
        if self.write_side == WriteSide::Connecting && self.stream.connect_result()? {
            self.write_side = WriteSide::Writable;
        }
        Ok(self.write_side != WriteSide::Connecting)
    }

    pub(super) fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        self.stream.local_address()
    }

    /// Notes what an event says; whether that is news. While the leg is being connected every
    /// event is.
    pub(super) fn ready(&mut self, readiness: Readiness) -> bool {
        let before = (self.read_side, self.write_side);
        self.read_side = match self.read_side {
            ReadSide::Ended => ReadSide::Ended,
            ReadSide::HungUp => ReadSide::HungUp,
            ReadSide::Empty | ReadSide::Readable if readiness.read_closed => ReadSide::HungUp,
            ReadSide::Empty if readiness.readable => ReadSide::Readable,
            side @ (ReadSide::Empty | ReadSide::Readable) => side,
        };
        let has_room = planted!(readiness.writable, LostWriteEdge => false);
        if has_room && self.write_side == WriteSide::Full {
            self.write_side = WriteSide::Writable;
        }
        self.write_side == WriteSide::Connecting || before != (self.read_side, self.write_side)
    }

    /// Whether a read may find something.
    pub(super) fn is_readable(&self) -> bool {
        let may_find = matches!(self.read_side, ReadSide::Readable | ReadSide::HungUp);
        may_find && self.write_side != WriteSide::Connecting
    }

    pub(super) fn read_ended(&self) -> bool {
        self.read_side == ReadSide::Ended
    }

    /// The end has come, perhaps behind data that has still to be read.
    pub(super) fn hung_up(&self) -> bool {
        matches!(self.read_side, ReadSide::HungUp | ReadSide::Ended)
    }

    /// Nothing can be written any more.
    pub(super) fn write_ended(&self) -> bool {
        matches!(self.write_side, WriteSide::Ended | WriteSide::Broken(_))
    }

    /// Reads once.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Read {
        if !self.is_readable() {
            return Read::Nothing;
        }
        loop {
            return match self.stream.read(into) {
                Ok(0) => {
                    self.read_side = ReadSide::Ended;
                    planted!(self.end(), BrokenLegEnds => Read::End)
                }
                Ok(bytes) => {
                    if bytes < into.len() {
                        self.note_short_read();
                    }
                    Read::Bytes(bytes)
                }
                Err(error) if is_interrupted(&error) => {
                    sometimes!(ReadInterrupted);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sometimes!(ReadBlocked);
                    // Had the end come, or an error, the read would have told it.
                    self.read_side = ReadSide::Empty;
                    Read::Nothing
                }
                Err(error) => {
                    sometimes!(ReadFailed);
                    self.read_side = ReadSide::Ended;
                    Read::Failed(error.kind())
                }
            };
        }
    }

    /// What an end of the stream means.
    fn end(&self) -> Read {
        match self.write_side {
            WriteSide::Broken(kind) => Read::Failed(kind),
            WriteSide::Connecting | WriteSide::Full | WriteSide::Writable | WriteSide::Ended => {
                Read::End
            }
        }
    }

    /// Nothing stands behind what was read, unless the end does.
    fn note_short_read(&mut self) {
        sometimes!(ShortRead);
        sometimes!(self.read_side == ReadSide::HungUp, ShortReadBeforeEnd);
        let side = planted!(self.read_side, LostReadEdge => ReadSide::Readable);
        if side != ReadSide::HungUp {
            self.read_side = ReadSide::Empty;
        }
    }

    /// Writes once; how many of the bytes have gone, perhaps none.
    ///
    /// # Errors
    /// When the leg is broken, or its writing side has been shut down.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.write_by(bytes.len(), bytes.len(), |stream| stream.write(bytes))
    }

    /// Like [`LegStream::write`], from several slices.
    ///
    /// # Errors
    /// As for [`LegStream::write`].
    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, ErrorKind> {
        let all = slices.iter().map(|slice| slice.len()).sum();
        // A stream that has no such call takes the first slice alone, which says nothing of room.
        let first = slices.first().map_or(0, |slice| slice.len());
        self.write_by(all, first, |stream| stream.write_vectored(slices))
    }

    /// `all` bytes are to be written; a write of `some` does not mean that there was no more room.
    fn write_by(
        &mut self,
        all: usize,
        some: usize,
        mut write: impl FnMut(&mut S) -> io::Result<usize>,
    ) -> Result<usize, ErrorKind> {
        match self.write_side {
            WriteSide::Writable => {}
            WriteSide::Connecting | WriteSide::Full => return Ok(0),
            WriteSide::Ended | WriteSide::Broken(_) => return Err(ErrorKind::BrokenPipe),
        }
        loop {
            return match write(&mut self.stream) {
                Ok(0) => {
                    self.write_side = WriteSide::Ended;
                    Err(ErrorKind::WriteZero)
                }
                Ok(written) => {
                    if written != all && written != some {
                        sometimes!(ShortWrite);
                        self.write_side = WriteSide::Full;
                    }
                    Ok(planted!(written, PartialWriteFull => all))
                }
                Err(error) if is_interrupted(&error) => {
                    sometimes!(WriteInterrupted);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sometimes!(WriteBlocked);
                    self.write_side = WriteSide::Full;
                    Ok(0)
                }
                Err(error) => {
                    self.write_side = WriteSide::Broken(error.kind());
                    Err(error.kind())
                }
            };
        }
    }

    /// Half-close, once. An error means that the leg is broken: its reading side tells.
    pub(super) fn shut_down(&mut self) {
        if !self.write_ended() {
            self.write_side = WriteSide::Ended;
            if !mutant!(HalfCloseDropped) {
                let _ = self.stream.shutdown_write();
            }
        }
    }
}

fn is_interrupted(error: &io::Error) -> bool {
    planted!(error.kind() == ErrorKind::Interrupted, InterruptBreaks => false)
}
