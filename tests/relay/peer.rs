//! A client or an upstream on a wire, in plain text or with TLS of its own.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use testing::network::{Wire, World};

/// The other end of one leg.
pub struct Peer {
    pub wire: Wire,
    tls: Option<Connection>,
    /// Bytes for the wire.
    outbox: Vec<u8>,
    heard: Vec<u8>,
    /// What its TLS has found wrong.
    pub error: Option<String>,
}

/// How many bytes go over a wire in one turn: to the daemon, from it.
#[derive(Clone, Copy)]
pub struct Pace(pub usize, pub usize);

impl Pace {
    pub const ANY: Pace = Pace(usize::MAX, usize::MAX);
}

impl Peer {
    /// In plain text so far.
    pub fn new(wire: Wire) -> Self {
        Peer { wire, tls: None, outbox: Vec::new(), heard: Vec::new(), error: None }
    }

    pub fn start_client(&mut self, config: Arc<ClientConfig>, name: ServerName<'static>) {
        let mut tls = Connection::from(ClientConnection::new(config, name).unwrap());
        tls.set_buffer_limit(None);
        self.tls = Some(tls);
    }

    pub fn start_server(&mut self, config: Arc<ServerConfig>) {
        let mut tls = Connection::from(ServerConnection::new(config).unwrap());
        tls.set_buffer_limit(None);
        self.tls = Some(tls);
    }

    pub fn tls(&mut self) -> &mut Connection {
        self.tls.as_mut().expect("it has TLS")
    }

    /// Takes its TLS away, to go on by hand.
    pub fn take_tls(&mut self) -> Connection {
        self.tls.take().expect("it has TLS")
    }

    /// To be sent with the next step.
    pub fn say(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            None => self.outbox.extend(bytes),
            Some(tls) => tls.writer().write_all(bytes).unwrap(),
        }
    }

    /// Past TLS, onto the wire.
    pub fn say_raw(&mut self, bytes: &[u8]) {
        self.take_ciphertext();
        self.outbox.extend(bytes);
    }

    /// What a step would send.
    pub fn take_ciphertext(&mut self) -> Vec<u8> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.outbox).unwrap();
            }
        }
        std::mem::take(&mut self.outbox)
    }

    /// The end of what it says, within TLS and without closing the wire.
    pub fn close_notify(&mut self) {
        self.tls().send_close_notify();
    }

    /// What it has heard since the last call.
    pub fn hear(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.heard)
    }

    /// How much of it there is so far.
    pub fn heard_bytes(&self) -> usize {
        self.heard.len()
    }

    /// close_notify has come.
    pub fn hears_the_end(&mut self) -> bool {
        self.tls().process_new_packets().is_ok_and(|state| state.peer_has_closed())
    }

    /// Sends a piece, lets the daemon work, takes a piece; whether anything moved.
    pub fn step(&mut self, world: &mut World, pace: Pace) -> bool {
        let mut bytes = self.take_ciphertext();
        self.outbox = bytes.split_off(bytes.len().min(pace.0));
        if !bytes.is_empty() {
            self.wire.say(&bytes);
        }
        if pace.1 < usize::MAX {
            self.wire.room(pace.1);
        }
        world.run();
        let said = self.wire.hear();
        self.take(&said);
        !bytes.is_empty() || !said.is_empty()
    }

    fn take(&mut self, mut said: &[u8]) {
        let Some(tls) = &mut self.tls else { return self.heard.extend(said) };
        while !said.is_empty() && self.error.is_none() {
            if tls.read_tls(&mut said).unwrap() == 0 {
                return;
            }
            self.error = tls.process_new_packets().err().map(|error| error.to_string());
            let _ = tls.reader().read_to_end(&mut self.heard);
        }
    }
}

/// Until nothing moves.
pub fn settle(world: &mut World, peers: &mut [&mut Peer], pace: Pace) {
    while peers.iter_mut().fold(false, |moved, peer| peer.step(world, pace) | moved) {}
}
