//! Looks for planted bugs: each in turn, until a run shows it.
//! Knows nothing of what the bugs are.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::plan::Profile;
use crate::probe;
use crate::sweep::{Failure, Origin, Task};

/// What became of one planted bug.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its name.
    pub mutant: String,
    /// The first run that has shown it.
    pub found: Option<Failure>,
    /// How many runs there were.
    pub runs: usize,
}

/// The runs in which they are looked for, the shorter and likelier ones first: the plans of past
/// bugs, every lie, some seeds, some cuts, all seeds, then every cut.
pub fn tasks(from: u64, to: u64, plans: &[Task]) -> Vec<Task> {
    let mut seeds =
        (from..to).flat_map(|seed| Profile::ALL.map(|profile| Task::seed(seed, profile)));
    let mut tasks = plans.to_vec();
    tasks.extend(Task::lies());
    tasks.extend(seeds.by_ref().take(FIRST));
    tasks.extend(Task::cuts(SOME));
    tasks.extend(seeds);
    tasks.extend(Task::cuts(1));
    tasks
}

/// Looks for each of these bugs; `tell` hears of each verdict as soon as it is there.
///
/// # Panics
/// When there is no such bug in this build.
pub fn find(
    names: &[String],
    tasks: &[Task],
    jobs: usize,
    tell: impl Fn(&Verdict) + Sync,
) -> Vec<Verdict> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let verdict = find_one(name, tasks);
                    tell(&verdict);
                    verdicts.lock().expect("no thread panics").push(verdict);
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().expect("no thread panics");
    verdicts.sort_by_key(|verdict| names.iter().position(|name| *name == verdict.mutant));
    verdicts
}

fn find_one(name: &str, tasks: &[Task]) -> Verdict {
    let mut runs = 0;
    let known = KNOWN.iter().filter(|(mutant, _)| *mutant == name);
    let known = known.flat_map(|(_, origin)| tasks.iter().find(|task| task.origin == *origin));
    let found = known.chain(tasks).find_map(|task| {
        runs += 1;
        // Planted anew each time: a run must not depend on the one before.
        probe::plant(Some(name)).expect("the name is from the list");
        let violation = task.run().record.violations.into_iter().next()?;
        Some(Failure { origin: task.origin.clone(), violation })
    });
    probe::plant(None).expect("always possible");
    Verdict { mutant: name.to_owned(), found, runs }
}

/// So many seeds.
const FIRST: usize = 50;

/// Every so manieth cut.
const SOME: usize = 97;

/// Where bugs were found that take long to find: these runs come first. One that shows its bug no
/// longer costs time and nothing else.
const KNOWN: [(&str, Origin); 27] = [
    ("VerdictOfAnyDatabase", Origin::Seed(56, Profile::Tls)),
    ("VerdictOfAnyRole", Origin::Seed(0, Profile::Quiet)),
    ("RefusalKeepsVerdict", Origin::Seed(9, Profile::Auth)),
    ("FailureKeepsVerdict", Origin::Lie(68)),
    ("StuffedAnswerTaken", Origin::Lie(52)),
    ("DeclinedTlsIgnored", Origin::Lie(56)),
    ("StuffedRequestTaken", Origin::Lie(48)),
    ("ClearLoginAllowed", Origin::Lie(49)),
    ("AlpnUnread", Origin::Lie(48)),
    ("CertificateUnread", Origin::Lie(60)),
    ("NameUnread", Origin::Lie(60)),
    ("EarlyRecordsLost", Origin::Lie(48)),
    ("EndUnsaid", Origin::Lie(48)),
    ("TruncationUnseen", Origin::Lie(52)),
    ("CleartextAnywhere", Origin::Lie(5)),
    ("ProofUnread", Origin::Lie(44)),
    ("CiphertextUnbounded", Origin::Seed(8, Profile::Tls)),
    ("CancelAnswered", Origin::Lie(68)),
    ("PreviousCancel", Origin::Seed(43, Profile::Quiet)),
    ("UpstreamEndUnseen", Origin::Seed(1, Profile::Auth)),
    ("InterruptBreaks", Origin::Seed(3, Profile::Auth)),
    ("AcceptsUnbounded", Origin::Lie(48)),
    ("BudgetForgets", Origin::Seed(2, Profile::Quiet)),
    ("BudgetIgnored", Origin::Seed(9, Profile::Quiet)),
    ("BufferKept", Origin::Seed(14, Profile::Quiet)),
    ("FirstAddressOnly", Origin::Seed(12, Profile::Liveness)),
    ("NeverFull", Origin::Seed(0, Profile::Quiet)),
];
