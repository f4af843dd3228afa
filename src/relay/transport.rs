//! One leg as the relay uses it: its stream, in plain text or with TLS in between.
//! Knows nothing of the other leg. Without TLS each call is one branch away from the stream.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use bytes::BytesMut;
use rustls::Connection;

use super::buffer::BufferPool;
use super::leg_stream::{Closure, LegStream, Read};
use super::tls_stream::{self, TlsStream};
use crate::net::{Readiness, Stream};

/// A leg's stream with its TLS, if it has any.
pub(super) struct Transport<S> {
    stream: LegStream<S>,
    tls: Option<Box<TlsStream>>,
}

impl<S: Stream> Transport<S> {
    /// In plain text.
    pub(super) fn new(stream: S, connected: bool) -> Self {
        Transport { stream: LegStream::new(stream, connected), tls: None }
    }

    /// Starts TLS: behind `plain_output`, with `early` as the first that was read.
    pub(super) fn start_tls(
        &mut self,
        connection: Connection,
        plain_output: BytesMut,
        early: BytesMut,
    ) {
        assert!(self.tls.is_none(), "TLS starts once");
        let early = if mutant!(EarlyRecordsLost) { BytesMut::new() } else { early };
        self.tls = Some(TlsStream::new(connection, plain_output, early));
    }

    /// What TLS has agreed on, or will have.
    pub(super) fn connection(&self) -> Option<&Connection> {
        self.tls.as_ref().map(|tls| tls.connection())
    }

    /// The TLS version, if it has TLS.
    pub(super) fn tls_version(&self) -> Option<&'static str> {
        self.connection().and_then(tls_stream::version)
    }

    /// Why TLS is broken, if it is.
    pub(super) fn tls_failure(&self) -> Option<&str> {
        self.tls.as_ref().and_then(|tls| tls.failure())
    }

    /// Nothing but TLS itself can be written yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    pub(super) fn connect_result(&mut self) -> io::Result<bool> {
        self.stream.connect_result()
    }

    pub(super) fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        self.stream.local_address()
    }

    /// Notes what an event says; whether that is news.
    pub(super) fn ready(&mut self, readiness: Readiness) -> bool {
        self.stream.ready(readiness)
    }

    /// Whether a read may find something.
    pub(super) fn is_readable(&self) -> bool {
        match &self.tls {
            None => self.stream.is_readable(),
            Some(tls) => tls.is_readable(&self.stream),
        }
    }

    /// The end has been read.
    pub(super) fn read_ended(&self) -> bool {
        match &self.tls {
            None => self.stream.read_ended(),
            Some(tls) => tls.read_ended(&self.stream),
        }
    }

    /// The end has come, perhaps behind data that has still to be read.
    pub(super) fn hung_up(&self) -> bool {
        self.stream.hung_up() || self.tls.as_ref().is_some_and(|tls| tls.is_over())
    }

    /// Reads once. What it costs is taken from `left`.
    pub(super) fn read(
        &mut self,
        into: &mut [u8],
        pool: &mut BufferPool,
        left: &mut usize,
    ) -> Read {
        match &mut self.tls {
            None => {
                let read = self.stream.read(into);
                if let Read::Bytes(bytes) = read {
                    *left = left.saturating_sub(bytes);
                }
                read
            }
            Some(tls) => tls.read(&mut self.stream, into, pool, left),
        }
    }

    /// Writes once; how many of the bytes have gone, or are TLS' to write.
    ///
    /// # Errors
    /// When the leg is broken, or its writing side has been shut down.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        match &mut self.tls {
            None => self.stream.write(bytes),
            Some(tls) => tls.write(&mut self.stream, bytes),
        }
    }

    /// Writes what is TLS' to write, as far as that goes.
    ///
    /// # Errors
    /// As for [`Transport::write`].
    pub(super) fn flush(&mut self) -> Result<(), ErrorKind> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => tls.flush(&mut self.stream).map(drop),
        }
    }

    /// Ciphertext that has gone: it grows while a slow reader takes what was written long ago.
    pub(super) fn ciphertext_bytes(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| tls.written_bytes())
    }

    /// Half-close, once; whether it is done. If not, call it again when there is room to write.
    pub(super) fn shut_down(&mut self, closure: Closure) -> bool {
        if let Some(tls) = &mut self.tls
            && !self.stream.write_ended()
            && !tls.close(&mut self.stream, closure)
        {
            return false;
        }
        self.stream.shut_down();
        true
    }

    /// Says what TLS says before a connection is closed, if it can be said at once, and gives back
    /// what the pool has lent. The leg is of no more use.
    pub(super) fn leave(&mut self, closure: Closure, pool: &mut BufferPool) {
        if let Some(tls) = &mut self.tls {
            if !self.stream.write_ended() {
                tls.close(&mut self.stream, closure);
            }
            tls.release(pool);
        }
    }
}
