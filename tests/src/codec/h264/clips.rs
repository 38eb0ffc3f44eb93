// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clips of H.264, made by x264 and checked against its own reconstruction.

use std::process::Command;

use anyhow::Result;

use crate::codec::clips::{ClipRow, Encoder, Files, Proof, Reference, SmallClip, Spec, nal_units};

pub(super) const ROW: ClipRow = ClipRow {
    source: include_str!("clips.rs"),
    programs: &[("x264", "--version")],
    extension: "h264",
    field_order: "progressive",
    reference: Reference::Reconstruction("x264-recon"),
    files,
    large,
    small,
    small_clips: &SMALL_CLIPS,
    specs: &SPECS,
    key_frame,
};

/// CABAC, B pyramid, 8x8 transform, weighted prediction.
const LARGE: &str = "x264 --quiet --no-progress --demuxer y4m --preset veryfast --profile high --bframes 3 \
                     --b-pyramid normal --ref 3 --crf 21 --threads 2";
/// CABAC, B pictures, two slices.
const SMALL: &str = "x264 --quiet --no-progress --demuxer y4m --preset veryfast --bframes 2 --ref 3 --crf 22 \
                     --slices 2 --scenecut 0 --threads 1";
const X264: Encoder = Encoder {
    line: "x264 --quiet --no-progress --demuxer y4m --preset veryfast --profile high --bframes 3 \
           --b-pyramid normal --ref 3 --crf 26 --threads 2",
    depth: 8,
    profile: "High",
};
const X264_10: Encoder = Encoder {
    line: "x264 --quiet --no-progress --demuxer y4m --preset veryfast --profile high10 --output-depth 10 \
           --bframes 3 --b-pyramid normal --ref 3 --crf 26 --threads 2",
    depth: 10,
    profile: "High 10",
};

/// 4:2:0 pictures are cropped by pairs of samples only: the sizes are even, and no multiples of a macroblock.
const SMALL_CLIPS: [SmallClip; 8] = [
    SmallClip::groups("h264-groups"),
    SmallClip::new("h264-2x2", (2, 2)),
    SmallClip::new("h264-34x18", (34, 18)),
    SmallClip::new("h264-178x146", (178, 146)),
    SmallClip::deep("h264-10bit-2x2", (2, 2)),
    SmallClip::deep("h264-10bit-34x18", (34, 18)),
    SmallClip::deep("h264-10bit-178x146", (178, 146)),
    // A size that screens have.
    SmallClip::new("h264-640x480", (640, 480)),
];

const SPECS: [Spec; 5] = [
    Spec::new(
        "h264-new-sps.h264",
        X264,
        &[(640, 360, 20), (426, 240, 20), (854, 480, 20)],
    )
    .proven(&[Proof::NewSequence(2)])
    .small(),
    Spec::new("h264-10bit-360p.h264", X264_10, &[(640, 360, 20)]).small(),
    Spec::new("h264-10bit-720p.h264", X264_10, &[(1280, 720, 24)]),
    Spec::new("h264-10bit-1080p.h264", X264_10, &[(1920, 1080, 16)]),
    Spec::new("h264-2160p.h264", X264, &[(3840, 2160, 6)]),
];

fn files(command: &mut Command, files: &Files<'_>) {
    command.arg("--dump-yuv").arg(files.recon);
    command.arg("-o").arg(files.output).arg(files.source);
}

fn large(_: usize, interval: usize) -> String {
    format!("{LARGE} --keyint {interval}")
}

fn small(clip: &SmallClip) -> String {
    let interval = clip.interval;
    let (profile, depth) = if clip.deep {
        ("high10", "10")
    } else {
        ("high", "8")
    };
    format!("{SMALL} --profile {profile} --output-depth {depth} --keyint {interval} --min-keyint {interval}")
}

/// Returns the bytes of the largest NAL unit that is a slice of an IDR picture.
fn key_frame(data: &[u8]) -> Result<usize> {
    let idr = nal_units(data).filter(|unit| unit.first().is_some_and(|byte| byte & 31 == 5));
    Ok(idr.map(<[u8]>::len).max().unwrap_or(0))
}
