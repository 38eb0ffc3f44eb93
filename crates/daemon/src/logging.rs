// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Logs: a broker writes them to its standard error, or to the journal if that is where it goes; a worker writes bare lines to the pipe that is
//! its standard error, from which the broker takes them.

mod journal;

use std::io::{IsTerminal, stderr};

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use journal::Journal;

/// The environment variable with the filter.
pub(crate) const FILTER_VARIABLE: &str = "DAEDALUS_LOG";

/// The level from the command line, else the filter from the environment, else `info`.
fn filter(level: Option<Level>) -> EnvFilter {
    match level {
        Some(level) => EnvFilter::new(level.as_str()),
        None => EnvFilter::builder()
            .with_env_var(FILTER_VARIABLE)
            .with_default_directive(Level::INFO.into())
            .from_env_lossy(),
    }
}

/// What both have in common. The writer never reports its own errors: it would do so on standard
/// error, and panic if that is what failed.
fn builder(
    level: Option<Level>,
) -> SubscriberBuilder<DefaultFields, Format, EnvFilter, fn() -> std::io::Stderr> {
    tracing_subscriber::fmt()
        .with_writer(stderr as fn() -> std::io::Stderr)
        .with_env_filter(filter(level))
        .with_target(false)
        .log_internal_errors(false)
}

/// Logs of a broker: entries of the journal if the standard error goes there; else lines, which are coloured on a
/// terminal.
pub(crate) fn init_broker(level: Option<Level>) {
    if let Some(journal) = Journal::of_stderr() {
        tracing_subscriber::registry()
            .with(filter(level))
            .with(journal)
            .init();
    } else {
        builder(level).with_ansi(stderr().is_terminal()).init();
    }
}

/// Logs of a worker: lines that begin with the level, as [`split_level`] reads them. A panic is
/// logged as well and ends the process at once: the module then fails the jobs it had.
pub(crate) fn init_worker(level: Option<Level>) {
    builder(level).with_ansi(false).without_time().init();
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{panic}");
        std::process::abort();
    }));
}

/// Splits a worker's line into its level and the rest. A line of unknown form, such as a library's
/// complaint, is a warning.
pub(crate) fn split_level(line: &str) -> (Level, &str) {
    const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    let (word, rest) = line.trim_start().split_once(' ').unwrap_or_default();
    match LEVELS.into_iter().find(|level| level.as_str() == word) {
        Some(level) => (level, rest),
        None => (Level::WARN, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_split_off() {
        assert_eq!(
            split_level(" INFO decoder opened codec=VP9F"),
            (Level::INFO, "decoder opened codec=VP9F")
        );
        assert_eq!(split_level("ERROR boom"), (Level::ERROR, "boom"));
        assert_eq!(split_level("[h264 @ 0x1] odd"), (Level::WARN, "[h264 @ 0x1] odd"));
        assert_eq!(split_level(""), (Level::WARN, ""));
        assert_eq!(split_level("3 wishes"), (Level::WARN, "3 wishes"));
    }
}
