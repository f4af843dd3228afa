//! What a role that may create objects in schema public lays there under a name of Multigres's:
//! it must never run, or be read, with the rights of those who set up, harden, or log in.

use testing::linter::{clean, findings, found_and_mended, is_found, mend, planted};
use testing::{
    GUARD, SEAL_KEY, SETUP, TEARDOWN, UNGUARD, as_squatter, cluster, count, empty_database,
    sqlstate,
};

/// What each planted function would do for its maker.
const TRAP: &str =
    "language plpgsql as $$ begin create table public.trapped (); return null; end $$";

#[test]
fn the_setup_stops_at_what_another_role_has_laid_in_its_way() {
    let database = empty_database("planted_before");
    let mut owner = cluster().superuser(&database);
    for (planted, name) in [
        ("function public.current_tenant_id() returns text", "current_tenant_id()"),
        // It would fit a call of the setup's own better than the function that is meant.
        (
            "function public.multigres_role_problems(role_id regrole) returns text",
            "public.multigres_role_problems(regrole)",
        ),
        ("function public.multigres_admit(c pg_class) returns text", "multigres_admit(pg_class)"),
        ("table public.multigres_seal_keys (id int)", "multigres_seal_keys"),
        ("schema multigres", "schema multigres"),
        ("view public.multigres_hardening as select 1 as position", "multigres_hardening"),
    ] {
        let body = if planted.starts_with("function") { TRAP } else { "" };
        as_squatter(&mut owner, &format!("create {planted} {body}"));
        let error = owner.batch_execute(&SETUP).unwrap_err();
        assert_eq!(sqlstate(&error), "55000", "{planted}: {error:?}");
        let message = error.as_db_error().unwrap().message();
        assert!(message.contains(name) && message.contains("trust_user"), "{message}");
        owner.batch_execute("rollback").unwrap();
        assert_eq!(count(&mut owner, "pg_proc where proname = 'multigres_protect'"), 0);
        owner.batch_execute("drop owned by trust_user").unwrap();
        assert_eq!(count(&mut owner, "pg_class where relname = 'trapped'"), 0, "{planted}");
    }
    owner.batch_execute(&SETUP).unwrap();
    assert_eq!(findings(&mut owner), [""; 0]);
}

#[test]
fn a_planted_table_of_changes_is_not_undone() {
    let mut owner = clean("planted_hardening");
    let table = "create table public.multigres_hardening (
             position bigint generated always as identity, item text, kind text, object text,
             privilege text, grantee text, grantable boolean, granted boolean);
         insert into public.multigres_hardening
             (item, kind, object, privilege, grantee, grantable, granted)
         values ('x', 'event trigger', 'nothing; create table public.trapped ()', '', '', false,
             true)";
    as_squatter(&mut owner, table);
    // Nothing but setup.sql looks into a table of that name any more.
    owner.batch_execute("select multigres_harden(); select multigres_unharden()").unwrap();
    assert_eq!(count(&mut owner, "pg_class where relname = 'trapped'"), 0);
    for call in [TEARDOWN, &SETUP] {
        let error = owner.batch_execute(call).unwrap_err();
        assert_eq!(sqlstate(&error), "55000", "{call}");
        owner.batch_execute("rollback").unwrap();
        assert_eq!(count(&mut owner, "pg_class where relname = 'trapped'"), 0, "{call}");
    }
    assert_eq!(
        findings(&mut owner)[0],
        "multigres_object_owner | table public.multigres_hardening | trust_user"
    );
    mend(&mut owner);
    owner.batch_execute("select multigres_harden(), multigres_unharden()").unwrap();
}

#[test]
fn what_belongs_to_another_role_is_found_and_mended() {
    let mut owner = clean("planted_found");
    let stories = [
        (
            "create function public.multigres_admit(c pg_class) returns text",
            "admit(pg_class)",
            TRAP,
        ),
        ("create table public.multigres_seal_keys (id int)", "seal_keys", ""),
    ];
    for (planted, name, body) in stories {
        owner.batch_execute(UNGUARD).unwrap();
        as_squatter(&mut owner, &format!("{planted} {body}"));
        owner.batch_execute(GUARD).unwrap();
        let kind = if body.is_empty() { "table" } else { "function" };
        let found = format!("multigres_object_owner | {kind} public.multigres_{name} | trust_user");
        assert!(is_found(&findings(&mut owner), &found), "{:?}", findings(&mut owner));
        mend(&mut owner);
        assert_eq!(findings(&mut owner), [""; 0]);
        assert_eq!(count(&mut owner, "pg_class where relname = 'trapped'"), 0, "{planted}");
    }
    // Those that policies need cannot be dropped; they are made anew.
    for function in
        ["current_tenant_id()", "multigres_context(text)", "multigres_own()", "multigres_own(text)"]
    {
        owner
            .batch_execute(&format!(
                "grant create on schema public to trust_user; {UNGUARD}
                 alter function public.{function} owner to trust_user; {GUARD}
                 revoke create on schema public from trust_user"
            ))
            .unwrap();
        let found = format!("multigres_object_owner | function public.{function} | trust_user");
        assert_eq!(findings(&mut owner), [found]);
        mend(&mut owner);
        assert_eq!(findings(&mut owner), [""; 0]);
    }
    owner.batch_execute(&SETUP).unwrap();
}

#[test]
fn functions_that_setup_did_not_bring_are_found() {
    let mut owner = clean("planted_release");
    found_and_mended(
        &mut owner,
        "create function multigres_extra(text) returns int language sql as 'select 1'",
        &["multigres_function_unknown | function public.multigres_extra(text)"],
    );
    // Such a name is called at each login, and fails where two functions fit. A setup in between
    // does not make it ours.
    for (call, overload) in [
        ("multigres_verdict()", "multigres_verdict(x text default '')"),
        ("multigres_misspelt()", "multigres_misspelt(x text default '')"),
        ("multigres_context('x')", "multigres_context(v text, x text default '')"),
    ] {
        let found = overload.replace("x text default ''", "text").replace("v text, ", "text,");
        for again in ["", &*SETUP] {
            let create =
                format!("create function {overload} returns text language sql as 'select x'");
            owner.batch_execute(&create).unwrap();
            owner.batch_execute(again).unwrap();
            let error = owner.batch_execute(&format!("select public.{call}")).unwrap_err();
            assert_eq!(sqlstate(&error), "42725");
            let found = format!("multigres_function_overloaded | function public.{found}");
            assert_eq!(findings(&mut owner), [found]);
            mend(&mut owner);
            owner.batch_execute(&format!("select public.{call}")).unwrap();
        }
        owner.batch_execute(&SETUP).unwrap();
        assert_eq!(findings(&mut owner), [""; 0]);
    }
    let run = "-- run setup.sql again";
    for (plant, problem) in [
        (
            "create or replace function multigres.role_problems(role_id oid) returns text
                 language sql as 'select null::text'",
            "multigres_function_changed | function multigres.role_problems(oid) | is not as",
        ),
        (
            "alter function multigres_harden(text[]) reset search_path",
            "multigres_function_changed | function public.multigres_harden(text[]) | is not as",
        ),
        (
            "drop function multigres_status()",
            "multigres_function_changed | function public.multigres_status() | is missing",
        ),
    ] {
        owner.batch_execute(plant).unwrap();
        assert_eq!(findings(&mut owner), [problem]);
        let fix: String = owner.query_one("select fix from multigres_check()", &[]).unwrap().get(0);
        assert_eq!(fix, run);
        owner.batch_execute(&SETUP).unwrap();
        assert_eq!(findings(&mut owner), [""; 0]);
    }
    owner.batch_execute(&format!("select multigres_seal('{SEAL_KEY}')")).unwrap();
    assert_eq!(findings(&mut owner), [""; 0], "sealed");
}

/// Functions beside ours that make a call of ours ambiguous.
const OVERLOADS: [&str; 4] = [
    "multigres_verdict(integer)",
    "multigres_misspelt(integer)",
    "multigres_context(text,integer)",
    "current_tenant_id(integer)",
];

/// The statement that makes such a function, in this schema.
fn overload(schema: &str, signature: &str) -> String {
    let arguments = signature.replace("integer", "integer default 1");
    format!("create function {schema}.{arguments} returns text language sql as 'select null::text'")
}

#[test]
fn functions_of_other_roles_beside_ours_are_refused_and_found() {
    let mut owner = clean("planted_overload");
    owner
        .batch_execute(
            "create schema theirs authorization trust_user;
             grant create on schema public to trust_user",
        )
        .unwrap();
    for signature in OVERLOADS {
        let (name, _) = signature.split_once('(').unwrap();
        let other = signature.replace(name, "other");
        for statements in [
            overload("public", signature),
            format!(
                "create procedure public.{} language sql as 'select 1'",
                signature.replace("integer", "integer default 1")
            ),
            format!(
                "{}; alter function public.{other} rename to {name}",
                overload("public", &other)
            ),
            format!(
                "{}; alter routine theirs.{signature} set schema public",
                overload("theirs", signature)
            ),
            format!("do $$ begin {}; end $$", overload("public", signature)),
        ] {
            let error = owner.batch_execute(&format!("begin; set role trust_user; {statements}"));
            let error = error.expect_err(&statements);
            assert_eq!(sqlstate(&error), "42501", "{statements}: {error:?}");
            let error = error.as_db_error().unwrap();
            assert!(error.message().contains(signature), "{statements}: {error:?}");
            assert!(error.hint().unwrap().contains("Choose another name"), "{error:?}");
            owner.batch_execute("rollback").unwrap();
        }
        // In a schema of their own it harms nobody.
        let apart = overload("theirs", signature);
        owner.batch_execute(&format!("set role trust_user; {apart}; reset role")).unwrap();
        for (by, lint) in [
            ("set role trust_user;", "multigres_object_owner"),
            ("", "multigres_function_overloaded"),
        ] {
            let plant = format!("{by} {}; reset role", overload("public", signature));
            let expected = format!("{lint} | function public.{signature}");
            let found = planted(&mut owner, &plant);
            assert_eq!(
                found.iter().filter(|found| **found == *expected).count(),
                1,
                "{plant}: {found:?}"
            );
            let fix = format!("drop function public.{signature}");
            owner.batch_execute(&fix).unwrap();
            assert!(!is_found(&findings(&mut owner), &expected), "{fix}");
            owner.batch_execute("rollback").unwrap();
        }
    }
    owner.batch_execute("revoke create on schema public from trust_user").unwrap();
    owner.batch_execute("drop schema theirs cascade").unwrap();
    let overload = overload("public", "multigres_verdict(integer)");
    let found = "multigres_function_overloaded | function public.multigres_verdict(integer)";
    found_and_mended(&mut owner, &overload, &[found]);
    owner.batch_execute(&SETUP).unwrap();
    owner.batch_execute(TEARDOWN).unwrap();
}

#[test]
fn what_multigres_keeps_is_nobody_elses() {
    let mut owner = clean("planted_kept");
    for grant in ["select", "insert", "trigger", "select (item)"] {
        found_and_mended(
            &mut owner,
            &format!("grant {grant} on multigres.hardening to app_user"),
            &["multigres_object_granted_to_tenants | table multigres.hardening | app_user"],
        );
    }
    found_and_mended(
        &mut owner,
        "grant usage on schema multigres to app_user",
        &["multigres_object_granted_to_tenants | schema multigres | app_user"],
    );
    found_and_mended(
        &mut owner,
        "grant select on multigres.hardening to trust_user",
        &["multigres_object_granted | table multigres.hardening | trust_user"],
    );
    found_and_mended(
        &mut owner,
        "create table multigres.mine (); alter table multigres.mine owner to trust_user",
        &["multigres_object_owner | table multigres.mine | trust_user"],
    );
    for table in ["protected", "tables", "dimensions", "hardening", "release"] {
        let found = format!("multigres_object_owner | table multigres.{table} | trust_user");
        let give = format!("alter table multigres.{table} owner to trust_user");
        found_and_mended(&mut owner, &give, &[&found]);
    }
    owner.batch_execute(&format!("select multigres_seal('{SEAL_KEY}', 'none')")).unwrap();
    found_and_mended(
        &mut owner,
        "alter view multigres.sealed owner to trust_user",
        &["multigres_object_owner | view multigres.sealed | trust_user"],
    );
    found_and_mended(
        &mut owner,
        "alter table multigres.seal_keys owner to trust_user",
        &["multigres_object_owner | table multigres.seal_keys | trust_user"],
    );
}
