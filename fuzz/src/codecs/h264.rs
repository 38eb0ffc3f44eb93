// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Inputs of the target `h264_headers`.

use daedalus_trace::Job;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_H264_PPS, V4L2_CID_STATELESS_H264_SCALING_MATRIX, V4L2_CID_STATELESS_H264_SPS,
};

use super::controls::{control, value};

pub(super) fn headers(job: &Job) -> Option<(&'static str, Vec<u8>)> {
    control(job, V4L2_CID_STATELESS_H264_SPS)?;
    let input = [
        value(job, V4L2_CID_STATELESS_H264_SPS),
        value(job, V4L2_CID_STATELESS_H264_PPS),
        value(job, V4L2_CID_STATELESS_H264_SCALING_MATRIX),
    ];
    Some(("h264_headers", input.concat()))
}
