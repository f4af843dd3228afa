//! Sealed databases: what a session can do to its own context, and what is told when key, address
//! or database do not fit.

use std::os::unix::fs::PermissionsExt;

use postgres::{Client, NoTls};
use testing::{
    ACME, Cluster, Daemon, FakeUpstream, GLOBEX, Message, Run, SETUP, Signal, Tamper, UNGUARD,
    cluster, contacts, shortened, sqlstate,
};

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const NEW_KEY: &str = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f";
const NEWER_KEY: &str = "deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef";

/// A database of one test's own, with setup.sql and the tables of the others protected by it.
struct Database {
    cluster: &'static Cluster,
    name: String,
}

impl Database {
    fn plain(name: &str) -> Database {
        let cluster = cluster();
        let create = format!("create database {name} template template0");
        cluster.superuser("postgres").batch_execute(&create).unwrap();
        let database = Database { cluster, name: name.to_owned() };
        database.execute(testing::TENANTS_SQL);
        database.execute(&SETUP);
        database.execute(
            "drop policy one_tenant on contacts;
             drop policy one_list_one_user on list_items;
             select multigres_protect('contacts', 'tenant_id');
             select multigres_protect('list_items', 'list_id', 'app.current_list_id');
             select multigres_protect('list_items', 'user_id', 'app.current_user_id')",
        );
        database
    }

    fn sealed(name: &str, bind: &str) -> Database {
        let database = Database::plain(name);
        database.seal(KEY, bind);
        database
    }

    fn seal(&self, key: &str, bind: &str) {
        self.execute(&format!("select multigres_seal('{key}', '{bind}')"));
    }

    fn execute(&self, sql: &str) {
        self.cluster.superuser(&self.name).batch_execute(sql).unwrap();
    }

    fn login(&self, daemon: &Daemon, user: &str) -> Result<Client, postgres::Error> {
        daemon.config(user).dbname(&self.name).connect(NoTls)
    }

    fn connect(&self, daemon: &Daemon, user: &str) -> Client {
        self.login(daemon, user).unwrap_or_else(|error| panic!("{user}: {error:?}"))
    }

    /// The HINT with which a login is refused because the context cannot be bound.
    fn hint(&self, daemon: &Daemon) -> String {
        let error = self.login(daemon, "app_user.acme").err().expect("a refusal");
        assert_eq!(sqlstate(&error), "08004", "{error:?}");
        let error = error.as_db_error().unwrap();
        assert_eq!(error.message(), "the tenant context could not be bound to the session");
        assert_eq!(error.severity(), "FATAL");
        assert!(error.detail().is_some());
        error.hint().expect("a HINT").to_owned()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let drop = format!("drop database {} with (force)", self.name);
        let _ = self.cluster.superuser("postgres").batch_execute(&drop);
    }
}

/// Starts the daemon with this key, which it needs no more once it listens.
pub(crate) fn start(run: Run, key: &str) -> Daemon {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seal.key");
    std::fs::write(&path, format!("{key}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    run.set("seal_key_file", path.to_str().unwrap()).start()
}

pub(crate) fn with_key(key: &str) -> Daemon {
    start(Run::on(cluster()), key)
}

/// An upstream whose connections come from another address than the daemon's.
fn nat() -> FakeUpstream {
    FakeUpstream::tamper(cluster(), || |_: &Message| Tamper::Pass)
}

fn setting(client: &mut Client, name: &str) -> String {
    client.query_one("select current_setting($1)", &[&name]).unwrap().get(0)
}

const NOBODY: [&str; 0] = [];

#[test]
fn a_session_sees_its_own_rows_and_cannot_set_itself_to_others() {
    let database = Database::sealed("sealed_set", "address");
    database.execute("create policy others on contacts to tenant_tables using (true)");
    let daemon = with_key(KEY);
    for user in ["trust_user", "app_user", "clear_user", "md5_user", "scram_user"] {
        let mut client = database.connect(&daemon, &format!("{user}.acme"));
        assert_eq!(contacts(&mut client), ACME, "{user}");
    }
    let mut client = database.connect(&daemon, "app_user.acme");
    let undone = ["reset app.current_tenant_id", "reset all", "discard all"];
    for undo in undone {
        for tenant in ["globex", "", "ACME"] {
            client.batch_execute(&format!("set app.current_tenant_id = '{tenant}'")).unwrap();
            assert_eq!(contacts(&mut client), NOBODY, "{tenant:?}");
        }
        client.batch_execute(undo).unwrap();
        assert_eq!(contacts(&mut client), ACME, "{undo}");
    }
    for undo in ["reset app.current_tenant_id_seal", "reset all", "discard all"] {
        for seal in ["", "00", "not hex"] {
            client.batch_execute(&format!("set app.current_tenant_id_seal = '{seal}'")).unwrap();
            assert_eq!(contacts(&mut client), NOBODY, "{seal:?}");
        }
        client.batch_execute(undo).unwrap();
        assert_eq!(contacts(&mut client), ACME, "{undo}");
    }
    client.batch_execute("begin; set local app.current_tenant_id = 'globex'").unwrap();
    assert_eq!(contacts(&mut client), NOBODY);
    client.batch_execute("rollback").unwrap();
    assert_eq!(contacts(&mut client), ACME);
    let insert = "insert into contacts values (9, 'globex', 'Mallory')";
    assert_eq!(sqlstate(&client.batch_execute(insert).unwrap_err()), "42501");
}

#[test]
fn options_replace_neither_a_seal_nor_its_default() {
    let database = Database::sealed("sealed_options", "address");
    let daemon = with_key(KEY);
    let other = "-c app.current_tenant_id=globex -c app.current_tenant_id_seal=00";
    let mut config = daemon.config("app_user.acme");
    let mut client = config.dbname(&database.name).options(other).connect(NoTls).unwrap();
    assert_eq!(contacts(&mut client), ACME);
    client.batch_execute("discard all").unwrap();
    assert_eq!(contacts(&mut client), ACME);
    let mut startup = vec![("user", "app_user.acme"), ("database", &database.name)];
    startup.push(("App.Current_Tenant_ID_Seal", "00"));
    let mut raw = daemon.raw();
    raw.send_startup(&startup);
    assert_eq!(raw.read_refusal().sqlstate, "22023");
}

#[test]
fn a_seal_of_one_session_is_worthless_in_another() {
    for (bind, seen) in [("address", &NOBODY[..]), ("none", &GLOBEX)] {
        let database = Database::sealed(&format!("seal_replay_{bind}"), bind);
        let daemon = start(Run::on(cluster()).set("seal_bind", bind), KEY);
        let mut other = database.connect(&daemon, "app_user.globex");
        let seal = setting(&mut other, "app.current_tenant_id_seal");
        let replay = format!(
            "set app.current_tenant_id = 'globex'; set app.current_tenant_id_seal = '{seal}'"
        );
        other.batch_execute(&replay).unwrap();
        assert_eq!(contacts(&mut other), GLOBEX, "it is the seal of this session");
        let mut client = database.connect(&daemon, "app_user.acme");
        client.batch_execute(&replay).unwrap();
        assert_eq!(contacts(&mut client), seen, "{bind}");
        let mut client = database.connect(&daemon, "trust_user.acme");
        client.batch_execute(&replay).unwrap();
        assert_eq!(contacts(&mut client), NOBODY, "{bind}: another role");
    }
}

#[test]
fn a_login_past_the_daemon_sees_nothing() {
    let database = Database::sealed("sealed_direct", "address");
    let daemon = with_key(KEY);
    let mut through = database.connect(&daemon, "app_user.acme");
    let seal = setting(&mut through, "app.current_tenant_id_seal");
    let mut direct = cluster().direct("app_user", &database.name).connect(NoTls).unwrap();
    assert_eq!(contacts(&mut direct), NOBODY);
    direct.batch_execute("set app.current_tenant_id = 'acme'").unwrap();
    assert_eq!(contacts(&mut direct), NOBODY);
    direct.batch_execute(&format!("set app.current_tenant_id_seal = '{seal}'")).unwrap();
    assert_eq!(contacts(&mut direct), NOBODY);
    assert_eq!(contacts(&mut through), ACME);
}

#[test]
fn a_seal_that_does_not_fit_is_a_refusal_and_not_an_empty_table() {
    let database = Database::sealed("sealed_misfit", "address");
    let anywhere = Database::sealed("seal_misfit_none", "none");
    let nat = nat();
    let not_bound = || Run::on(cluster()).set("seal_bind", "none");
    let stories = [
        ("another key", &database, with_key(NEW_KEY)),
        ("another key", &anywhere, start(not_bound(), NEW_KEY)),
        ("bound here alone", &anywhere, with_key(KEY)),
        ("bound there alone", &database, start(not_bound(), KEY)),
        ("another address", &database, start(Run::upstream(nat.port()), KEY)),
    ];
    for (what, database, daemon) in stories {
        let hint = database.hint(&daemon);
        assert!(hint.contains("seal_key_file"), "{what}: {hint}");
        assert!(hint.contains("seal_bind = none") && hint.contains("NAT"), "{what}: {hint}");
        daemon.wait_for_log("multigres_context() answers with other values");
    }
}

#[test]
fn without_a_key_a_sealed_database_refuses_every_login() {
    let database = Database::sealed("seal_no_key", "address");
    let daemon = Daemon::start();
    let hint = database.hint(&daemon);
    assert!(hint.contains("seal_key_file") && hint.contains("multigres_unseal()"), "{hint}");
    database.execute(
        "set search_path = pg_temp; create temp table multigres_seal_keys ();
         alter table multigres.seal_keys rename to other_keys",
    );
    // The guard would not have it, for the view that policies read is another one now.
    let unasked = Run::on(database.cluster).set("guard", "off").start();
    database.connect(&unasked, "app_user.acme");
}

#[test]
fn a_database_without_the_functions_says_so() {
    let database = Database::plain("seal_no_function");
    let daemon = with_key(KEY);
    let revoke = "revoke execute on function public.multigres_context from public";
    let drop = format!("{UNGUARD} drop function public.multigres_context(text) cascade");
    for sql in [revoke, &drop, "drop schema public cascade"] {
        database.execute(sql);
        let hint = database.hint(&daemon);
        assert!(hint.contains("sql/setup.sql") && hint.contains("multigres_seal()"), "{hint}");
    }
}

#[test]
fn a_second_function_of_that_name_is_named_in_the_hint() {
    let database = Database::sealed("sealed_overload", "address");
    let daemon = with_key(KEY);
    let overload = "public.multigres_context(v text, x text default '')";
    database
        .execute(&format!("create function {overload} returns text language sql as 'select x'"));
    let error = database.login(&daemon, "app_user.acme").err().expect("a refusal");
    assert_eq!(sqlstate(&error), "08004", "{error:?}");
    let hint = error.as_db_error().unwrap().hint().expect("a HINT");
    assert!(hint.contains("another function in schema public"), "{hint}");
    database.execute("drop function public.multigres_context(text, text)");
    assert_eq!(contacts(&mut database.connect(&daemon, "app_user.acme")), ACME);
}

#[test]
fn a_key_is_the_same_in_capitals() {
    let database = Database::plain("sealed_capitals");
    let [small, capital] = [KEY.to_owned(), KEY.to_uppercase()];
    assert_ne!(small, capital);
    for (stored, held) in [(&capital, &small), (&small, &capital), (&capital, &capital)] {
        database.seal(stored, "address");
        assert_eq!(contacts(&mut database.connect(&with_key(held), "app_user.acme")), ACME);
    }
}

#[test]
fn the_daemon_may_have_its_key_before_the_database() {
    let database = Database::plain("sealed_later");
    let daemon = with_key(KEY);
    let mut client = database.connect(&daemon, "app_user.acme");
    assert_eq!(contacts(&mut client), ACME);
    database.seal(KEY, "address");
    assert_eq!(contacts(&mut client), ACME, "a session that was up has its seal already");
    client.batch_execute("set app.current_tenant_id = 'globex'").unwrap();
    assert_eq!(contacts(&mut client), NOBODY);
}

#[test]
fn a_database_that_is_not_sealed_is_told_of_and_refused_where_that_is_required() {
    let database = Database::plain("sealed_required");
    let run = || Run::on(cluster()).set("verify_ttl", "0");
    let prefer = start(run(), KEY);
    let require = start(run().set("seal", "require"), KEY);
    let hint = database.hint(&require);
    assert!(hint.contains("select multigres_seal("), "{hint}");
    // Nothing that somebody lays there makes it sealed.
    database.execute(
        "grant create on schema public to trust_user; set role trust_user;
         create table public.multigres_seal_keys ()",
    );
    database.hint(&require);
    database.execute("drop table public.multigres_seal_keys");
    let mut client = database.connect(&prefer, "app_user.acme");
    assert_eq!(contacts(&mut client), ACME);
    prefer.wait_for_log(&format!("database={} seal=off login=", database.name));
    database.seal(KEY, "address");
    for daemon in [&prefer, &require] {
        let mut client = database.connect(daemon, "app_user.acme");
        assert_eq!(contacts(&mut client), ACME);
        daemon.wait_for_log(&format!("database={} seal=on login=", database.name));
    }
    database.execute("select multigres_unseal()");
    database.hint(&require);
    let keyless = Daemon::start();
    database.connect(&keyless, "app_user.acme");
    let up = keyless.wait_for_log(&format!("database={} ", database.name));
    assert!(!up.contains("seal="), "{up}");
}

#[test]
fn keys_are_rotated_without_refusing_a_login() {
    let database = Database::sealed("sealed_rotation", "address");
    let (old, new) = (with_key(KEY), with_key(NEW_KEY));
    assert_eq!(contacts(&mut database.connect(&old, "app_user.acme")), ACME);
    database.hint(&new);
    database.seal(NEW_KEY, "address");
    for daemon in [&old, &new] {
        assert_eq!(contacts(&mut database.connect(daemon, "app_user.acme")), ACME);
    }
    database.seal(NEWER_KEY, "address");
    database.hint(&old);
    assert_eq!(contacts(&mut database.connect(&new, "app_user.acme")), ACME);
}

#[test]
fn each_of_several_variables_has_its_own_seal() {
    let database = Database::sealed("sealed_several", "address");
    let variables = "app.current_list_id,App.Current_User_Id";
    let daemon = start(Run::on(cluster()).set("context_variables", variables), KEY);
    let items = |client: &mut Client| -> Vec<String> {
        let rows = client.query("select body from list_items", &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let mut client = database.connect(&daemon, "app_user.list123:user456");
    assert_eq!(items(&mut client), ["mine in my list"]);
    let mut other = database.connect(&daemon, "app_user.list999:user789");
    assert_eq!(items(&mut other), NOBODY);
    for change in [
        "set app.current_user_id = 'user789'",
        "set app.current_list_id = 'list999'",
        "set app.current_user_id_seal = ''",
    ] {
        client.batch_execute(change).unwrap();
        assert_eq!(items(&mut client), NOBODY, "{change}");
        client.batch_execute("discard all").unwrap();
        assert_eq!(items(&mut client), ["mine in my list"], "{change}");
    }
    // The seal of one variable is none for another of the same value.
    let mut twins = database.connect(&daemon, "app_user.twin:twin");
    let [list, user] = ["app.current_list_id_seal", "app.current_user_id_seal"]
        .map(|name| setting(&mut twins, name));
    assert_ne!(list, user);
}

#[test]
fn a_seal_is_bound_to_ipv6_addresses_too() {
    if !cluster().ipv6() {
        return shortened("this machine has no IPv6");
    }
    let database = Database::sealed("seal_ipv6", "address");
    let daemon = start(Run::on(cluster()).set("upstream_host", "::1"), KEY);
    let mut client = database.connect(&daemon, "app_user.acme");
    let row = client.query_one("select family(inet_client_addr())", &[]).unwrap();
    assert_eq!(row.get::<_, i32>(0), 6);
    assert_eq!(contacts(&mut client), ACME);
}

#[test]
fn a_host_name_a_unix_socket_nat_and_a_pooler_have_their_settings() {
    let bound = Database::sealed("seal_by_name", "address");
    let daemon = start(Run::on(cluster()).set("upstream_host", "localhost"), KEY);
    assert_eq!(contacts(&mut bound.connect(&daemon, "app_user.acme")), ACME);
    let database = Database::sealed("sealed_unbound", "none");
    let folder = cluster().socket_folder().to_str().unwrap();
    let nat = nat();
    let runs = [
        Run::on(cluster()).set("upstream_host", folder),
        Run::upstream(nat.port()),
        Run::upstream(nat.port()).set("upstream_pooler", "session"),
    ];
    for run in runs {
        let daemon = start(run.set("seal_bind", "none"), KEY);
        let mut client = database.connect(&daemon, "app_user.acme");
        assert_eq!(contacts(&mut client), ACME);
        client.batch_execute("set app.current_tenant_id = 'globex'").unwrap();
        assert_eq!(contacts(&mut client), NOBODY);
    }
}

#[test]
fn neither_key_nor_seal_is_logged() {
    let database = Database::sealed("sealed_logged", "address");
    let mut daemon = start(Run::on(cluster()).set("log_level", "trace"), KEY);
    let mut client = database.connect(&daemon, "app_user.acme");
    let seal = setting(&mut client, "app.current_tenant_id_seal");
    assert_eq!(seal.len(), 64);
    drop(client);
    daemon.wait_until_idle();
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_for_exit().success());
    for line in daemon.log() {
        assert!(!line.contains(KEY) && !line.contains(&seal), "{line}");
    }
}

#[test]
fn a_bypass_user_is_neither_sealed_nor_asked() {
    let database = Database::sealed("sealed_bypass", "address");
    for daemon in [with_key(NEW_KEY), Daemon::start()] {
        let mut client = database.connect(&daemon, "postgres");
        assert_eq!(contacts(&mut client).len(), ACME.len() + GLOBEX.len());
    }
}
