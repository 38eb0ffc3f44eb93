// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chromium's part for HEVC (media/gpu/v4l2/v4l2_video_decoder_delegate_h265.cc).
//!
//! A request has `SPS`, `PPS`, `SCALING_MATRIX` and `DECODE_PARAMS`; the matrix is the specification's where
//! the sequence has none. Lists of references leave out what is missing, and count only what they have.

use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, V4L2_CID_STATELESS_HEVC_SCALING_MATRIX,
    V4L2_CID_STATELESS_HEVC_SPS, V4l2CtrlHevcDecodeParams, V4l2CtrlHevcSps,
};

use super::controls::lists;
use super::scaling::Lists;
use crate::coded::{CodedJob, Control};
use crate::personality::controls::edit;
use crate::personality::delegate::{Delegate, Parts};
use crate::personality::frames::Frames;

/// The delegate.
pub(crate) struct Hevc;

impl Delegate for Hevc {
    fn depth_control(&self, bit_depth: u8) -> Option<Control> {
        let sps = V4l2CtrlHevcSps {
            bit_depth_luma_minus8: bit_depth - 8,
            bit_depth_chroma_minus8: bit_depth - 8,
            ..Default::default()
        };
        (bit_depth != 8).then(|| Control::new(V4L2_CID_STATELESS_HEVC_SPS, &sps))
    }

    fn request(&self, job: &CodedJob, mut controls: Vec<Control>, _frames: &Frames) -> Parts {
        let id = V4L2_CID_STATELESS_HEVC_SCALING_MATRIX;
        if !controls.iter().any(|control| control.id == id) {
            controls.push(Control::new(id, &Lists::default().control()));
        }
        edit(
            &mut controls,
            V4L2_CID_STATELESS_HEVC_DECODE_PARAMS,
            leave_out_missing,
        );
        Parts {
            controls: vec![controls],
            payload: job.payload.clone(),
        }
    }
}

/// Takes references that are missing out of the lists.
fn leave_out_missing(params: &mut V4l2CtrlHevcDecodeParams) {
    let entries = params.num_active_dpb_entries;
    let counts = lists(params).map(|list| {
        let present: Vec<u8> = list.iter().copied().filter(|index| *index < entries).collect();
        list.fill(0);
        list[..present.len()].copy_from_slice(&present);
        present.len() as u8
    });
    [
        params.num_poc_st_curr_before,
        params.num_poc_st_curr_after,
        params.num_poc_lt_curr,
    ] = counts;
}
