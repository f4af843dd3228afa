//! The table of seal keys: who may reach it, what becomes of one that another role may read or
//! write, and of the one that an older setup.sql has made.

use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls};
use testing::{
    SEAL_KEY as KEY, SETUP, SealedLogin, TEARDOWN, TENANT_VARIABLE as TENANT, UNGUARD, cluster,
    count, empty_database, sealed_options, set_up_database, sqlstate,
};

/// The table as the release before made it, with the keys of the present one, and its function,
/// which knew seals of version 1 alone.
const OLDER: &str = "
    select public.multigres_front(t.relation, false) from multigres.tables as t;
    create table public.multigres_seal_keys (
        id int generated always as identity primary key,
        inner_pad bytea not null unique,
        outer_pad bytea not null,
        bind text not null check (bind in ('address', 'none')),
        added timestamptz not null default now());
    insert into public.multigres_seal_keys (inner_pad, outer_pad, bind, added)
        select inner_pad, outer_pad, bind, added from multigres.seal_keys order by number;
    create or replace function public.multigres_context(variable text) returns text
        language plpgsql stable parallel restricted security definer
        as 'begin return null; end';
    create or replace function public.current_tenant_id() returns text
        language sql stable parallel restricted
        as $$ select public.multigres_context('app.current_tenant_id'::pg_catalog.text) $$;
    drop function public.multigres_own();
    drop function public.multigres_own(text);
    drop schema multigres cascade";

#[test]
fn a_setup_moves_the_keys_of_an_older_one_and_the_database_stays_sealed() {
    let database = sealed("keys_moved");
    let (warnings, mut owner) = listening(&database);
    let second = "1".repeat(64);
    owner.batch_execute(&format!("select multigres_seal('{second}', 'none')")).unwrap();
    owner.batch_execute(&format!("{UNGUARD} {OLDER}")).unwrap();
    for _ in 0..2 {
        owner.batch_execute(&SETUP).unwrap();
        assert_eq!(count(&mut owner, "pg_class where relname = 'multigres_seal_keys'"), 0);
        assert_eq!(count(&mut owner, "multigres.seal_keys"), 2);
        for key in [KEY, &second] {
            let login = SealedLogin { key, ..SealedLogin::new(&database, "acme") };
            assert_eq!(notes(&database, &login.seal()), 1);
            assert_eq!(notes(&database, &login.seal_1()), 1, "of a daemon that is still older");
            let other = SealedLogin { value: "globex", ..login };
            assert_eq!(notes(&database, &other.seal()), 0);
            assert_eq!(notes(&database, &other.seal_1()), 0);
        }
        assert_eq!(notes(&database, ""), 0);
    }
    assert!(!warnings.lock().unwrap().contains("could read"));
    // The order of age has come along: the first one makes room.
    let third = "2".repeat(64);
    owner.batch_execute(&format!("select multigres_seal('{third}', 'none')")).unwrap();
    let first = SealedLogin::new(&database, "acme");
    assert_eq!(notes(&database, &first.seal()), 0);
    assert_eq!(notes(&database, &SealedLogin { key: &second, ..first }.seal()), 1);
    owner.batch_execute(TEARDOWN).unwrap();
    assert_eq!(count(&mut owner, "pg_namespace where nspname = 'multigres'"), 0);
}

#[test]
fn a_setup_tells_of_keys_that_were_read_and_stops_at_keys_that_may_be_others() {
    let database = sealed("keys_doubtful");
    let (warnings, mut owner) = listening(&database);
    owner.batch_execute(&format!("{UNGUARD} {OLDER}")).unwrap();
    for written in [
        "grant select, insert, update, delete on all tables in schema public to app_user",
        "grant insert on public.multigres_seal_keys to public",
        "grant update (inner_pad) on public.multigres_seal_keys to trust_user",
    ] {
        owner.batch_execute(written).unwrap();
        let error = owner.batch_execute(&SETUP).unwrap_err();
        assert_eq!(sqlstate(&error), "55000", "{written}");
        assert!(error.as_db_error().unwrap().hint().unwrap().contains("multigres_unseal()"));
        owner
            .batch_execute(
                "rollback; revoke all on public.multigres_seal_keys
                     from app_user, public, trust_user",
            )
            .unwrap();
        assert_eq!(count(&mut owner, "pg_namespace where nspname = 'multigres'"), 0);
    }
    owner.batch_execute("grant select on all tables in schema public to app_user").unwrap();
    owner.batch_execute(&SETUP).unwrap();
    let heard = warnings.lock().unwrap().clone();
    assert!(heard.contains("app_user could read the seal keys until now"), "{heard}");
    assert_eq!(count(&mut owner, "multigres.seal_keys"), 1);
    let acl = "pg_class where oid = 'multigres.seal_keys'::regclass and relacl is not null";
    assert_eq!(count(&mut owner, acl), 0);
}

#[test]
fn default_privileges_reach_neither_the_keys_nor_their_order() {
    let database = empty_database("keys_default");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "alter default privileges grant all on schemas to app_user;
             alter default privileges grant all on schemas to public;
             alter default privileges grant all on tables to app_user, public;
             alter default privileges grant all on sequences to app_user, public;
             alter default privileges grant all on types to app_user;
             alter default privileges grant all on functions to app_user",
        )
        .unwrap();
    owner.batch_execute(&SETUP).unwrap();
    let (second, third) = ("1".repeat(64), "2".repeat(64));
    for key in [KEY, &second, &third] {
        owner.batch_execute(&format!("select multigres_seal('{key}', 'none')")).unwrap();
    }
    for right in ["usage", "create"] {
        let on_schema = format!("has_schema_privilege('app_user', 'multigres', '{right}')");
        let has: bool = owner.query_one(&format!("select {on_schema}"), &[]).unwrap().get(0);
        assert!(!has, "{right}");
    }
    let granted = "pg_class as c, aclexplode(c.relacl) as a
        where c.relnamespace = 'multigres'::regnamespace and a.grantee <> c.relowner";
    assert_eq!(count(&mut owner, granted), 0);
    let sequences = "pg_class where relkind = 'S' and relname ~ 'keys'";
    assert_eq!(count(&mut owner, sequences), 0, "setval() would say which key is the older");
    owner
        .batch_execute(
            "create table notes (tenant_id text); insert into notes values ('acme');
             revoke all on notes from public; select multigres_protect('notes')",
        )
        .unwrap();
    for (key, seen) in [(KEY, 0), (&second, 1), (&third, 1)] {
        let login = SealedLogin { key, ..SealedLogin::new(&database, "acme") };
        assert_eq!(notes(&database, &login.seal()), seen);
    }
}

/// A database with a protected table, sealed with [`KEY`].
fn sealed(name: &str) -> String {
    let database = set_up_database(name);
    cluster()
        .superuser(&database)
        .batch_execute(&format!(
            "create table notes (tenant_id text not null, body text);
             insert into notes values ('acme', 'mine'), ('globex', 'theirs');
             select multigres_protect('notes');
             select multigres_seal('{KEY}', 'none')"
        ))
        .unwrap();
    database
}

fn listening(database: &str) -> (Arc<Mutex<String>>, Client) {
    let heard = Arc::new(Mutex::new(String::new()));
    let notices = Arc::clone(&heard);
    let mut config = cluster().direct("postgres", database);
    config.notice_callback(move |notice| *notices.lock().unwrap() += notice.message());
    (heard, config.connect(NoTls).unwrap())
}

/// How many notes a session of acme sees that shows this seal.
fn notes(database: &str, seal: &str) -> i64 {
    let mut config = cluster().direct("app_user", database);
    let options = sealed_options(TENANT, "acme", seal);
    count(&mut config.options(&options).connect(NoTls).unwrap(), "notes")
}
