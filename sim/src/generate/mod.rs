//! From a seed to a plan. Swarm: most features are off in most runs, so that each gets its runs.
//! Changing anything here changes what every seed means.

mod disaster;
mod session;
mod tls;

use crate::plan::{
    Auth, AuthMode, Cancel, Client, Conduct, Daemon, Ending, Event, Fate, Faults, Happening,
    Limits, Lookup, LookupAnswer, Network, Pace, Password, Pipe, Plan, Profile, Script, SealBind,
    Session, Tls, TlsAnswer, User,
};
use crate::rng::Rng;
use disaster::events;
use session::session;

impl Plan {
    /// The plan of a seed.
    pub fn from_seed(seed: u64, profile: Profile) -> Self {
        if profile == Profile::Tls {
            // As one of the others, which is so one in two times that everything is exact.
            let rng = &mut Rng::fork(seed, "tls");
            let others = [Profile::Auth, Profile::Backpressure, Profile::Swarm, Profile::Liveness];
            let base = if rng.percent(50) { Profile::Quiet } else { rng.pick(&others) };
            return Plan { profile, ..Plan::of(seed, base, Some(rng)) };
        }
        Plan::of(seed, profile, None)
    }

    fn of(seed: u64, profile: Profile, tls: Option<&mut Rng>) -> Self {
        let mut rng = Rng::fork(seed, "plan");
        let shape = Shape::of(&mut rng, profile);
        let faults = faults(&mut rng, profile);
        let mut daemon = daemon(&mut rng, profile);
        daemon.seal = seal(&mut Rng::fork(seed, "seal"), daemon.pooler);
        daemon.verify_ttl_ms = Rng::fork(seed, "verify_ttl").pick(&[0, 60_000]);
        let network = network(&mut rng, profile);
        let sessions = Vec::new();
        let mut plan =
            Plan { seed, profile, network, faults, daemon, sessions, events: Vec::new() };
        plan.network.window = plan.network.window.max(plan.faults.read_max.min(50));
        let is_deaf = matches!(shape, Shape::Deaf);
        plan.take_shape(&mut rng, shape);
        if plan.events.is_empty() {
            plan.events = events(&mut rng, profile, plan.hosts());
        }
        if profile == Profile::Liveness {
            plan.add_probes(&mut rng);
        }
        if let Some(rng) = tls {
            plan.add_tls(rng);
        }
        if plan.turns_ms(5_000) > SLOW_LOGIN_MS {
            plan.faults.slow_turn_ms = 0;
        }
        plan.set_timeouts(&mut rng);
        // Small turns take more turns, and what a deaf client leaves must be in a buffer.
        if plan.faults.slow_turn_ms == 0 && !is_deaf {
            plan.daemon.limits = limits(&mut Rng::fork(seed, "limits"));
            plan.become_crowded(&mut Rng::fork(seed, "crowd"));
        }
        plan
    }

    fn take_shape(&mut self, rng: &mut Rng, shape: Shape) {
        if let Shape::Storm { .. } = shape {
            self.network.tick_ms = 5;
            self.network.window = self.network.window.max(500);
            self.faults.read_max = self.faults.read_max.max(50);
            self.faults.write_max = self.faults.write_max.max(50);
            self.faults.accept_error_percent = self.faults.accept_error_percent.min(4);
        }
        let (hosts, lanes, rounds) = match shape {
            Shape::Usual { hosts, lanes, rounds } => (hosts, lanes, rounds),
            Shape::Storm { lanes } => (STORM_HOSTS, lanes, 1),
            Shape::Bulk => return self.become_bulk(rng),
            Shape::Deaf => return self.become_deaf(rng),
            Shape::Nobody => (2, 2, 1),
        };
        for number in 0..hosts * lanes * rounds {
            let round = (number / (hosts * lanes)) as u64;
            let start_ms = 20 + rng.within(0..200) * round;
            let mut session =
                session(rng, self.profile, (&self.daemon, &self.network, &self.faults));
            (session.number, session.start_ms) = (number, start_ms);
            (session.host, session.lane) = (number % hosts, number / hosts % lanes);
            if let Shape::Storm { .. } = shape {
                // They come and go together.
                session.pipe.cancel = Cancel::None;
                session.pipe.up = session.pipe.up.min(500);
                session.pipe.down = session.pipe.down.min(500);
                session.pipe.early = session.pipe.early.min(session.pipe.up);
                session.script.coalesced = session.script.coalesced.min(session.pipe.down);
                session.client.linger_ms = 0;
                session.client.chunk = session.client.chunk.max(20);
                session.script.chunk = session.script.chunk.max(50);
            }
            self.sessions.push(session);
        }
        if let Shape::Nobody = shape {
            let what = rng.pick(&[Happening::HoldUpstream, Happening::CrashUpstream]);
            self.events = vec![Event { at_ms: 0, what }];
        }
    }

    /// Much beside little: the ones with little must not wait for the others to be done.
    fn become_bulk(&mut self, rng: &mut Rng) {
        self.network.window = rng.pick(&[60_000, 1_000_000]);
        self.faults.read_max = self.faults.read_max.max(4_096);
        self.faults.write_max = self.faults.write_max.max(4_096);
        for number in 0..5 {
            let is_bulk = number < 2;
            let amount = if is_bulk { rng.size(200_000..900_000) } else { 300 };
            let pace = Pace { chunk: 65_536, pause_ms: 0 };
            self.sessions.push(Session {
                pipe: Pipe {
                    up: amount,
                    down: amount,
                    early: 0,
                    pingpong: !is_bulk,
                    client: pace,
                    upstream: pace,
                    ending: Ending::ClientFirst,
                    cancel: Cancel::None,
                },
                ..plain(rng, number, number % 3)
            });
        }
    }

    /// Room for hardly anybody: some are refused, some crowded out, some have to wait.
    fn become_crowded(&mut self, rng: &mut Rng) {
        // In a liveness run new sessions must get through.
        if self.profile == Profile::Liveness || !rng.percent(4) {
            return;
        }
        self.daemon.connections_max = rng.size(1..4);
        self.daemon.limits.spare_connections = rng.size(0..3);
        for session in &mut self.sessions {
            let pipe = &mut session.pipe;
            if !pipe.pingpong && rng.percent(30) {
                // Its client still has to take the last words when it counts no longer.
                pipe.ending = Ending::UpstreamFirst;
                pipe.client.pause_ms = 0;
                pipe.up = pipe.up.min(100).max(pipe.early);
            }
        }
    }

    /// A client that takes nothing, for whom the daemon waits a minute.
    fn become_deaf(&mut self, rng: &mut Rng) {
        self.network = Network {
            tick_ms: 10,
            window: rng.pick(&[4_096, 20_000]),
            latency_ms: (1, 1),
            ..self.network.clone()
        };
        self.faults = Faults { private_peers: self.faults.private_peers, ..Faults::default() };
        let pace = Pace { chunk: 4_096, pause_ms: 0 };
        for number in 0..2 {
            let deaf = number == 0;
            // More than the client's kernel takes, and no more than all between can hold: it may
            // have taken a piece with the end of the login.
            let down = 4_096 + self.network.window + rng.size(1..4_096);
            self.sessions.push(Session {
                pipe: Pipe {
                    up: 0,
                    down,
                    early: 0,
                    pingpong: false,
                    client: pace,
                    upstream: pace,
                    ending: if deaf { Ending::Deaf } else { Ending::UpstreamLast },
                    cancel: Cancel::None,
                },
                ..plain(rng, number, number)
            });
        }
        self.daemon.idle_timeout_ms = None;
        self.daemon.connections_max = 1_000;
        self.daemon.lookup = None;
    }

    /// New sessions for when the core is well again, from hosts that always were.
    fn add_probes(&mut self, rng: &mut Rng) {
        let host = self.hosts();
        for at in 0..rng.size(2..5) {
            let number = self.sessions.len();
            let mut probe =
                session(rng, Profile::Quiet, (&self.daemon, &self.network, &self.faults));
            (probe.number, probe.host, probe.lane) = (number, host, at);
            probe.start_ms = HEALTHY_MS + rng.within(0..300);
            probe.probe = true;
            probe.script.fate = Fate::Honest;
            if !self.faults.private_peers && !self.daemon.allow_cleartext {
                probe.script.auth = Auth::Trust;
            }
            if self.daemon.auth == AuthMode::Relay && probe.script.auth == Auth::Md5 {
                probe.script.auth = Auth::Scram;
            }
            probe.client = Client {
                conduct: Conduct::Good,
                password: Password::Right,
                linger_ms: 0,
                ..probe.client
            };
            probe.pipe.cancel = Cancel::None;
            probe.pipe.up = probe.pipe.up.min(PROBE_BYTES);
            probe.pipe.down = probe.pipe.down.min(PROBE_BYTES);
            probe.script.coalesced = probe.script.coalesced.min(probe.pipe.down);
            probe.pipe.early = probe.pipe.early.min(probe.pipe.up);
            self.sessions.push(probe);
        }
        self.faults.heal_ms = Some(HEALTHY_MS);
    }

    /// Deadlines as short as they can be without coming before an honest login is done, but for
    /// the plans in which they shall.
    fn set_timeouts(&mut self, rng: &mut Rng) {
        let is_exact = matches!(self.profile, Profile::Quiet | Profile::Liveness);
        let connect = self.connect_ms() + rng.within(100..600);
        let login = self.login_ms() + rng.within(100..400);
        let hasty = !is_exact && rng.percent(10);
        self.daemon.connect_timeout_ms = connect;
        self.daemon.login_timeout_ms = if hasty { rng.within(50..login) } else { login };
    }
}

/// What kind of crowd a plan is about.
#[derive(Clone, Copy)]
enum Shape {
    Usual {
        hosts: usize,
        lanes: usize,
        rounds: usize,
    },
    /// More at once than one turn accepts.
    Storm {
        lanes: usize,
    },
    Bulk,
    Deaf,
    /// No upstream at all.
    Nobody,
}

impl Shape {
    fn of(rng: &mut Rng, profile: Profile) -> Self {
        let odd = rng.within(0..100);
        let (hosts, lanes) = (rng.size(1..4), rng.size(1..3));
        match profile {
            Profile::Quiet if odd < 2 => Shape::Deaf,
            Profile::Quiet | Profile::Swarm if odd < 6 => Shape::Nobody,
            Profile::Swarm if odd < 10 => Shape::Storm { lanes: rng.size(11..20) },
            Profile::Quiet if odd < 12 => Shape::Bulk,
            Profile::Backpressure if odd < 15 => Shape::Bulk,
            Profile::Quiet => Shape::Usual { hosts, lanes, rounds: rng.size(1..4) },
            Profile::Backpressure => Shape::Usual { hosts: 1, lanes: rng.size(1..4), rounds: 1 },
            Profile::Auth => Shape::Usual { hosts, lanes, rounds: rng.size(2..5) },
            Profile::Swarm | Profile::Tls => Shape::Usual { hosts, lanes, rounds: rng.size(1..4) },
            Profile::Liveness => Shape::Usual { hosts, lanes, rounds: rng.size(1..3) },
        }
    }
}

/// A session in whose login nothing is out of the way.
fn plain(rng: &mut Rng, number: usize, host: usize) -> Session {
    Session {
        number,
        host,
        lane: number,
        probe: false,
        start_ms: 20,
        client: Client {
            user: User::Tenant(rng.size(0..1000)),
            prelude: Vec::new(),
            eager: false,
            password: Password::Right,
            conduct: Conduct::Good,
            chunk: usize::MAX,
            pace_ms: 0,
            linger_ms: 0,
        },
        script: Script {
            auth: Auth::Trust,
            tls: TlsAnswer::Yes,
            fate: Fate::Honest,
            talkative: false,
            coalesced: 0,
            chunk: usize::MAX,
            pace_ms: 0,
        },
        pipe: Pipe {
            up: 0,
            down: 0,
            early: 0,
            pingpong: false,
            client: Pace { chunk: 512, pause_ms: 0 },
            upstream: Pace { chunk: 512, pause_ms: 0 },
            ending: Ending::ClientFirst,
            cancel: Cancel::None,
        },
    }
}

fn faults(rng: &mut Rng, profile: Profile) -> Faults {
    let quiet = Faults { private_peers: rng.percent(80), ..Faults::default() };
    if profile == Profile::Quiet {
        return quiet;
    }
    let mut on = |percent: u64| rng.percent(percent);
    let (reads, writes, eintr, again, spurious) = (on(40), on(40), on(25), on(25), on(40));
    let (batch, slow, backlog, emfile, connect) = (on(30), on(20), on(20), on(25), on(15));
    let (disrupt, shuffle, narrow_events) = (on(30), on(40), on(40));
    let disrupt = disrupt || profile == Profile::Liveness;
    let disruption = if disrupt { rng.size(0..5) } else { usize::MAX };
    let caps = [1, 2, 7, 16, 50, 1000, 4096];
    Faults {
        read_max: if reads { rng.pick(&caps) } else { usize::MAX },
        write_max: if writes { rng.pick(&caps) } else { usize::MAX },
        interrupt_percent: if eintr { rng.within(1..30) } else { 0 },
        would_block_percent: if again { rng.within(1..30) } else { 0 },
        spurious_percent: if spurious { rng.within(1..60) } else { 0 },
        shuffle,
        narrow_events,
        batch_max: if batch { rng.size(1..4) } else { 1024 },
        slow_turn_ms: if slow { rng.within(1..10) } else { 0 },
        backlog: if backlog { rng.size(1..4) } else { 128 },
        accept_error_percent: if emfile { rng.within(1..50) } else { 0 },
        connect_again_percent: if connect { rng.within(1..50) } else { 0 },
        abort_percent: if disruption == 0 { rng.within(1..30) } else { 0 },
        connect_error_percent: if disruption == 1 { rng.within(1..40) } else { 0 },
        register_error_percent: if disruption == 2 { rng.within(1..20) } else { 0 },
        reset_permyriad: if disruption >= 3 && disrupt { rng.within(1..300) } else { 0 },
        ..quiet
    }
}

fn daemon(rng: &mut Rng, profile: Profile) -> Daemon {
    let answers = [
        LookupAnswer::Good,
        LookupAnswer::Good,
        LookupAnswer::BadFirst,
        LookupAnswer::Bad,
        LookupAnswer::Unknown,
        LookupAnswer::Never,
    ];
    // In the end all must be well.
    let answers = if profile == Profile::Liveness { &answers[..3] } else { &answers[..] };
    let lookup = (profile != Profile::Quiet && rng.percent(20))
        .then(|| Lookup { delay_ms: rng.within(0..500), answer: rng.pick(answers) });
    let idle = profile != Profile::Liveness && rng.percent(6);
    let full = profile != Profile::Liveness && rng.percent(15);
    Daemon {
        auth: rng.pick(&[AuthMode::Auto, AuthMode::Auto, AuthMode::Relay, AuthMode::Password]),
        allow_cleartext: rng.percent(50),
        pooler: rng.percent(15),
        // Both are set when the plan is complete.
        login_timeout_ms: 0,
        connect_timeout_ms: 0,
        idle_timeout_ms: idle.then(|| rng.within(50..2_000)),
        connections_max: if full { rng.size(1..6) } else { 1000 },
        variables: rng.size(1..4),
        lookup,
        // A stream of random numbers of its own decides.
        seal: None,
        // As the seal.
        verify_ttl_ms: 0,
        tls: Tls::default(),
        // As the timeouts.
        limits: Limits::default(),
    }
}

/// A pooler's address is not the daemon's.
fn seal(rng: &mut Rng, pooler: bool) -> Option<SealBind> {
    let bind = rng.pick(&[SealBind::Address, SealBind::Address, SealBind::None]);
    rng.percent(50).then_some(if pooler { SealBind::None } else { bind })
}

fn limits(rng: &mut Rng) -> Limits {
    if rng.percent(60) {
        return Limits::default();
    }
    let buffer_bytes = rng.pick(&[512, 2_000, 8_192]);
    let turn_bytes = buffer_bytes * rng.pick(&[1, 4]);
    let turn_accepts = rng.pick(&[1, 4, 64]);
    Limits { buffer_bytes, turn_bytes, turn_accepts, spare_connections: rng.pick(&[0, 1, 64]) }
}

fn network(rng: &mut Rng, profile: Profile) -> Network {
    let least = rng.pick(&[0, 0, 1, 2, 5]);
    let latency_ms = match profile {
        Profile::Quiet => (1, 1),
        _ => (least, least + rng.pick(&[1, 2, 5, 5, 20])),
    };
    let window = match profile {
        Profile::Quiet => 60_000,
        Profile::Backpressure => rng.pick(&[200, 500, 1_500, 4_096]),
        _ => rng.pick(&[100, 500, 4_096, 60_000, 60_000]),
    };
    let tick_ms = match profile {
        Profile::Quiet => rng.pick(&[1, 2, 2]),
        Profile::Liveness => rng.pick(&[2, 5, 5]),
        _ => rng.pick(&[1, 2, 2, 5]),
    };
    let random_order = profile != Profile::Quiet && rng.percent(50);
    Network { latency_ms, tick_ms, random_order, window }
}

/// Hosts cost time, lanes do not.
const STORM_HOSTS: usize = 7;

/// That a session gets through shows in few bytes.
const PROBE_BYTES: usize = 3_000;

/// Slow turns of a byte each would make of a login a matter of minutes.
const SLOW_LOGIN_MS: u64 = 1_500;

/// When the core of a liveness run is well again for good.
pub const HEALTHY_MS: u64 = 1_200;
