//! A running multigres: started with the settings of a test, watched through its log, gone with
//! its owner.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};
use rustix::process::Signal;

use crate::log::Log;
use crate::processor::ticks;
use crate::supervised::{Watchdog, send_signal};
use crate::{Cluster, DEADLINE, LIFETIME_MAX, PASSWORD, Raw, TENANTS, cluster, multigres};

/// How to start a daemon.
#[derive(Default)]
pub struct Run {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    open_files_max: Option<u32>,
}

impl Run {
    /// No settings at all.
    pub fn bare() -> Run {
        Run::default()
    }

    /// A port chosen by the kernel, log level debug, and this cluster as upstream over IPv4.
    pub fn on(cluster: &Cluster) -> Run {
        Run::upstream(cluster.port())
    }

    /// The same with whatever listens on this port of 127.0.0.1 as upstream.
    pub fn upstream(port: u16) -> Run {
        let run = Run::bare().set("port", "0").set("log_level", "debug");
        run.set("upstream_host", "127.0.0.1").set("upstream_port", &port.to_string())
    }

    /// A setting as a flag; the last value of a key counts.
    pub fn set(mut self, key: &str, value: &str) -> Run {
        let flag = format!("--{}=", key.replace('_', "-"));
        self.arguments.retain(|argument| !argument.starts_with(&flag));
        self.arguments.push(flag + value);
        self
    }

    /// A variable of the environment, which otherwise has none of Multigres' own.
    pub fn environment(mut self, name: &str, value: &str) -> Run {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// An argument as it stands.
    pub fn argument(mut self, argument: impl Into<String>) -> Run {
        self.arguments.push(argument.into());
        self
    }

    /// A limit on its open descriptors.
    pub fn open_files_max(mut self, max: u32) -> Run {
        self.open_files_max = Some(max);
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> Daemon {
        let mut daemon = self.spawn();
        let first = daemon.log.wait_for("listening on ", 1);
        daemon.address = first.rsplit("listening on ").next().map(str::to_owned);
        daemon
    }

    /// The same with a process between its standard error and its log.
    pub fn start_with_reader(self) -> (Daemon, Reader) {
        let mut reader = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat starts");
        let log = reader.stdout.take().expect("stdout is piped");
        let child = self.child(reader.stdin.take().expect("stdin is piped").into());
        let mut daemon = Daemon::of(child, log);
        let first = daemon.log.wait_for("listening on ", 1);
        daemon.address = first.rsplit("listening on ").next().map(str::to_owned);
        (daemon, Reader(reader))
    }

    /// Starts it with a file for its log, which nobody reads.
    pub fn spawn_logging_to(self, file: File) -> Daemon {
        Daemon::of(self.child(file.into()), io::empty())
    }

    /// Starts it and does not wait for anything.
    pub fn spawn(self) -> Daemon {
        let mut child = self.child(Stdio::piped());
        let log = child.stderr.take().expect("stderr is piped");
        Daemon::of(child, log)
    }

    fn child(self, stderr: Stdio) -> Child {
        let mut command = self.command();
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        command.spawn().expect("multigres starts")
    }

    /// Runs it to its end, which must come by itself.
    pub fn output(self) -> Output {
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("multigres starts");
        let _watchdog = Watchdog::over(child.id());
        let _lifetime = limit_lifetime(child.id());
        child.wait_with_output().expect("its output can be read")
    }

    fn command(&self) -> Command {
        let multigres = multigres();
        let mut command = match self.open_files_max {
            None => Command::new(multigres),
            Some(max) => {
                let mut shell = Command::new("sh");
                shell
                    .arg("-c")
                    .arg(format!("ulimit -n {max} && exec \"$0\" \"$@\""))
                    .arg(multigres);
                shell
            }
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MULTIGRES_") {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().cloned()).args(&self.arguments);
        command
    }
}

/// A daemon that ends with this value. A failing test shows its log.
pub struct Daemon {
    child: Child,
    /// As the log tells it; `None` until it listens.
    address: Option<String>,
    log: Log,
    reader: Option<JoinHandle<()>>,
    status_asked: Mutex<usize>,
    _watchdog: Watchdog,
    _lifetime: Sender<()>,
}

/// A process that passes the daemon's standard error on to its log.
pub struct Reader(Child);

impl Reader {
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send_signal(signal, self.0.id());
    }

    /// Waits until it has ended.
    pub fn wait_for_exit(&mut self) {
        self.0.wait().expect("it was not waited for before");
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    fn of(child: Child, stderr: impl Read + Send + 'static) -> Daemon {
        let watchdog = Watchdog::over(child.id());
        let (log, reader) = Log::collect(stderr);
        let lifetime = limit_lifetime(child.id());
        Daemon {
            child,
            address: None,
            log,
            reader: Some(reader),
            status_asked: Mutex::new(0),
            _watchdog: watchdog,
            _lifetime: lifetime,
        }
    }

    /// One in front of the shared cluster, with default settings but a port of its own.
    pub fn start() -> Daemon {
        Run::on(cluster()).start()
    }

    /// The same with some settings changed.
    pub fn with(settings: &[(&str, &str)]) -> Daemon {
        let run = settings.iter().fold(Run::on(cluster()), |run, (key, value)| run.set(key, value));
        run.start()
    }

    /// The first address it listens on.
    ///
    /// # Panics
    /// When that is a unix socket, or it does not listen.
    pub fn address(&self) -> SocketAddr {
        self.listening_on().parse().expect("an IP address")
    }

    /// The first address it listens on, as its log tells it.
    pub fn listening_on(&self) -> &str {
        self.address.as_deref().expect("it was started, not just spawned")
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// A client's settings: this user, the shared password, the database with the tables.
    pub fn config(&self, user: &str) -> Config {
        let mut config = Config::new();
        let address = self.address();
        config.host(&address.ip().to_string()).port(address.port()).user(user);
        config.password(PASSWORD).dbname(TENANTS).connect_timeout(DEADLINE);
        config
    }

    /// What an application would be given.
    pub fn connect_string(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgresql://{user}:{password}@{}/{database}", self.address())
    }

    pub fn try_connect(&self, user: &str) -> Result<Client, postgres::Error> {
        self.config(user).connect(NoTls)
    }

    /// # Panics
    /// When the login fails.
    pub fn connect(&self, user: &str) -> Client {
        match self.try_connect(user) {
            Ok(client) => client,
            Err(error) => panic!("{user} does not get in: {error:?}"),
        }
    }

    /// A plain socket to the first address.
    pub fn raw(&self) -> Raw {
        Raw::tcp(self.address())
    }

    /// A session of the tenant acme on a plain socket, and the pid of its backend.
    pub fn raw_session(&self) -> (Raw, i32) {
        let mut raw = self.raw();
        raw.login("app_user.acme", TENANTS);
        let pid = raw.query_value("select pg_backend_pid()").parse().expect("a pid");
        (raw, pid)
    }

    /// Everything logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Waits for a line that contains the pattern; one that is already there counts.
    pub fn wait_for_log(&self, pattern: &str) -> String {
        self.log.wait_for(pattern, 1)
    }

    /// Waits until this many lines contain the pattern; answers with the last of them.
    pub fn wait_for_logs(&self, pattern: &str, count: usize) -> String {
        self.log.wait_for(pattern, count)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Number of descriptors it has open.
    pub fn open_files(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid());
        std::fs::read_dir(folder).expect("it is running").count()
    }

    /// Physical memory it occupies, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).expect("it is running");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kilobytes * 1024
    }

    /// Processor time it has used, in clock ticks.
    pub fn processor_ticks(&self) -> u64 {
        ticks(self.pid())[..2].iter().sum()
    }

    /// What it says of itself when sent SIGUSR1.
    pub fn status(&self) -> Status {
        let mut asked = self.status_asked.lock().unwrap();
        *asked += 1;
        self.signal(Signal::USR1);
        Status::parse(&self.log.wait_for("status connections=", *asked))
    }

    /// Waits until nothing is going on in it.
    ///
    /// # Panics
    /// When something still is at the deadline.
    pub fn wait_until_idle(&self) {
        self.wait_for_status(|status| *status == Status::default());
    }

    /// Asks for its status until it satisfies the condition.
    pub fn wait_for_status(&self, condition: impl Fn(&Status) -> bool) -> Status {
        let started = Instant::now();
        loop {
            let status = self.status();
            if condition(&status) {
                return status;
            }
            assert!(started.elapsed() < DEADLINE, "the status stays {status:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send_signal(signal, self.pid());
    }

    /// Waits until the process has ended.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        self.log.wait_until_ended();
        self.wait_for_process()
    }

    /// The same where its log does not tell: at the end of its lifetime it is killed.
    pub fn wait_for_process(&mut self) -> ExitStatus {
        self.child.wait().expect("it was not waited for before")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if thread::panicking() {
            println!("log of multigres {}:\n{}", self.pid(), self.log.lines().join("\n"));
        }
    }
}

/// The fields of the daemon's status line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub connections: usize,
    pub piping: usize,
    pub deadlines: usize,
    pub run_queue: usize,
    pub buffers: usize,
}

impl Status {
    fn parse(line: &str) -> Status {
        let field = |name: &str| {
            let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            let value = value.unwrap_or_else(|| panic!("no {name} in {line:?}"));
            value.parse().unwrap_or_else(|_| panic!("{name} is no number in {line:?}"))
        };
        Status {
            connections: field("connections"),
            piping: field("piping"),
            deadlines: field("deadlines"),
            run_queue: field("run_queue"),
            buffers: field("buffers"),
        }
    }
}

/// Ends the process when the sender has lived too long, so that a client that waits for it
/// without a deadline fails instead of hanging.
fn limit_lifetime(pid: u32) -> Sender<()> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        if receiver.recv_timeout(LIFETIME_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("multigres {pid} outlived its test's time and is killed");
            send_signal(Signal::KILL, pid);
        }
    });
    sender
}
