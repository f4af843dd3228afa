//! What the guard makes of a protected table that becomes a part of another one, of statements in
//! CREATE SCHEMA, and of names: those of the past, and those of the functions that policies call.

use postgres::Client;

use testing::linter::{findings, is_found};

use crate::event_guard::{
    Fate::{Heard, Passes, Refused},
    guarded, meets, verdict,
};
use testing::{GUARD, UNGUARD, sqlstate};

/// Parents that show the rows of a protected table once it is a part of theirs.
const PARENTS: &str = "
    set role guard_owner;
    create table app.narrow (id int, name text);
    create table app.above (id int);
    create table app.open_parts (id int, tenant_id text not null) partition by list (tenant_id);
    create table app.ev (id int, tenant_id text not null);
    create table app.less (id int, tenant_id text not null, org_id text not null);
    create table app.more (id int, tenant_id text not null, org_id text not null);
    reset role;
    select multigres_protect('app.ev');
    select multigres_protect('app.less');
    select multigres_protect('app.more'), multigres_protect('app.more', 'org_id', 'app.org_id')";

fn with_parents(name: &str) -> Client {
    let mut owner = guarded(name);
    owner.batch_execute(PARENTS).unwrap();
    owner
}

#[test]
fn a_parent_that_shows_the_rows_of_a_protected_table_is_refused() {
    let mut owner = with_parents("guard_parents");
    let attach = "alter table app.open_parts attach partition app.ev default";
    let wrapped = format!("select multigres_alter('{attach}'");
    for sql in [
        "alter table app.t inherit app.narrow; grant select on app.narrow to app_user",
        "alter table app.t inherit app.narrow; grant select (name) on app.narrow to app_user",
        "grant select on app.narrow to guard_group; alter table app.t inherit app.narrow",
        "grant delete on app.narrow to public; alter table app.t inherit app.narrow",
        "alter table app.t inherit app.narrow; alter table app.narrow inherit app.above;
         grant select on app.above to app_user",
        "grant select on app.above to app_user; alter table app.t inherit app.narrow;
         alter table app.narrow inherit app.above",
        &format!("grant select on app.open_parts to app_user; {attach}"),
        &format!("{attach}; grant select on app.open_parts to app_user"),
        &format!("grant select on app.open_parts to app_user; {wrapped}, 'app.open_parts')"),
        &format!(
            "grant select on app.open_parts to app_user; {wrapped}, 'app.open_parts', 'app.ev')"
        ),
        "alter table app.more inherit app.less",
    ] {
        meets(&mut owner, None, sql, &Refused("past its policies"));
        // multigres_alter() is not theirs to call.
        if !sql.contains("multigres_alter") {
            meets(&mut owner, Some("guard_owner"), sql, &Refused("past its policies"));
        }
    }
    for (sql, problem) in [
        (
            "alter table app.t inherit app.narrow; grant select on app.narrow to app_user",
            "app.narrow: it shows the rows of app.t past its policies",
        ),
        (
            "alter table app.open_parts attach partition app.ev default;
             grant select on app.open_parts to app_user",
            "app.open_parts: it shows the rows of app.ev",
        ),
        ("alter table app.more inherit app.less", "app.less: it shows the rows of app.more"),
    ] {
        meets(&mut owner, None, &format!("{UNGUARD} {sql}"), &Heard(problem));
        owner.batch_execute(&format!("begin; {UNGUARD} {sql}")).unwrap();
        let found = findings(&mut owner);
        let parent = problem.split(':').next().unwrap();
        let expected = format!("parent_not_protected | table {parent}");
        assert!(is_found(&found, &expected), "{sql}: {found:?}");
        owner.batch_execute("rollback").unwrap();
    }
}

#[test]
fn a_protected_table_can_become_a_part_of_a_protected_one() {
    let mut owner = with_parents("guard_parents_protected");
    let attach = "alter table app.open_parts attach partition app.ev default";
    for sql in [
        &format!("select multigres_protect('app.open_parts'); {attach}"),
        &format!("{attach}; select multigres_protect('app.open_parts')"),
        &format!(
            "select multigres_protect('app.open_parts');
             select multigres_alter('{attach}', 'app.open_parts', 'app.ev')"
        ),
        // Nobody else sees these.
        attach,
        "alter table app.t inherit app.narrow",
        "alter table app.t inherit app.narrow; alter table app.t no inherit app.narrow;
         grant select on app.narrow to app_user",
        // More is compared in the parent than in its part.
        "alter table app.less inherit app.more",
        // The same column by a name that it has since.
        "alter table app.less rename tenant_id to t; alter table app.ev rename tenant_id to t;
         select multigres_protect('app.ev', 't'); alter table app.less inherit app.ev",
    ] {
        meets(&mut owner, None, sql, &Passes);
    }
    owner.batch_execute(&format!("select multigres_protect('app.open_parts'); {attach}")).unwrap();
    for table in ["app.open_parts", "app.ev"] {
        let sql = format!("alter table {table} disable row level security");
        meets(&mut owner, None, &sql, &Refused(table));
    }
}

#[test]
fn a_parent_that_is_open_already_stops_no_other_statement() {
    let mut owner = with_parents("guard_parents_mended");
    let open = format!(
        "begin; {UNGUARD}
         alter table app.t inherit app.narrow; grant select on app.narrow to app_user;
         alter table app.more inherit app.less; {GUARD} commit"
    );
    owner.batch_execute(&open).unwrap();
    assert!(verdict(&mut owner, "app_user").is_some());
    for sql in [
        "alter table app.plain add column a int",
        "grant select on app.plain to app_user",
        "alter table app.t no inherit app.narrow",
        "select multigres_protect('app.less', 'org_id', 'app.org_id')",
    ] {
        owner.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    assert_eq!(verdict(&mut owner, "app_user"), None);
}

#[test]
fn create_schema_holds_no_statement_that_would_be_refused() {
    let mut owner = guarded("guard_schema_elements");
    meets(
        &mut owner,
        None,
        "create schema zz grant truncate on app.t to app_user",
        &Refused("app.t"),
    );
    meets(&mut owner, None, "create schema zz create table t (id int)", &Passes);
    owner
        .batch_execute(
            "begin; alter default privileges grant select on tables to app_user;
             create schema zz create table part7 partition of app.parts for values in (7)",
        )
        .unwrap();
    let row = owner
        .query_one("select relrowsecurity from pg_class where oid = 'zz.part7'::regclass", &[])
        .unwrap();
    assert!(row.get::<_, bool>(0));
    owner.batch_execute("rollback").unwrap();
}

#[test]
fn a_foreign_part_that_would_be_open_is_refused_and_stops_no_other() {
    let mut owner = guarded("guard_foreign");
    owner
        .batch_execute(
            "create foreign data wrapper nothing; create server nowhere
                 foreign data wrapper nothing;
             alter default privileges grant select on tables to app_user",
        )
        .unwrap();
    let part = "create foreign table app.far partition of app.parts for values in (7)
        server nowhere";
    let heir = "create foreign table app.far (id int, tenant_id text not null) server nowhere";
    let attach = "alter table app.parts attach partition app.far for values in (7)";
    let child = "create foreign table app.far (id int not null, tenant_id text not null, name text)
        server nowhere; alter foreign table app.far inherit app.t";
    for sql in [part, &format!("{heir}; {attach}"), child] {
        meets(&mut owner, None, sql, &Refused("app.far"));
    }
    let reach = "revoke select on app.far from app_user";
    let granted = format!("{heir}; {reach}; {attach}; grant select on app.far to app_user");
    meets(&mut owner, None, &granted, &Refused("app.far"));
    owner.batch_execute(&format!("begin; {UNGUARD} {part}; {} commit", GUARD)).unwrap();
    for sql in [
        "alter table app.plain add column a int",
        "grant select on app.plain to app_user",
        "create table app.another (id int)",
        "alter table app.t add column a int",
    ] {
        owner.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    assert!(verdict(&mut owner, "app_user").unwrap().contains("app.far"));
    owner.batch_execute("revoke select on app.far from app_user").unwrap();
    assert_eq!(verdict(&mut owner, "app_user"), None);
}

#[test]
fn names_of_the_past_outlive_policies_that_are_written_anew() {
    let mut owner = guarded("guard_names");
    let key = "0".repeat(64);
    let seal = format!("select multigres_seal('{key}')");
    let again = [
        "select multigres_protect('app.old')",
        "select multigres_protect('app.old', 'name', 'app.name')",
        &seal,
        &format!("{seal}; select multigres_front('app.old', false); select multigres_unseal()"),
        "select multigres_protect('app.old', 'name', 'app.name');
         select multigres_unprotect('app.old', 'name')",
        "select multigres_alter('alter table app.old add check (id > 0)', 'app.old')",
    ];
    for again in again {
        meets(
            &mut owner,
            None,
            &format!(
                "alter table app.t rename to old; {again};
                 create table app.t (id int); grant select on app.t to app_user"
            ),
            &Heard("app.t: it has the name of a table that was protected"),
        );
        meets(&mut owner, None, &format!("alter table app.t rename to old; {again}"), &Passes);
    }
    meets(
        &mut owner,
        None,
        "alter table app.t rename to old; select multigres_protect('app.old');
         select multigres_unprotect('app.old');
         create table app.t (id int); grant select on app.t to app_user",
        &Passes,
    );
    // Of a table that was dropped, and stands again with its policies.
    owner
        .batch_execute(&format!(
            "begin; {UNGUARD} update multigres.protected set relation = null, version = null
                 where table_name = 't'; {} commit;
             select multigres_protect('app.t')",
            GUARD
        ))
        .unwrap();
    assert_eq!(verdict(&mut owner, "app_user"), None);
    let error = owner.batch_execute("alter table app.t disable row level security").unwrap_err();
    assert_eq!(sqlstate(&error), "55000");
}

#[test]
fn policies_call_the_function_that_has_the_name() {
    let mut owner = guarded("guard_renamed");
    let name = "public.current_tenant_id()";
    for sql in [
        "alter function current_tenant_id() rename to mine",
        "alter function current_tenant_id() set schema other",
        "alter routine multigres_context(text) rename to mine",
    ] {
        let object = if sql.contains("context") { "public.multigres_context(text)" } else { name };
        meets(&mut owner, None, sql, &Refused(object));
    }
    let text = "create function current_tenant_id() returns text language sql stable
        parallel safe as ";
    let source: String = owner
        .query_one("select prosrc from pg_proc where proname = 'current_tenant_id'", &[])
        .unwrap()
        .get(0);
    meets(
        &mut owner,
        None,
        &format!(
            "{UNGUARD} alter function current_tenant_id() rename to mine;
             {text} $context${source}$context$;
             create or replace function mine() returns text language sql stable parallel safe
                 as 'select ''globex''::text'"
        ),
        &Heard("public.current_tenant_id(): policies call another function"),
    );
}

#[test]
fn policies_of_our_names_on_tables_of_others_keep_nobody_out() {
    let mut owner = guarded("guard_others");
    owner
        .batch_execute(
            "select pg_advisory_lock(1);
             do $$ begin
                 if to_regrole('mallory') is null then create role mallory; end if;
             end $$;
             select pg_advisory_unlock(1);
             create schema mal authorization mallory; grant usage on schema mal to app_user;
             set role mallory;
             create table mal.t (tenant_id text);
             create policy multigres_isolation on mal.t using (true);
             grant select on mal.t to app_user;
             reset role; set session authorization app_user;
             create temp table own (a int);
             create policy multigres_isolation on own using (true);
             create temp table t (a int);
             reset session authorization",
        )
        .unwrap();
    assert_eq!(verdict(&mut owner, "app_user"), None);
    // Restored without their record.
    for (sql, problem) in [
        ("alter table mal.t owner to guard_owner", "mal.t: row-level security is disabled"),
        ("alter table mal.t owner to postgres", "mal.t: row-level security is disabled"),
        ("truncate multigres.protected", "mal.t: row-level security is disabled"),
    ] {
        meets(&mut owner, None, sql, &Heard(problem));
    }
}
