//! Carries out many plans on several threads and adds up what came of them.
//! Knows nothing of where the plans lead.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::plan::{Plan, Profile};
use crate::record::Violation;
use crate::run::{self, Ran};
use crate::{exhaust, lies, probe};

/// Where a plan comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A seed.
    Seed(u64, Profile),
    /// This place in [`exhaust::plans`].
    Cut(usize),
    /// This place in [`lies::plans`].
    Lie(usize),
    /// A file.
    File(PathBuf),
}

/// A plan and where it comes from.
#[derive(Clone, Debug)]
pub struct Task {
    /// Where it comes from.
    pub origin: Origin,
    /// The plan, unless it is made of a seed when its turn comes.
    pub plan: Option<Plan>,
}

/// A run in which an invariant did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which run.
    pub origin: Origin,
    /// The first of its violations.
    pub violation: Violation,
}

/// What came of many runs.
#[derive(Default)]
pub struct Tally {
    /// How many there were.
    pub runs: usize,
    /// Those that failed.
    pub failures: Vec<Failure>,
    /// How often each of the daemon's marks was reached.
    pub marks: BTreeMap<String, u64>,
    /// How often each invariant was applied.
    pub applied: BTreeMap<&'static str, u64>,
}

/// How far to go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many threads.
    pub jobs: usize,
    /// Until when.
    pub until: Option<Instant>,
    /// Only until the first failure.
    pub first: bool,
}

impl Task {
    /// The run of a seed.
    pub fn seed(seed: u64, profile: Profile) -> Self {
        Task { origin: Origin::Seed(seed, profile), plan: None }
    }

    /// The runs of [`exhaust::plans`], of every so manieth cut.
    pub fn cuts(stride: usize) -> Vec<Self> {
        let plans = exhaust::plans(stride).into_iter().enumerate();
        plans.map(|(at, plan)| Task { origin: Origin::Cut(at), plan: Some(plan) }).collect()
    }

    /// The runs of [`lies::plans`].
    pub fn lies() -> Vec<Self> {
        let plans = lies::plans().into_iter().enumerate();
        plans.map(|(at, plan)| Task { origin: Origin::Lie(at), plan: Some(plan) }).collect()
    }

    /// Carries it out.
    pub fn run(&self) -> Ran {
        match (&self.plan, &self.origin) {
            (Some(plan), _) => run::run(plan, false),
            (None, Origin::Seed(seed, profile)) => {
                run::run(&Plan::from_seed(*seed, *profile), false)
            }
            (None, Origin::Cut(_) | Origin::Lie(_) | Origin::File(_)) => {
                unreachable!("these have their plan")
            }
        }
    }
}

/// Carries out tasks until there are no more, perhaps with a bug planted; `task` gives the one at
/// a place, and `tell` hears of each failure as soon as it is there.
///
/// # Panics
/// When there is no such bug in this build.
pub fn sweep(
    task: impl Fn(usize) -> Option<Task> + Sync,
    limits: Limits,
    mutant: Option<&str>,
    tell: impl Fn(&Failure) + Sync,
) -> Tally {
    let next = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let total = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..limits.jobs {
            scope.spawn(|| {
                probe::take_marks();
                let mut tally = Tally::default();
                while !is_over.load(Ordering::Relaxed)
                    && limits.until.is_none_or(|until| Instant::now() < until)
                    && let Some(task) = task(next.fetch_add(1, Ordering::Relaxed))
                {
                    probe::plant(mutant).expect("a mutant of this build");
                    if let Some(failure) = tally.add(task.run(), task.origin) {
                        tell(failure);
                    }
                    if limits.first && !tally.failures.is_empty() {
                        is_over.store(true, Ordering::Relaxed);
                    }
                }
                total.lock().expect("no thread panics").merge(tally);
            });
        }
    });
    total.into_inner().expect("no thread panics")
}

impl Tally {
    /// Adds a run; its failure, if it is one.
    fn add(&mut self, ran: Ran, origin: Origin) -> Option<&Failure> {
        self.runs += 1;
        for (invariant, count) in ran.record.applied {
            *self.applied.entry(invariant).or_default() += count;
        }
        for (mark, count) in probe::take_marks() {
            *self.marks.entry(mark).or_default() += count;
        }
        let violation = ran.record.violations.into_iter().next()?;
        self.failures.push(Failure { origin, violation });
        self.failures.last()
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: Tally) {
        self.runs += other.runs;
        self.failures.extend(other.failures);
        for (mark, count) in other.marks {
            *self.marks.entry(mark).or_default() += count;
        }
        for (invariant, count) in other.applied {
            *self.applied.entry(invariant).or_default() += count;
        }
    }

    /// What the process is to end with: 1 for a broken promise, 2 for one not kept in time.
    pub fn exit_code(&self) -> u8 {
        self.failures.iter().map(|failure| failure.violation.exit_code()).min().unwrap_or(0)
    }

    /// Invariants that no rule has put to the test.
    pub fn idle_rules(&self) -> Vec<&'static str> {
        let is_idle =
            |name: &&str| !self.applied.keys().any(|rule| rule.split(' ').next() == Some(*name));
        INVARIANTS.into_iter().filter(is_idle).collect()
    }

    /// Marks that were not reached.
    pub fn missed_marks(&self) -> Vec<&str> {
        self.marks.iter().filter(|(_, count)| **count == 0).map(|(mark, _)| mark.as_str()).collect()
    }
}

/// All that are checked at the end or counted on the way. R2 has no count: a loop that is busy for
/// nothing panics.
const INVARIANTS: [&str; 20] = [
    "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "L1", "L2", "L3", "L4",
    "L5", "R1", "R3", "R4", "R5",
];
