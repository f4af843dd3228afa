//! Every cut of every login: after each byte of either peer's part, in each way, for each way to
//! authenticate. It is small enough to be gone through, so nothing of it is left to chance.

use crate::plan::{
    Auth, AuthMode, Cancel, Client, ClientTls, Conduct, Cut, Daemon, End, Ending, Fate, Faults,
    Limits, Network, Pace, Password, Pipe, Plan, Prelude, Profile, Script, Session, Tls, TlsAnswer,
    UpstreamTls, User,
};
use crate::run;

/// Which peer's bytes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Client,
    Upstream,
}

/// One for each session.
type Cuts = Vec<(Side, Option<Cut>)>;

/// All plans, each with some dozens of cuts. With a `stride` above one, every so manieth cut.
pub fn plans(stride: usize) -> Vec<Plan> {
    let mut plans = Vec::new();
    for mode in [AuthMode::Auto, AuthMode::Password] {
        for auth in Auth::ALL {
            // No question, and MD5, are the same in both.
            if mode == AuthMode::Password && matches!(auth, Auth::Trust | Auth::Md5) {
                continue;
            }
            add(&mut plans, &|cuts| plan(mode, auth, cuts), &ENDS, stride);
        }
    }
    for old in [false, true] {
        let ends = [&ENDS[..], &[End::Garble]].concat();
        add(&mut plans, &|cuts| encrypted(old, cuts), &ends, stride * TLS_STRIDE);
    }
    plans
}

/// The cuts of one kind of login.
fn add(plans: &mut Vec<Plan>, plan: &dyn Fn(Cuts) -> Plan, ends: &[End], stride: usize) {
    let (client_bytes, upstream_bytes) = login_bytes(plan);
    for &how in ends {
        for (side, bytes) in [(Side::Client, client_bytes), (Side::Upstream, upstream_bytes)] {
            let cuts: Vec<Cut> = (0..bytes).step_by(stride).map(|at| Cut { at, how }).collect();
            for some in cuts.chunks(SESSIONS_PER_PLAN) {
                plans.push(plan(some.iter().map(|cut| (side, Some(*cut))).collect()));
            }
        }
    }
}

/// With TLS on both legs.
fn encrypted(old: bool, cuts: Cuts) -> Plan {
    let mut plan = plan(AuthMode::Auto, Auth::Trust, cuts);
    plan.daemon.tls = Tls { client: ClientTls::Require, upstream: UpstreamTls::VerifyFull, old };
    for session in &mut plan.sessions {
        session.client.prelude = vec![Prelude::Ssl];
    }
    plan
}

/// So many honest logins at once, with no faults.
pub(crate) fn honest(mode: AuthMode, auth: Auth, logins: usize) -> Plan {
    plan(mode, auth, vec![(Side::Client, None); logins])
}

/// How long both parts of an honest login are.
fn login_bytes(plan: &dyn Fn(Cuts) -> Plan) -> (usize, usize) {
    let ran = run::run(&plan(vec![(Side::Client, None)]), false);
    assert!(ran.record.violations.is_empty(), "{:?}", ran.record.violations);
    let entry = ran.ledger.entry(0);
    (entry.client.login_bytes, entry.upstream.login_bytes)
}

fn plan(mode: AuthMode, auth: Auth, cuts: Cuts) -> Plan {
    let session = |(number, (side, cut)): (usize, (Side, Option<Cut>))| {
        let conduct = match (side, cut) {
            (Side::Client, Some(cut)) => Conduct::Cut(cut),
            _ => Conduct::Good,
        };
        let fate = match (side, cut) {
            (Side::Upstream, Some(cut)) => Fate::Cut(cut),
            _ => Fate::Honest,
        };
        Session {
            number,
            host: number % HOSTS,
            lane: number / HOSTS % LANES,
            probe: false,
            start_ms: 20,
            client: Client {
                // As long as in every other session, so that each has as many bytes to cut.
                user: User::Tenant(100 + number),
                prelude: Vec::new(),
                eager: false,
                password: Password::Right,
                conduct,
                chunk: usize::MAX,
                pace_ms: 0,
                linger_ms: 0,
            },
            script: Script {
                auth,
                tls: TlsAnswer::Yes,
                fate,
                talkative: true,
                coalesced: 0,
                chunk: usize::MAX,
                pace_ms: 0,
            },
            pipe: PIPE,
        }
    };
    Plan {
        seed: 0,
        profile: Profile::Quiet,
        network: Network { latency_ms: (1, 1), tick_ms: 1, random_order: false, window: 60_000 },
        faults: Faults::default(),
        daemon: Daemon {
            auth: mode,
            allow_cleartext: false,
            pooler: false,
            login_timeout_ms: 1_000,
            connect_timeout_ms: 2_000,
            idle_timeout_ms: None,
            connections_max: 1_000,
            variables: 1,
            lookup: None,
            seal: None,
            verify_ttl_ms: 0,
            tls: Tls::default(),
            limits: Limits::default(),
        },
        sessions: cuts.into_iter().enumerate().map(session).collect(),
        events: Vec::new(),
    }
}

const ENDS: [End; 5] = [End::Pause, End::HalfClose, End::Close, End::Reset, End::Silence];
/// A record's bytes are much alike.
const TLS_STRIDE: usize = 5;

const PIPE: Pipe = Pipe {
    up: 40,
    down: 40,
    early: 0,
    pingpong: false,
    client: Pace { chunk: 64, pause_ms: 0 },
    upstream: Pace { chunk: 64, pause_ms: 0 },
    ending: Ending::ClientFirst,
    cancel: Cancel::None,
};

/// All at once: a silent one takes its whole deadline.
const HOSTS: usize = 3;
const LANES: usize = 30;
const SESSIONS_PER_PLAN: usize = 90;
