//! What multigres_check() finds beside the tables: the role, its settings, what it may make, and
//! what reads tables for it.

use testing::Cluster;
use testing::linter::{clean, findings, found_and_mended, is_found, mend, not_found, version};

#[test]
fn a_role_that_policies_do_not_hold_is_found() {
    let mut owner = clean("check_role");
    for (option, problem) in [
        ("superuser", "is a superuser"),
        ("bypassrls", "has BYPASSRLS"),
        ("createrole", "has CREATEROLE"),
        ("replication", "has REPLICATION"),
    ] {
        let expected = format!("role_bypasses_policies | role app_user | {problem}");
        found_and_mended(&mut owner, &format!("alter role app_user {option}"), &[&expected]);
    }
    for (grant, expected) in [
        (
            "bypassrls_group to app_user",
            "role_bypasses_policies | role app_user | bypassrls_group, which has BYPASSRLS",
        ),
        (
            "distant_group to tenant_tables",
            "role_bypasses_policies | role app_user | superuser_group, which is a superuser",
        ),
        (
            "pg_execute_server_program to app_user",
            "role_bypasses_policies | role app_user | pg_execute_server_program",
        ),
        ("pg_monitor to app_user", "role_predefined | role app_user | pg_monitor"),
    ] {
        owner
            .batch_execute(&format!("begin; alter role app_user noinherit; grant {grant}"))
            .unwrap();
        let found = findings(&mut owner);
        assert!(is_found(&found, expected), "{grant}: {found:?}");
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
    let keeper = "role_owns_multigres | role app_user | keeper";
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
    assert_eq!(findings(&mut owner), ["role_missing | role app_user"]);
}

#[test]
fn what_the_role_owns_or_may_create_is_found() {
    let mut owner = clean("check_owner");
    let found = "table_owned_by_tenants | table public.contacts | tenant_tables";
    found_and_mended(&mut owner, "alter table contacts owner to tenant_tables", &[found]);
    found_and_mended(
        &mut owner,
        "create table notes (tenant_id text); alter table notes owner to app_user;
         revoke all on notes from app_user",
        &["table_owned_by_tenants | table public.notes | app_user"],
    );
    let mut privileges = vec!["truncate", "references", "trigger", "references (name)"];
    if version(&mut owner) >= 17 {
        privileges.push("maintain");
    }
    for privilege in privileges {
        for role in ["app_user", "public", "tenant_tables"] {
            let has = privilege.split(' ').next().unwrap().to_uppercase();
            let expected = format!("table_privilege_not_covered | table public.contacts | {has}");
            let plant = format!("grant {privilege} on contacts to {role}");
            found_and_mended(&mut owner, &plant, &[&expected]);
        }
    }
    found_and_mended(
        &mut owner,
        "grant create on schema public to public",
        &["schema_create_granted | schema public"],
    );
    found_and_mended(
        &mut owner,
        r#"create schema "S s"; grant create on schema "S s" to tenant_tables"#,
        &[r#"schema_create_granted | schema "S s""#],
    );
    found_and_mended(
        &mut owner,
        "create schema theirs authorization app_user",
        &["schema_owned_by_tenants | schema theirs"],
    );
    if version(&mut owner) >= 15 {
        found_and_mended(
            &mut owner,
            "alter database check_owner owner to app_user",
            &["schema_owned_by_tenants | schema public"],
        );
    }
    found_and_mended(
        &mut owner,
        "grant create on database check_owner to app_user",
        &["database_create_granted | database check_owner"],
    );
    found_and_mended(
        &mut owner,
        "alter default privileges in schema public grant select on tables to app_user;
         alter default privileges grant all on sequences to app_user",
        &["default_privileges | default privileges of postgres | SELECT"],
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
        for (setting, lint, name) in [
            (
                "app.current_tenant_id = 'acme'",
                "login_setting_of_context",
                "\"app.current_tenant_id\"",
            ),
            (
                "\"App.Current_Tenant_Id\" = 'acme'",
                "login_setting_of_context",
                "\"app.current_tenant_id\"",
            ),
            (
                "app.current_tenant_id_seal = 'x'",
                "login_setting_of_context",
                "\"app.current_tenant_id_seal\"",
            ),
            ("role = 'trust_user'", "login_setting_of_context", "role"),
            ("row_security = off", "login_setting", "row_security"),
            ("search_path = evil, public", "login_setting", "search_path"),
        ] {
            let plant = format!("set client_min_messages = error; alter {whose} set {setting}");
            let expected = format!("{lint} | {object} | {name} is set");
            found_and_mended(&mut owner, &plant, &[&expected]);
        }
    }
    not_found(
        &mut owner,
        "alter role app_user set statement_timeout = '1min'; alter role app_user set
             application_name = 'x'; alter role app_user set track_io_timing = on;
         alter role app_user set idle_in_transaction_session_timeout = 0;
         alter database check_defaults set lock_timeout = '2s';
         alter role app_user in database postgres set row_security = off;
         alter role trust_user set app.current_tenant_id = 'acme'",
    );
}

#[test]
fn settings_that_a_tenant_leaves_for_the_others_are_found_and_told_by_harden() {
    let mut owner = clean("check_left");
    for (setting, lint, effect) in [
        ("statement_timeout = 1", "login_setting_timeout", ": nobody may be able to log in"),
        ("statement_timeout = '900 us'", "login_setting_timeout", ": nobody may be able to log in"),
        (
            "idle_in_transaction_session_timeout = 1",
            "login_setting_timeout",
            ": nobody may be able to log in",
        ),
        ("lock_timeout = '5ms'", "login_setting", ": statements fail where they would wait"),
        (
            "default_transaction_read_only = on",
            "login_setting",
            ": transactions fail, or behave in another way",
        ),
        (
            "default_transaction_isolation = serializable",
            "login_setting",
            ": transactions fail, or behave in another way",
        ),
        ("standard_conforming_strings = off", "login_setting", ": statements do something else"),
        ("session_replication_role = replica", "login_setting", ": statements do something else"),
        ("datestyle = 'German'", "login_setting", ": values are read or written in another way"),
        ("client_min_messages = debug5", "login_setting", ": clients receive other messages"),
        ("debug_print_plan = on", "login_setting", ": clients receive other messages"),
        ("synchronous_commit = off", "login_setting_unknown", ""),
        ("app.theme = 'dark'", "login_setting_unknown", ""),
    ] {
        let name = setting.split(' ').next().unwrap();
        let shown = if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() };
        // The rest any tenant may do.
        let privileged = ["session_replication_role", "app.theme"].contains(&name);
        let by = if privileged { "" } else { "set role app_user;" };
        for (object, by) in [("role app_user", by), ("database check_left", "")] {
            let plant = format!("{by} alter {object} set {setting}; reset role");
            let found = format!("{lint} | {object} | {shown} is set for every login{effect}");
            found_and_mended(&mut owner, &plant, &[&found]);
        }
    }
    owner
        .batch_execute("begin; set role app_user; alter role app_user set datestyle = 'German'")
        .unwrap();
    owner.batch_execute("alter role app_user set application_name = 'x'; reset role").unwrap();
    let told = "select note from multigres_harden() where what = 'its own settings'";
    let told: String = owner.query_one(told, &[]).unwrap().get(0);
    assert!(told.ends_with(": datestyle"), "{told}");
    owner.batch_execute("rollback").unwrap();
    let all = "login_setting_timeout | role all | statement_timeout";
    found_and_mended(&mut owner, "alter role all set statement_timeout = 1", &[all]);
}

#[test]
fn settings_that_fail_slow_or_distort_every_login_are_found() {
    let mut owner = clean("check_harm");
    for (setting, lint, effect) in [
        ("extra_float_digits = -15", "login_setting", ": values are read or written"),
        ("timezone = 'Pacific/Kiritimati'", "login_setting", ": times are read and written"),
        ("gin_fuzzy_search_limit = 1", "login_setting", ": queries may return only some of"),
        ("temp_buffers = 1073741823", "login_setting", ": queries may fail, or use up the memory"),
        ("work_mem = '1TB'", "login_setting", ": queries may fail, or use up the memory"),
        ("enable_indexscan = off", "login_setting", ": logins and queries may take much longer"),
        ("jit_above_cost = 0", "login_setting", ": logins and queries may take much longer"),
        ("from_collapse_limit = 1", "login_setting", ": logins and queries may take much longer"),
        ("random_page_cost = 1e9", "login_setting", ": logins and queries may take much longer"),
        ("tcp_user_timeout = 1", "login_setting", ": connections may end"),
        ("plpgsql.extra_errors = 'all'", "login_setting", ": statements do something else"),
        ("local_preload_libraries = 'x'", "login_setting_library", ": every login fails unless"),
        ("session_preload_libraries = 'x'", "login_setting_library", ": every login fails unless"),
    ] {
        let name = setting.split(' ').next().unwrap();
        let shown = if name.contains('.') { "\"plpgsql.extra_errors\"" } else { name };
        // The rest any tenant may do.
        let by = if name == "session_preload_libraries" {
            ""
        } else {
            "load 'plpgsql'; set role app_user;"
        };
        let plant = format!("{by} alter role app_user set {setting}; reset role");
        let found = format!("{lint} | role app_user | {shown} is set for every login{effect}");
        found_and_mended(&mut owner, &plant, &[&found]);
    }
}

#[test]
fn views_that_read_past_policies_are_found() {
    let mut owner = clean("check_views");
    let view = "create view people as select * from contacts; grant select on people to app_user";
    let past = "view_bypasses_policies | view public.people | postgres, who bypasses";
    found_and_mended(&mut owner, view, &[past]);
    found_and_mended(
        &mut owner,
        "create view inner_people as select * from contacts;
         create view people as select * from inner_people; grant update (name) on people to public",
        &[past],
    );
    let held = format!("{view}; alter view people owner to trust_user");
    let rights = "view_with_owner_rights | view public.people | trust_user";
    // Before 15 that is the best a view can do.
    if version(&mut owner) >= 15 {
        found_and_mended(&mut owner, &held, &[rights]);
        not_found(&mut owner, &format!("{view}; alter view people set (security_invoker)"));
    } else {
        not_found(&mut owner, &held);
    }
    let found = "view_bypasses_policies | view public.people | trust_user";
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
    found_and_mended(
        &mut owner,
        &format!("{copy}; grant select on copied to app_user"),
        &["relation_without_policies | materialized view public.copied | SELECT"],
    );
    found_and_mended(
        &mut owner,
        "create foreign data wrapper w; create server s foreign data wrapper w;
         create foreign table far (tenant_id text) server s; grant insert on far to public",
        &["relation_without_policies | foreign table public.far | INSERT"],
    );
    not_found(&mut owner, copy);
    found_and_mended(
        &mut owner,
        "create materialized view numbers as select 1 as a; grant select on numbers to app_user",
        &["relation_shared_read | materialized view public.numbers | SELECT"],
    );
}

#[test]
fn functions_that_run_with_other_rights_are_found() {
    let mut owner = clean("check_definers");
    let body = "returns bigint language sql security definer
                set search_path = pg_catalog, public, pg_temp as 'select count(*) from contacts'";
    found_and_mended(
        &mut owner,
        &format!("create function people() {body}"),
        &["function_bypasses_policies | function public.people() | postgres"],
    );
    found_and_mended(
        &mut owner,
        &format!("create function people() {body}; alter function people() owner to trust_user"),
        &["function_with_owner_rights | function public.people() | trust_user"],
    );
    found_and_mended(
        &mut owner,
        "create procedure people(int) language sql security definer as 'select 1'",
        &[
            "function_bypasses_policies | procedure public.people(integer) | postgres",
            "function_search_path | procedure public.people(integer)",
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
