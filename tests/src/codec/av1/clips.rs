// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clips of AV1, made by SVT-AV1 and libaom and checked against libaom's decoder.

use std::process::Command;

use daedalus_client::{CodedJob, Control};
use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN, V4L2_AV1_FRAME_FLAG_USE_SUPERRES,
    V4L2_CID_STATELESS_AV1_FILM_GRAIN, V4L2_CID_STATELESS_AV1_FRAME, V4l2CtrlAv1FilmGrain, V4l2CtrlAv1Frame,
};

use crate::codec::clips::{ClipRow, Encoder, Files, Proof, Reference, SmallClip, Spec, ivf_key_frame};

pub(super) const ROW: ClipRow = ClipRow {
    source: include_str!("clips.rs"),
    programs: &[
        ("SvtAv1EncApp", "--version"),
        ("aomenc", "--help"),
        ("aomdec", "--help"),
    ],
    extension: "ivf",
    field_order: "None",
    reference: Reference::Decoder("aomdec --rawvideo --i420"),
    files,
    large,
    small,
    small_clips: &SMALL_CLIPS,
    specs: &SPECS,
    key_frame: ivf_key_frame,
};

/// Random access with hidden and re-shown frames.
const LARGE: &str = "SvtAv1EncApp --preset 10 --crf 24 --progress 0 --lp 2";
/// libaom takes any size, and 208 columns make two tiles.
const SMALL: &str = "aomenc --codec=av1 --ivf --quiet --threads=1 --good --passes=1 --cpu-used=6 \
                     --lag-in-frames=12 --end-usage=q --cq-level=30 --sb-size=64 --tile-columns=1";

/// Returns an encoder of 8 or 10 bit.
const fn main_profile(depth: u8, line: &'static str) -> Encoder {
    Encoder {
        line,
        depth,
        profile: "Main",
    }
}

/// A new size drawn for every frame, key frames included.
const RANDOM: Encoder = main_profile(
    8,
    "aomenc --ivf --quiet --threads=2 --rt --cpu-used=9 --resize-mode=2 --end-usage=cbr --target-bitrate=300 \
     --kf-max-dist=9999",
);
/// Sizes that change at given frames, which are not key frames.
const RESIZE: Encoder = main_profile(
    8,
    "SvtAv1EncApp --preset 10 --crf 36 --progress 0 --lp 2 --resize-mode 4 --frame-resz-events 8,16,24 \
     --frame-resz-kf-denoms 8,8,8 --frame-resz-denoms 16,8,12",
);
/// The same without pictures that are decoded before they are shown, as real-time senders do it: each is
/// shown at the size that was set last.
const RESIZE_LIVE: Encoder = main_profile(
    8,
    "SvtAv1EncApp --preset 10 --crf 36 --progress 0 --lp 2 --pred-struct 1 --resize-mode 4 \
     --frame-resz-events 8,16,24 --frame-resz-kf-denoms 8,8,8 --frame-resz-denoms 16,8,12",
);
/// A superres denominator drawn for every frame.
const SUPERRES: Encoder = main_profile(
    8,
    "SvtAv1EncApp --preset 10 --crf 36 --progress 0 --lp 2 --superres-mode 2",
);
/// Film grain estimated from the source and taken out of it.
const GRAIN: Encoder = main_profile(
    8,
    "SvtAv1EncApp --preset 10 --crf 36 --progress 0 --lp 2 --film-grain 20 --film-grain-denoise 1",
);
/// The same, 10 bit.
const GRAIN_10: Encoder = main_profile(
    10,
    "SvtAv1EncApp --preset 10 --crf 36 --progress 0 --lp 2 --input-depth 10 --film-grain 20 \
     --film-grain-denoise 1",
);
const SVT: Encoder = main_profile(
    8,
    "SvtAv1EncApp --preset 11 --crf 50 --progress 0 --lp 2 --tile-columns 1",
);
const SVT_10: Encoder = main_profile(
    10,
    "SvtAv1EncApp --preset 10 --crf 36 --progress 0 --lp 2 --input-depth 10 --tile-columns 1",
);

const SMALL_CLIPS: [SmallClip; 8] = [
    SmallClip::groups("av1-groups"),
    SmallClip::new("av1-1x1", (1, 1)),
    SmallClip::new("av1-35x17", (35, 17)),
    SmallClip::new("av1-177x145", (177, 145)),
    SmallClip::deep("av1-10bit-1x1", (1, 1)),
    SmallClip::deep("av1-10bit-35x17", (35, 17)),
    SmallClip::deep("av1-10bit-177x145", (177, 145)),
    // A size that screens have.
    SmallClip::new("av1-640x480", (640, 480)),
];

const USES_SUPERRES: &[Proof] = &[Proof::Tool("Superres", superres)];
const USES_GRAIN: &[Proof] = &[Proof::Tool("FilmGrain", grain)];

const SPECS: [Spec; 11] = [
    Spec::new("av1-resize-random-360p.ivf", RANDOM, &[(640, 360, 24)])
        .proven(&[Proof::InterResize(12)])
        .small(),
    Spec::new("av1-resize-360p.ivf", RESIZE, &[(640, 360, 32)]).proven(&[Proof::InterResize(3)]),
    Spec::new("av1-resize-live-360p.ivf", RESIZE_LIVE, &[(640, 360, 32)])
        .proven(&[Proof::InterResize(3)])
        .small(),
    Spec::new("av1-superres-360p.ivf", SUPERRES, &[(640, 360, 20)])
        .proven(USES_SUPERRES)
        .small(),
    Spec::new("av1-10bit-360p.ivf", SVT_10, &[(640, 360, 20)]).small(),
    Spec::new("av1-10bit-720p.ivf", SVT_10, &[(1280, 720, 24)]),
    Spec::new("av1-10bit-1080p.ivf", SVT_10, &[(1920, 1080, 16)]),
    Spec::new("av1-resize-720p.ivf", RESIZE, &[(1280, 720, 32)]).proven(&[Proof::InterResize(3)]),
    Spec::new("av1-grain-1080p.ivf", GRAIN, &[(1920, 1080, 12)]).proven(USES_GRAIN),
    Spec::new("av1-10bit-grain-1080p.ivf", GRAIN_10, &[(1920, 1080, 12)]).proven(USES_GRAIN),
    Spec::new("av1-2160p.ivf", SVT, &[(3840, 2160, 6)]),
];

/// Returns whether the coded picture is narrower, and is scaled up again by the decoder.
fn superres(job: &CodedJob) -> bool {
    job.control(V4L2_CID_STATELESS_AV1_FRAME)
        .and_then(Control::get::<V4l2CtrlAv1Frame>)
        .is_some_and(|frame| frame.flags & V4L2_AV1_FRAME_FLAG_USE_SUPERRES != 0)
}

/// Returns whether film grain is applied to the picture.
fn grain(job: &CodedJob) -> bool {
    job.control(V4L2_CID_STATELESS_AV1_FILM_GRAIN)
        .and_then(Control::get::<V4l2CtrlAv1FilmGrain>)
        .is_some_and(|grain| grain.flags & V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN != 0)
}

fn files(command: &mut Command, files: &Files<'_>) {
    if command.get_program() == "SvtAv1EncApp" {
        command.arg("-b").arg(files.output).arg("-i").arg(files.source);
    } else {
        command.arg("-o").arg(files.output).arg(files.source);
    }
}

fn large(_: usize, interval: usize) -> String {
    format!("{LARGE} --keyint {interval}")
}

fn small(clip: &SmallClip) -> String {
    format!("{SMALL} {}", clip.aom_options())
}
