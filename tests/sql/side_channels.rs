//! What a tenant's own SQL can find out about rows that it does not see: a query's own conditions
//! tell whether they held, by EXPLAIN ANALYZE and by a subquery that runs only when it is needed.
//! That in a sealed database they tell the same of a right guess and of a wrong one.

use postgres::{Client, NoTls};
use testing::linter::version;
use testing::{
    SEAL_KEY, SealedLogin, TENANT_VARIABLE, cluster, count, sealed_options, set_up_database,
    shortened,
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
