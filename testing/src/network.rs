//! A network in memory for the loop: each leg is a wire that a story writes on, cuts or blocks.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use multigres::config::{Config, Sources};
use multigres::net::{Address, ClientAddress, Net, Readiness, Stream, Token};
use multigres::proxy::{Control, Proxy, Settings, Status};

/// One leg, as the story sees it.
#[derive(Clone)]
pub struct Wire(Rc<RefCell<State>>);

struct State {
    to_daemon: Vec<u8>,
    from_daemon: Vec<u8>,
    /// What stands behind `to_daemon`: the end of the stream, or an error.
    end: Option<Result<(), ErrorKind>>,
    /// How much the daemon may still write.
    room: usize,
    is_reset: bool,
    /// A vectored write takes the first slice alone, as one that is not implemented.
    one_slice: bool,
    connected: Result<bool, ErrorKind>,
    shut: bool,
    closed: bool,
    /// Calls of read and of write.
    calls: (usize, usize),
    /// How often the daemon has asked for the address of its end.
    address_calls: usize,
    token: Option<Token>,
    event: Option<Readiness>,
}

impl State {
    fn tell_reset(&mut self) {
        (self.end, self.is_reset) = (Some(Ok(())), true);
    }
}

impl Wire {
    fn new(connected: Result<bool, ErrorKind>) -> Self {
        Wire(Rc::new(RefCell::new(State {
            to_daemon: Vec::new(),
            from_daemon: Vec::new(),
            end: None,
            room: usize::MAX,
            is_reset: false,
            one_slice: false,
            connected,
            shut: false,
            closed: false,
            calls: (0, 0),
            address_calls: 0,
            token: None,
            event: None,
        })))
    }

    pub fn say(&self, bytes: &[u8]) {
        self.state().to_daemon.extend(bytes);
        self.notify(Readiness { readable: true, ..Readiness::default() });
    }

    pub fn end(&self) {
        self.state().end = Some(Ok(()));
        self.notify(Readiness { readable: true, read_closed: true, ..Readiness::default() });
    }

    /// A reset: what was said before can still be read, nothing can be written. As a kernel does,
    /// one call tells of it, and reads after that come to an end.
    pub fn reset(&self) {
        self.state().end = Some(Err(ErrorKind::ConnectionReset));
        self.notify(Readiness { readable: true, writable: true, read_closed: true });
    }

    /// From now on so many bytes can be written.
    pub fn room(&self, bytes: usize) {
        self.state().room = bytes;
        self.notify(Readiness { writable: true, ..Readiness::default() });
    }

    /// From now on a vectored write takes the first slice alone.
    pub fn take_one_slice(&self) {
        self.state().one_slice = true;
    }

    /// The connection attempt has ended.
    pub fn connect(&self, result: Result<(), ErrorKind>) {
        self.state().connected = result.map(|()| true);
        self.notify(Readiness { writable: true, ..Readiness::default() });
    }

    /// What the daemon has written since the last call.
    pub fn hear(&self) -> Vec<u8> {
        std::mem::take(&mut self.state().from_daemon)
    }

    /// The daemon has shut its side down.
    pub fn is_shut(&self) -> bool {
        self.state().shut
    }

    /// The daemon has closed its socket.
    pub fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Calls of read and of write since the last time.
    pub fn take_calls(&self) -> (usize, usize) {
        std::mem::take(&mut self.state().calls)
    }

    pub fn address_calls(&self) -> usize {
        self.state().address_calls
    }

    pub fn unread_bytes(&self) -> usize {
        self.state().to_daemon.len()
    }

    /// What has happened on it since the last event.
    pub fn take_event(&self) -> (Token, Readiness) {
        let event = self.state().event.take().unwrap_or_default();
        (self.token(), event)
    }

    /// The token that its events carry.
    pub fn token(&self) -> Token {
        self.state().token.expect("registered")
    }

    fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    fn notify(&self, readiness: Readiness) {
        let mut state = self.state();
        let event = state.event.get_or_insert_default();
        event.readable |= readiness.readable;
        event.writable |= readiness.writable;
        event.read_closed |= readiness.read_closed;
    }
}

/// The daemon's end.
pub struct Socket(Wire);

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.state().closed = true;
    }
}

impl Read for Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        state.calls.0 += 1;
        if state.to_daemon.is_empty() {
            return match state.end {
                None => Err(ErrorKind::WouldBlock.into()),
                Some(Ok(())) => Ok(0),
                Some(Err(kind)) => {
                    state.tell_reset();
                    Err(kind.into())
                }
            };
        }
        let bytes = into.len().min(state.to_daemon.len());
        into[..bytes].copy_from_slice(&state.to_daemon[..bytes]);
        state.to_daemon.drain(..bytes);
        Ok(bytes)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.state();
        state.calls.1 += 1;
        assert!(!state.shut, "written behind its own end");
        if let Some(Err(kind)) = state.end {
            state.tell_reset();
            return Err(kind.into());
        }
        if state.is_reset {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if state.room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let before = state.from_daemon.len();
        let slices = if state.one_slice { &slices[..1] } else { slices };
        for slice in slices {
            let written = slice.len().min(state.room);
            state.room -= written;
            state.from_daemon.extend(&slice[..written]);
        }
        Ok(state.from_daemon.len() - before)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    fn connect_result(&mut self) -> io::Result<bool> {
        self.0.state().connected.map_err(io::Error::from)
    }

    fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        let mut state = self.0.state();
        assert_eq!(state.connected, Ok(true), "before that it has none");
        state.address_calls += 1;
        Ok(Some(SocketAddr::from(([127, 0, 0, 1], 54321))))
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.state().shut = true;
        Ok(())
    }
}

/// What the daemon's calls find, and what they leave.
#[derive(Clone, Default)]
pub struct Shared(Rc<RefCell<Calls>>);

#[derive(Default)]
struct Calls {
    arrivals: VecDeque<Result<Wire, ErrorKind>>,
    /// How the next attempts to connect begin; the attempt goes on when there is none.
    attempts: VecDeque<Result<(), ErrorKind>>,
    dialled: Vec<(Address, Wire)>,
    lookups: usize,
    live: Vec<Wire>,
    /// Where clients are; on a unix socket if not told.
    client_address: Option<ClientAddress>,
}

impl Net for Shared {
    type Listener = ();
    type Stream = Socket;

    fn accept(&mut self, (): &mut ()) -> io::Result<(Socket, ClientAddress)> {
        let mut calls = self.0.borrow_mut();
        let client_address = calls.client_address.unwrap_or(ClientAddress::Unix);
        match calls.arrivals.pop_front() {
            Some(Ok(wire)) => Ok((Socket(wire), client_address)),
            Some(Err(kind)) => Err(kind.into()),
            None => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn connect(&mut self, to: &Address) -> io::Result<Socket> {
        let mut calls = self.0.borrow_mut();
        if let Some(Err(kind)) = calls.attempts.pop_front() {
            return Err(kind.into());
        }
        let wire = Wire::new(Ok(false));
        calls.dialled.push((to.clone(), wire.clone()));
        Ok(Socket(wire))
    }

    fn register(&mut self, socket: &mut Socket, token: Token) -> io::Result<()> {
        let before = socket.0.state().token.replace(token);
        assert_eq!(before, None, "registered twice");
        self.0.borrow_mut().live.push(socket.0.clone());
        Ok(())
    }

    fn resolve(&mut self, _host: &str, _port: u16) {
        self.0.borrow_mut().lookups += 1;
    }

    fn fill_random(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(7);
        Ok(())
    }
}

/// A loop with its network and its clock.
pub struct World {
    pub proxy: Proxy<Shared>,
    shared: Shared,
    now: Instant,
    /// What the last turn has asked for.
    pub sleep: Option<Duration>,
}

impl World {
    /// Settings as in a file.
    pub fn new(settings: &str) -> Self {
        World::with(settings, None, |_| {})
    }

    /// Settings as in a file, and changed after that; where clients are.
    pub fn with(
        settings: &str,
        client_address: Option<ClientAddress>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let file = Some(("story".into(), Ok(settings.into())));
        let mut config = Config::load(&Sources { file, ..Sources::default() }).unwrap();
        change(&mut config.proxy);
        let shared = Shared::default();
        shared.0.borrow_mut().client_address = client_address;
        let proxy = Proxy::new(shared.clone(), config.proxy, vec![()]);
        World { proxy, shared, now: Instant::now(), sleep: None }
    }

    /// A client arrives; it is accepted in the next turn.
    pub fn client(&mut self) -> Wire {
        let wire = Wire::new(Ok(true));
        self.arrives(Ok(wire.clone()));
        wire
    }

    pub fn arrives(&mut self, arrival: Result<Wire, ErrorKind>) {
        self.shared.0.borrow_mut().arrivals.push_back(arrival);
        self.proxy.turn(self.now, [(Proxy::<Shared>::listener_token(0), READABLE)]);
    }

    /// So many clients arrive at once: none has been accepted yet.
    pub fn crowd(&mut self, clients: usize) -> Vec<Wire> {
        let wires: Vec<Wire> = (0..clients).map(|_| Wire::new(Ok(true))).collect();
        self.shared.0.borrow_mut().arrivals.extend(wires.iter().cloned().map(Ok));
        wires
    }

    /// Takes one turn in which the listener tells of arrivals.
    pub fn accept(&mut self) {
        self.turn([(Proxy::<Shared>::listener_token(0), READABLE)]);
    }

    /// How the next attempt to connect begins.
    pub fn next_attempt(&mut self, result: Result<(), ErrorKind>) {
        self.shared.0.borrow_mut().attempts.push_back(result);
    }

    /// Addresses dialled so far, with their wires.
    pub fn dialled(&self) -> Vec<(Address, Wire)> {
        let calls = self.shared.0.borrow();
        calls.dialled.clone()
    }

    /// The last leg that was dialled, its attempt successful.
    pub fn upstream(&mut self) -> Wire {
        let last = self.shared.0.borrow().dialled.last().cloned();
        let (_, wire) = last.expect("upstream was dialled");
        wire.connect(Ok(()));
        self.run();
        wire
    }

    pub fn lookups(&self) -> usize {
        self.shared.0.borrow().lookups
    }

    pub fn resolved(&mut self, answer: Result<Vec<Address>, String>) {
        self.proxy.resolved(self.now, answer);
        self.run();
    }

    pub fn control(&mut self, control: Control) {
        self.proxy.control(control, self.now);
        self.run();
    }

    /// Takes one turn, with these events alone.
    pub fn turn(&mut self, events: impl IntoIterator<Item = (Token, Readiness)>) {
        self.sleep = self.proxy.turn(self.now, events);
    }

    /// Takes turns with all events that there are until nothing is left to do at once.
    pub fn run(&mut self) {
        for _ in 0..1000 {
            let mut events = Vec::new();
            let mut calls = self.shared.0.borrow_mut();
            calls.live.retain(|wire| !wire.is_closed());
            for wire in &calls.live {
                let mut state = wire.state();
                if let (Some(token), Some(event)) = (state.token, state.event.take()) {
                    events.push((token, event));
                }
            }
            drop(calls);
            let quiet = events.is_empty();
            self.sleep = self.proxy.turn(self.now, events);
            if quiet && self.sleep != Some(Duration::ZERO) {
                return;
            }
        }
        panic!("the loop does not come to rest");
    }

    /// Lets time pass, deadline by deadline.
    pub fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        self.run();
        while let Some(sleep) = self.sleep.filter(|sleep| self.now + *sleep <= end) {
            self.now += sleep;
            self.run();
        }
        self.now = end;
        self.run();
    }

    /// An event that comes too late.
    pub fn stale_event(&mut self, token: Token) {
        let all = Readiness { readable: true, writable: true, read_closed: true };
        self.proxy.turn(self.now, [(token, all)]);
        self.run();
    }

    pub fn status(&self) -> Status {
        self.proxy.status()
    }
}

const READABLE: Readiness = Readiness { readable: true, writable: false, read_closed: false };
