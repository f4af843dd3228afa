//! Sets the log up: one line per record on standard error, written by a thread of its own.
//! Knows nothing of what is logged.
//!
//! Standard error may be a pipe that nobody reads, a full disk, a terminal that is stopped. Threads
//! that log never wait for it: lines go to a bounded queue. When it is full, further lines are
//! counted, and the count is logged in their place.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{mem, panic, thread};

use log::{Level, LevelFilter, Log, Record};
use simplelog::{Config, ConfigBuilder, WriteLogger};

/// The log until it goes out of scope: then what is queued is written, for two seconds at most.
pub struct Logging(Arc<Queue>);

impl Logging {
    /// Starts logging. Call it once. A panic, too, goes through the queue from now on.
    ///
    /// # Errors
    /// When the thread that writes cannot be started.
    ///
    /// # Panics
    /// When a logger has been set already.
    pub fn start(level: LevelFilter) -> io::Result<Logging> {
        let queue = Arc::new(Queue::default());
        let taken = queue.clone();
        thread::Builder::new().name("log".into()).spawn(move || taken.write_to(io::stderr()))?;
        let lines = Lines { queue: queue.clone(), line: Vec::new() };
        WriteLogger::init(level, format(), lines).expect("the log is set up once");
        let panicked = queue.clone();
        panic::set_hook(Box::new(move |panic| {
            let thread = thread::current();
            let mut text = format!("thread {:?} {panic}\n", thread.name().unwrap_or_default());
            let backtrace = Backtrace::capture();
            if backtrace.status() == BacktraceStatus::Captured {
                text += &format!("{backtrace}\n");
            }
            panicked.put(text.into_bytes());
            panicked.flush();
        }));
        Ok(Logging(queue))
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Lines on their way to the thread that writes them.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    /// Of the lines in `entries`, at most [`QUEUED_BYTES_MAX`].
    bytes: usize,
    /// Lines that have found no room since the last entry.
    lost: u64,
    is_writing: bool,
}

enum Entry {
    /// With its line feed.
    Line(Vec<u8>),
    /// So many lines are missing here.
    Lost(u64),
}

impl Queue {
    /// Never waits for the writer.
    fn put(&self, line: Vec<u8>) {
        let mut waiting = self.lock();
        if waiting.bytes + line.len() > QUEUED_BYTES_MAX {
            waiting.lost += 1;
            return;
        }
        waiting.bytes += line.len();
        if let lost @ 1.. = mem::take(&mut waiting.lost) {
            waiting.entries.push_back(Entry::Lost(lost));
        }
        waiting.entries.push_back(Entry::Line(line));
        drop(waiting);
        self.changed.notify_all();
    }

    /// Waits until all is written, or as long as a stopped reader may hold the end of a process up.
    fn flush(&self) {
        let is_busy = |waiting: &mut Waiting| waiting.is_writing || waiting.has_entries();
        drop(self.changed.wait_timeout_while(self.lock(), FLUSH_TIMEOUT, is_busy));
    }

    /// Writes each entry. Lines that cannot be written are counted, too; the count is written once
    /// something can be.
    fn write_to(&self, to: impl Write + Send + 'static) {
        let mut output = Output { to, is_torn: false };
        let mut unwritten = 0;
        loop {
            let entry = self.take();
            if let Entry::Lost(lost) = entry {
                unwritten += lost;
            }
            if unwritten > 0 && output.put(&lost_line(unwritten)).is_ok() {
                unwritten = 0;
            }
            if let Entry::Line(line) = entry
                && output.put(&line).is_err()
            {
                unwritten += 1;
            }
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    fn take(&self) -> Entry {
        let waited = self.changed.wait_while(self.lock(), |waiting| !waiting.has_entries());
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner);
        waiting.is_writing = true;
        match waiting.entries.pop_front() {
            Some(Entry::Line(line)) => {
                waiting.bytes -= line.len();
                Entry::Line(line)
            }
            Some(lost) => lost,
            None => Entry::Lost(mem::take(&mut waiting.lost)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn has_entries(&self) -> bool {
        !self.entries.is_empty() || self.lost > 0
    }
}

/// The logger writes to this, which puts whole lines into the queue.
struct Lines {
    queue: Arc<Queue>,
    line: Vec<u8>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if self.line.ends_with(b"\n") {
            self.queue.put(mem::take(&mut self.line));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the lines end up.
struct Output<W> {
    to: W,
    /// The last line was written in part only: the next one must not continue it.
    is_torn: bool,
}

impl<W: Write> Output<W> {
    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.to.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = &rest[written..];
                    self.is_torn = !rest.is_empty();
                }
                // Another process may have made the pipe that it shares with us non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_DELAY),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn format() -> Config {
    ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build()
}

/// In the form of all other lines. At the highest level: whatever was lost may have had it.
fn lost_line(lost: u64) -> Vec<u8> {
    let queue = Arc::new(Queue::default());
    let lines = Lines { queue: queue.clone(), line: Vec::new() };
    let logger = WriteLogger::new(LevelFilter::Error, format(), lines);
    let text = if lost == 1 { "log line was lost" } else { "log lines were lost" };
    let mut record = Record::builder();
    logger.log(&record.level(Level::Error).args(format_args!("{lost} {text}")).build());
    match queue.take() {
        Entry::Line(line) => line,
        Entry::Lost(_) => unreachable!("an empty queue has room for a line"),
    }
}

/// Some five thousand lines of sessions.
const QUEUED_BYTES_MAX: usize = 1024 * 1024;

const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_DELAY: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then is full once.
    struct Disk {
        room: Option<usize>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = match self.room {
                None => bytes.len(),
                Some(0) => {
                    self.room = None;
                    return Err(ErrorKind::StorageFull.into());
                }
                Some(room) => bytes.len().min(room),
            };
            self.room = self.room.map(|room| room - taken);
            self.written.lock().unwrap().extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines on the disk after these were logged, without their times.
    fn written(room: Option<usize>, lines: &[&[u8]]) -> Vec<String> {
        let queue = Arc::new(Queue::default());
        for line in lines {
            queue.put(line.to_vec());
        }
        let written = Arc::new(Mutex::new(Vec::new()));
        let disk = Disk { room, written: written.clone() };
        let taken = queue.clone();
        thread::spawn(move || taken.write_to(disk));
        queue.flush();
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert!(text.ends_with('\n'), "{text:?}");
        text.lines().map(|line| line.split("Z ").last().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_line_that_was_written_in_part_does_not_run_into_the_next_one() {
        for room in 1..4 {
            let lines = written(Some(room), &[b"one\n", b"two\n"]);
            assert_eq!(lines, [&"one"[..room], "[ERROR] 1 log line was lost", "two"]);
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_where_it_would_have_been() {
        let mut long = vec![b'x'; QUEUED_BYTES_MAX - 3];
        long[QUEUED_BYTES_MAX - 4] = b'\n';
        let lines = written(None, &[&long, b"lost\n", b"lost too\n", b"a\n", b"lost\n"]);
        assert_eq!(
            lines[1..],
            ["[ERROR] 2 log lines were lost", "a", "[ERROR] 1 log line was lost"]
        );
    }
}
