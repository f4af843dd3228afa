//! The ways to PostgreSQL that are measured, each with the process in the middle.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testing::{Cluster, PASSWORD, TENANTS};

/// A way to PostgreSQL.
pub struct Way {
    pub name: &'static str,
    pub port: u16,
    /// Let in on trust.
    pub user: &'static str,
    /// Asked for SCRAM-SHA-256.
    pub scram_user: &'static str,
    between: Between,
    _folder: Option<tempfile::TempDir>,
}

enum Between {
    Nothing,
    Process(Child),
}

impl Way {
    pub fn direct(cluster: &Cluster) -> Way {
        Way::new("direct", cluster.port(), Between::Nothing)
    }

    fn new(name: &'static str, port: u16, between: Between) -> Way {
        let (user, scram_user) = ("app_user", "scram_user");
        Way { name, port, user, scram_user, between, _folder: None }
    }

    /// This program itself, as [`crate::floor`].
    pub fn floor(cluster: &Cluster) -> Way {
        let mut command = mortal(&std::env::current_exe().expect("a program"));
        command.arg("--floor").arg(cluster.port().to_string()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the floor starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says its port");
        let port = line.trim().parse().expect("a port");
        Way::new("floor", port, Between::Process(child))
    }

    pub fn multigres(cluster: &Cluster) -> Way {
        Way::tenants("Multigres", &testing::multigres(), &["--max-connections=2000"], cluster)
    }

    pub fn pgvpd(program: &Path, cluster: &Cluster) -> Way {
        Way::tenants("pgvpd", program, &[], cluster)
    }

    /// One that takes the tenant from the user's name.
    fn tenants(name: &'static str, program: &Path, arguments: &[&str], cluster: &Cluster) -> Way {
        let port = free_port();
        let mut command = mortal(program);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("MULTIGRES_") {
                command.env_remove(variable);
            }
        }
        command.arg("--port").arg(port.to_string()).args(["--upstream-host", "127.0.0.1"]);
        command.arg("--upstream-port").arg(cluster.port().to_string()).args(arguments);
        let way = Way::new(name, port, Between::Process(start(command)));
        way.wait_until_it_listens();
        Way { user: "app_user.acme", scram_user: "scram_user.acme", ..way }
    }

    /// In session mode; it has the passwords, for it answers and asks for SCRAM itself.
    pub fn pgbouncer(program: &Path, cluster: &Cluster) -> Way {
        let settings = |port: u16, folder: &Path| {
            format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = hba\nauth_file = {}\n\
                 auth_hba_file = {}\npool_mode = session\nserver_lifetime = 0\n\
                 max_client_conn = 2000\ndefault_pool_size = 2000\nlog_connections = 0\n\
                 log_disconnections = 0\n",
                cluster.port(),
                folder.join("users.txt").display(),
                folder.join("hba.conf").display(),
            )
        };
        let users = format!("\"app_user\" \"\"\n\"scram_user\" \"{PASSWORD}\"\n");
        let hba =
            "host all scram_user 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
        let files = [("users.txt", &*users), ("hba.conf", hba)];
        Way::configured("PgBouncer", program, &["-q"], &files, settings)
    }

    /// It forwards bytes, and knows nothing of PostgreSQL.
    pub fn haproxy(program: &Path, cluster: &Cluster) -> Way {
        let settings = |port: u16, _: &Path| {
            format!(
                "global\n nbthread 1\n maxconn 2000\ndefaults\n mode tcp\n timeout connect 10s\n \
                 timeout client 1h\n timeout server 1h\nfrontend f\n bind 127.0.0.1:{port}\n \
                 default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
                cluster.port()
            )
        };
        Way::configured("HAProxy", program, &["-db", "-f"], &[], settings)
    }

    /// A process with a settings file behind its arguments, once it listens.
    fn configured(
        name: &'static str,
        program: &Path,
        arguments: &[&str],
        files: &[(&str, &str)],
        settings: impl Fn(u16, &Path) -> String,
    ) -> Way {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let file = folder.path().join("settings");
        fs::write(&file, settings(port, folder.path())).expect("a file");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        let mut command = mortal(program);
        command.args(arguments).arg(&file);
        // PgBouncer does not run as root.
        if let Some((uid, gid)) = Cluster::owner() {
            let entries = fs::read_dir(folder.path()).expect("a folder");
            let files = entries.map(|entry| entry.expect("a file").path());
            for path in files.chain([folder.path().to_owned()]).collect::<Vec<PathBuf>>() {
                chown(path, Some(uid), Some(gid)).expect("root may");
            }
            command.uid(uid).gid(gid);
        }
        let way = Way::new(name, port, Between::Process(start(command)));
        way.wait_until_it_listens();
        Way { _folder: Some(folder), ..way }
    }

    fn wait_until_it_listens(&self) {
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "{} does not listen", self.name);
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The process in the middle.
    pub fn pid(&self) -> Option<u32> {
        match &self.between {
            Between::Nothing => None,
            Between::Process(child) => Some(child.id()),
        }
    }

    /// A login with a password, and an end to it.
    pub fn log_in(&self) {
        let mut config = postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(self.scram_user).dbname(TENANTS);
        config.password(PASSWORD);
        drop(config.connect(postgres::NoTls).expect("a login"));
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        if let Between::Process(child) = self {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A program that ends with this one, however that ends.
fn mortal(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("it was found")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
