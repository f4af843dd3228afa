//! Logins into databases of which `sql/setup.sql` and its functions have made something, by whoever
//! ran them, and by whoever came before.

use postgres::NoTls;
use testing::linter::{clean, mend};
use testing::{
    ACME, Daemon, GUARD, Managed, Run, SEAL_KEY, SETUP, SealedLogin, TENANT_VARIABLE, UNGUARD,
    as_squatter, cluster, contacts, count, empty_database, sealed_options, set_up_database,
    sqlstate,
};

use crate::sealed::start;

#[test]
fn through_multigres_a_login_sees_its_tenant_and_keeps_it() {
    let database = set_up_database("sql_multigres");
    cluster()
        .superuser(&database)
        .batch_execute(
            "create table contacts (id serial primary key, tenant_id text, name text not null);
             insert into contacts (tenant_id, name) values
                 ('acme', 'Ada'), ('acme', 'Alan'), ('globex', 'Grace'), ('', 'Nameless'),
                 (null, 'Orphan');
             select multigres_protect('contacts', 'tenant_id')",
        )
        .unwrap();
    let daemon = Daemon::start();
    let mut client = daemon.config("app_user.acme").dbname(&database).connect(NoTls).unwrap();
    for statement in ["select 1", "reset all", "discard all"] {
        client.batch_execute(statement).unwrap();
        assert_eq!(contacts(&mut client), ACME, "{statement}");
    }
}

#[test]
fn through_multigres_a_hardened_database_serves_as_before() {
    let mut owner = clean("harden_serves");
    owner
        .batch_execute("insert into contacts values ('acme', 1, 'Ada'), ('globex', 1, 'Grace')")
        .unwrap();
    owner.batch_execute("select multigres_harden()").unwrap();
    let daemon = Daemon::start();
    let mut client = daemon.config("app_user.acme").dbname("harden_serves").connect(NoTls).unwrap();
    for statement in ["select 1", "discard all", "select pg_advisory_unlock_all(); reset all"] {
        client.batch_execute(statement).unwrap();
        let rows = client.query("select name from contacts", &[]).unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(names, ["Ada"], "{statement}");
    }
    client.batch_execute("create temp table t (a int); drop table t").unwrap();
}

#[test]
fn an_administrator_makes_app_user_and_serves_tenants_with_it() {
    let managed = Managed::start();
    let mut admin = managed.admin();
    admin.batch_execute(&SETUP).unwrap();
    admin.batch_execute(&SETUP).unwrap();
    Managed::fill(&mut admin);
    admin.batch_execute("alter role app_user password 'known to the administrator'").unwrap();
    let daemon = Run::on(&managed.cluster).set("verify_ttl", "0").start();
    let login =
        |tenant: &str| daemon.config(&format!("app_user.{tenant}")).dbname("crm").connect(NoTls);
    assert_eq!(count(&mut login("acme").unwrap(), "contacts"), 2);
    assert_eq!(count(&mut login("globex").unwrap(), "contacts"), 1);
    assert_eq!(count(&mut admin, "contacts"), 0, "the owner is held too");
    for role in ["managed_admin.acme", "managed_admin"] {
        let error = daemon.config(role).dbname("crm").connect(NoTls).err().expect(role);
        assert_eq!(sqlstate(&error), "28000", "{role}");
    }

    admin.batch_execute(&format!("select multigres_seal('{SEAL_KEY}', 'none')")).unwrap();
    admin.batch_execute(&SETUP).unwrap();
    assert_eq!(sqlstate(&login("acme").err().expect("a sealed database")), "08004");
    let seal = SealedLogin::new("crm", "acme").seal();
    let options = sealed_options(TENANT_VARIABLE, "acme", &seal);
    let mut config = managed.cluster.direct("app_user", "crm");
    let mut sealed = config.options(&options).connect(NoTls).unwrap();
    assert_eq!(count(&mut sealed, "contacts"), 2);
    let read = sealed.batch_execute("table multigres.seal_keys").unwrap_err();
    assert_eq!(sqlstate(&read), "42501");
    let other = format!("select multigres_seal('{}', 'none')", "1".repeat(64));
    admin.batch_execute(&other).unwrap();
    assert_eq!(count(&mut sealed, "contacts"), 2, "both keys are good");
    admin.batch_execute("select multigres_unseal()").unwrap();
    assert_eq!(count(&mut login("acme").unwrap(), "contacts"), 2);
}

#[test]
fn a_planted_table_of_keys_refuses_logins_and_opens_nothing() {
    let mut owner = clean("planted_keys");
    as_squatter(&mut owner, "create table public.multigres_seal_keys (id int)");
    let daemon = Daemon::start();
    let login = || daemon.config("app_user.acme").dbname("planted_keys").connect(NoTls);
    let error = login().err().expect("a refusal");
    assert_eq!(sqlstate(&error), "08004");
    mend(&mut owner);
    login().unwrap();
}

#[test]
fn a_planted_function_makes_no_database_sealed() {
    let mut owner = cluster().superuser(&empty_database("planted_context"));
    let run = || Run::on(cluster()).set("verify_ttl", "0");
    let prefer = start(run(), SEAL_KEY);
    let require = start(run().set("seal", "require"), SEAL_KEY);
    let login = |daemon: &Daemon| {
        daemon.config("app_user.acme").dbname("planted_context").connect(NoTls).map(drop)
    };
    let refused = |daemon: &Daemon, words: &str| {
        let error = login(daemon).expect_err("a refusal");
        assert_eq!(sqlstate(&error), "08004");
        let error = error.as_db_error().unwrap();
        let hint = error.hint().unwrap();
        assert!(error.detail().unwrap().contains(words) && hint.contains("setup.sql"), "{error:?}");
    };
    // It accepts every seal, and its absence; NULL is what a verifying function says there.
    let planted = "create or replace function public.multigres_context(variable text) returns text
                   language sql stable security definer";
    let honest = "select current_setting(variable, true)";
    let liar = "select case when variable <> 'server_version' then
                    current_setting(variable, true) end";
    as_squatter(&mut owner, &format!("{planted} as $${honest}$$"));
    login(&prefer).unwrap();
    prefer.wait_for_log("database=planted_context seal=off login=");
    assert_eq!(sqlstate(&login(&require).unwrap_err()), "08004");
    as_squatter(&mut owner, &format!("{planted} as $${liar}$$"));
    for daemon in [&prefer, &require] {
        refused(daemon, "belongs to a role that is no superuser");
    }
    // Nor when the session's own role has laid it there, which may see other roles' names.
    let own = "alter function public.multigres_context(text) owner to app_user";
    owner.batch_execute(own).unwrap();
    refused(&prefer, "belongs to a role that is no superuser");

    owner.batch_execute("drop function public.multigres_context(text)").unwrap();
    owner.batch_execute(&SETUP).unwrap();
    // The guard refuses such functions where event triggers exist.
    owner.batch_execute(UNGUARD).unwrap();
    for argument in ["varchar", "name", "anyelement", "variadic text[]"] {
        let function = format!(
            "create function public.multigres_context({argument}) returns text
                 language plpgsql as $$ begin create table public.trapped (); return null; end $$"
        );
        as_squatter(&mut owner, &function);
    }
    owner.batch_execute(GUARD).unwrap();
    login(&prefer).unwrap();
    assert_eq!(sqlstate(&login(&require).unwrap_err()), "08004");
    owner.batch_execute(&format!("select multigres_seal('{SEAL_KEY}')")).unwrap();
    for daemon in [&prefer, &require] {
        login(daemon).unwrap();
        daemon.wait_for_log("database=planted_context seal=on login=");
    }
    assert_eq!(count(&mut owner, "pg_class where relname = 'trapped'"), 0);
    // Whoever may set up may be the judge.
    for (role, right) in [("createrole", "user"), ("createdb", "database")] {
        owner.batch_execute(&format!("create role planted_{right} {role}")).unwrap();
    }
    owner.batch_execute("alter database planted_context owner to planted_database").unwrap();
    for right in ["user", "database"] {
        let to = format!(
            "grant create on schema public to planted_{right};
            alter function public.multigres_context(text) owner to planted_{right};
            grant usage on schema multigres to planted_{right};
            grant execute on all functions in schema multigres to planted_{right};
            alter table multigres.seal_keys owner to planted_{right}"
        );
        owner.batch_execute(&to).unwrap();
        login(&require).unwrap();
    }
}
