//! What a session sees: its tenant, all the time, whatever it resets.

use postgres::NoTls;
use testing::{ACME, Daemon, GLOBEX, Run, TENANTS, binding, bound, cluster, contacts, sqlstate};

#[test]
fn two_tenants_side_by_side_see_their_own_rows_only() {
    let daemon = Daemon::start();
    let mut acme = daemon.connect("app_user.acme");
    let mut globex = daemon.connect("app_user.globex");
    let mut nobody = daemon.connect("app_user.nobody");
    for _ in 0..20 {
        assert_eq!(contacts(&mut acme), ACME);
        assert_eq!(contacts(&mut globex), GLOBEX);
        assert!(contacts(&mut nobody).is_empty());
    }
}

#[test]
fn a_tenant_neither_changes_nor_adds_rows_of_another() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    let changed = client.execute("update contacts set name = 'x' where tenant_id = 'globex'", &[]);
    assert_eq!(changed.unwrap(), 0);
    assert_eq!(client.execute("delete from contacts where id = 3", &[]).unwrap(), 0);
    let error = client.execute("insert into contacts values (77, 'globex', 'Eve')", &[]);
    assert_eq!(sqlstate(&error.unwrap_err()), "42501");
    assert_eq!(contacts(&mut daemon.connect("app_user.globex")), GLOBEX);
}

#[test]
fn the_tenant_is_bound_for_later_transactions_too() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    client.batch_execute("begin; select 1 / 0").unwrap_err();
    client.batch_execute("rollback").unwrap();
    assert_eq!(contacts(&mut client), ACME);
    let mut transaction = client.transaction().unwrap();
    transaction.batch_execute("set local app.current_tenant_id = ''").unwrap();
    transaction.rollback().unwrap();
    assert_eq!(contacts(&mut client), ACME);
}

#[test]
fn whatever_a_pool_resets_returns_to_the_tenant() {
    for auth in ["auto", "password"] {
        let daemon = Daemon::with(&[("auth", auth)]);
        let mut client = daemon.connect("scram_user.acme");
        for reset in [
            "discard all",
            "reset all",
            "reset app.current_tenant_id",
            "set app.current_tenant_id to default",
            "reset role",
            "set role none",
            "set session authorization default",
            "reset session authorization",
            "close all; unlisten *; reset all; discard plans; discard temp; discard sequences",
        ] {
            client.batch_execute(reset).unwrap();
            assert_eq!(bound(&mut client), binding("acme", "scram_user"), "{reset}");
            assert_eq!(contacts(&mut client), ACME, "{reset}");
        }
    }
}

#[test]
fn a_reset_returns_to_the_tenant_of_the_login_after_the_client_has_set_another() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    for reset in ["discard all", "reset all", "reset app.current_tenant_id"] {
        client.batch_execute("set app.current_tenant_id = 'nobody'").unwrap();
        assert!(contacts(&mut client).is_empty());
        client.batch_execute(reset).unwrap();
        assert_eq!(contacts(&mut client), ACME, "{reset}");
    }
}

#[test]
fn the_role_of_the_login_is_the_sessions_default_role() {
    // A role by ALTER ROLE … SET role would otherwise be what RESET ROLE returns to.
    let mut superuser = cluster().superuser(TENANTS);
    superuser
        .batch_execute(
            "create role lured login in role tenant_tables;
             grant app_user to lured;
             alter role lured set role = 'app_user'",
        )
        .unwrap();
    let daemon = Daemon::start();
    let mut client = daemon.connect("lured.acme");
    assert_eq!(bound(&mut client), binding("acme", "lured"));
    for reset in ["reset role", "discard all"] {
        client.batch_execute(reset).unwrap();
        assert_eq!(bound(&mut client), binding("acme", "lured"), "{reset}");
    }
}

#[test]
fn what_a_login_has_found_of_its_role_serves_others_until_one_is_refused() {
    let mut superuser = cluster().superuser(TENANTS);
    superuser.batch_execute("create role known login in role tenant_tables").unwrap();
    let daemon = Run::on(cluster()).set("verify_ttl", "1h").start();
    let login = || daemon.try_connect("known.acme").map(|mut client| contacts(&mut client));
    assert_eq!(login().unwrap(), ACME);
    superuser.batch_execute("alter role known createrole").unwrap();
    assert_eq!(login().unwrap(), ACME, "it is not asked again");
    superuser.batch_execute("alter role known connection limit 0").unwrap();
    assert_eq!(sqlstate(&login().unwrap_err()), "53300");
    superuser.batch_execute("alter role known connection limit -1").unwrap();
    for _ in 0..2 {
        assert_eq!(sqlstate(&login().unwrap_err()), "28000", "now it is");
    }
    superuser.batch_execute("alter role known nocreaterole").unwrap();
    assert_eq!(login().unwrap(), ACME);
    superuser.batch_execute("alter role known superuser").unwrap();
    assert_eq!(sqlstate(&login().unwrap_err()), "28000", "each session says whether it is one");
}

#[test]
fn a_context_that_the_database_sets_for_the_role_gives_way_to_the_login() {
    let mut superuser = cluster().superuser(TENANTS);
    superuser
        .batch_execute(
            "create role preset login in role tenant_tables;
             alter role preset set app.current_tenant_id = 'globex'",
        )
        .unwrap();
    let daemon = Daemon::start();
    let mut client = daemon.connect("preset.acme");
    assert_eq!(contacts(&mut client), ACME);
    client.batch_execute("discard all").unwrap();
    assert_eq!(contacts(&mut client), ACME);
}

#[test]
fn functions_of_the_clients_own_do_not_stand_in_for_the_servers() {
    let mut superuser = cluster().superuser(TENANTS);
    superuser
        .batch_execute(
            "create schema evil;
             grant usage on schema evil to public;
             create function evil.set_config(text, text, boolean) returns text
                 language sql as $$ select pg_catalog.set_config($1, 'globex', $3); select $2 $$;
             create function evil.current_setting(text, boolean) returns text
                 language sql as $$ select 'acme' $$;
             create function evil.pg_has_role(name, oid, text) returns boolean
                 language sql as $$ select false $$;
             create view evil.pg_roles as select * from pg_catalog.pg_roles where false",
        )
        .unwrap();
    let daemon = Daemon::start();
    let path = [("search_path", "evil,pg_catalog,public")];
    let options = [("options", "-c search_path=evil,pg_catalog,public")];
    for parameter in [path, options] {
        let login = |user: &str| {
            let mut raw = daemon.raw();
            raw.send_startup(&[&[("user", user), ("database", TENANTS)], &parameter[..]].concat());
            let last = raw.read_until(b"ZE").pop().expect("a message");
            (raw, last)
        };
        let (mut raw, last) = login("app_user.acme");
        assert_eq!(last.tag, b'Z', "{last:?}");
        assert_eq!(raw.query_value("select string_agg(name, ' ') from contacts"), "Ada Alan");
        let (_, last) = login("superuser_member.acme");
        assert_eq!(last.error_fields().sqlstate, "28000");
    }
}

#[test]
fn row_security_cannot_be_switched_off_to_see_more() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    client.batch_execute("set row_security = off").unwrap();
    let error = client.query("select name from contacts", &[]).unwrap_err();
    assert_eq!(sqlstate(&error), "42501");
    let mut config = daemon.config("app_user.acme");
    let mut client = config.options("-c row_security=off").connect(NoTls).unwrap();
    let error = client.query("select name from contacts", &[]).unwrap_err();
    assert_eq!(sqlstate(&error), "42501");
}
