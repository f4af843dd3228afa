//! From a seed to a plan. Swarm: most features are off in most runs, so that each gets its runs.
//! Changing anything here changes what every seed means.

use crate::plan::{
    Auth, AuthMode, BadStart, Client, Conduct, Cut, Daemon, End, Ending, Event, Fate, Faults,
    Happening, Lie, Lookup, LookupAnswer, Network, Pace, Password, Pipe, Plan, Prelude, Profile,
    Script, Session, User,
};
use crate::rng::Rng;

impl Plan {
    /// The plan of a seed.
    pub fn from_seed(seed: u64, profile: Profile) -> Self {
        let mut rng = Rng::fork(seed, "plan");
        let faults = faults(&mut rng, profile);
        let daemon = daemon(&mut rng, profile);
        let hosts = match profile {
            Profile::Quiet | Profile::Backpressure => rng.size(1..4),
            Profile::Swarm if rng.percent(4) => rng.size(STORM + 1..130),
            Profile::Swarm | Profile::Liveness => rng.size(1..7),
            Profile::Auth => rng.size(1..5),
        };
        let rounds = match profile {
            Profile::Auth => rng.size(2..6),
            _ if hosts > STORM => 1,
            Profile::Backpressure => 1,
            Profile::Quiet | Profile::Swarm | Profile::Liveness => rng.size(1..4),
        };
        let mut network = network(&mut rng, profile);
        let mut sessions = Vec::new();
        for number in 0..hosts * rounds {
            let start_ms = 20 + rng.within(0..200) * (number / hosts) as u64;
            sessions.push(Session {
                number,
                host: number % hosts,
                start_ms,
                ..session(&mut rng, profile, (&daemon, &network, &faults))
            });
        }
        let events = events(&mut rng, profile, hosts);
        if profile == Profile::Liveness {
            // Whoever is still there when all is well again.
            let number = sessions.len();
            let mut probe = session(&mut rng, Profile::Quiet, (&daemon, &network, &faults));
            (probe.number, probe.host, probe.start_ms) = (number, hosts, HEALTHY_MS + 1000);
            probe.client = Client { conduct: Conduct::Good, ..probe.client };
            probe.script.fate = Fate::Honest;
            sessions.push(probe);
        }
        network.window = network.window.max(faults.read_max.min(50));
        Plan { seed, profile, network, faults, daemon, sessions, events }
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
    let lookup = (profile != Profile::Quiet && rng.percent(20)).then(|| Lookup {
        delay_ms: rng.within(0..1500),
        answer: rng.pick(&[
            LookupAnswer::Good,
            LookupAnswer::Good,
            LookupAnswer::BadFirst,
            LookupAnswer::Unknown,
            LookupAnswer::Never,
        ]),
    });
    let idle = profile != Profile::Quiet && rng.percent(6);
    let hasty = profile != Profile::Quiet && rng.percent(10);
    Daemon {
        auth: rng.pick(&[AuthMode::Auto, AuthMode::Auto, AuthMode::Relay, AuthMode::Password]),
        allow_cleartext: rng.percent(50),
        pooler: rng.percent(15),
        login_timeout_ms: if hasty { rng.within(100..1_000) } else { 20_000 },
        connect_timeout_ms: 4_000,
        idle_timeout_ms: idle.then(|| rng.within(50..2_000)),
        connections_max: if rng.percent(10) { rng.size(1..6) } else { 1000 },
        variables: rng.size(1..4),
        lookup,
    }
}

fn network(rng: &mut Rng, profile: Profile) -> Network {
    let least = rng.pick(&[0, 0, 1, 2, 5]);
    let latency_ms = match profile {
        Profile::Quiet => (1, 1),
        _ => (least, least + rng.pick(&[1, 2, 5, 20])),
    };
    let window = match profile {
        Profile::Quiet => 60_000,
        Profile::Backpressure => rng.pick(&[200, 500, 1_500, 4_096]),
        _ => rng.pick(&[100, 500, 4_096, 60_000, 60_000]),
    };
    let random_order = profile != Profile::Quiet && rng.percent(50);
    Network { latency_ms, tick_ms: rng.pick(&[1, 2, 2]), random_order, window }
}

fn session(
    rng: &mut Rng,
    profile: Profile,
    (daemon, network, faults): (&Daemon, &Network, &Faults),
) -> Session {
    let is_bypass = rng.percent(8);
    let user = if is_bypass { User::Bypass } else { User::Tenant(rng.size(0..1000)) };
    let script = script(rng, profile, is_bypass);
    let pipe = pipe(rng, profile, network, faults);
    let client = client(rng, profile, user, daemon);
    Session { number: 0, host: 0, start_ms: 0, client, script, pipe }
}

fn script(rng: &mut Rng, profile: Profile, is_bypass: bool) -> Script {
    let trouble = match profile {
        Profile::Backpressure => 0,
        Profile::Auth => 60,
        Profile::Quiet | Profile::Swarm | Profile::Liveness => 45,
    };
    let fate = if is_bypass || !rng.percent(trouble) {
        Fate::Honest
    } else {
        let cut = Cut { at: rng.size(0..900), how: end(rng) };
        match rng.size(0..10) {
            0 => Fate::ErrorFirst,
            1 => Fate::ErrorAfterOk,
            2 => rng.pick(&[Fate::UnknownAuth, Fate::Impatient, Fate::BadSignature]),
            3..=6 => Fate::Lie(rng.pick(&Lie::ALL)),
            _ => Fate::Cut(cut),
        }
    };
    let (chunk, pace_ms) = pieces(rng);
    Script { auth: rng.pick(&Auth::ALL), fate, talkative: rng.percent(40), chunk, pace_ms }
}

fn end(rng: &mut Rng) -> End {
    rng.pick(&[End::Pause, End::Pause, End::HalfClose, End::Close, End::Reset, End::Silence])
}

fn pieces(rng: &mut Rng) -> (usize, u64) {
    match rng.size(0..10) {
        0 => (1, 1),
        1 => (rng.size(1..20), rng.within(0..3)),
        2 => (rng.size(1..100), 1),
        _ => (usize::MAX, 0),
    }
}

fn client(rng: &mut Rng, profile: Profile, user: User, daemon: &Daemon) -> Client {
    let trouble = match profile {
        Profile::Backpressure => 0,
        Profile::Auth => 20,
        Profile::Quiet | Profile::Swarm | Profile::Liveness => 25,
    };
    let conduct = if !rng.percent(trouble) {
        Conduct::Good
    } else {
        match rng.size(0..4) {
            0 => Conduct::Bad(rng.pick(&BadStart::ALL)),
            1 if user != User::Bypass => Conduct::QueryForPassword,
            _ => Conduct::Cut(Cut { at: rng.size(0..300), how: end(rng) }),
        }
    };
    let conduct = match conduct {
        // Only a tenant may not have these.
        Conduct::Bad(_) if user == User::Bypass => Conduct::Good,
        // Behind a pooler, "options" is the reserved one.
        Conduct::Bad(BadStart::ManyValues) if daemon.variables == 0 => Conduct::Good,
        conduct => conduct,
    };
    let prelude = match rng.size(0..6) {
        0 => vec![Prelude::Ssl],
        1 => vec![Prelude::Gss],
        2 => vec![Prelude::Gss, Prelude::Ssl],
        _ => Vec::new(),
    };
    let prelude = if conduct == Conduct::Bad(BadStart::SslTwice) { Vec::new() } else { prelude };
    let guess = [Password::Right, Password::Right, Password::Wrong, Password::Empty];
    let odd = profile == Profile::Auth && rng.percent(50) || rng.percent(10);
    let password = if odd { rng.pick(&guess) } else { Password::Right };
    let (chunk, pace_ms) = pieces(rng);
    let linger_ms = if rng.percent(15) { rng.within(1..3_000) } else { 0 };
    Client { user, prelude, password, conduct, chunk, pace_ms, linger_ms }
}

fn pipe(rng: &mut Rng, profile: Profile, network: &Network, faults: &Faults) -> Pipe {
    let most = match profile {
        Profile::Backpressure => 200 * network.window.min(1_000),
        Profile::Auth => 100,
        _ => 20 * network.window.min(2_000),
    };
    // Few bytes where each takes a turn: what is slow finds no more than what is quick.
    let grain = faults.read_max.min(faults.write_max).min(1_000);
    let turns = if faults.slow_turn_ms > 0 { 150 } else { 600 };
    let most = most.min(grain * turns);
    let (up, down) = (rng.size(0..most), rng.size(0..most));
    let pingpong = rng.percent(25);
    let (up, down) = if pingpong { (up.min(300), up.min(300)) } else { (up, down) };
    let early = if rng.percent(30) { rng.size(0..200).min(up) } else { 0 };
    let early = if pingpong { early.min(16) } else { early };
    let ending = match rng.size(0..8) {
        0..=2 => Ending::UpstreamLast,
        3 => Ending::ClientAbrupt(rng.size(0..most)),
        4 => Ending::UpstreamAbrupt(rng.size(0..most)),
        _ => Ending::ClientFirst,
    };
    let (client, upstream) = (pace(rng, most), pace(rng, most));
    let cancel = rng.percent(10);
    Pipe { up, down, early, pingpong, client, upstream, ending, cancel }
}

fn pace(rng: &mut Rng, most: usize) -> Pace {
    match rng.size(0..6) {
        0 => Pace { chunk: most / 200 + rng.size(1..64), pause_ms: 2 },
        1 => Pace { chunk: most / 50 + 1, pause_ms: rng.within(1..20) },
        _ => Pace { chunk: rng.pick(&[512, 4096, 16_384]), pause_ms: 0 },
    }
}

fn events(rng: &mut Rng, profile: Profile, hosts: usize) -> Vec<Event> {
    let mut events = Vec::new();
    if profile == Profile::Quiet {
        return events;
    }
    let mut add = |at_ms: u64, what: Happening| events.push(Event { at_ms, what });
    if rng.percent(15) {
        let at = rng.within(0..800);
        add(at, Happening::HoldUpstream);
        add(at + rng.within(1..1500), Happening::ReleaseUpstream);
    }
    if rng.percent(15) {
        let (at, host) = (rng.within(30..800), rng.size(0..hosts));
        add(at, Happening::HoldClient(host));
        add(at + rng.within(1..1500), Happening::ReleaseClient(host));
    }
    let disasters = if profile == Profile::Liveness { 60 } else { 6 };
    if rng.percent(disasters) {
        add(rng.within(30..800), Happening::PartitionClient(rng.size(0..hosts)));
    }
    if rng.percent(disasters) {
        let at = rng.within(30..800);
        add(at, Happening::CrashUpstream);
        add(at + rng.within(1..1000), Happening::BounceUpstream);
    }
    if profile != Profile::Liveness && rng.percent(6) {
        add(rng.within(20..1000), Happening::Drain);
    }
    events
}

/// So many clients at once are more than one turn accepts.
const STORM: usize = 70;

/// When the last fault of a liveness run is over.
pub const HEALTHY_MS: u64 = 2_000;
