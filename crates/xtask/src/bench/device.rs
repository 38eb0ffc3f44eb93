// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Through the device in the guest with one decoding thread, against software in the same guest.

use anyhow::{Result, ensure};
use daedalus_uapi::Codec;
use serde::{Deserialize, Serialize};

use super::clips::{self, Clip, Kind};
use super::figures::{Bound, Spread, Target};
use super::options::Args;
use super::pipelines::{self, DEVICE, DEVICE_COPIED, I420, NV12};
use super::plot::Bar;
use super::runs::{Row as Run, Rows};
use super::table::{Table, names_of_files};
use crate::bed::Bed;
use crate::codecs::element;

/// A clip's frames are played so often in a run.
const TIMES: usize = 4;

/// The device against a peer: ratios, so less than 1 is less than the peer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ratios {
    device: String,
    peer: String,
    wall: Spread,
    /// Of client and worker.
    cpu: Spread,
    /// That, the broker's and the kernel threads'.
    all_cpu: Spread,
}

/// One pipeline by itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PipelineRow {
    name: String,
    /// Seconds of a run.
    wall: Spread,
    user: Spread,
    system: Spread,
    worker: Spread,
    broker: Spread,
    kernel_threads: Spread,
    libraries: Vec<String>,
}

/// What a clip came to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    clip: String,
    codec: Codec,
    mbit: f64,
    frames: usize,
    software: String,
    runs: usize,
    /// Of all pictures as I420, the same of every pipeline in every round.
    checksum: String,
    against: Vec<Ratios>,
    alone: Vec<PipelineRow>,
}

/// Measures.
pub(crate) fn measure(bed: &Bed, args: &Args) -> Result<Vec<Row>> {
    let clips = clips::repeated(bed, Kind::Demo(&args.size), args.times(TIMES))?;
    let clips: Vec<Clip> = clips.into_iter().filter(|clip| args.takes(clip.codec)).collect();
    let measurement = pipelines::Measurement {
        part: "device",
        daemon: "",
        // A run and its proof take about 10 s on an idle machine.
        seconds: 400,
        commands: pipelines::of,
    };
    measurement.measure(bed, args, &clips, row)
}

fn row(clip: &Clip, rows: &Rows, runs: usize) -> Result<Row> {
    let peers = [NV12, I420];
    let devices = [DEVICE, DEVICE_COPIED];
    let names: Vec<&str> = devices.into_iter().chain(peers).collect();
    let checksum = rows.equal_checksum(&names)?;
    for name in devices {
        ensure!(
            rows.of(name)?.iter().all(|row| row.workers > 0.0),
            "{name}: no worker decoded"
        );
    }
    let mut against = Vec::new();
    for device in devices {
        for peer in peers {
            against.push(Ratios {
                device: device.to_owned(),
                peer: peer.to_owned(),
                wall: rows.ratio(device, peer, |row| row.wall)?,
                cpu: rows.ratio(device, peer, Run::cpu)?,
                all_cpu: rows.ratio(device, peer, Run::all_cpu)?,
            });
        }
    }
    let alone = names
        .iter()
        .map(|name| {
            Ok(PipelineRow {
                name: (*name).to_owned(),
                wall: rows.spread(name, |row| row.wall)?,
                user: rows.spread(name, |row| row.user)?,
                system: rows.spread(name, |row| row.system)?,
                worker: rows.spread(name, |row| row.workers)?,
                broker: rows.spread(name, |row| row.broker)?,
                kernel_threads: rows.spread(name, |row| row.kernel_threads)?,
                libraries: names_of_files(&rows.libraries(name)),
            })
        })
        .collect::<Result<_>>()?;
    Ok(Row {
        clip: clip.name.clone(),
        codec: clip.codec,
        mbit: clip.mbit,
        frames: clip.frames,
        software: element(clip.codec).to_owned(),
        runs,
        checksum,
        against,
        alone,
    })
}

/// The tables.
pub(crate) fn tables(rows: &[Row]) -> Vec<Table> {
    let mut ratios = Table::new(
        "Through the device, one decoding thread, against software in the same guest",
        &[
            "clip",
            "Mbit/s",
            "frames",
            "runs",
            "device",
            "against",
            "wall",
            "CPU, client + worker",
            "and broker, kernel threads",
        ],
    );
    let mut alone = Table::new(
        "The same runs by themselves: medians, in seconds of the guest",
        &[
            "clip",
            "pipeline",
            "wall",
            "client user",
            "client system",
            "worker",
            "broker",
            "kernel threads",
            "libraries",
        ],
    );
    for row in rows {
        for against in &row.against {
            ratios.row(vec![
                row.clip.clone(),
                format!("{:.1}", row.mbit),
                row.frames.to_string(),
                row.runs.to_string(),
                against.device.clone(),
                format!("{} ({})", against.peer, row.software),
                against.wall.text(),
                against.cpu.text(),
                against.all_cpu.text(),
            ]);
        }
        for one in &row.alone {
            let seconds = |spread: &Spread| format!("{:.2}", spread.median);
            alone.row(vec![
                row.clip.clone(),
                one.name.clone(),
                seconds(&one.wall),
                seconds(&one.user),
                seconds(&one.system),
                seconds(&one.worker),
                seconds(&one.broker),
                seconds(&one.kernel_threads),
                one.libraries.join(", "),
            ]);
        }
    }
    vec![ratios, alone]
}

/// Target 3.
pub(crate) fn targets(rows: Option<&[Row]>) -> Vec<Target> {
    let mut targets = Vec::new();
    for codec in Codec::ALL {
        for (peer, bound) in [(NV12, Bound::AtMost(0.9)), (I420, Bound::AtMost(1.1))] {
            let against = rows
                .and_then(|rows| rows.iter().find(|row| row.clip == format!("{codec}-1080p")))
                .and_then(|row| {
                    row.against
                        .iter()
                        .find(|one| one.device == DEVICE && one.peer == peer)
                });
            let software = element(*codec);
            for (what, figure) in [
                ("wall", against.map(|one| one.wall.median)),
                ("client + worker CPU", against.map(|one| one.cpu.median)),
            ] {
                targets.push(Target::new(
                    format!(
                        "3: {} through the device, {what}, of {peer} ({software})",
                        codec.title()
                    ),
                    bound,
                    figure,
                ));
            }
        }
    }
    targets
}

/// The plot's bars.
pub(crate) fn bars(rows: &[Row]) -> Vec<Bar> {
    let mut bars = Vec::new();
    for row in rows {
        for one in row.against.iter().filter(|one| one.device == DEVICE) {
            let target = if one.peer == NV12 { 0.9 } else { 1.1 };
            for (what, spread) in [("wall", one.wall), ("CPU", one.cpu)] {
                bars.push(Bar {
                    label: format!("{}, {what}, of {}", row.clip, one.peer),
                    spread,
                    target: Some(target),
                });
            }
        }
    }
    bars
}
