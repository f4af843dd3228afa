//! Either side goes away in the middle of something: the other one is told, and nothing stays.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use testing::linter::version;
use testing::{
    ACME, Cluster, Daemon, FakeUpstream, Message, Raw, Run, TENANTS, Tamper, cluster, contacts,
    shortened, sqlstate,
};

fn backend_pid(client: &mut postgres::Client) -> i32 {
    client.query_one("select pg_backend_pid()", &[]).unwrap().get(0)
}

fn wait_until_active(cluster: &Cluster, pid: i32) {
    cluster.wait_until(&format!(
        "select exists (select from pg_stat_activity where pid = {pid} and state = 'active')"
    ));
}

fn wait_until_it_reads(cluster: &Cluster, pid: i32) {
    cluster.wait_until(&format!(
        "select coalesce(wait_event, '') = 'ClientRead' from pg_stat_activity where pid = {pid}"
    ));
}

#[test]
fn a_terminated_backend_tells_its_client_why() {
    let daemon = Daemon::start();
    let (mut raw, pid) = daemon.raw_session();
    raw.send_message(&Message::query("select pg_sleep(600)"));
    wait_until_active(cluster(), pid);
    cluster().superuser(TENANTS).execute("select pg_terminate_backend($1)", &[&pid]).unwrap();
    raw.read_until(b"T");
    assert_eq!(raw.read_refusal().sqlstate, "57P01");
    daemon.wait_until_idle();
    assert_eq!(contacts(&mut daemon.connect("app_user.acme")), ACME);
}

#[test]
fn an_idle_client_is_told_of_its_terminated_backend_and_closed() {
    let daemon = Daemon::start();
    let (mut raw, pid) = daemon.raw_session();
    cluster().superuser(TENANTS).execute("select pg_terminate_backend($1)", &[&pid]).unwrap();
    assert_eq!(raw.read_refusal().sqlstate, "57P01");
    daemon.wait_until_idle();
}

#[test]
fn a_killed_backend_closes_its_client_and_the_daemon_goes_on() {
    let cluster = Cluster::start();
    let daemon = Run::on(&cluster).start();
    let mut client = daemon.connect("app_user.acme");
    let mut neighbour = daemon.raw();
    neighbour.login("app_user.globex", TENANTS);
    // A backend that is still about its last message when it is told to quit says nothing.
    let asked = neighbour.query_value("select pg_backend_pid()").parse().unwrap();
    wait_until_it_reads(&cluster, asked);
    let pid = backend_pid(&mut client);
    let sleeper = thread::spawn(move || client.batch_execute("select pg_sleep(600)"));
    wait_until_active(&cluster, pid);
    testing::send_signal(testing::Signal::KILL, pid.try_into().unwrap());
    let error = sleeper.join().unwrap().unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    // PostgreSQL then ends everyone, and says so to each.
    let mut last_words = Vec::new();
    neighbour.read_to_end(&mut last_words).unwrap();
    assert!(last_words.windows(5).any(|code| code == b"57P02"), "{last_words:?}");
    daemon.wait_until_idle();
    drop(cluster);
    let error = daemon.try_connect("app_user.acme").err().expect("nobody is there any more");
    assert_eq!(sqlstate(&error), "57P03");
}

#[test]
fn the_last_words_of_an_upstream_outrun_its_reset() {
    // Closing with unread bytes sends a reset right behind the message.
    let fake = FakeUpstream::tamper(cluster(), || {
        |message: &Message| match message.tag {
            b'D' if message.body.ends_with(b"last words, please") => {
                let error = Message::error("FATAL", "57P01", "terminating connection");
                Tamper::CloseAfter(error.to_bytes())
            }
            _ => Tamper::Pass,
        }
    });
    let daemon = Run::upstream(fake.port()).start();
    for _ in 0..20 {
        let mut raw = daemon.raw();
        raw.login("app_user.acme", TENANTS);
        let question = Message::query("select 'last words, please'").to_bytes();
        raw.send(&question);
        let messages = raw.read_until(b"EZ");
        assert_eq!(messages.last().unwrap().error_fields().sqlstate, "57P01");
        let mut rest = Vec::new();
        let _ = raw.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
    daemon.wait_until_idle();
}

#[test]
fn a_client_killed_amid_a_long_answer_frees_its_backend() {
    let daemon = Daemon::start();
    let (mut raw, pid) = daemon.raw_session();
    let endless = "copy (select repeat('x', 1000), generate_series(1, 100000000)) to stdout";
    raw.send_message(&Message::query(endless));
    let mut some = vec![0; 1 << 20];
    raw.read_exact(&mut some).unwrap();
    drop(raw);
    cluster().wait_until_gone(pid);
    daemon.wait_until_idle();
}

#[test]
fn a_client_killed_amid_a_long_copy_in_frees_its_backend() {
    let daemon = Daemon::start();
    let (mut raw, pid) = daemon.raw_session();
    raw.query("create temp table lines (line text)");
    raw.send_message(&Message::query("copy lines from stdin"));
    raw.read_until(b"G");
    let row = Message::new(b'd', [vec![b'x'; 9999], vec![b'\n']].concat()).to_bytes();
    for _ in 0..100 {
        raw.send(&row);
    }
    // Not at the end of a message.
    raw.send(&row[..77]);
    drop(raw);
    cluster().wait_until_gone(pid);
    daemon.wait_until_idle();
}

#[test]
fn a_client_killed_amid_a_silent_query_frees_a_backend_that_looks() {
    let daemon = Daemon::start();
    let (mut raw, pid) = daemon.raw_session();
    let looks = version(&mut cluster().superuser(TENANTS)) >= 14;
    if looks {
        let answer = raw.query("set client_connection_check_interval = '50ms'");
        assert_eq!(answer[0].tag, b'C', "{answer:?}");
    }
    raw.send_message(&Message::query("select pg_sleep(600)"));
    wait_until_active(cluster(), pid);
    drop(raw);
    if !looks {
        shortened("before PostgreSQL 14 a backend looks for its client only when a query is over");
        cluster().superuser(TENANTS).execute("select pg_cancel_backend($1)", &[&pid]).unwrap();
    }
    cluster().wait_until_gone(pid);
    daemon.wait_until_idle();
}

#[test]
fn a_client_that_resets_its_connection_is_forgotten_at_once() {
    let daemon = Daemon::start();
    let (mut raw, pid) = daemon.raw_session();
    raw.send_message(&Message::query("select pg_sleep(600)"));
    wait_until_active(cluster(), pid);
    let Raw::Tcp(stream) = &raw else { unreachable!("it is TCP") };
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(raw);
    // Its backend does not look at its socket before the sleep is over.
    daemon.wait_until_idle();
    cluster().superuser(TENANTS).execute("select pg_terminate_backend($1)", &[&pid]).unwrap();
}

#[test]
fn a_client_that_leaves_during_its_login_frees_its_backend() {
    let daemon = Daemon::start();
    for user in ["clear_user.acme", "scram_user.acme", "md5_user.acme"] {
        let mut raw = daemon.raw();
        raw.send_startup(&[("user", user), ("database", TENANTS)]);
        assert_eq!(raw.read_message().tag, b'R');
        drop(raw);
    }
    let mut raw = daemon.raw();
    raw.write_all(&testing::startup_message(&[("user", "app_user.acme")])).unwrap();
    drop(raw);
    daemon.wait_until_idle();
    // None of them is still at the password, either.
    cluster().wait_until(
        "select not exists (select from pg_stat_activity where backend_type = 'client backend'
             and datname is null)",
    );
}
