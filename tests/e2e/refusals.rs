//! Logins that must fail: each with its SQLSTATE, before PostgreSQL is dialled where that can be,
//! and none with anything behind it.

use std::io::Write;
use std::net::TcpStream;

use testing::{
    Daemon, ErrorFields, FakeUpstream, Raw, Run, TENANTS, UNBOUND_ROLES, cluster, dead_port,
    sqlstate, startup_message, swallow,
};

/// What the daemon answers to these bytes, and that it then closes.
fn refusal_of(daemon: &Daemon, bytes: &[u8]) -> ErrorFields {
    let mut raw = daemon.raw();
    raw.send(bytes);
    let refusal = raw.read_refusal();
    assert_eq!(refusal.severity, "FATAL");
    assert!(!refusal.message.is_empty());
    refusal
}

/// A daemon in front of an upstream that must not be dialled.
fn undialled(settings: &[(&str, &str)]) -> (Daemon, FakeUpstream) {
    let fake = FakeUpstream::serve(|mut raw| swallow(&mut raw));
    let run = Run::upstream(fake.port());
    let run = settings.iter().fold(run, |run, (key, value)| run.set(key, value));
    (run.start(), fake)
}

/// One of each kind; which names and parameters there are is told to the session alone.
#[test]
fn a_login_that_names_no_tenant_or_another_is_refused_before_postgresql_is_dialled() {
    let (daemon, fake) = undialled(&[("tenant_separator", "@")]);
    let user = ("user", "app_user@acme");
    let of_version_2 = [&[0, 0, 0, 9, 0, 2, 0, 0], &b"\0"[..]].concat();
    for (packet, sqlstate) in [
        (startup_message(&[("user", "app_user.acme")]), "28000"),
        (startup_message(&[("user", "app_user@one:two")]), "28000"),
        (startup_message(&[user, ("replication", "database")]), "28000"),
        (startup_message(&[user, ("App.Current_Tenant_ID", "globex")]), "22023"),
        (startup_message(&[user, ("USER", "app_user@globex")]), "08P01"),
        (of_version_2, "0A000"),
    ] {
        let refusal = refusal_of(&daemon, &packet);
        assert_eq!(refusal.sqlstate, sqlstate, "{}: {refusal:?}", packet.escape_ascii());
    }
    let hint = refusal_of(&daemon, &startup_message(&[("user", "app_user")])).hint;
    assert_eq!(hint.as_deref(), Some("Log in as app_user@TENANT"));
    daemon.wait_until_idle();
    assert_eq!(fake.accepted(), 0);
}

/// As PostgreSQL reads it: no replication, but an ordinary session.
#[test]
fn replication_that_is_false_is_an_ordinary_login() {
    let daemon = Daemon::start();
    for value in ["false", "off", "no", "0", "FALSE", "of", "f"] {
        let mut raw = daemon.raw();
        let user = [("user", "app_user.acme"), ("database", TENANTS)];
        raw.send_startup(&[user[0], user[1], ("replication", value)]);
        assert_eq!(raw.read_until(b"ZE").pop().unwrap().tag, b'Z', "{value}");
        assert_eq!(raw.query_value("select count(*)::text from contacts"), "2");
    }
}

/// By libpq's own programs: they know 57P03, and go on to the next host.
#[test]
fn a_client_with_several_hosts_goes_on_where_upstream_is_unreachable() {
    let (_socket, port) = dead_port();
    let (dead, alive) = (Run::upstream(port).start(), Daemon::start());
    let run = |program: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(arguments).env("PGCONNECT_TIMEOUT", "10").output().expect("it starts")
    };
    let port = |daemon: &Daemon| daemon.port().to_string();
    let ready = |daemon: &Daemon| {
        run("pg_isready", &["-h", "127.0.0.1", "-p", &port(daemon), "-U", "app_user.acme"])
    };
    // 0: it accepts connections; 1: it rejects them.
    assert_eq!(ready(&dead).status.code(), Some(1));
    assert_eq!(ready(&alive).status.code(), Some(0));
    let hosts = format!(
        "host=127.0.0.1,127.0.0.1 port={},{} user=app_user.acme dbname={TENANTS}",
        port(&dead),
        port(&alive)
    );
    let output = run("psql", &["-X", "-Atc", "select count(*) from contacts", &hosts]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "2\n", "{output:?}");
}

#[test]
fn a_message_other_than_a_password_is_refused_where_one_is_asked_for() {
    let daemon = Daemon::start();
    for user in ["clear_user.acme", "md5_user.acme", "scram_user.acme"] {
        let mut raw = daemon.raw();
        raw.send_startup(&[("user", user), ("database", TENANTS)]);
        assert_eq!(raw.read_message().tag, b'R');
        raw.send(b"Q\0\0\0\x0dselect 1\0");
        let refusal = raw.read_refusal();
        assert_eq!(refusal.sqlstate, "08P01", "{user}: {refusal:?}");
    }
    daemon.wait_until_idle();
}

#[test]
fn a_role_that_row_level_security_does_not_hold_is_refused() {
    let daemon = Daemon::start();
    for role in UNBOUND_ROLES {
        let error = daemon.try_connect(&format!("{role}.acme")).err().expect(role);
        assert_eq!(sqlstate(&error), "28000", "{role}: {error:?}");
        cluster().wait_until(&format!(
            "select not exists (select from pg_stat_activity where usename = '{role}')"
        ));
    }
    daemon.wait_until_idle();
}

#[test]
fn what_upstream_refuses_reaches_the_client_as_upstream_said_it() {
    let daemon = Daemon::start();
    for (user, database, code) in [
        ("reject_user", TENANTS, "28000"),
        ("expired_user", TENANTS, "28P01"),
        // Only after AuthenticationOk does PostgreSQL look at these.
        ("nologin_user", TENANTS, "28000"),
        ("full_user", TENANTS, "53300"),
        ("app_user", "locked", "42501"),
        ("app_user", "nowhere", "3D000"),
    ] {
        let direct = cluster().direct(user, database).connect(postgres::NoTls).err().expect(user);
        let mut config = daemon.config(&format!("{user}.acme"));
        let relayed = config.dbname(database).connect(postgres::NoTls).err().expect(user);
        assert_eq!(sqlstate(&relayed), code, "{user} in {database}");
        let text = |error: &postgres::Error| error.as_db_error().map(|e| e.message().to_owned());
        assert_eq!(text(&relayed), text(&direct), "{user} in {database}");
    }
    daemon.wait_until_idle();
}

#[test]
fn a_bad_startup_parameter_is_upstreams_to_refuse() {
    let daemon = Daemon::start();
    for (name, value, code) in
        [("client_encoding", "klingon", "22023"), ("no_such_parameter", "1", "42704")]
    {
        let mut raw = daemon.raw();
        raw.send_startup(&[("user", "app_user.acme"), ("database", TENANTS), (name, value)]);
        let messages = raw.read_until(b"EZ");
        let refusal = messages.last().expect("a message").error_fields();
        assert_eq!(refusal.sqlstate, code, "{refusal:?}");
        raw.read_to_close();
    }
}

#[test]
fn an_absent_upstream_is_reported_at_once_and_does_not_stop_the_daemon() {
    let (_socket, port) = dead_port();
    let daemon = Run::upstream(port).start();
    for _ in 0..3 {
        let error = daemon.try_connect("app_user.acme").err().expect("nobody is there");
        assert_eq!(sqlstate(&error), "57P03");
    }
    daemon.wait_until_idle();
}

#[test]
fn an_absent_unix_socket_or_host_name_is_reported_too() {
    let folder = tempfile::tempdir().unwrap();
    for host in [folder.path().to_str().unwrap(), "no-such-host.invalid"] {
        let daemon = Run::on(cluster()).set("upstream_host", host).start();
        let error = daemon.try_connect("app_user.acme").err().expect("nobody is there");
        assert_eq!(sqlstate(&error), "57P03", "{host}: {error:?}");
        daemon.wait_until_idle();
    }
}

#[test]
fn an_upstream_that_does_not_answer_the_dial_is_given_up() {
    // A full accept queue lets a dial wait as a dead host would.
    let (socket, port) = dead_port();
    socket.listen(0).unwrap();
    let _first = TcpStream::connect(("127.0.0.1", port)).unwrap();

    let daemon = Run::upstream(port).set("upstream_connect_timeout", "200ms").start();
    let error = daemon.try_connect("app_user.acme").err().expect("nobody accepts");
    assert_eq!(sqlstate(&error), "57P03", "{error:?}");
    daemon.wait_until_idle();
}

#[test]
fn an_upstream_that_closes_during_the_login_is_reported() {
    for said in [&b""[..], b"R", b"R\0\0\0\x08\0\0\0\0", b"R\0\0\0\x08\0\0\0\0S\0\0\0\x0c"] {
        let fake = FakeUpstream::serve(move |mut raw| {
            raw.read_startup();
            raw.send(said);
        });
        let daemon = Run::upstream(fake.port()).start();
        let refusal = refusal_of(&daemon, &startup_message(&[("user", "app_user.acme")]));
        assert_eq!(refusal.sqlstate, "08006", "{said:?}: {refusal:?}");
        daemon.wait_until_idle();
    }
}

#[test]
fn an_upstream_that_speaks_no_postgresql_is_refused_and_not_shown() {
    for said in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"R\0\0\0\x03", b"R\xff\xff\xff\xff"] {
        let fake = FakeUpstream::serve(move |mut raw| {
            raw.read_startup();
            raw.send(said);
            swallow(&mut raw);
        });
        let daemon = Run::upstream(fake.port()).start();
        let refusal = refusal_of(&daemon, &startup_message(&[("user", "app_user.acme")]));
        assert!(refusal.sqlstate.starts_with("08"), "{said:?}: {refusal:?}");
        assert!(!refusal.message.contains("HTTP"), "{refusal:?}");
        daemon.wait_until_idle();
    }
}

#[test]
fn a_refusal_is_not_lost_on_a_client_that_keeps_sending() {
    let (daemon, _fake) = undialled(&[]);
    for _ in 0..50 {
        let mut raw = daemon.raw();
        let mut bytes = startup_message(&[("user", "app_user")]);
        bytes.extend(b"Q\0\0\0\x0dselect 1\0".repeat(5000));
        // The daemon may close before it has taken everything, but not before it has answered.
        let mut sender: Raw = raw.try_clone().unwrap();
        let sending = std::thread::spawn(move || sender.write_all(&bytes));
        assert_eq!(raw.read_message().error_fields().sqlstate, "28000");
        drop(raw);
        let _ = sending.join().unwrap();
    }
    daemon.wait_until_idle();
}

#[test]
fn a_refused_client_may_finish_what_it_is_sending() {
    let (daemon, _fake) = undialled(&[]);
    let mut raw = daemon.raw();
    raw.send_startup(&[("user", "app_user")]);
    assert_eq!(raw.read_refusal().sqlstate, "28000");
    // A closed socket would answer the first of these with a reset, which fails a later one.
    for _ in 0..10 {
        raw.send(&[b'x'; 10_000]);
        daemon.status();
    }
    drop(raw);
    daemon.wait_until_idle();
}
