// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Inputs of the target `hevc_headers`.

use daedalus_trace::Job;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, V4L2_CID_STATELESS_HEVC_PPS,
    V4L2_CID_STATELESS_HEVC_SCALING_MATRIX, V4L2_CID_STATELESS_HEVC_SPS,
};

use super::controls::{control, value};

/// Bytes of coded data in an input: the headers of slice segments are at its beginning.
const CODED: usize = 2048;

pub(super) fn headers(job: &Job) -> Option<(&'static str, Vec<u8>)> {
    control(job, V4L2_CID_STATELESS_HEVC_SPS)?;
    let input = [
        value(job, V4L2_CID_STATELESS_HEVC_SPS),
        value(job, V4L2_CID_STATELESS_HEVC_PPS),
        value(job, V4L2_CID_STATELESS_HEVC_DECODE_PARAMS),
        value(job, V4L2_CID_STATELESS_HEVC_SCALING_MATRIX),
        &job.coded[..job.coded.len().min(CODED)],
    ];
    Some(("hevc_headers", input.concat()))
}
