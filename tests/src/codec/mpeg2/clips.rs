// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clips of MPEG-2, made by FFmpeg's encoder, or by a writer of the tests where no encoder has the tool. They
//! are checked against libmpeg2's decoder: the standard leaves the rounding of the transform open, so its
//! pictures are near those of FFmpeg, which count.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use daedalus_client::{CodedJob, Control};
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_MPEG2_PICTURE, V4L2_CID_STATELESS_MPEG2_QUANTISATION, V4L2_MPEG2_PIC_CODING_TYPE_P,
    V4L2_MPEG2_PIC_FLAG_ALT_SCAN, V4L2_MPEG2_PIC_FLAG_CONCEALMENT_MV, V4L2_MPEG2_PIC_FLAG_FRAME_PRED_DCT,
    V4L2_MPEG2_PIC_FLAG_INTRA_VLC, V4L2_MPEG2_PIC_FLAG_Q_SCALE_TYPE, V4L2_MPEG2_PIC_FRAME,
    V4l2CtrlMpeg2Picture, V4l2CtrlMpeg2Quantisation,
};

use super::reference;
use super::writer::{Tools, Writer};
use crate::codec::clips::{ClipRow, Encoder, Files, Near, Proof, Reference, SmallClip, Spec, Subject};

pub(super) const ROW: ClipRow = ClipRow {
    source: concat!(
        include_str!("clips.rs"),
        include_str!("writer.rs"),
        include_str!("reference.rs")
    ),
    programs: &[("ffmpeg", "-version"), ("mpeg2dec", "-h")],
    extension: "mpeg2",
    field_order: "unknown",
    reference: Reference::Near(&LIBMPEG2),
    files,
    large,
    small,
    small_clips: &SMALL_CLIPS,
    specs: &SPECS,
    key_frame,
};

/// libmpeg2, whose transform is one of those of IEEE 1180.
static LIBMPEG2: Near = Near {
    name: "mpeg2dec",
    pictures: reference::pictures,
    generations: reference::generations,
};

/// Closed groups, B pictures, one slice per row.
const LARGE: &str = "ffmpeg -v error -nostdin -y -c:v mpeg2video -f mpeg2video -flags +cgop -bf 2 \
                     -sc_threshold 1000000000 -threads 2";
const SMALL: &str = "ffmpeg -v error -nostdin -y -c:v mpeg2video -f mpeg2video -flags +cgop -bf 2 \
                     -sc_threshold 1000000000 -threads 1";

/// Fields within frames: transform, motion and scan.
const INTERLACED: Encoder = encoder(
    "ffmpeg -v error -nostdin -y -c:v mpeg2video -f mpeg2video -flags +cgop+ildct+ilme \
     -sc_threshold 1000000000 -top 1 -bf 2 -g 12 \
     -alternate_scan 1 -q:v 4 -threads 1",
);
/// The other table of intra coefficients, the other scale of quantisers, DC of 10 bit.
const ALTERNATIVES: Encoder = encoder(
    "ffmpeg -v error -nostdin -y -c:v mpeg2video -f mpeg2video -flags +cgop -sc_threshold 1000000000 -bf 2 \
     -g 12 -intra_vlc 1 \
     -non_linear_quant 1 -dc 10 -qmax 28 -b:v 1500k -threads 1",
);
/// Each group is open: B pictures lead the I picture.
const OPEN: Encoder =
    encoder("ffmpeg -v error -nostdin -y -c:v mpeg2video -f mpeg2video -bf 2 -g 9 -q:v 5 -threads 1");
const PLAIN: Encoder = encoder(
    "ffmpeg -v error -nostdin -y -c:v mpeg2video -f mpeg2video -flags +cgop -sc_threshold 1000000000 -bf 2 \
     -g 30 -q:v 6 -threads 2",
);
/// The tests' own.
const WRITER: Encoder = encoder("writer");

const fn encoder(line: &'static str) -> Encoder {
    Encoder {
        line,
        depth: 8,
        profile: "Main",
    }
}

const SMALL_CLIPS: [SmallClip; 6] = [
    SmallClip::groups("mpeg2-groups"),
    SmallClip {
        frames: 8,
        subject: Subject::Noise,
        ..SmallClip::new("mpeg2-noise", (160, 96))
    },
    SmallClip::new("mpeg2-16x16", (16, 16)),
    SmallClip::new("mpeg2-35x17", (35, 17)),
    SmallClip::new("mpeg2-177x145", (177, 145)),
    // A size that screens have.
    SmallClip::new("mpeg2-640x480", (640, 480)),
];

const SPECS: [Spec; 11] = [
    Spec::new("mpeg2-interlaced.mpeg2", INTERLACED, &[(704, 480, 20)])
        .proven(&[
            Proof::Tool("FieldPrediction", has_field_prediction),
            ALTERNATE_SCAN,
        ])
        .small(),
    Spec::new("mpeg2-alternatives.mpeg2", ALTERNATIVES, &[(352, 288, 20)])
        .proven(&[
            Proof::Tool("IntraVlc", |job| has(job, V4L2_MPEG2_PIC_FLAG_INTRA_VLC)),
            Proof::Tool("ScaleType", |job| has(job, V4L2_MPEG2_PIC_FLAG_Q_SCALE_TYPE)),
        ])
        .small(),
    Spec::new("mpeg2-open-odd.mpeg2", OPEN, &[(351, 287, 20)]).small(),
    Spec::new("mpeg2-fields.mpeg2", WRITER, &[(352, 288, 14)])
        .proven(&[FIELDS, SECOND_P, ALTERNATE_SCAN])
        .written(|part, output| write(part, output, FIELD_TOOLS))
        .small(),
    Spec::new("mpeg2-fields-dual-prime.mpeg2", WRITER, &[(352, 288, 12)])
        .proven(&[FIELDS])
        .written(|part, output| {
            let tools = Tools {
                fields: true,
                dual_prime: true,
                ..Tools::default()
            };
            write(part, output, tools)
        })
        .small(),
    Spec::new("mpeg2-frames-dual-prime.mpeg2", WRITER, &[(352, 288, 12)])
        .written(|part, output| {
            let tools = Tools {
                dual_prime: true,
                ..Tools::default()
            };
            write(part, output, tools)
        })
        .small(),
    Spec::new("mpeg2-concealment.mpeg2", WRITER, &[(352, 288, 14)])
        .proven(&[CONCEALMENT])
        .written(|part, output| {
            let tools = Tools {
                concealment: true,
                b_pictures: true,
                alternatives: true,
                ..Tools::default()
            };
            write(part, output, tools)
        })
        .small(),
    Spec::new("mpeg2-matrices.mpeg2", WRITER, &[(352, 288, 14)])
        .proven(&[FIELDS, CONCEALMENT, MATRICES])
        .written(|part, output| {
            let tools = Tools {
                concealment: true,
                matrices: true,
                ..FIELD_TOOLS
            };
            write(part, output, tools)
        })
        .small(),
    Spec::new("mpeg2-fields-1080i.mpeg2", WRITER, &[(1920, 1080, 8)])
        .proven(&[FIELDS, SECOND_P])
        .written(|part, output| write(part, output, FIELD_TOOLS)),
    Spec::new("mpeg2-fields-dual-prime-1080i.mpeg2", WRITER, &[(1920, 1080, 6)])
        .proven(&[FIELDS])
        .written(|part, output| {
            let tools = Tools {
                fields: true,
                dual_prime: true,
                concealment: true,
                ..Tools::default()
            };
            write(part, output, tools)
        }),
    Spec::new("mpeg2-2160p.mpeg2", PLAIN, &[(3840, 2160, 6)]),
];

const FIELD_TOOLS: Tools = Tools {
    fields: true,
    b_pictures: true,
    dual_prime: false,
    concealment: false,
    alternatives: true,
    matrices: false,
};
const FIELDS: Proof = Proof::Tool("FieldPicture", is_field);
const SECOND_P: Proof = Proof::Tool("SecondP", |job| {
    job.same_capture && picture(job).is_some_and(|p| p.picture_coding_type == V4L2_MPEG2_PIC_CODING_TYPE_P)
});
const ALTERNATE_SCAN: Proof = Proof::Tool("AlternateScan", |job| has(job, V4L2_MPEG2_PIC_FLAG_ALT_SCAN));
const CONCEALMENT: Proof = Proof::Tool("ConcealmentVectors", |job| {
    has(job, V4L2_MPEG2_PIC_FLAG_CONCEALMENT_MV)
});
const MATRICES: Proof = Proof::Tool("Matrices", |job| {
    job.control(V4L2_CID_STATELESS_MPEG2_QUANTISATION)
        .and_then(Control::get::<V4l2CtrlMpeg2Quantisation>)
        .is_some_and(|matrices| matrices.non_intra_quantiser_matrix != [16; 64])
});

fn picture(job: &CodedJob) -> Option<V4l2CtrlMpeg2Picture> {
    job.control(V4L2_CID_STATELESS_MPEG2_PICTURE)
        .and_then(Control::get)
}

fn has(job: &CodedJob, flag: u32) -> bool {
    picture(job).is_some_and(|picture| picture.flags & flag != 0)
}

fn is_field(job: &CodedJob) -> bool {
    picture(job).is_some_and(|picture| picture.picture_structure != V4L2_MPEG2_PIC_FRAME)
}

fn has_field_prediction(job: &CodedJob) -> bool {
    !is_field(job) && !has(job, V4L2_MPEG2_PIC_FLAG_FRAME_PRED_DCT)
}

/// Writes a stream with the tests' own writer, and checks that each tool was used.
fn write((width, height, frames): (usize, usize, usize), output: &Path, tools: Tools) -> Result<()> {
    let size = (width, height.next_multiple_of(32));
    let mut writer = Writer::new(size, tools, 0x262);
    let stream = writer.stream(height, frames);
    let counts = [
        (tools.dual_prime, writer.dual_primes),
        (tools.concealment, writer.concealed),
        (true, writer.halves),
    ];
    ensure!(
        counts.into_iter().all(|(is_due, count)| !is_due || count > 100),
        "hardly a macroblock has the tool: {counts:?}"
    );
    std::fs::write(output, stream)?;
    Ok(())
}

/// FFmpeg takes options that stand before a file for that file's: those of the output go behind the input.
fn files(command: &mut Command, files: &Files<'_>) {
    let (before, behind): (Vec<_>, Vec<_>) = {
        let options: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let own = options
            .iter()
            .position(|option| option == "-c:v")
            .unwrap_or(options.len());
        (options[..own].to_vec(), options[own..].to_vec())
    };
    let mut changed = Command::new(command.get_program());
    changed.args(before).arg("-i").arg(files.source);
    changed.args(behind).arg(files.output);
    *command = changed;
}

fn large(_: usize, interval: usize) -> String {
    format!("{LARGE} -q:v 4 -g {interval}")
}

fn small(clip: &SmallClip) -> String {
    // Noise has to come out as it went in, nearly: a soft picture is not recognised.
    let scale = if clip.subject == Subject::Noise { 1 } else { 4 };
    format!("{SMALL} -q:v {scale} -qmin 1 -g {}", clip.interval)
}

/// Returns the bytes of the first picture, which is an I picture.
fn key_frame(data: &[u8]) -> Result<usize> {
    let starts: Vec<usize> = data
        .windows(4)
        .enumerate()
        .filter(|(_, window)| *window == [0, 0, 1, 0])
        .map(|(at, _)| at)
        .take(2)
        .collect();
    ensure!(!starts.is_empty(), "there is no picture");
    let end = starts.get(1).copied().unwrap_or(data.len());
    Ok(end - starts[0])
}
