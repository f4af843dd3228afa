//! The simulator's network: the daemon's host and another one, with model sockets on it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use multigres::net::{Address, Readiness, Token};
use multigres::proxy::Limits;
use multigres_sim::net::{SimListener, SimNet};
use multigres_sim::plan::Faults;
use multigres_sim::record;
use multigres_sim::sock::{Orphans, Sock};
use multigres_sim::watch::Watch;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::timeout;
use turmoil::net::TcpListener;

use crate::stage::{End, Far, LISTENER, Stage, World};

/// The daemon's side of the simulated network.
pub struct Simulated {
    net: SimNet,
    is_exact: bool,
    other: Other,
}

/// A socket on the other host, by its number there.
pub struct Model {
    number: usize,
    other: Other,
}

/// The way to the other host.
#[derive(Clone)]
struct Other {
    jobs: Jobs,
    net: SimNet,
    /// Events that came while the story waited for something else.
    kept: Rc<RefCell<Vec<(Token, Readiness)>>>,
}

type Job = Box<dyn FnOnce(Rc<Host>) -> Pin<Box<dyn Future<Output = ()>>>>;
type Jobs = mpsc::UnboundedSender<Job>;

/// The other host. Its sockets never leave it.
#[derive(Default)]
struct Host {
    orphans: Orphans,
    window: usize,
    next: RefCell<usize>,
    sockets: RefCell<BTreeMap<usize, Sock>>,
    /// Accepted and not asked for yet, by port.
    accepted: RefCell<BTreeMap<u16, VecDeque<usize>>>,
    news: Notify,
    unstalled: Notify,
}

/// Plays a story in networks that misbehave in several ways.
pub fn play(story: impl AsyncFnOnce(&mut Stage<Simulated>) + Copy + 'static) {
    for (at, faults) in misbehaviour().into_iter().enumerate() {
        for seed in 0..SEEDS {
            eprintln!("misbehaviour {at}, seed {seed}");
            play_in(faults.clone(), seed, story);
        }
    }
}

/// All that a kernel may do to a program that keeps to the rules.
fn misbehaviour() -> [Faults; 4] {
    let spurious = Faults { spurious_percent: 50, shuffle: true, ..Faults::default() };
    let narrow = Faults { narrow_events: true, batch_max: 1, ..spurious.clone() };
    let partial = Faults {
        read_max: 3,
        write_max: 1000,
        interrupt_percent: 10,
        would_block_percent: 20,
        ..narrow.clone()
    };
    [Faults::default(), spurious, narrow, partial]
}

fn play_in(
    faults: Faults,
    seed: u64,
    story: impl AsyncFnOnce(&mut Stage<Simulated>) + Copy + 'static,
) {
    record::start(false);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(SystemTime::UNIX_EPOCH)
        .simulation_duration(Duration::from_secs(1000))
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(seed % 2))
        .max_message_latency(Duration::from_millis(1 + 5 * (seed % 3)))
        .tcp_capacity(1 << 20)
        .enable_random_order()
        .build();
    let (jobs, queue) = mpsc::unbounded_channel();
    let queue = Rc::new(RefCell::new(Some(queue)));
    sim.host("far", move || serve(queue.take().expect("started once")));
    sim.client("near", async move {
        let is_exact = faults.spurious_percent == 0;
        let net = SimNet::new(faults, WINDOW, Watch::new(Limits::default(), 0, false), seed);
        let other = Other { jobs: jobs.clone(), net: net.clone(), kept: Rc::default() };
        // The other host has to listen first.
        other.ask(async |_| ()).await;
        let mut stage = Stage::new(Simulated { net: net.clone(), is_exact, other });
        story(&mut stage).await;
        assert_eq!(net.open(), 0, "sockets left over");
        Ok(())
    });
    sim.run().unwrap();
    drop(sim);
    let violations = record::take().violations;
    assert!(violations.is_empty(), "{violations:?}");
}

/// What the other host runs.
async fn serve(mut queue: mpsc::UnboundedReceiver<Job>) -> turmoil::Result {
    let host = Rc::new(Host { window: WINDOW, ..Host::default() });
    spawn_local(host.orphans.clone().keep());
    for port in [PORT, STALLED_PORT] {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        spawn_local(host.clone().listen(listener, port));
    }
    while let Some(job) = queue.recv().await {
        spawn_local(job(host.clone()));
    }
    std::future::pending().await
}

impl Host {
    async fn listen(self: Rc<Self>, listener: TcpListener, port: u16) {
        if port == STALLED_PORT {
            self.unstalled.notified().await;
        }
        while let Ok((stream, _)) = listener.accept().await {
            let number = self.add(Sock::new(stream, self.window, &self.orphans));
            self.accepted.borrow_mut().entry(port).or_default().push_back(number);
            self.news.notify_one();
        }
    }

    fn add(&self, sock: Sock) -> usize {
        let mut next = self.next.borrow_mut();
        *next += 1;
        self.sockets.borrow_mut().insert(*next, sock);
        *next
    }

    fn take(&self, number: usize) -> Sock {
        self.sockets.borrow_mut().remove(&number).expect("open, and used by one job at a time")
    }

    async fn accept(&self, port: u16) -> usize {
        loop {
            let first = self.accepted.borrow_mut().entry(port).or_default().pop_front();
            match first {
                Some(number) => return number,
                None => self.news.notified().await,
            }
        }
    }
}

impl Other {
    /// Has the other host do something. The network goes on meanwhile, as under a kernel.
    async fn ask<T: 'static>(&self, work: impl AsyncFnOnce(Rc<Host>) -> T + 'static) -> T {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(|host| {
            Box::pin(async move {
                let _ = answer.send(work(host).await);
            })
        });
        assert!(self.jobs.send(job).is_ok(), "the other host is up");
        let mut answered = pin!(timeout(PATIENCE, answered));
        let answered = poll_fn(|cx| {
            let mut events = Vec::new();
            let _ = self.net.poll(cx, &mut events);
            self.kept.borrow_mut().append(&mut events);
            answered.as_mut().poll(cx)
        });
        let answered = answered.await.expect("the other side waits for ever");
        answered.expect("the other side has failed")
    }

    fn model(&self, number: usize) -> Model {
        Model { number, other: self.clone() }
    }

    async fn accept(&self, port: u16) -> Model {
        self.model(self.ask(async move |host| host.accept(port).await).await)
    }
}

impl Simulated {
    async fn poll(&mut self, patience: Duration) -> Vec<(Token, Readiness)> {
        let mut events = std::mem::take(&mut *self.other.kept.borrow_mut());
        if events.is_empty() {
            let net = self.net.clone();
            let _ = timeout(patience, poll_fn(|cx| net.poll(cx, &mut events))).await;
        }
        events
    }
}

impl World for Simulated {
    type Net = SimNet;
    type Far = Model;

    fn net(&mut self) -> &mut SimNet {
        &mut self.net
    }

    async fn listen(&mut self) -> SimListener {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await.unwrap();
        self.net.listen(listener, LISTENER)
    }

    fn is_exact(&self) -> bool {
        self.is_exact
    }

    async fn events(&mut self) -> Vec<(Token, Readiness)> {
        let events = self.poll(PATIENCE).await;
        assert!(!events.is_empty(), "no event comes");
        events
    }

    async fn lull(&mut self) -> Vec<(Token, Readiness)> {
        self.poll(LULL).await
    }

    async fn dial(&mut self) -> Result<Model, ErrorKind> {
        let dialled = self.other.ask(async |host| {
            let to = SocketAddr::new(turmoil::lookup("near"), PORT);
            let sock = Sock::connect(to, host.window, &host.orphans).await;
            sock.map(|sock| host.add(sock)).map_err(|error| error.kind())
        });
        Ok(self.other.model(dialled.await?))
    }

    fn address(&self) -> Address {
        Address::Tcp(SocketAddr::new(far(), PORT))
    }

    async fn answered(&mut self) -> Model {
        self.other.accept(PORT).await
    }

    fn nowhere(&self) -> Address {
        Address::Tcp(SocketAddr::new(far(), 1))
    }

    async fn stalled(&mut self) -> Address {
        Address::Tcp(SocketAddr::new(far(), STALLED_PORT))
    }

    async fn unstall(&mut self) {
        self.other.ask(async |host| host.unstalled.notify_one()).await;
    }

    async fn answered_late(&mut self) -> Model {
        self.other.accept(STALLED_PORT).await
    }
}

impl Model {
    /// Has the other host do something with the socket.
    async fn with<T: 'static>(&mut self, work: impl AsyncFnOnce(&mut Sock) -> T + 'static) -> T {
        let number = self.number;
        self.other
            .ask(async move |host| {
                let mut sock = host.take(number);
                let result = work(&mut sock).await;
                host.sockets.borrow_mut().insert(number, sock);
                result
            })
            .await
    }
}

impl Far for Model {
    async fn write(&mut self, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        self.with(async move |sock| {
            let mut at = 0;
            while at < bytes.len() {
                at += sock.write(&bytes[at..]).await.unwrap();
            }
        })
        .await;
    }

    async fn write_until_broken(&mut self) -> ErrorKind {
        self.with(async |sock| {
            loop {
                if let Err(error) = sock.write(&[0; 1000]).await {
                    return error.kind();
                }
            }
        })
        .await
    }

    async fn read(&mut self, count: usize) -> Vec<u8> {
        self.with(async move |sock| {
            let (mut bytes, mut at) = (vec![0; count], 0);
            while at < count {
                match sock.read(&mut bytes[at..]).await.unwrap() {
                    0 => panic!("the stream ends after {at} bytes"),
                    some => at += some,
                }
            }
            bytes
        })
        .await
    }

    async fn read_to_end(&mut self) -> (Vec<u8>, End) {
        self.with(async |sock| {
            let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
            loop {
                match sock.read(&mut part).await {
                    Ok(0) => return (bytes, End::Eof),
                    Ok(count) => bytes.extend(&part[..count]),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                        return (bytes, End::Reset);
                    }
                }
            }
        })
        .await
    }

    async fn await_data(&mut self) {
        self.with(async |sock| {
            poll_fn(|cx| {
                sock.kernel().pump(cx);
                if sock.kernel().unread() > 0 {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })
            .await;
        })
        .await;
    }

    async fn half_close(&mut self) {
        self.with(async |sock| sock.kernel().shutdown_write().unwrap()).await;
    }

    async fn close(self) {
        let number = self.number;
        self.other.ask(async move |host| drop(host.take(number))).await;
    }

    async fn reset(self) {
        let number = self.number;
        self.other.ask(async move |host| host.take(number).reset()).await;
    }
}

fn far() -> IpAddr {
    turmoil::lookup("far")
}

const PORT: u16 = 5432;
/// Nobody accepts there, and turmoil answers a connection only when it is accepted.
const STALLED_PORT: u16 = 5433;
const WINDOW: usize = 6000;
const SEEDS: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(20);
const LULL: Duration = Duration::from_millis(40);
