//! What multigres_check() finds of rights and copies that carry others' rows past the policies:
//! PostgreSQL's own files and statistics, logs, notifications, sequences and publications.

use postgres::NoTls;
use postgres::fallible_iterator::FallibleIterator;

use testing::linter::{findings, found_and_mended, is_found, mend, not_found};

use crate::check_functions::{filled, leaks_until_mended, tenant};
use testing::{DEADLINE, SEAL_KEY, cluster};

#[test]
fn functions_of_the_servers_files_are_found() {
    let mut owner = filled("kept_files");
    owner
        .batch_execute(
            "do $$begin execute format('copy contacts to %L',
                 current_setting('data_directory') || '/kept_files'); end$$",
        )
        .unwrap();
    let leak = "select pg_read_file('kept_files')";
    let found = "server_files_granted | function pg_read_file(text)";
    let plant = "grant execute on function pg_read_file(text) to app_user";
    leaks_until_mended(&mut owner, plant, leak, &[found]);
    for function in [
        "pg_read_binary_file(text)",
        "pg_ls_dir(text)",
        "pg_stat_file(text)",
        "pg_current_logfile()",
        "lo_import(text)",
        "lo_export(oid,text)",
    ] {
        for role in ["app_user", "public", "tenant_tables"] {
            let plant = format!("grant execute on function {function} to {role}");
            let found = format!("server_files_granted | function {function}");
            found_and_mended(&mut owner, &plant, &[&found]);
        }
    }
    let found = "system_function_granted | function pg_reload_conf()";
    let plant = "grant execute on function pg_reload_conf() to app_user";
    found_and_mended(&mut owner, plant, &[found]);
    not_found(
        &mut owner,
        "grant execute on function pg_read_file(text) to trust_user;
         grant execute on function now() to app_user",
    );
}

#[test]
fn statistics_with_values_of_all_tenants_are_found() {
    let mut owner = filled("kept_statistics");
    owner
        .batch_execute(
            "insert into contacts select 'globex', n, 'Grace' from generate_series(2, 50) as n;
             analyze contacts",
        )
        .unwrap();
    let leak = "select stavalues1 from pg_statistic where starelid = 'contacts'::regclass";
    let found = "system_relation_granted | table pg_statistic | SELECT";
    leaks_until_mended(&mut owner, "grant select on pg_statistic to app_user", leak, &[found]);
    let found = found.replace("pg_statistic", "pg_authid");
    let plant = "grant select (rolname, rolpassword) on pg_authid to public";
    found_and_mended(&mut owner, plant, &[&found]);
    leaks_until_mended(
        &mut owner,
        "create view guesses as select starelid, stavalues1::text as v from pg_statistic;
         grant select on guesses to app_user",
        "select v from guesses where starelid = 'contacts'::regclass",
        &["view_bypasses_policies | view public.guesses | postgres"],
    );
    leaks_until_mended(
        &mut owner,
        "drop view guesses; create materialized view guesses as
             select tablename, most_common_vals::text as v from pg_stats;
         grant select on guesses to app_user",
        "select v from guesses where tablename = 'contacts'",
        &["relation_without_policies | materialized view public.guesses | SELECT"],
    );
    // PostgreSQL's view asks who reads it, and whether policies hold him.
    owner
        .batch_execute(
            "create view own as select most_common_vals::text as v from pg_stats
                 where tablename = 'contacts';
             grant select on own to app_user",
        )
        .unwrap();
    assert!(!tenant("kept_statistics", "select v from own").contains("Grace"));
    not_found(&mut owner, "select 1");
}

#[test]
fn keys_of_the_seal_behind_a_view_or_in_a_publication_are_found() {
    let mut owner = filled("kept_keys");
    owner.batch_execute(&format!("select multigres_seal('{SEAL_KEY}')")).unwrap();
    let keys = "(select c.oid::regclass::text from pg_class as c where c.relname ~ 'seal_keys$'
                    and c.relkind = 'r')";
    let table: String = owner.query_one(&format!("select {keys}"), &[]).unwrap().get(0);
    owner
        .batch_execute(&format!(
            "begin; create view shown as select * from {table}; grant select on shown to app_user"
        ))
        .unwrap();
    let found = findings(&mut owner);
    assert!(is_found(&found, "view_bypasses_policies | view public.shown"), "{found:?}");
    owner.batch_execute("rollback; set client_min_messages = error").unwrap();
    owner.batch_execute(&format!("begin; create publication keys for table {table}")).unwrap();
    let found = format!(
        "publication_of_seal_keys | publication keys | {}",
        if table.contains('.') { table } else { format!("public.{table}") }
    );
    assert_eq!(findings(&mut owner), [found]);
    mend(&mut owner);
    assert_eq!(findings(&mut owner), [""; 0]);
}

#[test]
fn tables_that_are_filled_with_rows_of_all_tenants_are_found() {
    let mut owner = filled("kept_audit");
    let shared = "table_shared_read | table public.audit";
    let audit = "create table audit (line text); grant select on audit to app_user;";
    let body = "insert into public.AUDIT values (new::text); return new;";
    let trigger = format!(
        "{audit} create function noted() returns trigger language plpgsql security definer
             set search_path = pg_catalog, pg_temp as 'begin {body} end';
         revoke execute on function noted() from public;
         create trigger noting after insert on contacts for each row execute function noted();
         insert into contacts values ('globex', 5, 'Grace')"
    );
    leaks_until_mended(
        &mut owner,
        &trigger,
        "select line from audit",
        &[
            "table_filled_with_tenants | table public.audit | trigger noting on public.contacts",
            "trigger_bypasses_policies | trigger noting on public.contacts | public.noted() | \
             postgres",
            shared,
        ],
    );
    owner.batch_execute("drop table audit; drop function noted() cascade").unwrap();
    let rule = format!(
        "{audit} create rule noted as on insert to contacts do also insert into audit
             values (new.name);
         insert into contacts values ('globex', 6, 'Grace')"
    );
    leaks_until_mended(
        &mut owner,
        &rule,
        "select line from audit",
        &[
            "rule_bypasses_policies | rule noted on public.contacts | postgres",
            "table_filled_with_tenants | table public.audit | rule noted on public.contacts",
            shared,
        ],
    );
}

#[test]
fn notifications_that_tell_of_rows_are_found() {
    let mut owner = filled("kept_notify");
    let plant = "create function told() returns trigger language plpgsql
                     as $$begin perform pg_notify('news', new.name); return new; end$$;
                 create trigger telling after insert on contacts
                     for each row execute function told()";
    owner.batch_execute(plant).unwrap();
    let mut tenant = cluster().direct("app_user", "kept_notify").connect(NoTls).unwrap();
    tenant.batch_execute("listen news").unwrap();
    let mut insert = |id: i64| {
        let row = format!("insert into contacts values ('globex', {id}, 'Grace')");
        owner.batch_execute(&row).unwrap();
    };
    insert(2);
    let heard = tenant.notifications().timeout_iter(DEADLINE).next().unwrap().unwrap();
    assert_eq!(heard.payload(), "Grace");
    let found = "trigger_notifies | trigger telling on public.contacts";
    assert_eq!(findings(&mut owner), [found]);
    mend(&mut owner);
    assert_eq!(findings(&mut owner), [""; 0]);
    owner.batch_execute("insert into contacts values ('globex', 3, 'Grace')").unwrap();
    tenant.batch_execute("notify news, 'the end'").unwrap();
    let heard = tenant.notifications().timeout_iter(DEADLINE).next().unwrap().unwrap();
    assert_eq!(heard.payload(), "the end");
}

#[test]
fn sequences_that_a_tenant_may_set_are_found() {
    let mut owner = filled("kept_sequences");
    owner
        .batch_execute("create sequence numbers; grant all on sequence numbers to app_user")
        .unwrap();
    assert_eq!(tenant("kept_sequences", "select setval('numbers', 41)"), "41");
    assert_eq!(tenant("kept_sequences", "select nextval('numbers')"), "42");
    let found = "sequence_settable | sequence public.numbers";
    assert_eq!(findings(&mut owner), [found]);
    mend(&mut owner);
    assert_eq!(findings(&mut owner), [""; 0]);
    assert!(tenant("kept_sequences", "select setval('numbers', 1)").starts_with("42501"));
    assert_eq!(tenant("kept_sequences", "select nextval('numbers')"), "43");
}
