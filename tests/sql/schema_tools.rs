//! What schema tools do to a protected table, with the packages that people have: Drizzle's `push`
//! and TypeORM's `synchronize`. What `docs/schema-tools.md` declares is what runs here.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use postgres::Client;
use tempfile::TempDir;
use testing::{cluster, count, schema_tools, set_up_database};

const DRIZZLE: &str = include_str!("schema_tools/drizzle.ts");
const UNDECLARED: &str = include_str!("schema_tools/drizzle_undeclared.ts");
const TYPEORM: &str = include_str!("schema_tools/typeorm.js");
const SYNCHRONIZE: &str = include_str!("schema_tools/synchronize.js");

#[test]
fn the_documented_declarations_are_the_tested_ones() {
    let page = include_str!("../../docs/schema-tools.md");
    for declaration in [DRIZZLE, TYPEORM] {
        assert!(page.contains(declaration), "not in docs/schema-tools.md:\n{declaration}");
    }
}

#[test]
fn drizzle_push_is_refused_where_the_policies_are_not_declared() {
    let Some(tools) = schema_tools() else { return };
    let (database, mut owner) = notes("tools_drizzle");
    let before = shape(&mut owner);
    let said = drizzle(&tools, &database, UNDECLARED);
    assert!(said.contains("55000") && said.contains("multigres_unprotect"), "{said}");
    assert_eq!(shape(&mut owner), before);
    assert_eq!(verdict(&mut owner), None);
    let ours = "pg_class where relnamespace = 'multigres'::regnamespace and relkind = 'r'";
    assert!(count(&mut owner, ours) >= 4, "our own tables stay");

    let said = drizzle(&tools, &database, DRIZZLE);
    assert!(said.contains("No changes detected"), "{said}");
    assert_eq!(shape(&mut owner), before);
}

#[test]
fn typeorm_synchronize_takes_default_and_index_unless_they_are_declared() {
    let Some(tools) = schema_tools() else { return };
    let (database, mut owner) = notes("tools_typeorm");
    let before = shape(&mut owner);
    assert_eq!(synchronize(&tools, &database, "declared"), "");
    assert_eq!(shape(&mut owner), before);

    let said = synchronize(&tools, &database, "undeclared");
    assert!(said.contains("DROP INDEX") && said.contains("DROP DEFAULT"), "{said}");
    assert_ne!(shape(&mut owner), before);
    assert_eq!(verdict(&mut owner), None, "nothing is open");
    owner.batch_execute("select multigres_protect('notes')").unwrap();
    let defaults = "pg_attrdef where adrelid = 'notes'::regclass";
    assert_eq!(count(&mut owner, defaults), 1, "protected again, it has its default");
}

/// A protected table with an index of its own.
fn notes(name: &str) -> (String, Client) {
    let database = set_up_database(name);
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "create table notes (id int primary key, tenant_id text not null, body text);
             create index notes_tenant on notes (tenant_id);
             select multigres_protect('notes')",
        )
        .unwrap();
    (database, owner)
}

/// All that a tool could take from the table.
fn shape(owner: &mut Client) -> String {
    let sql = "select concat(c.relrowsecurity, c.relforcerowsecurity,
            (select string_agg(concat(p.polname, p.polroles, pg_get_expr(p.polqual, c.oid)), ';'
                order by p.polname) from pg_policy as p where p.polrelid = c.oid),
            (select string_agg(i.indexrelid::regclass::text, ';' order by i.indexrelid)
                from pg_index as i where i.indrelid = c.oid),
            (select pg_get_expr(d.adbin, c.oid) from pg_attrdef as d where d.adrelid = c.oid))
        from pg_class as c where c.oid = 'notes'::regclass";
    owner.query_one(sql, &[]).unwrap().get(0)
}

fn verdict(owner: &mut Client) -> Option<String> {
    owner.query_one("select public.multigres_verdict()", &[]).unwrap().get(0)
}

fn drizzle(tools: &Path, database: &str, schema: &str) -> String {
    let folder = TempDir::new_in(tools).unwrap();
    let url = url(database);
    let config = format!(
        "export default {{ dialect: 'postgresql', schema: './schema.ts', \
         dbCredentials: {{ url: '{url}' }} }};"
    );
    fs::write(folder.path().join("schema.ts"), schema).unwrap();
    fs::write(folder.path().join("drizzle.config.ts"), config).unwrap();
    let kit = tools.join("node_modules/drizzle-kit/bin.cjs");
    let output = node(folder.path(), database, &[kit.to_str().unwrap(), "push", "--force"]);
    said(&output)
}

fn synchronize(tools: &Path, database: &str, how: &str) -> String {
    let folder = TempDir::new_in(tools).unwrap();
    fs::write(folder.path().join("typeorm.js"), TYPEORM).unwrap();
    fs::write(folder.path().join("synchronize.js"), SYNCHRONIZE).unwrap();
    let output = node(folder.path(), database, &["synchronize.js", how]);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

fn node(folder: &Path, database: &str, arguments: &[&str]) -> Output {
    Command::new("node")
        .args(arguments)
        .current_dir(folder)
        .env("URL", url(database))
        .stdin(Stdio::null())
        .output()
        .expect("node starts")
}

fn said(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&all).trim().to_owned()
}

fn url(database: &str) -> String {
    format!("postgres://postgres:unused@127.0.0.1:{}/{database}", cluster().port())
}
