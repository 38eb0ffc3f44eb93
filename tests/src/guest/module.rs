// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The module: its parameters, and unloading it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::process::command;

/// How long a module that nobody uses any more may be in use.
const UNLOAD_LIMIT: Duration = Duration::from_secs(2);

/// Reads a parameter of the module.
///
/// # Errors
///
/// When the module is not loaded or has no such parameter.
pub(crate) fn parameter_text(name: &str) -> Result<String> {
    let path = format!("/sys/module/daedalus_v4l2/parameters/{name}");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim().to_owned())
}

/// Writes a parameter of the module.
///
/// # Errors
///
/// As [`parameter_text`], and when the module refuses the value.
pub(crate) fn set_parameter_text(name: &str, value: &str) -> Result<()> {
    let path = format!("/sys/module/daedalus_v4l2/parameters/{name}");
    std::fs::write(&path, value).with_context(|| format!("cannot write {path}"))
}

/// Reads a parameter that is a number.
///
/// # Errors
///
/// As [`parameter_text`], and when it is no number.
pub(crate) fn parameter(name: &str) -> Result<u64> {
    let text = parameter_text(name)?;
    text.parse().with_context(|| format!("{name}={text}"))
}

/// Writes a parameter that is a number.
///
/// # Errors
///
/// As [`set_parameter_text`].
pub(crate) fn set_parameter(name: &str, value: u64) -> Result<()> {
    set_parameter_text(name, &value.to_string())
}

/// Sets a parameter that is a number, unless `value` is none. Runs `scenario` with the value in force, and
/// sets the one from before again.
///
/// # Errors
///
/// Those of `scenario` and of [`set_parameter`].
pub(crate) fn with_parameter<T>(
    name: &str,
    value: Option<u64>,
    scenario: impl FnOnce(u64) -> Result<T>,
) -> Result<T> {
    let before = parameter(name)?;
    let value = value.unwrap_or(before);
    set_parameter(name, value)?;
    let result = scenario(value);
    set_parameter(name, before)?;
    result
}

/// Unloads the module, and returns how long that took. A request that was closed a moment ago pins the module
/// until the kernel's next grace period.
///
/// # Errors
///
/// When the module is still in use after two seconds.
pub(crate) fn unload() -> Result<Duration> {
    let start = Instant::now();
    loop {
        match command("rmmod", &["daedalus_v4l2"]) {
            Ok(()) => return Ok(start.elapsed()),
            Err(error) if start.elapsed() > UNLOAD_LIMIT => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
