//! References that point at another tenant's row, and the linter's SQL that meets one: nothing is
//! changed, whoever runs it. Afterwards a dump restores. And what deletes past every policy.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use postgres::Client;

use testing::linter::{self, Finding, version};

use crate::check_constraints::{findings, mend_once};

use testing::{cluster, count, shortened, sqlstate};

use crate::shop::{Owner, Shop};

#[test]
fn a_row_that_points_at_another_tenants_is_reported_and_nothing_is_changed() {
    for who in Shop::OWNERS {
        let shop = Shop::open("keys_bad", who);
        let (mut owner, mut superuser) = (shop.owner(), shop.superuser());
        for (constraint, rows) in CROSSING {
            superuser.batch_execute(rows).unwrap();
            let object = format!("constraint {constraint} on ");
            let is_it = |object: &str, found: &str| found.starts_with(object);
            let found = findings(&mut owner);
            let found = found.iter().find(|found| is_it(&object, &found.object)).unwrap();
            let state = definition(&mut superuser, constraint);
            let error = owner.batch_execute(&found.fix).expect_err(constraint);
            assert_eq!(sqlstate(&error), "23503", "{who:?} {constraint}: {error:?}");
            assert_eq!(definition(&mut superuser, constraint), state, "{who:?} {constraint}");
            assert_eq!(count(&mut superuser, OPEN), 0, "{who:?} {constraint}");
        }
        // To run everything leaves these four, and what stands beneath them.
        let mut failed = Vec::new();
        for found in findings(&mut owner) {
            if let Err(error) = owner.batch_execute(&found.fix) {
                failed.push((found.object, sqlstate(&error).to_owned()));
            }
        }
        let references = failed.iter().filter(|(_, state)| state == "23503").count();
        assert_eq!(references, CROSSING.len(), "{who:?} {failed:?}");
        assert!(failed.iter().all(|(_, state)| state == "23503" || state == "2BP01"), "{failed:?}");

        superuser.batch_execute(UNCROSS).unwrap();
        mend_once(&mut owner);
        assert!(findings(&mut owner).iter().all(|found| found.fix.starts_with("-- ")));
        assert_eq!(count(&mut superuser, OPEN), 0, "{who:?}");
    }
}

#[test]
fn postgresql_itself_finds_no_such_row_for_an_owner() {
    // Why multigres_alter() is there: were this mended, it could go.
    let shop = Shop::open("keys_plain", Owner::Administrator);
    let (mut owner, mut superuser) = (shop.owner(), shop.superuser());
    let (_, rows) = CROSSING[0];
    superuser.batch_execute(rows).unwrap();
    owner
        .batch_execute(
            "create unique index on people (tenant_id, id);
             alter table pets drop constraint restricts, add constraint restricts
                 foreign key (tenant_id, vet) references people (tenant_id, id)",
        )
        .unwrap();
    let valid = "pg_constraint where conname = 'restricts' and convalidated";
    assert_eq!(count(&mut superuser, valid), 1, "and there is a row that breaks it");
}

#[test]
fn multigres_alter_changes_no_protection() {
    for who in Shop::OWNERS {
        let shop = Shop::empty("keys_alter", who);
        let mut owner = shop.owner();
        owner
            .batch_execute(
                "create table contacts (tenant_id text not null, id int primary key, up int);
                 select multigres_protect('contacts')",
            )
            .unwrap();
        for (statement, state) in [
            ("alter table contacts disable row level security", "55000"),
            ("alter table contacts drop column tenant_id cascade", "55000"),
            (
                "alter table contacts add check (true); grant truncate on contacts to public",
                "55000",
            ),
            ("drop table contacts", "22023"),
            ("update contacts set up = 1", "22023"),
        ] {
            let call = format!("select multigres_alter('{statement}', 'public.contacts')");
            let error = owner.batch_execute(&call.replace(" contacts", " public.contacts"));
            assert_eq!(sqlstate(&error.unwrap_err()), state, "{who:?} {statement}");
            assert_eq!(count(&mut owner, OPEN), 0, "{who:?} {statement}");
        }
        owner
            .batch_execute(
                "select multigres_alter('alter table public.contacts add foreign key (up)
                     references public.contacts (id)', 'public.contacts')",
            )
            .unwrap();
        assert_eq!(count(&mut owner, "pg_constraint where contype = 'f'"), 1);
        let mut tenant = shop.tenant("acme");
        let call = "select multigres_alter('alter table public.contacts alter up set not null',
                        'public.contacts')";
        assert_eq!(sqlstate(&tenant.batch_execute(call).unwrap_err()), "42501");
    }
}

#[test]
fn what_is_mended_can_be_dumped_and_restored() {
    for who in Shop::OWNERS {
        let shop = Shop::open("keys_dump", who);
        let (mut owner, mut superuser) = (shop.owner(), shop.superuser());
        mend_once(&mut owner);
        for tenant in ["acme", "globex"] {
            shop.tenant(tenant)
                .batch_execute(
                    "insert into people (id, name) values (1, 'Ada');
                     insert into pets (id, owner) values (1, 1);
                     insert into years (year, id) values (1, 1);
                     insert into days (year, id, day) values (1, 1, 1)",
                )
                .unwrap();
        }
        // A restore adds each reference to a table that is full, and so does this.
        let sql = "select format('alter table %s drop constraint %I, add constraint %2$I %s',
                       conrelid::regclass, conname, pg_get_constraintdef(oid))
                   from pg_constraint where contype = 'f' and conparentid = 0 and convalidated";
        let rows = superuser.query(sql, &[]).unwrap();
        assert!(rows.len() > 10, "{}", rows.len());
        for row in rows {
            superuser.batch_execute(row.get(0)).unwrap();
        }
        let Some(dump) = pg_dump(version(&mut owner)) else {
            shortened("no pg_dump of this version, so references were added anew and no dump made");
            continue;
        };
        let copy = restored(&dump, shop.database());
        let mut copied = cluster().superuser(&copy);
        assert_eq!(findings(&mut copied).len(), findings(&mut superuser).len());
        for table in ["people", "pets", "years", "days"] {
            assert_eq!(count(&mut copied, table), 2, "{who:?} {table}");
        }
    }
}

#[test]
fn a_shared_row_that_takes_those_of_all_tenants_along_is_found() {
    let shop = Shop::empty("keys_cascade", Owner::Superuser);
    let mut owner = shop.owner();
    owner
        .batch_execute(
            "create table countries (id int primary key);
             create table cities (id int primary key,
                 country int constraint of_country references countries on delete cascade);
             create table contacts (tenant_id text not null, id int, country int, city int,
                 constraint lives_in foreign key (country) references countries
                     on update cascade on delete set null,
                 constraint near foreign key (city) references cities on delete cascade,
                 primary key (tenant_id, id));
             select multigres_protect('contacts');
             insert into countries values (1), (2); insert into cities values (1, 1), (2, 2);
             insert into contacts values ('acme', 1, null, 1), ('globex', 1, 1, 2)",
        )
        .unwrap();
    assert_eq!(errors(&mut owner), [""; 0], "nobody reaches them");
    owner
        .batch_execute(
            "grant delete, select on countries to app_user;
             grant update, select on countries, cities to public",
        )
        .unwrap();
    let found = |constraint: &str, command: &str| {
        format!(
            "cascade_from_shared_table | constraint {constraint} on public.contacts | app_user has \
             {command} on public.countries"
        )
    };
    let expected =
        [found("lives_in", "DELETE"), found("lives_in", "UPDATE"), found("near", "DELETE")];
    assert_eq!(errors(&mut owner), expected);
    // It is so: globex's row goes with acme's statement.
    let mut acme = shop.tenant("acme");
    acme.batch_execute("delete from countries where id = 2").unwrap();
    assert_eq!(count(&mut owner, "contacts where tenant_id = 'globex'"), 0);

    let sql = "select fix from multigres_check() where severity = 'error'";
    for row in owner.query(sql, &[]).unwrap() {
        owner.batch_execute(row.get(0)).unwrap();
    }
    assert_eq!(errors(&mut owner), [""; 0]);
    let refused = acme.batch_execute("delete from countries").unwrap_err();
    assert_eq!(sqlstate(&refused), "42501");
}

#[test]
fn a_reference_from_a_shared_table_tells_which_rows_others_have() {
    let shop = Shop::empty("keys_shared", Owner::Superuser);
    let mut owner = shop.owner();
    owner
        .batch_execute(
            "create table contacts (tenant_id text not null, id int primary key);
             create table votes (contact int constraint for_whom references contacts);
             select multigres_protect('contacts'); grant insert, select on votes to app_user;
             insert into contacts values ('globex', 3)",
        )
        .unwrap();
    let mut acme = shop.tenant("acme");
    acme.batch_execute("insert into votes values (3)").unwrap();
    let nobodys = acme.batch_execute("insert into votes values (4)").unwrap_err();
    assert_eq!(sqlstate(&nobodys), "23503", "so 3 is somebody's");
    let expected = "foreign_key_from_shared_table | constraint for_whom on public.votes | refers \
                    to public.contacts | INSERT";
    let found = linter::findings(&mut owner);
    let found = found.iter().find(|found| *found == expected).expect(expected);
    owner.batch_execute(found.fix.as_ref().unwrap()).unwrap();
    assert!(!linter::is_found(&linter::findings(&mut owner), expected));
    let refused = acme.batch_execute("insert into votes values (3)").unwrap_err();
    assert_eq!(sqlstate(&refused), "42501");
}

/// For each of these constraints rows of acme that point at globex's.
const CROSSING: [(&str, &str); 4] = [
    (
        "restricts",
        "insert into people (tenant_id, id) values ('globex', 66);
         insert into pets (tenant_id, id, vet, owner) values ('acme', 66, 66, null)",
    ),
    (
        "of_year",
        "insert into years (tenant_id, year, id) values ('globex', 6, 6);
         insert into days (tenant_id, year, id, day) values ('acme', 6, 6, 66)",
    ),
    (
        "fruit_up_fkey",
        "insert into fruit (tenant_id, id) values ('globex', 66);
         insert into fruit (tenant_id, id, up) values ('acme', 67, 66)",
    ),
    (
        r#""to (it) \\ ""x""""#,
        r#"insert into "my (shop).\\"."it's (a) ""b""" ("ten ant)", "i(d") values ('globex', 66);
           insert into lines (tenant_id, order_id) values ('acme', 66)"#,
    ),
];

const UNCROSS: &str = "delete from pets where id = 66; delete from days where day = 66;
     delete from fruit where id = 67; delete from lines where order_id = 66";

/// Protected tables that are not, at present.
const OPEN: &str = "multigres.isolations() as i join pg_class as c on c.oid = i.relation
     where not (c.relrowsecurity and c.relforcerowsecurity and multigres.intact(i.relation))";

fn definition(client: &mut Client, constraint: &str) -> String {
    let sql = "select concat(pg_get_constraintdef(oid), convalidated) from pg_constraint
               where quote_ident(conname) = $1 and conparentid = 0";
    client.query_one(sql, &[&constraint]).unwrap().get(0)
}

fn errors(owner: &mut Client) -> Vec<Finding> {
    linter::findings(owner).into_iter().filter(|found| found.severity == "error").collect()
}

/// pg_dump of this major version, where one is installed.
fn pg_dump(major: i32) -> Option<PathBuf> {
    let named = std::env::var_os("PG_BINDIR").map(PathBuf::from);
    let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
    let red_hat = PathBuf::from(format!("/usr/pgsql-{major}/bin"));
    let folders = named.into_iter().chain([debian, red_hat]);
    folders.map(|folder| folder.join("pg_dump")).find(|file| file.is_file())
}

/// The name of a new database that holds a dump of this one.
fn restored(pg_dump: &Path, database: &str) -> String {
    let copy = format!("{database}_copy");
    cluster().superuser("postgres").batch_execute(&format!("create database {copy}")).unwrap();
    let run = |program: PathBuf, database: &str| {
        let mut command = Command::new(program);
        command.arg("-h").arg(cluster().socket_folder()).args(["-U", "postgres", "-d", database]);
        command.arg("-p").arg(cluster().port().to_string());
        command
    };
    let mut dump = run(pg_dump.to_path_buf(), database).stdout(Stdio::piped()).spawn().unwrap();
    let restore = run(pg_dump.with_file_name("psql"), &copy)
        .args(["-q", "-v", "ON_ERROR_STOP=1"])
        .stdin(dump.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(dump.wait().unwrap().success(), "pg_dump");
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    copy
}
