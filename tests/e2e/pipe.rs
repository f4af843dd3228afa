//! After the login Multigres is not there: whatever PostgreSQL and a driver say to each other
//! goes through unaltered, in both directions.

use std::io::{ErrorKind, Read, Write};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use postgres::fallible_iterator::FallibleIterator;
use postgres::{CancelToken, NoTls};
use testing::{
    ACME, DEADLINE, Daemon, FakeUpstream, Message, Run, TENANTS, cluster, contacts, dead_port,
    sqlstate, startup_message, swallow,
};

/// Bytes without a pattern that a mistake could hide in.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Not `assert_eq!`, which would print megabytes.
fn assert_same(left: &[u8], right: &[u8]) {
    assert_eq!(left.len(), right.len());
    if let Some(at) = left.iter().zip(right).position(|(left, right)| left != right) {
        panic!("byte {at} of {} differs", left.len());
    }
}

#[test]
fn prepared_statements_are_kept_and_reused() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    let sum = client.prepare("select $1::int + $2::int").unwrap();
    let name = client.prepare("select name from contacts where id = $1").unwrap();
    for id in 1..=50 {
        let row = client.query_one(&sum, &[&id, &1]).unwrap();
        assert_eq!(row.get::<_, i32>(0), id + 1);
        let seen = client.query(&name, &[&id]).unwrap();
        assert_eq!(seen.len(), usize::from(id <= 2));
    }
    let error = client.query(&sum, &[&i32::MAX, &1]).unwrap_err();
    assert_eq!(sqlstate(&error), "22003");
    assert_eq!(client.query_one(&sum, &[&1, &1]).unwrap().get::<_, i32>(0), 2);
}

#[test]
fn a_portal_is_read_in_pieces_within_a_transaction() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    let mut transaction = client.transaction().unwrap();
    let portal = transaction.bind("select generate_series(1, 1000)", &[]).unwrap();
    let mut next = 1;
    while next <= 1000 {
        for row in transaction.query_portal(&portal, 37).unwrap() {
            assert_eq!(row.get::<_, i32>(0), next);
            next += 1;
        }
    }
    transaction.commit().unwrap();
}

#[test]
fn a_transaction_fails_and_rolls_back_to_its_savepoint() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    let mut outer = client.transaction().unwrap();
    outer.batch_execute("create temp table scratch (n int primary key)").unwrap();
    outer.execute("insert into scratch values (1)", &[]).unwrap();
    let mut inner = outer.savepoint("midway").unwrap();
    let error = inner.execute("insert into scratch values (1)", &[]).unwrap_err();
    assert_eq!(sqlstate(&error), "23505");
    inner.rollback().unwrap();
    outer.execute("insert into scratch values (2)", &[]).unwrap();
    outer.commit().unwrap();
    let count: i64 = client.query_one("select count(*) from scratch", &[]).unwrap().get(0);
    assert_eq!(count, 2);
}

#[test]
fn large_values_go_both_ways_byte_for_byte() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    let sent = noise(32 << 20);
    let row = client.query_one("select $1::bytea", &[&sent]).unwrap();
    assert_same(row.get(0), &sent);
    for length in [0, 1, 8191, 8192, 16_384, 65_535, 65_536, 65_537, 1 << 20] {
        let row = client.query_one("select $1::bytea", &[&&sent[..length]]).unwrap();
        assert_same(row.get(0), &sent[..length]);
    }
}

#[test]
fn copy_goes_both_ways_byte_for_byte() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    client.batch_execute("create temp table lines (number int, bytes bytea)").unwrap();
    let mut sent = Vec::new();
    let bytes = noise(1 << 20);
    for (number, chunk) in bytes.chunks(700).enumerate() {
        write!(sent, "{number}\t\\\\x").unwrap();
        chunk.iter().for_each(|byte| write!(sent, "{byte:02x}").unwrap());
        sent.push(b'\n');
    }
    let mut writer = client.copy_in("copy lines from stdin").unwrap();
    writer.write_all(&sent).unwrap();
    assert_eq!(writer.finish().unwrap(), bytes.chunks(700).count() as u64);
    let mut received = Vec::new();
    let mut reader = client.copy_out("copy lines to stdout").unwrap();
    reader.read_to_end(&mut received).unwrap();
    drop(reader);
    assert_same(&received, &sent);
    assert_eq!(contacts(&mut client), ACME);
}

#[test]
fn copy_out_of_a_protected_table_holds_the_tenants_rows_only() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    let mut text = String::new();
    let sql = "copy (select name from contacts order by id) to stdout";
    client.copy_out(sql).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "Ada\nAlan\n");
}

#[test]
fn a_failing_copy_leaves_the_session_usable() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    client.batch_execute("create temp table numbers (n int)").unwrap();
    let mut writer = client.copy_in("copy numbers from stdin").unwrap();
    writer.write_all(b"1\n2\nthree\n").unwrap();
    assert_eq!(sqlstate(&writer.finish().unwrap_err()), "22P02");
    assert_eq!(contacts(&mut client), ACME);
}

#[test]
fn a_notification_reaches_an_idle_listener() {
    let daemon = Daemon::start();
    let mut listener = daemon.connect("app_user.acme");
    let mut speaker = daemon.connect("app_user.globex");
    listener.batch_execute("listen news").unwrap();
    for payload in ["first", "second"] {
        speaker.execute("select pg_notify('news', $1)", &[&payload]).unwrap();
        let mut notifications = listener.notifications();
        let notification = notifications.timeout_iter(DEADLINE).next().unwrap();
        let notification = notification.expect("it comes in time");
        assert_eq!((notification.channel(), notification.payload()), ("news", payload));
    }
}

#[test]
fn pipelined_queries_are_answered_in_their_order() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    raw.login("app_user.acme", TENANTS);
    let batch: Vec<u8> = (0..500)
        .flat_map(|number| Message::query(&format!("select '{number}'")).to_bytes())
        .collect();
    raw.send(&batch);
    for number in 0..500 {
        let answer = raw.read_until(b"Z");
        let row = answer.iter().find(|message| message.tag == b'D').expect("a row");
        assert_eq!(row.values(), [Some(number.to_string().into_bytes())]);
    }
}

#[test]
fn bytes_sent_early_wait_and_then_arrive_in_order() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    let mut bytes = startup_message(&[("user", "trust_user.acme"), ("database", TENANTS)]);
    for number in 0..20 {
        let sql = format!("select '{number}' || current_setting('app.current_tenant_id')");
        bytes.extend(Message::query(&sql).to_bytes());
    }
    raw.send(&bytes);
    raw.read_until(b"Z");
    for number in 0..20 {
        let answer = raw.read_until(b"Z");
        let row = answer.iter().find(|message| message.tag == b'D').expect("a row");
        assert_eq!(row.values(), [Some(format!("{number}acme").into_bytes())]);
    }
}

#[test]
fn a_client_that_ends_its_sending_side_still_gets_its_answer() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    raw.login("app_user.acme", TENANTS);
    raw.send_message(&Message::query("select pg_sleep(0.2), repeat('x', 1000000)"));
    raw.shutdown_write();
    let answer = raw.read_until(b"Z");
    let row = answer.iter().find(|message| message.tag == b'D').expect("a row");
    assert_eq!(row.values()[1].as_ref().map(Vec::len), Some(1_000_000));
    assert_eq!(raw.read_to_close(), b"");
    daemon.wait_until_idle();
}

#[test]
fn a_client_may_send_everything_and_end_its_sending_side_at_once() {
    let daemon = Daemon::start();
    for _ in 0..10 {
        let mut raw = daemon.raw();
        let startup = startup_message(&[("user", "trust_user.acme"), ("database", TENANTS)]);
        let query = Message::query("select count(*)::text from contacts").to_bytes();
        raw.send(&[startup, query].concat());
        raw.shutdown_write();
        raw.read_until(b"Z");
        let answer = raw.read_until(b"Z");
        let row = answer.iter().find(|message| message.tag == b'D').expect("a row");
        assert_eq!(row.values(), [Some(b"2".to_vec())]);
        assert_eq!(raw.read_to_close(), b"");
    }
    daemon.wait_until_idle();
}

#[test]
fn more_early_bytes_than_are_kept_arrive_all_the_same() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    let startup = startup_message(&[("user", "trust_user.acme"), ("database", TENANTS)]);
    let text = "x".repeat(3 << 20);
    let query = Message::query(&format!("select md5('{text}'), length('{text}')::text"));
    let mut sender = raw.try_clone().unwrap();
    let sending = thread::spawn(move || sender.send(&[startup, query.to_bytes()].concat()));
    raw.read_until(b"Z");
    let answer = raw.read_until(b"Z");
    sending.join().unwrap();
    let row = answer.iter().find(|message| message.tag == b'D').expect("a row");
    assert_eq!(row.values()[1], Some(text.len().to_string().into_bytes()));
}

#[test]
fn a_client_that_says_goodbye_leaves_nothing_behind() {
    let daemon = Daemon::start();
    let (mut raw, pid) = daemon.raw_session();
    raw.send_message(&Message::new(b'X', b"".as_slice()));
    assert_eq!(raw.read_to_close(), b"");
    cluster().wait_until_gone(pid);
    daemon.wait_until_idle();
}

/// Waits until the backend runs a statement.
fn wait_until_sleeping(pid: i32) {
    cluster().wait_until(&format!(
        "select exists (select from pg_stat_activity
             where pid = {pid} and wait_event = 'PgSleep')"
    ));
}

fn backend_pid(client: &mut postgres::Client) -> i32 {
    client.query_one("select pg_backend_pid()", &[]).unwrap().get(0)
}

#[test]
fn a_cancel_request_stops_the_query_it_names_and_no_other() {
    let daemon = Daemon::start();
    let mut other = daemon.connect("app_user.acme");
    let other_pid = backend_pid(&mut other);
    let bystander = thread::spawn(move || other.batch_execute("select pg_sleep(600)"));
    for user in ["app_user.acme", "scram_user.globex", "postgres"] {
        let mut client = daemon.connect(user);
        let pid = backend_pid(&mut client);
        let token: CancelToken = client.cancel_token();
        let sleeper = thread::spawn(move || {
            let error = client.batch_execute("select pg_sleep(600)").unwrap_err();
            (sqlstate(&error).to_owned(), client)
        });
        wait_until_sleeping(pid);
        wait_until_sleeping(other_pid);
        token.cancel_query(NoTls).unwrap();
        let (code, mut client) = sleeper.join().unwrap();
        assert_eq!(code, "57014");
        assert_eq!(backend_pid(&mut client), pid, "the session goes on");
    }
    wait_until_sleeping(other_pid);
    cluster().superuser(TENANTS).execute("select pg_cancel_backend($1)", &[&other_pid]).unwrap();
    assert_eq!(sqlstate(&bystander.join().unwrap().unwrap_err()), "57014");
    daemon.wait_until_idle();
}

#[test]
fn a_cancel_request_with_a_wrong_key_is_closed_without_a_word() {
    let daemon = Daemon::start();
    let mut client = daemon.connect("app_user.acme");
    let pid = backend_pid(&mut client);
    let token = client.cancel_token();
    let sleeper = thread::spawn(move || client.batch_execute("select pg_sleep(600)"));
    wait_until_sleeping(pid);
    let mut raw = daemon.raw();
    raw.send(&cancel_request(pid, b"\x0b\xad\xca\xfe"));
    assert_eq!(raw.read_to_close(), b"");
    wait_until_sleeping(pid);
    token.cancel_query(NoTls).unwrap();
    assert_eq!(sqlstate(&sleeper.join().unwrap().unwrap_err()), "57014");
    daemon.wait_until_idle();
}

#[test]
fn a_cancel_request_to_an_absent_upstream_is_closed_without_a_word() {
    let (_socket, port) = dead_port();
    let daemon = Run::upstream(port).start();
    let mut raw = daemon.raw();
    raw.send(&cancel_request(1, b"keys"));
    assert_eq!(raw.read_to_close(), b"");
    daemon.wait_until_idle();
}

#[test]
fn cancel_keys_of_any_allowed_length_are_passed_on_byte_for_byte() {
    for length in [4, 32, 256] {
        let (sender, receiver) = mpsc::channel();
        let fake = FakeUpstream::serve(move |mut raw| {
            let mut packet = vec![0; 12 + length];
            raw.read_exact(&mut packet).unwrap();
            sender.send(packet).unwrap();
        });
        let daemon = Run::upstream(fake.port()).start();
        let packet = cancel_request(4711, &noise(length));
        let mut raw = daemon.raw();
        raw.send(&packet);
        assert_eq!(raw.read_to_close(), b"");
        assert_eq!(receiver.recv_timeout(DEADLINE).unwrap(), packet);
        daemon.wait_until_idle();
    }
}

#[test]
fn a_cancelling_client_is_kept_until_upstream_has_closed() {
    // libpq takes the close for "done": it must not come before the signal was sent.
    let (done, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let fake = FakeUpstream::serve(move |mut raw| {
        raw.read_exact(&mut [0; 16]).unwrap();
        let _ = wait.lock().unwrap().recv();
    });
    let daemon = Run::upstream(fake.port()).start();
    let mut raw = daemon.raw();
    raw.send(&cancel_request(4711, b"keys"));
    raw.set_read_timeout(Duration::from_millis(200));
    let early = raw.read(&mut [0]).unwrap_err();
    assert!(matches!(early.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{early:?}");
    raw.set_read_timeout(DEADLINE);
    drop(done);
    assert_eq!(raw.read_to_close(), b"");
}

#[test]
fn a_cancel_request_without_a_proper_key_is_not_passed_on() {
    let fake = FakeUpstream::serve(|mut raw| swallow(&mut raw));
    let daemon = Run::upstream(fake.port()).start();
    for length in [0, 3, 257] {
        let mut raw = daemon.raw();
        raw.send(&cancel_request(4711, &noise(length)));
        // No error either: a canceller does not read.
        raw.read_to_close();
    }
    daemon.wait_until_idle();
    assert_eq!(fake.accepted(), 0);
}

fn cancel_request(pid: i32, key: &[u8]) -> Vec<u8> {
    let length = i32::try_from(12 + key.len()).unwrap();
    let mut packet = [length, 80_877_102, pid].map(i32::to_be_bytes).concat();
    packet.extend(key);
    packet
}

#[test]
fn a_query_that_yields_an_error_and_notices_shows_them_all() {
    let daemon = Daemon::start();
    let mut raw = daemon.raw();
    raw.login("app_user.acme", TENANTS);
    let answer =
        raw.query("do $$ begin raise notice 'one'; raise warning 'two'; end $$; select 1/0");
    let texts: Vec<String> = answer
        .iter()
        .filter(|message| matches!(message.tag, b'N' | b'E'))
        .map(|message| message.error_fields().message)
        .collect();
    assert_eq!(texts, ["one", "two", "division by zero"]);
}
