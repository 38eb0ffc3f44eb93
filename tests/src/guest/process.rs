// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Other processes: signals, and programs that have to succeed.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal to a process.
///
/// # Errors
///
/// When there is no such process.
pub(crate) fn kill(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .context("no process id")?;
    kill_process(pid, signal).with_context(|| format!("cannot signal process {}", pid.as_raw_nonzero()))
}

/// Runs a program and waits for its end.
///
/// # Errors
///
/// When it does not succeed; the text holds its standard error.
pub(crate) fn command(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}: {}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Returns the processes that there are. Each may end meanwhile.
///
/// # Errors
///
/// When /proc cannot be read.
pub(crate) fn pids() -> Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc").context("/proc")?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

/// Reads from the text of /proc/PID/status how often a thread slept: the number of voluntary switches.
pub(crate) fn voluntary_switches(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voluntary_switches_are_told_from_others() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(voluntary_switches(status), Some(12));
        assert_eq!(voluntary_switches("nonvoluntary_ctxt_switches:\t7\n"), None);
    }
}
