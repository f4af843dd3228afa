//! What protecting a table does to it, and that unprotecting and teardown undo just that.

use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls};
use testing::{
    GUARD, SETUP, TEARDOWN, UNGUARD, cluster, count, empty_database, set_up_database, sqlstate,
};

const ACME: &str = "-c app.current_tenant_id=acme";
const ACME_7: &str = "-c app.current_tenant_id=acme -c app.current_user_id=7";

#[test]
fn several_dimensions_must_all_fit() {
    let database = set_up_database("protect_dimensions");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create table notes (tenant_id text, user_id int, body text);
             insert into notes values ('acme', 7, 'mine'), ('acme', 8, 'a colleague''s'),
                 ('globex', 7, 'a namesake''s'), ('globex', 8, 'a stranger''s');
             select multigres_protect('notes', 'user_id', 'app.current_user_id');
             select multigres_protect('notes')",
        )
        .unwrap();
    let both = [
        "public.notes tenant_id app.current_tenant_id yes ",
        "public.notes user_id app.current_user_id yes ",
    ];
    assert_eq!(status(&mut owner), both);
    assert_eq!(bodies(&database, ACME_7), ["mine"]);
    for one_missing in ["", ACME, "-c app.current_user_id=7"] {
        assert_eq!(bodies(&database, one_missing), [""; 0], "{one_missing}");
    }
    let mut client = login(&database, ACME_7);
    for refused in [
        "insert into notes values ('acme', 8, 'x')",
        "insert into notes values ('globex', 7, 'x')",
        "update notes set user_id = 8",
    ] {
        assert_eq!(sqlstate(&client.batch_execute(refused).unwrap_err()), "42501", "{refused}");
    }
    // Each context is asked for once, in the permissive policy too.
    let plan = client.query("explain select from notes", &[]).unwrap();
    let plan: String = plan.iter().map(|row| row.get::<_, String>(0) + "\n").collect();
    assert!(plan.contains("InitPlan 2") && !plan.contains("InitPlan 3"), "{plan}");
    // One policy holds both, and the permissive one says the same: neither opens the table when
    // it stands alone.
    owner.batch_execute(UNGUARD).unwrap();
    owner.batch_execute("drop policy multigres_isolation on notes").unwrap();
    assert_eq!(bodies(&database, ACME_7), ["mine"]);
    let gone = ["tenant_id", "user_id"]
        .map(|column| format!("public.notes - - no the policy of column {column} is missing"));
    assert_eq!(status(&mut owner), gone);
    owner.batch_execute("select multigres_protect('notes')").unwrap();
    assert_eq!(status(&mut owner), both);
    owner.batch_execute("create policy open on notes using (true) with check (true)").unwrap();
    assert_eq!(bodies(&database, ACME_7), ["mine"]);
    owner.batch_execute("drop policy open on notes").unwrap();
    owner.batch_execute("select multigres_unprotect('notes', 'user_id')").unwrap();
    assert_eq!(status(&mut owner), both[..1]);
    assert_eq!(bodies(&database, ACME_7), ["a colleague's", "mine"]);
}

#[test]
fn domains_and_citext_are_compared_by_their_index() {
    let database = set_up_database("protect_types");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            r#"create schema "o-(ther"; create extension citext schema "o-(ther";
               create domain d_text as text check (value <> 'x');
               create domain d_varchar as varchar(20); create domain d_uuid as uuid;
               create domain d_int as int; create domain d_citext as "o-(ther".citext;
               create domain d_domain as d_uuid not null"#,
        )
        .unwrap();
    let uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let none = "00000000-0000-0000-0000-000000000000";
    for (number, (kind, mine, stranger)) in [
        (r#""o-(ther".citext"#, "acme", "globex"),
        ("d_text", "acme", "globex"),
        ("d_varchar", "acme", "globex"),
        ("d_uuid", uuid, none),
        ("d_int", "7", "8"),
        ("d_citext", "acme", "globex"),
        ("d_domain", uuid, none),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("t{number}");
        owner
            .batch_execute(&format!(
                "create table {table} (tenant_id {kind});
                 insert into {table} values ('{mine}'), ('{stranger}');
                 select multigres_protect('{table}')"
            ))
            .unwrap();
        let mut client = login(&database, &format!("-c app.current_tenant_id={mine}"));
        client.batch_execute(&format!("insert into {table} default values")).unwrap();
        client.batch_execute("set enable_seqscan = off").unwrap();
        assert_eq!(count(&mut client, &format!("{table} where tenant_id = '{mine}'")), 2, "{kind}");
        assert_eq!(count(&mut client, &table), 2, "{kind}");
        let plan = client.query(&format!("explain select from {table}"), &[]).unwrap();
        let plan: String = plan.iter().map(|row| row.get::<_, String>(0) + "\n").collect();
        assert!(plan.contains("Index Cond:"), "{kind}: {plan}");
        // citext is compared as text besides.
        let over = if kind.contains("citext") { "InitPlan 3" } else { "InitPlan 2" };
        assert!(plan.contains("InitPlan 1") && !plan.contains(over), "{kind}: {plan}");
        assert_eq!(count(&mut login(&database, ""), &table), 0, "{kind}");
    }
    assert_eq!(status(&mut owner).iter().filter(|line| line.contains(" yes ")).count(), 7);
    assert_eq!(count(&mut owner, "multigres_check()"), 0);
    // A type that only looks like it.
    owner
        .batch_execute(
            "create type citext as enum ('acme'); create table fake (tenant_id public.citext)",
        )
        .unwrap();
    let error = owner.batch_execute("select multigres_protect('fake')").unwrap_err();
    assert_eq!(sqlstate(&error), "42804");
}

#[test]
fn tenants_that_differ_in_case_are_two_in_citext_too() {
    let database = set_up_database("protect_citext");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create extension citext; create domain tenant as citext;
             create table notes (tenant_id citext, body text);
             create table memos (tenant_id tenant, body text);
             select multigres_protect('notes'), multigres_protect('memos');
             insert into notes values ('acme', 'mine'), ('Acme', 'theirs');
             insert into memos select * from notes",
        )
        .unwrap();
    for round in ["new", "upgraded"] {
        for (tenant, seen) in [("acme", "mine"), ("Acme", "theirs")] {
            let mut client = login(&database, &format!("-c app.current_tenant_id={tenant}"));
            for table in ["notes", "memos"] {
                let sql = format!("select body from {table} where tenant_id = 'ACME'");
                let rows = client.query(&sql, &[]).unwrap();
                let rows: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
                assert_eq!(rows, [seen], "{round}: {table} of {tenant}");
                let other = if tenant == "acme" { "Acme" } else { "acme" };
                let insert = format!("insert into {table} values ('{other}', 'x')");
                let error = client.batch_execute(&insert).unwrap_err();
                assert_eq!(sqlstate(&error), "42501", "{round}: {table} of {tenant}");
            }
        }
        assert!(status(&mut owner).iter().all(|line| line.contains(" yes ")), "{round}");
        assert_eq!(count(&mut owner, "multigres_check() where severity = 'error'"), 0, "{round}");
        // As an older version made it.
        owner.batch_execute(UNGUARD).unwrap();
        owner
            .batch_execute(
                "alter policy multigres_isolation on notes
                     using (tenant_id = (select current_tenant_id())::citext)
                     with check (tenant_id = (select current_tenant_id())::citext);
                 delete from multigres.dimensions where relation = 'notes'::regclass;
                 delete from multigres.tables where relation = 'notes'::regclass",
            )
            .unwrap();
        owner.batch_execute(&SETUP).unwrap();
    }
    owner.batch_execute("select multigres_unprotect('notes')").unwrap();
    let left = "pg_class where relname = 'notes' and relrowsecurity";
    assert_eq!(count(&mut owner, left), 0, "what it had to undo was not forgotten");
}

#[test]
fn an_application_never_needs_to_write_its_tenant() {
    let database = set_up_database("protect_defaults");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create sequence numbers;
             create table notes (a serial, b int generated always as identity,
                 c bigint default nextval('numbers'), tenant_id text, body text);
             create table own (tenant_id text default 'globex', body text);
             create schema app; create table app.elsewhere (tenant_id text, body text);
             select multigres_protect('notes'), multigres_protect('own'),
                 multigres_protect('app.elsewhere')",
        )
        .unwrap();
    let mut client = login(&database, ACME);
    client
        .batch_execute(
            "insert into notes (body) values ('mine'); select lastval();
             insert into app.elsewhere (body) values ('mine')",
        )
        .unwrap();
    assert_eq!(count(&mut owner, "notes where tenant_id = 'acme' and a = 1 and c = 1"), 1);
    let insert = "insert into own (body) values ('x')";
    assert_eq!(sqlstate(&client.batch_execute(insert).unwrap_err()), "42501", "its own default");
    let insert = "insert into notes (body) values ('x')";
    assert_eq!(sqlstate(&owner.batch_execute(insert).unwrap_err()), "23502", "of no tenant");
    let error = login(&database, "").batch_execute(insert).unwrap_err();
    assert_eq!(sqlstate(&error), "42501");
    owner.batch_execute("select multigres_protect('notes', variable => 'app.other')").unwrap();
    let mut client = login(&database, "-c app.other=acme");
    client.batch_execute(insert).unwrap();
    assert_eq!(count(&mut client, "notes"), 2);
}

#[test]
fn partitions_that_come_later_are_protected_by_the_next_call() {
    let database = set_up_database("protect_partitions");
    let mut owner = cluster().superuser(&database);
    owner.batch_execute(UNGUARD).unwrap();
    owner
        .batch_execute(
            "create table part (tenant_id text, k int) partition by list (k);
             create table part1 partition of part for values in (1);
             select multigres_protect('part');
             create table part2 partition of part for values in (2);
             insert into part values ('acme', 1), ('globex', 1), ('acme', 2), ('globex', 2);
             grant select on part1, part2 to app_user",
        )
        .unwrap();
    let mut client = login(&database, ACME);
    let seen = |client: &mut Client| ["part", "part1", "part2"].map(|table| count(client, table));
    assert_eq!(seen(&mut client), [2, 1, 2]);
    let bare = "public.part2 - - no app_user may use all its rows".to_owned();
    assert!(status(&mut owner).contains(&bare));
    owner.batch_execute("select multigres_protect('part')").unwrap();
    assert_eq!(seen(&mut client), [2, 1, 1]);
    assert!(!status(&mut owner).contains(&bare));
    let error = owner.batch_execute("select multigres_unprotect('part1')").unwrap_err();
    assert_eq!(sqlstate(&error), "42809");
}

#[test]
fn teardown_leaves_every_table_as_it_was() {
    let database = empty_database("protect_teardown");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create table plain (tenant_id text, id serial, k int generated always as identity);
             grant select, truncate, trigger on plain to app_user;
             create table strict (tenant_id text not null default 'x', id serial);
             create index on strict (tenant_id);
             alter table strict enable row level security, force row level security;
             create policy mine on strict using (id > 0);
             grant select, insert, update, delete on strict to app_user;
             create table keyed (tenant_id text primary key);
             create table part (tenant_id text, k int) partition by list (k);
             create table part1 partition of part for values in (1);
             create table part2 (tenant_id text not null default 'p', k int);
             create index on part2 (tenant_id);
             alter table part attach partition part2 for values in (2);
             create table part3 partition of part for values in (3) partition by list (tenant_id);
             create table part3a partition of part3 default;
             create table parent (tenant_id text);
             create table heir (more int) inherits (parent);
             create table strict_heir (tenant_id text not null) inherits (parent)",
        )
        .unwrap();
    let before = catalog(&mut owner);
    let protect = "select multigres_protect(name::regclass)
        from unnest(array['plain', 'strict', 'keyed', 'part', 'parent']) as name;
        select multigres_protect('part', 'k', 'app.current_k')";
    owner.batch_execute(&SETUP).unwrap();
    let loaded = catalog(&mut owner);
    for tables in [
        "select multigres_unprotect(name::regclass)
             from unnest(array['plain', 'strict', 'keyed', 'part', 'parent']) as name",
        "select multigres_unprotect('part', 'k');
         select multigres_unprotect('part', 'tenant_id');
         select multigres_unprotect(name::regclass)
             from unnest(array['parent', 'keyed', 'strict', 'plain', 'plain']) as name",
    ] {
        owner.batch_execute(protect).unwrap();
        owner.batch_execute(protect).unwrap();
        assert_ne!(catalog(&mut owner), loaded);
        owner.batch_execute(tables).unwrap();
        assert_eq!(catalog(&mut owner), loaded, "{tables}");
    }
    owner.batch_execute(protect).unwrap();
    owner.batch_execute("create table part4 partition of part for values in (4)").unwrap();
    owner.batch_execute(protect).unwrap();
    owner.batch_execute(&SETUP).unwrap();
    owner.batch_execute(TEARDOWN).unwrap();
    owner.batch_execute("drop table part4").unwrap();
    assert_eq!(catalog(&mut owner), before);
    owner.batch_execute(TEARDOWN).unwrap();
    owner.batch_execute(&SETUP).unwrap();
    owner.batch_execute(protect).unwrap();
}

#[test]
fn teardown_stops_at_what_is_not_its_own() {
    let database = set_up_database("protect_foreign");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create table notes (tenant_id text); select multigres_protect('notes');
             create view whoami as select current_tenant_id()",
        )
        .unwrap();
    let before = catalog(&mut owner);
    assert_eq!(sqlstate(&owner.batch_execute(TEARDOWN).unwrap_err()), "2BP01");
    owner.batch_execute("rollback").unwrap();
    assert_eq!(catalog(&mut owner), before);
    // A function that would run with the rights of who tears down, made while nothing was guarded.
    owner
        .batch_execute(&format!(
            "{UNGUARD} drop view whoami; drop function multigres_unharden();
             grant create on schema public to trust_user; set role trust_user;
             create function multigres_unharden() returns void language sql
                 as 'create table trapped ()';
             reset role; {GUARD}"
        ))
        .unwrap();
    assert_eq!(sqlstate(&owner.batch_execute(TEARDOWN).unwrap_err()), "55000");
    owner.batch_execute("rollback").unwrap();
    assert_eq!(count(&mut owner, "pg_class where relname = 'trapped'"), 0);
}

#[test]
fn policies_of_an_older_setup_are_brought_up_to_date() {
    let database = set_up_database("protect_older");
    let mut owner = cluster().superuser(&database);
    let predicate = "(tenant_id = public.current_tenant_id())";
    owner
        .batch_execute(&format!(
            "create table notes (tenant_id text, body text);
             insert into notes values ('acme', 'mine'), ('globex', 'theirs');
             alter table notes enable row level security, force row level security;
             grant select on notes to app_user;
             create policy multigres_isolation on notes as restrictive
                 using {predicate} with check {predicate};
             create policy multigres_access on notes using {predicate} with check {predicate};
             drop function multigres_protect(regclass, name, text);
             drop function multigres_status();
             create function multigres_protect(regclass, name default 'tenant_id') returns void
                 language sql as '';
             create function multigres_status() returns table (table_name text)
                 language sql as 'select ''old''::text'"
        ))
        .unwrap();
    owner.batch_execute("delete from multigres.dimensions; delete from multigres.tables").unwrap();
    owner.batch_execute(&SETUP).unwrap();
    let line = "public.notes tenant_id app.current_tenant_id yes column tenant_id has no default";
    assert_eq!(status(&mut owner), [line]);
    let bare = "pg_policy where pg_get_expr(polqual, polrelid) !~* 'select'";
    assert_eq!(count(&mut owner, bare), 0);
    assert_eq!(bodies(&database, ACME), ["mine"]);
    owner.batch_execute("select multigres_protect('notes')").unwrap();
    assert_eq!(count(&mut owner, "pg_proc where proname = 'multigres_protect'"), 1);
    owner.batch_execute("select multigres_unprotect('notes')").unwrap();
    assert_eq!(count(&mut owner, "pg_policy"), 0);
    assert_eq!(count(&mut owner, "pg_class where relrowsecurity or relforcerowsecurity"), 0);
}

#[test]
fn a_comment_of_an_older_policy_is_taken_for_what_it_is_and_is_no_error() {
    let database = set_up_database("protect_comments");
    let mut owner = cluster().superuser(&database);
    for comment in [
        "",
        "{",
        "\"column\"",
        "[]",
        "null",
        r#"{"column": 1, "table": []}"#,
        r#"{"column": "x", "default": 1, "not_null": "?", "table": {"enabled": 3, "granted": 7}}"#,
        r#"{"dimensions": []}"#,
        r#"{"dimensions": {"a": 1, "b": [], "c": {"column": "x"}, "d": {"variable": "x"}}}"#,
    ] {
        owner
            .batch_execute(&format!(
                "create table notes (tenant_id text); select multigres_protect('notes');
                 {UNGUARD}
                 alter policy multigres_isolation on notes
                     using (tenant_id = (select current_tenant_id()))
                     with check (tenant_id = (select current_tenant_id()));
                 alter policy multigres_access on notes to public;
                 comment on policy multigres_isolation on notes is '{comment}';
                 delete from multigres.dimensions; delete from multigres.tables"
            ))
            .unwrap();
        owner.batch_execute(&SETUP).unwrap();
        assert_eq!(status(&mut owner), ["public.notes tenant_id app.current_tenant_id yes "]);
        owner
            .batch_execute(
                "select multigres_protect('notes'), multigres_unprotect('notes');
                 drop table notes",
            )
            .unwrap();
    }
}

#[test]
fn only_the_name_of_a_variable_is_a_variable() {
    let database = set_up_database("protect_variables");
    let mut owner = cluster().superuser(&database);
    owner.batch_execute("create table notes (tenant_id text, body text)").unwrap();
    for (variable, code) in [
        ("''", "22023"),
        ("'work_mem'", "22023"),
        ("'app.'", "22023"),
        ("'.app'", "22023"),
        ("'app.x y'", "22023"),
        ("'app.x''::text) or true --'", "22023"),
        ("E'app.x\\n'", "22023"),
        ("null", "22004"),
    ] {
        let sql = format!("select multigres_protect('notes', 'tenant_id', {variable})");
        assert_eq!(sqlstate(&owner.batch_execute(&sql).unwrap_err()), code, "{variable}");
    }
    assert_eq!(count(&mut owner, "pg_policy"), 0);
    owner
        .batch_execute("select multigres_protect('notes', 'tenant_id', 'App.Current_TENANT_id')")
        .unwrap();
    assert_eq!(status(&mut owner), ["public.notes tenant_id app.current_tenant_id yes "]);
}

#[test]
fn without_a_seal_a_session_may_choose_its_tenant_and_a_reset_takes_it_back() {
    let database = set_up_database("protect_plain");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create table notes (tenant_id text, body text); select multigres_protect('notes');
             insert into notes values ('acme', 'mine'), ('globex', 'theirs')",
        )
        .unwrap();
    let mut client = login(&database, ACME);
    let statement = client.prepare("select body from notes").unwrap();
    for (set, expected) in [
        ("select 1", "mine"),
        // What the seal is for.
        ("set app.current_tenant_id = 'globex'", "theirs"),
        ("reset app.current_tenant_id", "mine"),
        ("select set_config('app.current_tenant_id', 'globex', false)", "theirs"),
        ("reset all", "mine"),
        ("begin; set local app.current_tenant_id = 'globex'; commit", "mine"),
        ("set role tenant_tables; reset role", "mine"),
    ] {
        client.batch_execute(set).unwrap();
        let rows = client.query(&statement, &[]).unwrap();
        assert_eq!(rows.len(), 1, "{set}");
        assert_eq!(rows[0].get::<_, &str>(0), expected, "{set}");
    }
    let context = |variable: &str| -> Option<String> {
        let mut client = login(&database, ACME_7);
        client.query_one("select multigres_context($1)", &[&variable]).unwrap().get(0)
    };
    assert_eq!(context("app.current_user_id").as_deref(), Some("7"));
    assert_eq!(context("app.unknown"), None);
    let marked = "pg_proc where proname in ('multigres_context', 'current_tenant_id')
        and provolatile = 's' and proparallel = 's'";
    assert_eq!(count(&mut owner, marked), 2);
}

#[test]
fn a_foreign_table_among_the_partitions_is_refused() {
    let database = set_up_database("protect_far");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create foreign data wrapper w; create server s foreign data wrapper w;
             create table part (tenant_id text, k int) partition by list (k);
             create foreign table far partition of part for values in (1) server s",
        )
        .unwrap();
    let error = owner.batch_execute("select multigres_protect('part')").unwrap_err();
    assert_eq!(sqlstate(&error), "42809");
    assert_eq!(count(&mut owner, "pg_policy"), 0);
}

#[test]
fn an_admin_role_that_is_no_superuser_sets_up_protects_seals_and_tears_down() {
    let mut superuser = cluster().superuser("postgres");
    superuser.batch_execute("create role managed_admin login createrole createdb").unwrap();
    superuser.batch_execute("create database protect_managed owner managed_admin").unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let notices = Arc::clone(&heard);
    let mut config = cluster().direct("managed_admin", "protect_managed");
    config.notice_callback(move |notice| notices.lock().unwrap().push(notice.to_string()));
    let mut admin = config.connect(NoTls).unwrap();
    admin.batch_execute(&SETUP).unwrap();
    admin
        .batch_execute(
            "create table notes (tenant_id text, body text);
             insert into notes values ('acme', 'mine');
             select multigres_protect('notes')",
        )
        .unwrap();
    assert_eq!(bodies("protect_managed", ACME), ["mine"]);
    admin.batch_execute("select multigres_seal(repeat('0', 64))").unwrap();
    admin.batch_execute(&SETUP).unwrap();
    assert_eq!(bodies("protect_managed", ACME), [""; 0]);
    assert_eq!(count(&mut admin, "notes"), 0, "the owner is held too");
    let open = count(
        &mut admin,
        "pg_namespace as n, aclexplode(n.nspacl) as a
         where nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE'",
    );
    let told = |text: &str| text.contains("CREATE on schema public remains granted to PUBLIC");
    assert_eq!(heard.lock().unwrap().iter().any(|text| told(text)), open > 0);
    admin.batch_execute(TEARDOWN).unwrap();
    assert_eq!(count(&mut admin, "notes"), 1);
}

fn login(database: &str, options: &str) -> Client {
    cluster().direct("app_user", database).options(options).connect(NoTls).unwrap()
}

fn bodies(database: &str, options: &str) -> Vec<String> {
    let mut client = login(database, options);
    let rows = client.query("select body from notes order by body", &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn status(client: &mut Client) -> Vec<String> {
    let sql = "select concat_ws(' ', table_name, coalesce(tenant_column, '-'),
                   coalesce(variable, '-'), protected, problems)
               from multigres_status()";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// All that protecting a table may change, a line for each thing.
fn catalog(client: &mut Client) -> Vec<String> {
    let sql = "
        select format('%s %s %s %s', oid::regclass, relrowsecurity, relforcerowsecurity,
            (select array_agg(a::text order by a::text) from unnest(relacl) as a
             where a::text !~ '^postgres='))
        from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'S', 'i', 'I')
        union all
        select format('%s.%s %s %s', attrelid::regclass, attname, attnotnull,
            pg_get_expr(adbin, adrelid))
        from pg_attribute
        join pg_class on pg_class.oid = attrelid
        left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where attnum > 0 and relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
        union all
        select format('%s %s', polrelid::regclass, polname) from pg_policy
        union all
        select oid::regprocedure::text from pg_proc
        where pronamespace = 'public'::regnamespace
        order by 1";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}
