//! What TLS costs on the client leg, on the upstream leg and on both: logins and bulk reads, beside
//! the same without TLS, beside PostgreSQL itself and, where it is installed, beside PgBouncer with
//! TLS on both legs. Interleaved in one run, as ratios, for figures of one machine say nothing
//! about another.
//!
//!     cargo bench --bench tls

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use postgres::config::SslMode;
use postgres::{Client, Config, NoTls};
use testing::{Authority, Cluster, Daemon, Files, Peer, Run, TENANTS, processor_time};

fn main() {
    // `cargo test --benches` runs this too, and wants to know only that it runs.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let (rounds, rows) = if is_test { (2, 1_000) } else { (ROUNDS, ROWS) };
    let stage = Stage::new();
    let mut ways = stage.ways();
    println!("{rounds} rounds of each, interleaved, medians; CPU is that of the process between");
    // With a query, for PgBouncer opens its connection to PostgreSQL with the first one.
    report("login, one query, farewell", &mut ways, rounds, |way| {
        for _ in 0..LOGINS {
            way.connect(&stage).batch_execute("select").expect("an answer");
        }
        u64::from(LOGINS)
    });
    report("bulk read, per MB", &mut ways, rounds, |way| {
        let mut client = way.connect(&stage);
        let sql =
            format!("copy (select repeat('x', 1000) from generate_series(1, {rows})) to stdout");
        let mut reader = client.copy_out(&sql).expect("a copy");
        let mut scratch = vec![0; 64 * 1024];
        let mut bytes = 0;
        loop {
            match reader.read(&mut scratch).expect("the copy goes on") {
                0 => break bytes / 1_000_000,
                read => bytes += read as u64,
            }
        }
        .max(1)
    });
}

struct Stage {
    cluster: Cluster,
    authority: Authority,
    files: Files,
}

/// A way to PostgreSQL.
struct Way {
    name: &'static str,
    port: u16,
    user: &'static str,
    has_tls: bool,
    between: Between,
}

/// The process between, which ends with this value.
enum Between {
    Nothing,
    Multigres(Daemon),
    PgBouncer(Peer),
}

impl Stage {
    fn new() -> Stage {
        let authority = Authority::new("authority");
        let identity = authority.certify("bench", &["localhost", "127.0.0.1"]);
        let cluster = Cluster::with_tls(&identity, &authority);
        let files = Files::new();
        files.put("cert.pem", &identity.chain);
        files.put("key.pem", &identity.key);
        Stage { cluster, authority, files }
    }

    fn ways(&self) -> Vec<Way> {
        let direct = |name, has_tls| Way {
            name,
            port: self.cluster.port(),
            user: "app_user",
            has_tls,
            between: Between::Nothing,
        };
        let multigres = |name, has_tls, upstream| {
            let daemon = self.multigres(upstream);
            let (port, between) = (daemon.port(), Between::Multigres(daemon));
            Way { name, port, user: "app_user.acme", has_tls, between }
        };
        let mut ways = vec![
            multigres("multigres, plain", false, "disable"),
            multigres("multigres, TLS of the client", true, "disable"),
            multigres("multigres, TLS of upstream", false, "require"),
            multigres("multigres, TLS of both", true, "require"),
            direct("PostgreSQL, plain", false),
            direct("PostgreSQL, TLS", true),
        ];
        for (name, has_tls) in [("PgBouncer, plain", false), ("PgBouncer, TLS of both", true)] {
            ways.extend(self.pgbouncer(name, has_tls));
        }
        ways
    }

    fn file(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    fn multigres(&self, upstream_tls: &str) -> Daemon {
        Run::on(&self.cluster)
            .set("tls_cert", &self.file("cert.pem"))
            .set("tls_key", &self.file("key.pem"))
            .set("upstream_tls", upstream_tls)
            .start()
    }

    /// In session mode, each server connection used once, as Multigres does.
    fn pgbouncer(&self, name: &'static str, has_tls: bool) -> Option<Way> {
        let mode = if has_tls { "require" } else { "disable" };
        // It does not run as root.
        let peer = Peer::start(Path::new("pgbouncer"), Cluster::owner(), |port, folder| {
            for name in ["cert.pem", "key.pem"] {
                fs::copy(self.file(name), folder.join(name)).expect("a copy");
            }
            let users = folder.join("users.txt");
            fs::write(&users, "\"app_user\" \"\"\n").expect("a file");
            let settings = format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
                 pool_mode = session\nserver_lifetime = 0\nlog_connections = 0\n\
                 log_disconnections = 0\nserver_tls_sslmode = {mode}\n\
                 client_tls_sslmode = {mode}\nclient_tls_cert_file = {}\n\
                 client_tls_key_file = {}\n",
                self.cluster.port(),
                users.display(),
                folder.join("cert.pem").display(),
                folder.join("key.pem").display(),
            );
            let file = folder.join("pgbouncer.ini");
            fs::write(&file, settings).expect("a file");
            vec!["-q".into(), file.display().to_string()]
        })?;
        let (port, between) = (peer.port(), Between::PgBouncer(peer));
        Some(Way { name, port, user: "app_user", has_tls, between })
    }
}

impl Way {
    fn connect(&self, stage: &Stage) -> Client {
        let mut config = Config::new();
        config.host("localhost").hostaddr([127, 0, 0, 1].into()).port(self.port);
        config.user(self.user).dbname(TENANTS);
        let connected = match self.has_tls {
            true => config.ssl_mode(SslMode::Require).connect(stage.authority.connector(None)),
            false => config.ssl_mode(SslMode::Disable).connect(NoTls),
        };
        connected.expect("a login")
    }

    /// CPU time of the process between, so far.
    fn cpu(&self) -> Option<Duration> {
        match &self.between {
            Between::Nothing => None,
            Between::Multigres(daemon) => processor_time(daemon.pid()),
            Between::PgBouncer(peer) => processor_time(peer.pid()),
        }
    }
}

/// Medians of the time for one unit, and of the CPU time between. In each round every way has its
/// turn.
fn report(what: &str, ways: &mut [Way], rounds: usize, run: impl Fn(&mut Way) -> u64) {
    let mut times = vec![Vec::new(); ways.len()];
    let mut cpus = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for (at, way) in ways.iter_mut().enumerate() {
            let (begin, cpu) = (Instant::now(), way.cpu());
            let units = run(way) as f64;
            times[at].push(begin.elapsed().as_secs_f64() / units);
            if let (Some(before), Some(after)) = (cpu, way.cpu()) {
                cpus[at].push((after - before).as_secs_f64() / units);
            }
        }
    }
    println!("{what}:");
    let first = (median(&mut times[0].clone()), median(&mut cpus[0].clone()));
    for (at, way) in ways.iter().enumerate() {
        let (time, cpu) = (median(&mut times[at]), median(&mut cpus[at]));
        let ratio = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => format!("x{:.2} ({:.0} us)", one / other, one * 1e6),
            _ => "-".into(),
        };
        println!(
            "  {:<30} time {:<18} CPU {}",
            way.name,
            ratio(time, first.0),
            ratio(cpu, first.1)
        );
    }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

const ROUNDS: usize = 15;
const LOGINS: u32 = 20;

/// Of a thousand bytes each.
const ROWS: u32 = 50_000;
