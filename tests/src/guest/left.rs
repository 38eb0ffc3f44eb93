// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The buffers, requests, sessions and processes that are left when nobody uses the device any more, and the
//! kernel's memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::debugfs;
use super::process::pids;

/// The list of all dmabufs in the kernel.
const BUFINFO: &str = "/sys/kernel/debug/dma_buf/bufinfo";
/// How long things that nobody uses may take to go: workers end, work items run, a grace period of RCU
/// passes.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the names of the project's processes begin with.
const OWN: &str = "daedalus";

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceUsage {
    /// Dmabufs in the kernel, whoever made them.
    pub(crate) dmabufs: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Bytes that the module has charged to sessions.
    pub(crate) memory: u64,
    /// Requests; `None` if the module does not count them.
    pub(crate) requests: Option<u64>,
    /// Sessions.
    pub(crate) sessions: u64,
}

impl ResourceUsage {
    /// Reads what there is now.
    ///
    /// # Errors
    ///
    /// When debugfs cannot be read.
    pub(crate) fn now() -> Result<Self> {
        let text = std::fs::read_to_string(BUFINFO).with_context(|| format!("cannot read {BUFINFO}"))?;
        let (dmabufs, bytes) = total(&text).with_context(|| format!("no total in {BUFINFO}"))?;
        Ok(Self {
            dmabufs,
            bytes,
            memory: debugfs::stat("memory")?,
            requests: debugfs::stat("requests").ok(),
            sessions: debugfs::stat("sessions")?,
        })
    }

    /// Returns what there is when nobody uses the device.
    fn nothing() -> Self {
        Self {
            requests: Some(0),
            ..Self::default()
        }
    }

    /// Waits until there is what there was at `before`.
    ///
    /// # Errors
    ///
    /// What is there besides.
    pub(crate) fn back_to(before: Self) -> Result<()> {
        let start = Instant::now();
        loop {
            let now = Self::now()?;
            if now == before {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                bail!("{}", difference(before, now));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Says in words what is there now and was not before.
fn difference(before: ResourceUsage, now: ResourceUsage) -> String {
    let mut words = Vec::new();
    for (what, before, now) in [
        ("dmabufs", before.dmabufs, now.dmabufs),
        ("bytes of dmabufs", before.bytes, now.bytes),
        ("bytes charged by the module", before.memory, now.memory),
        ("sessions", before.sessions, now.sessions),
    ] {
        if before != now {
            words.push(format!("{now} {what}, not {before}"));
        }
    }
    match (before.requests, now.requests) {
        (_, None) => words.push("requests, which the module does not count".into()),
        (before, now) if before != now => {
            words.push(format!(
                "{} requests, not {}",
                now.unwrap_or_default(),
                before.unwrap_or_default()
            ));
        }
        _ => {}
    }
    format!("left behind: {}", words.join("; "))
}

/// Waits until there are no dmabufs, no charged memory, no requests and no sessions.
///
/// # Errors
///
/// What is left.
pub(crate) fn nothing() -> Result<()> {
    ResourceUsage::back_to(ResourceUsage::nothing())
}

/// Waits for the same as [`nothing`], and until no process of a daemon or of a client is there but this one.
///
/// # Errors
///
/// What is left.
pub(crate) fn nothing_and_nobody() -> Result<()> {
    let start = Instant::now();
    loop {
        let others = processes()?;
        if others.is_empty() {
            return nothing();
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "processes are left: {}",
            others.join(", ")
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Lists the project's processes but this one. Zombies are none.
fn processes() -> Result<Vec<String>> {
    let own = std::process::id();
    let mut found = Vec::new();
    for pid in pids()? {
        // It may end meanwhile.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((comm, state)) = name_and_state(&stat) else {
            continue;
        };
        if pid != own && comm.starts_with(OWN) && !matches!(state, 'Z' | 'X') {
            found.push(format!("{comm} {pid} ({state})"));
        }
    }
    Ok(found)
}

/// Reads a process's name and the letter of its state from the text of /proc/PID/stat.
fn name_and_state(stat: &str) -> Option<(&str, char)> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, comm) = before.split_once('(')?;
    Some((comm, after.trim_start().chars().next()?))
}

/// Reads the last line of `bufinfo`, `Total N objects, M bytes`.
pub(crate) fn total(bufinfo: &str) -> Option<(u64, u64)> {
    let line = bufinfo.lines().rev().find(|line| line.starts_with("Total "))?;
    let mut words = line.split_whitespace().skip(1);
    let objects = words.next()?.parse().ok()?;
    let bytes = words.nth(1)?.parse().ok()?;
    Some((objects, bytes))
}

/// The kernel's memory, in KiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Slab that cannot be reclaimed.
    pub(crate) slab: i64,
    /// Memory that programs can have, and free pages that are on the processors' own lists. The kernel does
    /// not count those as available, and lets the lists grow with the pages that are freed at once.
    pub(crate) available: i64,
}

impl Memory {
    /// Reads it as it is.
    ///
    /// # Errors
    ///
    /// When /proc/meminfo or /proc/zoneinfo cannot be read.
    pub(crate) fn now() -> Result<Self> {
        let meminfo = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
        let zoneinfo = std::fs::read_to_string("/proc/zoneinfo").context("cannot read /proc/zoneinfo")?;
        let page = i64::try_from(rustix::param::page_size() >> 10)?;
        Ok(Self {
            slab: field(&meminfo, "SUnreclaim:")?,
            available: field(&meminfo, "MemAvailable:")? + processor_lists(&zoneinfo) * page,
        })
    }

    /// Drops caches, waits for what was freed lately, and reads it: the best of some times.
    ///
    /// # Errors
    ///
    /// As [`Memory::now`], and when caches cannot be dropped.
    pub(crate) fn settled() -> Result<Self> {
        let mut best = Self {
            slab: i64::MAX,
            available: i64::MIN,
        };
        for _ in 0..4 {
            std::fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop caches")?;
            std::thread::sleep(Duration::from_millis(150));
            let now = Self::now()?;
            best.slab = best.slab.min(now.slab);
            best.available = best.available.max(now.available);
        }
        Ok(best)
    }
}

/// Reads from the text of /proc/zoneinfo how many free pages are on the processors' lists.
fn processor_lists(zoneinfo: &str) -> i64 {
    let counts = zoneinfo
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("count:"));
    counts.filter_map(|count| count.trim().parse::<i64>().ok()).sum()
}

/// Reads a number of KiB from the text of /proc/meminfo.
fn field(meminfo: &str, name: &str) -> Result<i64> {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        .with_context(|| format!("/proc/meminfo has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_dmabufs_is_read() {
        let text = "\nDma-buf Objects:\nsize\tflags\n00004096\t00000002\nTotal 2 objects, 3141632 bytes\n";
        assert_eq!(total(text), Some((2, 3_141_632)));
        assert_eq!(total("Total"), None);
    }

    #[test]
    fn what_is_left_is_named() {
        let now = ResourceUsage {
            dmabufs: 2,
            bytes: 4096,
            ..ResourceUsage::nothing()
        };
        let words = difference(ResourceUsage::nothing(), now);
        assert!(
            words.contains("2 dmabufs, not 0") && words.contains("4096 bytes"),
            "{words}"
        );
        let uncounted = difference(ResourceUsage::nothing(), ResourceUsage::default());
        assert!(uncounted.contains("does not count"), "{uncounted}");
    }

    #[test]
    fn names_with_parentheses_are_read() {
        assert_eq!(name_and_state("7 (a (b) c) S 1"), Some(("a (b) c", 'S')));
        assert_eq!(name_and_state(""), None);
    }

    #[test]
    fn pages_on_the_processors_lists_are_counted() {
        let text = "Node 0, zone Normal\n  pages free 5\n  pagesets\n    cpu: 0\n              count:    \
                    12\n              high:     9\n    cpu: 1\n              count:    30\n";
        assert_eq!(processor_lists(text), 42);
    }

    #[test]
    fn meminfo_is_read() {
        let text = "MemAvailable:    1234 kB\nSUnreclaim:  56 kB\n";
        assert_eq!(field(text, "SUnreclaim:").unwrap(), 56);
        assert!(field(text, "Slab:").is_err());
    }
}
