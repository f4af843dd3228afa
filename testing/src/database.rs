//! Databases of a test's own, with `sql/setup.sql` in them. Knows nothing about any one test.

use std::sync::LazyLock;

use postgres::Client;

use crate::cluster;

/// `sql/setup.sql` with the files that it includes in their places.
pub static SETUP: LazyLock<String> = LazyLock::new(multigres::sql::setup);

pub const TEARDOWN: &str = multigres::sql::TEARDOWN;

/// Has the guard's event triggers look away, so that a test can break what they keep whole; what
/// they do themselves is in `tests/sql/event_guard.rs`.
pub const UNGUARD: &str = "alter event trigger multigres_guard disable;
     alter event trigger multigres_guard_drop disable;
     alter event trigger multigres_guard_schema disable;
     alter event trigger multigres_guard_start disable;";

/// The contrary of [`UNGUARD`].
pub const GUARD: &str = "alter event trigger multigres_guard enable always;
     alter event trigger multigres_guard_drop enable always;
     alter event trigger multigres_guard_schema enable always;
     alter event trigger multigres_guard_start enable always;";

/// A new database of this name in the shared cluster, with nothing in it.
pub fn empty_database(name: &str) -> String {
    let mut client = cluster().superuser("postgres");
    client.batch_execute(&format!("create database {name}")).expect("a name of the test's own");
    name.to_owned()
}

/// The same, with setup.sql loaded: a copy of one in which it was.
pub fn set_up_database(name: &str) -> String {
    static TEMPLATE: LazyLock<String> = LazyLock::new(|| {
        let database = empty_database("set_up_template");
        cluster().superuser(&database).batch_execute(&SETUP).expect("setup.sql");
        let gone = "select not exists (
            select from pg_stat_activity where datname = 'set_up_template')";
        cluster().wait_until(gone);
        database
    });
    let create = format!("create database {name} template {}", *TEMPLATE);
    cluster().superuser("postgres").batch_execute(&create).expect("a name of the test's own");
    name.to_owned()
}

/// How many rows there are: `count(client, "contacts where id > 2")`.
pub fn count(client: &mut Client, from: &str) -> i64 {
    client.query_one(&format!("select count(*) from {from}"), &[]).expect("a select").get(0)
}

/// Runs the SQL as `trust_user`, who may create objects in schema public for that long.
pub fn as_squatter(owner: &mut Client, sql: &str) {
    owner
        .batch_execute(&format!(
            "do $$ begin
                 execute format('grant create on database %I to trust_user', current_database());
             end $$;
             grant create on schema public to trust_user; set role trust_user; {sql};
             reset role; revoke create on schema public from trust_user;
             do $$ begin
                 execute format('revoke create on database %I from trust_user',
                     current_database());
             end $$"
        ))
        .unwrap();
}
