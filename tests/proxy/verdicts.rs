//! Stories of what a login has found of its role and database: whom that serves, and what ends it.

use std::io::ErrorKind;
use std::time::Duration;

use testing::network::{Wire, World};
use testing::session::{message, startup};

use super::contains;
use super::renewal::{settings, take_lines};

/// So many are kept at most.
const VERDICTS_MAX: usize = 10_000;
/// So many databases are warned of at most.
const WARNED_MAX: usize = 1_000;
const WITHOUT_GUARD: &str = "guard = off";

/// A login that upstream has let in and that has sent its batch.
struct Asking {
    client: Wire,
    upstream: Wire,
    role: String,
    /// Of the role and the database, and not of the session alone.
    asks: bool,
    /// Asks whether the database has a guard.
    is_guarded: bool,
}

fn world_without_guard() -> World {
    World::new(WITHOUT_GUARD)
}

/// A role of the tenant acme logs in to a database.
fn begin(world: &mut World, role: &str, database: &str) -> Asking {
    let client = world.client();
    client.say(&startup(&[("user", &*format!("{role}.acme")), ("database", database)]));
    world.run();
    let upstream = world.upstream();
    upstream.hear();
    let key = [42_u32.to_be_bytes(), [9; 4]].concat();
    let start = [message(b'R', &[0; 4]), message(b'K', &key), message(b'Z', b"I")];
    upstream.say(&start.concat());
    world.run();
    let batch = upstream.hear();
    assert!(contains(&batch, b"pg_backend_pid()"));
    let asks = contains(&batch, b"rolbypassrls");
    assert_eq!(contains(&batch, b"'seal_keys'"), asks, "of both or of neither");
    let is_guarded = contains(&batch, b"multigres_misspelt()");
    Asking { client, upstream, role: role.to_owned(), asks, is_guarded }
}

impl Asking {
    /// The answer is right.
    fn answer(self, world: &mut World) {
        let client = self.client.clone();
        self.answer_of_guard(world, "absent");
        let heard = client.hear();
        assert!(heard.ends_with(&message(b'Z', b"I")), "{}", heard.escape_ascii());
    }

    /// The answer is right but for what the guard says, if it is asked.
    fn answer_of_guard(self, world: &mut World, verdict: &str) {
        let role = self.role.as_str();
        let mut last = vec!["acme", role, role];
        last.extend(self.asks.then_some("0"));
        last.push("42");
        last.extend(self.asks.then_some("0"));
        last.extend(self.is_guarded.then_some(verdict));
        let statements = [statement(&["acme"]), statement(&["acme", role]), statement(&last)];
        self.upstream.say(&[statements.concat(), message(b'3', b""), message(b'Z', b"I")].concat());
        world.run();
    }

    fn answer_wrongly(self, world: &mut World) {
        self.upstream.say(&statement(&["globex"]));
        world.run();
        assert!(contains(&self.client.hear(), b"C08004"));
    }
}

fn statement(columns: &[&str]) -> Vec<u8> {
    let mut row = (columns.len() as u16).to_be_bytes().to_vec();
    for column in columns {
        row.extend((column.len() as u32).to_be_bytes());
        row.extend(column.as_bytes());
    }
    let selected = message(b'C', b"SELECT 1\0");
    [message(b'1', b""), message(b'2', b""), message(b'D', &row), selected].concat()
}

/// Whether a login asks; it is let in.
fn asks(world: &mut World, role: &str, database: &str) -> bool {
    let login = begin(world, role, database);
    let asks = login.asks;
    login.answer(world);
    asks
}

/// The same with a client that leaves, which must have asked.
fn ask_and_leave(world: &mut World, database: &str) {
    let login = begin(world, "app_user", database);
    assert!(login.asks);
    let (client, upstream) = (login.client.clone(), login.upstream.clone());
    login.answer(world);
    client.end();
    upstream.end();
    world.run();
    assert!(client.is_closed());
}

#[test]
fn of_more_than_a_thousand_databases_without_a_guard_the_log_says_no_more() {
    take_lines();
    let mut world = World::new("");
    for database in 0..=WARNED_MAX {
        ask_and_leave(&mut world, &database.to_string());
    }
    let lines = take_lines();
    let warnings = lines.iter().filter(|line| line.contains("has no guard"));
    assert_eq!(warnings.count(), WARNED_MAX);
}

#[test]
fn the_next_login_of_the_role_to_the_database_does_not_ask_and_others_do() {
    let mut world = world_without_guard();
    assert!(asks(&mut world, "app_user", "crm"));
    assert!(!asks(&mut world, "app_user", "crm"));
    assert!(asks(&mut world, "other", "crm"));
    assert!(asks(&mut world, "app_user", "shop"));
    for (role, database) in [("app_user", "crm"), ("other", "crm"), ("app_user", "shop")] {
        assert!(!asks(&mut world, role, database));
    }
}

#[test]
fn what_was_found_counts_for_its_time_and_not_from_its_last_use() {
    let mut world = World::new("guard = off\nverify_ttl = 10s");
    assert!(asks(&mut world, "app_user", "crm"));
    world.wait(Duration::from_secs(9));
    assert!(!asks(&mut world, "app_user", "crm"));
    world.wait(Duration::from_secs(1));
    assert!(asks(&mut world, "app_user", "crm"));

    let mut world = World::new("guard = off\nverify_ttl = 0");
    assert!(asks(&mut world, "app_user", "crm"));
    assert!(asks(&mut world, "app_user", "crm"));
}

#[test]
fn it_counts_from_the_question_and_not_from_the_answer() {
    let mut world = World::new("guard = off\nverify_ttl = 10s");
    let slow = begin(&mut world, "app_user", "crm");
    world.wait(Duration::from_secs(9));
    slow.answer(&mut world);
    world.wait(Duration::from_secs(1));
    assert!(asks(&mut world, "app_user", "crm"));
}

#[test]
fn a_login_that_was_refused_has_found_nothing() {
    let mut world = world_without_guard();
    begin(&mut world, "app_user", "crm").answer_wrongly(&mut world);
    assert!(asks(&mut world, "app_user", "crm"));
    let left = begin(&mut world, "other", "crm");
    left.client.end();
    world.run();
    assert!(asks(&mut world, "other", "crm"));
}

#[test]
fn a_refusal_by_either_side_ends_it_for_the_role_and_the_database() {
    let refusals: [fn(&mut World); 2] = [
        |world| begin(world, "app_user", "crm").answer_wrongly(world),
        |world| {
            let login = begin(world, "app_user", "crm");
            login.upstream.say(&message(b'E', b"SFATAL\0C57P01\0Mgone\0\0"));
            world.run();
            assert!(login.client.is_shut());
        },
    ];
    for refuse in refusals {
        let mut world = world_without_guard();
        assert!(asks(&mut world, "app_user", "crm") && asks(&mut world, "other", "crm"));
        refuse(&mut world);
        world.wait(Duration::from_millis(10));
        assert!(asks(&mut world, "app_user", "crm"));
        assert!(!asks(&mut world, "other", "crm"));
        assert!(!asks(&mut world, "app_user", "crm"));
    }
}

#[test]
fn a_table_that_is_open_is_asked_after_by_the_next_login_too() {
    let mut world = World::new("");
    for _ in 0..2 {
        let login = begin(&mut world, "app_user", "crm");
        assert!(login.asks);
        let client = login.client.clone();
        login.answer_of_guard(&mut world, "open: table contacts");
        assert!(contains(&client.hear(), b"C55000"));
    }
}

#[test]
fn what_was_asked_before_a_refusal_does_not_count_after_it() {
    let mut world = world_without_guard();
    let first = begin(&mut world, "app_user", "crm");
    world.wait(Duration::from_millis(10));
    begin(&mut world, "app_user", "crm").answer_wrongly(&mut world);
    first.answer(&mut world);
    assert!(asks(&mut world, "app_user", "crm"));
}

#[test]
fn what_was_asked_first_does_not_take_the_place_of_what_was_asked_later() {
    let mut world = World::new("guard = off\nverify_ttl = 10s");
    let first = begin(&mut world, "app_user", "crm");
    world.wait(Duration::from_secs(1));
    begin(&mut world, "app_user", "crm").answer_wrongly(&mut world);
    world.wait(Duration::from_secs(1));
    assert!(asks(&mut world, "app_user", "crm"));
    first.answer(&mut world);
    world.wait(Duration::from_secs(9));
    assert!(!asks(&mut world, "app_user", "crm"));
    world.wait(Duration::from_secs(1));
    assert!(asks(&mut world, "app_user", "crm"));
}

#[test]
fn a_failed_attempt_to_connect_ends_it_for_all() {
    let mut world = world_without_guard();
    assert!(asks(&mut world, "app_user", "crm") && asks(&mut world, "other", "crm"));
    let under_way = begin(&mut world, "third", "crm");
    let client = world.client();
    client.say(&startup(&[("user", "app_user.globex"), ("database", "crm")]));
    world.run();
    let (_, wire) = world.dialled().pop().unwrap();
    wire.connect(Err(ErrorKind::ConnectionRefused));
    world.run();
    assert!(contains(&client.hear(), b"C57P03"));
    under_way.answer(&mut world);
    world.wait(Duration::from_millis(10));
    for role in ["app_user", "other", "third"] {
        assert!(asks(&mut world, role, "crm"), "{role}");
        assert!(!asks(&mut world, role, "crm"), "{role}");
    }
}

#[test]
fn new_settings_end_it_for_all() {
    let mut world = world_without_guard();
    assert!(asks(&mut world, "app_user", "crm"));
    let under_way = begin(&mut world, "other", "crm");
    world.proxy.renew(settings(WITHOUT_GUARD)).unwrap();
    under_way.answer(&mut world);
    assert!(asks(&mut world, "app_user", "crm") && asks(&mut world, "other", "crm"));
}

#[test]
fn nothing_is_kept_of_a_name_that_postgresql_would_cut() {
    let mut world = world_without_guard();
    let long = "d".repeat(64);
    assert!(asks(&mut world, "app_user", &long) && asks(&mut world, "app_user", &long));
    let longest = "d".repeat(63);
    assert!(asks(&mut world, "app_user", &longest) && !asks(&mut world, "app_user", &longest));
}

#[test]
fn a_database_without_a_guard_is_warned_of_once() {
    take_lines();
    let mut world = World::new("verify_ttl = 0");
    for database in ["crm", "shop", "crm", "shop"] {
        begin(&mut world, "app_user", database).answer(&mut world);
    }
    let lines = take_lines();
    let warnings: Vec<_> = lines.iter().filter(|line| line.contains("has no guard")).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("database=crm ") && warnings[1].starts_with("database=shop "));

    let mut world = world_without_guard();
    begin(&mut world, "app_user", "crm").answer(&mut world);
    assert!(!take_lines().iter().any(|line| line.contains("has no guard")));
}

#[test]
fn what_is_out_of_date_makes_room_for_what_is_not() {
    let mut world = World::new("guard = off\nverify_ttl = 10s");
    for database in 0..VERDICTS_MAX - 1 {
        ask_and_leave(&mut world, &database.to_string());
    }
    world.wait(Duration::from_secs(5));
    ask_and_leave(&mut world, "crm");
    world.wait(Duration::from_secs(5));
    ask_and_leave(&mut world, "shop");
    assert!(!asks(&mut world, "app_user", "crm") && !asks(&mut world, "app_user", "shop"));
}

#[test]
fn there_is_an_end_to_what_is_kept_and_no_refusal_is_forgotten_with_it() {
    let mut world = World::new("guard = off\nverify_ttl = 1min");
    let first = begin(&mut world, "app_user", "crm");
    world.wait(Duration::from_millis(10));
    begin(&mut world, "app_user", "crm").answer_wrongly(&mut world);
    for database in 0..VERDICTS_MAX - 1 {
        ask_and_leave(&mut world, &database.to_string());
    }
    assert!(!asks(&mut world, "app_user", "0"));
    ask_and_leave(&mut world, "shop");
    assert!(!asks(&mut world, "app_user", "shop"), "the newest is kept");
    assert!(asks(&mut world, "app_user", "0"), "there was no room");
    first.answer(&mut world);
    assert!(asks(&mut world, "app_user", "crm"));
}
