// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Counts the system calls of a process, by strace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

/// The ioctl type of the character device.
const MAGIC: u32 = 0xda;
/// Time that strace may need to attach to a process.
const ATTACHED: Duration = Duration::from_secs(10);

/// strace, attached to a process and all its threads.
pub(crate) struct Strace {
    child: Child,
    log: PathBuf,
}

/// The counts.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Calls {
    /// Calls by name.
    pub(crate) calls: BTreeMap<String, u64>,
    /// Bytes that `read` brought; a worker reads from nothing but its session fd.
    pub(crate) read: u64,
    /// Bytes of the arguments of the device's own ioctls.
    pub(crate) ioctl: u64,
}

impl Strace {
    /// Attaches to `pid`, and returns when it is held.
    pub(crate) fn attach(pid: u32, log: &Path) -> Result<Self> {
        let child = Command::new("strace")
            .args(["-f", "-qq", "-s", "0", "-e", "signal=none", "-o"])
            .arg(log)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start strace")?;
        let end = Instant::now() + ATTACHED;
        while !traced(pid)? {
            ensure!(Instant::now() < end, "strace does not take hold of process {pid}");
            std::thread::sleep(Duration::from_millis(5));
        }
        // The call in which the process waits is begun anew when it is held.
        std::thread::sleep(Duration::from_millis(200));
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// Detaches; what was seen.
    pub(crate) fn detach(mut self) -> Result<Calls> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("strace has no process id")?, Signal::INT)?;
        self.child.wait()?;
        let text = fs::read_to_string(&self.log)?;
        Ok(Calls::parse(&text))
    }
}

fn traced(pid: u32) -> Result<bool> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let tracer = text.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    Ok(tracer.is_some_and(|tracer| tracer.trim() != "0"))
}

impl Calls {
    fn parse(log: &str) -> Self {
        let mut calls = Self::default();
        for line in log.lines() {
            let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
            if let Some(resumed) = line.strip_prefix("<... ") {
                // Its beginning was counted.
                if resumed.starts_with("read ") {
                    calls.read += result(line);
                }
                continue;
            }
            let Some((name, arguments)) = line.split_once('(') else {
                continue;
            };
            *calls.calls.entry(name.to_owned()).or_default() += 1;
            match name {
                "read" => calls.read += result(line),
                "ioctl" => calls.ioctl += ioctl_size(arguments),
                _ => {}
            }
        }
        calls
    }

    /// Returns all calls.
    pub(crate) fn count(&self) -> u64 {
        self.calls.values().sum()
    }
}

/// Returns the value that a call returned; 0 if it failed or has not returned.
fn result(line: &str) -> u64 {
    line.rsplit_once(" = ")
        .and_then(|(_, value)| value.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// Returns the size of the argument of an ioctl of the device, in what follows `ioctl(`.
fn ioctl_size(arguments: &str) -> u64 {
    let inside = arguments
        .split_once("_IOC(")
        .and_then(|(_, rest)| rest.split_once(')'));
    let Some((inside, _)) = inside else {
        return 0;
    };
    let number = |word: &str| u32::from_str_radix(word.trim().trim_start_matches("0x"), 16).ok();
    match inside.split(',').map(number).collect::<Vec<_>>().as_slice() {
        [_, Some(MAGIC), _, Some(size)] => u64::from(*size),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_bytes_are_counted_once() {
        let log = "\
71    read(0, \"\"..., 16384) = 2600
71    ioctl(0, _IOC(_IOC_WRITE, 0xda, 0x21, 0x20), 0x7ffe) = 0
71    read(0,  <unfinished ...>
72    futex(0x1, FUTEX_WAKE_PRIVATE, 1) = 1
71    <... read resumed>\"\"..., 16384) = 400
71    read(0, 0x7ffe, 16384) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
";
        let calls = Calls::parse(log);
        assert_eq!(calls.calls["read"], 3);
        assert_eq!(calls.calls["ioctl"], 1);
        assert_eq!((calls.count(), calls.read, calls.ioctl), (5, 3000, 32));
    }
}
