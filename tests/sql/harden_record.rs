//! The record of what multigres_harden() changed: nobody who could write it makes it run anything,
//! or give back what was never taken.

use postgres::{Client, NoTls};
use testing::linter::clean;
use testing::{SETUP, TEARDOWN, cluster, count, empty_database, sqlstate};

/// The record as an older version made it, and what default privileges made of it.
const OLDER: &str = "
    revoke create on schema public from public;
    create table public.multigres_hardening (
        position bigint generated always as identity primary key, item text not null,
        kind text not null, object text not null, privilege text not null, grantee text not null,
        grantable boolean not null, granted boolean not null);
    grant all on public.multigres_hardening to app_user;
    insert into public.multigres_hardening
        (item, kind, object, privilege, grantee, grantable, granted)
    values ('large objects', 'function', 'lo_unlink(oid)', 'EXECUTE', 'public', false, false),
        ('large objects', 'function', 'lo_unlink(oid)', 'EXECUTE', 'tenant_tables', false, true),
        ('signals to other sessions', 'function', 'pg_cancel_backend(integer)', 'EXECUTE',
            'public', false, false),
        ('signals to other sessions', 'function', 'pg_cancel_backend(integer)', 'EXECUTE',
            'pg_signal_backend', false, true);
    revoke execute on function lo_unlink(oid), pg_cancel_backend(int) from public;
    grant execute on function pg_cancel_backend(int) to pg_signal_backend";

/// Rows of a tenant's own making: item, kind, object, privilege, grantee, grantable, granted.
const FORGED: [&str; 13] = [
    "'x', 'event trigger', 'nothing; alter role app_user superuser', '', '', false, true",
    "'DROP OWNED', 'event trigger', 'guard', '', '', false, true",
    "'x', 'function', 'lo_create(oid)', 'EXECUTE', 'public; alter role app_user superuser', false,
     false",
    "'x', 'function to public; alter role app_user superuser; --', 'lo_create(oid)', 'EXECUTE',
     'public', false, false",
    "'large objects', 'function', 'lo_create(oid)', 'EXECUTE on function lo_export(oid, text) to
     public; grant execute', 'public', false, false",
    // PostgreSQL does not grant these to PUBLIC, so nobody can have taken them.
    "'large objects', 'function', 'lo_export(oid,text)', 'EXECUTE', 'public', false, false",
    "'large objects', 'function', 'lo_import(text)', 'EXECUTE', 'app_user', true, false",
    "'large objects', 'function', 'pg_read_file(text)', 'EXECUTE', 'public', false, false",
    "'creating objects', 'schema', 'public', 'CREATE', 'app_user', true, false",
    "'creating objects', 'database', current_database(), 'CREATE', 'public', false, false",
    "'triggers on tables', 'table', 'public.contacts', 'TRIGGER', 'app_user', false, false",
    "'statistics of statements', 'table', 'public.contacts', 'SELECT', 'public', false, false",
    // Taken from somebody who has it by his own right.
    "'large objects', 'function', 'lo_create(oid)', 'EXECUTE', 'trust_user', false, true",
];

#[test]
fn what_a_tenant_has_written_into_an_older_record_does_nothing() {
    let database = empty_database("record_older");
    let mut owner = cluster().superuser(&database);
    older(&mut owner);
    let before = rights(&mut owner);
    let error = owner.batch_execute(TEARDOWN).unwrap_err();
    assert_eq!(sqlstate(&error), "55000", "its functions would execute the record");
    owner.batch_execute("rollback").unwrap();
    owner.batch_execute(&SETUP).unwrap();
    assert_eq!(count(&mut owner, "pg_class where relname = 'multigres_hardening'"), 0);
    assert_eq!(count(&mut owner, "multigres.hardening"), 3);
    owner.batch_execute("select multigres_unharden()").unwrap();
    let after = rights(&mut owner);
    let changed: Vec<_> = after.iter().filter(|right| !before.contains(right)).collect();
    let given_back = ["lo_unlink(oid) public EXECUTE", "pg_cancel_backend(integer) public EXECUTE"];
    assert_eq!(changed, given_back);
    let taken: Vec<_> = before.iter().filter(|right| !after.contains(right)).collect();
    assert_eq!(taken, ["pg_cancel_backend(integer) pg_signal_backend EXECUTE"]);
    held(&mut owner);
    owner.batch_execute(TEARDOWN).unwrap();
    assert_eq!(rights(&mut owner), after);
    held(&mut owner);
}

#[test]
fn no_row_of_the_record_is_executed_whoever_has_written_it() {
    let mut owner = clean("record_forged");
    for forged in FORGED {
        let insert = format!(
            "insert into multigres.hardening
                 (item, kind, object, privilege, grantee, grantable, granted) values ({forged})"
        );
        owner.batch_execute(&insert).unwrap();
    }
    // By its owner's own hand, even so: what is no right of harden's stays what it is.
    owner
        .batch_execute(
            "delete from multigres.hardening where kind in ('schema', 'database')
                             or privilege = 'TRIGGER' or object ~ 'lo_(import|export|create)'",
        )
        .unwrap();
    let before = rights(&mut owner);
    owner.batch_execute("select multigres_unharden()").unwrap();
    assert_eq!(rights(&mut owner), before);
    assert_eq!(count(&mut owner, "multigres.hardening"), 0);
    held(&mut owner);
}

#[test]
fn the_record_is_its_owners_whatever_default_privileges_say() {
    let database = empty_database("record_defaults");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "alter default privileges grant all on tables to app_user;
             alter default privileges grant all on sequences to app_user;
             alter default privileges grant all on schemas to app_user",
        )
        .unwrap();
    for _ in 0..2 {
        owner.batch_execute(&SETUP).unwrap();
        owner.batch_execute("select multigres_harden()").unwrap();
        let reached = "pg_class where relnamespace = 'multigres'::regnamespace
            and (relkind = 'S' and has_sequence_privilege('app_user', oid, 'usage, select, update')
                or relkind <> 'S' and has_table_privilege('app_user', oid,
                    'select, insert, update, delete, truncate, references, trigger'))";
        assert_eq!(count(&mut owner, reached), 0);
    }
    let mut tenant = cluster().direct("app_user", &database).connect(NoTls).unwrap();
    let write = "insert into multigres.hardening values (default, '', '', '', '', '', false, true)";
    assert_eq!(sqlstate(&tenant.batch_execute(write).unwrap_err()), "42501");
    owner.batch_execute("select multigres_unharden()").unwrap();
    // One that somebody has opened since is not read.
    for opened in [
        "grant insert on multigres.hardening to app_user",
        "create function noted() returns trigger language plpgsql as 'begin return null; end';
         create trigger noting after delete on multigres.hardening execute function noted()",
    ] {
        owner.batch_execute(&format!("begin; {opened}")).unwrap();
        for call in ["select multigres_harden()", "select multigres_unharden()"] {
            owner.batch_execute("savepoint s").unwrap();
            let error = owner.batch_execute(call).unwrap_err();
            assert_eq!(sqlstate(&error), "55000", "{opened}: {call}: {error:?}");
            owner.batch_execute("rollback to s").unwrap();
        }
        owner.batch_execute("rollback").unwrap();
    }
}

/// A database of an older version, hardened, in which a tenant has written into the record.
fn older(owner: &mut Client) {
    owner.batch_execute(OLDER).unwrap();
    let database: String = owner.query_one("select current_database()::text", &[]).unwrap().get(0);
    let mut tenant = cluster().direct("app_user", &database).connect(NoTls).unwrap();
    for forged in FORGED {
        tenant
            .batch_execute(&format!(
                "insert into multigres_hardening
                     (item, kind, object, privilege, grantee, grantable, granted)
                 values ({forged})"
            ))
            .unwrap();
    }
}

/// No tenant has become anything.
fn held(owner: &mut Client) {
    assert_eq!(count(owner, "pg_roles where rolname = 'app_user' and rolsuper"), 0);
    let may = "pg_proc where proname in ('lo_export', 'lo_import', 'pg_read_file')
               and has_function_privilege('app_user', oid, 'execute')";
    assert_eq!(count(owner, may), 0);
}

/// Who else than a superuser has which right on functions of PostgreSQL, schemas and this database.
fn rights(owner: &mut Client) -> Vec<String> {
    let sql = "
        select distinct concat_ws(' ', o.object,
            case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee)::text end,
            a.privilege_type, case when a.is_grantable then 'grantable' end)
        from (
            select oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner))
            from pg_proc where pronamespace = 'pg_catalog'::regnamespace
            union all
            select nspname, coalesce(nspacl, acldefault('n', nspowner)) from pg_namespace
            where nspname = 'public'
            union all
            select relname, coalesce(relacl, acldefault('r', relowner)) from pg_class
            where relname = 'contacts'
            union all
            select datname, coalesce(datacl, acldefault('d', datdba)) from pg_database
            where datname = current_database()
        ) as o(object, acl), aclexplode(o.acl) as a
        where a.grantee <> 10
        order by 1";
    owner.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}
