//! The ways to PostgreSQL that are measured, each with the process in the middle.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use testing::{Cluster, PASSWORD, Peer, Raw, TENANTS, processor_time};

/// A way to PostgreSQL.
pub struct Way {
    pub name: &'static str,
    port: u16,
    /// Let in on trust.
    user: &'static str,
    /// Asked for SCRAM-SHA-256.
    scram_user: &'static str,
    between: Option<Peer>,
}

impl Way {
    pub fn direct(cluster: &Cluster) -> Way {
        Way::new("direct", ROLES, cluster.port(), None)
    }

    /// This program itself, as [`crate::floor`].
    pub fn floor(cluster: &Cluster) -> Way {
        let program = std::env::current_exe().expect("a program");
        let arguments = |port: u16, _: &Path| {
            ["--floor".to_owned(), port.to_string(), cluster.port().to_string()].to_vec()
        };
        Way::through("floor", ROLES, Peer::start(&program, None, arguments))
    }

    pub fn multigres(cluster: &Cluster) -> Way {
        let program = testing::multigres();
        Way::tenants("Multigres", &program, &["--max-connections=2000"], cluster)
    }

    pub fn pgvpd(program: &Path, cluster: &Cluster) -> Way {
        Way::tenants("pgvpd", program, &[], cluster)
    }

    /// One that takes the tenant from the user's name.
    fn tenants(name: &'static str, program: &Path, more: &[&str], cluster: &Cluster) -> Way {
        let arguments = |port: u16, _: &Path| {
            let upstream = format!("--upstream-port={}", cluster.port());
            let port = format!("--port={port}");
            let mut arguments = vec![port, "--upstream-host=127.0.0.1".into(), upstream];
            arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
            arguments
        };
        Way::through(name, ROLES_OF_TENANTS, Peer::start(program, None, arguments))
    }

    /// In session mode; it has the passwords, for it answers and asks for SCRAM itself.
    pub fn pgbouncer(program: &Path, cluster: &Cluster) -> Way {
        let arguments = |port: u16, folder: &Path| {
            let [users, hba, file] =
                ["users.txt", "hba.conf", "pgbouncer.ini"].map(|name| folder.join(name));
            let secrets = format!("\"app_user\" \"\"\n\"scram_user\" \"{PASSWORD}\"\n");
            fs::write(&users, secrets).expect("a file");
            let rules = "host all scram_user 127.0.0.1/32 scram-sha-256\n\
                         host all all 127.0.0.1/32 trust\n";
            fs::write(&hba, rules).expect("a file");
            let settings = format!(
                "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = hba\nauth_file = {}\n\
                 auth_hba_file = {}\npool_mode = session\nserver_lifetime = 0\n\
                 max_client_conn = 2000\ndefault_pool_size = 2000\nlog_connections = 0\n\
                 log_disconnections = 0\n",
                cluster.port(),
                users.display(),
                hba.display(),
            );
            fs::write(&file, settings).expect("a file");
            vec!["-q".into(), file.display().to_string()]
        };
        // It does not run as root.
        Way::through("PgBouncer", ROLES, Peer::start(program, Cluster::owner(), arguments))
    }

    /// It forwards bytes, and knows nothing of PostgreSQL.
    pub fn haproxy(program: &Path, cluster: &Cluster) -> Way {
        let arguments = |port: u16, folder: &Path| {
            let settings = format!(
                "global\n nbthread 1\n maxconn 2000\ndefaults\n mode tcp\n timeout connect 10s\n \
                 timeout client 1h\n timeout server 1h\nfrontend f\n bind 127.0.0.1:{port}\n \
                 default_backend b\nbackend b\n server s 127.0.0.1:{}\n",
                cluster.port()
            );
            let file = folder.join("haproxy.cfg");
            fs::write(&file, settings).expect("a file");
            vec!["-db".into(), "-f".into(), file.display().to_string()]
        };
        Way::through("HAProxy", ROLES, Peer::start(program, None, arguments))
    }

    fn through(name: &'static str, roles: Roles, between: Option<Peer>) -> Way {
        let between = between.unwrap_or_else(|| panic!("{name} does not start"));
        Way::new(name, roles, between.port(), Some(between))
    }

    fn new(name: &'static str, roles: Roles, port: u16, between: Option<Peer>) -> Way {
        let [user, scram_user] = roles;
        Way { name, port, user, scram_user, between }
    }

    /// The process in the middle.
    pub fn pid(&self) -> Option<u32> {
        self.between.as_ref().map(Peer::pid)
    }

    /// The processor time of the process in the middle so far.
    pub fn processor_time(&self) -> Option<Duration> {
        self.pid().map(|pid| processor_time(pid).expect("the process is there"))
    }

    /// A session without a password.
    pub fn session(&self) -> Raw {
        let mut session = Raw::tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)));
        session.login(self.user, TENANTS);
        session
    }

    /// A login with a password, and an end to it.
    pub fn log_in(&self) {
        let mut config = postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(self.scram_user).dbname(TENANTS);
        config.password(PASSWORD);
        drop(config.connect(postgres::NoTls).expect("a login"));
    }
}

/// Who is let in on trust, and who is asked for SCRAM-SHA-256.
type Roles = [&'static str; 2];

const ROLES: Roles = ["app_user", "scram_user"];
const ROLES_OF_TENANTS: Roles = ["app_user.acme", "scram_user.acme"];
