//! The SQL in a database that makes errors of what PL/pgSQL takes for doubtful code.

use testing::{SETUP, TEARDOWN, cluster, count, empty_database};

#[test]
fn every_function_is_made_and_runs_where_plpgsql_takes_doubts_for_errors() {
    let database = empty_database("strict");
    let set = format!("alter database {database} set plpgsql.extra_errors = 'all'");
    cluster().superuser("postgres").batch_execute(&set).unwrap();
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create table contacts (id serial primary key, tenant_id text, user_id text);
             create table part (tenant_id text, k int) partition by list (k);
             create table part1 partition of part for values in (1)",
        )
        .unwrap();
    for call in [
        &SETUP,
        "select multigres_protect('contacts'), multigres_protect('part')",
        "select multigres_protect('contacts', 'user_id', 'app.current_user_id')",
        "select multigres_own(), multigres_own('app.x'), multigres_context('app.x')",
        "select multigres_seal(repeat('0', 64), 'none'), multigres_seal(repeat('1', 64))",
        "select current_tenant_id(), multigres_own(), multigres_own('app.x'),
             multigres_context('app.x')",
        "select from multigres_check(); select from multigres_status()",
        "select from multigres_harden(); select from multigres_harden('{advisory locks}')",
        &SETUP,
        "select multigres_unharden(), multigres_unseal()",
        "select multigres_unprotect('contacts', 'user_id'), multigres_unprotect('part')",
        TEARDOWN,
        &SETUP,
        TEARDOWN,
    ] {
        owner.batch_execute(call).unwrap_or_else(|error| panic!("{call:.80}: {error:?}"));
    }
    assert_eq!(count(&mut owner, "pg_proc where proname ~ 'multigres|current_tenant_id'"), 0);
    assert_eq!(count(&mut owner, "pg_namespace where nspname = 'multigres'"), 0);
}
