//! What a login is told of the database's guard, through the daemon.

use postgres::{Client, NoTls};
use testing::Managed;
use testing::{
    Daemon, GUARD, Run, SETUP, UNGUARD, cluster, count, empty_database, set_up_database, sqlstate,
};

const TABLES: &str = "
    create table notes (tenant_id text not null, body text);
    create table numbers (tenant_id int not null);
    create table canary (tenant_id uuid not null);
    insert into notes values ('acme', 'mine'), ('globex', 'theirs');
    select multigres_protect('notes')";

fn database(name: &str) -> (String, Client) {
    let database = set_up_database(name);
    let mut owner = cluster().superuser(&database);
    owner.batch_execute(TABLES).unwrap();
    (database, owner)
}

fn daemon(settings: &[(&str, &str)]) -> Daemon {
    let run = settings.iter().fold(Run::on(cluster()), |run, (key, value)| run.set(key, value));
    run.start()
}

fn login(daemon: &Daemon, database: &str, user: &str) -> Result<Client, postgres::Error> {
    daemon.config(user).dbname(database).connect(NoTls)
}

/// The login is refused with 55000; its HINT.
fn refused(daemon: &Daemon, database: &str, user: &str) -> String {
    let error = login(daemon, database, user).err().expect("a refusal");
    assert_eq!(sqlstate(&error), "55000", "{error:?}");
    let error = error.as_db_error().unwrap();
    assert_eq!(error.severity(), "FATAL");
    assert!(
        error.message().ends_with("the database does not hold its tenants apart")
            || error.message().ends_with("whether the database holds its tenants apart"),
        "{error:?}"
    );
    let said = format!("{error:?}");
    assert!(!said.contains("notes"), "no table is named to a tenant: {said}");
    error.hint().expect("a HINT").to_owned()
}

#[test]
fn an_open_table_refuses_tenants_until_it_is_protected_again() {
    let (database, mut owner) = database("verdict_open");
    let daemon = daemon(&[("verify_ttl", "0")]);
    assert_eq!(count(&mut login(&daemon, &database, "app_user.acme").unwrap(), "notes"), 1);
    daemon.wait_for_log(&format!("database={database} login="));
    assert!(daemon.log().iter().any(|line| line.contains("guard=on")));
    let open = format!("begin; {UNGUARD} alter table notes disable row level security; {GUARD}");
    owner.batch_execute(&format!("{open} commit")).unwrap();
    for _ in 0..2 {
        let hint = refused(&daemon, &database, "app_user.acme");
        assert!(hint.contains("multigres_protect"), "{hint}");
    }
    let line = daemon.wait_for_log("public.notes: row-level security is disabled");
    for words in ["[ERROR]", "sqlstate=55000", "multigres_unprotect(TABLE)", "app_user"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    assert!(!daemon.log().iter().any(|line| line.contains("theirs")));
    owner.batch_execute("select multigres_protect('notes')").unwrap();
    assert_eq!(count(&mut login(&daemon, &database, "app_user.acme").unwrap(), "notes"), 1);
    owner.batch_execute(&format!("{open} commit")).unwrap();
    refused(&daemon, &database, "app_user.globex");
    owner.batch_execute("select multigres_unprotect('notes')").unwrap();
    assert!(login(&daemon, &database, "app_user.acme").is_ok());
}

#[test]
fn a_good_verdict_is_kept_and_a_bad_one_is_asked_anew() {
    let (first, mut owner) = database("verdict_kept");
    let (second, mut other) = database("verdict_kept_apart");
    let daemon = daemon(&[("verify_ttl", "1h")]);
    let open = format!("{UNGUARD} alter table notes disable row level security; {GUARD}");
    other.batch_execute(&open).unwrap();
    assert!(login(&daemon, &first, "app_user.acme").is_ok());
    refused(&daemon, &second, "app_user.acme");
    refused(&daemon, &second, "app_user.acme");
    other.batch_execute("select public.multigres_protect('public.notes')").unwrap();
    assert!(login(&daemon, &second, "app_user.acme").is_ok(), "a bad verdict is not kept");
    owner.batch_execute(&open).unwrap();
    // For the same role and database, whichever the tenant.
    assert!(login(&daemon, &first, "app_user.globex").is_ok());
    refused(&daemon, &first, "trust_user.acme");
}

#[test]
fn the_owner_of_a_protected_table_is_no_tenant() {
    let (database, mut owner) = database("verdict_owner");
    owner.batch_execute("alter table notes owner to trust_user").unwrap();
    let daemon = daemon(&[]);
    let error = login(&daemon, &database, "trust_user.acme").err().expect("a refusal");
    assert_eq!(sqlstate(&error), "28000", "{error:?}");
    assert!(login(&daemon, &database, "app_user.acme").is_ok());
}

#[test]
fn a_database_without_a_guard_is_served_with_one_warning_unless_one_is_required() {
    let database = empty_database("verdict_absent");
    let prefer = daemon(&[]);
    for _ in 0..3 {
        login(&prefer, &database, "app_user.acme").unwrap();
    }
    prefer.wait_until_idle();
    let warned = |line: &&String| line.contains("[WARN]") && line.contains("verdict_absent");
    let log = prefer.log();
    assert_eq!(log.iter().filter(warned).count(), 1, "{log:?}");
    assert!(log.iter().any(|line| line.contains("guard=off")));

    let require = daemon(&[("guard", "require")]);
    let hint = refused(&require, &database, "app_user.acme");
    assert!(hint.contains("sql/setup.sql"), "{hint}");
    cluster().superuser(&database).batch_execute(&SETUP).unwrap();
    assert!(login(&require, &database, "app_user.acme").is_ok());

    let off = daemon(&[("guard", "off")]);
    assert!(login(&off, &database, "app_user.acme").is_ok());
    off.wait_for_log(" up ");
    assert!(!off.log().iter().any(|line| line.contains("guard=")), "{:?}", off.log());
}

#[test]
fn a_planted_function_is_neither_believed_nor_run() {
    let database = empty_database("verdict_planted");
    let mut owner = cluster().superuser(&database);
    owner
        .batch_execute(
            "grant create on schema public to trust_user;
             set role trust_user;
             create function public.multigres_verdict() returns text language plpgsql as $$
             begin
                 perform set_config('app.current_tenant_id', 'globex', false);
                 return null;
             end $$;
             reset role",
        )
        .unwrap();
    for guard in ["prefer", "require"] {
        let daemon = daemon(&[("guard", guard)]);
        let hint = refused(&daemon, &database, "app_user.acme");
        assert!(hint.contains("drop the function"), "{hint}");
    }
    let daemon = daemon(&[("guard", "off")]);
    let mut client = login(&daemon, &database, "app_user.acme").unwrap();
    let row = client.query_one("select current_setting('app.current_tenant_id')", &[]).unwrap();
    assert_eq!(row.get::<_, &str>(0), "acme");
}

#[test]
fn a_function_that_cannot_be_called_is_named_in_the_hint() {
    let (database, mut owner) = database("verdict_overloaded");
    let daemon = daemon(&[("verify_ttl", "0")]);
    let mut hint = |broken: &str, mended: &str| {
        owner.batch_execute(broken).unwrap();
        let error = login(&daemon, &database, "app_user.acme").err().expect("a refusal");
        assert_eq!(sqlstate(&error), "08004", "{error:?}");
        owner.batch_execute(mended).unwrap();
        assert!(login(&daemon, &database, "app_user.acme").is_ok(), "{mended}");
        error.as_db_error().unwrap().hint().expect("a HINT").to_owned()
    };
    for function in ["multigres_verdict", "multigres_misspelt"] {
        let arguments = "(x text default '')";
        let overload = format!("create function {function}{arguments} returns text language sql");
        let said =
            hint(&format!("{overload} as 'select x'"), &format!("drop function {function}(text)"));
        assert!(said.contains("another function in schema public"), "{said}");
        assert!(said.contains("multigres_check()"), "{said}");
        let said = hint(&format!("revoke execute on function {function} from public"), &SETUP);
        assert!(said.contains("sql/setup.sql"), "{said}");
    }
    let said = hint("drop function multigres_misspelt", &SETUP);
    assert!(said.contains("sql/setup.sql"), "{said}");
}

#[test]
fn a_schema_that_was_dropped_refuses_until_it_is_set_up_again() {
    let (database, mut owner) = database("verdict_dropped");
    owner
        .batch_execute(
            "create schema app; create table app.kept (tenant_id text);
             insert into app.kept values ('globex');
             grant select on app.kept to app_user;
             select multigres_protect('app.kept');
             create policy wide on app.kept using (true)",
        )
        .unwrap();
    let daemon = daemon(&[("verify_ttl", "0")]);
    let drop = "drop schema public cascade; create schema public; grant usage on schema public
        to public";
    let error = owner.batch_execute(drop).unwrap_err();
    assert_eq!(sqlstate(&error), "55000", "another policy would open it: {error:?}");
    owner.batch_execute("drop policy wide on app.kept").unwrap();
    owner.batch_execute(drop).unwrap();
    let hint = refused(&daemon, &database, "app_user.acme");
    assert!(hint.contains("sql/setup.sql"), "{hint}");
    owner.batch_execute(&SETUP).unwrap();
    refused(&daemon, &database, "app_user.acme");
    owner.batch_execute("select multigres_protect('app.kept')").unwrap();
    let mut client = login(&daemon, &database, "app_user.acme").unwrap();
    assert_eq!(count(&mut client, "app.kept"), 0);
}

#[test]
fn a_tenant_is_spelt_as_the_columns_have_it() {
    let (database, mut owner) = database("verdict_spelling");
    let daemon = daemon(&[("verify_ttl", "1h")]);
    assert!(login(&daemon, &database, "app_user.007").is_ok(), "text has any spelling");
    owner.batch_execute("select multigres_protect('numbers')").unwrap();
    assert!(login(&daemon, &database, "app_user.7").is_ok());
    for (tenant, words) in [("007", "\"7\""), ("0x7", "integer"), ("acme", "integer")] {
        let error = login(&daemon, &database, &format!("app_user.{tenant}")).err().expect(tenant);
        assert_eq!(sqlstate(&error), "22023", "{error:?}");
        let detail = error.as_db_error().unwrap().detail().unwrap();
        assert!(detail.contains(words), "{tenant}: {detail}");
    }
}

#[test]
fn an_administrator_who_is_no_superuser_has_the_verdict_alone() {
    let managed = Managed::start();
    let mut admin = managed.admin();
    admin.batch_execute(&SETUP).unwrap();
    admin.batch_execute(TABLES).unwrap();
    let daemon = Run::on(&managed.cluster).set("guard", "require").set("verify_ttl", "0").start();
    let login = || daemon.config("app_user.acme").dbname("crm").connect(NoTls);
    assert_eq!(count(&mut login().unwrap(), "notes"), 1);
    admin.batch_execute("alter table notes disable row level security").unwrap();
    assert_eq!(sqlstate(&login().err().expect("an open table")), "55000");
    admin.batch_execute("select multigres_protect('notes')").unwrap();
    assert_eq!(count(&mut login().unwrap(), "notes"), 1);
    admin.batch_execute(&SETUP).unwrap();
    assert_eq!(count(&mut login().unwrap(), "notes"), 1);
}

/// Settings that any session, role or database may have, and by which PostgreSQL prints a view
/// and a policy.
const PRINTED_BY: [&str; 8] = [
    "bytea_output=escape",
    "standard_conforming_strings=off",
    "quote_all_identifiers=on",
    "extra_float_digits=-15",
    "datestyle=German",
    "intervalstyle=sql_standard",
    "xmloption=document",
    "search_path=pg_temp",
];

#[test]
fn no_setting_of_a_session_changes_the_verdict_upon_a_sealed_database() {
    let (database, mut owner) = database("verdict_printed");
    let key = "00112233445566778899aabbccddeeff".repeat(2);
    owner
        .batch_execute(&format!(
            "select multigres_protect('numbers', 'tenant_id', 'app.number_id'),
                 multigres_protect('canary', 'tenant_id', 'app.canary_id'),
                 multigres_seal('{key}')"
        ))
        .unwrap();
    let daemon = crate::sealed::start(Run::on(cluster()).set("verify_ttl", "0"), &key);
    let served = |what: &str, options: &str| {
        let mut config = daemon.config("app_user.acme");
        let mut client = config
            .dbname(&database)
            .options(options)
            .connect(NoTls)
            .unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(count(&mut client, "public.notes"), 1, "{what}");
    };
    let here = format!("in database {database}");
    for setting in PRINTED_BY {
        let name = setting.split('=').next().unwrap();
        served(setting, &format!("-c {setting}"));
        for of in [format!("role app_user {here}"), format!("database {database}")] {
            owner.batch_execute(&format!("alter {of} set {setting}")).unwrap();
            served(&format!("{of} {setting}"), "");
            owner.batch_execute(&format!("alter {of} reset {name}")).unwrap();
        }
        // Recorded under it, and asked for without it.
        let mut other = cluster().direct("postgres", &database);
        let mut other = other.options(&format!("-c {setting}")).connect(NoTls).unwrap();
        other.batch_execute(&SETUP).unwrap_or_else(|error| panic!("{setting}: {error:?}"));
        other.batch_execute("select public.multigres_protect('public.notes')").unwrap();
        let altered = "multigres.isolations() where multigres.form(relation) is null";
        assert_eq!([count(&mut other, altered), count(&mut owner, altered)], [0, 0], "{setting}");
        served(&format!("setup.sql under {setting}"), "");
    }
}

#[test]
fn temporary_tables_of_one_tenant_keep_no_other_out() {
    let (database, _owner) = database("verdict_temporary");
    let daemon = daemon(&[("verify_ttl", "0")]);
    let mut acme = login(&daemon, &database, "app_user.acme").unwrap();
    for (table, policy) in [("t", "p"), ("u", "multigres_isolation"), ("v", "multigres_access")] {
        acme.batch_execute(&format!(
            "create temp table {table} (a int);
             create function pg_temp.{table}() returns bool language sql as 'select true';
             create policy {policy} on {table} using (pg_temp.{table}());
             alter table {table} enable row level security"
        ))
        .unwrap();
        let mut globex = login(&daemon, &database, "app_user.globex").unwrap();
        assert_eq!(count(&mut globex, "notes where tenant_id <> 'globex'"), 0);
    }
}
