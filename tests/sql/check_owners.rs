//! What multigres_check() finds of objects that a tenant may change and others run, and of the
//! owners of the tables.

use postgres::NoTls;

use testing::linter::{clean, findings, found_and_mended, mend, version};

use crate::check_functions::tenant;
use testing::{cluster, sqlstate};

#[test]
fn a_tenants_trigger_on_a_shared_table_runs_in_other_sessions_until_it_is_found() {
    let mut owner = clean("owned_triggers");
    owner.batch_execute("create table news (line text); grant all on news to app_user").unwrap();
    let mut spy = cluster().direct("app_user", "owned_triggers").connect(NoTls).unwrap();
    spy.batch_execute(
        "create function pg_temp.spy() returns trigger language plpgsql as $$
         begin execute 'create table public.trapped ()'; return new; end $$;
         create trigger spying before insert on news for each row execute function pg_temp.spy()",
    )
    .unwrap();
    owner.batch_execute("insert into news values ('x'); drop table trapped").unwrap();
    let pid: i32 = spy.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
    drop(spy);
    cluster().wait_until_gone(pid);
    let found = findings(&mut owner);
    assert_eq!(
        found,
        [
            "trigger_granted_on_shared_table | table public.news",
            "table_shared_written | table public.news"
        ]
    );
    mend(&mut owner);
    let shared = "table_shared_read | table public.news";
    assert_eq!(findings(&mut owner), [shared]);
    let left = "select privilege_type from information_schema.role_table_grants
                where table_name = 'news' and grantee = 'app_user'";
    let left: Vec<String> = owner.query(left, &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(left, ["SELECT"], "nothing else is left of ALL");
    owner.batch_execute("drop table news").unwrap();
    // The fix for what all write alone leaves no TRIGGER either.
    let revoke = "select fix from multigres_check() where severity = 'warning'";
    owner.batch_execute("create table news (line text); grant all on news to public").unwrap();
    let fix: String = owner.query_one(revoke, &[]).unwrap().get(0);
    owner.batch_execute(&fix).unwrap();
    assert_eq!(findings(&mut owner), [shared]);
    owner.batch_execute("drop table news").unwrap();
    found_and_mended(
        &mut owner,
        "create view one as select 1 as a; grant trigger on one to tenant_tables",
        &["trigger_granted_on_shared_table | view public.one"],
    );
}

#[test]
fn whatever_app_user_owns_is_found() {
    let mut owner = clean("owned_objects");
    owner
        .batch_execute("create function greet() returns text language sql as 'select 1::text'")
        .unwrap();
    owner.batch_execute("alter function greet() owner to app_user").unwrap();
    let changed = "create or replace function greet() returns text language sql as
                       'select current_user::text'";
    owner.batch_execute("grant create on schema public to app_user").unwrap();
    assert_eq!(tenant("owned_objects", changed), "");
    owner.batch_execute("revoke create on schema public from app_user").unwrap();
    let ran: String = owner.query_one("select greet()", &[]).unwrap().get(0);
    assert_eq!(ran, "postgres", "the tenant's text with the superuser's rights");
    mend(&mut owner);
    assert_eq!(findings(&mut owner), [""; 0]);
    assert!(tenant("owned_objects", changed).starts_with("42501"));
    for (create, kind, name) in [
        ("function f() returns int language sql as 'select 1'", "function", "f()"),
        ("procedure f(int) language sql as 'select 1'", "procedure", "f(integer)"),
        ("aggregate a(int) (sfunc = int4pl, stype = int)", "aggregate", "a(integer)"),
        ("domain d as text check (value <> '')", "domain", "d"),
        ("type t as (a int)", "type", "t"),
        ("type e as enum ('a')", "type", "e"),
        ("view v as select 1 as a", "view", "v"),
        ("materialized view m as select 1 as a", "materialized view", "m"),
        ("table r (a int)", "table", "r"),
        ("table parts (a int) partition by list (a)", "table", "parts"),
        ("sequence s", "sequence", "s"),
        (
            "operator ### (leftarg = int, rightarg = int, function = int4pl)",
            "operator",
            "###(integer,integer)",
        ),
        ("collation \"own C\" from \"C\"", "collation", "\"own C\""),
        ("operator family h using btree", "operator family", "h USING btree"),
        ("text search configuration w (copy = simple)", "text search configuration", "w"),
    ] {
        for (role, belongs) in [
            ("app_user", "app_user"),
            ("tenant_tables", "tenant_tables, which app_user can become"),
        ] {
            let alter = name.replace("USING", "using").replace("integer", "int");
            let plant = format!("create {create}; alter {kind} public.{alter} owner to {role}");
            let shown = if kind == "domain" { "type" } else { kind };
            let found = format!("object_owned_by_tenants | {shown} public.{name} | {belongs}");
            found_and_mended(&mut owner, &plant, &[&found]);
        }
    }
    if version(&mut owner) < 15 {
        found_and_mended(
            &mut owner,
            "alter database owned_objects owner to app_user",
            &["object_owned_by_tenants | database owned_objects | belongs to app_user"],
        );
    }
    // Its temporary tables are each session's own.
    let mut session = cluster().direct("app_user", "owned_objects").connect(NoTls).unwrap();
    session.batch_execute("create temp table mine (id serial); select lo_create(0)").unwrap();
    assert_eq!(findings(&mut owner), [""; 0]);
}

#[test]
fn protect_says_what_app_user_owns() {
    let mut owner = clean("owned_told");
    owner.batch_execute("create domain code as text; alter domain code owner to app_user").unwrap();
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let notices = std::sync::Arc::clone(&heard);
    let mut config = cluster().direct("postgres", "owned_told");
    config.notice_callback(move |notice| notices.lock().unwrap().push(notice.to_string()));
    let mut owner = config.connect(NoTls).unwrap();
    owner.batch_execute("select multigres_protect('contacts')").unwrap();
    let heard = heard.lock().unwrap().join("\n");
    assert!(
        heard
            .contains("app_user owns objects that run in the sessions of others: type public.code")
    );
    assert_eq!(sqlstate(&owner.batch_execute("select 1/0").unwrap_err()), "22012");
}

#[test]
fn owners_whom_policies_hold_silently_are_found() {
    let mut owner = clean("owned_silent");
    owner
        .batch_execute(
            "insert into contacts values ('acme', 1, 'Ada'), ('globex', 1, 'Grace');
             create role silent_owner login; create role silent_group nologin;
             grant silent_group to silent_owner; alter table contacts owner to silent_owner",
        )
        .unwrap();
    let silent = || cluster().direct("silent_owner", "owned_silent").connect(NoTls).unwrap();
    let update = "update contacts set name = upper(name)";
    assert_eq!(silent().execute(update, &[]).unwrap(), 0, "no error, and no row");
    let found = "owner_sees_no_row | role silent_owner | public.contacts";
    assert_eq!(findings(&mut owner), [found]);
    mend(&mut owner);
    assert_eq!(findings(&mut owner), [""; 0]);
    let error = silent().execute(update, &[]).unwrap_err();
    assert_eq!(sqlstate(&error), "42501", "an error, and no row");
    owner
        .batch_execute(
            "alter role silent_owner reset all; alter table contacts owner to silent_group",
        )
        .unwrap();
    assert_eq!(findings(&mut owner), [found]);
    for loud in ["silent_owner bypassrls", "silent_owner nologin", "silent_owner superuser"] {
        owner.batch_execute(&format!("begin; alter role {loud}")).unwrap();
        assert_eq!(findings(&mut owner), [""; 0], "{loud}");
        owner.batch_execute("rollback").unwrap();
    }
}

#[test]
fn owners_who_log_in_as_tenants_are_found() {
    let mut owner = clean("owned_migrator");
    owner
        .batch_execute(
            "create role tenant_migrator login; alter role tenant_migrator set row_security = off;
             alter table contacts owner to tenant_migrator",
        )
        .unwrap();
    assert_eq!(findings(&mut owner), [""; 0]);
    found_and_mended(
        &mut owner,
        "grant app_user to tenant_migrator",
        &["owner_logs_in_as_tenant | role tenant_migrator | tenant_migrator"],
    );
    found_and_mended(
        &mut owner,
        "create role between nologin; grant app_user to between; grant between to tenant_migrator",
        &["owner_logs_in_as_tenant | role tenant_migrator | tenant_migrator"],
    );
}
