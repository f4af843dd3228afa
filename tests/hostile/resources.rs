//! What an attacker makes the daemon spend: processor, memory, descriptors, slots.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::after_attack::assert_serves;
use crate::packets::{VERSION_3, startup};
use testing::{Daemon, FakeUpstream, Message, Raw, Run, Status, TENANTS, cluster, startup_message};

use crate::man_in_the_middle::{Middle, reset};

/// Clock ticks, of a hundred a second, that the daemon spends while nobody does anything.
fn idle_ticks(daemon: &Daemon) -> u64 {
    let before = daemon.processor_ticks();
    cluster().superuser(TENANTS).batch_execute("select pg_sleep(1)").unwrap();
    daemon.processor_ticks() - before
}

/// An upstream that neither says anything nor closes before the time has come.
fn silent_until(over: &Arc<AtomicBool>) -> FakeUpstream {
    let over = Arc::clone(over);
    FakeUpstream::serve(move |mut raw| {
        raw.set_read_timeout(Duration::from_millis(50));
        let mut scratch = [0; 4096];
        while !over.load(Ordering::SeqCst) && !matches!(raw.read(&mut scratch), Ok(0)) {}
    })
}

fn app_user() -> Vec<u8> {
    startup_message(&[("user", "app_user.acme"), ("database", TENANTS)])
}

#[test]
fn clients_in_every_stage_that_do_nothing_cost_no_processor() {
    let over = Arc::new(AtomicBool::new(false));
    let silent = silent_until(&over);
    let real = Daemon::start();
    let hushed = Run::upstream(silent.port()).start();
    let mut held: Vec<Raw> = Vec::new();
    for shut in [false, true] {
        for _ in 0..10 {
            // Nothing, half a packet, a password owed, a login to a silent upstream, a pipe.
            let mut nothing = real.raw();
            let mut half = real.raw();
            half.send(&app_user()[..20]);
            let mut owing = real.raw();
            owing.send(&startup_message(&[("user", "clear_user.acme"), ("database", TENANTS)]));
            let mut waiting = hushed.raw();
            waiting.send(&[app_user(), Message::query("select 1").to_bytes()].concat());
            let mut cancelling = hushed.raw();
            cancelling.send(&crate::packets::packet(crate::packets::CANCEL_REQUEST, &[7; 8]));
            let mut busy = real.raw();
            busy.login("app_user.acme", TENANTS);
            busy.query("set application_name = 'idler'");
            busy.send_message(&Message::query("select pg_sleep(600)"));
            for raw in
                [&mut nothing, &mut half, &mut owing, &mut waiting, &mut cancelling, &mut busy]
            {
                if shut {
                    raw.shutdown_write();
                }
            }
            held.extend([nothing, half, owing, waiting, cancelling, busy]);
        }
    }
    hushed.wait_for_status(|status| status.connections == 40 && status.run_queue == 0);
    real.wait_for_status(|status| status.piping == 20 && status.run_queue == 0);
    for daemon in [&real, &hushed] {
        let spent = idle_ticks(daemon);
        assert!(spent <= 2, "{spent} ticks of 100");
    }
    let pids: i64 = cluster()
        .superuser(TENANTS)
        .query_one(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where application_name = 'idler'",
            &[],
        )
        .unwrap()
        .get(0);
    assert!(pids >= 20);
    drop(held);
    over.store(true, Ordering::SeqCst);
    hushed.wait_until_idle();
    assert_serves(&real);
}

#[test]
fn a_pipe_that_is_full_both_ways_waits_without_cost_and_loses_nothing() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    raw.login("app_user.acme", TENANTS);
    let before = daemon.resident_bytes();
    let query = Message::query(&format!("select repeat('y', 1000) --{}", "x".repeat(1000)));
    let count = 50_000;
    let queries = query.to_bytes().repeat(100);
    let mut writer = raw.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for _ in 0..count / 100 {
            writer.write_all(&queries).expect("they are taken in the end");
        }
        writer.shutdown_write();
    });
    // Both ways fill up; nobody has read anything yet.
    let mut last = 0;
    loop {
        let ticks = idle_ticks(&daemon);
        if ticks <= 2 && last <= 2 {
            break;
        }
        last = ticks;
    }
    assert!(daemon.resident_bytes() < before + (2 << 20), "{}", daemon.resident_bytes());
    assert!(!writing.is_finished(), "100 MB fit in no buffer");
    let mut answers = 0;
    let mut rest = std::io::BufReader::with_capacity(1 << 16, &mut raw);
    let mut head = [0; 5];
    let mut body = Vec::new();
    while rest.read_exact(&mut head).is_ok() {
        body.resize(u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4, 0);
        rest.read_exact(&mut body).unwrap();
        answers += usize::from(head[0] == b'Z');
    }
    assert_eq!(answers, count);
    writing.join().unwrap();
    drop(raw);
    assert_serves(&daemon);
}

/// How many sessions it takes to see what one costs.
const SESSIONS: u64 = 80;

#[test]
fn sessions_keep_nothing_of_what_was_said_early() {
    let daemon = Run::on(cluster()).set("log_level", "warn").set("max_connections", "400");
    let daemon = daemon.set("log_level", "info").start();
    let logins = |early: &[u8]| -> Vec<Raw> {
        (0..SESSIONS)
            .map(|_| {
                let mut raw = daemon.raw();
                raw.send(&[app_user().as_slice(), early].concat());
                raw.read_until(b"Z");
                if !early.is_empty() {
                    raw.read_until(b"Z");
                }
                raw
            })
            .collect()
    };
    drop(logins(b""));
    daemon.wait_until_idle();
    let before = daemon.resident_bytes();
    let plain = logins(b"");
    let with_plain = daemon.resident_bytes() - before;
    drop(plain);
    daemon.wait_until_idle();
    let before = daemon.resident_bytes();
    let long = Message::query(&format!("select 1 --{}", "x".repeat(50_000))).to_bytes();
    let talkative = logins(&long);
    let with_early = daemon.resident_bytes().saturating_sub(before);
    let each = with_early.saturating_sub(with_plain) / SESSIONS;
    assert!(each < 8 << 10, "{each} bytes more for each session, of {with_early} for all");
    drop(talkative);
    assert_serves(&daemon);
}

#[test]
fn memory_does_not_grow_with_refused_and_broken_logins() {
    let middle = Middle::listening();
    let daemon = Run::upstream(middle.port()).set("log_level", "warn");
    let daemon = daemon.set("log_level", "info").start();
    let round = || {
        for at in 0..100 {
            let mut raw = daemon.raw();
            let filler = vec![b'x'; 9000];
            let bytes = startup(VERSION_3, &[(b"user", b"app_user"), (b"options", &filler)]);
            let _ = raw.write_all(if at % 2 == 0 { &bytes } else { &bytes[..5000] });
            reset(&raw);
        }
        daemon.wait_until_idle();
    };
    for _ in 0..5 {
        round();
    }
    let before = daemon.resident_bytes();
    for _ in 0..10 {
        round();
    }
    let grown = daemon.resident_bytes().saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} bytes");
    assert_eq!(middle.accepted(), 0);
    assert_serves(&daemon);
}

#[test]
fn a_client_that_gives_up_on_a_silent_upstream_frees_its_place() {
    let over = Arc::new(AtomicBool::new(false));
    let silent = silent_until(&over);
    let daemon = Run::upstream(silent.port()).start();
    for broken in [true, false] {
        for _ in 0..10 {
            let mut raw = daemon.raw();
            raw.send(&app_user());
            daemon.wait_for_status(|status| status.connections > 0);
            if broken {
                reset(&raw);
            }
        }
        let left = Instant::now();
        while left.elapsed() < Duration::from_secs(3) && daemon.status() != Status::default() {}
        let status = daemon.status();
        assert_eq!(status, Status::default(), "reset: {broken}; it waits for login_timeout");
    }
    over.store(true, Ordering::SeqCst);
}

#[test]
fn a_crowd_of_silent_clients_does_not_lock_out_those_who_are_in() {
    let daemon = Daemon::with(&[("max_connections", "10"), ("login_timeout", "2s")]);
    let mut inside = daemon.raw();
    inside.login("app_user.acme", TENANTS);
    let crowd: Vec<Raw> = (0..300).map(|_| daemon.raw()).collect();
    for _ in 0..50 {
        assert_eq!(inside.query_value("select current_setting('app.current_tenant_id')"), "acme");
    }
    drop(crowd);
    // Those that waited to be accepted are accepted, found gone, and forgotten.
    for _ in 0..5 {
        daemon.wait_for_status(|status| status.connections == 1);
    }
    drop(inside);
    assert_serves(&daemon);
}

#[test]
fn a_unix_socket_is_no_weaker_than_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let run = Run::on(cluster()).set("listen_host", folder.path().to_str().unwrap());
    let daemon = run.set("port", "6432").start();
    let path = folder.path().join(".s.PGSQL.6432");
    let mut raw = Raw::unix(&path);
    raw.send(&startup(VERSION_3, &[(b"user", b"app_user.acme"), (b"role", b"postgres")]));
    crate::after_attack::refused(&mut raw, &["22023"]);
    let mut raw = Raw::unix(&path);
    let query = Message::query("select name from contacts order by id").to_bytes();
    raw.send(&[app_user(), query].concat());
    raw.shutdown_write();
    let said = crate::packets::messages(&crate::packets::read_all(&mut raw));
    assert_eq!(crate::packets::first_column(&said), ["Ada", "Alan"]);
    for bytes in [b"".as_slice(), b"\0\0\0", &app_user()[..30]] {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(bytes).unwrap();
    }
    drop(raw);
    daemon.wait_until_idle();
}
