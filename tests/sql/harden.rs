//! What multigres_harden() closes between sessions of one role, and what it cannot: each attack
//! is tried before, after, and once multigres_unharden() has taken it back.

use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, NoTls};
use testing::linter::{clean, findings, version};
use testing::{Cluster, DEADLINE, SETUP, cluster, count, sqlstate};

/// Statements of one tenant's session; PID is the backend of another tenant's.
const ATTACKS: [(&str, &str); 20] = [
    ("signals to other sessions", "select pg_cancel_backend(PID)"),
    ("watching other sessions", "select query from pg_stat_activity where pid = PID"),
    ("watching other sessions", "select query from pg_stat_get_activity(PID)"),
    (
        "watching other sessions",
        "select pg_stat_get_backend_activity(i) from pg_stat_get_backend_idset() as i",
    ),
    ("watching other sessions", "select * from pg_locks"),
    ("watching other sessions", "select pg_blocking_pids(PID)"),
    ("watching other sessions", "select * from pg_prepared_xacts"),
    ("counts of rows", "select n_live_tup from pg_stat_user_tables"),
    ("counts of rows", "select seq_tup_read from pg_stat_xact_user_tables"),
    ("counts of rows", "select pg_stat_get_xact_tuples_returned('contacts'::regclass)"),
    ("counts of rows", "select heap_blks_read from pg_statio_user_tables"),
    (
        "triggers on tables",
        "create function pg_temp.spy() returns trigger language plpgsql as 'begin return new; end';
         create trigger spying before insert on news for each row execute function pg_temp.spy()",
    ),
    ("large objects", "select lo_create(0)"),
    ("large objects", "select lo_creat(-1)"),
    ("large objects", "select lo_from_bytea(0, 'x')"),
    ("large objects", "select lo_get(1) where exists (select from pg_largeobject_metadata)"),
    ("advisory locks", "select pg_advisory_lock(1)"),
    ("advisory locks", "select pg_try_advisory_xact_lock_shared(1, 2)"),
    ("creating objects", "create function open.trap() returns int language sql as 'select 1'"),
    ("creating objects", "create schema app_user"),
];

#[test]
fn what_is_closed_works_before_and_again_after_unharden() {
    let mut owner = clean("harden_attacks");
    owner
        .batch_execute(
            "create schema open; grant usage, create on schema open to app_user;
             grant create on database harden_attacks to tenant_tables;
             create table news (line text); grant all on news to app_user",
        )
        .unwrap();
    let mut victim = app_user("harden_attacks");
    let pid: i32 = victim.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
    victim.batch_execute("select 'the secret of another tenant'").unwrap();
    for hardened in [false, true, false] {
        if hardened {
            let rows = harden(&mut owner, "multigres_harden()");
            for (item, _) in ATTACKS {
                assert!(rows.contains(&(item.to_owned(), true)), "{item}: {rows:?}");
            }
        } else {
            unharden(&mut owner);
        }
        for (_, attack) in ATTACKS {
            let attack = attack.replace("PID", &pid.to_string());
            let mut client = app_user("harden_attacks");
            let result = client.batch_execute(&format!("begin; {attack}; rollback"));
            let code = result.as_ref().map_err(sqlstate);
            assert_eq!(code, if hardened { Err("42501") } else { Ok(&()) }, "{attack}");
        }
    }
}

#[test]
fn another_sessions_statement_is_seen_by_those_alone_who_may_watch() {
    let mut owner = clean("harden_watch");
    owner
        .batch_execute(
            "create role watcher login; grant pg_read_all_stats to watcher;
             create role stopper login; grant pg_signal_backend to stopper",
        )
        .unwrap();
    let mut victim = app_user("harden_watch");
    let pid: i32 = victim.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
    victim.batch_execute("select 'a secret'").unwrap();
    let watch = format!("select query from pg_stat_activity where pid = {pid}");
    let query: String = app_user("harden_watch").query_one(&watch, &[]).unwrap().get(0);
    assert_eq!(query, "select 'a secret'");
    harden(&mut owner, "multigres_harden()");
    let error = app_user("harden_watch").query(&watch, &[]).unwrap_err();
    assert_eq!(sqlstate(&error), "42501");
    let mut watcher = direct("watcher", "harden_watch");
    let query: String = watcher.query_one(&watch, &[]).unwrap().get(0);
    assert_eq!(query, "select 'a secret'");
    let stop = format!("select pg_terminate_backend({pid})");
    assert_eq!(sqlstate(&watcher.query(&stop, &[]).unwrap_err()), "42501");
    assert_eq!(sqlstate(&app_user("harden_watch").query(&stop, &[]).unwrap_err()), "42501");
    victim.batch_execute("select 'not stopped'").unwrap();
    let stopped: bool = direct("stopper", "harden_watch").query_one(&stop, &[]).unwrap().get(0);
    assert!(stopped);
    cluster().wait_until_gone(pid);
}

#[test]
fn temporary_tables_of_another_session_outlive_drop_owned() {
    // Its own cluster: DROP OWNED looks into what belongs to all databases.
    let cluster = Cluster::start();
    let mut owner = cluster.superuser("postgres");
    owner.batch_execute(&SETUP).unwrap();
    let app_user = || cluster.direct("app_user", "postgres").connect(NoTls).unwrap();
    for hardened in [false, true, false] {
        if hardened {
            let rows = harden(&mut owner, "multigres_harden()");
            assert!(rows.contains(&("DROP OWNED".to_owned(), true)), "{rows:?}");
        } else {
            unharden(&mut owner);
        }
        let mut victim = app_user();
        victim.batch_execute("create temp table mine (a int)").unwrap();
        let attack = app_user().batch_execute("drop owned by app_user");
        let code = attack.as_ref().map_err(sqlstate);
        assert_eq!(code, if hardened { Err("42501") } else { Ok(&()) });
        assert_eq!(victim.batch_execute("select from mine").is_ok(), hardened);
        owner.batch_execute("begin; drop owned by app_user; rollback").unwrap();
    }
}

#[test]
fn each_right_is_given_back_as_it_was() {
    let mut owner = clean("harden_rights");
    owner
        .batch_execute(
            "grant execute on function lo_create(oid) to app_user with grant option;
             revoke execute on function lo_unlink(oid) from public;
             grant execute on function pg_lock_status() to trust_user, pg_read_all_stats;
             grant execute on function pg_cancel_backend(int) to tenant_tables;
             grant create on schema public to public;
             grant create, temporary on database harden_rights to app_user with grant option",
        )
        .unwrap();
    let before = rights(&mut owner);
    let first = harden(&mut owner, "multigres_harden()");
    let hardened = rights(&mut owner);
    assert_ne!(hardened, before);
    assert_eq!(harden(&mut owner, "multigres_harden()"), first, "a second time");
    owner.batch_execute(&SETUP).unwrap();
    assert_eq!(harden(&mut owner, "multigres_harden()"), first, "after a second setup");
    unharden(&mut owner);
    assert_eq!(rights(&mut owner), before);
    let left = "select not exists (select from multigres.hardening)
                and not exists (
                    select from pg_event_trigger where evtname = 'multigres_keep_owned')";
    assert!(owner.query_one(left, &[]).unwrap().get::<_, bool>(0));
    unharden(&mut owner);
    assert_eq!(rights(&mut owner), before, "nothing is left to undo");
}

#[test]
fn what_the_application_needs_is_kept_open_by_name() {
    let mut owner = clean("harden_keep");
    let rows = harden(&mut owner, "multigres_harden('{advisory locks,DROP OWNED}')");
    assert!(!rows.iter().any(|(item, _)| item == "advisory locks" || item == "DROP OWNED"));
    let mut client = app_user("harden_keep");
    client.batch_execute("select pg_advisory_lock(1)").unwrap();
    let guards = "pg_event_trigger where evtname = 'multigres_keep_owned'";
    assert_eq!(count(&mut owner, guards), 0);
    assert_eq!(sqlstate(&client.batch_execute("select lo_create(0)").unwrap_err()), "42501");
    let error = owner.batch_execute("select multigres_harden('{advisory lock}')").unwrap_err();
    assert_eq!(sqlstate(&error), "22023");
}

#[test]
fn what_cannot_be_closed_is_reported_and_still_works() {
    // Its own cluster: what app_user does to itself here would meet every other test.
    let cluster = Cluster::start();
    let mut owner = cluster.superuser("postgres");
    for database in ["tenancy", "beside"] {
        owner.batch_execute(&format!("create database {database}")).unwrap();
    }
    let mut owner = cluster.superuser("tenancy");
    owner.batch_execute(&SETUP).unwrap();
    let rows = harden(&mut owner, "multigres_harden()");
    let open: Vec<&str> =
        rows.iter().filter(|(_, done)| !done).map(|(item, _)| item.as_str()).collect();
    let mut expected = vec![
        "its own password",
        "its own settings",
        "LISTEN and NOTIFY",
        "LOCK TABLE",
        "sizes and counts",
        "shared resources",
        "other databases",
    ];
    if version(&mut owner) < 15 {
        expected.insert(2, "membership in it");
    }
    assert_eq!(open, expected);
    owner
        .batch_execute(
            "create table contacts (tenant_id text not null, id int, primary key (tenant_id, id));
             select multigres_protect('contacts')",
        )
        .unwrap();
    let login = |database: &str| cluster.direct("app_user", database).connect(NoTls).unwrap();
    let mut victim = login("tenancy");
    victim.batch_execute("listen gossip").unwrap();
    let mut client = login("tenancy");
    client
        .batch_execute(
            "notify gossip, 'heard'; select pg_notify('gossip', 'heard too');
             select pg_relation_size('contacts')",
        )
        .unwrap();
    let heard = victim.notifications().timeout_iter(DEADLINE).take(2).count().unwrap();
    assert_eq!(heard, 2);
    client
        .batch_execute(
            "begin; lock table contacts in access exclusive mode; rollback;
             alter role app_user password 'taken'; alter role app_user set work_mem = '64kB'",
        )
        .unwrap();
    let work_mem: String = login("tenancy").query_one("show work_mem", &[]).unwrap().get(0);
    assert_eq!(work_mem, "64kB", "met by the next login");
    // The context is not such a setting.
    let forged = "alter role app_user set app.current_tenant_id = 'globex'";
    assert_eq!(sqlstate(&client.batch_execute(forged).unwrap_err()), "42501");
    let grant = client.batch_execute("grant app_user to trust_user");
    assert_eq!(grant.is_ok(), version(&mut owner) < 15);
}

#[test]
fn another_database_is_another_way_in_until_it_is_closed() {
    let cluster = Cluster::start();
    cluster.superuser("postgres").batch_execute("create database beside").unwrap();
    let mut owner = cluster.superuser("postgres");
    owner.batch_execute(&SETUP).unwrap();
    harden(&mut owner, "multigres_harden()");
    let login = |database: &str| cluster.direct("app_user", database).connect(NoTls).unwrap();
    let mut victim = login("postgres");
    let pid: i32 = victim.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
    let mut client = login("postgres");
    let stop = format!("select pg_terminate_backend({pid})");
    assert_eq!(sqlstate(&client.batch_execute(&stop).unwrap_err()), "42501");
    let mut beside = login("beside");
    beside.batch_execute(&stop).unwrap();
    cluster.wait_until_gone(pid);
    // The note's own remedy.
    drop(beside);
    let others = "select quote_ident(datname) from pg_database
                  where datallowconn and datname <> current_database()";
    for row in owner.query(others, &[]).unwrap() {
        let database: String = row.get(0);
        let revoke = format!("revoke connect on database {database} from public");
        owner.batch_execute(&revoke).unwrap();
    }
    let error = cluster.direct("app_user", "beside").connect(NoTls).err().unwrap();
    assert_eq!(sqlstate(&error), "42501");
    let rows = harden(&mut owner, "multigres_harden()");
    assert!(!rows.iter().any(|(item, _)| item == "other databases"), "{rows:?}");
}

#[test]
fn an_owner_who_is_no_superuser_closes_what_is_his_and_is_told_the_rest() {
    let cluster = Cluster::start();
    let mut superuser = cluster.superuser("postgres");
    superuser.batch_execute("create role keeper login createrole").unwrap();
    superuser.batch_execute("create database kept owner keeper").unwrap();
    let mut superuser = cluster.superuser("kept");
    superuser.batch_execute("alter schema public owner to keeper").unwrap();
    let mut owner = cluster.direct("keeper", "kept").connect(NoTls).unwrap();
    owner.batch_execute(&SETUP).unwrap();
    owner.batch_execute("grant create on database kept to app_user").unwrap();
    let closed = |rows: &[(String, bool)]| -> Vec<String> {
        rows.iter().filter(|(_, done)| *done).map(|(item, _)| item.clone()).collect()
    };
    let creates = "database_create_granted | database kept";
    assert_eq!(findings(&mut owner), [creates]);
    assert_eq!(
        closed(&harden(&mut owner, "multigres_harden()")),
        ["triggers on tables", "creating objects"]
    );
    assert_eq!(findings(&mut owner), [""; 0]);
    let mut client = cluster.direct("app_user", "kept").connect(NoTls).unwrap();
    client.batch_execute("select lo_create(0)").unwrap();
    let error = client.batch_execute("create schema app_user").unwrap_err();
    assert_eq!(sqlstate(&error), "42501");

    // A superuser closes the rest; then the owner can undo his part alone, and set up again.
    assert_eq!(closed(&harden(&mut superuser, "multigres_harden()")).len(), 8);
    owner.batch_execute(&SETUP).unwrap();
    let undo = "select bool_and(done) from multigres_unharden() where what = $1";
    let undone: bool = owner.query_one(undo, &[&"creating objects"]).unwrap().get(0);
    assert!(undone);
    client.batch_execute("create schema app_user").unwrap();
    assert_eq!(sqlstate(&client.batch_execute("select lo_create(0)").unwrap_err()), "42501");
    unharden(&mut superuser);
    client.batch_execute("select lo_create(0)").unwrap();
}

fn app_user(database: &str) -> Client {
    direct("app_user", database)
}

fn direct(user: &str, database: &str) -> Client {
    cluster().direct(user, database).connect(NoTls).unwrap()
}

/// What was looked at, and whether it is closed.
fn harden(owner: &mut Client, call: &str) -> Vec<(String, bool)> {
    let rows = owner.query(&format!("select what, done, note from {call}"), &[]).unwrap();
    assert!(rows.iter().all(|row| !row.get::<_, &str>("note").is_empty()));
    rows.iter().map(|row| (row.get("what"), row.get("done"))).collect()
}

fn unharden(owner: &mut Client) {
    let rows = owner.query("select what from multigres_unharden() where not done", &[]).unwrap();
    assert!(rows.is_empty(), "{rows:?}");
}

/// Who has which right on functions, schemas and this database. Superusers' own are left out.
fn rights(owner: &mut Client) -> Vec<String> {
    let sql = "
        select concat_ws(' ', o.object, a.grantee::regrole, a.privilege_type, a.is_grantable)
        from (
            select oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)) from pg_proc
            union all
            select nspname, coalesce(nspacl, acldefault('n', nspowner)) from pg_namespace
            where nspname !~ '^pg_'
            union all
            select datname, coalesce(datacl, acldefault('d', datdba)) from pg_database
            where datname = current_database()
        ) as o(object, acl), aclexplode(o.acl) as a
        order by 1";
    owner.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}
