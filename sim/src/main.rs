//! The simulator's command line: one seed, many seeds, every cut, a plan, a smaller plan.
//! `docs/simulation.md` says how to read what it prints.
//!
//! Exit codes: 0 pass, 1 safety, 2 liveness, 3 not deterministic, 4 a mark was never reached,
//! 5 a planted bug was not found, 64 usage.

mod report;

use std::fs;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use multigres_sim::plan::{Plan, Profile};
use multigres_sim::sweep::{Failure, Limits, Origin, Tally, Task, sweep};
use multigres_sim::{commit, mutants, probe, run, shrink};

fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    let (name, matches) = matches.subcommand().expect("clap asks for one");
    // A panic is a violation with its text; where it came from shows when its plan is run alone.
    if !["run", "replay"].contains(&name) {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let carry_out = match name {
        "run" => run_seed,
        "replay" => replay,
        "sweep" => sweep_seeds,
        "shrink" => shrink_plan,
        "meta" => meta,
        "hash" => hash,
        "exhaust" => exhaust,
        "mutants" => find_mutants,
        "ci" => ci,
        other => unreachable!("clap knows no {other}"),
    };
    match carry_out(matches) {
        Ok(code) => ExitCode::from(code),
        Err(mistake) => {
            eprintln!("error: {mistake}");
            ExitCode::from(64)
        }
    }
}

fn command() -> Command {
    let seeds = || seeds_arg().required(true);
    let plans = Arg::new("plans").long("plans").value_name("DIR").default_value("sim/plans");
    let out = Arg::new("out").long("out").value_name("FILE").default_value("plan.json");
    let first = Arg::new("first").long("first").action(ArgAction::SetTrue);
    let command = |name: &'static str, about: &'static str| Command::new(name).about(about);
    Command::new("multigres-sim")
        .about("Runs the daemon's event loop in a simulated network, attacked from a seed")
        .subcommand_required(true)
        .subcommands([
            command("run", "One seed")
                .args([number("seed").required(true), profile_arg()])
                .args(one()),
            command("replay", "A plan from a file").arg(file_arg().required(true)).args(one()),
            command("sweep", "Many seeds of one profile or all")
                .args([seeds_arg(), number("minutes").conflicts_with("seeds"), number("from")])
                .args([profile_arg(), mutant_arg(), jobs_arg()])
                .arg(first.help("stop at the first failure")),
            command("shrink", "Make the plan of a failing seed smaller")
                .args([number("seed"), file_arg().conflicts_with("seed"), profile_arg()])
                .args([mutant_arg(), out]),
            command("meta", "The same seed has the same trace, also in another process and build")
                .args([seeds(), profile_arg(), against_arg()]),
            command("hash", "The hash of each seed's trace, for \"meta\"")
                .args([seeds(), profile_arg()]),
            command("exhaust", "Every cut of every login, and every lie")
                .args([number("cut"), number("lie"), jobs_arg()])
                .args(one()),
            command("mutants", "Every planted bug must be found").args([
                seeds(),
                mutant_arg(),
                jobs_arg(),
                plans.clone(),
            ]),
            command("ci", "All of it, in short").args([
                jobs_arg(),
                against_arg(),
                plans,
                commit_arg(),
            ]),
        ])
}

fn number(name: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u64))
}

fn seeds_arg() -> Arg {
    Arg::new("seeds").long("seeds").value_name("A..B").value_parser(range)
}

fn profile_arg() -> Arg {
    let values: Vec<String> = Profile::ALL.iter().map(|it| it.to_string()).collect();
    Arg::new("profile").long("profile").value_name("P").value_parser(values)
}

/// What goes with a single run.
fn one() -> [Arg; 2] {
    let trace = Arg::new("trace").long("trace").value_name("FILE").help("write the trace");
    [mutant_arg(), trace]
}

fn mutant_arg() -> Arg {
    Arg::new("mutant").long("mutant").value_name("NAME").help("plant a bug")
}

fn file_arg() -> Arg {
    Arg::new("file").value_name("PLAN").value_parser(value_parser!(PathBuf))
}

fn jobs_arg() -> Arg {
    let jobs = Arg::new("jobs").long("jobs").value_name("J").help("threads [all cores]");
    jobs.value_parser(value_parser!(NonZero<usize>))
}

fn against_arg() -> Arg {
    let against = Arg::new("against").long("against").value_name("BINARY");
    against.help("another build, whose traces must be the same [this one]")
}

fn commit_arg() -> Arg {
    let commit = Arg::new("from").long("from").value_name("COMMIT");
    commit.help("run the seeds of this commit, by the name that was printed [this commit]")
}

fn run_seed(matches: &ArgMatches) -> Result<u8, String> {
    plant(matches)?;
    let plan = Plan::from_seed(*matches.get_one("seed").expect("required"), one_profile(matches));
    run_one(&plan, matches)
}

fn replay(matches: &ArgMatches) -> Result<u8, String> {
    plant(matches)?;
    let file: &PathBuf = matches.get_one("file").expect("required");
    run_one(&read_plan(file)?, matches)
}

fn run_one(plan: &Plan, matches: &ArgMatches) -> Result<u8, String> {
    println!("{}", report::line_of(plan));
    let trace: Option<&String> = matches.try_get_one("trace").ok().flatten();
    let ran = run::run(plan, trace.is_some());
    if let (Some(file), Some(text)) = (trace, &ran.record.text) {
        fs::write(file, text).map_err(|error| format!("{file}: {error}"))?;
    }
    Ok(report::one(&ran))
}

fn sweep_seeds(matches: &ArgMatches) -> Result<u8, String> {
    let from = matches.get_one("from").copied().unwrap_or(0);
    let minutes: Option<&u64> = matches.get_one("minutes");
    let (from, to) = match (seeds(matches), minutes) {
        (Some(seeds), None) => seeds,
        (None, Some(_)) => (from, u64::MAX),
        _ => return Err("either --seeds or --minutes".into()),
    };
    let until = minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes));
    let limits = Limits { jobs: jobs(matches), until, first: matches.get_flag("first") };
    let profiles = profiles(matches);
    let mutant: Option<&String> = matches.get_one("mutant");
    probe::plant(mutant.map(String::as_str))?;
    let begin = Instant::now();
    let mutant = mutant.map(String::as_str);
    let tell = |it: &Failure| report::failure(it, mutant);
    let tally = sweep(seed_tasks(from, to, &profiles), limits, mutant, tell);
    report::rate(&tally, begin);
    report::missed(&tally);
    Ok(tally.exit_code())
}

/// All profiles of each seed, one after the other.
fn seed_tasks(from: u64, to: u64, profiles: &[Profile]) -> impl Fn(usize) -> Option<Task> + Sync {
    move |at| {
        let seed = from.checked_add((at / profiles.len()) as u64).filter(|seed| *seed < to)?;
        Some(Task::seed(seed, profiles[at % profiles.len()]))
    }
}

fn shrink_plan(matches: &ArgMatches) -> Result<u8, String> {
    plant(matches)?;
    let plan = match (matches.get_one::<u64>("seed"), matches.get_one::<PathBuf>("file")) {
        (Some(seed), _) => Plan::from_seed(*seed, one_profile(matches)),
        (None, Some(file)) => read_plan(file)?,
        (None, None) => return Err("either --seed or a plan".into()),
    };
    let before = report::line_of(&plan).len();
    let mutant = matches.get_one::<String>("mutant").map(String::as_str);
    let Some((plan, runs)) = shrink::shrink(plan, mutant) else {
        return Err("this plan does not fail".into());
    };
    let text = plan.to_text();
    let out: &String = matches.get_one("out").expect("has a default");
    fs::write(out, text + "\n").map_err(|error| format!("{out}: {error}"))?;
    println!("{before} bytes of plan to {}, in {runs} runs: {out}", report::line_of(&plan).len());
    plant(matches)?;
    run_one(&plan, matches)
}

fn meta(matches: &ArgMatches) -> Result<u8, String> {
    let seeds = seeds(matches).expect("required");
    same_traces(seeds, &profiles(matches), matches.get_one::<String>("against"))
}

/// Twice in this process, and once in another, of another build if there is one.
fn same_traces(
    (from, to): (u64, u64),
    profiles: &[Profile],
    against: Option<&String>,
) -> Result<u8, String> {
    let own = std::env::current_exe().map_err(|error| format!("who am I? {error}"))?;
    let other = against.map_or(own, PathBuf::from);
    let mut code = 0;
    for &profile in profiles {
        let range = format!("{from}..{to}");
        let elsewhere = Process::new(&other)
            .args(["hash", "--seeds", &range, "--profile", &profile.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", other.display()))?;
        let here: Vec<_> = (from..to)
            .map(|seed| {
                let plan = Plan::from_seed(seed, profile);
                let (one, two) = (run::run(&plan, true), run::run(&plan, true));
                (seed, one.record.text == two.record.text, hash_line(seed, one.record.hash))
            })
            .collect();
        let told = elsewhere.wait_with_output().map_err(|error| error.to_string())?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let mut told = told.lines();
        for (seed, is_same, line) in here {
            let is_same_elsewhere = told.next() == Some(&line);
            if !is_same || !is_same_elsewhere {
                println!("FAIL seed={seed} invariant=M1 profile={profile}: two traces");
                code = 3;
            }
        }
    }
    println!("{} runs, each in two processes, have one trace", (to - from) * profiles.len() as u64);
    Ok(code)
}

fn hash(matches: &ArgMatches) -> Result<u8, String> {
    let (from, to) = seeds(matches).expect("required");
    for profile in profiles(matches) {
        for seed in from..to {
            let ran = run::run(&Plan::from_seed(seed, profile), false);
            println!("{}", hash_line(seed, ran.record.hash));
        }
    }
    Ok(0)
}

fn hash_line(seed: u64, hash: u64) -> String {
    format!("{seed} {hash:016x}")
}

fn exhaust(matches: &ArgMatches) -> Result<u8, String> {
    let only = |name: &str| matches.get_one::<u64>(name).map(|at| *at as usize);
    let one = match (only("cut"), only("lie")) {
        (Some(at), _) => Some(Task::cuts(1).into_iter().nth(at)),
        (None, Some(at)) => Some(Task::lies().into_iter().nth(at)),
        (None, None) => None,
    };
    if let Some(one) = one {
        plant(matches)?;
        let plan = one.and_then(|task| task.plan).ok_or("there are not so many")?;
        return run_one(&plan, matches);
    }
    let mutant: Option<&String> = matches.get_one("mutant");
    probe::plant(mutant.map(String::as_str))?;
    let tally = exhaust_all(jobs(matches), mutant.map(String::as_str));
    Ok(tally.exit_code())
}

fn exhaust_all(jobs: usize, mutant: Option<&str>) -> Tally {
    let begin = Instant::now();
    let limits = Limits { jobs, until: None, first: false };
    let tasks = [Task::lies(), Task::cuts(1)].concat();
    let tell = |it: &Failure| report::failure(it, mutant);
    let tally = sweep(|at| tasks.get(at).cloned(), limits, mutant, tell);
    let logins: usize = tasks.iter().flat_map(|task| &task.plan).map(|it| it.sessions.len()).sum();
    println!("exhaust: {logins} logins in {:.1?}", begin.elapsed());
    tally
}

fn find_mutants(matches: &ArgMatches) -> Result<u8, String> {
    let (from, to) = seeds(matches).expect("required");
    let plans = plan_tasks(matches)?;
    let only: Option<&String> = matches.get_one("mutant");
    let names = probe::mutants();
    let names = names.into_iter().filter(|name| only.is_none_or(|only| only == name)).collect();
    mutants_are_found(names, from, to, &plans, jobs(matches))
}

fn mutants_are_found(
    names: Vec<String>,
    from: u64,
    to: u64,
    plans: &[Task],
    jobs: usize,
) -> Result<u8, String> {
    if names.is_empty() {
        return Err("no such mutant in this build (feature \"mutants\")".into());
    }
    let begin = Instant::now();
    let verdicts = mutants::find(&names, &mutants::tasks(from, to, plans), jobs, report::mutant);
    Ok(report::mutants(&verdicts, begin))
}

fn ci(matches: &ArgMatches) -> Result<u8, String> {
    let jobs = jobs(matches);
    let limits = Limits { jobs, until: None, first: false };
    let plans = plan_tasks(matches)?;
    let mut codes = Vec::new();
    let begin = Instant::now();
    let tell = |it: &Failure| report::failure(it, None);
    let mut tally = sweep(|at| plans.get(at).cloned(), limits, None, tell);
    println!("plans: {} runs", tally.runs);
    let commit = matches.get_one("from").cloned().map_or_else(commit::name, Ok)?;
    let own = commit::first_seed(&commit);
    println!("seeds: 0..{CI_SEEDS}, {own}..{} (ci --from {commit})", own + CI_OWN_SEEDS);
    for (from, to) in [(0, CI_SEEDS), (own, own + CI_OWN_SEEDS)] {
        tally.merge(sweep(seed_tasks(from, to, &Profile::ALL), limits, None, tell));
    }
    report::rate(&tally, begin);
    tally.merge(exhaust_all(jobs, None));
    codes.push(tally.exit_code());
    codes.push(report::missed(&tally));
    codes.push(same_traces((0, CI_META_SEEDS), &Profile::ALL, matches.get_one("against"))?);
    codes.push(mutants_are_found(probe::mutants(), 0, CI_MUTANT_SEEDS, &plans, jobs)?);
    println!("all of it in {:.1?}", begin.elapsed());
    Ok(codes.into_iter().find(|code| *code > 0).unwrap_or(0))
}

/// The plans of past bugs.
fn plan_tasks(matches: &ArgMatches) -> Result<Vec<Task>, String> {
    let folder: &String = matches.get_one("plans").expect("has a default");
    let entries = fs::read_dir(folder).map_err(|error| format!("{folder}: {error}"))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let task = |file: PathBuf| {
        let plan = Some(read_plan(&file)?);
        Ok(Task { origin: Origin::File(file), plan })
    };
    files.into_iter().filter(|it| it.extension().is_some_and(|it| it == "json")).map(task).collect()
}

fn read_plan(file: &Path) -> Result<Plan, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Plants the bug that is asked for in this thread.
fn plant(matches: &ArgMatches) -> Result<(), String> {
    probe::plant(matches.get_one::<String>("mutant").map(String::as_str))
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("A..B is meant")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| error.to_string());
    Ok((number(from)?, number(to)?))
}

fn seeds(matches: &ArgMatches) -> Option<(u64, u64)> {
    matches.get_one("seeds").copied()
}

fn jobs(matches: &ArgMatches) -> usize {
    let asked: Option<&NonZero<usize>> = matches.get_one("jobs");
    asked.map_or_else(|| thread::available_parallelism().map_or(1, NonZero::get), |it| it.get())
}

fn one_profile(matches: &ArgMatches) -> Profile {
    profiles(matches).pop().filter(|_| matches.contains_id("profile")).unwrap_or(Profile::Swarm)
}

fn profiles(matches: &ArgMatches) -> Vec<Profile> {
    let asked: Option<&String> = matches.get_one("profile");
    Profile::ALL.into_iter().filter(|it| asked.is_none_or(|name| *name == it.to_string())).collect()
}

/// Each in all profiles. Those of every commit reach all marks; those of its own are runs that
/// nobody has had.
const CI_SEEDS: u64 = 100;
const CI_OWN_SEEDS: u64 = 200;
const CI_META_SEEDS: u64 = 20;
const CI_MUTANT_SEEDS: u64 = 300;
