// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A worker's private memory after a clip, by owner.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use daedalus_uapi::Codec;
use serde::{Deserialize, Serialize};

use super::clips::{self, Kind};
use super::figures::{Bound, Target};
use super::options::Args;
use super::runs::{PATIENT, guest_lines};
use super::table::Table;
use crate::bed::Bed;
use crate::guest::GuestJob;
use crate::guest::paths::in_guest;

/// MiB of memory of the guest: the buffers of a 4K session are some hundred.
const GUEST_MIB: u32 = 4096;

/// Threads of the workers: one, which the targets are for, and as many as `--threads=auto` takes at most.
const THREADS: [u32; 2] = [1, 4];

/// Private pages in KiB, as `daedalus-measure memory` prints them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Owners {
    buffers: u64,
    heap: u64,
    stack: u64,
    anonymous: u64,
    text: BTreeMap<String, u64>,
    data: u64,
    largest: Vec<u64>,
}

/// One session.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    codec: Codec,
    width: u32,
    height: u32,
    bit_depth: u8,
    jobs: usize,
    owners: Owners,
    private: u64,
}

/// One session, and the threads of its worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    threads: u32,
    #[serde(flatten)]
    line: Line,
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Measures.
pub(crate) fn measure(bed: &Bed, args: &Args) -> Result<Vec<Row>> {
    let mut clips = clips::repeated(bed, Kind::Demo("1080p"), args.times(2))?;
    clips.extend(clips::repeated(bed, Kind::TenBit, args.times(4))?);
    clips.extend(clips::repeated(bed, Kind::Large, args.times(4))?);
    let clips: Vec<_> = clips.iter().filter(|clip| args.takes(clip.codec)).collect();
    let mut script = PATIENT.to_owned();
    for threads in THREADS {
        script.push_str(&format!("daedalus_start --threads={threads}\n"));
        for clip in &clips {
            script.push_str(&format!(
                "daedalus-measure memory --clip {} --broker $DAEDALUS_BROKER >>lines.jsonl\n",
                in_guest(bed, &clip.path)?
            ));
        }
        script.push_str("daedalus_stop\n");
    }
    script.push_str("daedalus_unload\n");
    let job = GuestJob::new("bench-memory", &script)
        .mem_mib(GUEST_MIB)
        .timeout(Duration::from_secs(900));
    let lines = guest_lines::<Line>(bed, &job)?;
    ensure!(!lines.is_empty(), "nothing was measured");
    ensure!(
        lines.len() == clips.len() * THREADS.len(),
        "{} lines of {} clips",
        lines.len(),
        clips.len()
    );
    let threads = THREADS
        .iter()
        .flat_map(|threads| clips.iter().map(move |_| *threads));
    let rows = threads.zip(lines).map(|(threads, line)| Row { threads, line });
    Ok(rows.collect())
}

/// The table.
pub(crate) fn tables(rows: &[Row]) -> Vec<Table> {
    let mut table = Table::new(
        "Private memory of a worker after a clip, in MiB, without the client's buffers",
        &[
            "codec",
            "threads",
            "size",
            "bit",
            "pictures",
            "all",
            "mappings without a file",
            "heap",
            "stack",
            "variables",
            "code and constants",
            "largest mappings",
        ],
    );
    for Row { threads, line: row } in rows {
        let owners = &row.owners;
        let cell = |kib: u64| format!("{:.1}", mib(kib));
        let largest: Vec<String> = owners.largest.iter().take(6).map(|kib| cell(*kib)).collect();
        table.row(vec![
            row.codec.to_string(),
            threads.to_string(),
            format!("{}x{}", row.width, row.height),
            row.bit_depth.to_string(),
            row.jobs.to_string(),
            cell(row.private),
            cell(owners.anonymous),
            cell(owners.heap),
            cell(owners.stack),
            cell(owners.data),
            cell(owners.text.values().sum()),
            largest.join(", "),
        ]);
    }
    vec![table]
}

/// Target 6.
pub(crate) fn targets(rows: Option<&[Row]>) -> Vec<Target> {
    let most = |lines: std::ops::Range<u32>| {
        rows.map(|rows| {
            rows.iter()
                .filter(|row| row.threads == 1)
                .map(|row| &row.line)
                .filter(|row| row.bit_depth == 8 && lines.contains(&row.height))
                .map(|row| mib(row.private))
                .fold(0.0, f64::max)
        })
        .filter(|most| *most > 0.0)
    };
    [(1080..1100, "1080p", 40.0), (2160..2200, "4K", 100.0)]
        .into_iter()
        .map(|(lines, name, bound)| Target {
            wish: true,
            ..Target::new(
                format!(
                    "6: MiB of a worker's private memory, {name}, 8 bit, 1 thread, the most of all codecs"
                ),
                Bound::AtMost(bound),
                most(lines),
            )
        })
        .collect()
}
