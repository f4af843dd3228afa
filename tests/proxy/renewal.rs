//! Stories of new settings: what began before keeps its own, what comes later has the new ones.

use std::cell::RefCell;
use std::sync::Once;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use multigres::config::{Config, Sources};
use multigres::proxy::Settings;
use testing::network::World;
use testing::session::{message, startup};

use super::{bypass, contains};

/// Settings as in a file.
pub(crate) fn settings(text: &str) -> Settings {
    let file = Some(("story".into(), Ok(text.into())));
    Config::load(&Sources { file, ..Sources::default() }).unwrap().proxy
}

#[test]
fn what_began_before_keeps_its_settings_and_what_comes_later_has_the_new_ones() {
    let mut world = World::new("");
    let (old, _old_upstream) = bypass(&mut world);
    let under_way = world.client();
    let renewed = settings("superuser_bypass = admin\nidle_timeout = 5s");
    world.proxy.renew(renewed).unwrap();

    let dialled = world.dialled().len();
    under_way.say(&startup(&[("user", "postgres")]));
    world.run();
    assert_eq!(world.dialled().len(), dialled + 1, "it is still a bypass user for this one");
    let upstream = world.upstream();
    upstream.say(&message(b'R', &[0, 0, 0, 0]));
    world.run();
    assert_eq!(under_way.hear(), message(b'R', &[0, 0, 0, 0]));

    let refused = world.client();
    refused.say(&startup(&[("user", "postgres")]));
    let new = world.client();
    new.say(&startup(&[("user", "admin")]));
    world.run();
    assert!(contains(&refused.hear(), b"C28000"), "and a role without a tenant for that one");
    let upstream = world.upstream();
    upstream.say(&message(b'R', &[0, 0, 0, 0]));
    world.run();
    assert_eq!(new.hear(), message(b'R', &[0, 0, 0, 0]));

    world.wait(Duration::from_secs(6));
    assert!(new.is_closed(), "it has been idle");
    assert!(!old.is_closed() && !under_way.is_closed(), "these may be");
}

#[test]
fn a_session_is_described_by_the_settings_that_it_began_with() {
    take_lines();
    let mut world = World::new("");
    let client = world.client();
    client.say(&startup(&[("user", "app_user.acme")]));
    world.run();
    world.proxy.renew(settings("context_variables = app.customer")).unwrap();
    world.upstream().end();
    world.run();
    assert!(contains(&client.hear(), b"C08006"));
    let lines = take_lines();
    let line = lines.iter().find(|line| line.contains(" refused client=")).unwrap();
    assert!(line.contains(" context=app.current_tenant_id=acme "), "{line}");
}

#[test]
fn another_upstream_takes_a_restart() {
    let mut world = World::new("");
    world.proxy.renew(settings("upstream_port = 5433\nsuperuser_bypass = admin")).unwrap_err();
    bypass(&mut world);
}

/// What this thread has logged since the last call; nothing is kept before the first.
pub(crate) fn take_lines() -> Vec<String> {
    static LOGGER: Once = Once::new();
    LOGGER.call_once(|| {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
    LINES.take()
}

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the lines of each thread.
struct Lines;

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}
