//! Makes a plan that fails smaller, as long as it fails in the same way.

use crate::plan::{
    Cancel, ClientTls, Ending, Faults, Limits, Pace, Plan, Session, TlsAnswer, UpstreamTls,
};
use crate::{probe, run};

/// The smallest plan that was found, and how many runs it took; `None` if the plan does not fail.
/// The same invariant stays broken in the same way in each step on the way to it. With a bug
/// planted, the plan never fails without it.
///
/// # Panics
/// When there is no such bug in this build.
pub fn shrink(mut plan: Plan, mutant: Option<&str>) -> Option<(Plan, usize)> {
    let how = broken(&plan, mutant)?;
    let mut runs = 1;
    loop {
        let smaller = candidates(&plan).into_iter().find(|candidate| {
            runs += 1;
            *candidate != plan
                && broken(candidate, mutant).as_ref() == Some(&how)
                && (mutant.is_none() || broken(candidate, None).is_none())
        });
        match smaller {
            Some(smaller) => plan = smaller,
            None => return Some((plan, runs)),
        }
    }
}

/// The invariant and how it is broken: the text without numbers and without the details behind it.
fn broken(plan: &Plan, mutant: Option<&str>) -> Option<(&'static str, String)> {
    probe::plant(mutant).expect("a mutant of this build");
    let record = run::run(plan, false).record;
    let violation = record.violations.first()?;
    let text = violation.text.split(';').next().unwrap_or_default();
    let text = text.chars().filter(|it| !it.is_ascii_digit()).collect();
    Some((violation.invariant, text))
}

/// The plan with something less each, the largest things first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        found.push(candidate);
    };
    let mut size = plan.sessions.len().div_ceil(2);
    while size > 0 {
        for at in (0..plan.sessions.len()).step_by(size) {
            with(&|plan| remove_sessions(plan, at, size));
        }
        size /= 2;
    }
    for at in 0..plan.events.len() {
        with(&|plan| {
            plan.events.remove(at);
        });
    }
    with(&|plan| plan.faults = Faults::default());
    for calm in CALMS {
        with(&|plan| calm(&mut plan.faults, &Faults::default()));
    }
    with(&|plan| plan.network.latency_ms = (1, 1));
    with(&|plan| plan.network.random_order = false);
    with(&|plan| plan.network.window = 60_000);
    with(&|plan| plan.daemon.lookup = None);
    with(&|plan| plan.daemon.limits = Limits::default());
    with(&|plan| plan.daemon.connections_max = 1_000);
    with(&|plan| plan.daemon.idle_timeout_ms = None);
    with(&|plan| plan.daemon.variables = 1);
    with(&|plan| plan.daemon.tls.client = ClientTls::Off);
    with(&|plan| plan.daemon.tls.upstream = UpstreamTls::Disable);
    with(&|plan| plan.daemon.tls.old = false);
    for at in 0..plan.sessions.len() {
        for less in LESS {
            with(&|plan| less(&mut plan.sessions[at]));
        }
    }
    found
}

/// Numbers stay places.
fn remove_sessions(plan: &mut Plan, at: usize, count: usize) {
    let end = (at + count).min(plan.sessions.len());
    plan.sessions.drain(at..end);
    for (number, session) in plan.sessions.iter_mut().enumerate() {
        session.number = number;
    }
}

/// A session without something.
type Less = fn(&mut Session);

const LESS: [Less; 17] = [
    |session| session.script.tls = TlsAnswer::Yes,
    |session| {
        session.pipe.up /= 2;
        session.pipe.early = session.pipe.early.min(session.pipe.up);
    },
    |session| {
        session.pipe.down /= 2;
        session.script.coalesced = session.script.coalesced.min(session.pipe.down);
    },
    |session| session.pipe.early = 0,
    |session| session.pipe.pingpong = false,
    |session| session.pipe.cancel = Cancel::None,
    |session| session.pipe.ending = Ending::ClientFirst,
    |session| session.pipe.client = CALM_PACE,
    |session| session.pipe.upstream = CALM_PACE,
    |session| session.client.prelude.clear(),
    |session| (session.client.chunk, session.client.pace_ms) = (usize::MAX, 0),
    |session| session.client.linger_ms = 0,
    |session| session.client.eager = false,
    |session| session.script.coalesced = 0,
    |session| session.script.talkative = false,
    |session| (session.script.chunk, session.script.pace_ms) = (usize::MAX, 0),
    |session| session.start_ms = 20,
];

const CALM_PACE: Pace = Pace { chunk: 4096, pause_ms: 0 };

type Calm = fn(&mut Faults, &Faults);

const CALMS: [Calm; 16] = [
    |faults, calm| faults.read_max = calm.read_max,
    |faults, calm| faults.write_max = calm.write_max,
    |faults, calm| faults.interrupt_percent = calm.interrupt_percent,
    |faults, calm| faults.would_block_percent = calm.would_block_percent,
    |faults, calm| faults.spurious_percent = calm.spurious_percent,
    |faults, calm| faults.shuffle = calm.shuffle,
    |faults, calm| faults.narrow_events = calm.narrow_events,
    |faults, calm| faults.batch_max = calm.batch_max,
    |faults, calm| faults.slow_turn_ms = calm.slow_turn_ms,
    |faults, calm| faults.backlog = calm.backlog,
    |faults, calm| faults.accept_error_percent = calm.accept_error_percent,
    |faults, calm| faults.abort_percent = calm.abort_percent,
    |faults, calm| faults.connect_again_percent = calm.connect_again_percent,
    |faults, calm| faults.connect_error_percent = calm.connect_error_percent,
    |faults, calm| faults.register_error_percent = calm.register_error_percent,
    |faults, calm| faults.reset_permyriad = calm.reset_permyriad,
];
