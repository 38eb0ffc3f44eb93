// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A daemon that nobody needs: no process of it wakes, and a client that only looks at the device gets no
//! worker. The kernel counts how often a thread slept (`voluntary_ctxt_switches` in proc(5)): a thread that
//! sleeps throughout is not counted again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daedalus_client::device::{Device, Nodes};
use daedalus_client::v4l2::{BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT, PixFormatMplane};

use super::common::Common;
use super::long::kib;
use super::sessions::workers;
use crate::guest::broker::Broker;
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::process::{pids, voluntary_switches};

/// How long the daemon may be busy with its start.
const START: Duration = Duration::from_secs(3);

/// Arguments of `idle`.
#[derive(Debug, clap::Args)]
pub(super) struct IdleArgs {
    /// Seconds for which the daemon is watched.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// A thread's number, and how often it slept.
type Sleeps = BTreeMap<u32, u64>;

/// Returns the processes whose parent is `pid`, and `pid` itself, which comes first.
fn family(pid: u32) -> Result<Vec<u32>> {
    let mut found = vec![pid];
    for process in pids()? {
        // It may end meanwhile.
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if parent.and_then(|parent| parent.trim().parse().ok()) == Some(pid) {
            found.push(process);
        }
    }
    Ok(found)
}

/// Returns the threads of a process.
fn threads(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task");
    let entries = std::fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect())
}

/// Returns how often each thread of these processes slept.
fn sleeps(processes: &[u32]) -> Result<Sleeps> {
    let mut found = Sleeps::new();
    for process in processes {
        for thread in threads(*process)? {
            let path = format!("/proc/{process}/task/{thread}/status");
            let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            let count = voluntary_switches(&status).with_context(|| format!("{path} counts no switches"))?;
            found.insert(thread, count);
        }
    }
    Ok(found)
}

/// Asks for everything that a client asks before it decides whether it uses the device.
fn probe(nodes: &Nodes) -> Result<usize> {
    let device = Device::open(nodes, false)?;
    device.capability()?;
    let coded = device.formats(BUF_TYPE_OUTPUT)?;
    for format in &coded {
        let (width, height) = device.largest(*format)?;
        let asked = PixFormatMplane {
            pixelformat: *format,
            width,
            height,
            num_planes: 1,
            ..Default::default()
        };
        device.set_format(BUF_TYPE_OUTPUT, asked)?;
        device.formats(BUF_TYPE_CAPTURE)?;
        device.format(BUF_TYPE_CAPTURE)?;
        let workers = workers()?;
        ensure!(workers.is_empty(), "a client that only looks has a worker");
    }
    Ok(coded.len())
}

/// Watches a daemon without sessions, and one whose clients only look.
pub(super) fn idle(common: &Common, args: &IdleArgs, figures: &mut Figures) -> Result<()> {
    let (broker, nodes) = Broker::start(common)?;
    for _ in 0..8 {
        figures.set("formats", probe(&nodes)?);
    }
    ensure!(
        workers()?.is_empty() && debugfs::own_sessions()?.is_empty(),
        "clients that only looked have left a session or a worker"
    );

    std::thread::sleep(START);
    let processes = family(broker.id())?;
    ensure!(
        processes.len() == 2,
        "the daemon has {} processes, not a broker and a fork server",
        processes.len()
    );
    let before = sleeps(&processes)?;
    std::thread::sleep(Duration::from_secs(args.seconds));
    let after = sleeps(&processes)?;
    ensure!(
        before == after,
        "a daemon that nobody needs woke within {} s: threads slept {before:?} times before, {after:?} after",
        args.seconds
    );
    figures.set("seconds_asleep", args.seconds);
    figures.set("threads", before.len());
    for (process, name) in processes.iter().zip(["broker", "fork_server"]) {
        let path = format!("/proc/{process}/smaps_rollup");
        let rollup = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let pss = kib(&rollup, "Pss:");
        ensure!(pss > 0, "the {name} has no memory");
        figures.set(&format!("{name}_pss_kib"), pss);
    }
    broker.stop()?;
    Ok(())
}
