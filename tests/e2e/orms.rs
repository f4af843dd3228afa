//! The applications of `docs/orm-integration.md`: SQLAlchemy, Django and TypeORM with the packages
//! that people have, taken from that page block by block. Knows the page, and what two tenants of
//! it may see.

use std::path::Path;

use postgres::NoTls;
use tempfile::TempDir;
use testing::{Cluster, Daemon, Run, python_orms, schema_tools, shortened};

use crate::page::{Block, Commands, blocks};

const PAGE: &str = include_str!("../../docs/orm-integration.md");

#[test]
fn each_library_of_the_page_shows_each_tenant_its_own_rows() {
    let (Some(python), Some(node)) = (python_orms(), schema_tools()) else { return };
    // TypeORM is found above the folder.
    let folder = TempDir::new_in(&node).unwrap();
    let cluster = Cluster::start();
    let daemon = set_up(&cluster);
    let commands = Commands {
        folder: folder.path(),
        programs: python.join("bin"),
        migration_url: format!("postgresql://migrator:unused@127.0.0.1:{}/mydb", cluster.port()),
        port: daemon.port(),
    };
    let has_django = knows_django(&cluster);
    let mut libraries = 0;
    for block in blocks(PAGE) {
        if let Some(run) = block.key("run") {
            if !has_django && (run.contains("django") || run == "makemigrations") {
                continue;
            }
            let said = shell(&commands, &block);
            if let "sqlalchemy" | "django" | "typeorm" = run {
                assert_two_tenants(run, &said);
                libraries += 1;
            } else if run == "alembic" {
                assert!(said.contains("No new upgrade operations detected"), "{said}");
            }
        } else {
            block.write(folder.path());
        }
    }
    assert_eq!(libraries, 2 + usize::from(has_django));
    assert_names_are_refused(&commands);
    assert_versions(&python);
    let differences = "python -m django makemigrations --check --settings=settings";
    let is_same = !has_django || commands.shell(differences).status.success();
    assert!(is_same, "the models are the migrations");
    assert_nothing_is_found(&cluster);
}

fn knows_django(cluster: &Cluster) -> bool {
    let sql = "select current_setting('server_version_num')::int >= 140000";
    let knows: bool = cluster.superuser("postgres").query_one(sql, &[]).unwrap().get(0);
    if !knows {
        shortened("Django 5.2 needs PostgreSQL 14");
    }
    knows
}

/// A database of a role that is not a superuser, and the daemon before it.
fn set_up(cluster: &Cluster) -> Daemon {
    let mut superuser = cluster.superuser("postgres");
    for statement in [
        "create role migrator login createrole",
        "grant by_scram to app_user",
        "create database mydb owner migrator",
    ] {
        superuser.batch_execute(statement).unwrap();
    }
    let public = "alter schema public owner to migrator";
    cluster.superuser("mydb").batch_execute(public).unwrap();
    let mut migrator = cluster.direct("migrator", "mydb").connect(NoTls).unwrap();
    migrator.batch_execute(&testing::SETUP).unwrap();
    Run::on(cluster).start()
}

fn shell(commands: &Commands, block: &Block) -> String {
    let output = commands.shell(&block.text);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{}\n{said}", block.text);
    said
}

/// A line for each tenant, with rows of its own and none of the other's.
fn assert_two_tenants(run: &str, said: &str) {
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with('[')).collect();
    assert_eq!(lines.len(), 2, "{run}: {said}");
    for (line, own, other) in [(lines[0], "acme", "globex"), (lines[1], "globex", "acme")] {
        assert!(line.contains(&format!("for {own}")), "{run}: {line}");
        assert!(!line.contains(other), "{run}: {line}");
    }
}

fn assert_names_are_refused(commands: &Commands) {
    let names = ["acme:globex", "globex.acme", "", "acme' or '1' = '1", "Acme", "acme\n"];
    for program in ["python", "node"] {
        let script = if program == "node" { NODE_REFUSES } else { PYTHON_REFUSES };
        let flag = if program == "node" { "-e" } else { "-c" };
        let mut command = commands.command(program);
        command.env("DJANGO_SETTINGS_MODULE", "settings").args([flag, script, "--"]).args(names);
        let output = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let libraries = if program == "node" { 1 } else { 2 };
        let refused = said.matches("no tenant").count();
        assert_eq!(refused, names.len() * libraries, "{said}{output:?}");
    }
}

const PYTHON_REFUSES: &str = "
import sys
from engines import engine_of
from tenants import alias_of
for name in sys.argv[2:]:
    for of in engine_of, alias_of:
        try:
            of(name)
        except Exception as error:
            print(error)
";

const NODE_REFUSES: &str = "
const { sourceOf } = require('./sources.cjs');
for (const name of process.argv.slice(1)) {
    try {
        sourceOf(name);
    } catch (error) {
        console.log(error.message);
    }
}
";

/// The versions that the page names are those that are run.
fn assert_versions(python: &Path) {
    let installed = std::fs::read_to_string(python.join("installed")).unwrap();
    for (name, package) in
        [("SQLAlchemy", "sqlalchemy"), ("Alembic", "alembic"), ("Django", "django")]
    {
        let package = installed.split(&format!("{package}==")).nth(1).expect(package);
        let version = package.split_whitespace().next().expect("a version");
        assert!(PAGE.contains(&format!("{name} {version}")), "{name} {version}");
    }
    let npm = include_str!("../../scripts/schema-tools");
    let version = npm.split("typeorm@").nth(1).and_then(|rest| rest.split_whitespace().next());
    assert!(PAGE.contains(&format!("TypeORM {}", version.expect("TypeORM"))));
}

/// Except what the page says of every owner that is not a superuser.
fn assert_nothing_is_found(cluster: &Cluster) {
    let sql = "select object, problem from multigres_check()
        where severity <> 'info' and object <> 'role migrator'";
    let rows = cluster.superuser("mydb").query(sql, &[]).unwrap();
    let found: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(found, []);
}
