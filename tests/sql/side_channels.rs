//! What a tenant's own SQL can find out about rows that it does not see: a query's own conditions
//! tell whether they held, by EXPLAIN ANALYZE and by a subquery that runs only when it is needed.
//! That in a sealed database they tell the same of a right guess and of a wrong one.

use postgres::{Client, NoTls};
use testing::linter::version;
use testing::{
    SEAL_KEY, SealedLogin, TENANT_VARIABLE, cluster, count, sealed_options, set_up_database,
    shortened, sqlstate,
};

/// A type of tenant column, acme's and globex's name in it.
const KINDS: [(&str, &str, &str); 6] = [
    ("text", "acme", "globex"),
    ("varchar(20)", "acme", "globex"),
    ("uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "00000000-0000-0000-0000-000000000000"),
    ("integer", "7", "2147483647"),
    ("bigint", "7", "9223372036854775807"),
    ("smallint", "-7", "8"),
];

/// Conditions on globex's row, one that holds and one that does not. PostgreSQL gives the first
/// ones the cost of an operator, and to the others none.
const GUESSES: [(&str, &str); 3] = [
    ("body = any ('{secret}')", "body = any ('{secres}')"),
    ("body >= 'secret' and body <= 'secret'", "body >= 'secres' and body <= 'secres'"),
    ("n <= 5", "n <= 4"),
];
const FREE_GUESSES: [(&str, &str); 4] = [
    ("flag", "not flag"),
    ("note is not null", "void is not null"),
    ("('[5:5]={t}'::bool[])[n]", "('[6:6]={t}'::bool[])[n]"),
    (
        "('{\"secret\": 1}'::jsonb)[body] is not null",
        "('{\"secres\": 1}'::jsonb)[body] is not null",
    ),
];

/// Runs when the condition in front of it holds for any row, and leaves a trace.
const TELL: &str = "body >= (select set_config('app.told', 'yes', false) || '!')::text";
const FREE_TELL: &str =
    "coalesce((select nullif(set_config('app.told', 'yes', false), 'yes')::bool), flag)";

/// How a table is read: settings, and what FROM and the first conditions are.
const SCANS: [(&str, &str); 8] = [
    ("", "{t} where"),
    ("", "{t} where ctid = '(0,2)' and"),
    ("set enable_seqscan = off; set enable_bitmapscan = off", "{t} where"),
    ("set enable_seqscan = off; set enable_indexscan = off", "{t} where"),
    ("set enable_hashjoin = off", "{t} join own using (k) where"),
    ("set enable_nestloop = off", "{t} join own using (k) where"),
    ("", "{t} as one join {t} as other using (n, body, flag, note, void) where"),
    ("", "{t}_parts where"),
];

#[test]
fn a_right_guess_about_anothers_row_looks_like_a_wrong_one() {
    let database = set_up_database("signals_guess");
    let mut owner = cluster().superuser(&database);
    for (number, kind) in KINDS.iter().enumerate() {
        tables(&mut owner, number, kind);
    }
    owner.batch_execute(&format!("select multigres_seal('{SEAL_KEY}', 'none')")).unwrap();
    let version = version(&mut owner);
    for (number, (kind, acme, _)) in KINDS.iter().enumerate() {
        let mut client = sealed(&database, acme);
        let guesses = guesses(kind, version);
        if guesses.len() == GUESSES.len() {
            shortened(&format!("PostgreSQL {version} has no front for {kind} that is free"));
        }
        let told = |client: &mut Client, guesses: &[(&str, &str)]| -> Vec<String> {
            let mut told = vec![];
            for (settings, from) in SCANS {
                client.batch_execute(&format!("reset all; {settings}")).unwrap();
                let from = from.replace("{t}", &format!("t{number}"));
                for plan in ["force_custom_plan", "force_generic_plan"] {
                    client.batch_execute(&format!("set plan_cache_mode = {plan}")).unwrap();
                    for (right, wrong) in guesses {
                        if signals(client, &from, right) != signals(client, &from, wrong) {
                            told.push(format!("{kind}: {settings}: {from} {right}"));
                        }
                    }
                }
            }
            told
        };
        assert_eq!(told(&mut client, &guesses), [""; 0]);
        // Without the front each of them is told: the test looks where there is something to see.
        for front in [false, true] {
            for table in [format!("t{number}"), format!("t{number}_parts")] {
                let sql = format!("select multigres_front('{table}', {front})");
                owner.batch_execute(&sql).unwrap();
            }
            if !front {
                let open = told(&mut client, &guesses);
                for (right, _) in &guesses {
                    assert!(open.iter().any(|line| line.ends_with(right)), "{kind}: {right}");
                }
            }
        }
    }
    assert_eq!(count(&mut owner, "multigres_status() where problems ~ 'front|sealed'"), 0);
}

#[test]
fn the_front_is_the_first_condition_of_every_scan() {
    let database = set_up_database("signals_order");
    let mut owner = cluster().superuser(&database);
    for (number, kind) in KINDS.iter().enumerate() {
        tables(&mut owner, number, kind);
    }
    owner.batch_execute(&format!("select multigres_seal('{SEAL_KEY}', 'none')")).unwrap();
    let version = version(&mut owner);
    for (number, (kind, acme, _)) in KINDS.iter().enumerate() {
        let mut client = sealed(&database, acme);
        for (settings, from) in SCANS {
            client.batch_execute(&format!("reset all; {settings}")).unwrap();
            let from = from.replace("{t}", &format!("t{number}"));
            for (guess, _) in guesses(kind, version) {
                let sql = format!("explain (costs off) select from {from} {guess} and {TELL}");
                let plan = rows(&mut client, &sql);
                let filters: Vec<&String> =
                    plan.iter().filter(|line| line.trim().starts_with("Filter:")).collect();
                assert!(!filters.is_empty(), "{plan:?}");
                for filter in filters {
                    // The comparison alone stands behind what the query asks for.
                    let policy = filter.find("tenant_id").expect("the policy is there");
                    for own in ["body", "flag", "[n]", "n <=", "note"] {
                        let at = filter.find(own).unwrap_or(usize::MAX);
                        assert!(policy < at, "{kind}: {own} comes first: {filter}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_merge_that_reads_no_column_tells_how_many_rows_there_are_and_nothing_else() {
    let database = set_up_database("signals_merge");
    let mut owner = cluster().superuser(&database);
    if version(&mut owner) < 15 {
        shortened("there is no MERGE before PostgreSQL 15");
        return;
    }
    let columns = "(tenant_id text not null, name text)";
    let values = "values ('acme', 'a'), ('acme', 'b'), ('globex', 'secret'),
         ('globex', 'y'), ('globex', 'z')";
    owner
        .batch_execute(&format!(
            "create table t {columns}; insert into t {values}; select multigres_protect('t');
             create table p {columns} partition by list (tenant_id);
             create table p_acme partition of p for values in ('acme');
             create table p_globex partition of p for values in ('globex');
             insert into p {values}; select multigres_protect('p');
             grant select, insert, update, delete on t, p to app_user;
             select multigres_harden()"
        ))
        .unwrap();
    let plain = || {
        let mut config = cluster().direct("app_user", &database);
        config.options("-c app.current_tenant_id=acme").connect(NoTls).unwrap()
    };
    merges(&mut plain());
    owner.batch_execute(&format!("select multigres_seal('{SEAL_KEY}', 'none')")).unwrap();
    merges(&mut sealed(&database, "acme"));
    let untouched = "t where tenant_id = 'globex' and name in ('secret', 'y', 'z')";
    assert_eq!(count(&mut owner, untouched), 3);
}

/// As acme, who has two rows of five.
fn merges(client: &mut Client) {
    let merge = "using (values (1)) as v on true when matched";
    client.batch_execute("set enable_indexscan = off; set enable_bitmapscan = off").unwrap();
    let scanned = |client: &mut Client, table: &str, rest: &str| -> Vec<String> {
        let analyze = "explain (analyze, costs off, timing off, summary off)";
        let plan = rows(client, &format!("{analyze} merge into {table} {merge} {rest}"));
        let scans = plan.iter().filter_map(|line| {
            let (scan, figures) = line.split_once(" (actual rows=")?;
            let number: String = figures.chars().take_while(char::is_ascii_digit).collect();
            scan.contains("Seq Scan on ").then(|| {
                format!(
                    "{} {number}",
                    scan.split(" on ").nth(1).unwrap().split(' ').next().unwrap()
                )
            })
        });
        scans.collect()
    };
    // What it tells: the number of rows, of each partition.
    let nothing = "and random() < 0 then update set name = 'x'";
    assert_eq!(scanned(client, "t", nothing), ["t 5"]);
    assert_eq!(scanned(client, "p", nothing), ["p_acme 2", "p_globex 3"]);
    assert_eq!(scanned(client, "p", "and random() < 0 then delete"), ["p_acme 2", "p_globex 3"]);
    // A condition on a column sees own rows alone.
    let guess =
        "and t.name >= 'secret' and set_config('app.told', t.name, false) <> '' then delete";
    assert_eq!(scanned(client, "t", guess), ["t 2"]);
    assert_eq!(rows(client, "select coalesce(current_setting('app.told', true), '')").concat(), "");
    for condition in ["t.tableoid is null", "t is null"] {
        let sql = format!("and {condition} then delete");
        assert_eq!(scanned(client, "t", &sql), ["t 2"], "{condition}");
    }
    // Nobody else's row is changed, or returned.
    for table in ["t", "p"] {
        for action in ["update set name = 'x'", "delete", "update set tenant_id = 'acme'"] {
            let sql = format!("merge into {table} {merge} then {action}");
            let error = client.batch_execute(&sql).expect_err(&sql);
            assert_eq!(sqlstate(&error), "42501", "{sql}: {error:?}");
        }
        let own = format!("begin; merge into {table} {merge} and name <> '' then delete");
        client.batch_execute(&own).unwrap();
        assert_eq!(count(client, table), 0);
        client.batch_execute("rollback").unwrap();
        assert_eq!(count(client, table), 2);
    }
}

/// Which conditions are kept from others' rows. Where PostgreSQL has no front that is free, those
/// that are free themselves are not: docs/security.md says so.
fn guesses(kind: &str, version: i32) -> Vec<(&'static str, &'static str)> {
    let free = match kind {
        "uuid" | "bigint" | "smallint" => version >= 16,
        _ => version >= 14,
    };
    if free { [&GUESSES[..], &FREE_GUESSES].concat() } else { GUESSES.to_vec() }
}

/// All that a session learns from a query with this condition, apart from what it wrote itself.
fn signals(client: &mut Client, from: &str, guess: &str) -> Vec<String> {
    let mut signals = vec![];
    for tell in [TELL, FREE_TELL] {
        client.batch_execute("select set_config('app.told', 'no', false)").unwrap();
        let query = format!("select from {from} {guess} and {tell}");
        client.batch_execute(&format!("prepare guess as {query}; execute guess")).unwrap();
        signals.extend(rows(client, "select current_setting('app.told')"));
        let analyze = "explain (analyze, costs off, timing off, summary off, buffers off)";
        let analyzed = rows(client, &format!("{analyze} execute guess"));
        client.batch_execute("deallocate guess").unwrap();
        signals.extend(
            analyzed
                .into_iter()
                .filter(|line| !line.contains("Filter: ") && !line.contains("Cond")),
        );
    }
    signals
}

fn rows(client: &mut Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
}

/// A table and a partitioned one: a row of acme's, then a row of globex's.
fn tables(owner: &mut Client, number: usize, (kind, acme, globex): &(&str, &str, &str)) {
    let values = format!(
        "values ('{acme}', 1, 'mine', null::bool, 900, null),
             ('{globex}', 1, 'secret', true, 5, '')"
    );
    let columns =
        format!("(tenant_id {kind}, k int, body text, flag bool, n int, note text, void text)");
    owner
        .batch_execute(&format!(
            "create table t{number} {columns};
             insert into t{number} {values};
             create index on t{number} (tenant_id, n, body);
             select multigres_protect('t{number}');
             create table t{number}_parts {columns} partition by list (k);
             create table t{number}_part partition of t{number}_parts for values in (1);
             insert into t{number}_parts {values};
             select multigres_protect('t{number}_parts');
             create table if not exists own (k int);
             insert into own select 1 where not exists (select from own);
             grant select on own to app_user"
        ))
        .unwrap();
}

fn sealed(database: &str, tenant: &str) -> Client {
    let seal = SealedLogin::new(database, tenant).seal();
    let options = sealed_options(TENANT_VARIABLE, tenant, &seal);
    let mut client = cluster().direct("app_user", database);
    client.options(&options).connect(NoTls).unwrap()
}
