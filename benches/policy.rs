//! What row-level security costs in PostgreSQL itself: the same queries with the condition written
//! out and no policy, with the policies of `multigres_protect()`, and with these sealed; then with a
//! second dimension.
//! Interleaved in one run. It prints the time that the client waits and, on Linux, the processor
//! time of PostgreSQL's backend, which the rest of the machine changes less.
//!
//!     cargo bench --bench policy
//!     PG_BINDIR=/usr/lib/postgresql/18/bin cargo bench --bench policy

use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use postgres::types::ToSql;
use postgres::{Client, NoTls, Statement};
use sha2::Sha256;
use testing::{cluster, processor_time};

fn main() {
    // `cargo test --benches` runs this too, and wants to know only that it runs.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let (rows, rounds) = if is_test { (1_000, 2) } else { (ROWS, ROUNDS) };
    let mut variants: Vec<Variant> = VARIANTS.iter().map(|name| Variant::new(name, rows)).collect();
    let version: String = variants[0].client.query_one("show server_version", &[]).unwrap().get(0);
    println!("PostgreSQL {version}, {rows} rows, {rounds} rounds of each, interleaved");
    report("point query", &times(&mut variants, rounds, QUERIES, Variant::point));
    report("point query, simple", &times(&mut variants, rounds, QUERIES, Variant::simple));
    report("scan of all rows", &times(&mut variants, rounds.div_ceil(10), 1, |it, _| it.scan()));
}

/// A database with a table of `ROWS` rows of one tenant, and a session in it.
struct Variant {
    client: Client,
    backend: u32,
    point: Statement,
    scan: Statement,
    /// What `own` is in the statements above.
    own: &'static str,
}

impl Variant {
    fn new(name: &str, rows: i64) -> Self {
        let database = format!("policy_{name}");
        cluster()
            .superuser("postgres")
            .batch_execute(&format!("create database {database}"))
            .unwrap();
        let mut owner = cluster().superuser(&database);
        owner.batch_execute(&testing::SETUP).unwrap();
        owner
            .batch_execute(&format!(
                "create table items (id bigint primary key, tenant_id text not null,
                     user_id text not null, amount int not null);
                 insert into items select i, 'acme', 'ada', i % 1000
                     from generate_series(1, {rows}) as i;
                 create index on items (tenant_id, id);
                 create index on items (user_id, id);
                 grant select on items to app_user"
            ))
            .unwrap();
        let mut options = String::new();
        let contexts = [
            ("tenant_id", "app.current_tenant_id", "acme"),
            ("user_id", "app.current_user_id", "ada"),
        ];
        let dimensions = match name {
            "none" => 0,
            "plain" | "sealed" => 1,
            _ => 2,
        };
        for (column, variable, value) in &contexts[..dimensions] {
            let protect = format!("select multigres_protect('items', '{column}', '{variable}')");
            owner.batch_execute(&protect).unwrap();
            let seal = seal(&database, variable, value);
            options += &format!(" -c {variable}={value} -c {variable}_seal={seal}");
        }
        if name.starts_with("sealed") {
            owner
                .batch_execute(&format!("select multigres_seal('{}', 'none')", hex(&KEY)))
                .unwrap();
        }
        owner.batch_execute("vacuum analyze items").unwrap();
        let mut config = cluster().direct("app_user", &database);
        let mut client = config.options(&options).connect(NoTls).unwrap();
        // One plan for all: parallel workers come and go with the load.
        client.batch_execute("set max_parallel_workers_per_gather = 0").unwrap();
        let own = if name == "none" { "tenant_id = 'acme'" } else { "true" };
        let point = format!("select amount from items where id = $1 and {own}");
        let scan = format!("select sum(amount) from items where {own}");
        let (point, scan) = (client.prepare(&point).unwrap(), client.prepare(&scan).unwrap());
        let backend: i32 = client.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
        let backend = backend.unsigned_abs();
        Variant { client, backend, point, scan, own }
    }

    fn simple(&mut self, round: usize) {
        let id = 1 + (round as i64 * 7_919) % 1_000;
        let query = format!("select amount from items where id = {id} and {}", self.own);
        self.client.simple_query(&query).unwrap();
    }

    fn point(&mut self, round: usize) {
        let id: &(dyn ToSql + Sync) = &(1 + (round as i64 * 7_919) % 1_000);
        assert_eq!(self.client.query(&self.point, &[id]).unwrap().len(), 1);
    }

    fn scan(&mut self) {
        let sum: Option<i64> = self.client.query_one(&self.scan, &[]).unwrap().get(0);
        assert!(sum.is_some_and(|sum| sum > 0), "all rows are the tenant's");
    }
}

/// What a query has taken: the client's wait, and the backend's processor time where the system
/// tells it.
#[derive(Clone, Copy)]
struct Cost {
    wait: Duration,
    processor: Option<Duration>,
}

/// The median costs of a query in each variant. In each round every variant has its turn, with some
/// queries in a row: its backend is awake then, and its caches are warm.
fn times(
    variants: &mut [Variant],
    rounds: usize,
    queries: u32,
    run: impl Fn(&mut Variant, usize),
) -> Vec<Cost> {
    let mut waits = vec![Vec::new(); variants.len()];
    let mut processors = vec![Vec::new(); variants.len()];
    for round in 0..rounds {
        for (at, variant) in variants.iter_mut().enumerate() {
            let used = processor_time(variant.backend);
            let begin = Instant::now();
            for _ in 0..queries {
                run(variant, round);
            }
            waits[at].push(begin.elapsed() / queries);
            let used = processor_time(variant.backend).zip(used).map(|(now, before)| now - before);
            processors[at].extend(used.map(|used| used / queries));
        }
    }
    let medians = waits.into_iter().zip(processors);
    medians
        .map(|(waits, processors)| Cost {
            wait: median(waits).expect("a round"),
            processor: median(processors),
        })
        .collect()
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

fn report(what: &str, medians: &[Cost]) {
    println!("{what}, microseconds for one:");
    for (name, cost) in VARIANTS.iter().zip(medians) {
        let micros = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e6);
        let processor = cost.processor.map_or("unknown".into(), micros);
        println!("  {name:<8}  backend's processor {processor:>8}  wait {:>8}", micros(cost.wait));
    }
}

/// For app_user in this database, wherever it comes from.
fn seal(database: &str, variable: &str, value: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&KEY).unwrap();
    for field in ["multigres-seal-2", "none", variable, value, database, "app_user"] {
        mac.update(format!("{field}\x01").as_bytes());
    }
    hex(&mac.finalize().into_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const VARIANTS: [&str; 5] = ["none", "plain", "sealed", "plain_2", "sealed_2"];
const KEY: [u8; 32] = [7; 32];
const ROWS: i64 = 1_000_000;
const ROUNDS: usize = 200;
const QUERIES: u32 = 50;
