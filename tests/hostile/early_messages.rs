//! Clients that do not wait: what they say behind their StartupMessage waits for the binding, and
//! then is said once, in order, unaltered.

use crate::after_attack::{assert_serves, refused};
use crate::packets::{VERSION_3, extended, first_column, messages, read_all, startup};
use testing::{Message, PASSWORD, Raw, Run, TENANTS};

use crate::man_in_the_middle::{Change, Middle, attack};

fn login(user: &str) -> Vec<u8> {
    startup(VERSION_3, &[(b"user", user.as_bytes()), (b"database", TENANTS.as_bytes())])
}

/// Simple and extended queries, and something that fails, in one breath.
fn conversation() -> Vec<u8> {
    [
        Message::query("select name from contacts order by id").to_bytes(),
        extended("select 'second ' || current_setting('app.current_tenant_id')"),
        Message::query("select 'third ' || current_user; select 'fourth'").to_bytes(),
        extended("select 1/0"),
        Message::query("select 'sixth'").to_bytes(),
    ]
    .concat()
}

const ANSWERS: [&str; 6] = ["Ada", "Alan", "second acme", "third app_user", "fourth", "sixth"];

#[test]
fn queries_behind_the_startup_message_are_answered_behind_the_binding() {
    let middle = Middle::listening();
    let daemon = Run::upstream(middle.port()).start();
    let mut raw = daemon.raw();
    raw.send(&[login("app_user.acme"), conversation()].concat());
    raw.shutdown_write();
    let said = messages(&read_all(&mut raw));
    assert_eq!(first_column(&said), ANSWERS);
    assert_eq!(said.iter().filter(|message| message.tag == b'E').count(), 1, "1/0 only");
    assert_eq!(said.iter().filter(|message| message.tag == b'Z').count(), 6);
    daemon.wait_until_idle();
    let upstream_heard = middle.said().remove(0);
    assert!(upstream_heard.ends_with(&conversation()), "not the last, or not unaltered");
    let before = &upstream_heard[..upstream_heard.len() - conversation().len()];
    let needle = b"select name from contacts";
    assert!(!before.windows(needle.len()).any(|window| window == needle), "said twice");
    assert_serves(&daemon);
}

#[test]
fn nothing_of_the_client_is_said_upstream_while_the_binding_is_outstanding() {
    for hushed in [0, 1] {
        let middle = Middle::start(move |place, message| {
            // The answer to nothing at all, or the whole greeting but none to the batch.
            if place.readies == hushed {
                Change::Hush(vec![])
            } else {
                let _ = message;
                Change::Pass
            }
        });
        let run = Run::upstream(middle.port()).set("login_timeout", "400ms");
        let daemon = run.start();
        let mut raw = daemon.raw();
        let startup = startup(
            VERSION_3,
            &[
                (b"user", b"app_user.acme"),
                (b"database", TENANTS.as_bytes()),
                (b"application_name", attack(1).as_bytes()),
            ],
        );
        raw.send(&[startup, conversation()].concat());
        refused(&mut raw, &["57014"]);
        daemon.wait_until_idle();
        let heard = middle.said().remove(0);
        for word in ["contacts", "second", "third", "sixth"] {
            assert!(!crate::packets::contains(&heard, word), "{word} was said, {hushed}");
        }
    }
}

#[test]
fn a_password_and_queries_in_one_breath_are_answered_in_order() {
    let middle = Middle::listening();
    for auth in ["auto", "password"] {
        let daemon = Run::upstream(middle.port()).set("auth", auth).start();
        for user in ["clear_user", "md5_user"] {
            let mut raw = daemon.raw();
            raw.send(
                &[
                    login(&format!("{user}.acme")),
                    Message::password(PASSWORD).to_bytes(),
                    Message::query("select name from contacts order by id").to_bytes(),
                    Message::query("select current_user").to_bytes(),
                ]
                .concat(),
            );
            raw.shutdown_write();
            let said = messages(&read_all(&mut raw));
            assert_eq!(first_column(&said), ["Ada", "Alan", user], "auth = {auth}");
        }
        assert_serves(&daemon);
    }
}

#[test]
fn a_wrong_password_in_one_breath_with_queries_lets_none_of_them_through() {
    let middle = Middle::listening();
    let daemon = Run::upstream(middle.port()).start();
    for user in ["clear_user.acme", "md5_user.acme"] {
        let mut raw = daemon.raw();
        let password = Message::password("guessed").to_bytes();
        let query = Message::query("select name from contacts").to_bytes();
        raw.send(&[login(user), password, query].concat());
        raw.shutdown_write();
        let said = messages(&read_all(&mut raw));
        assert_eq!(said.last().unwrap().error_fields().sqlstate, "28P01", "{said:?}");
        assert_eq!(said.iter().filter(|message| message.tag == b'E').count(), 1);
        assert!(!said.iter().any(|message| b"TDZ".contains(&message.tag)), "{said:?}");
    }
    daemon.wait_until_idle();
    for heard in middle.said() {
        assert!(!crate::packets::contains(&heard, "contacts"));
    }
    assert_serves(&daemon);
}

#[test]
fn a_login_that_has_said_everything_and_shuts_down_gets_its_whole_answer() {
    let daemon = testing::Daemon::start();
    let long = "select repeat('x', 1000) from generate_series(1, 20000)";
    for _ in 0..5 {
        let mut raw = daemon.raw();
        raw.send(&[login("app_user.acme"), Message::query(long).to_bytes()].concat());
        raw.shutdown_write();
        let said = messages(&read_all(&mut raw));
        assert_eq!(said.iter().filter(|message| message.tag == b'D').count(), 20_000);
        assert_eq!(said.last().unwrap().tag, b'Z');
    }
    assert_serves(&daemon);
}

#[test]
fn more_early_bytes_than_the_daemon_keeps_arrive_whole() {
    let daemon = testing::Daemon::start();
    let filler = "x".repeat(1000);
    let queries: Vec<u8> = (0..300)
        .flat_map(|at| Message::query(&format!("select '{at}' --{filler}")).to_bytes())
        .collect();
    let mut raw = daemon.raw();
    let mut writer = raw.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writer.send(&[login("app_user.acme"), queries].concat());
            writer.shutdown_write();
        });
        let expected: Vec<String> = (0..300).map(|at| at.to_string()).collect();
        assert_eq!(first_column(&messages(&read_all(&mut raw))), expected);
    });
    assert_serves(&daemon);
}

#[test]
fn a_terminate_behind_the_startup_message_ends_the_session_in_good_order() {
    let daemon = testing::Daemon::start();
    let mut raw = daemon.raw();
    raw.send(&[login("app_user.acme"), Message::new(b'X', []).to_bytes()].concat());
    let said = messages(&read_all(&mut raw));
    assert_eq!(said.last().unwrap().tag, b'Z', "{said:?}");
    drop(raw);
    assert_serves(&daemon);
}

#[test]
fn half_a_message_behind_the_startup_message_is_completed_later() {
    let daemon = testing::Daemon::start();
    let query = Message::query("select name from contacts order by id").to_bytes();
    for cut in 1..query.len() {
        let mut raw = daemon.raw();
        raw.send(&[login("app_user.acme"), query[..cut].to_vec()].concat());
        raw.read_until(b"Z");
        raw.send(&query[cut..]);
        assert_eq!(first_column(&raw.read_until(b"Z")), ["Ada", "Alan"], "cut at {cut}");
    }
    assert_serves(&daemon);
}

#[test]
fn a_password_that_nobody_asked_for_binds_nothing_and_shows_nothing() {
    let daemon = testing::Daemon::start();
    let mut raw = daemon.raw();
    let query = Message::query("select name from contacts").to_bytes();
    raw.send(&[login("app_user.acme"), Message::password("x").to_bytes(), query].concat());
    let said = messages(&read_all(&mut raw));
    // PostgreSQL's own answer to a message that has no place behind the login.
    assert_eq!(said.last().unwrap().error_fields().sqlstate, "08P01", "{said:?}");
    assert!(!said.iter().any(|message| message.tag == b'D'), "{said:?}");
    drop(raw);
    assert_serves(&daemon);
}

#[test]
fn a_second_startup_message_behind_the_first_is_no_login() {
    let daemon = testing::Daemon::start();
    let mut raw: Raw = daemon.raw();
    raw.send(&[login("app_user.acme"), login("app_user.globex")].concat());
    raw.shutdown_write();
    let said = messages(&read_all(&mut raw));
    assert!(!said.iter().any(|message| message.tag == b'D'), "{said:?}");
    assert_eq!(said.iter().filter(|message| message.tag == b'Z').count(), 1, "{said:?}");
    drop(raw);
    assert_serves(&daemon);
}
