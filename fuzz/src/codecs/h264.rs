// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The H.264 writers: controls of any bytes give parameter sets or an error, and an error appends nothing.

use daedalus_codecs::h264::{ParameterSets, VuiPolicy, scaling_matrix_in_force};
use daedalus_trace::Job;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_H264_PPS, V4L2_CID_STATELESS_H264_SCALING_MATRIX, V4L2_CID_STATELESS_H264_SPS,
    V4l2CtrlH264Pps, V4l2CtrlH264ScalingMatrix, V4l2CtrlH264Sps,
};
use zerocopy::FromBytes;

use super::controls::{control, value};
use super::target::Target;

/// The target.
pub(super) const TARGET: Target = Target { input, run };

fn input(job: &Job) -> Option<Vec<u8>> {
    control(job, V4L2_CID_STATELESS_H264_SPS)?;
    let input = [
        value(job, V4L2_CID_STATELESS_H264_SPS),
        value(job, V4L2_CID_STATELESS_H264_PPS),
        value(job, V4L2_CID_STATELESS_H264_SCALING_MATRIX),
    ];
    Some(input.concat())
}

fn run(data: &[u8]) {
    let mut rest = data;
    let mut sets = ParameterSets::default();
    let mut out = Vec::new();
    while let Ok((sps, tail)) = V4l2CtrlH264Sps::read_from_prefix(rest) {
        let Ok((pps, tail)) = V4l2CtrlH264Pps::read_from_prefix(tail) else {
            return;
        };
        let (scaling, in_request, tail) = match V4l2CtrlH264ScalingMatrix::read_from_prefix(tail) {
            Ok((matrix, tail)) => (matrix, tail.first().is_some_and(|byte| byte & 1 != 0), tail),
            Err(_) => (V4l2CtrlH264ScalingMatrix::default(), false, &tail[..0]),
        };
        rest = tail;
        let scaling = scaling_matrix_in_force(&pps, &scaling, in_request);
        let before = out.len();
        match sets.write(&sps, &pps, scaling, VuiPolicy::decode_order(&sps), &mut out) {
            Ok(written) => assert_eq!(out.len() > before, written.sps || written.pps),
            Err(_) => assert_eq!(out.len(), before),
        }
        // Emulation is prevented (ITU-T H.264 7.4.1): these three bytes are in no NAL unit and no start code.
        assert!(!out[before..].windows(3).any(|bytes| bytes == [0, 0, 2]));
        out.clear();
    }
}
