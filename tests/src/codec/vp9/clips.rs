// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clips of VP9, made by libvpx and checked against libvpx's decoder.

use std::process::Command;

use daedalus_client::{CodedJob, Control};
use daedalus_uapi::v4l2_controls::{V4L2_CID_STATELESS_VP9_FRAME, V4l2CtrlVp9Frame};

use crate::codec::clips::{
    ClipRow, Encoder, Files, Proof, Reference, SmallClip, Spec, Subject, ivf_key_frame,
};

pub(super) const ROW: ClipRow = ClipRow {
    source: include_str!("clips.rs"),
    programs: &[("vpxenc", "--help"), ("vpxdec", "--help")],
    extension: "ivf",
    field_order: "None",
    reference: Reference::Decoder("vpxdec --codec=vp9 --rawvideo --i420"),
    files,
    large,
    small,
    small_clips: &SMALL_CLIPS,
    specs: &SPECS,
    key_frame: ivf_key_frame,
};

/// Four tile columns at 1080p.
const LARGE: &str = "vpxenc --codec=vp9 --ivf --quiet --threads=2 --row-mt=1 --tile-columns=2";
/// A tenth of the time of [`HIDDEN`], which matters at 1080p.
const REAL_TIME: &str = "--rt --passes=1 --cpu-used=6 --end-usage=vbr";
/// Two passes with hidden alternate reference frames in superframes.
const HIDDEN: &str = "--good --cpu-used=5 --lag-in-frames=16 --auto-alt-ref=1 --end-usage=q --cq-level=24";
/// Pictures of at most this many rows are worth [`HIDDEN`].
const HIDDEN_ROWS: usize = 240;
/// Hidden alternate reference frames.
const SMALL: &str = "vpxenc --codec=vp9 --ivf --quiet --threads=1 --good --passes=1 --cpu-used=4 \
                     --lag-in-frames=12 --auto-alt-ref=1 --end-usage=q";

/// Constant rate that is far too low: libvpx answers by coding smaller pictures, with no key frame.
const STARVED: Encoder = Encoder {
    line: "vpxenc --codec=vp9 --ivf --quiet -y --threads=2 --rt --cpu-used=7 --lag-in-frames=0 \
           --end-usage=cbr --resize-allowed=1 --buf-sz=600 --buf-initial-sz=400 --buf-optimal-sz=500 \
           --kf-max-dist=9999 --target-bitrate=30",
    depth: 8,
    profile: "Profile 0",
};
/// The same with 10 bit.
const STARVED_10: Encoder = Encoder {
    line: "vpxenc --codec=vp9 --profile=2 --bit-depth=10 --input-bit-depth=10 --ivf --quiet -y --threads=2 \
           --rt --cpu-used=7 --lag-in-frames=0 --end-usage=cbr --resize-allowed=1 --buf-sz=600 \
           --buf-initial-sz=400 --buf-optimal-sz=500 --kf-max-dist=9999 --target-bitrate=30",
    depth: 10,
    profile: "Profile 2",
};
/// 10 bit, hidden alternate reference frames.
const VPX_10: Encoder = Encoder {
    line: "vpxenc --codec=vp9 --profile=2 --bit-depth=10 --input-bit-depth=10 --ivf --quiet -y --threads=2 \
           --row-mt=1 --tile-columns=2 --good --cpu-used=5 --lag-in-frames=8 --auto-alt-ref=1 --end-usage=q \
           --cq-level=32",
    depth: 10,
    profile: "Profile 2",
};
/// 10 bit, fast.
const VPX_10_FAST: Encoder = Encoder {
    line: "vpxenc --codec=vp9 --profile=2 --bit-depth=10 --input-bit-depth=10 --ivf --quiet -y --threads=2 \
           --row-mt=1 --tile-columns=3 --rt --passes=1 --cpu-used=7 --end-usage=vbr --target-bitrate=6000",
    depth: 10,
    profile: "Profile 2",
};
/// As many tile columns as the width allows.
const TILES: Encoder = Encoder {
    line: "vpxenc --codec=vp9 --ivf --quiet -y --threads=2 --row-mt=1 --tile-columns=4 --tile-rows=1 --rt \
           --passes=1 --cpu-used=7 --end-usage=vbr --target-bitrate=4000",
    depth: 8,
    profile: "Profile 0",
};

const SMALL_CLIPS: [SmallClip; 10] = [
    SmallClip::groups("vp9-groups"),
    SmallClip {
        frames: 8,
        subject: Subject::Noise,
        ..SmallClip::new("vp9-noise", (160, 96))
    },
    SmallClip::new("vp9-1x1", (1, 1)),
    SmallClip::new("vp9-35x17", (35, 17)),
    SmallClip::new("vp9-177x145", (177, 145)),
    SmallClip::deep("vp9-10bit-1x1", (1, 1)),
    SmallClip::deep("vp9-10bit-35x17", (35, 17)),
    SmallClip::deep("vp9-10bit-177x145", (177, 145)),
    // A size that screens have.
    SmallClip::new("vp9-640x480", (640, 480)),
    SmallClip::deep("vp9-10bit-640x480", (640, 480)),
];

const FOUR_COLUMNS: &[Proof] = &[Proof::Least("TileColumns", 4, tile_columns)];
const EIGHT_COLUMNS: &[Proof] = &[Proof::Least("TileColumns", 8, tile_columns)];

const SPECS: [Spec; 8] = [
    Spec::new("vp9-resize-360p.ivf", STARVED, &[(640, 360, 120)])
        .proven(&[Proof::InterResize(1)])
        .small(),
    Spec::new("vp9-tiles-4.ivf", TILES, &[(1024, 576, 10)])
        .proven(FOUR_COLUMNS)
        .small(),
    Spec::new("vp9-10bit-360p.ivf", VPX_10, &[(640, 360, 16)]).small(),
    Spec::new("vp9-10bit-720p.ivf", VPX_10_FAST, &[(1280, 720, 20)]).proven(FOUR_COLUMNS),
    Spec::new("vp9-10bit-1080p.ivf", VPX_10_FAST, &[(1920, 1080, 12)]).proven(FOUR_COLUMNS),
    Spec::new("vp9-tiles-8.ivf", TILES, &[(2048, 858, 8)]).proven(EIGHT_COLUMNS),
    Spec::new("vp9-10bit-resize-360p.ivf", STARVED_10, &[(640, 360, 120)]).proven(&[Proof::InterResize(1)]),
    Spec::new("vp9-2160p.ivf", TILES, &[(3840, 2160, 6)]).proven(EIGHT_COLUMNS),
];

fn tile_columns(job: &CodedJob) -> u32 {
    job.control(V4L2_CID_STATELESS_VP9_FRAME)
        .and_then(Control::get::<V4l2CtrlVp9Frame>)
        .map_or(1, |frame| 1 << frame.tile_cols_log2)
}

fn files(command: &mut Command, files: &Files<'_>) {
    command.arg("-o").arg(files.output).arg(files.source);
}

fn large(rows: usize, interval: usize) -> String {
    let kind = if rows <= HIDDEN_ROWS { HIDDEN } else { REAL_TIME };
    // Constant quality ignores the rate, real time follows it: about 12 Mbit/s at 1080p.
    let rate = rows * rows / 100;
    format!("{LARGE} {kind} --target-bitrate={rate} --kf-max-dist={interval}")
}

fn small(clip: &SmallClip) -> String {
    // Noise has to come out as it went in, nearly: a soft picture is not recognised.
    let level = if clip.subject == Subject::Noise { 2 } else { 30 };
    let profile = if clip.deep { " --profile=2" } else { "" };
    format!("{SMALL} {} --cq-level={level}{profile}", clip.aom_options())
}
