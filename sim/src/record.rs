//! What a run leaves behind: its trace and the violations that the oracles found.
//! One record for each thread, since a simulation is single-threaded and panics get lost in it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name in `docs/simulation.md`.
    pub invariant: &'static str,
    /// Virtual time.
    pub at: Duration,
    /// What was seen.
    pub text: String,
}

impl Violation {
    /// What the process is to end with: 1 for a broken promise, 2 for one not kept in time.
    pub fn exit_code(&self) -> u8 {
        if self.invariant.starts_with(['L', 'R']) { 2 } else { 1 }
    }
}

/// What a run leaves behind.
#[derive(Default)]
pub struct Record {
    /// In the order in which they were found.
    pub violations: Vec<Violation>,
    /// How often each invariant was put to the test: a rule that never applies holds for nothing.
    pub applied: BTreeMap<&'static str, u64>,
    /// FNV-1a over all trace lines.
    pub hash: u64,
    /// Trace lines so far.
    pub lines: u64,
    /// The lines themselves, if they were asked for.
    pub text: Option<String>,
    ticked: Duration,
}

thread_local! {
    static RECORD: RefCell<Record> = RefCell::default();
}

/// Starts a new record.
pub fn start(keep_text: bool) {
    RECORD.with_borrow_mut(|record| {
        *record = Record { hash: FNV_OFFSET, ..Record::default() };
        record.text = keep_text.then(String::new);
    });
}

/// Takes the record of the run that has ended.
pub fn take() -> Record {
    RECORD.take()
}

/// Whether nothing has gone wrong so far.
pub fn is_clean() -> bool {
    RECORD.with_borrow(|record| record.violations.is_empty())
}

/// Notes a violation.
pub fn violate(invariant: &'static str, text: impl Into<String>) {
    let (text, at) = (text.into(), now());
    line(format_args!("VIOLATION {invariant} {text}"));
    RECORD.with_borrow_mut(|record| {
        record.violations.push(Violation { invariant, at, text });
    });
}

/// Notes that an invariant could have been found broken.
pub fn applied(invariant: &'static str) {
    RECORD.with_borrow_mut(|record| *record.applied.entry(invariant).or_default() += 1);
}

/// Trace lines so far.
pub fn lines() -> u64 {
    RECORD.with_borrow(|record| record.lines)
}

/// Virtual time since the start of the run.
pub fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_else(|| RECORD.with_borrow(|record| record.ticked))
}

/// A step begins: the time for whatever is not said by a host.
pub fn tick(now: Duration) {
    RECORD.with_borrow_mut(|record| record.ticked = now);
}

/// Adds a line to the trace. It must be the same in every run of the same seed: no addresses of
/// memory, no wall time, no secret that a library draws.
pub fn line(text: fmt::Arguments<'_>) {
    let at = now();
    RECORD.with_borrow_mut(|record| {
        record.lines += 1;
        let _ = writeln!(Hashed(record), "{:>10.3} {text}", at.as_secs_f64() * 1000.0);
    });
}

struct Hashed<'a>(&'a mut Record);

impl Write for Hashed<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0.hash = (self.0.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        if let Some(kept) = &mut self.0.text {
            kept.push_str(text);
        }
        Ok(())
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
