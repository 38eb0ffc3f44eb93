// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Inputs of the target `mpeg2_headers`.

use daedalus_trace::Job;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_MPEG2_PICTURE, V4L2_CID_STATELESS_MPEG2_QUANTISATION,
    V4L2_CID_STATELESS_MPEG2_SEQUENCE,
};

use super::controls::{control, value};

pub(super) fn headers(job: &Job) -> Option<(&'static str, Vec<u8>)> {
    control(job, V4L2_CID_STATELESS_MPEG2_SEQUENCE)?;
    let second_field = [u8::from(job.same_capture)];
    let input = [
        value(job, V4L2_CID_STATELESS_MPEG2_SEQUENCE),
        value(job, V4L2_CID_STATELESS_MPEG2_PICTURE),
        value(job, V4L2_CID_STATELESS_MPEG2_QUANTISATION),
        &second_field,
    ];
    Some(("mpeg2_headers", input.concat()))
}
