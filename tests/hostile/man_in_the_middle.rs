//! A man in the middle between the daemon and PostgreSQL: writes down what the daemon says, and
//! changes what PostgreSQL answers, for logins that ask for it by their `application_name`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use testing::{FakeUpstream, Message, Raw, cluster, swallow};

/// What becomes of one message of PostgreSQL's.
pub(crate) enum Change {
    Pass,
    /// These bytes in its place.
    Say(Vec<u8>),
    /// These bytes in its place, one at a time.
    Spell(Vec<u8>),
    /// These bytes in its place, then the end.
    Close(Vec<u8>),
    /// These bytes in its place, then a reset.
    Reset(Vec<u8>),
    /// These bytes in its place, then nothing more until the daemon goes away.
    Hush(Vec<u8>),
}

/// Where a message of PostgreSQL's stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The number that the login bears in its `application_name`.
    pub(crate) attack: usize,
    /// Counted from zero, from the first authentication request on.
    pub(crate) index: usize,
    /// How many ReadyForQuery came before it.
    pub(crate) readies: usize,
}

pub(crate) struct Middle {
    fake: FakeUpstream,
    said: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Middle {
    /// One that only listens.
    pub(crate) fn listening() -> Middle {
        Middle::start(|_, _| Change::Pass)
    }

    /// Logins without a number in their `application_name` are left alone.
    pub(crate) fn start(
        change: impl Fn(Place, &Message) -> Change + Send + Sync + 'static,
    ) -> Middle {
        let said: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let notes = Arc::clone(&said);
        let fake = FakeUpstream::serve(move |client| serve(client, &notes, &change));
        Middle { fake, said }
    }

    pub(crate) fn port(&self) -> u16 {
        self.fake.port()
    }

    /// How many connections it has seen.
    pub(crate) fn accepted(&self) -> usize {
        self.fake.accepted()
    }

    /// What the daemon has said so far, by connection, from the first byte on.
    pub(crate) fn said(&self) -> Vec<Vec<u8>> {
        self.said.lock().unwrap().clone()
    }
}

/// The parameter by which a login asks for the attack of this number.
pub(crate) fn attack(number: usize) -> String {
    format!("attack {number}")
}

fn serve(
    mut client: Raw,
    said: &Arc<Mutex<Vec<Vec<u8>>>>,
    change: &impl Fn(Place, &Message) -> Change,
) {
    let Some(packet) = read_packet(&mut client) else { return };
    let connection = {
        let mut said = said.lock().unwrap();
        said.push(packet.clone());
        said.len() - 1
    };
    let attack = number_in(&packet);
    let mut upstream = Raw::tcp(SocketAddr::from(([127, 0, 0, 1], cluster().port())));
    upstream.send(&packet);
    let (mut from_client, mut to_upstream) = (
        client.try_clone().expect("an open socket"),
        upstream.try_clone().expect("an open socket"),
    );
    let notes = Arc::clone(said);
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = from_client.read(&mut buffer) {
            notes.lock().unwrap()[connection].extend(&buffer[..count]);
            if to_upstream.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        to_upstream.shutdown_write();
    });
    let (mut index, mut readies) = (0, 0);
    while let Ok(message) = upstream.try_read_message() {
        let change = match attack {
            Some(attack) => change(Place { attack, index, readies }, &message),
            None => Change::Pass,
        };
        index += 1;
        readies += usize::from(message.tag == b'Z');
        if !carry_out(change, &message, &mut client) {
            break;
        }
    }
    upstream.shutdown();
    // Wakes the other thread without a word on the wire: the close of the last handle says it.
    if let Raw::Tcp(stream) = &client {
        let _ = stream.shutdown(Shutdown::Read);
    }
}

/// Whether the connection goes on.
fn carry_out(change: Change, message: &Message, client: &mut Raw) -> bool {
    match change {
        Change::Pass => client.write_all(&message.to_bytes()).is_ok(),
        Change::Say(bytes) => client.write_all(&bytes).is_ok(),
        Change::Spell(bytes) => bytes.iter().all(|byte| client.write_all(&[*byte]).is_ok()),
        Change::Close(bytes) => {
            let _ = client.write_all(&bytes);
            false
        }
        Change::Reset(bytes) => {
            let _ = client.write_all(&bytes);
            reset(client);
            false
        }
        Change::Hush(bytes) => {
            let _ = client.write_all(&bytes);
            swallow(client);
            false
        }
    }
}

/// Makes the close of this TCP connection a reset.
pub(crate) fn reset(raw: &Raw) {
    if let Raw::Tcp(stream) = raw {
        SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("an open socket");
    }
}

fn read_packet(raw: &mut Raw) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    raw.read_exact(&mut length).ok()?;
    let mut packet = vec![0; u32::from_be_bytes(length) as usize];
    packet[..4].copy_from_slice(&length);
    raw.read_exact(&mut packet[4..]).ok()?;
    Some(packet)
}

fn number_in(packet: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(packet).into_owned();
    let (_, behind) = text.split_once("application_name\0attack ")?;
    behind.split('\0').next()?.parse().ok()
}
