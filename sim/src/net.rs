//! The daemon's seam over the simulated kernel: edges, backlog, and what a kernel may do wrong.
//! Knows nothing of what the loop makes of it.

mod stream;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use multigres::net::{Address, ClientAddress, Net, Readiness, Token};
use multigres::proxy::Status;
use turmoil::net::{TcpListener, TcpStream};

use crate::plan::Faults;
use crate::record::{self, applied, violate};
use crate::rng::Rng;
use crate::sock::{Arrived, Kernel, Orphans};
use crate::watch::Watch;

type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;
type Accepting = Pin<Box<dyn Future<Output = io::Result<(TcpStream, SocketAddr)>>>>;

/// The simulated network as the daemon sees it.
#[derive(Clone)]
pub struct SimNet(Rc<RefCell<Inner>>);

/// A stream of the daemon's.
pub struct SimStream {
    id: u64,
    /// Of an accepted one.
    peer: Option<SocketAddr>,
    net: SimNet,
}

/// The daemon's listener.
pub struct SimListener(SimNet);

struct Inner {
    faults: Faults,
    window: usize,
    rng: Rng,
    /// The randomness that the daemon asks for.
    secrets: Rng,
    sockets: BTreeMap<u64, Socket>,
    next_id: u64,
    /// Sockets with something to tell, in the order in which it came.
    telling: VecDeque<u64>,
    listener: Option<Rc<TcpListener>>,
    accepting: Option<Accepting>,
    listener_token: Option<Token>,
    listener_tells: bool,
    backlog: VecDeque<(u64, SocketAddr)>,
    orphans: Orphans,
    /// Attempts that were given up: should they succeed, the connection is closed at once.
    abandoned: Vec<Connecting>,
    closed_tokens: VecDeque<Token>,
    question: Option<(String, u16)>,
    driver: Arc<Mutex<Option<Waker>>>,
    watch: Watch,
}

struct Socket {
    state: State,
    token: Option<Token>,
    tells: Readiness,
    queued: bool,
    flag: Arc<Flag>,
}

enum State {
    Connecting(Connecting),
    Up(Kernel),
    Failed(Option<io::Error>),
}

/// Wakers run while turmoil's world is borrowed: they set a flag and wake the driver, no more.
struct Flag {
    woken: AtomicBool,
    driver: Arc<Mutex<Option<Waker>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Relaxed);
        if let Some(waker) = self.driver.lock().expect("one thread").as_ref() {
            waker.wake_by_ref();
        }
    }
}

impl SimNet {
    /// A network whose misbehaviour comes from `faults` and `seed`.
    pub fn new(faults: Faults, window: usize, watch: Watch, seed: u64) -> Self {
        SimNet(Rc::new(RefCell::new(Inner {
            faults,
            window,
            rng: Rng::fork(seed, "kernel"),
            secrets: Rng::fork(seed, "secrets of the daemon"),
            sockets: BTreeMap::new(),
            next_id: 0,
            telling: VecDeque::new(),
            listener: None,
            accepting: None,
            listener_token: None,
            listener_tells: false,
            backlog: VecDeque::new(),
            orphans: Orphans::default(),
            abandoned: Vec::new(),
            closed_tokens: VecDeque::new(),
            question: None,
            driver: Arc::default(),
            watch,
        })))
    }

    /// Listens.
    pub fn listen(&self, listener: TcpListener, token: Token) -> SimListener {
        let mut inner = self.0.borrow_mut();
        let listener = Rc::new(listener);
        inner.accepting = Some(accept_one(&listener));
        inner.listener = Some(listener);
        inner.listener_token = Some(token);
        SimListener(self.clone())
    }

    /// The host name that the daemon wants to know the addresses of.
    pub fn take_question(&self) -> Option<(String, u16)> {
        self.0.borrow_mut().question.take()
    }

    /// Sockets that the daemon has open.
    pub fn open(&self) -> usize {
        self.0.borrow().sockets.len()
    }

    /// A turn of the loop begins or has ended.
    pub fn watch(&self, use_it: impl FnOnce(&mut Watch)) {
        use_it(&mut self.0.borrow_mut().watch);
    }

    /// A turn has ended, and the daemon will sleep so long.
    pub fn end_turn(&self, nap: Option<Duration>, status: &Status) {
        let mut inner = self.0.borrow_mut();
        let waiting = if inner.listener_tells { 0 } else { inner.backlog.len() };
        inner.watch.end_turn(waiting, nap, status);
    }

    /// The kernel still answers for the sockets of a daemon that has ended.
    pub async fn outlive(self) -> turmoil::Result {
        let orphans = self.0.borrow().orphans.clone();
        orphans.keep().await;
        Ok(())
    }

    /// Takes in what the network has brought; ready when there are events to tell.
    pub fn poll(&self, cx: &mut Context<'_>, events: &mut Vec<(Token, Readiness)>) -> Poll<()> {
        let mut inner = self.0.borrow_mut();
        *inner.driver.lock().expect("one thread") = Some(cx.waker().clone());
        inner.pump(cx);
        inner.tell(events);
        if events.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }
}

fn accept_one(listener: &Rc<TcpListener>) -> Accepting {
    let listener = listener.clone();
    Box::pin(async move { listener.accept().await })
}

impl Inner {
    fn pump(&mut self, cx: &mut Context<'_>) {
        self.orphans.pump(cx);
        self.accept_from_network(cx);
        let orphans = self.orphans.clone();
        let window = self.window;
        self.abandoned.retain_mut(|connecting| match connecting.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(Ok(stream)) => {
                orphans.take_in(Kernel::new(stream, window));
                false
            }
            Poll::Ready(Err(_)) => false,
        });
        let ids: Vec<u64> = self.sockets.keys().copied().collect();
        for id in ids {
            let socket = self.sockets.get_mut(&id).expect("listed");
            if socket.flag.woken.swap(false, Ordering::Relaxed) {
                socket.pump(window);
                if let State::Up(kernel) = &socket.state {
                    self.watch.connected(socket.token, kernel.local_addr().ok());
                }
                self.enqueue(id);
            }
        }
    }

    fn accept_from_network(&mut self, cx: &mut Context<'_>) {
        while self.backlog.len() < self.faults.backlog
            && let Some(accepting) = &mut self.accepting
            && let Poll::Ready(accepted) = accepting.as_mut().poll(cx)
        {
            self.accepting = self.listener.as_ref().map(accept_one);
            if let Ok((stream, peer)) = accepted {
                let state = State::Up(Kernel::new(stream, self.window));
                let id = self.add(state);
                self.backlog.push_back((id, peer));
                self.listener_tells = true;
            }
        }
    }

    fn add(&mut self, state: State) -> u64 {
        self.next_id += 1;
        let flag = Arc::new(Flag { woken: AtomicBool::new(true), driver: self.driver.clone() });
        let socket =
            Socket { state, token: None, tells: Readiness::default(), queued: false, flag };
        self.sockets.insert(self.next_id, socket);
        if let Some(waker) = self.driver.lock().expect("one thread").as_ref() {
            waker.wake_by_ref();
        }
        self.next_id
    }

    fn enqueue(&mut self, id: u64) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        if socket.token.is_some() && socket.tells != Readiness::default() && !socket.queued {
            socket.queued = true;
            self.telling.push_back(id);
            if let Some(waker) = self.driver.lock().expect("one thread").as_ref() {
                waker.wake_by_ref();
            }
        }
    }

    /// Makes events of what there is to tell, in a batch as large and in an order as odd as the
    /// faults have it.
    fn tell(&mut self, events: &mut Vec<(Token, Readiness)>) {
        if self.listener_tells
            && let Some(token) = self.listener_token
        {
            self.listener_tells = false;
            events.push((token, Readiness { readable: true, ..Readiness::default() }));
        }
        while events.len() < self.faults.batch_max && !self.telling.is_empty() {
            let at = if self.faults.shuffle { self.rng.size(0..self.telling.len()) } else { 0 };
            let id = self.telling.remove(at).expect("within");
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            socket.queued = false;
            let mut tells = std::mem::take(&mut socket.tells);
            if !self.faults.narrow_events {
                tells = merge(tells, socket.readiness());
            }
            let token = socket.token.expect("only registered ones tell");
            self.watch.told(token, tells, true);
            events.push((token, tells));
        }
        if !events.is_empty() && self.rng.percent(self.faults.spurious_percent) {
            self.tell_nonsense(events);
        }
    }

    fn tell_nonsense(&mut self, events: &mut Vec<(Token, Readiness)>) {
        let live = self.sockets.values().filter_map(|socket| socket.token);
        let tokens: Vec<Token> = live.chain(self.closed_tokens.iter().copied()).collect();
        if !tokens.is_empty() {
            let bits = self.rng.next();
            let readiness = Readiness {
                readable: bits & 1 != 0,
                writable: bits & 2 != 0,
                read_closed: bits & 12 == 12,
            };
            let at = self.rng.size(0..events.len() + 1);
            let token = self.rng.pick(&tokens);
            self.watch.told(token, readiness, false);
            events.insert(at, (token, readiness));
        }
    }

    fn close(&mut self, id: u64) {
        let socket = self.sockets.remove(&id).expect("a stream is closed once");
        record::line(format_args!("close #{id}"));
        if let Some(token) = socket.token {
            // What falls with the simulation itself is nobody's doing.
            if turmoil::in_simulation() {
                self.watch.closed(token);
            }
            self.closed_tokens.push_back(token);
            if self.closed_tokens.len() > CLOSED_TOKENS_MAX {
                self.closed_tokens.pop_front();
            }
        }
        match socket.state {
            State::Connecting(connecting) => self.abandoned.push(connecting),
            State::Up(kernel) => self.orphans.take_in(kernel),
            State::Failed(_) => {}
        }
        if let Some(waker) = self.driver.lock().expect("one thread").as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The faults that end sessions are over.
    fn is_healed(&self) -> bool {
        let now = record::now().as_millis() as u64;
        self.faults.heal_ms.is_some_and(|heal| now >= heal)
    }

    fn maybe_break(&mut self, id: u64) {
        if self.faults.reset_permyriad > 0
            && !self.is_healed()
            && self.rng.within(0..10_000) < self.faults.reset_permyriad
        {
            let socket = self.sockets.get_mut(&id).expect("open");
            if let State::Up(kernel) = &mut socket.state {
                record::line(format_args!("injected reset #{id}"));
                kernel.break_off();
                socket.tells = EVERYTHING;
                self.enqueue(id);
            }
        }
    }

    fn read(&mut self, id: u64, into: &mut [u8]) -> io::Result<usize> {
        self.watch.call();
        self.maybe_break(id);
        if self.rng.percent(self.faults.interrupt_percent) {
            return Err(ErrorKind::Interrupted.into());
        }
        let hold_back = self.rng.percent(self.faults.would_block_percent);
        let cap = self.faults.read_max.min(into.len());
        let socket = self.sockets.get_mut(&id).expect("open");
        let kernel = match &mut socket.state {
            State::Connecting(_) => return Err(ErrorKind::WouldBlock.into()),
            State::Failed(error) => return error.take().map_or(Ok(0), Err),
            State::Up(kernel) => kernel,
        };
        if hold_back && kernel.is_readable() {
            socket.tells.readable = true;
            socket.tells.read_closed |= kernel.is_ended();
            self.watch.held_back(socket.token);
            self.enqueue(id);
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = kernel.read(&mut into[..cap]);
        if result.as_ref().is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
            self.watch.failed(socket.token);
        }
        if let Ok(count) = result {
            // Cut short by a fault: as if the rest had come a moment later.
            if count < into.len() && kernel.unread() > 0 {
                socket.tells.readable = true;
            }
            let token = socket.token;
            self.watch.read(token, count);
            self.enqueue(id);
        }
        result
    }

    fn write(&mut self, id: u64, bytes: &[u8]) -> io::Result<usize> {
        self.watch.call();
        self.maybe_break(id);
        if self.rng.percent(self.faults.interrupt_percent) {
            return Err(ErrorKind::Interrupted.into());
        }
        let hold_back = self.rng.percent(self.faults.would_block_percent);
        let cap = self.faults.write_max.min(bytes.len());
        let socket = self.sockets.get_mut(&id).expect("open");
        let kernel = match &mut socket.state {
            State::Connecting(_) => return Err(ErrorKind::WouldBlock.into()),
            State::Failed(error) => {
                return Err(error.take().unwrap_or_else(|| ErrorKind::BrokenPipe.into()));
            }
            State::Up(kernel) => kernel,
        };
        if hold_back && kernel.is_writable() {
            socket.tells.writable = true;
            self.watch.blocked(socket.token);
            self.enqueue(id);
            return Err(ErrorKind::WouldBlock.into());
        }
        let result = kernel.write(&bytes[..cap]);
        if result.as_ref().is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
            self.watch.broken(socket.token);
            self.watch.failed(socket.token);
        }
        if let Ok(count) = result {
            if count < bytes.len() && kernel.is_writable() {
                socket.tells.writable = true;
            }
            let token = socket.token;
            self.watch.written(token, count);
            self.enqueue(id);
        }
        result
    }
}

impl Socket {
    fn pump(&mut self, window: usize) {
        let waker = Waker::from(self.flag.clone());
        let cx = &mut Context::from_waker(&waker);
        if let State::Connecting(connecting) = &mut self.state {
            match connecting.as_mut().poll(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(stream)) => {
                    self.state = State::Up(Kernel::new(stream, window));
                    self.tells.writable = true;
                }
                Poll::Ready(Err(error)) => {
                    self.state = State::Failed(Some(error));
                    self.tells = EVERYTHING;
                }
            }
        }
        if let State::Up(kernel) = &mut self.state {
            let Arrived { data, end, room } = kernel.pump(cx);
            self.tells.readable |= data || end;
            self.tells.read_closed |= end;
            self.tells.writable |= room;
        }
    }

    fn readiness(&self) -> Readiness {
        match &self.state {
            State::Connecting(_) => Readiness::default(),
            State::Failed(_) => EVERYTHING,
            State::Up(kernel) => Readiness {
                readable: kernel.is_readable(),
                writable: kernel.is_writable(),
                read_closed: kernel.is_ended(),
            },
        }
    }
}

impl Net for SimNet {
    type Listener = SimListener;
    type Stream = SimStream;

    fn accept(&mut self, _: &mut SimListener) -> io::Result<(SimStream, ClientAddress)> {
        let inner = &mut *self.0.borrow_mut();
        inner.watch.call();
        if inner.backlog.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let (pause, abort) = (inner.faults.accept_error_percent, inner.faults.abort_percent);
        if inner.rng.percent(abort) && !inner.is_healed() {
            let (id, _) = inner.backlog.pop_front().expect("not empty");
            inner.close(id);
            record::line(format_args!("accept #{id} aborted"));
            return Err(io::Error::from_raw_os_error(ECONNABORTED));
        }
        if inner.rng.percent(pause) {
            let errno = inner.rng.pick(&[EMFILE, EINTR]);
            record::line(format_args!("accept fails with errno {errno}"));
            return Err(io::Error::from_raw_os_error(errno));
        }
        let (id, peer) = inner.backlog.pop_front().expect("not empty");
        inner.watch.accepted();
        record::line(format_args!("accept #{id} from {peer}"));
        let ip = if inner.faults.private_peers { LOOPBACK } else { peer.ip() };
        let stream = SimStream { id, peer: Some(peer), net: SimNet(self.0.clone()) };
        Ok((stream, ClientAddress::Tcp(SocketAddr::new(ip, peer.port()))))
    }

    fn connect(&mut self, to: &Address) -> io::Result<SimStream> {
        let inner = &mut *self.0.borrow_mut();
        inner.watch.call();
        let Address::Tcp(address) = *to else { return Err(ErrorKind::Unsupported.into()) };
        if inner.rng.percent(inner.faults.connect_again_percent) {
            record::line(format_args!("connect has to be tried again"));
            return Err(io::Error::from_raw_os_error(EAGAIN));
        }
        if inner.rng.percent(inner.faults.connect_error_percent) && !inner.is_healed() {
            let errno = inner.rng.pick(&[EMFILE, EADDRNOTAVAIL]);
            record::line(format_args!("connect fails with errno {errno}"));
            inner.watch.connect_failed(address);
            return Err(io::Error::from_raw_os_error(errno));
        }
        let id = inner.add(State::Connecting(Box::pin(TcpStream::connect(address))));
        record::line(format_args!("connect #{id} to {address}"));
        Ok(SimStream { id, peer: None, net: SimNet(self.0.clone()) })
    }

    fn register(&mut self, stream: &mut SimStream, token: Token) -> io::Result<()> {
        let inner = &mut *self.0.borrow_mut();
        if inner.rng.percent(inner.faults.register_error_percent) && !inner.is_healed() {
            record::line(format_args!("register #{} fails", stream.id));
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        applied("S10");
        if inner.sockets.values().any(|socket| socket.token == Some(token)) {
            violate("S10", format!("token {token:?} is registered twice"));
        }
        let socket = inner.sockets.get_mut(&stream.id).expect("open");
        if socket.token.replace(token).is_some() {
            violate("S10", format!("socket #{} is registered twice", stream.id));
        }
        socket.tells = socket.readiness();
        inner.watch.opened(token, stream.peer);
        inner.enqueue(stream.id);
        Ok(())
    }

    fn resolve(&mut self, host: &str, port: u16) {
        let question = self.0.borrow_mut().question.replace((host.to_owned(), port));
        if question.is_some() {
            violate("S10", "a second look-up while one is under way");
        }
    }

    fn fill_random(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let secrets = &mut self.0.borrow_mut().secrets;
        bytes.fill_with(|| secrets.next() as u8);
        Ok(())
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut inner = self.0.0.borrow_mut();
        inner.accepting = None;
        inner.listener = None;
        inner.listener_token = None;
        while let Some((id, _)) = inner.backlog.pop_front() {
            let socket = inner.sockets.remove(&id).expect("nobody else has it");
            if let State::Up(kernel) = socket.state {
                inner.orphans.reset(kernel);
            }
        }
    }
}

fn merge(a: Readiness, b: Readiness) -> Readiness {
    Readiness {
        readable: a.readable | b.readable,
        writable: a.writable | b.writable,
        read_closed: a.read_closed | b.read_closed,
    }
}

const EVERYTHING: Readiness = Readiness { readable: true, writable: true, read_closed: true };
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CLOSED_TOKENS_MAX: usize = 16;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const EADDRNOTAVAIL: i32 = 99;
const ECONNABORTED: i32 = 103;
