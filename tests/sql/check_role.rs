//! What multigres_check() finds beside the tables: the role, its settings, what it may make, and
//! what reads tables for it.

use testing::Cluster;
use testing::linter::{clean, findings, found_and_mended, mend, not_found, version};

#[test]
fn a_role_that_policies_do_not_hold_is_found() {
    let mut owner = clean("check_role");
    for (option, problem) in [
        ("superuser", "is a superuser"),
        ("bypassrls", "has BYPASSRLS"),
        ("createrole", "has CREATEROLE"),
        ("replication", "has REPLICATION"),
    ] {
        let expected = format!("error | role app_user | {problem}");
        found_and_mended(&mut owner, &format!("alter role app_user {option}"), &[&expected]);
    }
    for (grant, problem) in [
        ("bypassrls_group to app_user", "can become bypassrls_group, which has BYPASSRLS"),
        ("distant_group to tenant_tables", "can become superuser_group, which is a superuser"),
        (
            "pg_execute_server_program to app_user",
            "can become pg_execute_server_program, which reaches the server's files",
        ),
        (
            "pg_monitor to app_user",
            "is a member of pg_monitor, which sees or does more than one tenant should",
        ),
    ] {
        owner
            .batch_execute(&format!("begin; alter role app_user noinherit; grant {grant}"))
            .unwrap();
        let found = findings(&mut owner);
        assert!(found.iter().any(|line| line.ends_with(problem)), "{grant}: {found:?}");
        mend(&mut owner);
        assert_eq!(findings(&mut owner), [""; 0], "{grant}");
        owner.batch_execute("rollback").unwrap();
    }
    owner
        .batch_execute(
            "begin; create role keeper; alter function current_tenant_id() owner to keeper;
             alter function multigres_protect(regclass, name, text) owner to keeper;
             alter function multigres_maintenance(regclass) owner to keeper;
             grant keeper to app_user",
        )
        .unwrap();
    let keeper = "error | role app_user | can become keeper, which owns the functions of Multigres";
    assert_eq!(findings(&mut owner), [keeper]);
    mend(&mut owner);
    assert_eq!(findings(&mut owner), [""; 0]);
}

#[test]
fn a_missing_role_is_found() {
    let cluster = Cluster::start();
    let mut owner = cluster.superuser("postgres");
    owner.batch_execute(&testing::SETUP).unwrap();
    assert_eq!(findings(&mut owner), [""; 0]);
    owner.batch_execute("drop owned by app_user; drop role app_user").unwrap();
    assert_eq!(findings(&mut owner), ["error | role app_user | does not exist"]);
}

#[test]
fn what_the_role_owns_or_may_create_is_found() {
    let mut owner = clean("check_owner");
    let found = "error | table public.contacts | app_user can become its owner tenant_tables, who \
                 can switch row-level security off";
    found_and_mended(&mut owner, "alter table contacts owner to tenant_tables", &[found]);
    found_and_mended(
        &mut owner,
        "create table notes (tenant_id text); alter table notes owner to app_user;
         revoke all on notes from app_user",
        &["error | table public.notes | app_user can become its owner app_user, who can switch \
           row-level security off"],
    );
    let mut privileges = vec!["truncate", "references", "trigger", "references (name)"];
    if version(&mut owner) >= 17 {
        privileges.push("maintain");
    }
    for privilege in privileges {
        for role in ["app_user", "public", "tenant_tables"] {
            let has = privilege.split(' ').next().unwrap().to_uppercase();
            let expected = format!(
                "error | table public.contacts | app_user has {has}, which row-level security \
                 does not cover"
            );
            let plant = format!("grant {privilege} on contacts to {role}");
            found_and_mended(&mut owner, &plant, &[&expected]);
        }
    }
    let creates = "app_user may create objects in it, which other tenants' sessions would use";
    found_and_mended(
        &mut owner,
        "grant create on schema public to public",
        &[&format!("error | schema public | {creates}")],
    );
    found_and_mended(
        &mut owner,
        r#"create schema "S s"; grant create on schema "S s" to tenant_tables"#,
        &[&format!(r#"error | schema "S s" | {creates}"#)],
    );
    let owns = "app_user owns it, and may drop or shadow what is in it";
    found_and_mended(
        &mut owner,
        "create schema theirs authorization app_user",
        &[&format!("error | schema theirs | {owns}")],
    );
    if version(&mut owner) >= 15 {
        found_and_mended(
            &mut owner,
            "alter database check_owner owner to app_user",
            &[&format!("error | schema public | {owns}")],
        );
    }
    found_and_mended(
        &mut owner,
        "grant create on database check_owner to app_user",
        &["error | database check_owner | app_user may create schemas in it, which other \
           tenants' search_path would find"],
    );
    found_and_mended(
        &mut owner,
        "alter default privileges in schema public grant select on tables to app_user;
         alter default privileges grant all on sequences to app_user",
        &["info | default privileges of postgres | app_user gets SELECT on tables that are not \
           protected yet"],
    );
}

#[test]
fn settings_that_each_login_would_start_with_are_found() {
    let mut owner = clean("check_defaults");
    for (whose, object) in [
        ("role app_user", "role app_user"),
        ("role app_user in database check_defaults", "role app_user"),
        ("database check_defaults", "database check_defaults"),
    ] {
        for (setting, severity, name) in [
            ("app.current_tenant_id = 'acme'", "error", "\"app.current_tenant_id\""),
            ("\"App.Current_Tenant_Id\" = 'acme'", "error", "\"app.current_tenant_id\""),
            ("app.current_tenant_id_seal = 'x'", "error", "\"app.current_tenant_id_seal\""),
            ("role = 'trust_user'", "error", "role"),
            ("row_security = off", "warning", "row_security"),
            ("search_path = evil, public", "warning", "search_path"),
        ] {
            let plant = format!("set client_min_messages = error; alter {whose} set {setting}");
            let expected = format!("{severity} | {object} | {name} is set for every login");
            found_and_mended(&mut owner, &plant, &[&expected]);
        }
    }
    not_found(
        &mut owner,
        "alter role app_user set statement_timeout = '1min'; alter role app_user set work_mem = 64;
         alter role app_user set timezone = 'UTC'; alter role app_user set jit = off;
         alter role app_user set idle_in_transaction_session_timeout = 0;
         alter database check_defaults set lock_timeout = '2s';
         alter role app_user in database postgres set row_security = off;
         alter role trust_user set app.current_tenant_id = 'acme'",
    );
}

#[test]
fn settings_that_a_tenant_leaves_for_the_others_are_found_and_told_by_harden() {
    let mut owner = clean("check_left");
    for (setting, severity, effect) in [
        ("statement_timeout = 1", "error", ": nobody may be able to log in"),
        ("statement_timeout = '900 us'", "error", ": nobody may be able to log in"),
        ("idle_in_transaction_session_timeout = 1", "error", ": nobody may be able to log in"),
        ("lock_timeout = '5ms'", "warning", ": statements fail where they would wait"),
        (
            "default_transaction_read_only = on",
            "warning",
            ": transactions fail, or behave in another way",
        ),
        (
            "default_transaction_isolation = serializable",
            "warning",
            ": transactions fail, or behave in another way",
        ),
        ("standard_conforming_strings = off", "warning", ": statements do something else"),
        ("session_replication_role = replica", "warning", ": statements do something else"),
        ("datestyle = 'German'", "warning", ": values are read or written in another way"),
        ("client_min_messages = debug5", "warning", ": clients hear other messages"),
        ("debug_print_plan = on", "warning", ": clients hear other messages"),
        ("synchronous_commit = off", "info", ""),
        ("app.theme = 'dark'", "info", ""),
    ] {
        let name = setting.split(' ').next().unwrap();
        let shown = if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() };
        // The rest any tenant may do.
        let privileged = ["session_replication_role", "app.theme"].contains(&name);
        let by = if privileged { "" } else { "set role app_user;" };
        for (object, by) in [("role app_user", by), ("database check_left", "")] {
            let plant = format!("{by} alter {object} set {setting}; reset role");
            let found = format!("{severity} | {object} | {shown} is set for every login{effect}");
            found_and_mended(&mut owner, &plant, &[&found]);
        }
    }
    owner
        .batch_execute("begin; set role app_user; alter role app_user set datestyle = 'German'")
        .unwrap();
    owner.batch_execute("alter role app_user set work_mem = 64; reset role").unwrap();
    let told = "select note from multigres_harden() where what = 'its own settings'";
    let told: String = owner.query_one(told, &[]).unwrap().get(0);
    assert!(told.ends_with("set now, and named by multigres_check(): datestyle"), "{told}");
    owner.batch_execute("rollback").unwrap();
    let all = "error | role all | statement_timeout is set for every login: nobody may be able to \
               log in";
    found_and_mended(&mut owner, "alter role all set statement_timeout = 1", &[all]);
}

#[test]
fn views_that_read_past_policies_are_found() {
    let mut owner = clean("check_views");
    let view = "create view people as select * from contacts; grant select on people to app_user";
    let past = "reads with the rights of its owner postgres, who bypasses row-level security";
    found_and_mended(&mut owner, view, &[&format!("error | view public.people | {past}")]);
    found_and_mended(
        &mut owner,
        "create view inner_people as select * from contacts;
         create view people as select * from inner_people; grant update (name) on people to public",
        &[&format!("error | view public.people | {past}")],
    );
    let held = format!("{view}; alter view people owner to trust_user");
    let rights = "info | view public.people | reads with the rights of its owner trust_user";
    // Before 15 that is the best a view can do.
    if version(&mut owner) >= 15 {
        found_and_mended(&mut owner, &held, &[rights]);
        not_found(&mut owner, &format!("{view}; alter view people set (security_invoker)"));
    } else {
        not_found(&mut owner, &held);
    }
    let found = "error | view public.people | reads with the rights of its owner trust_user, and \
                 the tables it reads have no policy for that owner";
    found_and_mended(
        &mut owner,
        "create table notes (tenant_id text); create view people as select * from notes;
         grant select on people to app_user; alter view people owner to trust_user",
        &[found],
    );
    not_found(
        &mut owner,
        "create view people as select 1 as a; grant select on people to app_user;
         create view unread as select * from contacts",
    );
    let copy = "create materialized view copied as select * from contacts";
    let rows = "on it, and it cannot have policies";
    found_and_mended(
        &mut owner,
        &format!("{copy}; grant select on copied to app_user"),
        &[&format!("error | materialized view public.copied | app_user has SELECT {rows}")],
    );
    found_and_mended(
        &mut owner,
        "create foreign data wrapper w; create server s foreign data wrapper w;
         create foreign table far (tenant_id text) server s; grant insert on far to public",
        &[&format!("error | foreign table public.far | app_user has INSERT {rows}")],
    );
    not_found(&mut owner, copy);
}

#[test]
fn functions_that_run_with_other_rights_are_found() {
    let mut owner = clean("check_definers");
    let body = "returns bigint language sql security definer
                set search_path = pg_catalog, public, pg_temp as 'select count(*) from contacts'";
    let runs = "app_user may execute it, and it runs with the rights of";
    found_and_mended(
        &mut owner,
        &format!("create function people() {body}"),
        &[&format!("error | function people() | {runs} postgres, who bypasses row-level security")
            .replace("people()", "public.people()")],
    );
    found_and_mended(
        &mut owner,
        &format!("create function people() {body}; alter function people() owner to trust_user"),
        &[&format!("info | function public.people() | {runs} trust_user")],
    );
    found_and_mended(
        &mut owner,
        "create procedure people(int) language sql security definer as 'select 1'",
        &[
            &format!(
                "error | procedure public.people(integer) | {runs} postgres, who \
                      bypasses row-level security"
            ),
            "warning | procedure public.people(integer) | is SECURITY DEFINER and finds its names \
             by the search_path of its caller",
        ],
    );
    not_found(
        &mut owner,
        &format!(
            "create function people() {body}; revoke execute on function people() from public;
             create function own() returns int language sql as 'select 1';
             create schema closed; create function closed.people() {body}"
        ),
    );
}
