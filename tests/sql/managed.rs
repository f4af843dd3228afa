//! Setup, check, harden and teardown by the administrator of a managed PostgreSQL: CREATEROLE and
//! CREATEDB, owner of the database, and no superuser. What that role cannot do is reported.

use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls};
use testing::linter::{findings, mend, version};
use testing::{Managed, SEAL_KEY, SETUP, TEARDOWN, count, sqlstate};

#[test]
fn an_administrator_is_told_what_only_a_superuser_could_close() {
    let managed = Managed::start();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let notices = Arc::clone(&heard);
    let mut config = managed.cluster.direct("managed_admin", "crm");
    config.notice_callback(move |notice| notices.lock().unwrap().push(notice.to_string()));
    let mut admin = config.connect(NoTls).unwrap();
    admin.batch_execute(&SETUP).unwrap();
    Managed::fill(&mut admin);
    let public = "schema_create_granted | schema public";
    // Before PostgreSQL 15 the schema was a superuser's, and everyone could create in it.
    let is_open = version(&mut admin) < 15;
    let expected = if is_open { vec![public, SILENT] } else { vec![SILENT] };
    assert_eq!(findings(&mut admin), expected);
    let told = "CREATE on schema public remains granted to PUBLIC";
    assert_eq!(heard.lock().unwrap().iter().any(|text| text.contains(told)), is_open);

    let done = |admin: &mut Client| -> Vec<(String, bool)> {
        let rows = admin.query("select what, done from multigres_harden()", &[]).unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    let rows = done(&mut admin);
    for what in [
        "signals to other sessions",
        "watching other sessions",
        "large objects",
        "advisory locks",
        "DROP OWNED",
        "its own password",
    ] {
        assert!(rows.contains(&(what.to_owned(), false)), "{what}: {rows:?}");
    }
    assert!(rows.contains(&("creating objects".to_owned(), !is_open)), "{rows:?}");
    assert_eq!(done(&mut admin), rows, "a second time");
    admin.batch_execute("select multigres_unharden()").unwrap();

    // A superuser closes the rest, by the administrator's own functions.
    let mut superuser = managed.cluster.superuser("crm");
    let rows = done(&mut superuser);
    assert!(rows.contains(&("large objects".to_owned(), true)), "{rows:?}");
    assert_eq!(findings(&mut superuser), [SILENT]);
    superuser.batch_execute("select multigres_unharden()").unwrap();
}

#[test]
fn an_administrator_finds_faults_and_mends_those_of_his_own() {
    let managed = Managed::start();
    let mut superuser = managed.cluster.superuser("crm");
    superuser
        .batch_execute(
            "alter schema public owner to managed_admin;
             revoke create on schema public from public",
        )
        .unwrap();
    let mut admin = managed.admin();
    admin.batch_execute(&SETUP).unwrap();
    Managed::fill(&mut admin);
    assert_eq!(findings(&mut admin), [SILENT]);
    mend(&mut admin);
    assert_eq!(findings(&mut admin), [""; 0]);
    // From its next login on what policies would hide is an error.
    let mut admin = managed.admin();
    assert_eq!(sqlstate(&admin.batch_execute("table contacts").unwrap_err()), "42501");
    admin
        .batch_execute(
            "set client_min_messages = error;
             alter table contacts disable row level security;
             create table notes (tenant_id text not null); create index on notes (tenant_id);
             grant select on notes to app_user;
             create publication changes for table contacts;
             create rule noted as on delete to contacts do also select 1;
             create function people() returns bigint language sql security definer
                 set search_path = pg_catalog, public, pg_temp as 'select 1::bigint'",
        )
        .unwrap();
    let found = findings(&mut admin);
    for object in ["table public.contacts", "table public.notes", "publication", "rule", "function"]
    {
        let is_told = found.iter().any(|found| found.object.starts_with(object));
        assert!(is_told, "{object}: {found:?}");
    }
    mend(&mut admin);
    assert_eq!(findings(&mut admin), [""; 0]);
    // What is a superuser's is found all the same.
    superuser
        .batch_execute(
            "create extension dblink; create extension postgres_fdw;
             create server far foreign data wrapper postgres_fdw;
             create user mapping for public server far options (user 'x', password 'y');
             create materialized view copied as select * from contacts;
             grant select on copied to app_user; grant pg_monitor to app_user",
        )
        .unwrap();
    let found = findings(&mut admin);
    for object in ["extension dblink", "foreign server far", "materialized view", "role app_user"] {
        let is_told = found.iter().any(|found| found.object.starts_with(object));
        assert!(is_told, "{object}: {found:?}");
    }
    superuser.batch_execute("revoke pg_monitor from app_user").unwrap();
}

#[test]
fn an_administrator_takes_everything_out_again() {
    let managed = Managed::start();
    let mut admin = managed.admin();
    admin.batch_execute("create table contacts (tenant_id text, id int)").unwrap();
    admin.batch_execute("insert into contacts values ('acme', 1)").unwrap();
    let left = "pg_class where relnamespace = 'public'::regnamespace
                and (relrowsecurity or relforcerowsecurity or relname <> 'contacts')";
    for sealed in [false, true] {
        admin.batch_execute(&SETUP).unwrap();
        admin.batch_execute("select multigres_protect('contacts'), multigres_harden()").unwrap();
        if sealed {
            admin.batch_execute(&format!("select multigres_seal('{SEAL_KEY}')")).unwrap();
        }
        assert_eq!(count(&mut admin, "contacts"), 0);
        admin.batch_execute(TEARDOWN).unwrap();
        assert_eq!(count(&mut admin, "contacts"), 1);
        assert_eq!(count(&mut admin, left), 0);
        assert_eq!(count(&mut admin, "pg_proc where pronamespace = 'public'::regnamespace"), 0);
        assert_eq!(count(&mut admin, "pg_policy"), 0);
        admin.batch_execute(TEARDOWN).unwrap();
    }
    // As teardown.sql says.
    let drop = "grant app_user to current_user; drop owned by app_user; drop role app_user";
    admin.batch_execute(drop).unwrap();
}

/// An owner who can have no BYPASSRLS.
const SILENT: &str = "owner_sees_no_row | role managed_admin | public.contacts";
