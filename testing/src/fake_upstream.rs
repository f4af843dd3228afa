//! What a real PostgreSQL does not do on demand: a scripted upstream, and one that relays to a
//! real PostgreSQL and changes what that says.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::{Cluster, Message, Raw};

/// Listens on a port of its own until it is dropped; each connection has its own thread.
pub struct FakeUpstream {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

/// What becomes of one message on its way from PostgreSQL to Multigres.
pub enum Tamper {
    Pass,
    /// These go instead of it.
    Replace(Vec<Message>),
    /// These bytes go instead of it, and then the connection is closed.
    CloseAfter(Vec<u8>),
}

impl FakeUpstream {
    /// Plays the script on every connection; the connection closes when the script returns.
    pub fn serve(script: impl Fn(Raw) + Send + Sync + 'static) -> FakeUpstream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let fake = FakeUpstream {
            address: listener.local_addr().expect("it is bound"),
            stopping: Arc::default(),
            accepted: Arc::default(),
        };
        let (stopping, accepted) = (Arc::clone(&fake.stopping), Arc::clone(&fake.accepted));
        let script = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                accepted.fetch_add(1, Ordering::SeqCst);
                let script = Arc::clone(&script);
                thread::spawn(move || script(Raw::from_tcp(stream.expect("a connection"))));
            }
        });
        fake
    }

    /// Relays to the cluster. For every connection `change` is made anew; it sees each message
    /// of PostgreSQL's, from the first authentication request on.
    pub fn tamper<Change>(
        cluster: &Cluster,
        make_change: impl Fn() -> Change + Send + Sync + 'static,
    ) -> FakeUpstream
    where
        Change: FnMut(&Message) -> Tamper,
    {
        let upstream = SocketAddr::from(([127, 0, 0, 1], cluster.port()));
        FakeUpstream::serve(move |client| relay(client, Raw::tcp(upstream), make_change()))
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections it has seen.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the accept that waits.
        let _ = TcpStream::connect(self.address);
    }
}

/// Passes bytes on to PostgreSQL and messages back, changed, until either side closes.
pub fn relay(mut client: Raw, mut upstream: Raw, mut change: impl FnMut(&Message) -> Tamper) {
    let mut from_client = client.try_clone().expect("an open socket");
    let mut to_upstream = upstream.try_clone().expect("an open socket");
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_upstream);
        to_upstream.shutdown_write();
    });
    while let Ok(message) = upstream.try_read_message() {
        let (bytes, close) = match change(&message) {
            Tamper::Pass => (message.to_bytes(), false),
            Tamper::Replace(messages) => {
                (messages.iter().flat_map(Message::to_bytes).collect(), false)
            }
            Tamper::CloseAfter(bytes) => (bytes, true),
        };
        if client.write_all(&bytes).is_err() || close {
            break;
        }
    }
    client.shutdown();
    upstream.shutdown();
}

/// Reads and forgets until the other end closes.
pub fn swallow(raw: &mut Raw) {
    let mut scratch = [0; 4096];
    while matches!(raw.read(&mut scratch), Ok(count) if count > 0) {}
}
