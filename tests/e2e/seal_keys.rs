//! A table of seal keys that the role of a login can reach: no tenant gets in.

use postgres::NoTls;
use testing::{Cluster, Run, SEAL_KEY as KEY, SETUP, cluster, count, set_up_database, sqlstate};

use crate::sealed::start;

/// What opens the keys to app_user, what closes them again, and what the log says of it. The last
/// two need PostgreSQL 14.
const WAYS: [(&str, &str, &str); 9] = [
    (
        "grant select on multigres.seal_keys to app_user",
        "revoke select on multigres.seal_keys from app_user",
        "app_user=r/postgres",
    ),
    (
        "grant select on multigres.seal_keys to public",
        "revoke select on multigres.seal_keys from public",
        ",=r/postgres",
    ),
    (
        "grant update on multigres.seal_keys to reader",
        "revoke update on multigres.seal_keys from reader",
        "reader=w/postgres",
    ),
    (
        "grant trigger on multigres.seal_keys to public",
        "revoke trigger on multigres.seal_keys from public",
        ",=t/postgres",
    ),
    (
        "grant select (inner_pad) on multigres.seal_keys to reader",
        "revoke select (inner_pad) on multigres.seal_keys from reader",
        "a column of their table is granted",
    ),
    (
        "alter table multigres.seal_keys owner to app_user",
        "alter table multigres.seal_keys owner to postgres",
        "the role can act as their owner",
    ),
    (
        "alter table multigres.seal_keys owner to reader",
        "alter table multigres.seal_keys owner to postgres",
        "the role can act as their owner",
    ),
    (
        "grant pg_read_all_data to app_user",
        "revoke pg_read_all_data from app_user",
        "the role can act as pg_read_all_data",
    ),
    (
        "grant pg_write_all_data to app_user",
        "revoke pg_write_all_data from app_user",
        "or pg_write_all_data",
    ),
];

#[test]
fn a_role_that_reaches_the_keys_is_neither_sealed_for_nor_let_in() {
    let cluster = Cluster::start();
    let mut owner = cluster.superuser("postgres");
    owner
        .batch_execute(&format!(
            "{setup}; create role keeper; create role reader noinherit; grant reader to app_user;
             create role other_user login; grant app_user to other_user;
             select multigres_seal('{KEY}')",
            setup = *SETUP
        ))
        .unwrap();
    let daemon = start(Run::on(&cluster).set("verify_ttl", "0"), KEY);
    let login = |role: &str| {
        daemon.config(&format!("{role}.acme")).dbname("postgres").connect(NoTls).map(drop)
    };
    let reads_all = count(&mut owner, "pg_roles where rolname = 'pg_read_all_data'") > 0;
    let ways = WAYS.iter().take(if reads_all { WAYS.len() } else { WAYS.len() - 2 });
    login("app_user").unwrap();
    login("other_user").unwrap();
    for (open, close, how) in ways {
        owner.batch_execute(open).unwrap();
        for role in ["app_user", "other_user"] {
            let error = login(role).expect_err(open);
            assert_eq!(sqlstate(&error), "08004", "{open}");
            let error = error.as_db_error().unwrap();
            assert!(error.detail().unwrap().contains("keys of the seal"), "{error:?}");
            assert!(error.hint().unwrap().contains("change the key"), "{error:?}");
            daemon.wait_for_log(how);
        }
        let error = owner.batch_execute(&format!("select multigres_seal('{KEY}')"));
        assert_eq!(sqlstate(&error.unwrap_err()), "55000", "{open}");
        owner.batch_execute(close).unwrap();
        login("app_user").unwrap();
        owner.batch_execute(&format!("select multigres_seal('{KEY}')")).unwrap();
    }
    // A right of somebody who serves no tenants counts too: they may be granted to app_user later.
    owner.batch_execute("grant select on multigres.seal_keys to keeper").unwrap();
    assert_eq!(sqlstate(&login("app_user").unwrap_err()), "08004");
    let error = owner.batch_execute(&format!("select multigres_seal('{KEY}')"));
    assert_eq!(sqlstate(&error.unwrap_err()), "55000");
}

#[test]
fn a_table_of_keys_that_is_where_older_ones_were_is_looked_at_too() {
    let database = set_up_database("keys_older");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(&format!(
            "create table notes (tenant_id text not null, body text);
             select multigres_protect('notes');
             select multigres_seal('{KEY}', 'none')"
        ))
        .unwrap();
    let daemon = start(Run::on(cluster()).set("verify_ttl", "0"), KEY);
    let login = || daemon.config("app_user.acme").dbname(&database).connect(NoTls).map(drop);
    owner.batch_execute(&format!("select multigres_seal('{KEY}')")).unwrap();
    login().unwrap();
    owner
        .batch_execute(
            "create table public.multigres_seal_keys as table multigres.seal_keys;
             grant select on all tables in schema public to app_user",
        )
        .unwrap();
    assert_eq!(sqlstate(&login().unwrap_err()), "08004");
    daemon.wait_for_log("app_user=r/postgres");
    // Anybody may lay a table there; that stops no login.
    owner.batch_execute("alter table public.multigres_seal_keys owner to trust_user").unwrap();
    login().unwrap();
}
