// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus verify`: the device against decoders in software, frame by frame.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use daedalus_client::raw::Shape;
use daedalus_common::junit::{self, Case, TestResult};
use daedalus_uapi::Codec;
use serde::Serialize;

use crate::player::{By, files, is_wide, progress, start};

/// By how many steps a sample may differ where the rounding is open. With libavcodec's transform for arm64,
/// fewer than 100 of 86,400 samples of a picture differ from the plain one, by one step each. The differences
/// do not add up in pictures that are predicted from others (five clips, groups of up to 60 pictures).
const STEPS: u8 = 1;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(required = true, help = format!("Files: {}", files()))]
    files: Vec<PathBuf>,
    /// One JSON object per file and line instead of text
    #[arg(long)]
    json: bool,
    /// Write a JUnit report with a test case for each file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

#[derive(Default, Serialize)]
struct Row {
    file: String,
    /// All frames are there, and no sample differs by more than the tolerance.
    equal: bool,
    /// By how many steps a sample may differ; 0 but for codecs whose rounding is open.
    tolerance: u8,
    /// By how many steps one differs at most, if there is a tolerance.
    largest: u8,
    frames: u64,
    fps: f64,
    device: String,
    software: String,
    /// The place of the first difference.
    difference: Option<Difference>,
    /// Why it could not be compared.
    error: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    /// From 0, in display order.
    frame: u64,
    what: String,
}

/// Runs it. False: a file differs, or could not be compared.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    let (mut all, mut cases) = (true, Vec::new());
    for file in &args.files {
        let mut row = Row {
            file: file.display().to_string(),
            ..Row::default()
        };
        let started_at = Instant::now();
        if let Err(error) = compare(file, &mut row) {
            row.error = Some(format!("{error:#}"));
        }
        row.equal = row.error.is_none() && row.difference.is_none() && row.frames > 0;
        row.fps = row.frames as f64 / started_at.elapsed().as_secs_f64();
        all &= row.equal;
        cases.push(Case {
            class: "verify".into(),
            name: row.file.clone(),
            seconds: started_at.elapsed().as_secs_f64(),
            result: if row.equal {
                TestResult::Passed
            } else {
                TestResult::Failed(text(&row))
            },
        });
        if args.json {
            serde_json::to_writer(&mut out, &row)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", text(&row))?;
        }
    }
    if let Some(file) = &args.junit {
        std::fs::write(file, junit::report("daedalus", &cases))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(all)
}

fn compare(file: &Path, row: &mut Row) -> Result<()> {
    let (mut device, mut software) = (start(file, By::Device)?, start(file, By::Software)?);
    row.tolerance = tolerance(device.codec, std::env::consts::ARCH);
    row.device.clone_from(&device.element);
    row.software.clone_from(&software.element);
    let bar = progress(file)?;
    loop {
        let what = match (device.next()?, software.next()?) {
            (None, None) => break,
            (Some(_), None) => Some("only the device has this frame".to_owned()),
            (None, Some(_)) => Some("the device lacks this frame".to_owned()),
            (Some(one), Some(other)) => different(one, other, row.tolerance).or_else(|| {
                row.largest = row.largest.max(largest(one.1, other.1, row.tolerance));
                None
            }),
        };
        if let Some(what) = what {
            row.difference = Some(Difference {
                frame: row.frames,
                what,
            });
            break;
        }
        row.frames += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Returns by how many steps the samples of a codec's pictures may differ on a processor.
fn tolerance(codec: Codec, architecture: &str) -> u8 {
    if codec.info().open_rounding && architecture == "aarch64" {
        STEPS
    } else {
        0
    }
}

/// By how much bytes differ at most. Without a tolerance they do not.
fn largest(one: &[u8], other: &[u8], tolerance: u8) -> u8 {
    if tolerance == 0 {
        return 0;
    }
    let steps = one.iter().zip(other).map(|(left, right)| left.abs_diff(*right));
    steps.max().unwrap_or_default()
}

/// In what two pictures differ. The tolerance is for samples of 8 bits, which all codecs with open rounding
/// have.
fn different(device: (Shape, &[u8]), software: (Shape, &[u8]), tolerance: u8) -> Option<String> {
    let (one, other) = (device.0, software.0);
    if (one.width, one.height, is_wide(one)) != (other.width, other.height, is_wide(other)) {
        return Some(format!(
            "{}x{} {} from the device, {}x{} {} in software",
            one.width,
            one.height,
            one.format.semi_planar_name(),
            other.width,
            other.height,
            other.format.semi_planar_name()
        ));
    }
    let at = device
        .1
        .iter()
        .zip(software.1)
        .position(|(left, right)| left.abs_diff(*right) > tolerance)?;
    let sample = at / if is_wide(one) { 2 } else { 1 };
    let luma = one.width * one.height;
    let chroma_row = 2 * one.width.div_ceil(2);
    Some(match sample.checked_sub(luma) {
        None => format!("luma at {},{}", sample % one.width, sample / one.width),
        Some(rest) => format!("chroma at {},{}", rest % chroma_row / 2, rest / chroma_row),
    })
}

fn text(row: &Row) -> String {
    if let Some(error) = &row.error {
        return format!("{}: FAILED after {} frames: {error}", row.file, row.frames);
    }
    match &row.difference {
        Some(Difference { frame, what }) => format!("{}: DIFFERS first in frame {frame}: {what}", row.file),
        None if row.frames == 0 => format!("{}: NO FRAMES", row.file),
        None => format!(
            "{}: {}, {} frames ({} and {}), {:.1} fps",
            row.file,
            found(row),
            row.frames,
            row.device,
            row.software,
            row.fps
        ),
    }
}

/// How equal the pictures are, in words.
fn found(row: &Row) -> String {
    if row.largest == 0 {
        return "exact".to_owned();
    }
    format!(
        "samples differ by at most {} of 255, and may by {}, because software rounds in its own way on this \
         processor",
        row.largest, row.tolerance
    )
}

#[cfg(test)]
mod tests {
    use daedalus_client::raw::RawFormat;

    use super::*;

    #[test]
    fn the_first_sample_that_differs_is_named() {
        let shape = |format| Shape {
            format,
            width: 4,
            height: 2,
        };
        let nv12 = shape(RawFormat::Nv12);
        let picture: Vec<u8> = (0..12).collect();
        let with = |at: usize| {
            let mut other = picture.clone();
            other[at] = 255;
            different((nv12, &picture), (shape(RawFormat::I420), &other), 0)
        };
        assert_eq!(different((nv12, &picture), (nv12, &picture), 0), None);
        assert_eq!(with(6).as_deref(), Some("luma at 2,1"));
        assert_eq!(with(11).as_deref(), Some("chroma at 1,0"));
        let wide = different((shape(RawFormat::P010), &picture), (nv12, &picture), 0).unwrap();
        assert!(wide.contains("P010 from the device"), "{wide}");
    }

    #[test]
    fn only_open_rounding_on_arm64_has_a_tolerance_and_its_use_is_said() {
        for codec in Codec::ALL.iter().copied() {
            assert_eq!(tolerance(codec, "x86_64"), 0);
            assert_eq!(tolerance(codec, "aarch64") > 0, codec.info().open_rounding);
        }
        let nv12 = Shape {
            format: RawFormat::Nv12,
            width: 2,
            height: 2,
        };
        let by = |steps: u8| {
            let (one, mut other) = ([100; 6], [100; 6]);
            other[3] -= steps;
            (
                different((nv12, &one), (nv12, &other), STEPS),
                largest(&one, &other, STEPS),
            )
        };
        assert_eq!(by(STEPS), (None, STEPS));
        assert_eq!(by(STEPS + 1).0.as_deref(), Some("luma at 1,1"));
        let said = |largest| {
            text(&Row {
                frames: 1,
                tolerance: STEPS,
                largest,
                ..Row::default()
            })
        };
        assert!(said(0).contains("exact"));
        assert!(!said(1).contains("exact") && said(1).contains("at most 1 of 255"));
    }
}
