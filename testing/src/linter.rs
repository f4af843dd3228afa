//! What multigres_check() finds in a database, and what its fixes make of it. Knows nothing of any
//! one finding.

use std::fmt;

use postgres::Client;

use crate::{GUARD, UNGUARD, cluster, set_up_database};

/// The superuser in a new database with one protected table, in which nothing is to be found.
pub fn clean(database: &str) -> Client {
    let mut owner = cluster().superuser(&set_up_database(database));
    owner
        .batch_execute(
            "create table contacts (tenant_id text not null, id bigint, name text,
                 primary key (tenant_id, id));
             select multigres_protect('contacts')",
        )
        .unwrap();
    owner
}

/// A finding. It equals the text `"lint | object"`, and `"lint | object | part | part"` where each
/// part is in its problem.
#[derive(Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: String,
    pub lint: String,
    pub object: String,
    pub problem: String,
    pub fix: Option<String>,
}

impl PartialEq<str> for Finding {
    fn eq(&self, expected: &str) -> bool {
        let mut parts = expected.split(" | ");
        parts.next() == Some(&*self.lint)
            && parts.next() == Some(&*self.object)
            && parts.all(|part| self.problem.contains(part))
    }
}

impl PartialEq<&str> for Finding {
    fn eq(&self, expected: &&str) -> bool {
        *self == **expected
    }
}

impl PartialEq<String> for Finding {
    fn eq(&self, expected: &String) -> bool {
        *self == **expected
    }
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", format!("{} | {} | {}", self.lint, self.object, self.problem))
    }
}

fn stands(found: &Finding, among: &[Finding]) -> bool {
    let same = |other: &Finding| {
        (&other.lint, &other.object, &other.problem) == (&found.lint, &found.object, &found.problem)
    };
    among.iter().any(same)
}

pub fn found_and_mended(owner: &mut Client, plant: &str, expected: &[&str]) {
    let found = planted(owner, plant);
    assert_eq!(found, expected, "{plant}");
    assert_eq!(mend_these(owner, found), [""; 0], "mended: {plant}");
    owner.batch_execute("rollback").unwrap();
}

pub fn not_found(owner: &mut Client, harmless: &str) {
    assert_eq!(planted(owner, harmless), [""; 0], "{harmless}");
    owner.batch_execute("rollback").unwrap();
}

/// Runs the fixes of all findings, one after the other: one may have mended another's.
pub fn mend(owner: &mut Client) {
    let found = findings(owner);
    mend_these(owner, found);
}

/// The same; what is still found, or was not before.
fn mend_these(owner: &mut Client, mut before: Vec<Finding>) -> Vec<Finding> {
    while let Some(first) = before.first() {
        let fix = first.fix.as_deref().unwrap_or_else(|| panic!("no fix for {first:?}"));
        owner.batch_execute(fix).unwrap_or_else(|error| panic!("{fix}: {error:?}"));
        let after = findings(owner);
        assert!(!stands(first, &after), "{fix} did not mend {first:?}");
        if after.iter().any(|found| !stands(found, &before)) {
            return after;
        }
        before = after;
    }
    before
}

pub fn mend_one(owner: &mut Client, object: &str) {
    let sql = "select fix from multigres_check() where object = $1";
    let fix: String = owner.query_one(sql, &[&object]).unwrap().get(0);
    owner.batch_execute(&fix).unwrap_or_else(|error| panic!("{fix}: {error:?}"));
}

/// The findings once a fault is planted, in a transaction that the caller rolls back.
pub fn planted(owner: &mut Client, plant: &str) -> Vec<Finding> {
    owner.batch_execute(&format!("begin; {UNGUARD}")).unwrap();
    owner.batch_execute(plant).unwrap_or_else(|error| panic!("{plant}: {error:?}"));
    owner.batch_execute(GUARD).unwrap();
    findings(owner)
}

/// Whether one of them is the expected one.
pub fn is_found(findings: &[Finding], expected: &str) -> bool {
    findings.iter().any(|found| found == expected)
}

/// Each finding has the severity that the list of lints gives it.
pub fn findings(owner: &mut Client) -> Vec<Finding> {
    let sql = "select c.lint, c.object, c.problem, c.fix, c.severity, c.severity in (
                   select l.severity from multigres.lints() as l where l.lint = c.lint)
               from multigres_check() as c";
    let finding = |row: &postgres::Row| {
        let (lint, listed): (String, bool) = (row.get(0), row.get(5));
        assert!(listed, "{lint} is not in multigres.lints()");
        let [object, problem, severity] = [1, 2, 4].map(|column| row.get(column));
        Finding { severity, lint, object, problem, fix: row.get(3) }
    };
    owner.query(sql, &[]).unwrap().iter().map(finding).collect()
}

pub fn version(owner: &mut Client) -> i32 {
    let sql = "select current_setting('server_version_num')::int / 10000";
    owner.query_one(sql, &[]).unwrap().get(0)
}
