//! Whoever reads the log may stop, go away or have no room: sessions and signals do not notice.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testing::{ACME, Daemon, Raw, Reader, Run, Signal, TENANTS, cluster, contacts};

/// More lines than the pipe and the queue hold together.
const REFUSALS: usize = 5000;

/// A daemon whose log goes through a process, at one line for each login and each end.
const LOST: &str = " log lines were lost";

fn with_reader() -> (Daemon, Reader) {
    Run::on(cluster()).set("log_level", "info").start_with_reader()
}

/// Has so many logins refused: each is one line of some 300 bytes.
fn fill_log(daemon: &Daemon) {
    let user = "x".repeat(1000);
    for _ in 0..REFUSALS {
        let mut raw = daemon.raw();
        raw.send_startup(&[("user", &user), ("database", TENANTS)]);
        assert_eq!(raw.read_refusal().sqlstate, "28000");
    }
}

#[test]
fn a_stopped_reader_stops_no_session_and_no_login() {
    let (daemon, reader) = with_reader();
    let mut open = daemon.connect("app_user.acme");
    reader.signal(Signal::STOP);
    fill_log(&daemon);
    assert_eq!(contacts(&mut open), ACME);
    assert_eq!(contacts(&mut daemon.connect("app_user.acme")), ACME);
    reader.signal(Signal::CONT);
    daemon.wait_for_log(LOST);
    daemon.signal(Signal::USR1);
    daemon.wait_for_log("status connections=");
    // The count stands where the lines are missing: behind those that had room. There are two gaps
    // if the reader took some lines more before it stopped.
    let lines = daemon.log();
    let lost = lines.iter().filter(|line| line.contains(LOST));
    let number: usize =
        lost.map(|line| line.split(' ').nth(2).unwrap().parse::<usize>().unwrap()).sum();
    let told = lines.iter().filter(|line| line.contains("refused")).count();
    let missing = REFUSALS - told;
    assert!(told > 100, "only {told} lines before the first one that was lost");
    // The second login and its end may be among the lost lines, too.
    assert!((missing..=missing + 2).contains(&number), "{number} for {missing}");
    assert_eq!(contacts(&mut open), ACME);
}

#[test]
fn a_stopped_reader_does_not_keep_the_daemon_from_ending() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut daemon, reader) = with_reader();
        reader.signal(Signal::STOP);
        fill_log(&daemon);
        let started = Instant::now();
        daemon.signal(signal);
        assert_eq!(daemon.wait_for_process().code(), Some(0));
        assert!(started.elapsed() < Duration::from_secs(10));
        drop(reader);
    }
}

#[test]
fn what_is_logged_before_the_end_is_written() {
    let (mut daemon, _reader) = with_reader();
    daemon.connect("app_user.acme");
    daemon.wait_for_log(" end ");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_exit().code(), Some(0));
    let last = daemon.log().pop().unwrap();
    assert!(last.ends_with("stopped"), "{last}");
}

#[test]
fn a_reader_that_is_gone_ends_nothing() {
    let (mut daemon, mut reader) = with_reader();
    let mut open = daemon.connect("app_user.acme");
    reader.signal(Signal::KILL);
    reader.wait_for_exit();
    for _ in 0..10 {
        assert_eq!(contacts(&mut daemon.connect("app_user.acme")), ACME);
        assert_eq!(contacts(&mut open), ACME);
    }
    drop(open);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_process().code(), Some(0));
}

/// A daemon that nobody hears: it is found by the name of its unix socket.
fn on_full_disk(folder: &Path) -> Daemon {
    let full = File::options().write(true).open("/dev/full").expect("the kernel's own full disk");
    let run = Run::on(cluster()).set("port", "5432");
    run.set("listen_host", folder.to_str().unwrap()).spawn_logging_to(full)
}

#[test]
fn a_full_disk_ends_nothing() {
    let folder = TempDir::new().unwrap();
    let mut daemon = on_full_disk(folder.path());
    let socket = folder.path().join(".s.PGSQL.5432");
    let started = Instant::now();
    while !socket.exists() {
        assert!(started.elapsed() < Duration::from_secs(20), "it does not listen");
        std::thread::yield_now();
    }
    for _ in 0..10 {
        let mut raw = Raw::unix(&socket);
        raw.login("app_user.acme", TENANTS);
        assert_eq!(raw.query_value("select count(*)::text from contacts"), "2");
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_process().code(), Some(0));
}
