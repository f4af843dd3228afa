//! What the command line prints of runs and sweeps.

use std::time::Instant;

use multigres_sim::commit;
use multigres_sim::mutants::Verdict;
use multigres_sim::plan::Plan;
use multigres_sim::run::Ran;
use multigres_sim::sweep::{Failure, Origin, Tally};

/// A plan in one line.
pub fn line_of(plan: &Plan) -> String {
    serde_json::to_string(plan).expect("plain values")
}

/// All violations of one run; what the process is to end with.
pub fn one(ran: &Ran) -> u8 {
    for violation in &ran.record.violations {
        println!("{} t={:?} {}", violation.invariant, violation.at, violation.text);
    }
    println!(
        "trace {:016x}, {} lines, {:?} of virtual time",
        ran.record.hash, ran.record.lines, ran.virtual_time
    );
    ran.record.violations.first().map_or(0, |violation| violation.exit_code())
}

/// A failure with the one command that shows it again.
pub fn failure(Failure { origin, violation }: &Failure, mutant: Option<&str>) {
    println!(
        "FAIL {} invariant={} t={:.3}s commit={}: {}\n  repro: cargo run --profile sim -p \
         multigres-sim{} -- {}",
        name(origin),
        violation.invariant,
        violation.at.as_secs_f64(),
        commit::described(),
        violation.text,
        if mutant.is_some() { " --features mutants" } else { "" },
        repro(origin, mutant),
    );
}

fn name(origin: &Origin) -> String {
    match origin {
        Origin::Seed(seed, profile) => format!("seed={seed} profile={profile}"),
        Origin::Cut(at) => format!("cut={at}"),
        Origin::Lie(at) => format!("lie={at}"),
        Origin::File(file) => format!("plan={}", file.display()),
    }
}

fn repro(origin: &Origin, mutant: Option<&str>) -> String {
    let mutant = mutant.map_or(String::new(), |name| format!(" --mutant {name}"));
    match origin {
        Origin::Seed(seed, profile) => {
            format!("run --seed {seed} --profile {profile}{mutant} --trace /dev/stdout")
        }
        Origin::Cut(at) => format!("exhaust --cut {at}{mutant}"),
        Origin::Lie(at) => format!("exhaust --lie {at}{mutant}"),
        Origin::File(file) => format!("replay {}{mutant} --trace /dev/stdout", file.display()),
    }
}

/// How many runs there were, and how fast.
pub fn rate(tally: &Tally, begin: Instant) {
    let rate = tally.runs as f64 / begin.elapsed().as_secs_f64();
    let failed = tally.failures.len();
    println!("{} runs, {failed} failed, {rate:.1} runs a second", tally.runs);
}

/// Marks that no run has reached and rules that no run has put to the test; what the process is to
/// end with.
pub fn missed(tally: &Tally) -> u8 {
    let applied: Vec<String> =
        tally.applied.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
    println!("rules put to the test: {}", applied.join(", "));
    let missed = tally.missed_marks();
    let idle = tally.idle_rules();
    if !idle.is_empty() {
        println!("never put to the test: {}", idle.join(" "));
    }
    if !tally.marks.is_empty() {
        let (all, reached) = (tally.marks.len(), tally.marks.len() - missed.len());
        println!("marks: {reached} of {all} reached; not reached: {}", missed.join(" "));
    }
    if missed.is_empty() && idle.is_empty() { 0 } else { 4 }
}

/// What became of a planted bug.
pub fn mutant(verdict: &Verdict) {
    let Verdict { mutant, runs, .. } = verdict;
    match &verdict.found {
        Some(failure) => {
            let invariant = failure.violation.invariant;
            println!("mutant {mutant}: {invariant} after {runs} runs, {}", name(&failure.origin));
        }
        None => println!("mutant {mutant}: SURVIVED {runs} runs"),
    }
}

/// What became of all planted bugs; what the process is to end with.
pub fn mutants(verdicts: &[Verdict], begin: Instant) -> u8 {
    let survivors: Vec<&str> = verdicts
        .iter()
        .filter(|verdict| verdict.found.is_none())
        .map(|verdict| verdict.mutant.as_str())
        .collect();
    let (all, took) = (verdicts.len(), begin.elapsed());
    println!("mutants: {} of {all} survived {survivors:?}, {took:.1?}", survivors.len());
    if survivors.is_empty() { 0 } else { 5 }
}
