//! What multigres_check() finds of rights and copies that carry others' rows past the policies:
//! PostgreSQL's own files and statistics, logs, notifications, sequences and publications.

use postgres::NoTls;
use postgres::fallible_iterator::FallibleIterator;

use testing::linter::{findings, found_and_mended, mend, not_found};

use crate::check_functions::{filled, leaks_until_mended, tenant};
use testing::{DEADLINE, SEAL_KEY, cluster};

const KEPT: &str = "and PostgreSQL keeps it from everybody";

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
    let found = format!("error | function pg_read_file(text) | app_user may execute it, {KEPT}");
    let plant = "grant execute on function pg_read_file(text) to app_user";
    leaks_until_mended(&mut owner, plant, leak, &[&found]);
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
            let found = format!("error | function {function} | app_user may execute it, {KEPT}");
            found_and_mended(&mut owner, &plant, &[&found]);
        }
    }
    let found = format!("warning | function pg_reload_conf() | app_user may execute it, {KEPT}");
    let plant = "grant execute on function pg_reload_conf() to app_user";
    found_and_mended(&mut owner, plant, &[&found]);
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
    let found = format!("error | table pg_statistic | app_user has SELECT on it, {KEPT}");
    leaks_until_mended(&mut owner, "grant select on pg_statistic to app_user", leak, &[&found]);
    let found = found.replace("pg_statistic", "pg_authid");
    let plant = "grant select (rolname, rolpassword) on pg_authid to public";
    found_and_mended(&mut owner, plant, &[&found]);
    leaks_until_mended(
        &mut owner,
        "create view guesses as select starelid, stavalues1::text as v from pg_statistic;
         grant select on guesses to app_user",
        "select v from guesses where starelid = 'contacts'::regclass",
        &["error | view public.guesses | reads with the rights of its owner postgres, who \
           bypasses row-level security"],
    );
    leaks_until_mended(
        &mut owner,
        "drop view guesses; create materialized view guesses as
             select tablename, most_common_vals::text as v from pg_stats;
         grant select on guesses to app_user",
        "select v from guesses where tablename = 'contacts'",
        &["error | materialized view public.guesses | app_user has SELECT on it, and it cannot \
           have policies"],
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
    assert!(found.iter().any(|line| line.starts_with("error | view public.shown")), "{found:?}");
    owner.batch_execute("rollback; set client_min_messages = error").unwrap();
    owner.batch_execute(&format!("begin; create publication keys for table {table}")).unwrap();
    let found = format!(
        "error | publication keys | sends what Multigres keeps to its subscribers: {}",
        if table.contains('.') { table } else { format!("public.{table}") }
    );
    assert_eq!(findings(&mut owner), [found]);
    mend(&mut owner);
    assert_eq!(findings(&mut owner), [""; 0]);
}

#[test]
fn tables_that_are_filled_with_rows_of_all_tenants_are_found() {
    let mut owner = filled("kept_audit");
    let shared = "info | table public.audit | is not protected: all tenants read the same rows";
    let audit = "create table audit (line text); grant select on audit to app_user;";
    let body = "insert into public.AUDIT values (new::text); return new;";
    let trigger = format!(
        "{audit} create function noted() returns trigger language plpgsql security definer
             set search_path = pg_catalog, pg_temp as 'begin {body} end';
         revoke execute on function noted() from public;
         create trigger noting after insert on contacts for each row execute function noted();
         insert into contacts values ('globex', 5, 'Grace')"
    );
    let fills = "on public.contacts fills it with rows of all tenants, and app_user has SELECT \
                 on it";
    leaks_until_mended(
        &mut owner,
        &trigger,
        "select line from audit",
        &[
            &format!("error | table public.audit | trigger noting {fills}"),
            "warning | trigger noting on public.contacts | runs public.noted() for app_user with \
             the rights of postgres, who bypasses row-level security",
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
            "error | rule noted on public.contacts | acts for app_user with the rights of \
             postgres, who bypasses row-level security",
            &format!("error | table public.audit | rule noted {fills}"),
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
    let found = "warning | trigger telling on public.contacts | sends NOTIFY, and every tenant's \
                 session may LISTEN to what is in it";
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
    let found = "warning | sequence public.numbers | app_user has UPDATE on it: a tenant may \
                 setval() it for all";
    assert_eq!(findings(&mut owner), [found]);
    mend(&mut owner);
    assert_eq!(findings(&mut owner), [""; 0]);
    assert!(tenant("kept_sequences", "select setval('numbers', 1)").starts_with("42501"));
    assert_eq!(tenant("kept_sequences", "select nextval('numbers')"), "43");
}
