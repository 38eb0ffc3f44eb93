// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chromium's part for H.264 (media/gpu/v4l2/v4l2_video_decoder_delegate_h264.cc).
//!
//! A request has two calls. `SubmitFrameMetadata`: `SPS`, `PPS` and always `SCALING_MATRIX`, flat where there
//! is none; the PPS flag for the matrix speaks of the PPS alone, here it is left out always, as it is with a
//! matrix of the SPS. `SubmitDecode`: `DECODE_PARAMS` and **`DECODE_MODE`**; no flags for P and B frames. The
//! DPB also has the pictures that wait to be shown and are no references, without the flag for active ones,
//! and frames which stand for a gap in `frame_num`, valid and active, with the timestamp 32
//! (`H264DPBToV4L2DPB`).
//!
//! Chromium waits for an IDR picture or a recovery point after the start of a stream; this client does not.

use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_H264_DECODE_MODE, V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_CID_STATELESS_H264_PPS,
    V4L2_CID_STATELESS_H264_SCALING_MATRIX, V4L2_CID_STATELESS_H264_SPS, V4L2_H264_DECODE_PARAM_FLAG_BFRAME,
    V4L2_H264_DECODE_PARAM_FLAG_PFRAME, V4L2_H264_DPB_ENTRY_FLAG_ACTIVE, V4L2_H264_DPB_ENTRY_FLAG_VALID,
    V4L2_H264_PPS_FLAG_SCALING_MATRIX_PRESENT, V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY,
    V4L2_STATELESS_H264_DECODE_MODE_FRAME_BASED, V4l2CtrlH264DecodeParams, V4l2CtrlH264Pps,
    V4l2CtrlH264ScalingMatrix, V4l2CtrlH264Sps, V4l2H264DpbEntry,
};

use crate::coded::{CodedJob, Control};
use crate::personality::controls::edit;
use crate::personality::delegate::{Delegate, Parts, Shape};
use crate::personality::frames::{Frame, Frames};

/// `VIDEO_MAX_FRAME`, the index of a picture that does not exist.
const NO_PICTURE: u64 = 32;
/// `V4L2_H264_FRAME_REF`.
const FRAME_REF: u8 = 3;

/// The delegate.
pub(crate) struct H264;

impl Delegate for H264 {
    fn order_counts(&self, job: &CodedJob) -> [i32; 2] {
        job.control(V4L2_CID_STATELESS_H264_DECODE_PARAMS)
            .and_then(Control::get::<V4l2CtrlH264DecodeParams>)
            .map_or([0; 2], |params| {
                [params.top_field_order_cnt, params.bottom_field_order_cnt]
            })
    }

    fn request(&self, job: &CodedJob, mut controls: Vec<Control>, frames: &Frames) -> Parts {
        let second = fill(&mut controls, frames);
        Parts {
            controls: vec![controls, second],
            payload: job.payload.clone(),
        }
    }

    fn refusal(&self, job: &CodedJob, _session: Option<Shape>) -> Option<&'static str> {
        let sps: V4l2CtrlH264Sps = job.control(V4L2_CID_STATELESS_H264_SPS)?.get()?;
        if sps.flags & V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY == 0 {
            return Some("h264_decoder.cc, ProcessSPS: \"frame_mbs_only_flag != 1 not supported\"");
        }
        (sps.bit_depth_luma_minus8 != 0 || sps.bit_depth_chroma_minus8 != 0).then_some(
            "v4l2/v4l2_video_decoder.cc, SetExtCtrls10Bit: 10 bit is known of HEVC, VP9 and AV1 only",
        )
    }
}

/// Changes the first call's controls; returns those of the second.
fn fill(controls: &mut Vec<Control>, frames: &Frames) -> Vec<Control> {
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

/// Adds the entries that the parser's DPB lacks: frames that do not exist, and pictures that only wait.
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
