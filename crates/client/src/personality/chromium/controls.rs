// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What Chromium puts into a request.
//!
//! * H.264 (v4l2_video_decoder_delegate_h264.cc): two calls to the same request. `SubmitFrameMetadata`:
//!   `SPS`, `PPS` and always `SCALING_MATRIX`, flat where there is none; the PPS flag for the matrix speaks of
//!   the PPS alone, here it is left out always, as it is with a matrix of the SPS. `SubmitDecode`:
//!   `DECODE_PARAMS` and **`DECODE_MODE`**; no flags for P and B frames. The DPB also has the pictures that
//!   wait to be shown and are no references, without the flag for active ones, and frames which stand for a
//!   gap in `frame_num`, valid and active, with the timestamp 32 (`H264DPBToV4L2DPB`).
//! * VP9 (v4l2_video_decoder_delegate_vp9.cc, `SubmitDecode`): `FRAME` and `COMPRESSED_HDR`; the second is
//!   zero here, since the parsers of this crate leave the compressed header to the device.
//! * AV1 (v4l2_video_decoder_delegate_av1.cc): `SEQUENCE`, `FRAME` and `TILE_GROUP_ENTRY`, never `FILM_GRAIN`.
//!   OUTPUT holds the **whole temporal unit**, again for each of its frames (`SubmitDecode`). Sizes of tiles in
//!   superblocks are there for tiles of uneven sizes only (`FillTileInfo`). The flags of affine global motion
//!   are its number, 3 (`FillGlobalMotionParams`). `DIFF_UV_DELTA` is derived from the sequence
//!   (`FillQuantizerIndexDeltaParams`). A reference slot without a picture has the timestamp 2^32 - 1
//!   (`SetupFrameParams`).

use daedalus_uapi::Codec;
use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_QUANTIZATION_FLAG_DIFF_UV_DELTA, V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q,
    V4L2_AV1_TILE_INFO_FLAG_UNIFORM_TILE_SPACING, V4L2_AV1_WARP_MODEL_AFFINE,
    V4L2_CID_STATELESS_AV1_FILM_GRAIN, V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_AV1_SEQUENCE,
    V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY, V4L2_CID_STATELESS_H264_DECODE_MODE,
    V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_CID_STATELESS_H264_PPS,
    V4L2_CID_STATELESS_H264_SCALING_MATRIX, V4L2_CID_STATELESS_VP9_COMPRESSED_HDR,
    V4L2_CID_STATELESS_VP9_FRAME, V4L2_H264_DECODE_PARAM_FLAG_BFRAME, V4L2_H264_DECODE_PARAM_FLAG_PFRAME,
    V4L2_H264_DPB_ENTRY_FLAG_ACTIVE, V4L2_H264_DPB_ENTRY_FLAG_VALID,
    V4L2_H264_PPS_FLAG_SCALING_MATRIX_PRESENT, V4L2_STATELESS_H264_DECODE_MODE_FRAME_BASED,
    V4L2_VP9_FRAME_FLAG_X_SUBSAMPLING, V4L2_VP9_FRAME_FLAG_Y_SUBSAMPLING, V4l2Av1TileInfo, V4l2CtrlAv1Frame,
    V4l2CtrlAv1Sequence, V4l2CtrlAv1TileGroupEntry, V4l2CtrlH264DecodeParams, V4l2CtrlH264Pps,
    V4l2CtrlH264ScalingMatrix, V4l2CtrlVp9CompressedHdr, V4l2CtrlVp9Frame, V4l2H264DpbEntry,
};

use crate::job::{CodedJob, Control};
use crate::personality::controls::{edit, rename_references};
use crate::personality::frames::{Frame, Frames};

/// `VIDEO_MAX_FRAME`, the index of a picture that does not exist.
const NO_PICTURE: u64 = 32;
/// `V4L2_H264_FRAME_REF`.
const FRAME_REF: u8 = 3;

/// A request's contents.
#[derive(Debug)]
pub(super) struct Parts {
    /// The controls, call by call.
    pub(super) controls: Vec<Vec<Control>>,
    pub(super) payload: Vec<u8>,
}

/// The control that makes the device offer 10-bit formats.
pub(super) fn depth(codec: Codec, bit_depth: u8) -> Option<Control> {
    match codec {
        Codec::Vp9 if bit_depth != 8 => Some(Control::new(
            V4L2_CID_STATELESS_VP9_FRAME,
            &V4l2CtrlVp9Frame {
                bit_depth,
                profile: 2,
                flags: V4L2_VP9_FRAME_FLAG_X_SUBSAMPLING | V4L2_VP9_FRAME_FLAG_Y_SUBSAMPLING,
                ..Default::default()
            },
        )),
        Codec::Av1 if bit_depth != 8 => Some(Control::new(
            V4L2_CID_STATELESS_AV1_SEQUENCE,
            &V4l2CtrlAv1Sequence {
                bit_depth,
                ..Default::default()
            },
        )),
        _ => None,
    }
}

/// The controls and the payload of `job`'s request.
pub(super) fn of(job: &CodedJob, frames: &Frames) -> Parts {
    let mut controls = job.controls.clone();
    let mut payload = job.payload.clone();
    let absent = if job.unit.is_some() {
        u64::from(u32::MAX)
    } else {
        0
    };
    rename_references(&mut controls, absent, |picture| {
        frames.get(picture).map(|frame| frame.timestamp)
    });
    let mut second = Vec::new();
    if job.control(V4L2_CID_STATELESS_H264_PPS).is_some() {
        second = h264(&mut controls, frames);
    } else if let Some(unit) = &job.unit {
        payload = unit.bytes.to_vec();
        let tiles: Vec<V4l2CtrlAv1TileGroupEntry> =
            unit.groups.iter().flat_map(|group| group.tiles.clone()).collect();
        av1(&mut controls, &tiles);
    } else {
        let id = V4L2_CID_STATELESS_VP9_COMPRESSED_HDR;
        controls.push(Control::new(id, &V4l2CtrlVp9CompressedHdr::default()));
    }
    let mut calls = vec![controls];
    if !second.is_empty() {
        calls.push(second);
    }
    Parts {
        controls: calls,
        payload,
    }
}

/// The order counts of an H.264 picture, which the DPB entries of later ones repeat.
pub(super) fn counts(job: &CodedJob) -> [i32; 2] {
    job.control(V4L2_CID_STATELESS_H264_DECODE_PARAMS)
        .and_then(Control::get::<V4l2CtrlH264DecodeParams>)
        .map_or([0; 2], |params| {
            [params.top_field_order_cnt, params.bottom_field_order_cnt]
        })
}

/// Changes the first call's controls; returns those of the second.
fn h264(controls: &mut Vec<Control>, frames: &Frames) -> Vec<Control> {
    edit(
        controls,
        V4L2_CID_STATELESS_H264_PPS,
        |pps: &mut V4l2CtrlH264Pps| pps.flags &= !V4L2_H264_PPS_FLAG_SCALING_MATRIX_PRESENT,
    );
    edit(
        controls,
        V4L2_CID_STATELESS_H264_DECODE_PARAMS,
        |params: &mut V4l2CtrlH264DecodeParams| {
            params.flags &= !(V4L2_H264_DECODE_PARAM_FLAG_PFRAME | V4L2_H264_DECODE_PARAM_FLAG_BFRAME);
            complete_dpb(&mut params.dpb, frames);
        },
    );
    let is_second = |control: &Control| control.id == V4L2_CID_STATELESS_H264_DECODE_PARAMS;
    let mut second: Vec<Control> = controls
        .iter()
        .filter(|control| is_second(control))
        .cloned()
        .collect();
    controls.retain(|control| !is_second(control));
    second.push(Control::new(
        V4L2_CID_STATELESS_H264_DECODE_MODE,
        &V4L2_STATELESS_H264_DECODE_MODE_FRAME_BASED,
    ));
    let id = V4L2_CID_STATELESS_H264_SCALING_MATRIX;
    if !controls.iter().any(|control| control.id == id) {
        let flat = V4l2CtrlH264ScalingMatrix {
            scaling_list_4x4: [[16; 16]; 6],
            scaling_list_8x8: [[16; 64]; 6],
        };
        controls.push(Control::new(id, &flat));
    }
    second
}

/// Adds what the parser's DPB does not have: frames that do not exist, and pictures that only wait.
fn complete_dpb(dpb: &mut [V4l2H264DpbEntry], frames: &Frames) {
    for entry in dpb.iter_mut() {
        if entry.flags == 0 && entry.fields != 0 {
            entry.reference_ts = NO_PICTURE;
            entry.flags = V4L2_H264_DPB_ENTRY_FLAG_VALID | V4L2_H264_DPB_ENTRY_FLAG_ACTIVE;
        }
    }
    let waiting = frames.iter().filter(|frame: &&Frame| !frame.is_reference());
    let free = dpb.iter_mut().filter(|entry| entry.flags == 0);
    for (entry, frame) in free.zip(waiting) {
        *entry = V4l2H264DpbEntry {
            reference_ts: frame.timestamp,
            fields: FRAME_REF,
            top_field_order_cnt: frame.counts[0],
            bottom_field_order_cnt: frame.counts[1],
            flags: V4L2_H264_DPB_ENTRY_FLAG_VALID,
            ..Default::default()
        };
    }
}

fn av1(controls: &mut Vec<Control>, tiles: &[V4l2CtrlAv1TileGroupEntry]) {
    controls.retain(|control| control.id != V4L2_CID_STATELESS_AV1_FILM_GRAIN);
    let id = V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY;
    if let Some(control) = controls.iter_mut().find(|control| control.id == id) {
        *control = Control::new(id, tiles);
    }
    let separate = controls
        .iter()
        .find(|control| control.id == V4L2_CID_STATELESS_AV1_SEQUENCE)
        .and_then(Control::get::<V4l2CtrlAv1Sequence>)
        .is_some_and(|sequence| sequence.flags & V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q != 0);
    edit(
        controls,
        V4L2_CID_STATELESS_AV1_FRAME,
        |frame: &mut V4l2CtrlAv1Frame| {
            only_uneven(&mut frame.tile_info);
            let affine = V4L2_AV1_WARP_MODEL_AFFINE;
            let motion = &mut frame.global_motion;
            for (flags, kind) in motion.flags.iter_mut().zip(motion.type_) {
                if kind == affine {
                    *flags |= affine as u8;
                }
            }
            let quantization = &mut frame.quantization;
            quantization.flags &= !V4L2_AV1_QUANTIZATION_FLAG_DIFF_UV_DELTA;
            if separate && quantization.base_q_idx != 0 {
                quantization.flags |= V4L2_AV1_QUANTIZATION_FLAG_DIFF_UV_DELTA;
            }
        },
    );
}

/// Takes the sizes of evenly spaced tiles away.
fn only_uneven(info: &mut V4l2Av1TileInfo) {
    if info.flags & V4L2_AV1_TILE_INFO_FLAG_UNIFORM_TILE_SPACING != 0 {
        info.width_in_sbs_minus_1 = [0; 64];
        info.height_in_sbs_minus_1 = [0; 64];
    }
}
