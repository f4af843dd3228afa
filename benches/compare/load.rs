//! Clients of the wire protocol that ask one thing over and over: as little of their own work as
//! can be, the same for every way to PostgreSQL.

use std::io::Read;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testing::session::message;
use testing::{Message, Raw};

use crate::ways::Way;

/// How a query is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Simple,
    /// Bind, Execute and Sync of a statement that was prepared before.
    Prepared,
}

/// What clients saw.
pub struct Seen {
    pub queries: u64,
    /// Of each query, sorted.
    pub latencies: Vec<Duration>,
}

impl Protocol {
    fn request(self) -> Vec<u8> {
        match self {
            Protocol::Simple => message(b'Q', b"select 1\0"),
            Protocol::Prepared => [
                message(b'B', b"\0bench\0\0\0\0\0\0\0"),
                message(b'E', b"\0\0\0\0\0"),
                message(b'S', b""),
            ]
            .concat(),
        }
    }

    fn prepare(self, session: &mut Raw) {
        if self == Protocol::Prepared {
            let parse = message(b'P', b"bench\0select 1\0\0\0");
            session.send(&[parse, message(b'S', b"")].concat());
            session.read_until(b"Z");
        }
    }
}

/// So many clients ask for this long, once all are logged in and have asked once. `steady` runs
/// before that and after it, when nobody asks.
pub fn queries(
    way: &Way,
    clients: usize,
    protocol: Protocol,
    time: Duration,
    mut steady: impl FnMut(),
) -> Seen {
    let (ready, stop) = (Barrier::new(clients + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let client = || {
            let mut session = way.session();
            protocol.prepare(&mut session);
            let request = protocol.request();
            session.send(&request);
            let answer = session.read_until(b"Z");
            let mut answer = vec![0; answer.iter().map(|message| message.to_bytes().len()).sum()];
            let mut latencies = Vec::new();
            ready.wait();
            ready.wait();
            while !stop.load(Ordering::Relaxed) {
                let begin = Instant::now();
                session.send(&request);
                session.read_exact(&mut answer).expect("an answer");
                latencies.push(begin.elapsed());
            }
            ready.wait();
            latencies
        };
        let clients: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        ready.wait();
        steady();
        ready.wait();
        thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        ready.wait();
        steady();
        let seen = clients.into_iter().map(|client| client.join().expect("a client goes on"));
        let mut latencies: Vec<_> = seen.flatten().collect();
        latencies.sort_unstable();
        Seen { queries: latencies.len() as u64, latencies }
    })
}

/// Reads so many rows of a thousand bytes. Returns the bytes that came.
pub fn copy_out(way: &Way, rows: u32) -> u64 {
    let mut session = way.session();
    session.send_message(&Message::query(&format!(
        "copy (select repeat('x', 999) from generate_series(1, {rows})) to stdout"
    )));
    let mut scratch = vec![0; 256 * 1024];
    let mut last = Vec::new();
    let mut bytes = 0;
    // A walk through every message would be most of the work.
    loop {
        let read = session.read(&mut scratch).expect("the copy goes on");
        assert_ne!(read, 0, "the copy ends with an answer");
        bytes += read as u64;
        last.extend_from_slice(&scratch[read.saturating_sub(READY.len())..read]);
        last.drain(..last.len().saturating_sub(READY.len()));
        if last == READY {
            return bytes;
        }
    }
}

/// Sends so many rows of a thousand bytes into a table that goes with the session. Returns the
/// bytes that went.
pub fn copy_in(way: &Way, rows: u32) -> u64 {
    let mut session = way.session();
    session.query("create temp table sink (line text)");
    session.send_message(&Message::query("copy sink from stdin"));
    assert_eq!(session.read_message().tag, b'G', "CopyInResponse");
    let line = [&[b'x'; 999][..], b"\n"].concat();
    let lines = message(b'd', &line.repeat(COPY_LINES as usize));
    let mut bytes = 0;
    for _ in 0..rows / COPY_LINES {
        session.send(&lines);
        bytes += lines.len() as u64;
    }
    session.send(&message(b'c', b""));
    let answer = session.read_until(b"ZE");
    assert_eq!(answer[0].tag, b'C', "CommandComplete");
    bytes
}

/// ReadyForQuery outside a transaction. No row holds it.
const READY: &[u8] = b"Z\0\0\0\x05I";
const COPY_LINES: u32 = 64;
