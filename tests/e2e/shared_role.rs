//! What PostgreSQL keeps for a role, and so for the sessions of all tenants: settings, statistics
//! of statements, prepared transactions. Each in a cluster of its own, for it meets every session.

use postgres::{Client, NoTls};
use testing::linter::{findings, is_found};
use testing::{ACME, Cluster, Run, SETUP, TENANTS, binding, bound, contacts, count, sqlstate};

#[test]
fn no_setting_of_role_or_database_wins_over_the_tenant_of_the_login() {
    let cluster = Cluster::start();
    let mut owner = cluster.superuser(TENANTS);
    let daemon = Run::on(&cluster).start();
    let places = [
        "role app_user".to_owned(),
        format!("database {TENANTS}"),
        format!("role app_user in database {TENANTS}"),
        "role all".to_owned(),
    ];
    let settings = [
        ("app.current_tenant_id", "globex"),
        ("role", "trust_user"),
        ("session_authorization", "trust_user"),
        ("search_path", "pg_temp"),
    ];
    owner.batch_execute("grant trust_user to app_user").unwrap();
    for place in &places {
        for (name, value) in settings {
            // What PostgreSQL itself does not store needs no winning over.
            let set = format!("alter {place} set {name} = '{value}'");
            let is_stored = owner.batch_execute(&set).is_ok();
            assert!(is_stored || name == "session_authorization", "{set}");
        }
        let set_on = "pg_db_role_setting where setconfig::text ~ 'app.current_tenant_id=globex'";
        assert_eq!(count(&mut owner, set_on), 1, "{place}");
        let mut direct = cluster.direct("app_user", TENANTS).connect(NoTls).unwrap();
        let [tenant, ..] = bound(&mut direct);
        assert_eq!(tenant.as_deref(), Some("globex"), "{place}: it is met past Multigres");
        let mut client = daemon.connect("app_user.acme");
        for statement in [
            "select",
            "reset app.current_tenant_id",
            "reset role",
            "reset all",
            "discard all",
            "set app.current_tenant_id to default",
            "set session authorization default",
            "reset session authorization",
        ] {
            client.batch_execute(statement).unwrap();
            let expected = binding("acme", "app_user");
            assert_eq!(bound(&mut client), expected, "{place}: {statement}");
            client.batch_execute("set search_path = public").unwrap();
            assert_eq!(contacts(&mut client), ACME, "{place}: {statement}");
        }
        owner.batch_execute(&format!("alter {place} reset all")).unwrap();
    }
}

#[test]
fn statistics_show_other_tenants_statements_until_they_are_closed() {
    let cluster = Cluster::with(&["shared_preload_libraries = 'pg_stat_statements'"]);
    let mut owner = cluster.superuser(TENANTS);
    owner.batch_execute(&SETUP).unwrap();
    owner.batch_execute("create extension pg_stat_statements").unwrap();
    let daemon = Run::on(&cluster).start();
    let mut globex = daemon.connect("app_user.globex");
    globex.batch_execute("select 1 as the_secret_of_globex").unwrap();
    let secret = "pg_stat_statements where query ~ 'the_secret_of_globex' and query !~ 'count'";
    let mut acme = daemon.connect("app_user.acme");
    assert_eq!(count(&mut acme, secret), 1);
    let found = "statement_texts_visible | extension pg_stat_statements";
    let is_found = |owner: &mut Client| is_found(&findings(owner), found);
    assert!(is_found(&mut owner));

    let harden = "select done from multigres_harden() where what = 'statistics of statements'";
    assert!(owner.query_one(harden, &[]).unwrap().get::<_, bool>(0));
    assert!(!is_found(&mut owner));
    for query in ["select from pg_stat_statements", "select from pg_stat_statements(true)"] {
        assert_eq!(sqlstate(&acme.batch_execute(query).unwrap_err()), "42501", "{query}");
    }
    owner.batch_execute("select multigres_unharden()").unwrap();
    assert_eq!(count(&mut acme, secret), 1);
    let fix = "select fix from multigres_check() where object = 'extension pg_stat_statements'";
    let fix: String = owner.query_one(fix, &[]).unwrap().get(0);
    owner.batch_execute(&fix).unwrap();
    assert!(!is_found(&mut owner));
    assert_eq!(sqlstate(&acme.batch_execute("table pg_stat_statements").unwrap_err()), "42501");
}

#[test]
fn a_prepared_transaction_is_any_tenants_to_end_and_is_reported() {
    let cluster = Cluster::with(&["max_prepared_transactions = 2"]);
    let mut owner = cluster.superuser("postgres");
    owner.batch_execute("create database tenancy").unwrap();
    let mut owner = cluster.superuser("tenancy");
    owner.batch_execute(&SETUP).unwrap();
    owner
        .batch_execute(
            "create table contacts (tenant_id text not null, id int, primary key (tenant_id, id));
             select multigres_protect('contacts')",
        )
        .unwrap();
    let daemon = Run::on(&cluster).start();
    let login = |user| daemon.config(user).dbname("tenancy").connect(NoTls).unwrap();
    let (mut acme, mut globex) = (login("app_user.acme"), login("app_user.globex"));
    let prepare = |client: &mut Client, name: &str| {
        let sql =
            format!("begin; insert into contacts (id) values (1); prepare transaction '{name}'");
        client.batch_execute(&sql).unwrap();
    };
    prepare(&mut globex, "seen");
    assert_eq!(count(&mut acme, "pg_prepared_xacts where gid = 'seen'"), 1);
    acme.batch_execute("rollback prepared 'seen'").unwrap();
    assert_eq!(count(&mut globex, "contacts"), 0, "by acme");

    assert_eq!(
        findings(&mut owner),
        ["prepared_transactions_enabled | setting max_prepared_transactions"]
    );
    let harden = "select done from multigres_harden() where what = 'prepared transactions'";
    assert!(!owner.query_one(harden, &[]).unwrap().get::<_, bool>(0));
    // Hardened, a tenant has to guess the name.
    prepare(&mut globex, "guessed");
    let look = acme.batch_execute("table pg_prepared_xacts").unwrap_err();
    assert_eq!(sqlstate(&look), "42501");
    acme.batch_execute("commit prepared 'guessed'").unwrap();
    assert_eq!(count(&mut globex, "contacts"), 1);
    assert_eq!(count(&mut acme, "contacts"), 0, "it keeps the tenant that it was prepared with");
    let off = testing::cluster();
    let off = off.superuser("postgres").query_one("show max_prepared_transactions", &[]).unwrap();
    assert_eq!(off.get::<_, &str>(0), "0", "PostgreSQL's default, in which none of this works");
}
