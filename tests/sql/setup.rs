//! What sql/setup.sql promises, as an attacker would try it: directly on PostgreSQL, logged in
//! as app_user with a tenant that they may choose. The daemon takes no part, except to print it.

use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls};
use testing::{
    Cluster, SEAL_KEY as KEY, SETUP, TEARDOWN, UNGUARD, cluster, count, empty_database,
    set_up_database as database, sqlstate,
};

/// Whose rows a login of app_user may see.
#[derive(Clone, Copy)]
enum Tenant {
    Named(&'static str),
    Empty,
    Unset,
}

const ACME: Tenant = Tenant::Named("acme");

#[test]
fn no_tenant_sees_no_row_not_even_rows_without_a_tenant() {
    let database = contacts_protected("sql_no_tenant");
    for tenant in [Tenant::Unset, Tenant::Empty, Tenant::Named("nobody")] {
        let mut client = app_user(&database, tenant);
        assert!(names(&mut client).is_empty());
        assert_eq!(client.execute("update contacts set name = 'x'", &[]).unwrap(), 0);
        assert_eq!(client.execute("delete from contacts", &[]).unwrap(), 0);
        let insert = "insert into contacts (tenant_id, name) values ($1, 'Eve')";
        for row in ["acme", ""] {
            assert_eq!(sqlstate(&client.execute(insert, &[&row]).unwrap_err()), "42501");
        }
        let row: Option<&str> = None;
        assert_eq!(sqlstate(&client.execute(insert, &[&row]).unwrap_err()), "42501");
    }
    let mut client = app_user(&database, Tenant::Unset);
    assert_eq!(tenant_of(&mut client), None);
    client.batch_execute("set app.current_tenant_id = 'acme'").unwrap();
    assert_eq!(tenant_of(&mut client).as_deref(), Some("acme"));
    client.batch_execute("reset app.current_tenant_id").unwrap();
    assert_eq!(tenant_of(&mut client), None, "a variable once set is '' after a reset");
    assert!(names(&mut client).is_empty());
}

#[test]
fn every_way_of_reading_shows_the_tenants_rows_only() {
    let database = contacts_protected("sql_reading");
    let mut client = app_user(&database, ACME);
    assert_eq!(names(&mut client), ["Ada", "Alan"]);
    assert_eq!(count(&mut client, "contacts"), 2);
    assert_eq!(count(&mut client, "contacts where tenant_id <> 'acme' or tenant_id is null"), 0);
    assert_eq!(count(&mut client, "contacts a full join contacts b on true"), 4);
    let mut text = String::new();
    let mut reader = client.copy_out("copy contacts (name) to stdout").unwrap();
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    drop(reader);
    assert_eq!(text, "Ada\nAlan\n");
    // A function that is cheap and not leakproof must not see rows before the policy does.
    client
        .batch_execute(
            "create function pg_temp.leak(text) returns bool language plpgsql cost 0.0000001
             as $$ begin
                 if $1 not in ('Ada', 'Alan') then raise '%', $1; end if;
                 return true;
             end $$;
             select from contacts where pg_temp.leak(name)",
        )
        .unwrap();
}

#[test]
fn rows_are_neither_written_to_nor_taken_from_another_tenant() {
    let database = contacts_protected("sql_writing");
    let mut client = app_user(&database, ACME);
    for refused in [
        "insert into contacts (tenant_id, name) values ('globex', 'Eve')",
        "insert into contacts (tenant_id, name) values ('acme', 'Eve'), ('globex', 'Eve')",
        "insert into contacts (tenant_id, name) values (null, 'Eve')",
        "update contacts set tenant_id = 'globex'",
        "update contacts set tenant_id = null",
        // Id 3 is a row of globex.
        "insert into contacts values (3, 'acme', 'Eve')
             on conflict (id) do update set name = 'Eve'",
    ] {
        let error = client.batch_execute(refused).unwrap_err();
        assert_eq!(sqlstate(&error), "42501", "{refused}");
    }
    for nothing in [
        "update contacts set name = 'Eve' where tenant_id = 'globex'",
        "delete from contacts where id = 3",
        "insert into contacts values (3, 'acme', 'Eve') on conflict do nothing",
    ] {
        assert_eq!(client.execute(nothing, &[]).unwrap(), 0, "{nothing}");
    }
    let error = client.batch_execute("copy contacts from stdin").unwrap_err();
    assert_eq!(sqlstate(&error), "0A000");
    let added = "insert into contacts (tenant_id, name) values ('acme', 'Adele')";
    assert_eq!(client.execute(added, &[]).unwrap(), 1, "the tenant's own rows, with the sequence");
    let mut owner = cluster().superuser(&database);
    let all =
        "select string_agg(coalesce(tenant_id, '-') || ' ' || name, ',' order by id) from contacts";
    let all: String = owner.query_one(all, &[]).unwrap().get(0);
    assert_eq!(all, "acme Ada,acme Alan,globex Grace, Nameless,- Orphan,acme Adele");
}

#[test]
fn what_is_no_key_or_would_be_no_secret_is_refused() {
    let database = database("seal_refused");
    let mut owner = cluster().superuser(&database);
    for (arguments, code) in [
        ("''".to_owned(), "22023"),
        ("null".to_owned(), "22023"),
        (format!("'{}'", &KEY[1..]), "22023"),
        (format!("'{KEY}0'"), "22023"),
        (format!("'{}'", KEY.to_uppercase()), "22023"),
        (format!("'{KEY}', 'port'"), "22023"),
        (format!("'{KEY}', null"), "22023"),
    ] {
        let error = owner.batch_execute(&format!("select multigres_seal({arguments})"));
        assert_eq!(sqlstate(&error.unwrap_err()), code, "{arguments}");
    }
    let sealing = format!("select multigres_seal('{KEY}')");
    let reader: bool =
        owner.query_one("select to_regrole('pg_read_all_data') is not null", &[]).unwrap().get(0);
    if reader {
        let granted = format!("begin; grant pg_read_all_data to app_user; {sealing}");
        assert_eq!(sqlstate(&owner.batch_execute(&granted).unwrap_err()), "55000");
        owner.batch_execute("rollback").unwrap();
    }
    // Laid there by somebody who knows the keys in it.
    owner
        .batch_execute(
            "grant create on schema public to trust_user; set role trust_user;
             create table multigres_seal_keys (id int, inner_pad bytea, outer_pad bytea, bind text);
             reset role",
        )
        .unwrap();
    assert_eq!(sqlstate(&owner.batch_execute(&SETUP).unwrap_err()), "55000");
    owner.batch_execute("rollback").unwrap();
    owner
        .batch_execute(
            "drop table multigres_seal_keys;
             grant all on schema multigres to trust_user; set role trust_user;
             create table multigres.seal_keys
                 (number int, inner_pad bytea, outer_pad bytea, bind text);
             reset role",
        )
        .unwrap();
    for refused in [&*sealing, SETUP.as_str()] {
        assert_eq!(sqlstate(&owner.batch_execute(refused).unwrap_err()), "55000");
        owner.batch_execute("rollback").unwrap();
    }
    let plain = "pg_proc where proname = 'multigres_context' and not prosecdef";
    assert_eq!(count(&mut owner, plain), 1);
}

#[test]
fn the_rights_that_go_round_policies_are_not_app_users() {
    let database = contacts_protected("sql_rights");
    let mut client = app_user(&database, ACME);
    for refused in [
        "truncate contacts",
        "create table spy (id int references contacts)",
        "create trigger spy before insert on contacts
             for each row execute function suppress_redundant_updates_trigger()",
        "alter table contacts disable row level security",
        "alter table contacts no force row level security",
        "drop policy multigres_isolation on contacts",
        "create policy open on contacts using (true)",
        "set row_security = off; select from contacts",
        "create function public.current_tenant_id(int) returns text language sql as 'select 1'",
        "create or replace function current_tenant_id() returns text language sql as 'select 1'",
        "select multigres_protect('contacts', 'name')",
        "select * from multigres_status()",
    ] {
        let error = client.batch_execute(refused).unwrap_err();
        assert_eq!(sqlstate(&error), "42501", "{refused}");
        client.batch_execute("reset row_security").unwrap();
    }
    // What a session may call: the context, what is asked at login, and what asks first whether the
    // caller owns the table.
    let administration = "pg_proc where proname ~ '^multigres_'
        and proname !~ '_(context|own|spelling|verdict|misspelt|maintain|maintenance)$'";
    assert!(count(&mut client, administration) > 5);
    let executable = format!("{administration} and has_function_privilege(oid, 'execute')");
    assert_eq!(count(&mut client, &executable), 0);
    let define = client.batch_execute("select multigres.define_context()").unwrap_err();
    assert_eq!(sqlstate(&define), "42501");
}

#[test]
fn names_that_a_search_path_puts_in_front_deceive_nobody() {
    let database = contacts_protected("sql_shadows");
    let mut owner = cluster().superuser(&database);
    owner.batch_execute("create schema shadow; grant all on schema shadow to app_user").unwrap();
    let mut client = app_user(&database, ACME);
    client
        .batch_execute(
            "create function shadow.current_setting(text, bool) returns text language sql
                 as 'select ''globex''::text';
             create function shadow.current_tenant_id() returns text language sql
                 as 'select ''globex''::text';
             create function shadow.yes(text, text) returns bool language sql as 'select true';
             create operator shadow.= (leftarg = text, rightarg = text, function = shadow.yes);
             create operator shadow.<> (leftarg = text, rightarg = text, function = shadow.yes);
             set search_path = shadow, pg_catalog, public",
        )
        .unwrap();
    assert_eq!(names(&mut client), ["Ada", "Alan"]);
    client.batch_execute("set app.current_tenant_id = ''").unwrap();
    assert!(names(&mut client).is_empty());
}

#[test]
fn each_type_of_column_is_compared_by_its_index() {
    let database = database("sql_types");
    let mut owner = cluster().superuser(&database);
    let uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    for (number, (kind, mine, other)) in [
        ("text", "acme", "globex"),
        ("varchar", "acme", "globex"),
        ("varchar(20)", "acme", "globex"),
        ("uuid", uuid, "00000000-0000-0000-0000-000000000000"),
        ("smallint", "7", "8"),
        ("integer", "-2147483648", "7"),
        ("bigint", "9223372036854775807", "7"),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("t{number}");
        owner
            .batch_execute(&format!(
                "create table {table} (tenant_id {kind} primary key);
                 insert into {table} values ('{mine}'), ('{other}');
                 select multigres_protect('{table}')"
            ))
            .unwrap();
        let mut client = app_user(&database, Tenant::Named(mine));
        let sql = format!("select tenant_id::text from {table}");
        let rows: Vec<String> =
            client.query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect();
        assert_eq!(rows, [mine], "{kind}");
        client.batch_execute("set enable_seqscan = off").unwrap();
        let plan: Vec<String> = client
            .query(&format!("explain {sql}"), &[])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert!(plan.iter().any(|line| line.contains("Index Cond:")), "{kind}: {plan:?}");
        for tenant in [Tenant::Unset, Tenant::Empty] {
            assert_eq!(count(&mut app_user(&database, tenant), &table), 0, "{kind}");
        }
    }
    for (table, tenant) in [("t3", "acme"), ("t4", "70000"), ("t5", "acme")] {
        let mut client = app_user(&database, Tenant::Named(tenant));
        let error = client.batch_execute(&format!("select from {table}")).unwrap_err();
        assert!(["22P02", "22003"].contains(&sqlstate(&error)), "{table}: {error:?}");
    }
}

#[test]
fn no_other_policy_widens_what_a_tenant_sees() {
    let database = contacts_protected("sql_policies");
    let mut owner = cluster().superuser(&database);
    let mut client = app_user(&database, ACME);
    owner.batch_execute("create policy open on contacts using (true) with check (true)").unwrap();
    assert_eq!(names(&mut client), ["Ada", "Alan"]);
    owner.batch_execute("drop policy open on contacts").unwrap();
    // Neither of the two opens the table when it stands alone.
    owner.batch_execute(UNGUARD).unwrap();
    owner.batch_execute("drop policy multigres_isolation on contacts").unwrap();
    assert_eq!(names(&mut client), ["Ada", "Alan"]);
    owner.batch_execute("select multigres_protect('contacts')").unwrap();
    owner.batch_execute("drop policy multigres_access on contacts").unwrap();
    assert!(names(&mut client).is_empty());

    // A table's own policies go on saying who sees what inside a tenant.
    owner.batch_execute("create policy own on contacts using (name = 'Ada')").unwrap();
    owner.batch_execute("select multigres_protect('contacts')").unwrap();
    assert_eq!(names(&mut client), ["Ada"]);
}

#[test]
fn partitions_and_heirs_are_protected_under_their_own_names() {
    let database = database("sql_partitions");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create table part (tenant_id text, k int) partition by list (k);
             create table part1 partition of part for values in (1) partition by list (tenant_id);
             create table part1a partition of part1 default;
             create table parent (tenant_id text);
             create table heir (more text) inherits (parent);
             insert into part values ('acme', 1), ('globex', 1);
             insert into heir values ('acme', 1), ('globex', 1);
             select multigres_protect('part'), multigres_protect('parent');
             grant select on all tables in schema public to app_user",
        )
        .unwrap();
    for table in ["part", "part1", "part1a", "parent", "heir"] {
        assert_eq!(count(&mut app_user(&database, ACME), table), 1, "{table}");
        assert_eq!(count(&mut app_user(&database, Tenant::Unset), table), 0, "{table}");
    }
}

#[test]
fn a_table_and_a_column_may_have_any_name() {
    let database = database("sql_names");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            r#"create schema "S %I; s";
               create table "S %I; s"."T ""'.$$ t" (id serial, "c ""' $$ %s" text);
               insert into "S %I; s"."T ""'.$$ t" values (1, 'acme'), (2, 'globex');
               select multigres_protect('"S %I; s"."T ""''.$$ t"', 'c "'' $$ %s')"#,
        )
        .unwrap();
    let mut client = app_user(&database, ACME);
    assert_eq!(count(&mut client, r#""S %I; s"."T ""'.$$ t""#), 1);
    assert_eq!(count(&mut owner, "multigres_status() where protected = 'yes'"), 1);
}

#[test]
fn what_cannot_be_protected_is_refused_and_left_as_it_was() {
    let database = database("sql_refused");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create table plain (tenant_id text, other jsonb, padded char(4));
             create view a_view as select * from plain;
             create materialized view a_copy as select * from plain;
             create sequence a_sequence;
             create table part (tenant_id text) partition by list (tenant_id);
             create table part1 partition of part default;
             create table owned (tenant_id text);
             alter table owned owner to app_user;
             create table public_trigger (tenant_id text);
             grant trigger on public_trigger to public;
             create foreign data wrapper w; create server s foreign data wrapper w;
             create foreign table far (tenant_id text) server s;
             create collation no_case
                 (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             create table no_case (tenant_id text collate no_case)",
        )
        .unwrap();
    for (arguments, code) in [
        ("'a_view'", "42809"),
        ("'a_copy'", "42809"),
        ("'a_sequence'", "42809"),
        ("'far'", "42809"),
        ("'part1'", "42809"),
        ("0::regclass", "42809"),
        ("'missing'", "42P01"),
        ("'plain', 'missing'", "42703"),
        ("'plain', 'ctid'", "42703"),
        ("'plain', 'other'", "42804"),
        ("'plain', 'padded'", "42804"),
        ("'no_case'", "42804"),
        ("'plain', null", "22004"),
        ("null, 'tenant_id'", "22004"),
        ("'owned'", "55000"),
        ("'public_trigger'", "55000"),
    ] {
        let sql = format!("select multigres_protect({arguments})");
        assert_eq!(sqlstate(&owner.batch_execute(&sql).unwrap_err()), code, "{arguments}");
    }
    assert_eq!(count(&mut owner, "pg_policy"), 0);
    assert_eq!(count(&mut owner, "pg_class where relrowsecurity or relforcerowsecurity"), 0);
}

#[test]
fn what_is_taken_from_app_user_is_not_given_back_by_a_second_call() {
    let database = contacts_protected("sql_again");
    let mut owner = cluster().superuser(&database);
    owner.batch_execute(UNGUARD).unwrap();
    owner
        .batch_execute(
            "revoke delete on contacts from app_user;
             grant truncate, trigger, references on contacts to app_user;
             grant references (name) on contacts to app_user;
             select multigres_protect('contacts')",
        )
        .unwrap();
    let mut client = app_user(&database, ACME);
    for refused in ["delete from contacts", "truncate contacts"] {
        assert_eq!(sqlstate(&client.batch_execute(refused).unwrap_err()), "42501", "{refused}");
    }
    assert_eq!(names(&mut client), ["Ada", "Alan"]);
    assert_eq!(status(&mut owner), ["public.contacts tenant_id yes "]);
}

#[test]
fn the_status_tells_what_is_wrong_with_each_table() {
    let database = contacts_protected("sql_status");
    let mut owner = cluster().superuser(&database);
    assert_eq!(status(&mut owner), ["public.contacts tenant_id yes "]);
    owner.batch_execute(UNGUARD).unwrap();
    owner
        .batch_execute(
            "create table changed (tenant_id text); select multigres_protect('changed');
             alter policy multigres_isolation on changed using (true);
             create table rewritten (tenant_id text); select multigres_protect('rewritten');
             alter policy multigres_isolation on rewritten with check (true);
             create table column_only (a int, b int); grant select (a) on column_only to app_user;
             create table off (tenant_id uuid); select multigres_protect('off');
             alter table off disable row level security;
             create table unforced (tenant_id int); select multigres_protect('unforced');
             alter table unforced no force row level security;
             create table truncated (tenant_id text); select multigres_protect('truncated');
             grant truncate on truncated to public;
             create table unreached (a int);
             create table given (tenant_id text); select multigres_protect('given');
             alter table given owner to app_user;
             create materialized view a_copy as select * from contacts;
             create view a_view as select * from contacts;
             create view unread as select * from contacts;
             grant select on a_copy, a_view to app_user;
             create schema open; grant create on schema open to app_user",
        )
        .unwrap();
    assert_eq!(
        status(&mut owner),
        [
            "schema open - no app_user may create objects in it",
            "public.a_copy - no app_user may use all its rows, and it cannot have policies",
            "public.a_view - no reads with the rights of its owner, who bypasses row-level \
             security",
            "public.changed - no policy multigres_isolation was changed",
            "public.column_only - no app_user may use all its rows",
            "public.contacts tenant_id yes ",
            "public.given tenant_id no app_user has TRUNCATE, REFERENCES or TRIGGER on it; \
             app_user owns it",
            "public.off tenant_id no row-level security is disabled",
            "public.rewritten - no policy multigres_isolation was changed",
            "public.truncated tenant_id no app_user has TRUNCATE, REFERENCES or TRIGGER on it",
            "public.unforced tenant_id no row-level security is not forced",
            "public.unreached - no ",
        ]
    );
}

#[test]
fn the_daemon_prints_the_setup_as_one_text_without_commands_of_psql() {
    let root = env!("CARGO_MANIFEST_DIR");
    let readme = std::fs::read_to_string(format!("{root}/README.md")).unwrap();
    assert!(readme.contains("target/release/multigres sql setup > setup.sql"));
    let printed = |of: &str| {
        let mut daemon = std::process::Command::new(env!("CARGO_BIN_EXE_multigres"));
        let output = daemon.args(["sql", of]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let setup = printed("setup");
    assert!(setup.starts_with("-- ") && setup.trim_end().ends_with("commit;"), "{setup}");
    assert!(!setup.lines().any(|line| line.starts_with('\\')), "a command of psql");
    assert_eq!(printed("teardown"), TEARDOWN);
    let database = empty_database("sql_printed");
    cluster().superuser(&database).batch_execute(&setup).expect("what was printed runs");
}

#[test]
fn a_second_setup_says_nothing_and_keeps_the_tables_protected() {
    let database = contacts_protected("sql_twice");
    let notices = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&notices);
    let mut config = cluster().direct("postgres", &database);
    config.notice_callback(move |notice| heard.lock().unwrap().push(notice.to_string()));
    let mut owner = config.connect(NoTls).unwrap();
    owner.batch_execute(&SETUP).unwrap();
    owner.batch_execute("select multigres_protect('contacts')").unwrap();
    assert_eq!(*notices.lock().unwrap(), [""; 0]);
    assert_eq!(status(&mut owner), ["public.contacts tenant_id yes "]);
    assert_eq!(names(&mut app_user(&database, ACME)), ["Ada", "Alan"]);
}

#[test]
fn the_setup_leaves_schema_public_to_nobody_else() {
    let database = empty_database("sql_public");
    let mut owner = cluster().superuser(&database);
    owner.batch_execute("grant create on schema public to public").unwrap();
    owner.batch_execute(&SETUP).unwrap();
    let create = "create function public.trap() returns int language sql as 'select 1'";
    let error = app_user(&database, Tenant::Unset).batch_execute(create).unwrap_err();
    assert_eq!(sqlstate(&error), "42501");
}

#[test]
fn the_setup_makes_app_user_or_refuses_one_that_policies_do_not_hold() {
    let cluster = Cluster::start();
    let mut owner = cluster.superuser("postgres");
    owner.batch_execute("drop role app_user").unwrap();
    for reason in [
        "create role app_user superuser",
        "create role app_user bypassrls",
        "create role app_user createrole",
        "create role app_user replication",
        "create role app_user; grant bypassrls_group to app_user",
        "create role app_user noinherit; grant distant_group to app_user",
        "create role app_user; grant pg_execute_server_program to app_user",
    ] {
        owner.batch_execute(reason).unwrap();
        let error = owner.batch_execute(&SETUP).unwrap_err();
        assert_eq!(sqlstate(&error), "55000", "{reason}");
        owner.batch_execute("rollback; drop role app_user").unwrap();
        assert_eq!(count(&mut owner, "pg_proc where proname ~ 'multigres|current_tenant'"), 0);
    }
    owner.batch_execute(&SETUP).unwrap();
    let made = "pg_authid where rolname = 'app_user' and rolcanlogin and rolpassword is null
                and not (rolsuper or rolbypassrls or rolcreatedb)
                and not (rolcreaterole or rolreplication)";
    assert_eq!(count(&mut owner, made), 1);
    owner.batch_execute("alter role app_user bypassrls").unwrap();
    assert_eq!(status(&mut owner), ["role app_user - no has BYPASSRLS"]);
    owner.batch_execute("drop owned by app_user; drop role app_user").unwrap();
    assert_eq!(status(&mut owner), ["role app_user - no does not exist"]);
}

/// A database with setup.sql loaded and a protected table, two tenants' rows and two of nobody.
fn contacts_protected(name: &str) -> String {
    let database = database(name);
    cluster()
        .superuser(&database)
        .batch_execute(
            "create table contacts (id serial primary key, tenant_id text, name text not null);
             insert into contacts (tenant_id, name) values
                 ('acme', 'Ada'), ('acme', 'Alan'), ('globex', 'Grace'), ('', 'Nameless'),
                 (null, 'Orphan');
             select multigres_protect('contacts', 'tenant_id')",
        )
        .unwrap();
    database
}

/// A direct connection, bound to the tenant as Multigres binds it: as the session's default.
fn app_user(database: &str, tenant: Tenant) -> Client {
    let mut config = cluster().direct("app_user", database);
    match tenant {
        Tenant::Named(name) => config.options(&format!("-c app.current_tenant_id={name}")),
        Tenant::Empty => config.options("-c app.current_tenant_id="),
        Tenant::Unset => &mut config,
    };
    config.connect(NoTls).unwrap()
}

fn names(client: &mut Client) -> Vec<String> {
    let rows = client.query("select name from public.contacts order by id", &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn tenant_of(client: &mut Client) -> Option<String> {
    client.query_one("select public.current_tenant_id()", &[]).unwrap().get(0)
}

fn status(client: &mut Client) -> Vec<String> {
    let sql = "select concat_ws(' ', table_name, coalesce(tenant_column, '-'), protected, problems)
               from multigres_status()";
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}
