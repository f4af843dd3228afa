//! The end of the daemon: politely, at once, and what it says of itself before.

use std::io::Read;
use std::net::TcpStream;

use testing::{ACME, Daemon, Run, Signal, Status, TENANTS, contacts, dead_port, sqlstate};

/// Whether a new client is turned away, by a closed port or with the SQLSTATE for it.
fn turned_away(daemon: &Daemon) -> bool {
    match TcpStream::connect(daemon.address()) {
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(_) => match daemon.try_connect("app_user.acme") {
            Ok(_) => false,
            Err(error) => error.code().is_none_or(|code| code.code() == "57P03"),
        },
    }
}

#[test]
fn sigterm_lets_sessions_end_and_lets_nobody_in() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    let mut raw = daemon.raw();
    raw.login("app_user.globex", TENANTS);
    daemon.signal(Signal::TERM);
    // The signal has been handled once the status that was asked for after it is logged.
    assert_eq!(daemon.status().piping, 2);
    assert!(turned_away(&daemon));
    for _ in 0..10 {
        assert_eq!(contacts(&mut client), ACME);
        assert_eq!(raw.query_value("select count(*)::text from contacts"), "3");
    }
    drop(client);
    daemon.wait_for_status(|status| status.connections == 1);
    assert_eq!(raw.query_value("select count(*)::text from contacts"), "3");
    drop(raw);
    assert_eq!(daemon.wait_for_exit().code(), Some(0));
}

#[test]
fn sigterm_without_sessions_ends_at_once() {
    let mut daemon = Daemon::start();
    drop(daemon.connect("app_user.acme"));
    daemon.wait_until_idle();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_exit().code(), Some(0));
}

#[test]
fn a_login_under_way_when_draining_starts_is_told_so() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    let _session = daemon.connect("app_user.acme");
    daemon.wait_for_status(|status| status.connections == 2);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.status().piping, 1);
    raw.send_startup(&[("user", "app_user.acme"), ("database", TENANTS)]);
    let refusal = raw.read_refusal();
    assert_eq!((refusal.severity.as_str(), refusal.sqlstate.as_str()), ("FATAL", "57P03"));
}

#[test]
fn a_second_sigterm_a_sigint_and_a_sigquit_end_it_with_its_sessions() {
    for signals in [&[Signal::TERM, Signal::TERM][..], &[Signal::INT], &[Signal::QUIT]] {
        let mut daemon = Daemon::start();
        let mut raw = daemon.raw();
        raw.login("app_user.acme", TENANTS);
        for signal in signals {
            daemon.signal(*signal);
            // Two pending signals of one kind would be one.
            if signals.len() > 1 {
                daemon.wait_for_log("drain");
            }
        }
        assert_eq!(daemon.wait_for_exit().code(), Some(0), "{signals:?}");
        let mut rest = Vec::new();
        let _ = raw.read_to_end(&mut rest);
    }
}

#[test]
fn a_sighup_changes_nothing_and_says_so() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    daemon.signal(Signal::HUP);
    assert!(daemon.wait_for_log("SIGHUP ignored").contains("[WARN]"));
    assert_eq!(contacts(&mut client), ACME);
    assert_eq!(contacts(&mut daemon.connect("app_user.acme")), ACME);
}

/// docs/operations.md says so; the daemon does not handle it.
#[test]
fn a_sigusr2_ends_the_process() {
    let mut daemon = Daemon::start();
    let mut raw = daemon.raw();
    raw.login("app_user.acme", TENANTS);
    daemon.signal(Signal::USR2);
    assert_eq!(daemon.wait_for_exit().code(), None);
    let mut rest = Vec::new();
    let _ = raw.read_to_end(&mut rest);
}

#[test]
fn the_status_counts_what_is_there() {
    let daemon = Daemon::start();
    assert_eq!(daemon.status(), Status::default());
    let silent = daemon.raw();
    daemon.wait_for_status(|status| status.connections == 1 && status.deadlines >= 1);
    let mut client = daemon.connect("app_user.acme");
    contacts(&mut client);
    let status = daemon.status();
    assert_eq!((status.connections, status.piping), (2, 1));
    drop(silent);
    daemon.wait_for_status(|status| status.connections == 1 && status.deadlines == 0);
    drop(client);
    daemon.wait_until_idle();
}

#[test]
fn a_client_that_is_refused_for_lack_of_upstream_ends_a_drain_too() {
    let (_socket, port) = dead_port();
    let mut daemon = Run::upstream(port).start();
    let error = daemon.try_connect("app_user.acme").err().expect("nobody is there");
    assert_eq!(sqlstate(&error), "57P03");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_exit().code(), Some(0));
}
