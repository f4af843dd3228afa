//! One private PostgreSQL cluster per test process, in a temp folder, on a free port.
//! Knows nothing about Multigres; what stands in it is in `roles.sql` and `tenants.sql`.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv6Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use postgres::{Client, Config, NoTls};

use crate::{Authority, Certified, DEADLINE};

/// The password of every role that has one.
pub const PASSWORD: &str = "Tr0ub4dor-und-3";

/// The database with the protected tables.
pub const TENANTS: &str = "tenants";

/// What makes these tables.
pub const TENANTS_SQL: &str = include_str!("tenants.sql");

/// A running PostgreSQL. The shared one lives as long as the test process, any other until it
/// is dropped.
pub struct Cluster {
    supervisor: Supervisor,
    port: u16,
    ipv6: bool,
}

/// A running `cluster.sh`; it ends with the process, or when this is dropped.
struct Supervisor {
    /// Gone when it has ended.
    folder: PathBuf,
    process: Child,
    lifeline: Option<ChildStdin>,
}

/// The cluster that all tests share; started by the first that asks.
pub fn cluster() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(Cluster::start)
}

impl Cluster {
    /// Starts a cluster of one's own, for a test that damages it.
    ///
    /// # Panics
    /// When PostgreSQL's server binaries are not there, or do not start.
    pub fn start() -> Cluster {
        Cluster::with(&[])
    }

    /// The same with these lines in postgresql.conf.
    pub fn with(settings: &[&str]) -> Cluster {
        Cluster::start_with(settings, None)
    }

    /// One that offers TLS with this certificate, and takes certificates of this authority.
    pub fn with_tls(identity: &Certified, authority: &Authority) -> Cluster {
        let authority = &authority.pem;
        let files = [identity.chain.as_str(), &identity.key, authority];
        Cluster::start_with(&[], Some(files))
    }

    fn start_with(settings: &[&str], tls: Option<[&str; 3]>) -> Cluster {
        let ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        let mut failures = String::new();
        // Someone may take the port between its choice and PostgreSQL's bind.
        for _ in 0..3 {
            match Cluster::try_start(ipv6, settings, tls) {
                Ok(cluster) => {
                    cluster.set_up();
                    return cluster;
                }
                Err(log) => failures.push_str(&log),
            }
        }
        panic!("PostgreSQL does not start:\n{failures}");
    }

    fn try_start(ipv6: bool, settings: &[&str], tls: Option<[&str; 3]>) -> Result<Cluster, String> {
        let port = free_port();
        let listen = if ipv6 { "127.0.0.1,::1" } else { "127.0.0.1" };
        let mut arguments = vec![
            port.to_string(),
            listen.to_owned(),
            include_str!("pg_hba.conf").to_owned(),
            settings.join("\n"),
        ];
        arguments.extend(tls.into_iter().flatten().map(ToOwned::to_owned));
        let supervisor = Supervisor::start(Some(Cluster::template()), &arguments)?;
        Ok(Cluster { supervisor, port, ipv6 })
    }

    /// The folder with what initdb makes, once for all clusters of the process.
    fn template() -> &'static Path {
        static TEMPLATE: OnceLock<Supervisor> = OnceLock::new();
        let made = || Supervisor::start(None, &[]).unwrap_or_else(|log| panic!("initdb:\n{log}"));
        &TEMPLATE.get_or_init(made).folder
    }

    /// User and group that PostgreSQL runs as, in the place of root, as whom it does not.
    pub fn owner() -> Option<(u32, u32)> {
        if id("-u", None) != Some(0) {
            return None;
        }
        let user = ["postgres", "nobody"].into_iter().find(|user| id("-u", Some(user)).is_some());
        let user = user.expect("run as root, the cluster needs a user postgres or nobody");
        let group = id("-g", Some(user)).expect("every user has a group");
        Some((id("-u", Some(user)).expect("just found"), group))
    }

    fn set_up(&self) {
        let mut client = self.superuser("postgres");
        let roles = include_str!("roles.sql").replace("{PASSWORD}", PASSWORD);
        client.batch_execute(&roles).expect("roles.sql");
        for database in [TENANTS, "app_user", "locked"] {
            client.batch_execute(&format!("create database {database}")).expect("database");
        }
        client.batch_execute("revoke connect on database locked from public").expect("revoke");
        let mut client = self.superuser(TENANTS);
        client.batch_execute(TENANTS_SQL).expect("tenants.sql");
    }

    /// The TCP port, on 127.0.0.1 and, where the machine has it, on ::1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether PostgreSQL listens on ::1 as well.
    pub fn ipv6(&self) -> bool {
        self.ipv6
    }

    /// The process that PostgreSQL's others are children of.
    pub fn pid(&self) -> u32 {
        let file = self.socket_folder().join("data/postmaster.pid");
        let text = std::fs::read_to_string(file).expect("it is running");
        text.lines().next().and_then(|pid| pid.parse().ok()).expect("its first line is the pid")
    }

    /// The folder that holds the unix socket `.s.PGSQL.PORT`.
    pub fn socket_folder(&self) -> &Path {
        &self.supervisor.folder
    }

    /// Everything PostgreSQL has logged so far.
    pub fn log(&self) -> String {
        let bytes =
            std::fs::read(self.socket_folder().join("server.log")).expect("the log is readable");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A direct connection as the superuser `postgres`, without Multigres.
    pub fn superuser(&self, database: &str) -> Client {
        self.direct("postgres", database).connect(NoTls).expect("the superuser logs in")
    }

    /// Settings of a direct connection, with the password that every role has.
    pub fn direct(&self, user: &str, database: &str) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(user).dbname(database).password(PASSWORD);
        config.connect_timeout(DEADLINE);
        config
    }

    /// Waits until the query, run by the superuser, answers true.
    ///
    /// # Panics
    /// When it has not done so by the deadline.
    pub fn wait_until(&self, query: &str) {
        let mut client = self.superuser("postgres");
        let started = Instant::now();
        while !client.query_one(query, &[]).expect("the query is right").get::<_, bool>(0) {
            assert!(started.elapsed() < DEADLINE, "never became true: {query}");
            client.batch_execute("select pg_sleep(0.005)").expect("pg_sleep");
        }
    }

    /// Waits until the backend with this process id is gone.
    pub fn wait_until_gone(&self, backend: i32) {
        self.wait_until(&format!(
            "select not exists (select from pg_stat_activity where pid = {backend})"
        ));
    }
}

impl Supervisor {
    /// One that makes a template, or runs a PostgreSQL on a copy of that.
    fn start(template: Option<&Path>, arguments: &[String]) -> Result<Supervisor, String> {
        let mut command = Command::new("sh");
        command
            .args(["-c", include_str!("cluster.sh"), "cluster"])
            .arg(binaries())
            .args(template)
            .args(arguments)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some((uid, gid)) = Cluster::owner() {
            command.uid(uid).gid(gid);
        }
        let mut process = command.spawn().expect("sh starts");
        let lifeline = process.stdin.take();
        let mut answers = BufReader::new(process.stdout.take().expect("stdout is piped"));
        let mut first = String::new();
        answers.read_line(&mut first).expect("the supervisor writes text");
        match first.trim_end().strip_prefix("ready ") {
            Some(folder) => Ok(Supervisor { folder: PathBuf::from(folder), process, lifeline }),
            None => {
                let _ = answers.read_to_string(&mut first);
                let _ = process.wait();
                Err(first)
            }
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.process.wait();
    }
}

/// A program of this PostgreSQL's, as pg_dump, if it is beside the server.
pub fn program(name: &str) -> Option<PathBuf> {
    let server = binaries().join("postgres").canonicalize().expect("the server is there");
    Some(server.with_file_name(name)).filter(|path| path.is_file())
}

/// The newest server binaries: `PG_BINDIR`, else `PATH`, else where Debian and Red Hat put them.
fn binaries() -> PathBuf {
    let has_server =
        |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    if let Some(folder) = std::env::var_os("PG_BINDIR").map(PathBuf::from) {
        assert!(has_server(&folder), "PG_BINDIR={} has no initdb and postgres", folder.display());
        return folder;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(folder) = std::env::split_paths(&path).find(has_server) {
        return folder;
    }
    let mut versions: Vec<(u32, PathBuf)> =
        ["/usr/lib/postgresql", "/usr", "/usr/local/opt", "/opt/homebrew/opt"]
            .iter()
            .filter_map(|root| std::fs::read_dir(root).ok())
            .flatten()
            .flatten()
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                let digits = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
                (digits.parse().unwrap_or(0), entry.path().join("bin"))
            })
            .filter(|(_, folder)| has_server(folder))
            .collect();
    versions.sort();
    match versions.pop() {
        Some((_, folder)) => folder,
        None => panic!(
            "these tests need PostgreSQL's server binaries (initdb, postgres): install them \
             (apt-get install postgresql, dnf install postgresql-server, brew install \
             postgresql) or name their folder in PG_BINDIR"
        ),
    }
}

/// A port of 127.0.0.1 that nobody has; somebody may take it before it is used.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

/// What `id -u` or `id -g` says, of one's own process or of a named user.
fn id(what: &str, user: Option<&str>) -> Option<u32> {
    let output = Command::new("id").arg(what).args(user).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
