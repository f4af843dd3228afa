//! What multigres_check() finds in a database, and what its fixes make of it. Knows nothing of any
//! one finding.

use postgres::Client;

use crate::{GUARD, SETUP, UNGUARD, cluster};

/// The superuser in a new database with one protected table, in which nothing is to be found.
pub fn clean(database: &str) -> Client {
    let create = format!("create database {database}");
    cluster().superuser("postgres").batch_execute(&create).unwrap();
    let mut owner = cluster().superuser(database);
    owner.batch_execute(&SETUP).unwrap();
    owner
        .batch_execute(
            "create table contacts (tenant_id text not null, id bigint, name text,
                 primary key (tenant_id, id));
             select multigres_protect('contacts')",
        )
        .unwrap();
    owner
}

pub fn found_and_mended(owner: &mut Client, plant: &str, expected: &[&str]) {
    assert_eq!(planted(owner, plant), expected, "{plant}");
    mend(owner);
    assert_eq!(findings(owner), [""; 0], "mended: {plant}");
    owner.batch_execute("rollback").unwrap();
}

pub fn not_found(owner: &mut Client, harmless: &str) {
    assert_eq!(planted(owner, harmless), [""; 0], "{harmless}");
    owner.batch_execute("rollback").unwrap();
}

/// Runs the fixes of all findings, one after the other: one may have mended another's.
pub fn mend(owner: &mut Client) {
    let mut before = fixes(owner);
    while let Some((line, fix)) = before.first() {
        let fix = fix.as_deref().unwrap_or_else(|| panic!("no fix for {line}"));
        owner.batch_execute(fix).unwrap_or_else(|error| panic!("{fix}: {error:?}"));
        let after = fixes(owner);
        let stands = |line: &str, among: &[(String, Option<String>)]| {
            among.iter().any(|(other, _)| other == line)
        };
        assert!(!stands(line, &after), "{fix} did not mend {line}");
        if after.iter().any(|(line, _)| !stands(line, &before)) {
            break;
        }
        before = after;
    }
}

pub fn mend_one(owner: &mut Client, object: &str) {
    let sql = "select fix from multigres_check() where object = $1";
    let fix: String = owner.query_one(sql, &[&object]).unwrap().get(0);
    owner.batch_execute(&fix).unwrap_or_else(|error| panic!("{fix}: {error:?}"));
}

pub fn findings(owner: &mut Client) -> Vec<String> {
    fixes(owner).into_iter().map(|(line, _)| line).collect()
}

/// The findings once a fault is planted, in a transaction that the caller rolls back.
pub fn planted(owner: &mut Client, plant: &str) -> Vec<String> {
    owner.batch_execute(&format!("begin; {UNGUARD}")).unwrap();
    owner.batch_execute(plant).unwrap_or_else(|error| panic!("{plant}: {error:?}"));
    owner.batch_execute(GUARD).unwrap();
    findings(owner)
}

/// What is found, and the SQL that mends it.
fn fixes(owner: &mut Client) -> Vec<(String, Option<String>)> {
    let rows = owner.query(CHECK, &[]).unwrap();
    let line = |row: &postgres::Row| {
        let [severity, object, problem]: [&str; 3] = [row.get(0), row.get(1), row.get(2)];
        (format!("{severity} | {object} | {problem}"), row.get("fix"))
    };
    rows.iter().map(line).collect()
}

const CHECK: &str = "select severity, object, problem, fix from multigres_check()";

pub fn version(owner: &mut Client) -> i32 {
    let sql = "select current_setting('server_version_num')::int / 10000";
    owner.query_one(sql, &[]).unwrap().get(0)
}
