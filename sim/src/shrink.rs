//! Makes a plan that fails smaller, as long as it fails in the same way.

use crate::plan::{Faults, Plan};
use crate::run;

/// The smallest plan that was found, and how many runs it took; `None` if the plan does not fail.
/// The same invariant stays broken in each step on the way to it.
pub fn shrink(mut plan: Plan) -> Option<(Plan, usize)> {
    let invariant = broken(&plan)?;
    let mut runs = 1;
    loop {
        let smaller = candidates(&plan).into_iter().find(|candidate| {
            runs += 1;
            *candidate != plan && broken(candidate) == Some(invariant)
        });
        match smaller {
            Some(smaller) => plan = smaller,
            None => return Some((plan, runs)),
        }
    }
}

fn broken(plan: &Plan) -> Option<&'static str> {
    run::run(plan, false).record.violations.first().map(|violation| violation.invariant)
}

/// The plan with one thing less each, the largest things first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut found = Vec::new();
    let mut with = |change: &dyn Fn(&mut Plan)| {
        let mut candidate = plan.clone();
        change(&mut candidate);
        found.push(candidate);
    };
    for at in 0..plan.sessions.len() {
        with(&|plan| {
            plan.sessions.remove(at);
            for (number, session) in plan.sessions.iter_mut().enumerate() {
                session.number = number;
            }
        });
    }
    for at in 0..plan.events.len() {
        with(&|plan| {
            plan.events.remove(at);
        });
    }
    for calm in CALMS {
        with(&|plan| calm(&mut plan.faults, &Faults::default()));
    }
    with(&|plan| plan.network.latency_ms = (1, 1));
    with(&|plan| plan.network.random_order = false);
    with(&|plan| plan.daemon.lookup = None);
    with(&|plan| plan.daemon.variables = 1);
    for at in 0..plan.sessions.len() {
        with(&|plan| plan.sessions[at].pipe.up /= 2);
        with(&|plan| plan.sessions[at].pipe.down /= 2);
        with(&|plan| plan.sessions[at].pipe.early = 0);
        with(&|plan| plan.sessions[at].client.prelude.clear());
        with(&|plan| plan.sessions[at].script.talkative = false);
        with(&|plan| plan.sessions[at].client.chunk = usize::MAX);
        with(&|plan| plan.sessions[at].script.chunk = usize::MAX);
    }
    found
}

type Calm = fn(&mut Faults, &Faults);

const CALMS: [Calm; 15] = [
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
    |faults, calm| faults.connect_error_percent = calm.connect_error_percent,
    |faults, calm| faults.register_error_percent = calm.register_error_percent,
    |faults, calm| faults.reset_permyriad = calm.reset_permyriad,
];
