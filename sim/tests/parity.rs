//! The same model peers around the daemon's loop on real sockets: what the oracles hold the
//! simulation to has to hold there too. In real time and not deterministic, so there are few plans.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Waker};
use multigres::net::{Address, Token};
use multigres::proxy::{Control, Proxy, Status};
use multigres::server::net::{MioNet, listen_tcp, readiness};
use multigres_sim::ledger::Ledger;
use multigres_sim::plan::{
    Cancel, Conduct, Cut, End, Ending, Fate, Faults, Plan, Profile, Session,
};
use multigres_sim::{carrier, client, oracle, postgres, record, run};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

#[test]
fn quiet_plans_run_as_well_on_real_sockets() {
    let plans = (0..).map(|seed| Plan::from_seed(seed, Profile::Quiet));
    let plans = plans.filter(is_brisk).take(PLANS);
    let plays: Vec<_> = plans
        .map(|mut plan| {
            // A loopback address is private.
            plan.faults = Faults::default();
            // Real time is not for deadlines that are as short as they can be.
            plan.daemon.login_timeout_ms = 20_000;
            plan.daemon.connect_timeout_ms = 10_000;
            (plan.seed, thread::spawn(move || play(plan)))
        })
        .collect();
    let (mut up, mut refused) = (0, 0);
    for (seed, play) in plays {
        let ends = play.join().unwrap_or_else(|_| panic!("seed {seed}"));
        up += ends.0;
        refused += ends.1;
    }
    assert!(up >= PLANS && refused >= PLANS, "{up} sessions came up, {refused} were refused");
}

/// Nothing befalls its network, and no deadline has to come, which in real time is long.
fn is_brisk(plan: &Plan) -> bool {
    plan.events.is_empty()
        && plan.daemon.idle_timeout_ms.is_none()
        && plan.daemon.connections_max >= 1_000
        && !plan.sessions.iter().any(is_silent)
}

fn is_silent(session: &Session) -> bool {
    let is_silence = |cut: Cut| cut.how == End::Silence;
    matches!(session.client.conduct, Conduct::Cut(cut) if is_silence(cut))
        || matches!(session.script.fate, Fate::Cut(cut) if is_silence(cut))
        || matches!(session.pipe.ending, Ending::Deaf | Ending::Mute)
        || session.pipe.cancel == Cancel::Half
}

/// How many sessions came up, and how many were refused.
fn play(plan: Plan) -> (usize, usize) {
    let seed = plan.seed;
    record::start(false);
    let upstream = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let daemon = Daemon::start(plan.clone(), upstream.local_addr().unwrap());
    carrier::outside(daemon.address, upstream);
    let plan = Rc::new(plan);
    let ledger = Ledger::new(&plan);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let peers = LocalSet::new();
    peers.block_on(&runtime, async {
        spawn_local(postgres::run(plan.clone(), ledger.clone()));
        for host in 0..plan.hosts() {
            spawn_local(client::run(plan.clone(), ledger.clone(), host));
        }
        let begin = Instant::now();
        let done = async {
            while !ledger.clients_are_done() || !ledger.upstream_is_done() || daemon.is_busy() {
                record::tick(begin.elapsed());
                sleep(LOOK_AGAIN).await;
            }
        };
        let left = timeout(PATIENCE, done).await;
        assert!(left.is_ok(), "seed {seed}: still there: {:?}", daemon.status.lock().unwrap());
    });
    daemon.stop();
    oracle::judge(&plan, &ledger);
    let mut violations = record::take().violations;
    // How long it may take is said in virtual time, and the buffers of a real kernel grow.
    let is_simulated = |text: &str| text.ends_with("bytes are on their way");
    violations.retain(|it| it.invariant != "L4" && !is_simulated(&it.text));
    assert!(violations.is_empty(), "seed {seed}: {violations:?}");
    let clients = plan.sessions.iter().map(|session| ledger.entry(session.number).client.clone());
    let (up, others): (Vec<_>, Vec<_>) = clients.partition(|client| client.up);
    (up.len(), others.iter().filter(|client| client.refused.is_some()).count())
}

/// The daemon's loop in a thread.
struct Daemon {
    address: SocketAddr,
    controls: Sender<Control>,
    waker: Arc<Waker>,
    status: Arc<Mutex<Option<Status>>>,
    thread: JoinHandle<()>,
}

impl Daemon {
    fn start(plan: Plan, upstream: SocketAddr) -> Self {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).unwrap());
        let (listener, address) = listen_tcp((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (controls, asked) = channel();
        let status = Arc::default();
        let (shared, answers) = (Arc::clone(&status), waker.clone());
        let thread = thread::spawn(move || {
            let (net, _answers) =
                MioNet::new(poll.registry().try_clone().unwrap(), answers).unwrap();
            let mut listeners = vec![listener];
            net.register_listener(&mut listeners[0], Proxy::<MioNet>::listener_token(0)).unwrap();
            let settings = run::settings(&plan, Address::Tcp(upstream));
            turn(poll, Proxy::new(net, settings, listeners), &asked, &shared);
        });
        Daemon { address, controls, waker, status, thread }
    }

    /// Something is left over of what has ended.
    fn is_busy(&self) -> bool {
        let status = self.status.lock().unwrap();
        status.is_none_or(|status| {
            status.connections + status.deadlines + status.run_queue + status.buffers > 0
        })
    }

    fn stop(self) {
        self.controls.send(Control::Drain).unwrap();
        self.waker.wake().unwrap();
        self.thread.join().unwrap();
    }
}

fn turn(
    mut poll: Poll,
    mut proxy: Proxy<MioNet>,
    asked: &Receiver<Control>,
    status: &Mutex<Option<Status>>,
) {
    let mut events = Events::with_capacity(1024);
    let mut nap = None;
    while !proxy.is_drained() {
        poll.poll(&mut events, nap).unwrap();
        let now = Instant::now();
        asked.try_iter().for_each(|control| proxy.control(control, now));
        let told = events.iter().filter(|event| event.token() != WAKER);
        nap = proxy.turn(now, told.map(|event| (Token(event.token().0), readiness(event))));
        *status.lock().unwrap() = Some(proxy.status());
    }
}

const PLANS: usize = 16;
const WAKER: mio::Token = mio::Token(usize::MAX >> 1);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(60);
