//! Many at once, and one that takes or gives too much: nobody waits for another, nothing grows,
//! nothing is left.

use std::io::{ErrorKind, Read, Write};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testing::{
    ACME, DEADLINE, Daemon, GLOBEX, Message, Raw, TENANTS, binding, bound, cluster, contacts,
};

/// More than the buffers of one connection need, far less than what is on the way.
const GROWTH_MAX: u64 = 16 << 20;

/// Waits until the backend waits for its client to read, and for nothing else, for a while.
fn wait_until_blocked_on_write(pid: i32) {
    let mut client = cluster().superuser(TENANTS);
    let sql = "select coalesce(wait_event, '') = 'ClientWrite' from pg_stat_activity
               where pid = $1";
    let mut in_a_row = 0;
    for _ in 0..2000 {
        let blocked: bool = client.query_one(sql, &[&pid]).unwrap().get(0);
        in_a_row = if blocked { in_a_row + 1 } else { 0 };
        if in_a_row == 30 {
            return;
        }
        client.batch_execute("select pg_sleep(0.01)").unwrap();
    }
    panic!("backend {pid} never had to wait for its client");
}

fn wait_until(condition: impl Fn() -> bool, what: &str) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "{what}: not yet");
        thread::yield_now();
    }
}

#[test]
fn a_client_that_does_not_read_its_gigabyte_costs_no_more_than_a_buffer() {
    let daemon = Daemon::start();
    drop(daemon.connect("app_user.acme"));
    daemon.wait_until_idle();
    let start = daemon.resident_bytes();
    let (mut raw, pid) = daemon.raw_session();
    let gigabyte = "select repeat('x', 1000), generate_series(1, 1000000)";
    raw.send_message(&Message::query(gigabyte));
    wait_until_blocked_on_write(pid);
    let growth = daemon.resident_bytes().saturating_sub(start);
    assert!(growth < GROWTH_MAX, "{growth} bytes more");
    assert_eq!(contacts(&mut daemon.connect("app_user.globex")), GLOBEX);
    assert_eq!(daemon.status().run_queue, 0, "nothing to do for who does not read");
    drop(raw);
    cluster().wait_until_gone(pid);
    daemon.wait_until_idle();
}

#[test]
fn a_client_that_reads_late_gets_everything() {
    let daemon = Daemon::start();
    let (mut raw, pid) = daemon.raw_session();
    let sql = "select n || repeat('x', 1000) from generate_series(1, 50000) n";
    raw.send_message(&Message::query(sql));
    wait_until_blocked_on_write(pid);
    let filler = "x".repeat(1000);
    let answer = raw.read_until(b"Z");
    let mut rows = answer.iter().filter(|message| message.tag == b'D');
    for number in 1..=50_000 {
        let values = rows.next().expect("a row").values();
        assert_eq!(values, [Some(format!("{number}{filler}").into_bytes())]);
    }
    assert!(rows.next().is_none());
}

#[test]
fn an_upstream_that_does_not_read_stops_its_client_and_costs_no_more_than_a_buffer() {
    let daemon = Daemon::start();
    drop(daemon.connect("app_user.acme"));
    daemon.wait_until_idle();
    let start = daemon.resident_bytes();
    let (mut raw, pid) = daemon.raw_session();
    raw.send_message(&Message::query("select pg_sleep(600)"));
    raw.set_write_timeout(Duration::from_millis(500));
    let flood = Message::query(&format!("select '{}'", "x".repeat(60_000))).to_bytes();
    let mut taken = 0;
    loop {
        match raw.write(&flood) {
            Ok(count) => taken += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error:?}"),
        }
        assert!(taken < 1 << 30, "a gigabyte went somewhere");
    }
    let growth = daemon.resident_bytes().saturating_sub(start);
    assert!(growth < GROWTH_MAX, "{growth} bytes more");
    assert_eq!(daemon.status().run_queue, 0, "nothing to do while upstream does not read");
    drop(raw);
    cluster().superuser(TENANTS).execute("select pg_terminate_backend($1)", &[&pid]).unwrap();
    daemon.wait_until_idle();
}

/// Ends a connection for whoever else reads from it.
struct Hangup(Raw);

impl Drop for Hangup {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

#[test]
fn one_bulk_stream_does_not_starve_short_queries_nor_they_it() {
    let daemon = Daemon::start();
    let read = AtomicU64::new(0);
    thread::scope(|scope| {
        let mut bulk = daemon.raw();
        bulk.login("app_user.acme", TENANTS);
        // Dropped first, or a failure would wait for the endless stream.
        let _hangup = Hangup(bulk.try_clone().unwrap());
        let endless = "copy (select repeat('x', 8000), generate_series(1, 100000000)) to stdout";
        bulk.send_message(&Message::query(endless));
        let progress = &read;
        scope.spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(count @ 1..) = bulk.read(&mut buffer) {
                progress.fetch_add(count as u64, Ordering::SeqCst);
            }
        });
        wait_until(|| read.load(Ordering::SeqCst) > 1 << 20, "the bulk stream flows");
        let short: Vec<_> = (0..8)
            .map(|number| {
                let daemon = &daemon;
                scope.spawn(move || {
                    let mut client = daemon.connect(&format!("app_user.t{number}"));
                    let goal = progress.load(Ordering::SeqCst) + (4 << 20);
                    let started = Instant::now();
                    for round in 0_i32.. {
                        let row = client.query_one("select $1::int", &[&round]).unwrap();
                        assert_eq!(row.get::<_, i32>(0), round);
                        let bulk = progress.load(Ordering::SeqCst);
                        if round >= 20 && bulk >= goal {
                            break;
                        }
                        let late = started.elapsed() > DEADLINE;
                        assert!(!late, "{round} answers, bulk at {bulk} towards {goal}");
                    }
                })
            })
            .collect();
        short.into_iter().for_each(|client| client.join().unwrap());
    });
    daemon.wait_until_idle();
}

#[test]
fn two_hundred_logins_at_once_stay_apart_and_leave_nothing_behind() {
    const CROWD: usize = 200;
    let daemon = Daemon::start();
    let start = daemon.open_files();
    let all_in = Barrier::new(CROWD + 1);
    let all_counted = Barrier::new(CROWD + 1);
    thread::scope(|scope| {
        for number in 0..CROWD {
            let (daemon, all_in, all_counted) = (&daemon, &all_in, &all_counted);
            scope.spawn(move || {
                let user = ["trust_user", "clear_user", "md5_user", "scram_user"][number % 4];
                let tenant = ["acme", "globex", "nobody"][number % 3];
                let login = daemon.try_connect(&format!("{user}.{tenant}"));
                all_in.wait();
                all_counted.wait();
                let mut client = login.unwrap_or_else(|error| panic!("{user}: {error:?}"));
                for _ in 0..5 {
                    assert_eq!(bound(&mut client), binding(tenant, user));
                    let expected: &[&str] = [&ACME[..], &GLOBEX, &[]][number % 3];
                    assert_eq!(contacts(&mut client), expected);
                }
            });
        }
        all_in.wait();
        let status = daemon.status();
        all_counted.wait();
        assert_eq!((status.connections, status.piping), (CROWD, CROWD));
        assert_eq!(status.buffers, 0, "nothing is in flight: {status:?}");
    });
    daemon.wait_until_idle();
    assert_eq!(daemon.open_files(), start);
}

#[test]
fn logins_and_leavings_in_any_order_leave_nothing_behind() {
    let daemon = Daemon::start();
    let start = daemon.open_files();
    thread::scope(|scope| {
        for worker in 0..8 {
            let daemon = &daemon;
            scope.spawn(move || {
                for round in 0..15 {
                    come_and_go(daemon, (worker * 7 + round) % 6);
                }
            });
        }
    });
    daemon.wait_until_idle();
    assert_eq!(daemon.open_files(), start);
}

/// One of the ways in which clients come and go.
fn come_and_go(daemon: &Daemon, kind: usize) {
    let mut raw: Raw = daemon.raw();
    match kind {
        0 => {}
        1 => raw.send(b"\0\0\0\x08\x04\xd2\x16\x2f"),
        2 => raw.send_startup(&[("user", "app_user.acme"), ("database", TENANTS)]),
        3 => raw.send_startup(&[("user", "app_user"), ("database", TENANTS)]),
        4 => {
            raw.login("app_user.acme", TENANTS);
            raw.send_message(&Message::query("select pg_sleep(0.01)"));
        }
        _ => {
            raw.login("app_user.globex", TENANTS);
            assert_eq!(raw.query_value("select count(*)::text from contacts"), "3");
            raw.shutdown_write();
            raw.read_to_close();
        }
    }
}
