//! The simulator's command line: one seed, many seeds, every cut, a plan, a smaller plan.

use std::fs;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use multigres_sim::plan::{Plan, Profile};
use multigres_sim::run::{self, Ran};
use multigres_sim::{exhaust, shrink};

fn main() -> ExitCode {
    // A panic is a violation with its text; where it came from shows when its seed is run alone.
    if std::env::args().nth(1).as_deref() != Some("run") {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match carry_out(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(mistake) => {
            eprintln!("{mistake}\n{USAGE}");
            ExitCode::from(64)
        }
    }
}

fn carry_out(arguments: &[String]) -> Result<u8, String> {
    let flags = Flags(arguments);
    let profile = flags.profile()?;
    match arguments.first().map(String::as_str) {
        Some("run") => {
            let profile = profile.unwrap_or(Profile::Swarm);
            let plan = Plan::from_seed(flags.number("--seed")?, profile);
            Ok(run_one(&plan, flags.get("--trace")))
        }
        Some("replay") => {
            let file = arguments.get(1).ok_or("which plan?")?;
            let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
            let plan = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
            Ok(run_one(&plan, flags.get("--trace")))
        }
        Some("shrink") => {
            let profile = profile.unwrap_or(Profile::Swarm);
            let plan = shrink::shrink(Plan::from_seed(flags.number("--seed")?, profile));
            println!("{}", serde_json::to_string_pretty(&plan).expect("plain values"));
            Ok(run_one(&plan, None))
        }
        Some("sweep") => {
            let begin = Instant::now();
            let minutes = flags.get("--minutes").map(|it| it.parse().map_err(|_| "--minutes"));
            let until = minutes.transpose()?.map(|it: u64| begin + Duration::from_secs(60 * it));
            let seeds = if until.is_some() { (flags.start()?, u64::MAX) } else { flags.seeds()? };
            let profiles = profile.map_or(PROFILES.to_vec(), |profile| vec![profile]);
            Ok(sweep(seeds, until, &profiles, flags.jobs()?, flags.has("--first")))
        }
        Some("meta") => {
            let profiles = profile.map_or(PROFILES.to_vec(), |profile| vec![profile]);
            Ok(meta(flags.seeds()?, &profiles))
        }
        Some("exhaust") => Ok(exhaust()),
        _ => Err("what is to be done?".into()),
    }
}

/// The command line, seen as flags with values.
struct Flags<'a>(&'a [String]);

impl Flags<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|argument| argument == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|argument| argument == name)
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        self.get(name).and_then(|it| it.parse().ok()).ok_or(format!("{name} wants a number"))
    }

    fn start(&self) -> Result<u64, String> {
        if self.has("--seeds") { Ok(self.seeds()?.0) } else { Ok(0) }
    }

    fn jobs(&self) -> Result<usize, String> {
        if self.has("--jobs") { Ok(self.number("--jobs")? as usize) } else { Ok(1) }
    }

    fn seeds(&self) -> Result<(u64, u64), String> {
        let (from, to) =
            self.get("--seeds").and_then(|it| it.split_once("..")).ok_or("--seeds wants A..B")?;
        match (from.parse(), to.parse()) {
            (Ok(from), Ok(to)) => Ok((from, to)),
            _ => Err("--seeds wants A..B".into()),
        }
    }

    fn profile(&self) -> Result<Option<Profile>, String> {
        let Some(wanted) = self.get("--profile") else { return Ok(None) };
        let found = PROFILES.into_iter().find(|profile| name(*profile) == wanted);
        found.map(Some).ok_or(format!("no profile {wanted}"))
    }
}

fn run_one(plan: &Plan, trace: Option<&str>) -> u8 {
    println!("{}", serde_json::to_string(plan).expect("plain values"));
    let ran = run::run(plan, trace.is_some());
    if let (Some(file), Some(text)) = (trace, &ran.record.text)
        && let Err(error) = fs::write(file, text)
    {
        eprintln!("{file}: {error}");
    }
    for violation in &ran.record.violations {
        println!("{} t={:?} {}", violation.invariant, violation.at, violation.text);
    }
    println!(
        "trace {:016x}, {} lines, {:?} of virtual time",
        ran.record.hash, ran.record.lines, ran.virtual_time
    );
    verdict(&ran)
}

fn sweep(
    (from, to): (u64, u64),
    until: Option<Instant>,
    profiles: &[Profile],
    jobs: usize,
    first: bool,
) -> u8 {
    let (next, runs, failed) = (AtomicU64::new(from), AtomicUsize::new(0), AtomicUsize::new(0));
    let worst = AtomicUsize::new(0);
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = until.is_some_and(|until| Instant::now() >= until)
                        || first && failed.load(Ordering::Relaxed) > 0;
                    if seed >= to || is_over {
                        return;
                    }
                    for &profile in profiles {
                        let ran = run::run(&Plan::from_seed(seed, profile), false);
                        runs.fetch_add(1, Ordering::Relaxed);
                        if verdict(&ran) > 0 {
                            failed.fetch_add(1, Ordering::Relaxed);
                            worst.fetch_max(usize::from(verdict(&ran)), Ordering::Relaxed);
                            tell(seed, profile, &ran);
                        }
                    }
                }
            });
        }
    });
    let (runs, failed) = (runs.into_inner(), failed.into_inner());
    let rate = runs as f64 / begin.elapsed().as_secs_f64();
    println!("{runs} runs, {failed} failed, {rate:.1} runs a second");
    worst.into_inner() as u8
}

fn tell(seed: u64, profile: Profile, ran: &Ran) {
    let Some(violation) = ran.record.violations.first() else { return };
    let profile = name(profile);
    println!(
        "FAIL seed={seed} invariant={} t={:.3}s commit={} profile={profile}: {}\n  repro: cargo \
         run --release -p multigres-sim -- run --seed {seed} --profile {profile} --trace \
         /dev/stdout",
        violation.invariant,
        violation.at.as_secs_f64(),
        commit(),
        violation.text
    );
}

fn meta((from, to): (u64, u64), profiles: &[Profile]) -> u8 {
    let mut code = 0;
    for seed in from..to {
        for &profile in profiles {
            let plan = Plan::from_seed(seed, profile);
            let (one, two) = (run::run(&plan, true), run::run(&plan, true));
            if one.record.text != two.record.text {
                println!("FAIL seed={seed} invariant=M1 profile={}: two traces", name(profile));
                code = 3;
            }
        }
    }
    println!("seeds {from}..{to} twice each");
    code
}

fn exhaust() -> u8 {
    let begin = Instant::now();
    let plans = exhaust::plans(1);
    let mut worst = 0;
    let mut cuts = 0;
    for (at, plan) in plans.iter().enumerate() {
        let ran = run::run(plan, false);
        cuts += plan.sessions.len();
        worst = worst.max(verdict(&ran));
        if let Some(violation) = ran.record.violations.first() {
            println!("FAIL plan {at} invariant={}: {}", violation.invariant, violation.text);
            let file = std::env::temp_dir().join(format!("cut-{at}.json"));
            let text = serde_json::to_string(plan).expect("plain values");
            if fs::write(&file, text).is_ok() {
                println!("  repro: cargo run --release -p multigres-sim -- replay {file:?}");
            }
        }
    }
    println!("{cuts} cuts in {:.1?}", begin.elapsed());
    worst
}

/// 1 for a broken promise, 2 for one that is not kept in time.
fn verdict(ran: &Ran) -> u8 {
    match ran.record.violations.first() {
        None => 0,
        Some(violation) if violation.invariant.starts_with(['L', 'R']) => 2,
        Some(_) => 1,
    }
}

fn commit() -> String {
    let told = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    told.ok()
        .filter(|told| told.status.success())
        .map_or("unknown".into(), |told| String::from_utf8_lossy(&told.stdout).trim().into())
}

fn name(profile: Profile) -> String {
    format!("{profile:?}").to_lowercase()
}

const PROFILES: [Profile; 5] =
    [Profile::Quiet, Profile::Swarm, Profile::Auth, Profile::Backpressure, Profile::Liveness];

const USAGE: &str = "\
multigres-sim run --seed N [--profile P] [--trace FILE]
multigres-sim sweep --seeds A..B | --minutes M [--profile P] [--jobs J] [--first]
multigres-sim shrink --seed N [--profile P]
multigres-sim replay FILE [--trace FILE]
multigres-sim meta --seeds A..B [--profile P]
multigres-sim exhaust
profiles: quiet, swarm, auth, backpressure, liveness (all of them)
exit: 0 pass, 1 safety, 2 liveness, 3 not deterministic, 64 usage";
