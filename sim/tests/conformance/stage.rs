//! What a story needs: a network under test, peers on its other side, and events.
//! Knows neither of the two worlds that stories are played in.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};

use multigres::net::{Address, ClientAddress, Net, Readiness, Stream, Token};

/// A network under test and the other side of it.
pub trait World {
    /// The network under test.
    type Net: Net;
    /// The other end of a connection.
    type Far: Far;

    /// The network under test.
    fn net(&mut self) -> &mut Self::Net;
    /// Listens, under [`LISTENER`]. Once in a story.
    async fn listen(&mut self) -> <Self::Net as Net>::Listener;
    /// Events tell of nothing that is not there.
    fn is_exact(&self) -> bool;
    /// Events, at least one: a long while without any fails the story.
    async fn events(&mut self) -> Vec<(Token, Readiness)>;
    /// The events of a short while, perhaps none.
    async fn lull(&mut self) -> Vec<(Token, Readiness)>;

    /// The other side dials the listener.
    async fn dial(&mut self) -> Result<Self::Far, ErrorKind>;
    /// Where the other side listens.
    fn address(&self) -> Address;
    /// The other side's end of what has been dialled at [`World::address`].
    async fn answered(&mut self) -> Self::Far;
    /// Where nobody listens.
    fn nowhere(&self) -> Address;
    /// Where a dialled connection is neither made nor refused, until [`World::unstall`].
    async fn stalled(&mut self) -> Address;
    /// Lets in who waits there.
    async fn unstall(&mut self);
    /// The other side's end of what has been dialled at [`World::stalled`].
    async fn answered_late(&mut self) -> Self::Far;
}

/// The other end of a connection. Its calls wait, and what they send has arrived, or is under way,
/// when they return.
pub trait Far {
    /// Writes all of it.
    async fn write(&mut self, bytes: &[u8]);
    /// Writes until that fails.
    async fn write_until_broken(&mut self) -> ErrorKind;
    /// Reads so many bytes.
    async fn read(&mut self, count: usize) -> Vec<u8>;
    /// Reads all up to the end, and says how it ended.
    async fn read_to_end(&mut self) -> (Vec<u8>, End);
    /// Waits for something to read, and leaves it unread.
    async fn await_data(&mut self);
    /// Sends the end of its stream.
    async fn half_close(&mut self);
    /// Closes.
    async fn close(self);
    /// Closes with a reset, whatever has been read (SO_LINGER with a time of zero).
    async fn reset(self);
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Eof,
    /// Broken.
    Reset,
}

/// The listener's token.
pub const LISTENER: Token = Token(usize::MAX >> 2);

/// A world, and what its events have told: flags that are set by events and cleared only as
/// `multigres::net::Stream` allows, so that an edge that does not come makes a story hang.
pub struct Stage<W: World> {
    /// The world.
    pub world: W,
    told: BTreeMap<usize, Readiness>,
}

/// A registered stream of the network under test.
pub struct Near<W: World> {
    /// The stream.
    pub stream: <W::Net as Net>::Stream,
    /// Its token.
    pub token: Token,
}

type Listener<W> = <<W as World>::Net as Net>::Listener;

impl<W: World> Stage<W> {
    /// A stage where nothing has happened.
    pub fn new(world: W) -> Self {
        Stage { world, told: BTreeMap::new() }
    }

    /// Notes some events.
    pub async fn wait(&mut self) {
        let events = self.world.events().await;
        self.note(events);
    }

    /// Notes all events that come by themselves; whether there are any under this token.
    pub async fn lull(&mut self, token: Token) -> bool {
        let mut any = false;
        loop {
            let events = self.world.lull().await;
            if events.is_empty() {
                return any;
            }
            any |= events.iter().any(|(of, _)| *of == token);
            self.note(events);
        }
    }

    fn note(&mut self, events: Vec<(Token, Readiness)>) {
        for (token, news) in events {
            let told = self.told.entry(token.0).or_default();
            told.readable |= news.readable | news.read_closed;
            told.writable |= news.writable;
            told.read_closed |= news.read_closed;
        }
    }

    /// What has been told of a token.
    pub fn told(&mut self, token: Token) -> &mut Readiness {
        self.told.entry(token.0).or_default()
    }

    /// Forgets what has been told of a token: only an event that is still to come counts.
    pub fn forget(&mut self, token: Token) {
        *self.told(token) = Readiness::default();
    }

    /// Waits until events have told this of a token.
    pub async fn until(&mut self, token: Token, what: fn(Readiness) -> bool) {
        while !what(*self.told(token)) {
            self.wait().await;
        }
    }

    /// Waits until events have told of the end of a stream, or of a reset, and it has come.
    pub async fn until_broken(&mut self, token: Token) {
        self.until(token, |told| told.read_closed && told.writable).await;
        // The event may have been a spurious one.
        self.lull(token).await;
    }

    /// Accepts, once the listener's event has come if nobody waits.
    pub async fn accept(
        &mut self,
        listener: &mut Listener<W>,
    ) -> (<W::Net as Net>::Stream, ClientAddress) {
        loop {
            match self.world.net().accept(listener) {
                Ok(accepted) => return accepted,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            self.forget(LISTENER);
            self.until(LISTENER, |told| told.readable).await;
        }
    }

    /// Registers a stream.
    pub fn register(&mut self, mut stream: <W::Net as Net>::Stream, token: Token) -> Near<W> {
        self.forget(token);
        self.world.net().register(&mut stream, token).unwrap();
        Near { stream, token }
    }

    /// A connection that the other side has dialled.
    pub async fn pair(&mut self, listener: &mut Listener<W>, token: Token) -> (Near<W>, W::Far) {
        let far = self.world.dial().await.unwrap();
        let (stream, _) = self.accept(listener).await;
        (self.register(stream, token), far)
    }

    /// The only connection of a story.
    pub async fn connection(&mut self) -> (Near<W>, W::Far) {
        let mut listener = self.world.listen().await;
        self.pair(&mut listener, NEAR).await
    }

    /// Dials.
    pub fn dial(&mut self, address: &Address, token: Token) -> Near<W> {
        let stream = self.world.net().connect(address).unwrap();
        self.register(stream, token)
    }

    /// Waits until a connection attempt has ended.
    ///
    /// # Errors
    /// Why it failed.
    pub async fn connected(&mut self, near: &mut Near<W>) -> Result<(), ErrorKind> {
        loop {
            match near.stream.connect_result() {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => return Err(error.kind()),
            }
            self.told(near.token).writable = false;
            self.until(near.token, |told| told.writable).await;
        }
    }

    /// Reads once, when an event has told that there may be something.
    ///
    /// # Errors
    /// As read(2), but for those that only mean to come again.
    pub async fn read(&mut self, near: &mut Near<W>, into: &mut [u8]) -> Result<usize, ErrorKind> {
        loop {
            self.until(near.token, |told| told.readable).await;
            match near.stream.read(into) {
                Ok(count) => {
                    let told = self.told(near.token);
                    told.readable = count == into.len() || told.read_closed;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.told(near.token).readable = false;
                }
                Err(error) => return Err(error.kind()),
            }
        }
    }

    /// Reads exactly these bytes, through a buffer of this size.
    pub async fn expect(&mut self, near: &mut Near<W>, bytes: &[u8], size: usize) {
        let mut read: Vec<u8> = Vec::new();
        let mut part = vec![0; size];
        while read.len() < bytes.len() {
            let count = self.read(near, &mut part).await.unwrap();
            assert!(count > 0, "the stream ends after {} bytes", read.len());
            read.extend(&part[..count]);
        }
        assert!(read == bytes, "other bytes than were sent");
    }

    /// A read finds nothing.
    pub fn expect_nothing(&mut self, near: &mut Near<W>) {
        loop {
            match near.stream.read(&mut [0; 100]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    self.told(near.token).readable = false;
                    return;
                }
                Ok(count) => panic!("a read finds {count} bytes"),
            }
        }
    }

    /// The stream has ended, now and for good.
    pub async fn expect_end(&mut self, near: &mut Near<W>) {
        for _ in 0..3 {
            assert_eq!(self.read(near, &mut [0; 100]).await, Ok(0));
            assert!(self.told(near.token).read_closed, "no event has told of the end");
        }
    }

    /// Writes once, when an event has told that there may be room.
    ///
    /// # Errors
    /// As write(2), but for those that only mean to come again.
    pub async fn write(&mut self, near: &mut Near<W>, bytes: &[u8]) -> Result<usize, ErrorKind> {
        loop {
            self.until(near.token, |told| told.writable).await;
            match near.stream.write(bytes) {
                Ok(count) => {
                    self.told(near.token).writable = count == bytes.len();
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.told(near.token).writable = false;
                }
                Err(error) => return Err(error.kind()),
            }
        }
    }

    /// Writes all of it.
    pub async fn write_all(&mut self, near: &mut Near<W>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let count = self.write(near, bytes).await.unwrap();
            bytes = &bytes[count..];
        }
    }

    /// A write fails.
    pub async fn write_error(&mut self, near: &mut Near<W>) -> ErrorKind {
        match self.write(near, b"lost").await {
            Err(error) => error,
            Ok(count) => panic!("{count} bytes are taken"),
        }
    }

    /// Writes positional bytes from `at` on until no more are taken; where it got to.
    pub async fn fill(&mut self, near: &mut Near<W>, mut at: usize) -> usize {
        loop {
            match near.stream.write(&positional(at, 64 * 1024)) {
                Ok(count) => at += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    self.told(near.token).writable = false;
                    if !self.lull(near.token).await {
                        return at;
                    }
                }
            }
        }
    }
}

/// Bytes that say where they stand.
pub fn positional(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(|at| (at % 251) as u8).collect()
}

/// The token of the only stream of a story. The simulated network takes the lowest bit for a leg.
pub const NEAR: Token = Token(2);
