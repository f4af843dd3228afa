//! Clients of the wire protocol that ask one thing over and over: as little of their own work as
//! can be, the same for every way to PostgreSQL.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testing::TENANTS;

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

/// A connection that is logged in, without a password.
pub struct Session(TcpStream);

impl Session {
    pub fn open(port: u16, user: &str) -> Session {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let parameters = format!("user\0{user}\0database\0{TENANTS}\0\0");
        let length = 8 + parameters.len() as u32;
        let head = [length.to_be_bytes(), (3_u32 << 16).to_be_bytes()].concat();
        stream.write_all(&[&head, parameters.as_bytes()].concat()).expect("a startup packet");
        let mut session = Session(stream);
        session.until_ready();
        session
    }

    pub fn ask(&mut self, request: &[u8]) {
        self.0.write_all(request).expect("a request");
    }

    /// How many bytes come until ReadyForQuery.
    pub fn until_ready(&mut self) -> u64 {
        let mut bytes = 0;
        loop {
            let (tag, body) = self.hear();
            assert_ne!(tag, b'E', "{}", body.escape_ascii());
            bytes += 5 + body.len() as u64;
            if tag == b'Z' {
                return bytes;
            }
        }
    }

    /// The next message.
    fn hear(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).expect("the answer goes on");
        let [tag, length @ ..] = head;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        self.0.read_exact(&mut body).expect("the answer goes on");
        (tag, body)
    }

    /// An answer whose length is known.
    fn take(&mut self, answer: &mut [u8]) {
        self.0.read_exact(answer).expect("an answer");
    }
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

    fn prepare(self, session: &mut Session) {
        if self == Protocol::Prepared {
            let parse = message(b'P', b"bench\0select 1\0\0\0");
            session.ask(&[parse, message(b'S', b"")].concat());
            session.until_ready();
        }
    }
}

/// So many clients ask for this long, once all are logged in and have asked once. `steady` runs
/// before that and after it, when nobody asks.
pub fn queries(
    (port, user): (u16, &str),
    clients: usize,
    protocol: Protocol,
    time: Duration,
    mut steady: impl FnMut(),
) -> Seen {
    let (ready, stop) = (Barrier::new(clients + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let client = || {
            let mut session = Session::open(port, user);
            protocol.prepare(&mut session);
            let request = protocol.request();
            session.ask(&request);
            let mut answer = vec![0; session.until_ready() as usize];
            let mut latencies = Vec::new();
            ready.wait();
            ready.wait();
            while !stop.load(Ordering::Relaxed) {
                let begin = Instant::now();
                session.ask(&request);
                session.take(&mut answer);
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
pub fn copy_out(port: u16, user: &str, rows: u32) -> u64 {
    let mut session = Session::open(port, user);
    let sql = format!("copy (select repeat('x', 999) from generate_series(1, {rows})) to stdout\0");
    session.ask(&message(b'Q', sql.as_bytes()));
    let mut scratch = vec![0; 256 * 1024];
    let mut last = Vec::new();
    let mut bytes = 0;
    // A walk through every message would be most of the work.
    loop {
        let read = session.0.read(&mut scratch).expect("the copy goes on");
        assert_ne!(read, 0, "the copy ends with an answer");
        bytes += read as u64;
        last.extend_from_slice(&scratch[read.saturating_sub(READY.len())..read]);
        last.drain(..last.len().saturating_sub(READY.len()));
        if last == READY {
            return bytes;
        }
    }
}

/// Sends so many rows of a thousand bytes into a table that goes with the session.
pub fn copy_in(port: u16, user: &str, rows: u32) -> u64 {
    let mut session = Session::open(port, user);
    session.ask(&message(b'Q', b"create temp table sink (line text)\0"));
    session.until_ready();
    session.ask(&message(b'Q', b"copy sink from stdin\0"));
    let (tag, body) = session.hear();
    assert_eq!(tag, b'G', "{}", body.escape_ascii());
    let line = [&[b'x'; 999][..], b"\n"].concat();
    let lines = message(b'd', &line.repeat(COPY_LINES as usize));
    let mut bytes = 0;
    for _ in 0..rows / COPY_LINES {
        session.ask(&lines);
        bytes += lines.len() as u64;
    }
    session.ask(&message(b'c', b""));
    session.until_ready();
    bytes
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = 4 + body.len() as u32;
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// ReadyForQuery outside a transaction. No row holds it.
const READY: &[u8] = b"Z\0\0\0\x05I";
const COPY_LINES: u32 = 64;
