// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Inputs of the target `vp8_headers`.

use daedalus_trace::Job;
use daedalus_uapi::v4l2_controls::V4L2_CID_STATELESS_VP8_FRAME;

use super::controls::control;

pub(super) fn headers(job: &Job) -> Option<(&'static str, Vec<u8>)> {
    control(job, V4L2_CID_STATELESS_VP8_FRAME)?;
    Some(("vp8_headers", job.coded.clone()))
}
