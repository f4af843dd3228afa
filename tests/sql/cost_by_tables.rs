//! What the database side costs as the protected tables grow in number, counted in calls of its
//! functions and not in time: one more table costs what each one did, and a look at all of them
//! grows no faster than they do.

use std::ops::RangeInclusive;

use testing::{SETUP, UNGUARD, cluster, count, set_up_database};

/// Makes the policies those of an older setup, which asked for the context for every row.
const OLDER: &str = "
    do $$
    declare
        part regclass;
    begin
        for part in select polrelid from pg_policy where polname = 'multigres_isolation' loop
            execute format('alter policy multigres_isolation on %s
                using (tenant_id = current_tenant_id())
                with check (tenant_id = current_tenant_id())', part);
        end loop;
        delete from multigres.tables;
        delete from multigres.dimensions;
    end
    $$";

#[test]
fn one_more_table_costs_the_same_however_many_are_protected() {
    let database = set_up_database("growth_of_one");
    let calls = ["select multigres_protect('t0')", "select multigres_unprotect('t0')"];
    protect(&database, 1..=10);
    let few = calls.map(|call| cost(&database, call));
    protect(&database, 11..=100);
    let many = calls.map(|call| cost(&database, call));
    for (few, many) in few.iter().zip(&many) {
        assert!(few.calls > 0, "nothing was counted: {few:?}");
        assert_eq!(many.calls, few.calls, "beside 100 tables and beside 10");
        assert!(many.policies <= few.policies, "{many:?} beside 100 tables, {few:?} beside 10");
    }
}

#[test]
fn to_look_at_all_tables_and_to_set_up_again_grow_with_their_number() {
    let database = set_up_database("growth_of_all");
    let setup = SETUP.trim_end().strip_suffix("commit;").expect("it is one transaction");
    let upgrade = format!("{UNGUARD} {OLDER}; {setup}");
    let calls = ["select multigres_status()", "select multigres_check()", setup, &upgrade];
    protect(&database, 1..=20);
    let twenty = calls.map(|call| cost(&database, call).calls);
    protect(&database, 21..=40);
    let forty = calls.map(|call| cost(&database, call).calls);
    for (twenty, forty) in twenty.into_iter().zip(forty) {
        assert!(twenty >= 20, "too few calls for 20 tables: {twenty}");
        assert!(forty <= 2 * twenty, "{twenty} calls for 20 tables, {forty} for 40");
    }
}

#[test]
fn a_partitioned_table_costs_no_more_than_its_partitions() {
    let database = set_up_database("growth_of_partitions");
    let mut owner = cluster().superuser(&database);
    let [ten, twenty] = [10, 20].map(|partitions| {
        owner.batch_execute(&partitioned(partitions)).unwrap();
        let protect = format!("select multigres_protect('p{partitions}')");
        let unprotect = format!("select multigres_unprotect('p{partitions}')");
        let first = cost(&database, &protect);
        owner.batch_execute(&protect).unwrap();
        [first, cost(&database, &protect), cost(&database, &unprotect)].map(|cost| cost.calls)
    });
    for (ten, twenty) in ten.into_iter().zip(twenty) {
        assert!(ten >= 10, "too few calls for 10 partitions: {ten}");
        assert!(twenty <= 2 * ten, "{ten} calls for 10 partitions, {twenty} for 20");
    }
}

#[test]
fn a_login_asks_no_function_once_more_for_a_table_more() {
    let database = set_up_database("growth_of_a_login");
    let mut owner = cluster().superuser(&database);
    let tenant = "00112233-4455-6677-8899-aabbccddeeff";
    let login = format!(
        "select set_config('app.current_tenant_id', '{tenant}', true), multigres_verdict(),
             multigres_misspelt()"
    );
    let [few, many] = [1..=10, 11..=100].map(|numbers| {
        for number in numbers {
            let table = format!("create table t{number} (tenant_id uuid)");
            owner.batch_execute(&table).unwrap();
            owner.batch_execute(&format!("select multigres_protect('t{number}')")).unwrap();
        }
        cost(&database, &login).calls
    });
    assert!(few > 2, "nothing was counted: {few}");
    assert_eq!(many, few, "beside 100 tables and beside 10");
}

/// Makes a table `t0` that is not protected, and protects copies of it: `t1`, `t2` and so on.
fn protect(database: &str, numbers: RangeInclusive<i64>) {
    let mut owner = cluster().superuser(database);
    let (first, last) = numbers.into_inner();
    let sql = format!(
        "create table if not exists t0 (id bigserial primary key, tenant_id text);
         do $$
         begin
             for i in {first}..{last} loop
                 execute format('create table t%s (like t0 including all)', i);
                 perform multigres_protect(to_regclass('t' || i));
             end loop;
         end
         $$"
    );
    owner.batch_execute(&sql).unwrap();
    assert_eq!(count(&mut owner, "multigres_status() where protected = 'yes'"), last);
}

fn partitioned(partitions: usize) -> String {
    let mut sql = format!(
        "create table p{partitions} (tenant_id int primary key) partition by list (tenant_id);"
    );
    for part in 1..=partitions {
        sql += &format!(
            "create table p{partitions}_{part} partition of p{partitions} for values in ({part});"
        );
    }
    sql
}

#[derive(Debug)]
struct Cost {
    /// Of functions of Multigres.
    calls: i64,
    /// Rows of pg_policy that were read.
    policies: i64,
}

/// What the statements cost in a session of their own; their work is undone.
fn cost(database: &str, sql: &str) -> Cost {
    let mut client = cluster().superuser(database);
    client.batch_execute("set track_functions = 'all'; begin").unwrap();
    client.batch_execute(sql).unwrap();
    let counters = "select
            (select coalesce(sum(calls), 0)::bigint from pg_stat_xact_user_functions
             where starts_with(funcname::text, 'multigres_') or schemaname = 'multigres'),
            (select seq_tup_read + idx_tup_fetch from pg_stat_xact_sys_tables
             where relname = 'pg_policy')";
    let row = client.query_one(counters, &[]).unwrap();
    client.batch_execute("rollback").unwrap();
    Cost { calls: row.get(0), policies: row.get(1) }
}
