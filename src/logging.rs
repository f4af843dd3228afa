//! Sets the log up: one line per record on standard error.
//! Knows nothing of what is logged.

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
    WriteLogger::init(level, config, std::io::stderr()).expect("the log is set up once");
}
