//! What the daemon logs, each test its own: a world lives in one thread.

use std::cell::RefCell;

use log::{LevelFilter, Log, Metadata, Record};

struct Lines;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with("multigres") {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// From now on lines are kept.
pub fn keep() {
    // It may be there already, for another test.
    let _ = log::set_logger(&Lines);
    log::set_max_level(LevelFilter::Info);
}

/// The lines since the last call.
pub fn take() -> Vec<String> {
    LINES.take()
}

/// The one line since the last call that has this word in it.
pub fn take_one(word: &str) -> String {
    let mut lines = take();
    lines.retain(|line| line.contains(word));
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}
