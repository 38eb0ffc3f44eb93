// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FFmpeg's hwaccel for H.264 (libavcodec/v4l2_request_h264.c).
//!
//! * `H264_DECODE_MODE` and `H264_START_CODE` are set to their defaults outside of any request
//!   (`v4l2_request_h264_post_frames_ctx`).
//! * A request has `SPS`, `PPS`, `SCALING_MATRIX`, `DECODE_PARAMS`, always all four; the matrix is flat where
//!   the stream has none, has two 8x8 lists, and the PPS says that it is there (`fill_pps`,
//!   `v4l2_request_h264_start_frame`). The DPB has the short-term references, latest first, then the
//!   long-term ones, without gaps, and no frames that stand for a gap in `frame_num` (`fill_dpb`).
//! * The decoder lets go of a picture when it has got a buffer for the next one (libavcodec/h264_slice.c,
//!   `h264_frame_start`).

use daedalus_uapi::Codec;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_CID_STATELESS_H264_PPS,
    V4L2_CID_STATELESS_H264_SCALING_MATRIX, V4L2_H264_DPB_ENTRY_FLAG_LONG_TERM,
    V4L2_H264_DPB_ENTRY_FLAG_VALID, V4L2_H264_PPS_FLAG_SCALING_MATRIX_PRESENT, V4l2CtrlH264DecodeParams,
    V4l2CtrlH264Pps, V4l2CtrlH264ScalingMatrix, V4l2H264DpbEntry,
};

use crate::coded::{CodedJob, Control};
use crate::device::{ClientError, Device};
use crate::personality::controls::edit;
use crate::personality::hwaccel::Hwaccel;

/// The hwaccel.
pub(crate) struct H264;

impl Hwaccel for H264 {
    fn prepare(&self, device: &Device) -> Result<bool, ClientError> {
        // Both modes are set to the default that the device names.
        let mut values = Vec::new();
        for &(id, _) in Codec::H264.info().menus {
            let default = device.query_control(id)?.default_value;
            values.push(Control::new(id, &(default as u32)));
        }
        device.set_controls(&values, None)?;
        Ok(false)
    }

    fn keeps_last_picture(&self) -> bool {
        true
    }

    fn request(&self, job: &CodedJob, _optional: bool) -> (Vec<Control>, Vec<u8>) {
        let mut controls = job.controls.clone();
        fill(&mut controls);
        (controls, job.payload.clone())
    }
}

fn fill(controls: &mut Vec<Control>) {
    edit(
        controls,
        V4L2_CID_STATELESS_H264_PPS,
        |pps: &mut V4l2CtrlH264Pps| pps.flags |= V4L2_H264_PPS_FLAG_SCALING_MATRIX_PRESENT,
    );
    let id = V4L2_CID_STATELESS_H264_SCALING_MATRIX;
    if !controls.iter().any(|control| control.id == id) {
        let flat = V4l2CtrlH264ScalingMatrix {
            scaling_list_4x4: [[16; 16]; 6],
            scaling_list_8x8: [[16; 64]; 6],
        };
        let params = controls.len() - 1;
        controls.insert(params, Control::new(id, &flat));
    }
    edit(controls, id, |matrix: &mut V4l2CtrlH264ScalingMatrix| {
        for list in &mut matrix.scaling_list_8x8[2..] {
            *list = [0; 64];
        }
    });
    edit(
        controls,
        V4L2_CID_STATELESS_H264_DECODE_PARAMS,
        |params: &mut V4l2CtrlH264DecodeParams| {
            let all = params.dpb;
            let valid = |entry: &&V4l2H264DpbEntry| entry.flags & V4L2_H264_DPB_ENTRY_FLAG_VALID != 0;
            let long = |entry: &V4l2H264DpbEntry| entry.flags & V4L2_H264_DPB_ENTRY_FLAG_LONG_TERM != 0;
            let short_terms = all.iter().filter(valid).filter(|entry| !long(entry)).rev();
            let mut long_terms: Vec<_> = all.iter().filter(valid).filter(|entry| long(entry)).collect();
            long_terms.sort_by_key(|entry| entry.frame_num);
            let entries = short_terms.chain(long_terms);
            params.dpb = Default::default();
            for (entry, from) in params.dpb.iter_mut().zip(entries) {
                *entry = *from;
            }
        },
    );
}
