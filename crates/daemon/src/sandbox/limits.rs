// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sets the resource limits of a worker.
//!
//! Processor time has no limit, since films may be long; the module's watchdog limits each job. The service's
//! control group limits threads.

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, setrlimit};

const MIB: u64 = 1 << 20;
/// Pixels of the largest picture that the module lets a client ask for.
const PIXELS: u64 = 8192 * 8192;
/// Bytes of private memory for each pixel of a picture: three for 10-bit 4:2:0, one for the decoder's own
/// data of the picture (motion vectors, modes).
const BYTES: u64 = 4;
/// Pictures with one thread: 16 references, the current one, its copy with film grain, one spare.
const PICTURES: u64 = 19;
/// Descriptors. Imported buffers keep theirs, and there are at most 64 + 64 * 3 planes. Some may be replaced
/// before the worker learns that the old ones are gone.
const DESCRIPTORS: u64 = 600;
/// From -1000 to 1000: if the machine is out of memory, the kernel kills a worker before its client.
const OOM_SCORE: &str = "500";

/// Sets all limits, soft and hard.
pub(super) fn apply(memory: Option<u64>, threads: u32) -> Result<()> {
    let memory = match memory {
        Some(mib) => mib * MIB,
        None => default_memory(threads, machine_memory()?),
    };
    // Private writable memory. Clients' buffers, which are shared mappings, do not count.
    limit(Resource::Data, memory).context("RLIMIT_DATA")?;
    limit(Resource::Nofile, DESCRIPTORS).context("RLIMIT_NOFILE")?;
    limit(Resource::Core, 0).context("RLIMIT_CORE")?;
    limit(Resource::Memlock, 0).context("RLIMIT_MEMLOCK")?;
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE) {
        tracing::debug!(%error, "oom_score_adj stays");
    }
    Ok(())
}

fn limit(resource: Resource, most: u64) -> rustix::io::Result<()> {
    // A lower limit cannot be raised, and is as good.
    let now = rustix::process::getrlimit(resource);
    let most = Some(now.maximum.map_or(most, |maximum| maximum.min(most)));
    setrlimit(
        resource,
        Rlimit {
            current: most,
            maximum: most,
        },
    )
}

/// Returns the bytes that the largest stream needs, but at most three quarters of the machine's memory.
fn default_memory(threads: u32, machine: u64) -> u64 {
    let largest = (PICTURES + u64::from(threads)) * PIXELS * BYTES;
    largest.min(machine / 4 * 3).max(64 * MIB)
}

/// Returns the bytes of memory of the machine.
fn machine_memory() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    parse_memory(&text).context("no MemTotal in /proc/meminfo")
}

fn parse_memory(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_stream_fits_where_there_is_memory() {
        assert!(default_memory(1, 64 << 30) >= 17 * PIXELS * 3);
        assert_eq!(default_memory(1, 4 << 30), 3 << 30);
        assert_eq!(default_memory(1, 0), 64 * MIB);
    }

    #[test]
    fn the_memory_is_read() {
        let text = "MemTotal:        2048 kB\nMemFree:  1 kB\n";
        assert_eq!(parse_memory(text), Some(2 * MIB));
        assert_eq!(parse_memory(""), None);
        assert!(machine_memory().unwrap() > 64 * MIB);
    }
}
