//! Carries out a plan: builds the hosts, steps through virtual time, lets events happen, and has
//! the oracles look at the end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use multigres::net::Address;
use multigres::proxy::{self, Control, Proxy, Upstream};
use multigres::session::{self, Auth};
use multigres::tenant::{Policy, Pooler};
use turmoil::Sim;

use crate::client::{self, DAEMON_PORT};
use crate::driver::{self, Remote, Resolver};
use crate::ledger::{Ledger, variables};
use crate::net::SimNet;
use crate::plan::{AuthMode, Happening, Lookup, Plan};
use crate::record::{self, Record, violate};
use crate::{oracle, postgres};

/// What a run came to.
pub struct Ran {
    /// Its trace and its violations.
    pub record: Record,
    /// Virtual time that it took.
    pub virtual_time: Duration,
    /// What both peers of each session have seen.
    pub ledger: Ledger,
}

/// Carries out a plan.
pub fn run(plan: &Plan, keep_text: bool) -> Ran {
    record::start(keep_text);
    let plan = Rc::new(plan.clone());
    let ledger = Ledger::new(&plan);
    let mut virtual_time = Duration::ZERO;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        virtual_time = play(&plan, &ledger);
    }));
    if let Err(panic) = ended {
        violate(panic_invariant(&panic_text(&*panic)), panic_text(&*panic));
    }
    Ran { record: record::take(), virtual_time, ledger }
}

fn play(plan: &Rc<Plan>, ledger: &Ledger) -> Duration {
    let mut sim = build(plan);
    let remote = Remote::default();
    add_hosts(&mut sim, plan, ledger, &remote);
    let mut events = plan.events.clone();
    events.sort_by_key(|event| event.at_ms);
    let mut drained = false;
    let cap = Duration::from_millis(plan.daemon.login_timeout_ms) * 4 + RUN_MAX;
    while !ledger.clients_are_done() || !events.is_empty() {
        while events.first().is_some_and(|event| event.at_ms <= sim.elapsed().as_millis() as u64) {
            let event = events.remove(0);
            drained |= event.what == Happening::Drain;
            happen(&mut sim, event.what, &remote);
        }
        if !step(&mut sim) {
            return sim.elapsed();
        }
        if sim.elapsed() > cap {
            violate("L1", "clients are not done at the end of the run");
            return sim.elapsed();
        }
    }
    settle(&mut sim, plan, &remote, drained);
    let patience = if may_hang(plan) { Duration::ZERO } else { SLOW_PEERS };
    let until = sim.elapsed() + patience;
    while !ledger.upstream_is_done() && sim.elapsed() < until && step(&mut sim) {}
    oracle::judge(plan, ledger);
    sim.elapsed()
}

fn step(sim: &mut Sim<'_>) -> bool {
    record::tick(sim.elapsed());
    if let Err(error) = sim.step() {
        let text = error.to_string();
        violate(panic_invariant(&text), text);
        return false;
    }
    true
}

/// A panic says which invariant it stands for, or is a fault of its own.
fn panic_invariant(text: &str) -> &'static str {
    if text.contains("R2:") { "R2" } else { "PANIC" }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic".into())
}

/// All clients have gone: nothing may be left, and a drain has to end.
fn settle(sim: &mut Sim<'_>, plan: &Plan, remote: &Remote, drained: bool) {
    let is_empty = |remote: &Remote| {
        let (status, sockets) = remote.status();
        remote.has_ended()
            || status.is_some_and(|status| {
                status.connections + status.deadlines + status.run_queue + status.buffers == 0
                    && sockets == 0
            })
    };
    // Who cannot be told to go has to be waited for.
    let patience = if may_hang(plan) {
        SETTLE
    } else if plan.is_disruptive() {
        Duration::from_millis(plan.daemon.login_timeout_ms) + SLOW_PEERS
    } else {
        SLOW_PEERS
    };
    let until = sim.elapsed() + patience;
    while !is_empty(remote) && sim.elapsed() < until {
        if !step(sim) {
            return;
        }
    }
    if !is_empty(remote) && !may_hang(plan) {
        violate("R1", format!("left over: {:?}", remote.status()));
    }
    if !drained {
        remote.control(Control::Drain);
    }
    if may_hang(plan) {
        remote.control(Control::Stop);
    }
    let until = sim.elapsed() + SETTLE;
    while !remote.has_ended() && sim.elapsed() < until {
        if !step(sim) {
            return;
        }
    }
    if !remote.has_ended() {
        violate("L5", format!("the drain does not end: {:?}", remote.status()));
    }
}

/// A peer that nothing reaches any more keeps its connection.
fn may_hang(plan: &Plan) -> bool {
    plan.events
        .iter()
        .any(|event| matches!(event.what, Happening::PartitionClient(_) | Happening::CrashUpstream))
}

fn build(plan: &Plan) -> Sim<'static> {
    let mut builder = turmoil::Builder::new();
    builder
        .rng_seed(plan.seed)
        .epoch(SystemTime::UNIX_EPOCH)
        .simulation_duration(Duration::from_secs(100_000))
        .tick_duration(Duration::from_millis(plan.network.tick_ms))
        .min_message_latency(Duration::from_millis(plan.network.latency_ms.0))
        .max_message_latency(Duration::from_millis(plan.network.latency_ms.1))
        .tcp_capacity(TURMOIL_SEGMENTS_MAX);
    if plan.network.random_order {
        builder.enable_random_order();
    }
    builder.build()
}

fn add_hosts(sim: &mut Sim<'_>, plan: &Rc<Plan>, ledger: &Ledger, remote: &Remote) {
    {
        let (plan, ledger) = (plan.clone(), ledger.clone());
        sim.host("upstream", move || postgres::run(plan.clone(), ledger.clone()));
    }
    {
        let (plan, remote) = (plan.clone(), remote.clone());
        sim.host("daemon", move || daemon(plan.clone(), remote.clone()));
    }
    for host in 0..plan.hosts() {
        let (plan, ledger) = (plan.clone(), ledger.clone());
        sim.host(format!("client{host}"), move || client::run(plan.clone(), ledger.clone(), host));
    }
}

fn happen(sim: &mut Sim<'_>, what: Happening, remote: &Remote) {
    record::line(format_args!("event {what:?}"));
    let client = |host: usize| format!("client{host}");
    match what {
        Happening::HoldUpstream => sim.hold("daemon", "upstream"),
        Happening::ReleaseUpstream => sim.release("daemon", "upstream"),
        Happening::HoldClient(host) => sim.hold("daemon", client(host)),
        Happening::ReleaseClient(host) => sim.release("daemon", client(host)),
        Happening::PartitionClient(host) => sim.partition("daemon", client(host)),
        Happening::CrashUpstream => sim.crash("upstream"),
        Happening::BounceUpstream => sim.bounce("upstream"),
        Happening::Drain => remote.control(Control::Drain),
    }
}

async fn daemon(plan: Rc<Plan>, remote: Remote) -> turmoil::Result {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let listener = turmoil::net::TcpListener::bind((any, DAEMON_PORT)).await?;
    let early = plan.sessions.iter().map(|session| session.pipe.early).max().unwrap_or(0);
    let net = SimNet::new(plan.faults.clone(), plan.network.window, early, plan.seed);
    let token = Proxy::<SimNet>::listener_token(0);
    let listener = net.listen(listener, token);
    let upstream = SocketAddr::new(turmoil::lookup("upstream"), postgres::PORT);
    let nowhere = SocketAddr::new(upstream.ip(), 1);
    let settings = settings(&plan, Address::Tcp(upstream));
    let proxy = Proxy::new(net.clone(), settings, vec![listener]);
    let resolver = Resolver {
        lookup: plan.daemon.lookup.clone(),
        upstream: Address::Tcp(upstream),
        nowhere: Address::Tcp(nowhere),
    };
    let slow = plan.faults.slow_turn_ms;
    driver::run(net.clone(), proxy, remote, resolver, slow, plan.seed).await;
    net.outlive().await
}

/// The daemon's settings.
pub fn settings(plan: &Plan, upstream: Address) -> proxy::Settings {
    let daemon = &plan.daemon;
    let policy = Policy {
        tenant_separator: ".".into(),
        value_separator: ":".into(),
        context_variables: variables(daemon.variables),
        superuser_bypass: vec!["postgres".into()],
        upstream_pooler: if daemon.pooler { Pooler::Session } else { Pooler::None },
    };
    let auth = match daemon.auth {
        AuthMode::Auto => Auth::Auto,
        AuthMode::Relay => Auth::Relay,
        AuthMode::Password => Auth::Password,
    };
    let allow_cleartext_password = daemon.allow_cleartext;
    let upstream = match &daemon.lookup {
        Some(Lookup { .. }) => Upstream::Name { host: "upstream".into(), port: postgres::PORT },
        None => Upstream::Address(upstream),
    };
    proxy::Settings {
        session: Rc::new(session::Settings { policy, auth, allow_cleartext_password }),
        upstream,
        login_timeout: Duration::from_millis(daemon.login_timeout_ms),
        upstream_connect_timeout: Duration::from_millis(daemon.connect_timeout_ms),
        idle_timeout: daemon.idle_timeout_ms.map(Duration::from_millis),
        connections_max: daemon.connections_max,
    }
}

/// Beyond the timeouts of the daemon's.
const RUN_MAX: Duration = Duration::from_secs(180);
/// The daemon lingers for two seconds.
const SETTLE: Duration = Duration::from_secs(4);
/// Peers that read slowly take their time to the end.
const SLOW_PEERS: Duration = Duration::from_secs(60);
/// So large that turmoil's own flow control never bites.
const TURMOIL_SEGMENTS_MAX: usize = 1 << 20;
