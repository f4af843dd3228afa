//! One leg of a connection: its stream, and what is known of its readiness and its end.
//! Knows nothing of the other leg, or of TLS.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;

use crate::net::{Readiness, Stream};

/// A leg's stream with its readiness.
pub(super) struct LegStream<S> {
    stream: S,
    connected: bool,
    readable: bool,
    writable: bool,
    /// The end stands, or may stand, behind the data: a short read does not mean drained.
    hung_up: bool,
    read_ended: bool,
    write_ended: bool,
    /// A write has told that the leg is broken. The kernel tells it once, and an end of the stream
    /// to whoever reads after that.
    broken: Option<ErrorKind>,
}

/// What a read came to.
pub(super) enum Read {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing for now. If the leg is still readable something has come all the same, and all of
    /// it was TLS' own.
    Nothing,
    /// The TLS handshake is done: told once, before the first bytes.
    Secured,
    /// End of stream.
    End,
    /// The leg is broken.
    Failed(ErrorKind),
}

/// How a leg's writing side ends. Without TLS there is no difference to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// All has been said.
    Word,
    /// More was to come: whoever listens must not take it for the whole.
    Cut,
}

impl<S: Stream> LegStream<S> {
    /// Readiness is not known yet, so it is hoped for: a first try costs less than a wait.
    pub(super) fn new(stream: S, connected: bool) -> Self {
        LegStream {
            stream,
            connected,
            readable: connected,
            writable: true,
            hung_up: false,
            read_ended: false,
            write_ended: false,
            broken: None,
        }
    }

    pub(super) fn connect_result(&mut self) -> io::Result<bool> {
        if !self.connected {
            self.connected = self.stream.connect_result()?;
        }
        Ok(self.connected)
    }

    pub(super) fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        self.stream.local_address()
    }

    /// Notes what an event says; whether that is news. While the leg is being connected every
    /// event is.
    pub(super) fn ready(&mut self, readiness: Readiness) -> bool {
        let before = (self.readable, self.hung_up, self.writable);
        self.readable |= readiness.readable | readiness.read_closed;
        self.hung_up |= readiness.read_closed;
        self.writable |= readiness.writable && !mutant!(LostWriteEdge);
        !self.connected || before != (self.readable, self.hung_up, self.writable)
    }

    /// Whether a read may find something.
    pub(super) fn is_readable(&self) -> bool {
        self.readable && !self.read_ended && self.connected
    }

    pub(super) fn read_ended(&self) -> bool {
        self.read_ended
    }

    /// The end has come, perhaps behind data that has still to be read.
    pub(super) fn hung_up(&self) -> bool {
        self.hung_up || self.read_ended
    }

    /// Nothing can be written any more.
    pub(super) fn write_ended(&self) -> bool {
        self.write_ended
    }

    /// Reads once.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Read {
        if !self.is_readable() {
            return Read::Nothing;
        }
        loop {
            return match self.stream.read(into) {
                Ok(0) => {
                    self.read_ended = true;
                    self.broken.filter(|_| !mutant!(BrokenLegEnds)).map_or(Read::End, Read::Failed)
                }
                Ok(bytes) => {
                    if bytes < into.len() {
                        sometimes!(ShortRead);
                        sometimes!(self.hung_up, ShortReadBeforeEnd);
                    }
                    let goes_on = self.hung_up && !mutant!(LostReadEdge);
                    self.readable = bytes == into.len() || goes_on;
                    Read::Bytes(bytes)
                }
                Err(error) if is_interrupted(&error) => {
                    sometimes!(ReadInterrupted);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sometimes!(ReadBlocked);
                    self.readable = false;
                    // Had the end come, or an error, the read would have told it.
                    self.hung_up = false;
                    Read::Nothing
                }
                Err(error) => {
                    sometimes!(ReadFailed);
                    self.read_ended = true;
                    Read::Failed(error.kind())
                }
            };
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
        if self.write_ended {
            return Err(ErrorKind::BrokenPipe);
        }
        if !self.writable || !self.connected {
            return Ok(0);
        }
        loop {
            return match write(&mut self.stream) {
                Ok(0) => {
                    self.write_ended = true;
                    Err(ErrorKind::WriteZero)
                }
                Ok(written) => {
                    self.writable = written == all || written == some;
                    sometimes!(!self.writable, ShortWrite);
                    Ok(if mutant!(PartialWriteFull) { all } else { written })
                }
                Err(error) if is_interrupted(&error) => {
                    sometimes!(WriteInterrupted);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    sometimes!(WriteBlocked);
                    self.writable = false;
                    Ok(0)
                }
                Err(error) => {
                    self.write_ended = true;
                    self.broken = Some(error.kind());
                    Err(error.kind())
                }
            };
        }
    }

    /// Half-close, once. An error means that the leg is broken: its reading side tells.
    pub(super) fn shut_down(&mut self) {
        if !self.write_ended {
            self.write_ended = true;
            if !mutant!(HalfCloseDropped) {
                let _ = self.stream.shutdown_write();
            }
        }
    }
}

fn is_interrupted(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Interrupted && !mutant!(InterruptBreaks)
}
