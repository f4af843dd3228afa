//! What an end-to-end test stands on: a PostgreSQL cluster, the daemon, a raw client, a fake
//! upstream. Knows nothing about any one test.

mod certificates;
mod cluster;
mod daemon;
mod database;
mod fake_upstream;
pub(crate) mod libpq;
mod log;
mod raw;
mod seal;
mod shop;
mod supervised;
mod tls_raw;

pub(crate) use certificates::{Authority, Files, Identity};
pub(crate) use cluster::{Cluster, PASSWORD, TENANTS, cluster, program};
pub(crate) use daemon::{Daemon, Reader, Run, Status};
pub(crate) use database::{
    GUARD, SETUP, TEARDOWN, UNGUARD, count, empty_database, set_up_database,
};
pub(crate) use fake_upstream::{FakeUpstream, Tamper, relay, swallow};
pub(crate) use raw::{ErrorFields, Message, Raw, startup_message};
pub(crate) use seal::{SEAL_KEY, SealedLogin, TENANT_VARIABLE, sealed_options};
pub(crate) use shop::{Owner, Shop};
pub(crate) use supervised::{Watchdog, send_signal};
pub(crate) use tls_raw::{
    Offer, SSL_REQUEST, TlsClient, asked_tls_client, asked_tls_server, tls_client, tls_server,
};

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use postgres::Client;
use socket2::{Domain, Socket, Type};

/// Longest wait for anything that should happen at once; a test that reaches it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// How long one daemon may run: longer than any test, shorter than a reader's patience.
pub(crate) const LIFETIME_MAX: Duration = Duration::from_secs(60);

/// Says that a test asked for less than elsewhere, past the harness, which keeps the output of
/// tests that pass to itself: `scripts/test-matrix` puts it into its closing lines.
pub(crate) fn shortened(why: &str) {
    writeln!(io::stderr(), "\nshortened: {why}").expect("standard error takes it");
}

/// The five-letter code of an error that PostgreSQL (or Multigres in its place) reported.
///
/// # Panics
/// When the error did not come as an ErrorResponse: a reset, say, or a closed socket.
pub(crate) fn sqlstate(error: &postgres::Error) -> &str {
    match error.code() {
        Some(code) => code.code(),
        None => panic!("an error without an SQLSTATE: {error:?}"),
    }
}

/// A port of 127.0.0.1 on which nobody listens, and nobody else can while the socket lives.
pub(crate) fn dead_port() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("it is bound").as_socket().expect("it is TCP");
    (socket, address.port())
}

/// The names in `contacts`, as far as the policies show them.
pub(crate) fn contacts(client: &mut Client) -> Vec<String> {
    let rows = client.query("select name from contacts order by id", &[]).expect("a select");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Roles of `roles.sql` that row-level security does not hold, by themselves or by membership.
pub(crate) const UNBOUND_ROLES: [&str; 5] =
    ["other_superuser", "bypassrls_user", "superuser_member", "bypassrls_member", "distant_member"];

/// What `contacts` holds for the tenants acme and globex.
pub(crate) const ACME: [&str; 2] = ["Ada", "Alan"];
pub(crate) const GLOBEX: [&str; 3] = ["Grace", "Guido", "Gerald"];

/// Tenant, current user and session user of a session.
pub(crate) fn bound(client: &mut Client) -> [Option<String>; 3] {
    let sql = "select current_setting('app.current_tenant_id', true), current_user::text,
               session_user::text";
    let row = client.query_one(sql, &[]).expect("a select");
    [row.get(0), row.get(1), row.get(2)]
}

/// The same as [`bound`], of a session that is bound to this tenant as this role.
pub(crate) fn binding(tenant: &str, role: &str) -> [Option<String>; 3] {
    [Some(tenant.to_owned()), Some(role.to_owned()), Some(role.to_owned())]
}
