// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Through the stateful node in the guest with one decoding thread, against software in the same program:
//! FFmpeg and GStreamer, both with NV12.

use std::path::Path;

use anyhow::{Result, ensure};
use daedalus_uapi::Codec;
use serde::{Deserialize, Serialize};

use super::clips::{self, Clip, Kind};
use super::engine;
use super::figures::{Bound, Spread, Target};
use super::options::Args;
use super::pipelines;
use super::runs::{Entry, Row as Run, Rows};
use super::table::{Table, names_of_files};
use crate::bed::Bed;

/// A clip's frames are played so often in a run.
const TIMES: usize = 4;

/// A comparison within one program.
struct Comparison {
    /// The program, and the part of the clip.
    name: &'static str,
    /// Bounds of wall time and of processor time; `None`: the time is not of interest.
    wall: f64,
    cpu: Option<f64>,
}

const FFMPEG: Comparison = Comparison {
    name: "FFmpeg",
    wall: 1.0,
    cpu: Some(1.05),
};
const GSTREAMER: Comparison = Comparison {
    name: "GStreamer",
    wall: 1.0,
    cpu: Some(1.05),
};
const FIRST_PICTURE: Comparison = Comparison {
    name: "FFmpeg, first picture",
    wall: 1.5,
    cpu: None,
};
const COMPARISONS: [&Comparison; 3] = [&FFMPEG, &GSTREAMER, &FIRST_PICTURE];

impl Comparison {
    fn device(&self) -> String {
        format!("{}, stateful node", self.name)
    }

    fn software(&self) -> String {
        format!("{}, software", self.name)
    }
}

/// The node against the software of the same program: ratios, so less than 1 is less than software.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ratios {
    comparison: String,
    wall: Spread,
    /// Of client and worker.
    cpu: Spread,
    /// That, the broker's and the kernel threads'.
    all_cpu: Spread,
    /// Seconds of a run through the node.
    seconds: Spread,
    libraries: Vec<String>,
}

/// What a clip came to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    clip: String,
    codec: Codec,
    mbit: f64,
    frames: usize,
    runs: usize,
    against: Vec<Ratios>,
}

/// Returns FFmpeg's decoder of a codec for stateful devices.
fn decoder(codec: Codec) -> String {
    format!("{codec}_v4l2m2m")
}

/// Returns the codecs that both programs decode through stateful devices: FFmpeg's, for GStreamer has
/// elements for the same ones.
fn codecs(bed: &Bed) -> Result<Vec<Codec>> {
    let listing = bed
        .command("ffmpeg")?
        .args(["-hide_banner", "-v", "error", "-decoders"])
        .output()?;
    let is_listed = |codec: &&Codec| {
        let name = decoder(**codec);
        listing.split_whitespace().any(|word| word == name)
    };
    Ok(Codec::ALL.iter().filter(is_listed).copied().collect())
}

/// Returns the commands for a clip at `path` in the guest.
fn commands(clip: &Clip, path: &str) -> Result<Vec<Entry>> {
    let place = Path::new(path);
    let input = format!("-c:v {} -i {path} -fps_mode passthrough", decoder(clip.codec));
    let device = format!("ffmpeg -v error -nostdin {input} -f null -");
    let software = engine::ffmpeg(clip, place, 1, Some(engine::format(clip.depth)));
    let first = |command: &str| command.replace(" -f null", " -frames:v 1 -f null");
    let sums = "/tmp/pictures.md5";
    let sum = |command: &str| command.replace("-f null -", &format!("-pix_fmt nv12 -y -f md5 {sums}"));
    let ffmpeg = |name: String, command: &str| Entry::new(&name, command).proof(&sum(command), Some(sums));

    let gst = |name: String, rest: &str| pipelines::pipeline(clip, path, &name, rest);
    Ok(vec![
        ffmpeg(FFMPEG.device(), &device),
        ffmpeg(FFMPEG.software(), &software),
        gst(
            GSTREAMER.device(),
            &format!("v4l2{}dec", clip.codec.info().gstreamer_name),
        ),
        gst(GSTREAMER.software(), &pipelines::software_nv12(clip.codec)?),
        ffmpeg(FIRST_PICTURE.device(), &first(&device)),
        ffmpeg(FIRST_PICTURE.software(), &first(&software)),
    ])
}

/// Measures.
pub(crate) fn measure(bed: &Bed, args: &Args) -> Result<Vec<Row>> {
    let codecs = codecs(bed)?;
    let clips = clips::repeated(bed, Kind::Demo(&args.size), args.times(TIMES))?;
    let takes = |clip: &Clip| args.takes(clip.codec) && codecs.contains(&clip.codec);
    let clips: Vec<Clip> = clips.into_iter().filter(takes).collect();
    ensure!(
        !clips.is_empty(),
        "FFmpeg has no decoder for a stateful device of this codec"
    );
    let measurement = pipelines::Measurement {
        part: "stateful",
        daemon: "--faces=both",
        // A run and its proof take about 10 s on an idle machine.
        seconds: 500,
        commands,
    };
    measurement.measure(bed, args, &clips, row)
}

fn row(clip: &Clip, rows: &Rows, runs: usize) -> Result<Row> {
    let against = COMPARISONS
        .iter()
        .map(|comparison| {
            let (device, software) = (comparison.device(), comparison.software());
            rows.equal_checksum(&[&device, &software])?;
            ensure!(
                rows.of(&device)?.iter().all(|row| row.workers > 0.0),
                "{device}: no worker decoded"
            );
            Ok(Ratios {
                comparison: comparison.name.to_owned(),
                wall: rows.ratio(&device, &software, |row| row.wall)?,
                cpu: rows.ratio(&device, &software, Run::cpu)?,
                all_cpu: rows.ratio(&device, &software, Run::all_cpu)?,
                seconds: rows.spread(&device, |row| row.wall)?,
                libraries: names_of_files(&rows.libraries(&device)),
            })
        })
        .collect::<Result<_>>()?;
    Ok(Row {
        clip: clip.name.clone(),
        codec: clip.codec,
        mbit: clip.mbit,
        frames: clip.frames,
        runs,
        against,
    })
}

/// The tables.
pub(crate) fn tables(rows: &[Row]) -> Vec<Table> {
    let mut table = Table::new(
        "Through the stateful node, one decoding thread, against software in the same program",
        &[
            "clip",
            "Mbit/s",
            "frames",
            "runs",
            "program",
            "wall",
            "CPU, client + worker",
            "and broker, kernel threads",
            "seconds",
            "libraries",
        ],
    );
    for row in rows {
        for against in &row.against {
            table.row(vec![
                row.clip.clone(),
                format!("{:.1}", row.mbit),
                row.frames.to_string(),
                row.runs.to_string(),
                against.comparison.clone(),
                against.wall.text(),
                against.cpu.text(),
                against.all_cpu.text(),
                format!("{:.2}", against.seconds.median),
                against.libraries.join(", "),
            ]);
        }
    }
    vec![table]
}

/// The targets, of each codec that was measured.
pub(crate) fn targets(rows: Option<&[Row]>) -> Vec<Target> {
    let mut targets = Vec::new();
    for row in rows.unwrap_or_default() {
        for comparison in COMPARISONS {
            let against = row.against.iter().find(|one| one.comparison == comparison.name);
            let (wall, cpu) = (against.map(|one| one.wall), against.map(|one| one.cpu));
            let mut target = |what: &str, bound: f64, figure: Option<Spread>| {
                targets.push(Target::new(
                    format!(
                        "stateful: {} by {}, {what}, of software",
                        row.codec.title(),
                        comparison.name
                    ),
                    Bound::AtMost(bound),
                    figure.map(|spread| spread.median),
                ));
            };
            target("wall", comparison.wall, wall);
            if let Some(bound) = comparison.cpu {
                target("client + worker CPU", bound, cpu);
            }
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comparison_has_both_commands_and_their_proofs() {
        let clip = Clip::sample(Codec::ALL[0]);
        let commands = commands(&clip, "/tmp/x").unwrap();
        for comparison in COMPARISONS {
            for name in [comparison.device(), comparison.software()] {
                let entry = commands.iter().find(|entry| entry.name == name).unwrap();
                assert_ne!(entry.words, entry.proof, "{name}");
                assert!(!entry.proof.is_empty() && !entry.proof.contains(&"null".to_owned()));
            }
        }
        let first = commands.last().unwrap();
        assert!(
            first
                .words
                .ends_with(&["-frames:v", "1", "-f", "null", "-"].map(String::from))
        );
    }
}
