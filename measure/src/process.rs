// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads /proc about processes, and waits for one with its use of the processor.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The name of a worker's process.
const WORKER: &str = "daedalus-worker";
/// The kernel's own threads are this process's children.
const KTHREADD: u32 = 2;
/// Time that the broker may need to reap its workers.
const REAPED: Duration = Duration::from_secs(10);

/// The times in `/proc/PID/stat`, in seconds: multiples of a tick, which is 10 ms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Times {
    parent: u32,
    /// Of the process itself.
    pub(crate) own: f64,
    /// Of its children that have ended and were waited for.
    pub(crate) children: f64,
}

impl Times {
    /// Of a process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let tick = rustix::param::clock_ticks_per_second() as f64;
        Self::parse(&text, tick).with_context(|| format!("{path} is not understood"))
    }

    fn parse(text: &str, tick: f64) -> Option<Self> {
        // The name may hold anything, also a bracket.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let sum = |at: usize| {
            let ticks: u64 =
                fields.get(at)?.parse::<u64>().ok()? + fields.get(at + 1)?.parse::<u64>().ok()?;
            Some(ticks as f64 / tick)
        };
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: sum(11)?,
            children: sum(13)?,
        })
    }
}

/// Returns the processes that there are.
fn all() -> Result<impl Iterator<Item = u32>> {
    Ok(fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()))
}

/// Returns the workers of a broker: its children but for the process that they are forked from.
pub(crate) fn workers(broker: u32) -> Result<Vec<u32>> {
    let is_worker = |pid: u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim_end() == WORKER)
    };
    Ok(all()?
        .filter(|pid| Times::of(*pid).is_ok_and(|times| times.parent == broker) && is_worker(*pid))
        .collect())
}

/// Returns the time that the kernel's own threads have used, in seconds.
pub(crate) fn kernel_threads() -> Result<f64> {
    Ok(all()?
        .filter_map(|pid| Times::of(pid).ok())
        .filter(|times| times.parent == KTHREADD)
        .map(|times| times.own)
        .sum())
}

/// Waits until a broker has no worker any more: its children's time is complete then.
pub(crate) fn no_worker(broker: u32) -> Result<()> {
    let end = Instant::now() + REAPED;
    while !workers(broker)?.is_empty() {
        ensure!(Instant::now() < end, "a worker does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Returns the one worker of a broker.
pub(crate) fn worker(broker: u32) -> Result<u32> {
    match workers(broker)?.as_slice() {
        [worker] => Ok(*worker),
        several => bail!("the broker has {} workers, not one", several.len()),
    }
}

/// Returns the decoder libraries that a process has mapped.
pub(crate) fn libraries(pid: u32) -> BTreeSet<String> {
    // It may have ended.
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.contains("/libavcodec.so") || path.contains("/libdav1d.so"))
        .map(str::to_owned)
        .collect()
}

/// Processor time of a living process with all its threads, in seconds.
pub(crate) fn runtime(pid: u32) -> Result<f64> {
    let mut clock = 0;
    // SAFETY: the pointer is to a variable of the type that the call writes.
    let status = unsafe { libc::clock_getcpuclockid(libc::pid_t::try_from(pid)?, &raw mut clock) };
    ensure!(
        status == 0,
        "process {pid} has no clock: {}",
        std::io::Error::from_raw_os_error(status)
    );
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a variable of the type that the call writes.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("the clock of process {pid}"));
    }
    Ok(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

/// A child that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChildExit {
    pub(crate) pid: u32,
    /// Its exit status; `None` if a signal ended it.
    pub(crate) status: Option<i32>,
    /// Processor time in seconds.
    pub(crate) user: f64,
    pub(crate) system: f64,
}

/// Waits for any child of this process.
pub(crate) fn wait() -> Result<ChildExit> {
    let mut status = 0;
    // SAFETY: rusage is a structure of integers, for which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let pid = loop {
        // SAFETY: both pointers are to variables of the types that the call writes.
        let pid = unsafe { libc::wait4(-1, &raw mut status, 0, &raw mut usage) };
        if pid > 0 {
            break pid;
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error).context("wait4");
        }
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(ChildExit {
        pid: u32::try_from(pid)?,
        status: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        user: seconds(usage.ru_utime),
        system: seconds(usage.ru_stime),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_are_passed_over() {
        let text = "7 (a) b (c) S 2 1 1 0 -1 0 0 0 0 0 30 12 5 1 20 0 1";
        let times = Times::parse(text, 100.0).unwrap();
        assert_eq!(
            times,
            Times {
                parent: 2,
                own: 0.42,
                children: 0.06
            }
        );
        assert_eq!(Times::parse("7 (a) S 2", 100.0), None);
    }

    #[test]
    fn a_child_comes_with_its_status_and_its_time() {
        let child = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn();
        let pid = child.unwrap().id();
        let ended = wait().unwrap();
        assert_eq!((ended.pid, ended.status), (pid, Some(3)));
        assert!(ended.user + ended.system < 10.0);
        assert!(runtime(std::process::id()).unwrap() > 0.0);
    }
}
