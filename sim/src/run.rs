//! Carries out a plan: builds the hosts, steps through virtual time, lets events happen, and has
//! the oracles look at the end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use multigres::net::Address;
use multigres::proxy::{self, Control, Proxy, Upstream};
use multigres::session::{self, Auth};
use multigres::tenant::{GuardDemand, Policy, Pooler, Seal, SealBind, SealDemand, SealKey};
use turmoil::Sim;

use crate::client::{self, DAEMON_PORT};
use crate::driver::{self, Remote, Resolver};
use crate::ledger::{Ledger, variables};
use crate::life::Lives;
use crate::net::SimNet;
use crate::plan::{AuthMode, Conduct, Fate, Happening, Lie, Lookup, Plan, Session};
use crate::record::{self, Record, applied, violate};
use crate::watch::Watch;
use crate::{oracle, postgres, tls};

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
    tls::seed(plan.seed);
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
    let cap = Duration::from_millis(plan.daemon.login_timeout_ms) * 4 + RUN_MAX;
    let mut quiet = Quiet::default();
    while !ledger.clients_are_done() || !events.is_empty() {
        while events.first().is_some_and(|event| event.at_ms <= sim.elapsed().as_millis() as u64) {
            happen(&mut sim, events.remove(0).what, &remote);
        }
        if !step(&mut sim) {
            return sim.elapsed();
        }
        if plan.may_hang() && events.is_empty() && ledger.probes_are_done(plan) {
            let sleeps = remote.status().0.is_some_and(|status| status.deadlines == 0);
            if quiet.is_over(sim.elapsed(), plan, sleeps) {
                break;
            }
        }
        if sim.elapsed() > cap {
            violate("L1", "clients are not done at the end of the run");
            return sim.elapsed();
        }
    }
    settle(&mut sim, plan, &remote);
    let until = sim.elapsed() + SLOW_PEERS;
    while !ledger.probes_are_done(plan) && sim.elapsed() < until && step(&mut sim) {}
    let patience =
        if plan.may_hang() { Duration::from_millis(plan.slack_ms()) } else { SLOW_PEERS };
    let until = sim.elapsed() + patience;
    while !ledger.upstream_is_done() && sim.elapsed() < until && step(&mut sim) {}
    oracle::judge(plan, ledger);
    sim.elapsed()
}

/// Notices when nothing happens any more, and nothing will: who is left hangs for ever.
#[derive(Default)]
struct Quiet {
    lines: u64,
    since: Duration,
}

impl Quiet {
    fn is_over(&mut self, now: Duration, plan: &Plan, sleeps: bool) -> bool {
        if self.lines != record::lines() {
            (self.lines, self.since) = (record::lines(), now);
        }
        let last_start = plan.sessions.iter().map(|session| session.start_ms).max().unwrap_or(0);
        let most = if sleeps { QUIET_ASLEEP } else { QUIET };
        now > Duration::from_millis(last_start) && now > self.since + most
    }
}

fn step(sim: &mut Sim<'_>) -> bool {
    record::tick(sim.elapsed());
    if let Err(error) = sim.step() {
        let text = error.to_string();
        violate(panic_invariant(&text), text);
    }
    // What comes after the first violation says nothing any more.
    record::is_clean()
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
fn settle(sim: &mut Sim<'_>, plan: &Plan, remote: &Remote) {
    let is_empty = |remote: &Remote| {
        let (status, sockets) = remote.status();
        remote.has_ended()
            || status.is_some_and(|status| {
                status.connections + status.deadlines + status.run_queue + status.buffers == 0
                    && sockets == 0
            })
    };
    // Who cannot be told to go has to be waited for.
    let patience = if plan.may_hang() {
        SETTLE
    } else if plan.is_disruptive() {
        Duration::from_millis(plan.daemon.login_timeout_ms) + SLOW_PEERS
    } else {
        SLOW_PEERS
    };
    let mut until = sim.elapsed() + patience;
    while !is_empty(remote) && sim.elapsed() < until {
        if !step(sim) {
            return;
        }
    }
    applied("R1");
    if !is_empty(remote) && !plan.may_hang() {
        violate("R1", format!("left over: {:?}", remote.status()));
    }
    if plan.ends_at().is_none() {
        remote.control(Control::Drain);
    }
    if !is_empty(remote) {
        remote.control(Control::Stop);
    }
    until = sim.elapsed() + Duration::from_millis(plan.slack_ms()) + END;
    while !remote.has_ended() && sim.elapsed() < until {
        if !step(sim) {
            return;
        }
    }
    applied("L5 end");
    if !remote.has_ended() {
        violate("L5", format!("the daemon does not end: {:?}", remote.status()));
    }
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
        let (plan, remote, ledger) = (plan.clone(), remote.clone(), ledger.clone());
        sim.host("daemon", move || daemon(plan.clone(), remote.clone(), ledger.clone()));
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
        Happening::PartitionFromClient(host) => sim.partition_oneway(client(host), "daemon"),
        Happening::PartitionToClient(host) => sim.partition_oneway("daemon", client(host)),
        Happening::CrashUpstream => sim.crash("upstream"),
        Happening::BounceUpstream => sim.bounce("upstream"),
        Happening::Drain => remote.control(Control::Drain),
        Happening::Stop => remote.control(Control::Stop),
    }
}

async fn daemon(plan: Rc<Plan>, remote: Remote, ledger: Ledger) -> turmoil::Result {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let listener = turmoil::net::TcpListener::bind((any, DAEMON_PORT)).await?;
    let early = plan.sessions.iter().map(early_bytes).max().unwrap_or(0);
    let watch = Watch::new(plan.daemon.limits.into(), early, plan.has_tls());
    let net = SimNet::new(plan.faults.clone(), plan.network.window, watch, plan.seed);
    net.watch(|watch| watch.know(Lives::new(&plan, ledger)));
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

/// What either peer of a session may say before it is asked to, and the daemon has to hold.
fn early_bytes(session: &Session) -> usize {
    match (session.client.conduct, session.script.fate) {
        (_, Fate::Lie(Lie::Flood)) => HELD_BYTES_MAX + INBOX_BYTES_MAX,
        (Conduct::Flood, _) => INBOX_BYTES_MAX,
        _ => session.pipe.early.max(session.script.coalesced),
    }
}

/// The daemon's settings.
pub fn settings(plan: &Plan, upstream: Address) -> proxy::Settings {
    let daemon = &plan.daemon;
    let policy = Policy {
        context_variables: variables(daemon.variables),
        upstream_pooler: if daemon.pooler { Pooler::Session } else { Pooler::None },
        seal: daemon.seal.map(|bind| sealed(bind.into())),
        guard: GuardDemand::Require,
        ..Policy::default()
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
        session: Rc::new(session::LoginSettings {
            policy,
            auth,
            allow_cleartext_password,
            upstream_is_local: true,
            client_tls: daemon.tls.client.into(),
            upstream_tls: daemon.tls.upstream.into(),
            ..session::LoginSettings::default()
        }),
        tls: Rc::new(tls::daemon(&daemon.tls)),
        upstream,
        login_timeout: Duration::from_millis(daemon.login_timeout_ms),
        upstream_connect_timeout: Duration::from_millis(daemon.connect_timeout_ms),
        idle_timeout: daemon.idle_timeout_ms.map(Duration::from_millis),
        verify_ttl: Duration::from_millis(daemon.verify_ttl_ms),
        connections_max: daemon.connections_max,
        limits: plan.daemon.limits.into(),
    }
}

fn sealed(bind: SealBind) -> Seal {
    let key = SealKey::from_hex(postgres::SEAL_KEY.as_bytes()).expect("64 hex digits");
    Seal { key, bind, demand: SealDemand::Require }
}

/// Beyond the timeouts of the daemon's.
const RUN_MAX: Duration = Duration::from_secs(180);
/// The daemon lingers for two seconds.
const SETTLE: Duration = Duration::from_secs(4);
/// Peers that read slowly take their time to the end.
const SLOW_PEERS: Duration = Duration::from_secs(60);
/// A stop, or a drain of an empty daemon, takes effect at once.
const END: Duration = Duration::from_millis(100);
/// Longer than any deadline of the daemon's but that of upstream's last words.
const QUIET: Duration = Duration::from_secs(3);
/// Longer than any pause of a peer's, when the daemon waits for nothing.
const QUIET_ASLEEP: Duration = Duration::from_millis(500);
/// What the daemon keeps of a message of a login, and of a session's start.
const INBOX_BYTES_MAX: usize = 65_540;
const HELD_BYTES_MAX: usize = 256 * 1024;
/// So large that turmoil's own flow control never bites.
const TURMOIL_SEGMENTS_MAX: usize = 1 << 20;
