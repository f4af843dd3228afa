//! What tests share: a private PostgreSQL cluster, the daemon as a process, clients and upstreams
//! by hand, certificates; for tests in memory, a session and a network. Knows nothing of any test.

pub mod certificates;
mod cluster;
mod daemon;
mod database;
mod fake_upstream;
pub mod libpq;
pub mod linter;
mod log;
mod managed;
pub mod network;
mod peer;
mod processor;
mod raw;
mod schema_tools;
mod seal;
pub mod session;
mod supervised;
mod tls_raw;

pub use certificates::{Authority, Certified, Files};
pub use cluster::{Cluster, PASSWORD, TENANTS, TENANTS_SQL, cluster, program};
pub use daemon::{Daemon, Reader, Run, Status};
pub use database::{
    GUARD, SETUP, TEARDOWN, UNGUARD, as_squatter, count, empty_database, set_up_database,
};
pub use fake_upstream::{FakeUpstream, Tamper, relay, swallow};
pub use managed::Managed;
pub use peer::Peer;
pub use processor::{processor_time, processor_time_with_children};
pub use raw::{ErrorFields, Message, Raw};
pub use rustix::process::Signal;
pub use schema_tools::{python_orms, schema_tools};
pub use seal::{SEAL_KEY, SealedLogin, TENANT_VARIABLE, sealed_options};
pub use session::startup as startup_message;
pub use supervised::{Watchdog, send_signal};
pub use tls_raw::{
    Offer, SSL_REQUEST, TlsClient, asked_tls_client, asked_tls_server, tls_client, tls_server,
};

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postgres::Client;
use socket2::{Domain, Socket, Type};

/// Longest wait for anything that should happen at once; a test that reaches it has failed. Long,
/// since suites run side by side, and a busy machine halts them all for seconds.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How long one daemon may run: longer than any test, shorter than a reader's patience.
pub const LIFETIME_MAX: Duration = Duration::from_secs(180);

/// The daemon's program, which cargo builds before its tests and puts beside the folder of theirs.
pub fn multigres() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    folder.join("multigres")
}

/// Says that a test asked for less than elsewhere, past the harness, which keeps the output of
/// tests that pass to itself: `scripts/test-matrix` puts it into its closing lines.
pub fn shortened(why: &str) {
    writeln!(io::stderr(), "\nshortened: {why}").expect("standard error takes it");
}

/// The five-letter code of an error that PostgreSQL (or Multigres in its place) reported.
///
/// # Panics
/// When the error did not come as an ErrorResponse: a reset, say, or a closed socket.
pub fn sqlstate(error: &postgres::Error) -> &str {
    match error.code() {
        Some(code) => code.code(),
        None => panic!("an error without an SQLSTATE: {error:?}"),
    }
}

/// A port of 127.0.0.1 on which nobody listens, and nobody else can while the socket lives.
pub fn dead_port() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("it is bound").as_socket().expect("it is TCP");
    (socket, address.port())
}

/// The names in `contacts`, as far as the policies show them.
pub fn contacts(client: &mut Client) -> Vec<String> {
    let rows = client.query("select name from contacts order by id", &[]).expect("a select");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Roles of `roles.sql` that row-level security does not hold, by themselves or by membership.
pub const UNBOUND_ROLES: [&str; 5] =
    ["other_superuser", "bypassrls_user", "superuser_member", "bypassrls_member", "distant_member"];

/// What `contacts` holds for the tenants acme and globex.
pub const ACME: [&str; 2] = ["Ada", "Alan"];
pub const GLOBEX: [&str; 3] = ["Grace", "Guido", "Gerald"];

/// Tenant, current user and session user of a session.
pub fn bound(client: &mut Client) -> [Option<String>; 3] {
    let sql = "select current_setting('app.current_tenant_id', true), current_user::text,
               session_user::text";
    let row = client.query_one(sql, &[]).expect("a select");
    [row.get(0), row.get(1), row.get(2)]
}

/// The same as [`bound`], of a session that is bound to this tenant as this role.
pub fn binding(tenant: &str, role: &str) -> [Option<String>; 3] {
    [Some(tenant.to_owned()), Some(role.to_owned()), Some(role.to_owned())]
}
