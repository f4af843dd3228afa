//! Multigres beside PostgreSQL itself, the least that a process in the middle can do, and its
//! peers: one run, in turns, round after round. `make bench` runs it and writes
//! docs/benchmarks.md; `make bench QUICK=1` prints the same of fewer and shorter rounds.

mod floor;
mod load;
mod processes;
mod report;
mod ways;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use load::Protocol;
use report::{Report, Unit};
use testing::{Cluster, processor_time_with_children};
use ways::Way;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--floor") {
        let port = |argument: &String| argument.parse().expect("a port");
        floor::run(port(&arguments[at + 1]), port(&arguments[at + 2])).expect("the floor copies");
        return;
    }
    // A client that fails would leave the others waiting for it.
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        told(panic);
        std::process::exit(1);
    }));
    let is_quick = std::env::var_os("QUICK").is_some_and(|value| !value.is_empty());
    // `cargo test --benches` runs this too, and wants to know only that it runs.
    let is_test = !arguments.iter().any(|argument| argument == "--bench");
    let scale = match (is_test, is_quick) {
        (true, _) => &TEST,
        (false, true) => &QUICK,
        (false, false) => &FULL,
    };
    let _awake = processes::keep_processors_awake();
    if !processes::stay_off_the_last_processor() {
        eprintln!("clients and the process in the middle share processors: expect noise");
    }
    // Of some that end, others are still there when the next way opens its idle connections.
    let cluster = Cluster::with(&["max_connections = 4000", "log_connections = off"]);
    let ways = ways(&cluster);
    for way in &ways {
        if let Some(pid) = way.pid() {
            processes::put_on_the_last_processor(pid);
        }
    }
    let mut report = Report::new(ways.iter().map(|way| way.name).collect());
    for (at, way) in ways.iter().enumerate() {
        system_calls(way, at, scale, &mut report);
        idle(way, at, scale, &mut report);
    }
    for round in 1..=scale.rounds {
        eprintln!("round {round} of {}", scale.rounds);
        queries(&ways, scale, &mut report);
        streams(&ways, scale, &mut report);
        logins(&ways, scale, &cluster, &mut report);
    }
    let text = report.markdown(scale.rounds, is_quick);
    match std::env::var_os("BENCHMARKS") {
        Some(file) if !is_quick && !is_test => {
            std::fs::write(file, text).expect("the file can be written")
        }
        _ => println!("{text}"),
    }
}

/// How much of everything.
struct Scale {
    rounds: usize,
    queries: Duration,
    rows: u32,
    logins: usize,
    idle: usize,
}

const TEST: Scale =
    Scale { rounds: 1, queries: Duration::from_millis(20), rows: 640, logins: 32, idle: 10 };

const QUICK: Scale =
    Scale { rounds: 3, queries: Duration::from_millis(250), rows: 64_000, logins: 32, idle: 200 };

const FULL: Scale =
    Scale { rounds: 9, queries: Duration::from_secs(1), rows: 512_000, logins: 128, idle: 1_000 };

/// Those of the peers that `PEERS` names, a line `NAME PATH` each.
fn ways(cluster: &Cluster) -> Vec<Way> {
    let mut ways = vec![Way::direct(cluster), Way::floor(cluster), Way::multigres(cluster)];
    for line in std::env::var("PEERS").unwrap_or_default().lines() {
        let (name, path) = line.split_once(' ').expect("a line NAME PATH");
        let path = PathBuf::from(path);
        ways.push(match name {
            "pgbouncer" => Way::pgbouncer(&path, cluster),
            "haproxy" => Way::haproxy(&path, cluster),
            "pgvpd" => Way::pgvpd(&path, cluster),
            other => panic!("no peer {other} is known"),
        });
    }
    ways
}

/// What is compared is measured side by side: the machine changes its pace within seconds.
fn queries(ways: &[Way], scale: &Scale, report: &mut Report) {
    for (protocol, kind) in [(Protocol::Simple, "simple"), (Protocol::Prepared, "prepared")] {
        for clients in [1, 8, 64] {
            let name = |what: &str| format!("{what}, {kind}, {}", counted(clients));
            for (at, way) in ways.iter().enumerate() {
                let mut samples = Vec::new();
                let seen = load::queries(way, clients, protocol, scale.queries, || {
                    samples.push(way.processor_time());
                });
                if let [Some(before), Some(after)] = samples[..] {
                    let cpu = (after - before).as_secs_f64() / seen.queries as f64;
                    report.add(&name("CPU per query"), Unit::Microseconds, at, cpu * 1e6);
                }
                for (share, label) in [(0.5, "p50"), (0.99, "p99")] {
                    let place = ((seen.latencies.len() - 1) as f64 * share) as usize;
                    let latency = seen.latencies[place].as_secs_f64();
                    report.add(&name(label), Unit::Microseconds, at, latency * 1e6);
                }
            }
        }
    }
}

fn counted(clients: usize) -> String {
    if clients == 1 { "1 client".into() } else { format!("{clients} clients") }
}

fn streams(ways: &[Way], scale: &Scale, report: &mut Report) {
    type Stream = fn(&Way, u32) -> u64;
    for (what, stream) in
        [("COPY out", load::copy_out as Stream), ("COPY in", load::copy_in as Stream)]
    {
        for (at, way) in ways.iter().enumerate() {
            let (before, begin) = (way.processor_time(), Instant::now());
            let gigabytes = stream(way, scale.rows) as f64 / 1e9;
            let time = begin.elapsed().as_secs_f64() / gigabytes;
            report.add(&format!("{what}, time per GB"), Unit::Milliseconds, at, time * 1e3);
            if let Some((before, after)) = before.zip(way.processor_time()) {
                let cpu = (after - before).as_secs_f64() / gigabytes;
                report.add(&format!("{what}, CPU per GB"), Unit::Milliseconds, at, cpu * 1e3);
            }
        }
    }
}

fn logins(ways: &[Way], scale: &Scale, cluster: &Cluster, report: &mut Report) {
    for threads in [1, 32] {
        for (at, way) in ways.iter().enumerate() {
            logins_at_once((at, way), threads, scale.logins / threads, cluster, report);
        }
    }
}

/// So many threads log in, each so many times.
fn logins_at_once(
    (at, way): (usize, &Way),
    threads: usize,
    each: usize,
    cluster: &Cluster,
    report: &mut Report,
) {
    let before = way.processor_time();
    let upstream = processor_time_with_children(cluster.pid());
    let begin = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let logins = || {
            let time = |_| {
                let begin = Instant::now();
                way.log_in();
                begin.elapsed()
            };
            (0..each).map(time).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(logins)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("logins")).collect()
    });
    let elapsed = begin.elapsed();
    times.sort_unstable();
    let count = times.len() as f64;
    let name = |what: &str| format!("{what}, {threads} at once");
    report.add(&name("logins per second"), Unit::Rate, at, count / elapsed.as_secs_f64());
    let half = times[times.len() / 2].as_secs_f64();
    report.add(&name("login p50"), Unit::Milliseconds, at, half * 1e3);
    if let Some((before, after)) = before.zip(way.processor_time()) {
        let cpu = (after - before).as_secs_f64() / count;
        report.add(&name("CPU per login, in the middle"), Unit::Microseconds, at, cpu * 1e6);
    }
    // The last backends end.
    std::thread::sleep(Duration::from_millis(100));
    let cpu = processor_time_with_children(cluster.pid()) - upstream;
    let cpu = cpu.as_secs_f64() / count;
    report.add(&name("CPU per login, PostgreSQL"), Unit::Milliseconds, at, cpu * 1e3);
}

/// By strace, hence apart from all that is timed.
fn system_calls(way: &Way, at: usize, scale: &Scale, report: &mut Report) {
    let Some(pid) = way.pid() else { return };
    for clients in [1, 8, 64] {
        let mut tracer = None;
        let mut calls = None;
        let seen =
            load::queries(way, clients, Protocol::Simple, scale.queries, || match tracer.take() {
                None => tracer = processes::Tracer::start(pid),
                Some(running) => calls = running.end(),
            });
        if let Some(calls) = calls {
            let name = format!("system calls per query, {}", counted(clients));
            report.add(&name, Unit::Count, at, calls as f64 / seen.queries as f64);
        }
    }
}

fn idle(way: &Way, at: usize, scale: &Scale, report: &mut Report) {
    let Some(pid) = way.pid() else { return };
    let before = processes::proportional_bytes(pid);
    let sessions: Vec<_> = (0..scale.idle).map(|_| way.session()).collect();
    let Some((before, after)) = before.zip(processes::proportional_bytes(pid)) else { return };
    let each = (after as f64 - before as f64) / scale.idle as f64;
    let beside = format!("beside {} idle connections", scale.idle);
    report.add(&format!("memory (PSS) each, {beside}"), Unit::Kibibytes, at, each / 1024.0);
    let used = || way.processor_time().expect("it is there");
    let before = used();
    std::thread::sleep(scale.queries);
    let busy = (used() - before).as_secs_f64() / scale.queries.as_secs_f64();
    report.add(&format!("CPU while idle, {beside}"), Unit::Percent, at, busy * 100.0);
    let mut samples = Vec::new();
    let seen = load::queries(way, 1, Protocol::Simple, scale.queries, || {
        samples.push(used());
    });
    let cpu = (samples[1] - samples[0]).as_secs_f64() / seen.queries as f64;
    report.add(&format!("CPU per query, {beside}"), Unit::Microseconds, at, cpu * 1e6);
    drop(sessions);
}
