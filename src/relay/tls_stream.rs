//! TLS on one leg: rustls between a leg's stream and its plaintext, ciphertext bounded both ways.
//! Knows nothing of the session, of the other leg, or of certificates.
//!
//! Ciphertext is read into a buffer of the pool, as much as one call brings, and fed to rustls from
//! there: only while rustls holds no plaintext, and the buffer goes back as soon as it is empty.
//! Plaintext is given to rustls only when all earlier ciphertext has left, so that one buffer of
//! the pipe with its overhead is the most that stands in between.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};

use bytes::{Buf, BytesMut};
use rustls::{Connection, ProtocolVersion, SupportedCipherSuite};

use super::buffer::{Buffer, BufferPool};
use super::leg_stream::{Closure, LegStream, Read};
use crate::net::Stream;

/// What TLS keeps for one leg.
pub(super) struct TlsStream {
    connection: Connection,
    state: State,
    /// Plain text from before TLS that has still to be written.
    plain_output: BytesMut,
    /// Ciphertext that was read before TLS was started.
    early: BytesMut,
    /// Ciphertext that rustls has not been fed with. Never empty.
    inbox: Option<Buffer>,
    /// Bytes that rustls has decrypted and holds.
    plaintext_bytes: usize,
    /// close_notify has come: what stands behind it is ignored (RFC 8446, section 6.1).
    close_notified: bool,
    /// Why TLS is broken.
    failure: Option<String>,
    /// Plaintext was refused that will not be offered again.
    has_lost: bool,
    /// Ciphertext that has gone.
    written_bytes: u64,
    /// How many records the keys are still good for: TLS 1.2 cannot change them.
    records_left: u64,
}

/// What the reading side has been told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing: the handshake is under way.
    Handshake,
    /// That the handshake is done.
    Open,
    /// That the stream has ended.
    Ended,
    /// That TLS is broken: what still comes is thrown away.
    Failed,
}

impl TlsStream {
    /// `plain_output` is written before anything of TLS, `early` is taken for the first that was
    /// read.
    pub(super) fn new(
        mut connection: Connection,
        plain_output: BytesMut,
        early: BytesMut,
    ) -> Box<Self> {
        // It is given plaintext only when it holds no ciphertext: what it is given is the limit.
        connection.set_buffer_limit(None);
        Box::new(TlsStream {
            connection,
            state: State::Handshake,
            plain_output,
            early,
            inbox: None,
            plaintext_bytes: 0,
            close_notified: false,
            failure: None,
            has_lost: false,
            written_bytes: 0,
            records_left: u64::MAX,
        })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.state == State::Handshake
    }

    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    pub(super) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Whether a read may find something.
    pub(super) fn is_readable<S: Stream>(&self, stream: &LegStream<S>) -> bool {
        match self.state {
            State::Handshake | State::Open => {
                self.has_input()
                    || self.holds_plaintext()
                    || self.close_notified
                    || self.failure.is_some()
                    || stream.is_readable()
            }
            State::Ended => false,
            State::Failed => stream.is_readable(),
        }
    }

    /// Nothing will be decrypted any more, though not all of it may have been read yet.
    pub(super) fn is_over(&self) -> bool {
        self.close_notified || self.failure.is_some()
    }

    pub(super) fn read_ended<S: Stream>(&self, stream: &LegStream<S>) -> bool {
        match self.state {
            State::Handshake | State::Open => false,
            State::Ended => true,
            State::Failed => stream.read_ended(),
        }
    }

    /// Reads plaintext, with at most one call for ciphertext. What it decrypts is taken from
    /// `left`.
    pub(super) fn read<S: Stream>(
        &mut self,
        stream: &mut LegStream<S>,
        into: &mut [u8],
        pool: &mut BufferPool,
        left: &mut usize,
    ) -> Read {
        match self.state {
            State::Handshake | State::Open => {}
            State::Ended => return Read::Nothing,
            State::Failed => return discard(stream, into, left),
        }
        let mut filled = 0;
        let mut is_asked = false;
        loop {
            if self.is_handshake_done() {
                self.state = State::Open;
                self.records_left = records_max(&self.connection);
                return Read::HandshakeDone;
            }
            filled += self.drain(&mut into[filled..]);
            if filled == into.len() {
                return Read::Bytes(filled);
            }
            if self.has_input() {
                self.feed(pool, left);
                self.answer(stream);
                continue;
            }
            if filled > 0 {
                return Read::Bytes(filled);
            }
            if self.failure.is_some() {
                self.state = State::Failed;
                return Read::Failed(ErrorKind::InvalidData);
            }
            if self.close_notified {
                self.state = State::Ended;
                return Read::End;
            }
            if is_asked {
                return Read::Nothing;
            }
            is_asked = true;
            if let Some(other) = self.fill(stream, pool) {
                return other;
            }
        }
    }

    /// Encrypts and writes; how many of the bytes rustls has taken: all of them, or none because
    /// earlier ciphertext has not left yet.
    ///
    /// # Errors
    /// When the leg or its TLS is broken.
    pub(super) fn write<S: Stream>(
        &mut self,
        stream: &mut LegStream<S>,
        bytes: &[u8],
    ) -> Result<usize, ErrorKind> {
        let has_gone = self.flush(stream)? || mutant!(CiphertextUnbounded);
        if bytes.is_empty() || !has_gone || self.is_handshaking() {
            return Ok(0);
        }
        let records = bytes.len().div_ceil(RECORD_BYTES_MAX) as u64;
        if self.records_left < records {
            // rustls would say close_notify and lose the bytes.
            self.failure = Some("the keys are worn out, and TLS 1.2 cannot change them".into());
            self.has_lost = true;
            return Err(ErrorKind::InvalidData);
        }
        self.records_left -= records;
        self.connection.writer().write_all(bytes).map_err(|error| error.kind())?;
        self.flush(stream)?;
        Ok(bytes.len())
    }

    /// Writes what stands ready; whether all of it has gone.
    ///
    /// # Errors
    /// When the leg is broken.
    pub(super) fn flush<S: Stream>(
        &mut self,
        stream: &mut LegStream<S>,
    ) -> Result<bool, ErrorKind> {
        while !self.plain_output.is_empty() {
            match stream.write(&self.plain_output)? {
                0 => return Ok(false),
                written => self.plain_output.advance(written),
            }
        }
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Sink(stream)) {
                Ok(written) => self.written_bytes += written as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.kind()),
            }
        }
        Ok(true)
    }

    /// Says the last; whether that, and all before it, has gone or can never go.
    pub(super) fn close<S: Stream>(&mut self, stream: &mut LegStream<S>, closure: Closure) -> bool {
        let closure = planted!(closure, EndUnsaid => Closure::Truncated);
        match planted!(closure, CutSaidAsEnd => Closure::Complete) {
            Closure::Complete if !self.has_lost => self.connection.send_close_notify(),
            Closure::Complete | Closure::Truncated => {}
        }
        self.flush(stream).unwrap_or(true)
    }

    /// Gives back what the pool has lent.
    pub(super) fn release(&mut self, pool: &mut BufferPool) {
        if let Some(inbox) = self.inbox.take() {
            pool.take_back(inbox);
        }
    }

    fn is_handshake_done(&self) -> bool {
        self.is_handshaking() && self.failure.is_none() && !self.connection.is_handshaking()
    }

    fn holds_plaintext(&self) -> bool {
        self.plaintext_bytes > 0 && !mutant!(PlaintextForgotten)
    }

    fn has_input(&self) -> bool {
        !self.early.is_empty() || self.inbox.is_some()
    }

    /// Moves plaintext out of rustls.
    fn drain(&mut self, into: &mut [u8]) -> usize {
        // An error says that there is none, or no more.
        let bytes = self.connection.reader().read(into).unwrap_or(0);
        self.plaintext_bytes = self.plaintext_bytes.saturating_sub(bytes);
        bytes
    }

    /// Reads ciphertext, unless that tells of something else.
    fn fill<S: Stream>(
        &mut self,
        stream: &mut LegStream<S>,
        pool: &mut BufferPool,
    ) -> Option<Read> {
        let mut buffer = pool.lend();
        let read = stream.read(buffer.space());
        if let Read::Bytes(bytes) = read {
            buffer.fill(bytes);
            self.inbox = Some(buffer);
            return None;
        }
        pool.take_back(buffer);
        Some(match read {
            Read::End if mutant!(TruncationUnseen) => {
                self.state = State::Ended;
                Read::End
            }
            Read::End => {
                self.state = State::Failed;
                self.failure = Some("the stream ended without close_notify".into());
                Read::Failed(ErrorKind::UnexpectedEof)
            }
            Read::Failed(kind) => {
                self.state = State::Ended;
                Read::Failed(kind)
            }
            Read::Nothing | Read::HandshakeDone | Read::Bytes(_) => Read::Nothing,
        })
    }

    /// Feeds rustls with a piece of the ciphertext: it copies some KB at a time.
    fn feed(&mut self, pool: &mut BufferPool, left: &mut usize) {
        let mut input = match &self.inbox {
            Some(inbox) if self.early.is_empty() => inbox.pending(),
            Some(_) | None => &self.early[..],
        };
        let fed = self.connection.read_tls(&mut input);
        match &fed {
            Ok(bytes) => {
                *left = left.saturating_sub(*bytes);
                self.consume(*bytes, pool);
                match self.connection.process_new_packets() {
                    Ok(state) => {
                        self.plaintext_bytes = state.plaintext_bytes_to_read();
                        self.close_notified = state.peer_has_closed();
                    }
                    Err(error) => self.failure = Some(error.to_string()),
                }
            }
            Err(error) => self.failure = Some(error.to_string()),
        }
        let is_stuck = matches!(fed, Ok(0)) && !self.close_notified;
        if is_stuck && self.failure.is_none() {
            self.failure = Some("a record that cannot be".into());
        }
        if self.close_notified || self.failure.is_some() {
            self.early = BytesMut::new();
            self.release(pool);
        }
    }

    fn consume(&mut self, bytes: usize, pool: &mut BufferPool) {
        if !self.early.is_empty() {
            self.early.advance(bytes);
            if self.early.is_empty() {
                self.early = BytesMut::new();
            }
        } else if let Some(inbox) = &mut self.inbox
            && inbox.consume(bytes)
        {
            self.release(pool);
        }
    }

    /// What rustls has to say to what it was fed with: the handshake, alerts. Whoever writes next
    /// sees it if this cannot be written.
    fn answer<S: Stream>(&mut self, stream: &mut LegStream<S>) {
        if self.connection.wants_write() {
            let _ = self.flush(stream);
        }
    }
}

/// The name of the version in the log, as `pg_stat_ssl` has it.
pub(super) fn version(connection: &Connection) -> Option<&'static str> {
    let version = connection.protocol_version()?;
    Some(if version == ProtocolVersion::TLSv1_3 { "TLSv1.3" } else { "TLSv1.2" })
}

/// Reads what will never be decrypted, so that the alert before it is not lost to a reset.
fn discard<S: Stream>(stream: &mut LegStream<S>, into: &mut [u8], left: &mut usize) -> Read {
    match stream.read(into) {
        Read::Bytes(bytes) => {
            *left = left.saturating_sub(bytes);
            Read::Nothing
        }
        other @ (Read::Nothing | Read::HandshakeDone | Read::End | Read::Failed(_)) => other,
    }
}

/// How many records may be written: with TLS 1.3 rustls changes the keys in time. An alert or two
/// and the handshake take some of them.
fn records_max(connection: &Connection) -> u64 {
    match connection.negotiated_cipher_suite() {
        Some(SupportedCipherSuite::Tls12(suite)) => {
            suite.common.confidentiality_limit.saturating_sub(RECORDS_SPARE)
        }
        Some(SupportedCipherSuite::Tls13(_)) | None => u64::MAX,
    }
}

/// A leg's stream as rustls writes to it.
struct Sink<'a, S>(&'a mut LegStream<S>);

impl<S: Stream> io::Write for Sink<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0.write_vectored(slices)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            written => Ok(written),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Plaintext of one record (RFC 8446, section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

const RECORDS_SPARE: u64 = 16;
