//! Every way in which both legs may be encrypted, with every way in which PostgreSQL may ask for
//! a password and all that libpq's channel_binding and require_auth demand of it; by psql, by
//! psycopg and by the `postgres` crate, as far as each can. `docs/encryption.md` says what each
//! comes to.

use std::path::Path;
use std::sync::OnceLock;

use postgres::NoTls;
use postgres::config::{ChannelBinding, SslMode, SslNegotiation};
use testing::{Authority, Cluster, Daemon, Files, PASSWORD, Run, TENANTS, libpq, shortened};

/// A cluster with TLS, and daemons before it that differ in their upstream legs.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) authority: Authority,
    pub(crate) files: Files,
}

/// The upstream leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upstream {
    Plain,
    Tls,
    /// From the first byte on, which PostgreSQL takes from 17 on.
    Direct,
    /// With the certificate that Multigres shows its clients.
    SameCertificate,
}

/// The client leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Plain,
    Tls,
    Direct,
}

/// How PostgreSQL asks, by the roles of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Trust,
    Cleartext,
    Md5,
    Scram,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binding {
    Disable,
    Prefer,
    Require,
}

/// A login to be tried.
#[derive(Clone, Copy, Debug)]
struct Cell {
    upstream: Upstream,
    client: Client,
    method: Method,
    binding: Binding,
    /// libpq's require_auth.
    demands: Option<Asked>,
}

/// What the client is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Password,
    /// Which Multigres never does: the hash would be that of another user name.
    Md5,
    Scram,
    ScramPlus,
}

const UPSTREAMS: [Upstream; 4] =
    [Upstream::Plain, Upstream::Tls, Upstream::Direct, Upstream::SameCertificate];
const METHODS: [Method; 4] = [Method::Trust, Method::Cleartext, Method::Md5, Method::Scram];
const BINDINGS: [Binding; 3] = [Binding::Disable, Binding::Prefer, Binding::Require];

/// The tenant, whether PostgreSQL's end of the connection is encrypted, and the tenant's rows.
const QUERY: &str = "select current_setting('app.current_tenant_id'),
        (select ssl from pg_stat_ssl where pid = pg_backend_pid())::text,
        (select count(*) from contacts)";

impl Method {
    fn role(self) -> &'static str {
        match self {
            Method::Trust => "trust_user",
            Method::Cleartext => "clear_user",
            Method::Md5 => "md5_user",
            Method::Scram => "scram_user",
        }
    }
}

impl Cell {
    /// What `docs/encryption.md` promises for `auth = auto`.
    fn asked(&self) -> Asked {
        let both = self.client != Client::Plain && self.upstream != Upstream::Plain;
        match self.method {
            Method::Trust => Asked::Nothing,
            Method::Cleartext | Method::Md5 => Asked::Password,
            Method::Scram if both && self.upstream != Upstream::SameCertificate => Asked::Password,
            Method::Scram if both && self.binding != Binding::Disable => Asked::ScramPlus,
            Method::Scram => Asked::Scram,
        }
    }

    /// What the client has against it, by parts of its error; it tells the first that it notices.
    fn objections(&self) -> Vec<&'static str> {
        let asked = self.asked();
        let is_bound = self.binding != Binding::Require || asked == Asked::ScramPlus;
        let is_met = self.demands.is_none_or(|demand| match demand {
            Asked::Scram | Asked::ScramPlus => matches!(asked, Asked::Scram | Asked::ScramPlus),
            Asked::Nothing | Asked::Password | Asked::Md5 => asked == demand,
        });
        let objections =
            [(!is_bound, "channel binding"), (!is_met, "authentication method requirement")];
        objections.into_iter().filter(|(objects, _)| *objects).map(|(_, part)| part).collect()
    }

    fn expect(&self, answer: &Result<String, String>) {
        let objections = self.objections();
        match answer {
            Ok(row) => {
                assert!(objections.is_empty(), "{self:?} got in: {row}");
                let ssl = self.upstream != Upstream::Plain;
                assert_eq!(*row, format!("acme {ssl} 2"), "{self:?}");
            }
            Err(error) => {
                let is_one = objections.iter().any(|part| error.contains(part));
                assert!(is_one, "{self:?}: {error}");
                assert!(!error.contains("FATAL"), "{self:?}, by the client itself: {error}");
            }
        }
    }

    fn conninfo(&self, daemon: &Daemon, authority: &Path) -> String {
        let tls = match self.client {
            Client::Plain => "sslmode=disable".to_owned(),
            Client::Tls => format!("sslmode=verify-full sslrootcert={}", authority.display()),
            Client::Direct => format!(
                "sslmode=verify-full sslnegotiation=direct sslrootcert={}",
                authority.display()
            ),
        };
        let binding = match self.binding {
            Binding::Disable => "disable",
            Binding::Prefer => "prefer",
            Binding::Require => "require",
        };
        let demands = match self.demands {
            None => "",
            Some(Asked::Nothing) => "require_auth=none",
            Some(Asked::Password) => "require_auth=password",
            Some(Asked::Md5) => "require_auth=md5",
            Some(Asked::Scram | Asked::ScramPlus) => "require_auth=scram-sha-256",
        };
        let (port, role) = (daemon.port(), self.method.role());
        format!(
            "host=localhost hostaddr=127.0.0.1 port={port} user={role}.acme dbname={TENANTS} \
             {tls} channel_binding={binding} {demands}"
        )
    }
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let authority = Authority::new("authority");
        let upstream = authority.certify("postgresql", &["localhost", "127.0.0.1"]);
        let own = authority.certify("multigres", &["localhost", "127.0.0.1"]);
        let cluster = Cluster::with_tls(&upstream, &authority);
        let files = Files::new();
        files.put("ca.pem", &authority.pem);
        for (name, identity) in [("own", &own), ("upstream", &upstream)] {
            files.put(&format!("{name}.pem"), &identity.chain);
            files.put(&format!("{name}.key"), &identity.key);
        }
        Stage { cluster, authority, files }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    /// A daemon that offers TLS, with this identity of the files.
    pub(crate) fn offering(&self, identity: &str) -> Run {
        Run::on(&self.cluster)
            .set("tls_cert", &self.file(&format!("{identity}.pem")))
            .set("tls_key", &self.file(&format!("{identity}.key")))
    }

    fn daemon(&self, upstream: Upstream) -> Daemon {
        let identity = if upstream == Upstream::SameCertificate { "upstream" } else { "own" };
        let run = self.offering(identity);
        let run = match upstream {
            Upstream::Plain => run.set("upstream_tls", "disable"),
            Upstream::Tls | Upstream::SameCertificate | Upstream::Direct => {
                run.set("upstream_tls", "verify-full").set("upstream_tls_ca", &self.file("ca.pem"))
            }
        };
        match upstream {
            Upstream::Direct => run.set("upstream_tls_negotiation", "direct").start(),
            Upstream::Plain | Upstream::Tls | Upstream::SameCertificate => run.start(),
        }
    }

    /// The upstream legs that this server can have.
    fn upstreams(&self) -> Vec<Upstream> {
        let is_able = self.version() >= 170_000;
        if !is_able {
            shortened("direct TLS to upstream needs PostgreSQL 17");
        }
        UPSTREAMS.into_iter().filter(|it| is_able || *it != Upstream::Direct).collect()
    }

    pub(crate) fn version(&self) -> u32 {
        let mut client = self.cluster.superuser("postgres");
        let row = client.query_one("show server_version_num", &[]).expect("a number");
        row.get::<_, String>(0).parse().expect("a number")
    }
}

/// The one that all tests of TLS share.
pub(crate) fn stage() -> &'static Stage {
    static SHARED: OnceLock<Stage> = OnceLock::new();
    SHARED.get_or_init(Stage::new)
}

fn cells(upstream: Upstream, clients: &[Client]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for &client in clients {
        for method in METHODS {
            for binding in BINDINGS {
                cells.push(Cell { upstream, client, method, binding, demands: None });
            }
        }
    }
    cells
}

#[test]
fn psql_meets_what_is_promised() {
    let stage = stage();
    let authority = stage.files.path().join("ca.pem");
    for upstream in stage.upstreams() {
        let daemon = stage.daemon(upstream);
        for cell in cells(upstream, &[Client::Plain, Client::Tls]) {
            let Some(answer) = libpq::psql(&cell.conninfo(&daemon, &authority), QUERY) else {
                return;
            };
            cell.expect(&answer);
        }
        daemon.wait_until_idle();
    }
}

#[test]
fn psycopg_meets_what_is_promised() {
    let stage = stage();
    let authority = stage.files.path().join("ca.pem");
    for upstream in stage.upstreams() {
        let daemon = stage.daemon(upstream);
        let clients = [Client::Plain, Client::Tls, Client::Direct];
        let mut cells = cells(upstream, &clients);
        for demand in [Asked::Nothing, Asked::Password, Asked::Md5, Asked::Scram] {
            let demands = Some(demand);
            cells.extend(
                self::cells(upstream, &clients).iter().map(|cell| Cell { demands, ..*cell }),
            );
        }
        let conninfos: Vec<_> =
            cells.iter().map(|cell| cell.conninfo(&daemon, &authority)).collect();
        let Some(answers) = libpq::psycopg(&conninfos, QUERY) else { return };
        for (cell, answer) in cells.iter().zip(&answers) {
            cell.expect(answer);
        }
        daemon.wait_until_idle();
    }
}

#[test]
fn the_postgres_crate_meets_what_is_promised() {
    let stage = stage();
    for upstream in stage.upstreams() {
        let daemon = stage.daemon(upstream);
        for cell in cells(upstream, &[Client::Plain, Client::Tls, Client::Direct]) {
            cell.expect(&by_crate(&cell, &daemon, &stage.authority));
        }
        daemon.wait_until_idle();
    }
}

fn by_crate(cell: &Cell, daemon: &Daemon, authority: &Authority) -> Result<String, String> {
    let mut config = postgres::Config::new();
    config.host("localhost").hostaddr([127, 0, 0, 1].into()).port(daemon.port());
    config.user(&format!("{}.acme", cell.method.role())).password(PASSWORD).dbname(TENANTS);
    config.channel_binding(match cell.binding {
        Binding::Disable => ChannelBinding::Disable,
        Binding::Prefer => ChannelBinding::Prefer,
        Binding::Require => ChannelBinding::Require,
    });
    config.ssl_mode(SslMode::Require);
    let connected = match cell.client {
        Client::Plain => config.ssl_mode(SslMode::Disable).connect(NoTls),
        Client::Tls => config.connect(authority.connector(None)),
        Client::Direct => {
            config.ssl_negotiation(SslNegotiation::Direct).connect(authority.connector(None))
        }
    };
    let full = |error: postgres::Error| format!("{error}: {:?}", std::error::Error::source(&error));
    let row = connected.and_then(|mut client| client.query_one(QUERY, &[])).map_err(full)?;
    let (tenant, ssl, rows): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
    Ok(format!("{tenant} {ssl} {rows}"))
}

#[test]
fn a_relay_across_two_certificates_says_what_stops_channel_binding() {
    let stage = stage();
    let run = stage.offering("own").set("auth", "relay").set("upstream_tls", "require");
    let daemon = run.start();
    let mut cell = Cell {
        upstream: Upstream::Tls,
        client: Client::Tls,
        method: Method::Scram,
        binding: Binding::Disable,
        demands: None,
    };
    let answer = by_crate(&cell, &daemon, &stage.authority);
    assert_eq!(answer.as_deref(), Ok("acme true 2"), "a client that does not bind is relayed");
    cell.binding = Binding::Prefer;
    let error = by_crate(&cell, &daemon, &stage.authority).expect_err("it binds");
    assert!(error.contains("28000") && error.contains("channel binding"), "{error}");
}
