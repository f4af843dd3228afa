//! What FORCE ROW LEVEL SECURITY does to the owner of a protected table, and the two ways that the
//! documentation gives them: to fail loudly, and to work on all rows inside one transaction.

use std::process::Command;

use postgres::Client;
use testing::{SETUP, cluster, count, empty_database, program, shortened, sqlstate};

#[test]
fn an_owner_is_held_silently_unless_row_security_is_off() {
    let database = owned("owner_loud");
    let mut owner = owner(&database);
    assert_eq!(count(&mut owner, "app.contacts"), 0, "silent");
    assert_eq!(owner.execute("update app.contacts set name = 'x'", &[]).unwrap(), 0, "silent");
    owner.batch_execute("set row_security = off").unwrap();
    for query in [
        "select * from app.contacts",
        "update app.contacts set name = 'x'",
        "delete from app.contacts",
        "copy app.contacts to stdout",
        "create materialized view app.copied as select * from app.contacts",
    ] {
        let error = owner.batch_execute(query).expect_err(query);
        assert_eq!(sqlstate(&error), "42501", "{query}: {error}");
    }
    assert_eq!(names(&database), ["Ada", "Alan", "Grace"]);
}

#[test]
fn what_an_owner_makes_of_a_protected_table_is_empty_or_refused() {
    let database = owned("owner_copies");
    let mut owner = owner(&database);
    owner
        .batch_execute("create materialized view app.copied as select * from app.contacts")
        .unwrap();
    assert_eq!(count(&mut owner, "app.copied"), 0, "made empty, silently");
    owner.batch_execute("refresh materialized view app.copied").unwrap();
    assert_eq!(count(&mut owner, "app.copied"), 0, "and refreshed empty");
    let copy = owner.batch_execute("copy app.contacts (tenant_id) from stdin").unwrap_err();
    assert_eq!(sqlstate(&copy), "0A000", "{copy}");

    let Some(dump) = pg_dump(&database, &[]) else { return };
    assert!(dump.unwrap_err().contains("query would be affected by row-level security policy"));
    let silent = pg_dump(&database, &["--enable-row-security"]).unwrap().unwrap();
    assert!(silent.contains("COPY app.contacts") && !silent.contains("Grace"), "{silent}");
}

#[test]
fn an_owner_works_on_the_rows_of_all_tenants_until_the_end_of_the_transaction() {
    let database = owned("owner_maintains");
    let mut owner = owner(&database);
    let mut work = owner.transaction().unwrap();
    work.batch_execute("select multigres_maintain('app.contacts')").unwrap();
    assert_eq!(work.execute("update app.contacts set name = upper(name)", &[]).unwrap(), 3);
    let others = cluster()
        .direct("app_user", &database)
        .options("-c app.current_tenant_id=acme -c lock_timeout=50ms")
        .connect(postgres::NoTls)
        .unwrap()
        .query("select * from app.contacts", &[])
        .unwrap_err();
    assert_eq!(sqlstate(&others), "55P03", "the table is locked, and shows nothing");
    work.commit().unwrap();

    assert_eq!(names(&database), ["ADA", "ALAN", "GRACE"]);
    assert_is_forced(&database);
    assert_eq!(count(&mut owner, "app.contacts"), 0, "held again");
    let shown = cluster()
        .direct("app_user", &database)
        .options("-c app.current_tenant_id=acme")
        .connect(postgres::NoTls)
        .unwrap();
    assert_eq!(count(&mut { shown }, "app.contacts"), 2);
}

#[test]
fn a_transaction_of_maintenance_never_leaves_a_table_without_force() {
    let database = owned("owner_ends");
    let mut owner = owner(&database);
    for (what, ends_well) in [
        ("begin; select multigres_maintain('app.contacts'); commit", true),
        ("begin; select multigres_maintain('app.contacts'); rollback", true),
        // In a transaction of its own.
        ("select multigres_maintain('app.contacts')", true),
        (
            "begin; select multigres_maintain('app.contacts'); savepoint here; \
             select multigres_maintain('app.contacts'); rollback to here; commit",
            true,
        ),
        (
            "begin; select multigres_maintain('app.contacts'); \
             alter table app.contacts rename to people; \
             alter table app.people add column age int default 30; commit",
            true,
        ),
        ("alter table app.people rename to contacts", true),
        (
            "begin; select multigres_maintain('app.contacts'); drop table app.contacts; rollback",
            true,
        ),
        (
            "begin; set constraints all immediate;
             select multigres_maintain('app.contacts'); commit",
            true,
        ),
        (
            "begin; select multigres_maintain('app.contacts');
             set constraints all immediate; commit",
            true,
        ),
        // The note of a maintenance that is over lets nothing pass.
        (
            "begin; select multigres_maintain('app.contacts'); set constraints all immediate;
             alter table app.contacts no force row level security; commit",
            false,
        ),
        // A constraint that is still to be checked stands in the way of ALTER TABLE.
        (
            "begin; select multigres_maintain('app.contacts'); \
             update app.contacts set parent = 1; commit",
            false,
        ),
        (
            "begin; select multigres_maintain('app.contacts'); \
             update app.contacts set parent = 1; \
             set constraints app.contacts_parent_fkey immediate; commit",
            true,
        ),
    ] {
        let ended = owner.batch_execute(what);
        assert_eq!(ended.is_ok(), ends_well, "{what}: {ended:?}");
        let _ = owner.batch_execute("rollback");
        assert_is_forced(&database);
    }
    assert_eq!(names(&database), ["Ada", "Alan", "Grace"]);
}

#[test]
fn a_foreign_key_that_is_added_in_maintenance_is_checked_against_every_row() {
    let database = owned("owner_references");
    let mut owner = owner(&database);
    owner
        .batch_execute(
            "create table app.calls (tenant_id text not null, contact int);
             insert into app.calls values ('acme', 3);
             create unique index on app.contacts (tenant_id, id)",
        )
        .unwrap();
    cluster().superuser(&database).batch_execute("select multigres_protect('app.calls')").unwrap();
    let add = "begin; select multigres_maintain('app.calls'), multigres_maintain('app.contacts');
               alter table app.calls add foreign key (tenant_id, contact)
                   references app.contacts (tenant_id, id); commit";
    let crossing = owner.batch_execute(add).unwrap_err();
    assert_eq!(sqlstate(&crossing), "23503", "{crossing}");
    owner.batch_execute("rollback").unwrap();
    assert_is_forced(&database);
    cluster().superuser(&database).batch_execute("update app.calls set contact = 1").unwrap();
    owner.batch_execute(add).unwrap();
    assert_is_forced(&database);
}

#[test]
fn partitions_and_heirs_are_maintained_with_their_table() {
    let database = owned("owner_parts");
    let mut owner = owner(&database);
    owner
        .batch_execute(
            "create table app.events (tenant_id text not null, at int not null)
                 partition by range (at);
             create table app.events_1 partition of app.events for values from (0) to (10);
             insert into app.events values ('acme', 1), ('globex', 2)",
        )
        .unwrap();
    cluster().superuser(&database).batch_execute("select multigres_protect('app.events')").unwrap();
    let mut work = owner.transaction().unwrap();
    work.batch_execute("select multigres_maintain('app.events')").unwrap();
    for table in ["app.events", "app.events_1"] {
        let rows: i64 =
            work.query_one(&format!("select count(*) from {table}"), &[]).unwrap().get(0);
        assert_eq!(rows, 2, "{table}");
    }
    work.commit().unwrap();
    assert_is_forced(&database);
}

#[test]
fn nobody_but_the_owner_opens_a_table() {
    let database = owned("owner_others");
    let mut tenant = cluster().direct("app_user", &database).connect(postgres::NoTls).unwrap();
    for call in [
        "select multigres_maintain('app.contacts')",
        "select multigres_maintenance('app.contacts')",
        "insert into multigres.maintained select 'app.contacts'::regclass, pg_current_xact_id()",
        "select * from multigres.maintained",
    ] {
        assert_eq!(sqlstate(&tenant.batch_execute(call).expect_err(call)), "42501", "{call}");
    }
    let mut owner = owner(&database);
    let open = owner.batch_execute("select multigres_maintain('app.parents')").unwrap_err();
    assert_eq!(sqlstate(&open), "55000", "it is not protected");
    // A note by itself opens nothing.
    owner.batch_execute("select multigres_maintenance('app.contacts')").unwrap();
    assert_eq!(count(&mut owner, "app.contacts"), 0);
    assert_is_forced(&database);

    // Whoever ends the transaction as somebody else gets nothing.
    cluster().superuser(&database).batch_execute("grant app_user to owner_of_app").unwrap();
    let switched = owner.batch_execute(
        "begin; select multigres_maintain('app.contacts'); update app.contacts set name = 'x';
         set role app_user; commit",
    );
    cluster().superuser(&database).batch_execute("revoke app_user from owner_of_app").unwrap();
    if switched.is_err() {
        assert_eq!(names(&database), ["Ada", "Alan", "Grace"], "rolled back");
    }
    assert_is_forced(&database);
}

/// A database in which `owner_of_app`, who is no superuser, owns a protected table.
fn owned(name: &str) -> String {
    let database = empty_database(name);
    let mut superuser = cluster().superuser(&database);
    superuser
        .batch_execute(
            "do $$ begin
                 create role owner_of_app login;
             exception when duplicate_object or unique_violation then null;
             end $$",
        )
        .unwrap();
    superuser.batch_execute(&SETUP).unwrap();
    superuser.batch_execute("create schema app authorization owner_of_app").unwrap();
    owner(&database)
        .batch_execute(
            "create table app.parents (id int primary key);
             insert into app.parents values (1);
             create table app.contacts (
                 id int generated always as identity primary key, tenant_id text not null,
                 name text, parent int references app.parents deferrable initially deferred);
             insert into app.contacts (tenant_id, name) values
                 ('acme', 'Ada'), ('acme', 'Alan'), ('globex', 'Grace')",
        )
        .unwrap();
    superuser.batch_execute("select multigres_protect('app.contacts')").unwrap();
    database
}

fn owner(database: &str) -> Client {
    cluster().direct("owner_of_app", database).connect(postgres::NoTls).unwrap()
}

/// What pg_dump says of the tables in schema app, as their owner; `None` without a pg_dump.
fn pg_dump(database: &str, options: &[&str]) -> Option<Result<String, String>> {
    let Some(program) = program("pg_dump") else {
        shortened("no pg_dump beside this server");
        return None;
    };
    let run = Command::new(program)
        .args(["-h", "127.0.0.1", "-p", &cluster().port().to_string(), "-U", "owner_of_app"])
        .args(["-n", "app"])
        .args(options)
        .arg(database)
        .output()
        .expect("pg_dump starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Some(if run.status.success() { Ok(text(run.stdout)) } else { Err(text(run.stderr)) })
}

fn names(database: &str) -> Vec<String> {
    let mut superuser = cluster().superuser(database);
    let rows = superuser.query("select name from app.contacts order by id", &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn assert_is_forced(database: &str) {
    let open = "pg_class where relnamespace = 'app'::regnamespace and oid in (select polrelid \
                from pg_policy) and not (relrowsecurity and relforcerowsecurity)";
    assert_eq!(count(&mut cluster().superuser(database), open), 0);
}
