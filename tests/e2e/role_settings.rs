//! Settings that one tenant leaves for all others, by ALTER ROLE in a session of their own: a
//! login succeeds all the same, or its refusal says which setting it was.

use postgres::Client;
use testing::{ACME, Daemon, GLOBEX, Run, TENANTS, cluster, contacts, set_up_database, sqlstate};

/// A role of its own, which a tenant can change, with what `app_user` may.
fn role(name: &str) -> Client {
    let mut superuser = cluster().superuser(TENANTS);
    superuser
        .batch_execute(&format!("create role {name} login in role tenant_tables"))
        .expect("a name of the test's own");
    superuser
}

/// What a tenant of the role leaves, each with what it then is.
const TOLERATED: [(&str, &str); 14] = [
    ("search_path", "nowhere"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("standard_conforming_strings", "off"),
    ("backslash_quote", "off"),
    ("datestyle", "German, YMD"),
    ("client_min_messages", "debug5"),
    ("row_security", "off"),
    ("transform_null_equals", "on"),
    ("array_nulls", "off"),
    ("exit_on_error", "on"),
    ("lock_timeout", "1ms"),
    ("idle_in_transaction_session_timeout", "1ms"),
];

#[test]
fn what_a_tenant_sets_for_the_role_keeps_no_other_tenant_out() {
    role("poisoned");
    let daemon = Daemon::start();
    for (name, value) in TOLERATED {
        let mut tenant = daemon.connect("poisoned.acme");
        tenant.batch_execute(&format!("alter role poisoned set {name} = '{value}'")).unwrap();
        let mut other = daemon.connect("poisoned.globex");
        // It is theirs to set, and stays so after a reset.
        other.batch_execute("reset all").unwrap();
        let shown: String = other.query_one(&format!("show {name}"), &[]).unwrap().get(0);
        assert_eq!(shown.to_lowercase(), value.to_lowercase(), "{name}");
        let tenant_of = "select pg_catalog.current_setting('app.current_tenant_id')";
        let bound: String = other.query_one(tenant_of, &[]).unwrap().get(0);
        assert_eq!(bound, "globex", "{name} = {value}");
        other
            .batch_execute(&format!("alter role poisoned reset {name}"))
            .or_else(|_| {
                let superuser = &mut cluster().superuser(TENANTS);
                superuser.batch_execute(&format!("alter role poisoned reset {name}"))
            })
            .unwrap();
    }
    assert_eq!(contacts(&mut daemon.connect("poisoned.acme")), ACME);
    assert_eq!(contacts(&mut daemon.connect("poisoned.globex")), GLOBEX);
}

/// PostgreSQL then prints its plans of the batch, too: far more than a login holds back.
#[test]
fn a_role_that_is_told_every_plan_can_log_in() {
    let mut superuser = role("talkative");
    superuser
        .batch_execute(
            "alter role talkative set client_min_messages = debug5;
             alter role talkative set debug_print_parse = on;
             alter role talkative set debug_print_rewritten = on;
             alter role talkative set debug_print_plan = on",
        )
        .unwrap();
    for pooler in ["none", "session"] {
        let daemon = Daemon::with(&[("upstream_pooler", pooler)]);
        for _ in 0..3 {
            assert_eq!(contacts(&mut daemon.connect("talkative.acme")), ACME);
        }
    }
}

#[test]
fn a_limit_that_keeps_everybody_out_is_named() {
    let mut superuser = role("hasty");
    let daemon = Daemon::start();
    let mut refused = 0;
    superuser.batch_execute("alter role hasty set statement_timeout = '1ms'").unwrap();
    // The batch may be quicker than that.
    for _ in 0..50 {
        let Err(error) = daemon.try_connect("hasty.acme") else { continue };
        assert_eq!(sqlstate(&error), "08004", "{error:?}");
        let hint = error.as_db_error().and_then(|error| error.hint()).expect("a hint");
        assert!(hint.contains("ALTER ROLE \"hasty\" RESET statement_timeout"), "{hint}");
        refused += 1;
    }
    superuser.batch_execute("alter role hasty reset statement_timeout").unwrap();
    assert_eq!(contacts(&mut daemon.connect("hasty.acme")), ACME);
    assert!(refused > 0, "no batch took a millisecond");
}

/// The batch of a sealed database calls its functions, too.
#[test]
fn what_a_tenant_sets_for_the_role_does_not_break_the_seal() {
    let database = set_up_database("sealed_settings");
    let mut superuser = cluster().superuser(&database);
    superuser
        .batch_execute(&format!(
            "create role sealed_poisoned login; select public.multigres_seal('{}')",
            testing::SEAL_KEY
        ))
        .unwrap();
    let files = testing::Files::new();
    let key = files.put("seal.key", testing::SEAL_KEY);
    let daemon = Run::on(cluster()).set("seal_key_file", key.to_str().unwrap()).start();
    for (name, value) in TOLERATED {
        superuser
            .batch_execute(&format!("alter role sealed_poisoned set {name} = '{value}'"))
            .unwrap();
        let mut config = daemon.config("sealed_poisoned.acme");
        let mut client = config.dbname(&database).connect(postgres::NoTls).unwrap();
        let tenant = client.query_one("select public.current_tenant_id()", &[]).unwrap();
        assert_eq!(tenant.get::<_, String>(0), "acme", "{name} = {value}");
        superuser.batch_execute("alter role sealed_poisoned reset all").unwrap();
    }
}
