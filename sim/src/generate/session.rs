//! One session of a plan: who logs in, what goes wrong, what goes through the pipe.
//! Changing anything here changes what every seed means.

use crate::plan::{
    Auth, BadStart, Cancel, Client, Conduct, Cut, Daemon, End, Ending, Fate, Faults, Lie, Network,
    Pace, Password, Pipe, Prelude, Profile, Script, Session, TlsAnswer, User,
};
use crate::rng::Rng;

/// A session of its own; its place in the run is for the caller to give.
pub(super) fn session(
    rng: &mut Rng,
    profile: Profile,
    (daemon, network, faults): (&Daemon, &Network, &Faults),
) -> Session {
    let is_bypass = rng.percent(8);
    let user = if is_bypass { User::Bypass } else { User::Tenant(rng.size(0..1000)) };
    let mut script = script(rng, profile, is_bypass);
    let pipe = pipe(rng, profile, network, faults);
    let mut client = client(rng, profile, user, daemon);
    // Floods are for those who can take them quickly.
    let is_wide = network.window >= 4_096 && faults.read_max.min(faults.write_max) >= 1_000;
    if client.conduct == Conduct::Flood {
        client.conduct = if is_wide { Conduct::Flood } else { Conduct::Good };
        if is_wide {
            client.chunk = usize::MAX;
            script.fate = Fate::Cut(Cut { at: 0, how: End::Silence });
        }
    }
    if script.fate == Fate::Lie(Lie::Flood) {
        script.chunk = usize::MAX;
        if !is_wide {
            script.fate = Fate::Lie(Lie::Error);
        }
    }
    if client.conduct == Conduct::QueryBehindStart && script.auth == Auth::Trust {
        script.auth = Auth::Scram;
    }
    let mut pipe = pipe;
    if daemon.idle_timeout_ms.is_some() && rng.percent(40) {
        pipe.ending = Ending::Mute;
    }
    // A client that is still writing does not read, nor does an upstream: both must not wait.
    let fits = pipe.early + REPLY_BYTES <= network.window;
    if is_bypass && !fits {
        pipe.early = 0;
    }
    if !pipe.pingpong && fits && rng.percent(30) {
        script.coalesced = rng.size(0..200).min(pipe.down);
    }
    Session { number: 0, host: 0, lane: 0, probe: false, start_ms: 0, client, script, pipe }
}

fn script(rng: &mut Rng, profile: Profile, is_bypass: bool) -> Script {
    let trouble = match profile {
        Profile::Backpressure => 0,
        Profile::Auth => 60,
        Profile::Quiet | Profile::Swarm | Profile::Liveness | Profile::Tls => 45,
    };
    let fate = if is_bypass || !rng.percent(trouble) {
        Fate::Honest
    } else {
        let cut = Cut { at: rng.size(0..900), how: end(rng) };
        match rng.size(0..10) {
            0 => Fate::ErrorFirst,
            1 => Fate::ErrorAfterOk,
            2 => rng.pick(&[
                Fate::UnknownAuth,
                Fate::UnknownMechanism,
                Fate::Impatient,
                Fate::BadSignature,
            ]),
            3..=6 => Fate::Lie(rng.pick(&Lie::ALL)),
            _ => Fate::Cut(cut),
        }
    };
    let (chunk, pace_ms) = pieces(rng);
    Script {
        auth: rng.pick(&Auth::ALL),
        tls: TlsAnswer::Yes,
        fate,
        talkative: rng.percent(40),
        coalesced: 0,
        chunk,
        pace_ms,
    }
}

fn end(rng: &mut Rng) -> End {
    rng.pick(&[End::Pause, End::Pause, End::HalfClose, End::Close, End::Reset, End::Silence])
}

fn pieces(rng: &mut Rng) -> (usize, u64) {
    match rng.size(0..40) {
        0 => (rng.size(1..3), 1),
        1..=4 => (1, 0),
        5..=8 => (rng.size(10..40), rng.within(0..3)),
        9..=12 => (rng.size(20..100), 1),
        _ => (usize::MAX, 0),
    }
}

fn client(rng: &mut Rng, profile: Profile, user: User, daemon: &Daemon) -> Client {
    let trouble = match profile {
        Profile::Backpressure => 0,
        Profile::Auth => 20,
        Profile::Quiet | Profile::Swarm | Profile::Liveness | Profile::Tls => 25,
    };
    let conduct = if !rng.percent(trouble) {
        Conduct::Good
    } else {
        match rng.size(0..10) {
            0 | 1 => Conduct::Bad(rng.pick(&BadStart::ALL)),
            2 if user != User::Bypass => Conduct::QueryForPassword,
            3 if user != User::Bypass => Conduct::QueryBehindStart,
            4 => rng.pick(&[Conduct::WrongNonce, Conduct::ReplyTwice]),
            5 if user != User::Bypass => Conduct::Flood,
            6 => Conduct::Cut(Cut { at: 0, how: end(rng) }),
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
    let linger_ms = if rng.percent(10) { rng.within(1..2_500) } else { 0 };
    let eager = rng.percent(40) && !matches!(conduct, Conduct::Cut(_) | Conduct::Bad(_));
    Client { user, prelude, eager, password, conduct, chunk, pace_ms, linger_ms }
}

fn pipe(rng: &mut Rng, profile: Profile, network: &Network, faults: &Faults) -> Pipe {
    let most = match profile {
        // Each window takes its time to and fro.
        Profile::Backpressure if network.latency_ms.1 > 5 => 40 * network.window.min(2_000),
        Profile::Backpressure => 150 * network.window.min(1_000),
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
    let ending = match rng.size(0..9) {
        0..=2 => Ending::UpstreamLast,
        3 => Ending::ClientAbrupt(rng.size(0..most)),
        4 => Ending::UpstreamAbrupt(rng.size(0..most)),
        5 if !pingpong => Ending::UpstreamFirst,
        _ => Ending::ClientFirst,
    };
    let (mut client, upstream) = (pace(rng, most), pace(rng, most));
    let mut up = up;
    if ending == Ending::UpstreamFirst {
        // What comes behind upstream's end has to come soon.
        client.pause_ms = 0;
        up = up.min(10 * grain).min(300).max(early);
    }
    let cancel = match rng.size(0..60) {
        0..=2 => Cancel::Right,
        3 => Cancel::WrongKey,
        4 => Cancel::Half,
        5 => Cancel::Storm(rng.size(2..8)),
        _ => Cancel::None,
    };
    Pipe { up, down, early, pingpong, client, upstream, ending, cancel }
}

fn pace(rng: &mut Rng, most: usize) -> Pace {
    match rng.size(0..6) {
        0 => Pace { chunk: most / 100 + rng.size(1..64), pause_ms: 2 },
        1 => Pace { chunk: most / 25 + 1, pause_ms: rng.within(1..20) },
        _ => Pace { chunk: rng.pick(&[512, 4096, 16_384]), pause_ms: 0 },
    }
}

/// The last of a client's login, at most.
const REPLY_BYTES: usize = 150;
