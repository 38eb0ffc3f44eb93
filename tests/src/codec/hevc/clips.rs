// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clips of HEVC, made by x265, or by a writer of the tests where x265 lacks the tool. They are checked
//! against the checksums that they have of the encoder's own reconstruction.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use daedalus_client::{CodedJob, Control};
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, V4L2_CID_STATELESS_HEVC_PPS, V4L2_CID_STATELESS_HEVC_SPS,
    V4L2_HEVC_DECODE_PARAM_FLAG_IDR_PIC, V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC,
    V4L2_HEVC_DECODE_PARAM_FLAG_NO_OUTPUT_OF_PRIOR, V4L2_HEVC_PPS_FLAG_DEPENDENT_SLICE_SEGMENT_ENABLED,
    V4L2_HEVC_PPS_FLAG_ENTROPY_CODING_SYNC_ENABLED,
    V4L2_HEVC_PPS_FLAG_SLICE_SEGMENT_HEADER_EXTENSION_PRESENT, V4L2_HEVC_PPS_FLAG_TILES_ENABLED,
    V4L2_HEVC_PPS_FLAG_TRANSQUANT_BYPASS_ENABLED, V4L2_HEVC_PPS_FLAG_WEIGHTED_PRED,
    V4L2_HEVC_SPS_FLAG_SCALING_LIST_ENABLED, V4l2CtrlHevcDecodeParams, V4l2CtrlHevcPps, V4l2CtrlHevcSps,
};

use super::writer::{Tools, Writer};
use crate::codec::clips::{ClipRow, Encoder, Files, Proof, Reference, SmallClip, Spec, nal_units};

pub(super) const ROW: ClipRow = ClipRow {
    source: concat!(
        include_str!("clips.rs"),
        include_str!("cabac.rs"),
        include_str!("writer.rs")
    ),
    programs: &[],
    extension: "hevc",
    field_order: "progressive",
    reference: Reference::Checksums("md5-sei"),
    files,
    large,
    small,
    small_clips: &SMALL_CLIPS,
    specs: &SPECS,
    key_frame,
};

/// x265 in FFmpeg, with wavefronts, B pictures that are references, and an MD5 of each picture.
const LARGE: &str = "ffmpeg -c:v libx265 -preset ultrafast -crf 20 -f hevc -x265-params \
                     log-level=none:hash=1:pools=2:ref=3:bframes=3:b-pyramid=1:open-gop=0:scenecut=0";
/// Two slices, sample adaptive offset, all partitions.
const SMALL: &str = "ffmpeg -c:v libx265 -preset fast -crf 22 -f hevc -x265-params \
                     log-level=none:hash=1:pools=1:frame-threads=1:ctu=16:min-cu-size=8:bframes=2:slices=2:\
                     open-gop=0:scenecut=0";

/// Returns an encoder of the profile Main.
const fn main(line: &'static str) -> Encoder {
    Encoder {
        line,
        depth: 8,
        profile: "Main",
    }
}

/// Returns an encoder of the profile Main 10.
const fn main_10(line: &'static str) -> Encoder {
    Encoder {
        line,
        depth: 10,
        profile: "Main 10",
    }
}

const FAST: Encoder = main(
    "ffmpeg -c:v libx265 -preset ultrafast -crf 28 -f hevc -x265-params log-level=none:hash=1:pools=2:wpp=1",
);
const FAST_10: Encoder = main_10(
    "ffmpeg -c:v libx265 -preset ultrafast -crf 28 -f hevc -x265-params log-level=none:hash=1:pools=2:wpp=1",
);
const OPEN: Encoder = main(
    "ffmpeg -c:v libx265 -preset superfast -crf 28 -f hevc -x265-params \
     log-level=none:hash=1:pools=2:open-gop=1:keyint=8:min-keyint=8:bframes=3:scenecut=0",
);
const LISTS: Encoder = main(
    "ffmpeg -c:v libx265 -preset superfast -crf 28 -f hevc -x265-params \
     log-level=none:hash=1:pools=2:scaling-list=default:weightp=1:weightb=1:ref=4",
);
const LOSSLESS: Encoder = main(
    "ffmpeg -c:v libx265 -preset ultrafast -f hevc -x265-params log-level=none:hash=1:pools=2:lossless=1",
);
const SLICES: Encoder = main(
    "ffmpeg -c:v libx265 -preset superfast -crf 28 -f hevc -x265-params \
     log-level=none:hash=1:pools=2:slices=4:wpp=1:ctu=32",
);
const BLOCKS_64: Encoder = main_10(
    "ffmpeg -c:v libx265 -preset medium -crf 30 -f hevc -x265-params \
     log-level=none:hash=1:pools=2:ctu=64:rect=1:amp=1:tskip=1:limit-tu=4:tu-intra-depth=4:tu-inter-depth=4",
);
const NO_FILTERS: Encoder = main(
    "ffmpeg -c:v libx265 -preset superfast -crf 30 -f hevc -x265-params \
     log-level=none:hash=1:pools=2:no-deblock=1:no-sao=1:no-wpp=1:constrained-intra=1:bframes=0",
);
const TEMPORAL: Encoder = main(
    "ffmpeg -c:v libx265 -preset superfast -crf 28 -f hevc -x265-params \
     log-level=none:hash=1:pools=2:temporal-layers=3:bframes=3:b-adapt=0",
);
const FIELDS: Encoder = main(
    "ffmpeg -c:v libx265 -preset superfast -crf 28 -f hevc -x265-params \
     log-level=none:hash=1:pools=2:interlace=tff:ref=4",
);
const OFFSETS: Encoder = main(
    "ffmpeg -c:v libx265 -preset ultrafast -crf 28 -f hevc -x265-params \
     log-level=none:hash=1:pools=2:aud=1:repeat-headers=1:\
     qpmin=20:qg-size=8:aq-mode=2:cbqpoffs=-3:crqpoffs=3",
);
/// The tests' own.
const WRITER: Encoder = main("writer");

/// x265 fails on pictures of less than 64 columns. Sizes are even, and no multiples of 8.
const SMALL_CLIPS: [SmallClip; 6] = [
    SmallClip::groups("hevc-groups"),
    SmallClip::new("hevc-66x34", (66, 34)),
    SmallClip::new("hevc-178x146", (178, 146)),
    SmallClip::deep("hevc-10bit-66x34", (66, 34)),
    SmallClip::deep("hevc-10bit-178x146", (178, 146)),
    // A size that screens have.
    SmallClip::new("hevc-640x480", (640, 480)),
];

const WAVEFRONTS: &[Proof] = &[Proof::Tool("Wavefronts", wavefronts)];

const SPECS: [Spec; 24] = [
    Spec::new(
        "hevc-new-sps.hevc",
        FAST,
        &[(640, 360, 20), (426, 240, 20), (854, 480, 20)],
    )
    .proven(&[Proof::NewSequence(2)])
    .small(),
    Spec::new("hevc-open-gop-360p.hevc", OPEN, &[(640, 360, 32)])
        .proven(&[Proof::Tool("CraPictures", clean_random_access)])
        .small(),
    Spec::new("hevc-scaling-360p.hevc", LISTS, &[(640, 360, 16)])
        .proven(&[
            Proof::Tool("ScalingLists", scaling_lists),
            Proof::Tool("WeightedPrediction", weighted),
        ])
        .small(),
    Spec::new("hevc-lossless-240p.hevc", LOSSLESS, &[(426, 240, 6)])
        .proven(&[Proof::Tool("TransquantBypass", bypass)])
        .small(),
    Spec::new("hevc-slices-360p.hevc", SLICES, &[(640, 360, 16)])
        .proven(&[Proof::Least("Segments", 4, segments)])
        .small(),
    Spec::new("hevc-sets.hevc", WRITER, &[(352, 288, 24)])
        .proven(&[Proof::Tool("SetOfSps", has_set_of_sps)])
        .written(|part, output| {
            let tools = Tools {
                sets: true,
                ..Tools::default()
            };
            write(part, output, tools)
        })
        .small(),
    Spec::new("hevc-long-term.hevc", WRITER, &[(352, 288, 40)])
        .proven(&[Proof::Tool("LongTerm", has_long_term)])
        .written(|part, output| {
            let tools = Tools {
                sets: true,
                long_term: true,
                ..Tools::default()
            };
            write(part, output, tools)
        })
        .small(),
    Spec::new("hevc-tiles.hevc", WRITER, &[(352, 288, 16)])
        .proven(&[TILES])
        .written(|part, output| {
            let tools = Tools {
                tiles: Some((&[3, 4, 15], &[2, 9])),
                ..Tools::default()
            };
            write(part, output, tools)
        })
        .small(),
    Spec::new("hevc-dependent-segments.hevc", WRITER, &[(352, 288, 16)])
        .proven(&[DEPENDENT, Proof::Tool("Extensions", has_extensions)])
        .written(|part, output| {
            let tools = Tools {
                segments: true,
                extensions: true,
                ..Tools::default()
            };
            write(part, output, tools)
        })
        .small(),
    Spec::new("hevc-no-output-of-prior.hevc", WRITER, &[(352, 288, 20)])
        .proven(&[Proof::Tool("NoOutputOfPrior", has_no_output_of_prior)])
        .written(|part, output| {
            let tools = Tools {
                idr: Some(7),
                ..Tools::default()
            };
            write(part, output, tools)
        })
        .small(),
    Spec::new("hevc-ends-of-sequences.hevc", WRITER, &[(352, 288, 24)])
        .proven(&[Proof::Tool("CraPictures", clean_random_access)])
        .written(|part, output| {
            let tools = Tools {
                ends: Some(7),
                sets: true,
                ..Tools::default()
            };
            write(part, output, tools)
        })
        .small(),
    Spec::new("hevc-tiles-720p.hevc", WRITER, &[(1280, 720, 12)])
        .proven(&[TILES, DEPENDENT])
        .written(|part, output| {
            let tools = Tools {
                tiles: Some((&[16, 40, 63], &[10, 30])),
                segments: true,
                extensions: true,
                long_term: true,
                ..Tools::default()
            };
            write(part, output, tools)
        }),
    Spec::new("hevc-10bit-360p.hevc", FAST_10, &[(640, 360, 20)]).small(),
    Spec::new("hevc-10bit-blocks-64.hevc", BLOCKS_64, &[(640, 360, 10)]).proven(&[Proof::Least(
        "BlockLog2",
        6,
        block,
    )]),
    Spec::new("hevc-no-filters-480p.hevc", NO_FILTERS, &[(854, 480, 16)]),
    Spec::new("hevc-temporal-360p.hevc", TEMPORAL, &[(640, 360, 24)]).proven(&[Proof::Least(
        "SubLayers",
        2,
        sub_layers,
    )]),
    Spec::new("hevc-fields-360p.hevc", FIELDS, &[(640, 180, 24)]),
    Spec::new("hevc-offsets-360p.hevc", OFFSETS, &[(640, 360, 16)]),
    Spec::new("hevc-many-slices-720p.hevc", SLICES, &[(1280, 720, 12)])
        .proven(&[Proof::Least("Segments", 4, segments)]),
    Spec::new("hevc-open-gop-720p.hevc", OPEN, &[(1280, 720, 24)])
        .proven(&[Proof::Tool("CraPictures", clean_random_access)]),
    Spec::new("hevc-10bit-720p.hevc", FAST_10, &[(1280, 720, 24)]).proven(WAVEFRONTS),
    Spec::new("hevc-10bit-1080p.hevc", FAST_10, &[(1920, 1080, 16)]).proven(WAVEFRONTS),
    Spec::new("hevc-10bit-2160p.hevc", FAST_10, &[(3840, 2160, 4)]).proven(WAVEFRONTS),
    Spec::new("hevc-2160p.hevc", FAST, &[(3840, 2160, 6)]).proven(WAVEFRONTS),
];

const TILES: Proof = Proof::Tool("Tiles", |job| has_pps_flag(job, V4L2_HEVC_PPS_FLAG_TILES_ENABLED));
const DEPENDENT: Proof = Proof::Tool("DependentSegments", |job| {
    has_pps_flag(job, V4L2_HEVC_PPS_FLAG_DEPENDENT_SLICE_SEGMENT_ENABLED)
});

/// Writes a stream with the tests' own writer.
fn write((width, height, frames): (usize, usize, usize), output: &Path, tools: Tools) -> Result<()> {
    std::fs::write(output, Writer::new(width, height, tools, 0x265).write(frames))?;
    Ok(())
}

fn decode_params(job: &CodedJob) -> Option<V4l2CtrlHevcDecodeParams> {
    job.control(V4L2_CID_STATELESS_HEVC_DECODE_PARAMS)
        .and_then(Control::get)
}

fn sps(job: &CodedJob) -> V4l2CtrlHevcSps {
    let control = job.control(V4L2_CID_STATELESS_HEVC_SPS);
    control.and_then(Control::get).unwrap_or_default()
}

fn has_pps_flag(job: &CodedJob, flag: u64) -> bool {
    let control = job.control(V4L2_CID_STATELESS_HEVC_PPS);
    let pps = control.and_then(Control::get::<V4l2CtrlHevcPps>);
    pps.is_some_and(|pps| pps.flags & flag != 0)
}

fn wavefronts(job: &CodedJob) -> bool {
    has_pps_flag(job, V4L2_HEVC_PPS_FLAG_ENTROPY_CODING_SYNC_ENABLED)
}

fn weighted(job: &CodedJob) -> bool {
    has_pps_flag(job, V4L2_HEVC_PPS_FLAG_WEIGHTED_PRED)
}

fn bypass(job: &CodedJob) -> bool {
    has_pps_flag(job, V4L2_HEVC_PPS_FLAG_TRANSQUANT_BYPASS_ENABLED)
}

fn scaling_lists(job: &CodedJob) -> bool {
    sps(job).flags & V4L2_HEVC_SPS_FLAG_SCALING_LIST_ENABLED != 0
}

/// Returns `CtbLog2SizeY`.
fn block(job: &CodedJob) -> u32 {
    let sps = sps(job);
    let smallest = u32::from(sps.log2_min_luma_coding_block_size_minus3) + 3;
    smallest + u32::from(sps.log2_diff_max_min_luma_coding_block_size)
}

fn sub_layers(job: &CodedJob) -> u32 {
    u32::from(sps(job).sps_max_sub_layers_minus1) + 1
}

fn segments(job: &CodedJob) -> u32 {
    nal_units(&job.payload).count() as u32
}

/// Returns whether the picture is an IRAP picture that is no IDR picture.
fn clean_random_access(job: &CodedJob) -> bool {
    decode_params(job).is_some_and(|params| {
        let kinds = V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC | V4L2_HEVC_DECODE_PARAM_FLAG_IDR_PIC;
        params.flags & kinds == V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC
    })
}

fn has_no_output_of_prior(job: &CodedJob) -> bool {
    let flag = V4L2_HEVC_DECODE_PARAM_FLAG_NO_OUTPUT_OF_PRIOR;
    decode_params(job).is_some_and(|params| params.flags & flag != 0)
}

fn has_long_term(job: &CodedJob) -> bool {
    decode_params(job).is_some_and(|params| params.num_poc_lt_curr > 0)
}

/// Returns whether the picture names a set of the SPS in place of its own.
fn has_set_of_sps(job: &CodedJob) -> bool {
    let params = decode_params(job);
    params.is_some_and(|params| params.num_active_dpb_entries > 0 && params.short_term_ref_pic_set_size == 0)
}

fn has_extensions(job: &CodedJob) -> bool {
    has_pps_flag(job, V4L2_HEVC_PPS_FLAG_SLICE_SEGMENT_HEADER_EXTENSION_PRESENT)
}

/// FFmpeg takes options in front of its input for the input's: the encoder's go behind it.
fn files(command: &mut Command, files: &Files<'_>) {
    let encoder: Vec<_> = command.get_args().map(std::ffi::OsStr::to_owned).collect();
    let mut whole = Command::new(command.get_program());
    whole
        .args(["-v", "error", "-nostdin", "-y", "-i"])
        .arg(files.source);
    whole.args(encoder).arg(files.output);
    *command = whole;
}

fn large(_: usize, interval: usize) -> String {
    format!("{LARGE}:keyint={interval}:min-keyint={interval}")
}

fn small(clip: &SmallClip) -> String {
    let interval = clip.interval;
    format!("{SMALL}:keyint={interval}:min-keyint={interval}")
}

/// Returns the bytes of the largest NAL unit that is a slice segment of an IDR picture.
fn key_frame(data: &[u8]) -> Result<usize> {
    let is_idr = |unit: &&[u8]| unit.first().is_some_and(|byte| matches!(byte >> 1, 19 | 20));
    let idr = nal_units(data).filter(is_idr);
    Ok(idr.map(<[u8]>::len).max().unwrap_or(0))
}
