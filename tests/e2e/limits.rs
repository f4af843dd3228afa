//! Every wait and every count has an end, and a reached limit is said, not just felt.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Duration;

use testing::{
    ACME, Daemon, FakeUpstream, Raw, Run, TENANTS, binding, bound, cluster, contacts, sqlstate,
    startup_message, swallow,
};

#[test]
fn one_connection_more_than_allowed_is_refused_until_another_ends() {
    let daemon = Daemon::with(&[("max_connections", "2")]);
    let first = daemon.connect("app_user.acme");
    let mut second = daemon.connect("app_user.globex");
    for _ in 0..3 {
        let error = daemon.try_connect("app_user.acme").err().expect("two are there");
        assert_eq!(sqlstate(&error), "53300");
        // PostgreSQL's own limit has the same code.
        let refusal = error.as_db_error().unwrap();
        assert_eq!(refusal.message(), "Multigres has too many clients already");
        assert!(refusal.hint().is_some_and(|hint| hint.contains("max_connections")), "{refusal:?}");
    }
    bound(&mut second);
    drop(first);
    daemon.wait_for_status(|status| status.connections == 1);
    assert_eq!(contacts(&mut daemon.connect("app_user.acme")), ACME);
    assert_eq!(bound(&mut second), binding("globex", "app_user"));
}

#[test]
fn a_session_at_the_limit_can_still_be_cancelled() {
    let daemon = Daemon::with(&[("max_connections", "1")]);
    let mut client = daemon.connect("app_user.acme");
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).unwrap().get(0);
    let token = client.cancel_token();
    let sleeper = thread::spawn(move || client.batch_execute("select pg_sleep(600)"));
    cluster().wait_until(&format!(
        "select exists (select from pg_stat_activity where pid = {pid} and wait_event = 'PgSleep')"
    ));
    let _ = token.cancel_query(postgres::NoTls);
    assert_eq!(sqlstate(&sleeper.join().unwrap().unwrap_err()), "57014");
}

#[test]
fn a_silent_client_is_told_that_its_time_is_up() {
    let daemon = Daemon::with(&[("login_timeout", "200ms")]);
    let mut raw = daemon.raw();
    assert_eq!(raw.read_refusal().sqlstate, "57014");
    daemon.wait_until_idle();
}

#[test]
fn a_client_that_stops_amid_its_login_is_told_that_its_time_is_up() {
    let daemon = Daemon::with(&[("login_timeout", "1s")]);
    let startup = startup_message(&[("user", "clear_user.acme"), ("database", TENANTS)]);
    let mut slow = daemon.raw();
    slow.send(&startup[..startup.len() - 1]);
    let mut forgetful = daemon.raw();
    forgetful.send(&startup);
    assert_eq!(forgetful.read_message().tag, b'R');
    for mut raw in [slow, forgetful] {
        assert_eq!(raw.read_refusal().sqlstate, "57014");
    }
    daemon.wait_until_idle();
}

#[test]
fn the_login_deadline_is_not_put_off_by_a_byte_now_and_then() {
    let daemon = Daemon::with(&[("login_timeout", "300ms")]);
    let mut raw = daemon.raw();
    let startup = startup_message(&[("user", "app_user.acme"), ("options", &" ".repeat(9000))]);
    raw.set_read_timeout(Duration::from_millis(20));
    let mut answer = [0];
    let mut sent = startup.iter();
    loop {
        match raw.read(&mut answer) {
            Ok(_) => break,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                raw.send(&[*sent.next().expect("the deadline comes before the end")]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(answer, *b"E");
    daemon.wait_until_idle();
}

#[test]
fn a_silent_upstream_counts_against_the_login_deadline() {
    let fake = FakeUpstream::serve(|mut raw| swallow(&mut raw));
    let daemon = Run::upstream(fake.port()).set("login_timeout", "300ms").start();
    let error = daemon.try_connect("app_user.acme").err().expect("upstream says nothing");
    assert_eq!(sqlstate(&error), "57014");
    daemon.wait_until_idle();
}

#[test]
fn the_login_deadline_ends_with_the_login() {
    let daemon = Daemon::with(&[("login_timeout", "2s")]);
    let mut client = daemon.connect("app_user.acme");
    client.batch_execute("select pg_sleep(2.2)").unwrap();
    assert_eq!(contacts(&mut client), ACME);
    assert_eq!(daemon.status().deadlines, 0);
}

#[test]
fn an_idle_session_is_ended_and_its_backend_freed() {
    let daemon = Daemon::with(&[("idle_timeout", "1s")]);
    let (mut raw, pid) = daemon.raw_session();
    raw.read_to_close();
    cluster().wait_until_gone(pid);
    daemon.wait_until_idle();
}

#[test]
fn a_session_that_keeps_talking_is_not_idle() {
    let daemon = Daemon::with(&[("idle_timeout", "2s")]);
    let mut client = daemon.connect("app_user.acme");
    for _ in 0..6 {
        client.batch_execute("select pg_sleep(0.5)").unwrap();
    }
    assert_eq!(contacts(&mut client), ACME);
}

/// Room for about fifteen sessions.
const OPEN_FILES_MAX: u32 = 40;

#[test]
fn silent_connections_beyond_the_descriptor_limit_neither_spin_nor_stop_the_daemon() {
    let daemon = Run::on(cluster()).open_files_max(OPEN_FILES_MAX).start();
    let start = daemon.open_files();
    let crowd: Vec<Raw> = (0..100).map(|_| daemon.raw()).collect();
    daemon.wait_for_status(|status| status.connections >= 20);
    let before = daemon.processor_ticks();
    cluster().superuser(TENANTS).batch_execute("select pg_sleep(1)").unwrap();
    let spent = daemon.processor_ticks() - before;
    assert!(spent < 30, "{spent} ticks of 100 for waiting");
    assert!(daemon.log().len() < 1000, "{} lines of log", daemon.log().len());
    drop(crowd);
    daemon.wait_until_idle();
    assert_eq!(contacts(&mut daemon.connect("app_user.acme")), ACME);
    daemon.wait_until_idle();
    assert_eq!(daemon.open_files(), start);
}

#[test]
fn logins_beyond_the_descriptor_limit_are_served_or_refused_and_never_crossed() {
    let daemon = Run::on(cluster()).open_files_max(OPEN_FILES_MAX).start();
    let start = daemon.open_files();
    let results: Vec<Result<(), String>> = thread::scope(|scope| {
        let login = |number: usize| {
            let daemon = &daemon;
            scope.spawn(move || {
                let tenant = format!("t{number}");
                let mut client = daemon
                    .try_connect(&format!("app_user.{tenant}"))
                    .map_err(|error| sqlstate(&error).to_owned())?;
                assert_eq!(bound(&mut client), binding(&tenant, "app_user"));
                Ok(())
            })
        };
        let logins: Vec<_> = (0..80).map(login).collect();
        logins.into_iter().map(|login| login.join().unwrap()).collect()
    });
    assert!(results.iter().any(Result::is_ok), "{results:?}");
    daemon.wait_until_idle();
    assert_eq!(contacts(&mut daemon.connect("app_user.acme")), ACME);
    daemon.wait_until_idle();
    assert_eq!(daemon.open_files(), start);
}
