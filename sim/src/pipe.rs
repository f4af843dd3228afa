//! What both peers do once a session is up: bytes whose value says whose they are and where they
//! stand, so that loss, doubling, mixing and reordering show without keeping any of them.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

use crate::ledger::Ledger;
use crate::plan::{Ending, Pipe};
use crate::record::{applied, violate};
use crate::sock::Sock;
use crate::talk::Talk;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

/// How a peer's side of the pipe went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes sent.
    pub sent: usize,
    /// Bytes received.
    pub received: usize,
    /// EOF has come.
    pub eof: bool,
    /// The other side's TLS had not said before that this was its last.
    pub truncated: bool,
    /// A reset has come.
    pub reset: bool,
    /// It has gone away itself, as planned.
    pub left: bool,
}

/// The byte at a place of a session's stream.
pub fn byte(session: usize, way: Way, at: usize) -> u8 {
    let way = match way {
        Way::Up => 1,
        Way::Down => 2,
    };
    let mixed = (at as u64 + 1) ^ (session as u64 + 1) << 40 ^ way << 60;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 53) as u8
}

/// A piece of a session's stream.
pub fn bytes(session: usize, way: Way, from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| byte(session, way, at)).collect()
}

/// How far a side is with its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shut {
    No,
    /// The last is being said, and a half-close follows it.
    Half,
    /// The last is being said, and the side closes behind it.
    Whole,
    Done,
}

/// One peer's side of a pipe.
pub struct Side<'a> {
    session: usize,
    ledger: &'a Ledger,
    out: Way,
    pipe: &'a Pipe,
    report: Report,
    /// What has been said and has not gone.
    outgoing: Vec<u8>,
    shut: Shut,
    broken: bool,
    /// The login may be refused when upstream has just confirmed it: Terminate comes instead.
    tolerant: bool,
}

impl<'a> Side<'a> {
    /// The side that sends `out`, of which `sent` bytes have gone already.
    pub fn new(session: usize, out: Way, pipe: &'a Pipe, sent: usize, ledger: &'a Ledger) -> Self {
        let report = Report { sent, ..Report::default() };
        let (outgoing, shut) = (Vec::new(), Shut::No);
        Side { session, ledger, out, pipe, report, outgoing, shut, broken: false, tolerant: false }
    }

    /// Takes Terminate for the start of the stream.
    pub fn tolerate_terminate(&mut self, tolerant: bool) {
        self.tolerant = tolerant && self.out == Way::Down;
    }

    /// What has been received beside the login.
    pub fn receive(&mut self, bytes: &[u8]) {
        applied("S5");
        let way = if self.out == Way::Up { Way::Down } else { Way::Up };
        for (at, &found) in bytes.iter().enumerate() {
            let at = self.report.received + at;
            if self.tolerant && TERMINATE.get(at) == Some(&found) {
                continue;
            }
            if at >= self.to_receive() {
                violate(
                    "S6",
                    format!("session {}: {way:?} has bytes beyond its end", self.session),
                );
                break;
            }
            if found != byte(self.session, way, at) {
                violate("S6", format!("session {}: {way:?} is wrong at {at}", self.session));
                break;
            }
        }
        self.report.received += bytes.len();
        self.ledger.passed(self.session, self.out, self.report);
    }

    fn to_receive(&self) -> usize {
        if self.out == Way::Up { self.pipe.down } else { self.pipe.up }
    }

    fn to_send(&self) -> usize {
        if self.out == Way::Up { self.pipe.up } else { self.pipe.down }
    }

    fn may_send(&self) -> usize {
        if self.pipe.ending == Ending::UpstreamFirst && self.out == Way::Up && !self.report.eof {
            // The second half follows upstream's end.
            return (self.to_send() / 2).saturating_sub(self.report.sent);
        }
        let limit = match (self.pipe.pingpong, self.out) {
            (false, _) => self.to_send(),
            (true, Way::Up) => self.to_send().min(self.report.received + PINGPONG_BYTES),
            (true, Way::Down) if self.report.eof => self.to_send(),
            (true, Way::Down) => self.to_send().min(self.report.received),
        };
        limit.saturating_sub(self.report.sent)
    }

    /// Runs until this side has done its part.
    pub async fn run(mut self, talk: &mut Talk) -> Report {
        if self.pipe.ending == Ending::Deaf && self.out == Way::Up {
            return self.be_deaf(talk.sock()).await;
        }
        let pace = if self.out == Way::Up { self.pipe.client } else { self.pipe.upstream };
        self.report.eof = talk.codec.is_closed();
        loop {
            if self.has_to_leave() {
                self.report.left = true;
                return self.report;
            }
            if self.is_done() {
                if self.shut == Shut::No {
                    self.say_end(talk, Shut::Whole);
                }
                if self.outgoing.is_empty() || self.broken || self.report.reset {
                    return self.report;
                }
            }
            poll_fn(|cx| {
                talk.sock().kernel().pump(cx);
                if self.step(talk, pace.chunk) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            if pace.pause_ms > 0 {
                sleep(Duration::from_millis(pace.pause_ms)).await;
            }
        }
    }

    fn say_end(&mut self, talk: &mut Talk, shut: Shut) {
        self.shut = shut;
        if self.pipe.ending.is_said() {
            self.outgoing.extend(talk.codec.farewell());
            let mut entry = self.ledger.entry(self.session);
            match self.out {
                Way::Up => entry.client.farewell = talk.codec.is_tls(),
                Way::Down => entry.upstream.farewell = talk.codec.is_tls(),
            }
        }
    }

    /// Takes nothing until the daemon has had enough.
    async fn be_deaf(mut self, sock: &mut Sock) -> Report {
        poll_fn(|cx| {
            sock.kernel().pump(cx);
            if sock.kernel().is_ended() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.report.left = true;
        self.report
    }

    fn has_to_leave(&self) -> bool {
        match (self.pipe.ending, self.out) {
            (Ending::ClientAbrupt(at), Way::Up) | (Ending::UpstreamAbrupt(at), Way::Down) => {
                self.report.received >= at.min(self.to_receive())
            }
            _ => false,
        }
    }

    fn is_done(&self) -> bool {
        let sent_all =
            self.report.sent >= self.to_send() && self.outgoing.is_empty() || self.broken;
        if self.report.reset {
            return true;
        }
        match (self.out, self.pipe.ending) {
            (Way::Up, Ending::UpstreamFirst) => self.report.eof && sent_all,
            (Way::Up, _) => self.report.eof,
            (Way::Down, Ending::Deaf) => sent_all,
            (
                Way::Down,
                Ending::ClientFirst
                | Ending::ClientTruncates
                | Ending::UpstreamFirst
                | Ending::Mute,
            ) => self.report.eof && sent_all,
            (Way::Down, _) if self.report.eof => sent_all,
            (Way::Down, _) => sent_all && self.report.received >= self.pipe.up,
        }
    }

    /// Whether anything moved.
    fn step(&mut self, talk: &mut Talk, chunk: usize) -> bool {
        let mut moved = false;
        let count = self.may_send().min(chunk);
        if count > 0 && self.outgoing.is_empty() && !self.broken && self.shut == Shut::No {
            self.outgoing =
                talk.codec.seal(&bytes(self.session, self.out, self.report.sent, count));
            self.report.sent += count;
            self.ledger.passed(self.session, self.out, self.report);
            moved = true;
        }
        let says_all = matches!(
            (self.out, self.pipe.ending),
            (Way::Up, Ending::ClientFirst | Ending::ClientTruncates)
                | (Way::Down, Ending::UpstreamFirst)
        );
        if says_all && self.report.sent >= self.to_send() && self.shut == Shut::No {
            self.say_end(talk, Shut::Half);
        }
        moved | self.put(talk.sock()) | self.hear(talk, chunk)
    }

    /// Puts on the wire what there is room for.
    fn put(&mut self, sock: &mut Sock) -> bool {
        let mut moved = false;
        if !self.outgoing.is_empty() && !self.broken {
            match sock.kernel().write(&self.outgoing) {
                Ok(sent) => {
                    self.outgoing.drain(..sent);
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.broken = true;
                    moved = true;
                }
            }
        }
        if self.shut == Shut::Half && self.outgoing.is_empty() {
            self.shut = Shut::Done;
            let _ = sock.kernel().shutdown_write();
            moved = true;
        }
        moved
    }

    fn hear(&mut self, talk: &mut Talk, chunk: usize) -> bool {
        // So many bytes of a stream: a record around them counts for nothing.
        let record = if talk.codec.is_tls() { RECORD_MORE } else { 0 };
        let mut space = vec![0; chunk + record];
        match talk.sock().kernel().read(&mut space) {
            Ok(0) => {
                let is_news = !self.report.eof;
                self.report.truncated |= is_news && talk.codec.is_tls();
                self.report.eof = true;
                is_news
            }
            Ok(count) => {
                match talk.codec.open(&space[..count]) {
                    Ok(plain) => self.receive(&plain),
                    Err(error) => {
                        violate("S6", format!("session {}: {:?} {error}", self.session, self.out));
                    }
                }
                self.report.eof |= talk.codec.is_closed();
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                self.report.reset = true;
                true
            }
        }
    }
}

const TERMINATE: &[u8] = b"X\0\0\0\x04";
/// What a record has more than its plaintext, and some.
const RECORD_MORE: usize = 40;
const PINGPONG_BYTES: usize = 16;
