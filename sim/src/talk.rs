//! A model peer's half of a login: says bytes at its own pace up to where they are cut, hears
//! messages. Shared by client and PostgreSQL, which differ in what they say.

use std::io;
use std::time::Duration;

use rustls::Connection;
use tokio::time::sleep;

use crate::plan::{Cut, End};
use crate::sock::Sock;
use crate::tls::Codec;
use crate::wire;

/// A peer in its login.
pub struct Talk {
    /// Its socket, until it is closed.
    pub sock: Option<Sock>,
    /// What has been received and not been taken.
    pub input: Vec<u8>,
    /// Bytes said so far, as they were on the wire.
    pub said: usize,
    /// Its TLS, if there is any.
    pub codec: Codec,
    cut: Option<Cut>,
    chunk: usize,
    pace_ms: u64,
}

/// Why a login does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The other side has said its last.
    Eof,
    /// The other side's TLS has not said that it was its last.
    Truncated,
    /// What has come is not what TLS waits for.
    Garbled,
    /// The connection was reset.
    Reset,
    /// This side's bytes were cut as planned.
    Cut(End),
    /// This side has ended it otherwise.
    Own,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Stop::Reset
    }
}

impl Talk {
    /// A login that has not begun.
    pub fn new(sock: Sock, cut: Option<Cut>, chunk: usize, pace_ms: u64) -> Self {
        let codec = Codec::default();
        Talk { sock: Some(sock), input: Vec::new(), said: 0, codec, cut, chunk, pace_ms }
    }

    /// It is known whose login it is: what has been said counts, and has not been cut.
    pub fn go_on(&mut self, cut: Option<Cut>, chunk: usize, pace_ms: u64) {
        (self.cut, self.chunk, self.pace_ms) = (cut, chunk, pace_ms);
    }

    /// The socket.
    pub fn sock(&mut self) -> &mut Sock {
        self.sock.as_mut().expect("not closed")
    }

    /// Says all of it, or up to the cut.
    pub async fn say(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.say_last(bytes).await?;
        self.check_cut().await
    }

    /// Says the last of the login: a cut behind it is none.
    pub async fn say_last(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let wire = self.codec.seal(bytes);
        self.put(wire).await
    }

    /// Says the last of the login and more in one piece, which is never cut behind the login.
    /// `ends` hears where that is, on the wire, if the login comes so far.
    pub async fn say_beyond(
        &mut self,
        last: &[u8],
        more: &[u8],
        ends: impl FnOnce(usize),
    ) -> Result<(), Stop> {
        let wire = self.codec.seal(&[last, more].concat());
        // A record comes as a whole or not at all.
        let beyond = if self.codec.is_tls() { 0 } else { more.len() };
        let end = self.said + wire.len() - beyond;
        self.cut = self.cut.filter(|cut| cut.at < end);
        self.cut = self.cut.filter(|cut| cut.how != End::Garble || self.codec.is_tls());
        if self.cut.is_none_or(|cut| cut.how == End::Pause) {
            ends(end);
        }
        self.put(wire).await?;
        self.said = end;
        Ok(())
    }

    /// Begins TLS, and waits until it is there. What has come already is the first of it.
    pub async fn start_tls(&mut self, connection: Connection) -> Result<(), Stop> {
        self.codec.start(connection);
        let early = std::mem::take(&mut self.input);
        self.take(&early).await?;
        while self.codec.is_handshaking() {
            self.more().await?;
        }
        self.check_cut().await
    }

    /// Puts it on the wire.
    async fn put(&mut self, mut wire: Vec<u8>) -> Result<(), Stop> {
        let is_reached = |cut: &Cut| cut.how == End::Garble && cut.at < self.said + wire.len();
        let garbles = self.codec.is_tls() && self.cut.is_some_and(|cut| is_reached(&cut));
        if garbles && let Some(last) = wire.last_mut() {
            *last ^= 1;
        }
        let mut bytes = &wire[..];
        while !bytes.is_empty() {
            self.check_cut().await?;
            let cut = self.cut.filter(|cut| cut.how != End::Garble);
            let left = cut.map_or(usize::MAX, |cut| cut.at - self.said);
            let count = bytes.len().min(self.chunk).min(left);
            let count = self.sock().write(&bytes[..count]).await?;
            bytes = &bytes[count..];
            self.said += count;
            if self.pace_ms > 0 {
                sleep(Duration::from_millis(self.pace_ms)).await;
            }
        }
        if garbles { Err(Stop::Cut(End::Garble)) } else { Ok(()) }
    }

    /// Carries out the cut if its place has come.
    async fn check_cut(&mut self) -> Result<(), Stop> {
        let Some(cut) = self.cut.filter(|cut| cut.at <= self.said) else { return Ok(()) };
        self.cut = None;
        match cut.how {
            End::Pause => {
                // Of several lengths, as the place has it.
                sleep(PAUSE * (1 + cut.at as u32 % 7 * 2)).await;
                return Ok(());
            }
            End::HalfClose => {
                let _ = self.sock().kernel().shutdown_write();
            }
            End::Close => self.sock = None,
            End::Reset => self.sock.take().expect("not closed").reset(),
            End::Silence => {}
            End::Garble => {
                self.cut = Some(cut);
                return Ok(());
            }
        }
        Err(Stop::Cut(cut.how))
    }

    /// Hears more bytes.
    pub async fn more(&mut self) -> Result<(), Stop> {
        if self.codec.is_closed() {
            return Err(Stop::Eof);
        }
        let mut space = [0; 4096];
        match self.sock().read(&mut space).await? {
            0 if self.codec.is_tls() => Err(Stop::Truncated),
            0 => Err(Stop::Eof),
            count => self.take(&space[..count]).await,
        }
    }

    /// Takes what has come, and answers it if it is TLS' own.
    async fn take(&mut self, wire: &[u8]) -> Result<(), Stop> {
        let opened = self.codec.open(wire);
        let owed = self.codec.owed();
        self.put(owed).await?;
        self.input.extend(opened.map_err(|_| Stop::Garbled)?);
        Ok(())
    }

    /// Hears a whole message.
    pub async fn hear(&mut self) -> Result<(u8, Vec<u8>), Stop> {
        loop {
            if let Some(message) = wire::take(&mut self.input) {
                return Ok(message);
            }
            self.more().await?;
        }
    }

    /// Hears so many bytes.
    pub async fn hear_bytes(&mut self, count: usize) -> Result<Vec<u8>, Stop> {
        while self.input.len() < count {
            self.more().await?;
        }
        Ok(self.input.drain(..count).collect())
    }

    /// Hears whatever comes until the other side has ended.
    pub async fn hear_end(&mut self) -> Stop {
        loop {
            if self.sock.is_none() {
                return Stop::Own;
            }
            if let Err(stop) = self.more().await {
                return stop;
            }
        }
    }

    /// Nothing has come that was not asked for. Terminate may come at any time.
    pub fn is_quiet(&mut self) -> bool {
        if let Some(sock) = &mut self.sock {
            let mut wire = vec![0; sock.kernel().unread()];
            let _ = sock.kernel().read(&mut wire);
            self.input.extend(self.codec.open(&wire).unwrap_or_default());
        }
        TERMINATE.starts_with(&self.input)
    }
}

const TERMINATE: &[u8] = b"X\0\0\0\x04";
const PAUSE: Duration = Duration::from_millis(20);
