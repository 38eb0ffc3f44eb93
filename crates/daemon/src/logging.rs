// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Logs. A broker writes to its standard error, or to the journal if its standard error goes there. A worker
//! writes lines to the pipe that is its standard error, and the broker passes them on.

mod journal;

use std::io::{IsTerminal, stderr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use journal::Journal;

/// The environment variable with the filter.
pub(crate) const FILTER_VARIABLE: &str = "DAEDALUS_LOG";

/// The least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LogLevel(Level);

impl FromStr for LogLevel {
    type Err = <Level as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl TryFrom<String> for LogLevel {
    type Error = <Level as FromStr>::Err;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LogLevel> for String {
    fn from(level: LogLevel) -> Self {
        level.0.to_string()
    }
}

/// Returns the level from the command line, else the filter from the environment, else `info`.
fn filter(level: Option<LogLevel>) -> EnvFilter {
    match level {
        Some(LogLevel(level)) => EnvFilter::new(level.as_str()),
        None => EnvFilter::builder()
            .with_env_var(FILTER_VARIABLE)
            .with_default_directive(Level::INFO.into())
            .from_env_lossy(),
    }
}

/// Returns the common part of both. The writer never reports its own errors: it would do so on the standard
/// error, and panic if that fails.
fn builder(
    level: Option<LogLevel>,
) -> SubscriberBuilder<DefaultFields, Format, EnvFilter, fn() -> std::io::Stderr> {
    tracing_subscriber::fmt()
        .with_writer(stderr as fn() -> std::io::Stderr)
        .with_env_filter(filter(level))
        .with_target(false)
        .log_internal_errors(false)
}

/// Sets up the logs of a broker: entries of the journal if the standard error goes there, otherwise lines,
/// which are coloured on a terminal.
pub(crate) fn init_broker(level: Option<LogLevel>) {
    if let Some(journal) = Journal::of_stderr() {
        tracing_subscriber::registry()
            .with(filter(level))
            .with(journal)
            .init();
    } else {
        builder(level).with_ansi(stderr().is_terminal()).init();
    }
}

/// Sets up the logs of a worker: lines that begin with the level, as [`split_level`] reads them. A panic is
/// logged as well and ends the process at once. The module then fails the worker's jobs.
pub(crate) fn init_worker(level: Option<LogLevel>) {
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
            split_level(" INFO decoder opened codec=XXXX"),
            (Level::INFO, "decoder opened codec=XXXX")
        );
        assert_eq!(split_level("ERROR boom"), (Level::ERROR, "boom"));
        assert_eq!(
            split_level("[library @ 0x1] odd"),
            (Level::WARN, "[library @ 0x1] odd")
        );
        assert_eq!(split_level(""), (Level::WARN, ""));
        assert_eq!(split_level("3 wishes"), (Level::WARN, "3 wishes"));
    }
}
