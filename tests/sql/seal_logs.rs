//! PostgreSQL logs a statement that fails: no call of multigres_seal() may leave the key there.

use std::sync::{Arc, Mutex};

use postgres::{Client, NoTls};
use testing::{Cluster, SEAL_KEY as KEY, SETUP, count, sqlstate};

#[test]
fn neither_success_nor_failure_leaves_the_key_in_the_log_of_postgresql() {
    let cluster = Cluster::start();
    let mut owner = cluster.superuser("postgres");
    owner.batch_execute(&SETUP).unwrap();
    let reader = "create role reader; grant reader to app_user; alter table multigres.seal_keys
                  owner to reader";
    let calls = [
        (format!("select multigres_seal('{KEY}', 'port')"), "22023"),
        (format!("select multigres_seal('{KEY}0')"), "22023"),
        (format!("select multigres_seal(upper('{KEY}'), 'port')"), "22023"),
        (format!("select multigres_seal('{}', 'port')", KEY.to_uppercase()), "22023"),
        (format!("select multigres_seal('{}')", KEY.to_uppercase()), ""),
        (format!("select multigres_seal(key_hex => '{KEY}', bind => null)"), "22023"),
        (format!("select multigres_seal('{KEY}'); select 1 / 0"), "22012"),
        (
            format!("set multigres.seal_key = '{KEY}'; select multigres_seal(bind => 'port')"),
            "22023",
        ),
        (format!("do $$ begin perform multigres_seal('{KEY}', 'port'); end $$"), "22023"),
        (format!("select multigres_seal('{KEY}')"), ""),
        (format!("{reader}; select multigres_seal('{KEY}')"), "55000"),
    ];
    for (call, code) in calls {
        match owner.batch_execute(&call) {
            Ok(()) => assert_eq!(code, "", "{call}"),
            Err(error) => assert_eq!(sqlstate(&error), code, "{call}"),
        }
        owner.batch_execute("rollback").unwrap();
        assert!(!leaks(&cluster), "{call}");
    }
    assert_eq!(count(&mut owner, "multigres.seal_keys"), 1);
    let failing = "select multigres_seal($1, $2)";
    let error = owner.execute(failing, &[&KEY, &"port"]).unwrap_err();
    assert_eq!(sqlstate(&error), "22023");
    assert!(cluster.log().contains(failing), "statements that fail are logged");
    assert!(!leaks(&cluster), "a bound parameter");
    // From then on the log is as it was.
    let setting: String = owner.query_one("show log_min_error_statement", &[]).unwrap().get(0);
    assert_eq!(setting, "error");
}

#[test]
fn the_key_is_taken_from_a_setting_and_stands_in_no_statement() {
    let cluster = Cluster::start();
    let mut owner = cluster.superuser("postgres");
    owner.batch_execute(&SETUP).unwrap();
    owner.batch_execute("alter system set log_statement = 'all'").unwrap();
    owner.batch_execute("select pg_reload_conf()").unwrap();
    let with = |key: &str| {
        let options = format!("-c multigres.seal_key={key}");
        cluster.direct("postgres", "postgres").options(&options).connect(NoTls).unwrap()
    };
    for (key, bind, good) in [(KEY, "port", false), (&KEY[1..], "none", false), (KEY, "none", true)]
    {
        let call = format!("select multigres_seal(bind => '{bind}')");
        assert_eq!(with(key).batch_execute(&call).is_ok(), good, "{bind}");
    }
    let mut client = with(KEY);
    client.batch_execute("select multigres_seal()").unwrap();
    let left: String = client.query_one("show multigres.seal_key", &[]).unwrap().get(0);
    assert_eq!(left, "", "it is not left lying about");
    assert_eq!(count(&mut owner, "multigres.seal_keys"), 1);
    assert!(cluster.log().contains("select multigres_seal()"));
    assert!(!leaks(&cluster));
    let error = owner.batch_execute("select multigres_seal()").unwrap_err();
    assert_eq!(sqlstate(&error), "22023");
    let error = error.as_db_error().unwrap();
    assert_eq!(error.message(), "no seal key was given");
    assert!(error.hint().unwrap().contains("PGOPTIONS"), "{error:?}");
}

/// As docs/sealing.md says: what these settings log holds the parameters of a statement too.
#[test]
fn a_bound_key_is_logged_where_parameters_are() {
    for setting in ["log_statement = 'all'", "log_min_duration_statement = 0"] {
        let cluster = Cluster::start();
        let mut owner = cluster.superuser("postgres");
        owner.batch_execute(&SETUP).unwrap();
        owner.execute("select multigres_seal($1)", &[&KEY]).unwrap();
        assert!(!leaks(&cluster), "without {setting}");
        owner.batch_execute(&format!("set {setting}")).unwrap();
        owner.execute("select multigres_seal($1)", &[&KEY]).unwrap();
        assert!(leaks(&cluster), "{setting}");
    }
}

#[test]
fn who_cannot_keep_a_statement_out_of_the_log_is_told_and_gets_no_error() {
    let cluster = Cluster::start();
    let mut superuser = cluster.superuser("postgres");
    superuser
        .batch_execute("drop role app_user; create role managed_admin login createrole createdb")
        .unwrap();
    superuser.batch_execute("create database crm owner managed_admin").unwrap();
    let heard = Arc::new(Mutex::new(String::new()));
    let notices = Arc::clone(&heard);
    let mut config = cluster.direct("managed_admin", "crm");
    config.notice_callback(move |notice| *notices.lock().unwrap() += notice.message());
    let mut admin = config.connect(NoTls).unwrap();
    admin.batch_execute(&SETUP).unwrap();
    let said = |admin: &mut Client, call: &str| {
        heard.lock().unwrap().clear();
        admin.batch_execute(call).unwrap();
        assert!(!leaks(&cluster), "{call}");
        heard.lock().unwrap().clone()
    };
    let keys = "pg_class where relname = 'seal_keys'";
    let told = "NOT SEALED: the database does not accept the key";
    let failing = format!("select multigres_seal('{KEY}', 'port')");
    assert!(said(&mut admin, &failing).contains(told));
    let block = format!("do $$ begin perform multigres_seal('{KEY}', 'port'); end $$");
    admin.batch_execute("set client_min_messages = error").unwrap();
    assert!(said(&mut admin, &block).contains(told), "even so");
    let mut other = cluster.superuser("crm");
    other
        .batch_execute(
            "begin; select pg_advisory_xact_lock(hashtextextended('multigres setup.sql', 0))",
        )
        .unwrap();
    for wait in ["lock_timeout", "statement_timeout"] {
        let late =
            format!("begin; set local {wait} = '100ms'; select multigres_seal('{KEY}'); commit");
        assert!(said(&mut admin, &late).contains(told), "{wait}");
    }
    other.batch_execute("rollback").unwrap();
    assert_eq!(count(&mut admin, keys), 0, "and it is not sealed");
    // By the setting it is an error.
    let by_setting = format!("set multigres.seal_key = '{KEY}'");
    admin.batch_execute(&by_setting).unwrap();
    let error = admin.batch_execute("select multigres_seal(bind => 'port')").unwrap_err();
    assert_eq!(sqlstate(&error), "22023");
    assert!(!leaks(&cluster));
    assert_eq!(said(&mut admin, &format!("select multigres_seal('{KEY}')")), "");
    assert_eq!(count(&mut admin, keys), 1);
}

/// Whether the key, in any case of letters, or half of it is in PostgreSQL's log.
fn leaks(cluster: &Cluster) -> bool {
    let log = cluster.log().to_lowercase();
    log.contains(&KEY[..32]) || log.contains(&KEY[32..])
}
