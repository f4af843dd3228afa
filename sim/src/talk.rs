//! A model peer's half of a login: says bytes at its own pace up to where they are cut, hears
//! messages. Shared by client and PostgreSQL, which differ in what they say.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

use crate::plan::{Cut, End};
use crate::sock::Sock;
use crate::wire;

/// A peer in its login.
pub struct Talk {
    /// Its socket, until it is closed.
    pub sock: Option<Sock>,
    /// What has been received and not been taken.
    pub input: Vec<u8>,
    /// Bytes said so far.
    pub said: usize,
    cut: Option<Cut>,
    chunk: usize,
    pace_ms: u64,
}

/// Why a login does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The other side has said its last.
    Eof,
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
        Talk { sock: Some(sock), input: Vec::new(), said: 0, cut, chunk, pace_ms }
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
    pub async fn say_last(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        while !bytes.is_empty() {
            self.check_cut().await?;
            let left = self.cut.map_or(usize::MAX, |cut| cut.at - self.said);
            let count = bytes.len().min(self.chunk).min(left);
            let count = self.sock().write(&bytes[..count]).await?;
            bytes = &bytes[count..];
            self.said += count;
            if self.pace_ms > 0 {
                sleep(Duration::from_millis(self.pace_ms)).await;
            }
        }
        Ok(())
    }

    /// Says the last of the login and more in one piece, which is never cut behind the login.
    pub async fn say_beyond(&mut self, last: &[u8], more: &[u8]) -> Result<(), Stop> {
        self.cut = self.cut.filter(|cut| cut.at < self.said + last.len());
        self.say_last(&[last, more].concat()).await?;
        self.said -= more.len();
        Ok(())
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
        }
        Err(Stop::Cut(cut.how))
    }

    /// Hears more bytes.
    pub async fn more(&mut self) -> Result<(), Stop> {
        let mut space = [0; 4096];
        match self.sock().read(&mut space).await? {
            0 => Err(Stop::Eof),
            count => {
                self.input.extend_from_slice(&space[..count]);
                Ok(())
            }
        }
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
        let mut pending = self.input.clone();
        if let Some(sock) = &mut self.sock {
            pending.extend(sock.kernel().peek());
        }
        TERMINATE.starts_with(&pending)
    }
}

const TERMINATE: &[u8] = b"X\0\0\0\x04";
const PAUSE: Duration = Duration::from_millis(20);
