// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clips of VP8, made by libvpx and checked against libvpx's decoder.

use std::process::Command;

use daedalus_client::{CodedJob, Control};
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_VP8_FRAME, V4L2_VP8_FRAME_FLAG_SHOW_FRAME, V4L2_VP8_LF_FILTER_TYPE_SIMPLE,
    V4L2_VP8_SEGMENT_FLAG_UPDATE_MAP, V4l2CtrlVp8Frame,
};

use crate::codec::clips::{ClipRow, Encoder, Files, Proof, Reference, SmallClip, Spec, ivf_key_frame};

pub(super) const ROW: ClipRow = ClipRow {
    source: include_str!("clips.rs"),
    programs: &[("vpxenc", "--help"), ("vpxdec", "--help")],
    extension: "ivf",
    field_order: "None",
    reference: Reference::Decoder("vpxdec --codec=vp8 --rawvideo --i420"),
    files,
    large,
    small,
    small_clips: &SMALL_CLIPS,
    specs: &SPECS,
    key_frame: ivf_key_frame,
};

/// Four partitions of coefficients.
const LARGE: &str = "vpxenc --codec=vp8 --ivf --quiet --threads=2 --token-parts=2";
/// A tenth of the time of [`HIDDEN`], which matters at 1080p.
const REAL_TIME: &str = "--rt --passes=1 --cpu-used=8 --end-usage=vbr";
/// Two passes with hidden alternate reference frames.
const HIDDEN: &str = "--good --passes=2 --cpu-used=5 --lag-in-frames=16 --auto-alt-ref=1 --end-usage=vbr";
/// Pictures of at most this many rows are worth [`HIDDEN`].
const HIDDEN_ROWS: usize = 240;
/// Hidden alternate reference frames.
const SMALL: &str = "vpxenc --codec=vp8 --ivf --quiet --threads=1 --good --passes=2 --cpu-used=4 \
                     --lag-in-frames=12 --auto-alt-ref=1 --end-usage=vbr";

const PROFILE: &str = "0";

/// Hidden alternate reference frames, of several partitions.
const ALTERNATE: Encoder = Encoder {
    line: "vpxenc --codec=vp8 --ivf --quiet -y --threads=2 --token-parts=1 --good --passes=2 --cpu-used=3 \
           --lag-in-frames=16 --auto-alt-ref=1 --arnr-maxframes=7 --arnr-strength=5 --end-usage=vbr \
           --target-bitrate=800 --kf-max-dist=9999",
    depth: 8,
    profile: PROFILE,
};
/// The same in WebM.
const ALTERNATE_WEBM: Encoder = Encoder {
    line: "vpxenc --codec=vp8 --webm --quiet -y --threads=2 --good --passes=2 --cpu-used=4 \
           --lag-in-frames=16 --auto-alt-ref=1 --end-usage=vbr --target-bitrate=500 --kf-max-dist=9999",
    depth: 8,
    profile: PROFILE,
};
/// Every part is a sequence of its own; they are joined.
const PLAIN: Encoder = Encoder {
    line: "vpxenc --codec=vp8 --ivf --quiet -y --threads=2 --good --passes=1 --cpu-used=5 --end-usage=vbr \
           --target-bitrate=500",
    depth: 8,
    profile: PROFILE,
};
/// Fast, with key frames often.
const LIVE: Encoder = Encoder {
    line: "vpxenc --codec=vp8 --ivf --quiet -y --threads=2 --token-parts=2 --rt --passes=1 --cpu-used=8 \
           --end-usage=vbr --target-bitrate=6000 --kf-max-dist=8",
    depth: 8,
    profile: PROFILE,
};
/// As many partitions as there are.
const PARTITIONS: Encoder = Encoder {
    line: "vpxenc --codec=vp8 --ivf --quiet -y --threads=2 --token-parts=3 --rt --passes=1 --cpu-used=8 \
           --end-usage=vbr --target-bitrate=3000",
    depth: 8,
    profile: PROFILE,
};
/// Whole-sample motion, the simple loop filter.
const SIMPLE: Encoder = Encoder {
    line: "vpxenc --codec=vp8 --profile=3 --ivf --quiet -y --threads=2 --good --passes=1 --cpu-used=4 \
           --end-usage=vbr --target-bitrate=300",
    depth: 8,
    profile: "3",
};
/// Cyclic refresh by segments; probabilities are not kept.
const RESILIENT: Encoder = Encoder {
    line: "vpxenc --codec=vp8 --ivf --quiet -y --threads=2 --rt --passes=1 --cpu-used=6 --error-resilient=1 \
           --end-usage=cbr --target-bitrate=300 --noise-sensitivity=1",
    depth: 8,
    profile: PROFILE,
};

const SMALL_CLIPS: [SmallClip; 5] = [
    SmallClip::groups("vp8-groups"),
    SmallClip::new("vp8-1x1", (1, 1)),
    SmallClip::new("vp8-35x17", (35, 17)),
    SmallClip::new("vp8-177x145", (177, 145)),
    // A size that screens have.
    SmallClip::new("vp8-640x480", (640, 480)),
];

const HIDES: &[Proof] = &[Proof::Tool("a hidden frame", is_hidden)];

const SPECS: [Spec; 10] = [
    Spec::new(
        "vp8-sizes.ivf",
        PLAIN,
        &[(352, 288, 6), (175, 143, 6), (640, 360, 6), (176, 144, 6)],
    )
    .proven(&[Proof::NewSequence(3)])
    .small(),
    Spec::new("vp8-hidden-240p.ivf", ALTERNATE, &[(426, 240, 40)])
        .proven(HIDES)
        .small(),
    Spec::new("vp8-hidden-175x143.ivf", ALTERNATE, &[(175, 143, 40)])
        .proven(HIDES)
        .small(),
    Spec::new("vp8-hidden-180p.webm", ALTERNATE_WEBM, &[(320, 180, 30)])
        .proven(HIDES)
        .small(),
    Spec::new("vp8-profile-3.ivf", SIMPLE, &[(321, 241, 16)])
        .proven(&[
            Proof::Least("Version", 3, version),
            Proof::Tool("the simple filter", is_simple),
        ])
        .small(),
    Spec::new("vp8-segments.ivf", RESILIENT, &[(320, 240, 30)])
        .proven(&[Proof::Tool("a map of segments", has_map)])
        .small(),
    Spec::new("vp8-partitions-8.ivf", PARTITIONS, &[(1024, 576, 8)])
        .proven(&[Proof::Least("Partitions", 8, partitions)])
        .small(),
    Spec::new("vp8-720p.ivf", LIVE, &[(1280, 720, 20)]),
    Spec::new("vp8-1080p.ivf", LIVE, &[(1920, 1080, 12)]).proven(&[Proof::Least(
        "Partitions",
        4,
        partitions,
    )]),
    Spec::new("vp8-2160p.ivf", PARTITIONS, &[(3840, 2160, 6)]).proven(&[Proof::Least(
        "Partitions",
        8,
        partitions,
    )]),
];

fn frame(job: &CodedJob) -> V4l2CtrlVp8Frame {
    job.control(V4L2_CID_STATELESS_VP8_FRAME)
        .and_then(Control::get)
        .unwrap_or_default()
}

fn is_hidden(job: &CodedJob) -> bool {
    frame(job).flags & V4L2_VP8_FRAME_FLAG_SHOW_FRAME == 0
}

fn is_simple(job: &CodedJob) -> bool {
    frame(job).lf.flags & V4L2_VP8_LF_FILTER_TYPE_SIMPLE != 0
}

fn has_map(job: &CodedJob) -> bool {
    frame(job).segment.flags & V4L2_VP8_SEGMENT_FLAG_UPDATE_MAP != 0
}

fn version(job: &CodedJob) -> u32 {
    frame(job).version.into()
}

fn partitions(job: &CodedJob) -> u32 {
    frame(job).num_dct_parts.into()
}

fn files(command: &mut Command, files: &Files<'_>) {
    command.arg("-o").arg(files.output).arg(files.source);
}

fn large(rows: usize, interval: usize) -> String {
    let kind = if rows <= HIDDEN_ROWS { HIDDEN } else { REAL_TIME };
    // About 12 Mbit/s at 1080p.
    let rate = rows * rows / 100;
    format!("{LARGE} {kind} --target-bitrate={rate} --kf-max-dist={interval}")
}

fn small(clip: &SmallClip) -> String {
    let options = clip.aom_options();
    format!("{SMALL} {options} --min-q=20 --max-q=40 --target-bitrate=2000")
}
