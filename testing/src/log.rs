//! The log of a running daemon, as it is written: lines to look at and to wait for.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::DEADLINE;

/// What a process has written to its standard error, shared with the thread that reads it.
#[derive(Clone, Default)]
pub struct Log {
    shared: Arc<(Mutex<Written>, Condvar)>,
}

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    /// Collects the source's lines until it ends.
    pub fn collect(source: impl Read + Send + 'static) -> (Log, JoinHandle<()>) {
        let log = Log::default();
        let writer = log.clone();
        let thread = thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n') {
                let Ok(line) = line else { break };
                writer.lock().lines.push(String::from_utf8_lossy(&line).into_owned());
                writer.shared.1.notify_all();
            }
            writer.lock().ended = true;
            writer.shared.1.notify_all();
        });
        (log, thread)
    }

    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Waits until `count` lines contain the pattern; answers with the last of them.
    ///
    /// # Panics
    /// At the deadline, or when the process ends without writing them.
    pub fn wait_for(&self, pattern: &str, count: usize) -> String {
        let found = |written: &Written| {
            written.lines.iter().filter(|line| line.contains(pattern)).nth(count - 1).cloned()
        };
        let written = self.wait_while(|written| found(written).is_none() && !written.ended);
        match found(&written) {
            Some(line) => line,
            None => panic!(
                "the log did not say {pattern:?} {count} times, {}:\n{}",
                if written.ended { "and the process ended" } else { "in good time" },
                written.lines.join("\n")
            ),
        }
    }

    /// Waits until the process has closed its standard error: until it has ended.
    ///
    /// # Panics
    /// At the deadline.
    pub fn wait_until_ended(&self) {
        let written = self.wait_while(|written| !written.ended);
        assert!(written.ended, "still running:\n{}", written.lines.join("\n"));
    }

    fn wait_while(&self, mut waiting: impl FnMut(&Written) -> bool) -> MutexGuard<'_, Written> {
        let guard = self.lock();
        let waited = self.shared.1.wait_timeout_while(guard, DEADLINE, |written| waiting(written));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        // A test that fails while it looks at the log must still be able to show it.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
