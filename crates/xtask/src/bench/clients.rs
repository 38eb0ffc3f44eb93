// SPDX-License-Identifier: Apache-2.0 OR MIT
//! 1, 4 and 16 clients at once through the device, against as many software pipelines in the same guest.

use std::time::Duration;

use anyhow::{Context, Result};
use daedalus_uapi::Codec;
use serde::{Deserialize, Serialize};

use super::clips::{self, Clip, Kind};
use super::figures::{Bound, Spread, Target};
use super::options::Args;
use super::pipelines::{self, DEVICE, NV12};
use super::plot::Bar;
use super::runs::{Plan, Row as Run, Rows};
use super::table::Table;
use crate::bed::Bed;
use crate::codecs::element;
use crate::guest::{self, GuestJob};

/// How many at once.
const CLIENTS: [usize; 3] = [1, 4, 16];
/// A clip's frames are played so often in a run.
const TIMES: usize = 4;
/// MiB of memory of the guest: 16 sessions' buffers, workers and clients.
const GUEST_MIB: u32 = 4096;

/// So many clients of a clip.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    codec: Codec,
    /// What the pipelines without the device make.
    peer: String,
    software: String,
    clients: usize,
    frames: usize,
    runs: usize,
    /// Frames per second of all, device over software in the same round: more is better.
    ratio: Spread,
    /// Processor time of all, device over software.
    cpu: Spread,
    /// Frames per second of all.
    device: Spread,
    software_fps: Spread,
    /// The slowest client's frames per second over their mean, device.
    slowest: Spread,
}

fn named(name: &str, clients: usize) -> String {
    format!("{name}, {clients}")
}

/// Measures.
pub(crate) fn measure(bed: &Bed, args: &Args) -> Result<Vec<Row>> {
    let clips = clips::repeated(bed, Kind::Demo("360p"), args.times(TIMES))?;
    let clips: Vec<Clip> = clips.into_iter().filter(|clip| args.takes(clip.codec)).collect();
    let mut script = pipelines::begin(bed, "")?;
    for clip in &clips {
        let entries = pipelines::of(clip, &pipelines::place(clip)?)?;
        let mut commands = Vec::new();
        for clients in CLIENTS {
            for name in [DEVICE, NV12] {
                let entry = entries.iter().find(|entry| entry.name == name);
                let mut entry = entry
                    .with_context(|| format!("no {name}"))?
                    .clone()
                    .copies(clients);
                entry.name = named(name, clients);
                commands.push(entry);
            }
        }
        let plan = Plan {
            runs: args.runs,
            commands,
        };
        pipelines::alternate(bed, &mut script, "clients", clip, &plan)?;
    }
    script.push_str("daedalus_stop\ndaedalus_unload\n");
    let timeout = Duration::from_secs(300 + 500 * (args.runs as u64 + 1));
    let job = GuestJob::new("bench-clients", &script)
        .cpus(args.cpus)
        .mem_mib(GUEST_MIB)
        .timeout(timeout);
    let result = guest::run(bed, &job)?;
    result.judge()?;
    let mut all = Vec::new();
    for clip in &clips {
        let rows = pipelines::rows(&result.out_dir, clip)?;
        for clients in CLIENTS {
            all.push(
                row(clip, clients, &rows, args.runs).with_context(|| format!("{}, {clients}", clip.name))?,
            );
        }
    }
    Ok(all)
}

fn row(clip: &Clip, clients: usize, rows: &Rows, runs: usize) -> Result<Row> {
    let (device, software) = (named(DEVICE, clients), named(NV12, clients));
    rows.equal_checksum(&[&device, &software])?;
    let frames = clip.frames as f64;
    let fps = |row: &Run| frames * clients as f64 / row.wall;
    Ok(Row {
        codec: clip.codec,
        peer: NV12.to_owned(),
        software: element(clip.codec).to_owned(),
        clients,
        frames: clip.frames,
        runs,
        ratio: rows.ratio(&device, &software, fps)?,
        cpu: rows.ratio(&device, &software, Run::cpu)?,
        device: rows.spread(&device, fps)?,
        software_fps: rows.spread(&software, fps)?,
        slowest: rows.spread(&device, |row| {
            let all: Vec<f64> = row.each.iter().map(|seconds| frames / seconds).collect();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            all.iter().copied().fold(f64::INFINITY, f64::min) / mean
        })?,
    })
}

/// The table.
pub(crate) fn tables(rows: &[Row]) -> Vec<Table> {
    let mut table = Table::new(
        "Clients of 640x360 at once: frames per second of all, through the device and by software",
        &[
            "codec",
            "clients",
            "runs",
            "against",
            "device",
            "software",
            "ratio",
            "CPU",
            "slowest / mean",
        ],
    );
    for row in rows {
        table.row(vec![
            row.codec.title().to_owned(),
            row.clients.to_string(),
            row.runs.to_string(),
            format!("{} ({})", row.peer, row.software),
            format!("{:.0}", row.device.median),
            format!("{:.0}", row.software_fps.median),
            row.ratio.text(),
            row.cpu.text(),
            row.slowest.text(),
        ]);
    }
    vec![table]
}

/// Target 5.
pub(crate) fn targets(rows: Option<&[Row]>) -> Vec<Target> {
    let mut targets = Vec::new();
    for codec in Codec::ALL {
        let row = rows.and_then(|rows| rows.iter().find(|row| row.codec == *codec && row.clients == 16));
        let name = codec.title();
        targets.push(Target::new(
            format!(
                "5: {name}, 16 clients, frames per second of all, of software's ({}, {})",
                NV12,
                element(*codec)
            ),
            Bound::AtLeast(0.9),
            row.map(|row| row.ratio.median),
        ));
        targets.push(Target::new(
            format!("5: {name}, 16 clients, the slowest of the mean"),
            Bound::AtLeast(0.5),
            row.map(|row| row.slowest.median),
        ));
    }
    targets
}

/// The plot's bars.
pub(crate) fn bars(rows: &[Row]) -> Vec<Bar> {
    rows.iter()
        .map(|row| Bar {
            label: format!(
                "{}, {} of {} ({})",
                row.codec.title().to_owned(),
                row.clients,
                row.peer,
                row.software
            ),
            spread: row.ratio,
            target: (row.clients == 16).then_some(0.9),
        })
        .collect()
}
