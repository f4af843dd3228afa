//! Statements upon protected tables: refused by the event triggers, or let through, and then what
//! the verdict says of them at the next login.

use std::path::PathBuf;
use std::process::Command;

use postgres::Client;
use testing::linter::version;
use testing::{SETUP, UNGUARD, cluster, count, set_up_database, shortened, sqlstate};

/// What becomes of a statement.
pub(crate) enum Fate {
    /// SQLSTATE 55000, with this object in the message.
    Refused(&'static str),
    /// It passes, and the next login is served.
    Passes,
    /// It passes, and the next login is refused for this.
    Heard(&'static str),
}

use Fate::{Heard, Passes, Refused};

const SCHEMA: &str = "
    create schema app authorization guard_owner;
    create schema other authorization guard_owner;
    grant usage on schema other to app_user;
    set role guard_owner;
    create table app.t (id int primary key, tenant_id text not null, name text);
    create table app.parts (id int, tenant_id text not null) partition by list (id);
    create table app.part1 partition of app.parts for values in (1);
    create table app.part2 (id int, tenant_id text not null);
    create table app.heir () inherits (app.t);
    create table app.plain (id int);
    reset role;
    select multigres_protect('app.t'), multigres_protect('app.parts');
    insert into app.t values (1, 'acme', 'mine'), (2, 'globex', 'theirs')";

pub(crate) fn guarded(name: &str) -> Client {
    let database = set_up_database(name);
    let mut owner = cluster().superuser(&database);
    // Roles are the cluster's, and the lock is of a database: one that all tests share.
    let mut shared = cluster().superuser("postgres");
    shared
        .batch_execute(
            "select pg_advisory_lock(1);
             do $$ begin
                 if to_regrole('guard_owner') is null then create role guard_owner; end if;
                 if to_regrole('guard_group') is null then
                     create role guard_group; grant guard_group to app_user;
                 end if;
             end $$;
             select pg_advisory_unlock(1)",
        )
        .unwrap();
    let grant = format!("grant create on database {database} to guard_owner; {SCHEMA}");
    owner.batch_execute(&grant).unwrap();
    assert_eq!(verdict(&mut owner, "app_user"), None);
    owner
}

/// What a login as this role is told by the database.
pub(crate) fn verdict(owner: &mut Client, role: &str) -> Option<String> {
    owner.batch_execute(&format!("set session authorization {role}")).unwrap();
    let row = owner.query_one("select public.multigres_verdict()", &[]);
    owner.batch_execute("reset session authorization").unwrap();
    row.unwrap().get(0)
}

pub(crate) fn meets(owner: &mut Client, role: Option<&str>, sql: &str, fate: &Fate) {
    owner.batch_execute("begin").unwrap();
    let switch = role.map(|role| format!("set local role {role}; ")).unwrap_or_default();
    let result = owner.batch_execute(&format!("{switch}{sql}"));
    match fate {
        Refused(object) => {
            let error = result.err().unwrap_or_else(|| panic!("not refused: {sql}"));
            assert_eq!(sqlstate(&error), "55000", "{sql}: {error:?}");
            let error = error.as_db_error().unwrap();
            assert!(error.message().contains(object), "{sql}: {error:?}");
            assert!(error.hint().is_some_and(|hint| hint.contains("Multigres")), "{error:?}");
        }
        Passes | Heard(_) => {
            result.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
            owner.batch_execute("reset role; set session authorization default").unwrap();
            let verdict = verdict(owner, "app_user");
            match fate {
                Heard(problem) => {
                    let heard = verdict.unwrap_or_else(|| panic!("nothing is heard of {sql}"));
                    assert!(heard.contains(problem), "{sql}: {heard}");
                }
                Passes | Refused(_) => assert_eq!(verdict, None, "{sql}"),
            }
        }
    }
    owner.batch_execute("rollback").unwrap();
}

#[test]
fn what_would_open_a_table_is_refused_to_its_owner_and_to_superusers() {
    let mut owner = guarded("guard_refused");
    let t = "app.t";
    for (sql, object) in [
        ("alter table app.t disable row level security", t),
        ("alter table app.t no force row level security", t),
        ("drop policy multigres_isolation on app.t", t),
        ("drop policy multigres_access on app.t", t),
        ("alter policy multigres_isolation on app.t using (true)", t),
        ("alter policy multigres_isolation on app.t with check (true)", t),
        ("alter policy multigres_isolation on app.t to guard_owner", t),
        ("alter policy multigres_isolation on app.t rename to mine", t),
        ("alter policy multigres_access on app.t using (true) with check (true)", t),
        ("alter table app.t drop column tenant_id cascade", t),
        ("alter table app.part1 disable row level security", "app.part1"),
        ("alter table app.heir disable row level security", "app.heir"),
        ("alter table app.parts disable row level security", "app.parts"),
        ("alter table app.t rename to u; alter table app.u disable row level security", "app.u"),
        (
            "alter table app.t set schema other; drop policy multigres_isolation on other.t",
            "other.t",
        ),
        ("do $$ begin execute 'alter table app.t disable row level security'; end $$", t),
        ("alter table app.t add column a int, disable row level security", t),
        ("grant trigger on app.t to app_user", t),
        ("grant truncate on app.t to public", t),
        ("grant references (name) on app.t to guard_group", t),
        ("grant all on all tables in schema app to app_user", "app."),
    ] {
        meets(&mut owner, None, sql, &Refused(object));
        meets(&mut owner, Some("guard_owner"), sql, &Refused(object));
    }
    for (sql, object) in [
        ("alter table app.t owner to app_user", t),
        ("alter table app.t owner to guard_group", t),
        ("drop function current_tenant_id() cascade", "app."),
        ("drop owned by app_user", "app."),
        (
            "create or replace function current_tenant_id() returns text language sql stable
              as 'select ''globex''::text'",
            "public.current_tenant_id()",
        ),
        ("alter function current_tenant_id() immutable", "public.current_tenant_id()"),
        ("drop function multigres_context(text) cascade", "public.multigres_context(text)"),
        ("drop table multigres.protected", "record"),
        ("drop schema multigres cascade", "record"),
        ("drop table multigres.dimensions", "record"),
        (
            "set local session_replication_role = replica;
          alter table app.t disable row level security",
            t,
        ),
    ] {
        meets(&mut owner, None, sql, &Refused(object));
    }
    assert_eq!(verdict(&mut owner, "app_user"), None);
}

#[test]
fn what_migrations_are_made_of_passes() {
    let mut owner = guarded("guard_passes");
    for sql in [
        "create policy wide on app.t using (true)",
        "create policy own on app.t using (name = 'mine'); drop policy own on app.t",
        "alter table app.t add column extra int default 3, alter column name set not null",
        "alter table app.t alter column tenant_id drop not null",
        "alter table app.t alter column tenant_id drop default",
        "alter table app.t add constraint names unique (tenant_id, name)",
        "alter table app.t rename column tenant_id to org_id",
        "alter table app.t rename to t2",
        "alter table app.t set schema other",
        "alter schema app rename to app2",
        "alter table app.parts detach partition app.part1",
        "alter table app.heir no inherit app.t",
        "alter table app.t disable trigger user",
        "create index on app.t (name); reindex table app.t",
        "create view app.v as select * from app.t",
        "create table app.copied as select * from app.t",
        "create table app.t_new (like app.t including all)",
        "drop table app.part1",
        "drop table app.t cascade",
        "drop table app.t cascade; create table app.t (id int)",
        "drop schema app cascade",
        "truncate app.t cascade",
        "create function app.f() returns int language sql as 'select 1'; drop function app.f()",
        "grant select on app.plain to app_user",
        "alter default privileges in schema app grant select on tables to app_user",
    ] {
        meets(&mut owner, None, sql, &Passes);
        meets(&mut owner, Some("guard_owner"), sql, &Passes);
    }
    meets(
        &mut owner,
        None,
        "select multigres_unprotect('app.t'); alter table app.t disable row level security",
        &Passes,
    );
    meets(
        &mut owner,
        None,
        "select multigres_unprotect('app.t');
         alter table app.t alter column tenant_id type varchar(40);
         select multigres_protect('app.t')",
        &Passes,
    );
    meets(
        &mut owner,
        None,
        "drop table app.t cascade; create table app.t (id int, tenant_id text not null);
         select multigres_protect('app.t')",
        &Passes,
    );
}

#[test]
fn what_no_trigger_sees_is_heard_at_the_next_login() {
    let mut owner = guarded("guard_heard");
    let off = "app.t: row-level security is disabled";
    let name = "app.t: it has the name of a table that was protected";
    for (sql, problem) in [
        (
            "alter event trigger multigres_guard disable;
          alter table app.t disable row level security",
            off,
        ),
        ("update pg_class set relrowsecurity = false where oid = 'app.t'::regclass", off),
        (
            "drop event trigger multigres_guard; alter table app.t no force row level security",
            "app.t: row-level security is not forced",
        ),
        (
            "update pg_policy set polroles = '{10}' where polrelid = 'app.t'::regclass",
            "app.t: its policies are missing or were changed",
        ),
        ("delete from multigres.protected; alter table app.t disable row level security", off),
        ("reassign owned by guard_owner to app_user", "app_user owns it"),
        ("grant guard_owner to app_user", "app_user owns it"),
        (
            "update pg_proc set prosrc = 'select ''globex''' where proname = 'current_tenant_id'",
            "public.current_tenant_id(): it was changed",
        ),
        (
            "update pg_proc set proowner = 'app_user'::regrole
              where proname = 'current_tenant_id'",
            "app_user owns it, and policies take",
        ),
        (
            "alter table app.t rename to old;
          create table app.t (like app.old including all); grant select on app.t to app_user",
            name,
        ),
        (
            "create table app.next (like app.t including all); drop table app.t cascade;
          alter table app.next rename to t; grant insert on app.t to app_user",
            name,
        ),
        (
            "drop table app.t cascade; create view app.t as select 1 as id;
          grant select on app.t to guard_group",
            name,
        ),
    ] {
        meets(&mut owner, None, sql, &Heard(problem));
    }
    if version(&mut owner) >= 17 {
        let sql = "set local event_triggers = off; alter table app.t disable row level security";
        meets(&mut owner, None, sql, &Heard(off));
    }
    // What one transaction makes and changes has one xmin.
    owner
        .batch_execute(&format!(
            "begin; select multigres_protect('app.t'); {UNGUARD}
             alter policy multigres_isolation on app.t using (true)"
        ))
        .unwrap();
    assert!(verdict(&mut owner, "app_user").unwrap().contains("were changed"));
    owner.batch_execute("rollback").unwrap();
}

#[test]
fn a_role_is_judged_by_itself_whatever_its_name() {
    let mut owner = guarded("guard_roles");
    let heard = verdict(&mut owner, "guard_owner").expect("it owns the tables");
    assert!(heard.contains("app.t: guard_owner owns it"), "{heard}");
    assert_eq!(verdict(&mut owner, "trust_user"), None);
    owner.batch_execute("grant truncate on app.t to trust_user").unwrap();
    let heard = verdict(&mut owner, "trust_user").expect("it may truncate");
    assert!(
        heard.contains("app.t: trust_user has TRUNCATE, REFERENCES or TRIGGER on it"),
        "{heard}"
    );
    assert_eq!(verdict(&mut owner, "app_user"), None, "another role's right");
    // Whom no policy holds asks for app_user.
    let row = owner.query_one("select public.multigres_verdict()", &[]).unwrap();
    assert_eq!(row.get::<_, Option<String>>(0), None);
}

#[test]
fn a_table_that_is_broken_already_can_be_mended_and_stops_no_other() {
    let mut owner = guarded("guard_mended");
    owner
        .batch_execute(&format!(
            "create table app.other (tenant_id text);
             begin; {UNGUARD}
             alter table app.t disable row level security;
             alter policy multigres_isolation on app.t using (true);
             grant truncate on app.parts to guard_group;
             {guard} commit",
            guard = testing::GUARD
        ))
        .unwrap();
    for sql in [
        "alter table app.plain add column a int",
        "select multigres_protect('app.other')",
        "grant select on app.plain to app_user",
        "alter table app.t enable row level security",
        "select multigres_protect('app.t')",
        "revoke truncate on app.parts from guard_group",
    ] {
        owner.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    assert_eq!(verdict(&mut owner, "app_user"), None);
}

#[test]
fn a_partition_that_others_could_read_by_its_name_is_protected_as_it_comes() {
    let mut owner = guarded("guard_partitions");
    let rows = "grant usage on schema app to app_user;
        insert into app.parts values (7, 'acme'), (7, 'globex');
        set session authorization app_user; set app.current_tenant_id = 'acme'";
    let part7 = "create table app.part7 partition of app.parts for values in (7)";
    for sql in [
        format!(
            "alter default privileges for role guard_owner in schema app grant all on tables
                 to app_user;
             set local role guard_owner; {part7}; reset role"
        ),
        format!(
            "set local role guard_owner; {part7}; grant select on app.part7 to app_user;
             reset role"
        ),
        "set local role guard_owner; create table app.part7 (id int, tenant_id text not null);
         grant select on app.part7 to app_user;
         alter table app.parts attach partition app.part7 for values in (7); reset role"
            .to_owned(),
        format!(
            "set local role guard_owner; {part7}; grant select on app.part7 to trust_user;
             reset role; grant select on app.part7 to app_user"
        ),
    ] {
        owner.batch_execute(&format!("begin; {sql}; {rows}")).unwrap_or_else(|e| panic!("{e:?}"));
        assert_eq!(count(&mut owner, "app.part7"), 1, "{sql}");
        owner.batch_execute("reset session authorization").unwrap();
        assert_eq!(verdict(&mut owner, "app_user"), None, "{sql}");
        let drop = "alter table app.part7 disable row level security";
        assert_eq!(sqlstate(&owner.batch_execute(drop).unwrap_err()), "55000", "{sql}");
        owner.batch_execute("rollback").unwrap();
    }
    // Nobody but its owner reaches it: nothing to do.
    owner.batch_execute(&format!("set role guard_owner; {part7}; reset role")).unwrap();
    assert_eq!(count(&mut owner, "pg_class where relname = 'part7' and relrowsecurity"), 0);
    assert_eq!(verdict(&mut owner, "app_user"), None);
    // Where no trigger protects it, the login hears of it.
    let grant = format!("{UNGUARD} grant select on app.part7 to app_user");
    owner.batch_execute(&grant).unwrap();
    let heard = verdict(&mut owner, "app_user").expect("an open partition");
    assert!(heard.contains("app.part7: it is a part of app.parts"), "{heard}");
    owner.batch_execute("select multigres_protect('app.parts')").unwrap();
    assert_eq!(verdict(&mut owner, "app_user"), None);
}

#[test]
fn a_name_is_forgotten_on_demand_and_only_then() {
    let mut owner = guarded("guard_forget");
    owner
        .batch_execute(
            "drop table app.t cascade; create table app.t (id int);
             grant select on app.t to app_user",
        )
        .unwrap();
    assert!(verdict(&mut owner, "app_user").is_some());
    owner.batch_execute("select multigres_forget('app.t')").unwrap();
    assert_eq!(verdict(&mut owner, "app_user"), None);
    for (name, state) in
        [("app.parts", "55000"), ("app.t", "55000"), ("parts", "22023"), ("no.such", "55000")]
    {
        let error = owner.batch_execute(&format!("select multigres_forget('{name}')"));
        assert_eq!(sqlstate(&error.unwrap_err()), state, "{name}");
    }
    // The names of partitions do not pile up.
    owner.batch_execute("drop table app.part1").unwrap();
    assert_eq!(count(&mut owner, "multigres.protected where table_name = 'part1'"), 0);
}

#[test]
fn a_setup_adopts_what_is_whole_and_leaves_what_is_open() {
    let mut owner = guarded("guard_adopt");
    owner
        .batch_execute(&format!(
            "{UNGUARD} create table app.open (tenant_id text);
             select multigres_protect('app.open');
             truncate multigres.protected;
             alter table app.open disable row level security"
        ))
        .unwrap();
    for _ in 0..2 {
        owner.batch_execute(&SETUP).unwrap();
        assert_eq!(count(&mut owner, "multigres.protected where table_name = 't'"), 1);
        // It is in the record as one that was never whole.
        let open = "multigres.protected where table_name = 'open' and version is null";
        assert_eq!(count(&mut owner, open), 1);
        let heard = verdict(&mut owner, "app_user").expect("an open table");
        assert_eq!(heard, "app.open: row-level security is disabled");
    }
    assert_eq!(count(&mut owner, "pg_event_trigger where evtenabled = 'A'"), 4);
}

#[test]
fn the_record_is_nobodys_but_its_owners() {
    let mut owner = guarded("guard_record");
    for sql in [
        "table multigres.protected",
        "delete from multigres.context_parts",
        "select multigres.forget('app.t')",
        "select multigres.forget_context()",
        "select multigres_forget('app.t')",
    ] {
        owner.batch_execute("set session authorization app_user").unwrap();
        assert_eq!(sqlstate(&owner.batch_execute(sql).unwrap_err()), "42501", "{sql}");
        owner.batch_execute("reset session authorization").unwrap();
    }
    // What a session puts in front deceives no definer.
    owner
        .batch_execute(&format!(
            "begin; {UNGUARD} alter table app.t disable row level security;
             grant usage on schema app to app_user;
             set session authorization app_user;
             create temp table pg_class (a int); create temp table protected (a int);
             create function pg_temp.multigres_verdict() returns text language sql
                 as 'select null::text';
             set search_path = pg_temp, pg_catalog"
        ))
        .unwrap();
    let row = owner.query_one("select public.multigres_verdict()", &[]).unwrap();
    assert_eq!(row.get::<_, Option<&str>>(0), Some("app.t: row-level security is disabled"));
}

#[test]
fn a_dump_restores_and_what_it_restores_is_guarded() {
    let mut owner = guarded("guard_dump");
    let Some(tools) = dump_tools(version(&mut owner)) else { return };
    let alone = "create table app.alone (tenant_id text); select multigres_protect('app.alone')";
    owner.batch_execute(alone).unwrap();
    let cluster = cluster();
    let port = cluster.port().to_string();
    let run = |tool: &str, arguments: &[&str]| {
        let output = Command::new(tools.join(tool))
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres"])
            .args(arguments)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (all, one) = (file("all"), file("one"));
    assert_eq!(run("pg_dump", &["-Fc", "-f", &all, "guard_dump"]), "");
    assert_eq!(run("pg_dump", &["-Fc", "-t", "app.alone", "-f", &one, "guard_dump"]), "");
    let is_guarded = |client: &mut Client| {
        assert_eq!(verdict(client, "app_user"), None);
        for table in ["app.t", "app.part1", "app.alone"] {
            let sql = format!("alter table {table} disable row level security");
            assert_eq!(sqlstate(&client.batch_execute(&sql).unwrap_err()), "55000", "{table}");
        }
    };

    let restored = testing::empty_database("guard_restored");
    assert_eq!(run("pg_restore", &["-d", &restored, &all]), "");
    is_guarded(&mut cluster.superuser(&restored));
    for more in [&[][..], &["-1"], &["-1", "--if-exists"]] {
        let arguments = [&["--clean", "-d", "guard_dump"], more, &[&all]].concat();
        assert_eq!(run("pg_restore", &arguments), "", "{more:?}");
        is_guarded(&mut owner);
    }
    let said = run("pg_restore", &["--clean", "-d", "guard_dump", &one]);
    assert_eq!(said.matches("would take the protection").count(), 2, "{said}");
    assert!(said.contains("errors ignored on restore: 2"), "{said}");
    is_guarded(&mut owner);
}

/// The folder with a pg_dump of this server's version.
fn dump_tools(major: i32) -> Option<PathBuf> {
    let own = std::env::var_os("PG_BINDIR").map(PathBuf::from);
    let packaged = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = own.into_iter().chain([packaged]).chain(std::env::split_paths(&path));
    let is_of_this = |folder: &PathBuf| {
        let asked = Command::new(folder.join("pg_dump")).arg("--version").output();
        let says = format!("(PostgreSQL) {major}.");
        asked.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(&says))
    };
    let found = folders.into_iter().find(is_of_this);
    if found.is_none() {
        shortened("no pg_dump of the server's version on this machine");
    }
    found
}
