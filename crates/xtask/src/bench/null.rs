// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a job costs beside decoding: the daemon with `--backend=null`, a small client, strace on the worker.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use daedalus_uapi::Codec;
use serde::{Deserialize, Serialize};

use super::clips::{self, Kind};
use super::figures::{Bound, Target, quantile};
use super::options::Args;
use super::runs::{PATIENT, guest_lines};
use super::table::Table;
use crate::bed::Bed;
use crate::guest::GuestJob;
use crate::guest::paths::in_guest;

/// What `daedalus-measure jobs` prints.
#[derive(Deserialize)]
struct Line {
    codec: Codec,
    width: u32,
    height: u32,
    depth: usize,
    jobs: usize,
    seconds: f64,
    latencies: Vec<f64>,
    worker: f64,
    client: f64,
    traced: u64,
    strace: Calls,
}

#[derive(Deserialize)]
struct Calls {
    calls: BTreeMap<String, u64>,
    read: u64,
    ioctl: u64,
}

/// What a job costs at one size and depth; times in µs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    codec: Codec,
    width: u32,
    height: u32,
    depth: usize,
    jobs: usize,
    per_second: f64,
    per_job: f64,
    /// From the client's first call for a job to the return of its buffers: median, 90, 99 and 100 %.
    latency: Option<[f64; 4]>,
    /// Processor time per job.
    worker: f64,
    client: f64,
    /// System calls of the worker per job, and by name for all that were traced.
    calls: f64,
    calls_by_name: BTreeMap<String, u64>,
    /// Per job.
    read_bytes: f64,
    ioctl_bytes: f64,
}

impl Row {
    fn bytes(&self) -> f64 {
        self.read_bytes + self.ioctl_bytes
    }
}

/// Measures.
pub(crate) fn measure(bed: &Bed, args: &Args) -> Result<Vec<Row>> {
    let mut clips = clips::repeated(bed, Kind::Demo("qvga"), 1)?;
    clips.extend(clips::repeated(bed, Kind::Demo("1080p"), 1)?);
    let mut script = PATIENT.to_owned() + "daedalus_start --backend=null --threads=1\n";
    for clip in clips.iter().filter(|clip| args.takes(clip.codec)) {
        script.push_str(&format!(
            "daedalus-measure jobs --clip {} --broker $DAEDALUS_BROKER --strace /tmp/strace.log \
             >>lines.jsonl\n",
            in_guest(bed, &clip.path)?
        ));
    }
    script.push_str("daedalus_stop\ndaedalus_unload\n");
    let job = GuestJob::new("bench-null", &script).timeout(Duration::from_secs(900));
    let rows: Vec<Row> = guest_lines::<Line>(bed, &job)?
        .into_iter()
        .map(row)
        .collect::<Result<_>>()?;
    ensure!(!rows.is_empty(), "nothing was measured");
    Ok(rows)
}

fn row(line: Line) -> Result<Row> {
    ensure!(line.jobs > 0 && line.traced > 0, "no jobs");
    let (jobs, traced) = (line.jobs as f64, line.traced as f64);
    let mut latencies = line.latencies;
    latencies.sort_by(f64::total_cmp);
    let latency =
        (!latencies.is_empty()).then(|| [0.5, 0.9, 0.99, 1.0].map(|part| quantile(&latencies, part)));
    Ok(Row {
        codec: line.codec,
        width: line.width,
        height: line.height,
        depth: line.depth,
        jobs: line.jobs,
        per_second: jobs / line.seconds,
        per_job: line.seconds / jobs * 1e6,
        latency,
        worker: line.worker / jobs * 1e6,
        client: line.client / jobs * 1e6,
        calls: line.strace.calls.values().sum::<u64>() as f64 / traced,
        calls_by_name: line.strace.calls,
        read_bytes: line.strace.read as f64 / traced,
        ioctl_bytes: line.strace.ioctl as f64 / traced,
    })
}

/// The tables.
pub(crate) fn tables(rows: &[Row]) -> Vec<Table> {
    let mut table = Table::new(
        "A job without decoding (`--backend=null`)",
        &[
            "codec",
            "size",
            "in flight",
            "jobs",
            "jobs/s",
            "µs per job",
            "latency 50 %",
            "90 %",
            "99 %",
            "worker µs",
            "client µs",
        ],
    );
    let mut calls = Table::new(
        "The worker's system calls and bytes of a steady-state job (strace)",
        &[
            "codec",
            "size",
            "in flight",
            "calls",
            "of which",
            "bytes read",
            "bytes of ioctls",
        ],
    );
    for row in rows {
        let size = format!("{}x{}", row.width, row.height);
        let latency = |at: usize| {
            row.latency
                .map_or_else(|| "-".into(), |all| format!("{:.0}", all[at]))
        };
        table.row(vec![
            row.codec.to_string(),
            size.clone(),
            row.depth.to_string(),
            row.jobs.to_string(),
            format!("{:.0}", row.per_second),
            format!("{:.0}", row.per_job),
            latency(0),
            latency(1),
            latency(2),
            format!("{:.0}", row.worker),
            format!("{:.0}", row.client),
        ]);
        let names: Vec<String> = row
            .calls_by_name
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        calls.row(vec![
            row.codec.to_string(),
            size,
            row.depth.to_string(),
            format!("{:.2}", row.calls),
            names.join(", "),
            format!("{:.0}", row.read_bytes),
            format!("{:.0}", row.ioctl_bytes),
        ]);
    }
    vec![table, calls]
}

/// Target 4.
pub(crate) fn targets(rows: Option<&[Row]>) -> Vec<Target> {
    let most = |figure: fn(&Row) -> f64| {
        rows.map(|rows| rows.iter().map(figure).fold(0.0, f64::max))
            .filter(|most| *most > 0.0)
    };
    vec![
        Target::new(
            "4: the worker's system calls per job, null backend, the most of all".into(),
            Bound::AtMost(3.0),
            most(|row| row.calls),
        ),
        Target::new(
            "4: bytes per job through the character device, the most of all".into(),
            Bound::AtMost(8192.0),
            most(Row::bytes),
        ),
    ]
}
