// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that make something and give it back, or are refused halfway, again and again: nothing of it is
//! left, and the kernel's memory does not grow with the number of rounds.

use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::decoder::{Options as SessionOptions, Plan, Session};
use daedalus_client::device::Nodes;
use daedalus_client::memory::udmabuf;
use daedalus_client::queue::{Backing, Queue};
use daedalus_client::v4l2::{self, BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT};
use serde_json::json;

use super::common::Common;
use super::imports::{expect_import, prepared, queue};
use crate::guest::broker::Broker;
use crate::guest::clip::Clip;
use crate::guest::figures::Figures;
use crate::guest::left::{self, Memory};

/// KiB by which slab may differ between two looks at it: what the kernel keeps per processor.
const SLAB_NOISE_KIB: i64 = 768;
/// The same of available memory, with the free pages of the processors.
const AVAILABLE_NOISE_KIB: i64 = 2 << 10;

/// Looks at the memory until it counts as grown. A look takes 0.6 s.
const LOOKS: usize = 10;

/// Rows of rounds until the memory counts as grown: a leak grows in each, and the kernel's caches do not.
const ROWS: usize = 3;

/// Arguments of `leaks`.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Rounds of each kind, between the first look at the memory and the second; then come three times as
    /// many.
    #[arg(long, default_value_t = 1000)]
    rounds: usize,
    /// Whether the memory must not grow. Not to be asked of a kernel that keeps what was freed (KASAN).
    #[arg(long)]
    growth: bool,
}

/// One kind of round: a session of its own, which is closed at its end.
struct Kind {
    name: &'static str,
    round: fn(&Nodes, &Clip) -> Result<()>,
    /// Of how many rounds one is made: some take long.
    share: usize,
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "refused-qbuf",
        round: refused,
        share: 1,
    },
    Kind {
        name: "requests",
        round: requests,
        share: 1,
    },
    Kind {
        name: "mapped",
        round: mapped,
        share: 1,
    },
    Kind {
        name: "exported",
        round: exported,
        share: 1,
    },
    Kind {
        name: "jobs",
        round: jobs,
        share: 10,
    },
];

/// Runs the scenario.
pub(super) fn run(common: &Common, options: &Options, figures: &mut Figures) -> Result<()> {
    let clips = common.small_clips()?;
    let (broker, nodes) = Broker::start_logged(&common.broker_log, &[])?;
    let mut wrong = Vec::new();
    for kind in &KINDS {
        if let Err(error) = repeated(kind, &nodes, &clips, options, figures) {
            wrong.push(format!("{}: {error:#}", kind.name));
        }
    }
    broker.stop()?;
    if let Err(error) = left::nothing_and_nobody() {
        wrong.push(format!("at the end: {error:#}"));
    }
    figures.set("rounds", options.rounds);
    if !wrong.is_empty() {
        bail!("{}", wrong.join("; "));
    }
    Ok(())
}

/// Repeats one kind of round and compares what is there before and after.
fn repeated(
    kind: &Kind,
    nodes: &Nodes,
    clips: &[Clip],
    options: &Options,
    figures: &mut Figures,
) -> Result<()> {
    let rounds = (options.rounds / kind.share).max(4);
    let before = left::ResourceUsage::now()?;
    let repeat = |count: usize| -> Result<()> {
        for round in 0..count {
            (kind.round)(nodes, &clips[round % clips.len()]).with_context(|| format!("round {round}"))?;
        }
        Ok(())
    };
    // Caches, per-processor lists and the daemon's own memory have their size after this.
    repeat(rounds.div_ceil(2).max(2 * clips.len()))?;
    repeat(rounds)?;
    left::ResourceUsage::back_to(before)?;
    let (mut slab, mut available, mut back, mut rows) = (0, 0, Ok(()), 0);
    while rows < ROWS {
        let first = Memory::settled()?;
        repeat(3 * rounds)?;
        back = left::ResourceUsage::back_to(before);
        (slab, available) = growth(&first)?;
        rows += 1;
        if is_noise(slab, available) || back.is_err() || !options.growth {
            break;
        }
    }
    let after = left::ResourceUsage::now()?;
    figures.set(
        &format!("{}_growth", kind.name),
        json!({
            "rounds": 3 * rounds,
            "rows": rows,
            "slab_kib": slab,
            "unavailable_kib": available,
            "dmabufs": after.dmabufs as i64 - before.dmabufs as i64,
            "dmabuf_bytes": after.bytes as i64 - before.bytes as i64,
        }),
    );
    back?;
    if options.growth {
        ensure!(
            is_noise(slab, available),
            "in each of {rows} rows of {} rounds the kernel's slab and memory grew, in the last one by \
             {slab} and {available} KiB",
            3 * rounds
        );
    }
    Ok(())
}

/// Returns whether so many KiB more slab and less available memory are no growth.
fn is_noise(slab: i64, available: i64) -> bool {
    slab <= SLAB_NOISE_KIB && available <= AVAILABLE_NOISE_KIB
}

/// Returns the KiB by which slab grew since `first`, and available memory shrank. On a busy machine the
/// kernel takes a while to free what was given back: that passes, and a leak does not.
fn growth(first: &Memory) -> Result<(i64, i64)> {
    let (mut slab, mut available) = (i64::MAX, i64::MAX);
    for _ in 0..LOOKS {
        let now = Memory::settled()?;
        slab = slab.min(now.slab - first.slab);
        available = available.min(first.available - now.available);
        if is_noise(slab, available) {
            break;
        }
    }
    Ok((slab, available))
}

/// Makes QBUFs of foreign memory that are refused, on a buffer that had good memory before.
fn refused(nodes: &Nodes, clip: &Clip) -> Result<()> {
    let (device, raw) = prepared(nodes, clip)?;
    let length = raw.plane_fmt[0].size();
    expect_import(&device)?;
    let good = udmabuf(length as usize)?;
    let small = udmabuf(rustix::param::page_size())?;
    queue(&device, good.as_raw_fd(), length).context("QBUF of good memory")?;
    v4l2::stream(device.video(), false, BUF_TYPE_CAPTURE)?;
    ensure!(queue(&device, -1, length).is_err(), "QBUF of no descriptor");
    queue(&device, good.as_raw_fd(), length).context("QBUF of good memory, again")?;
    v4l2::stream(device.video(), false, BUF_TYPE_CAPTURE)?;
    ensure!(
        queue(&device, small.as_raw_fd(), length).is_err(),
        "QBUF of more memory than there is"
    );
    Ok(())
}

/// Makes requests with one control each, and queues none.
fn requests(nodes: &Nodes, clip: &Clip) -> Result<()> {
    let (device, _) = prepared(nodes, clip)?;
    for _ in 0..4 {
        let request = device.request()?;
        device.set_controls(&clip.jobs[0].controls[..1], Some(&request))?;
    }
    Ok(())
}

/// Makes buffers whose mappings outlive them.
fn mapped(nodes: &Nodes, clip: &Clip) -> Result<()> {
    let (device, _) = prepared(nodes, clip)?;
    let mut queue = Queue::new(&device, BUF_TYPE_CAPTURE);
    queue.allocate(3, &Backing::Mmap)?;
    for index in 0..queue.len() {
        for mapping in queue.mappings(index)? {
            mapping.write(0, &[1])?;
        }
    }
    queue.request_buffers(0)?;
    Ok(())
}

/// Makes buffers whose exports outlive them.
fn exported(nodes: &Nodes, clip: &Clip) -> Result<()> {
    let (device, _) = prepared(nodes, clip)?;
    let mut queue = Queue::new(&device, BUF_TYPE_CAPTURE);
    queue.allocate(3, &Backing::Mmap)?;
    let exports = (0..queue.len())
        .map(|index| queue.export(index, 0, true))
        .collect::<Result<Vec<_>, _>>()?;
    for index in 0..queue.len() {
        queue.forget(index)?;
    }
    queue.request_buffers(0)?;
    drop(exports);
    Ok(())
}

/// Closes sessions with jobs in flight: one with buffers of the device, one with imported ones.
fn jobs(nodes: &Nodes, clip: &Clip) -> Result<()> {
    let plan = Plan::new(clip.codec, &clip.jobs);
    for raw in [Backing::Mmap, Backing::Udmabuf] {
        let options = SessionOptions {
            raw,
            hash: false,
            ..SessionOptions::default()
        };
        let mut session = Session::open(nodes, &plan, &options)?;
        for job in &clip.jobs[..3] {
            session.submit(job)?;
        }
    }
    Ok(())
}

/// The OUTPUT and the CAPTURE queue's types.
pub(super) const QUEUES: [u32; 2] = [BUF_TYPE_OUTPUT, BUF_TYPE_CAPTURE];
