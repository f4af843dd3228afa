//! Sets the log up: one line per record on standard error, each in one write.
//! Knows nothing of what is logged.

use std::io::{LineWriter, stderr};

use log::LevelFilter;
use simplelog::{ConfigBuilder, WriteLogger};

/// Starts logging. Call it once.
///
/// # Panics
/// When a logger has been set already.
pub fn start(level: LevelFilter) {
    let config = ConfigBuilder::new()
        .set_time_format_rfc3339()
        .set_thread_level(LevelFilter::Off)
        .set_target_level(LevelFilter::Off)
        .set_location_level(LevelFilter::Off)
        .build();
    WriteLogger::init(level, config, LineWriter::new(stderr())).expect("the log is set up once");
}
