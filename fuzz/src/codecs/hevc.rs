// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The HEVC writer: controls and slice segments of any bytes give a picture or an error, and an error appends
//! nothing.

use daedalus_codecs::hevc::{Controls, OutputOrder, Writer};
use daedalus_trace::Job;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, V4L2_CID_STATELESS_HEVC_PPS,
    V4L2_CID_STATELESS_HEVC_SCALING_MATRIX, V4L2_CID_STATELESS_HEVC_SPS, V4l2CtrlHevcDecodeParams,
    V4l2CtrlHevcPps, V4l2CtrlHevcScalingMatrix, V4l2CtrlHevcSps,
};
use zerocopy::FromBytes;

use super::controls::{control, value};
use super::target::Target;

/// Bytes of coded data in an input: the headers of slice segments are at its beginning.
const CODED: usize = 2048;

/// The target.
pub(super) const TARGET: Target = Target { input, run };

fn input(job: &Job) -> Option<Vec<u8>> {
    control(job, V4L2_CID_STATELESS_HEVC_SPS)?;
    let input = [
        value(job, V4L2_CID_STATELESS_HEVC_SPS),
        value(job, V4L2_CID_STATELESS_HEVC_PPS),
        value(job, V4L2_CID_STATELESS_HEVC_DECODE_PARAMS),
        value(job, V4L2_CID_STATELESS_HEVC_SCALING_MATRIX),
        &job.coded[..job.coded.len().min(CODED)],
    ];
    Some(input.concat())
}

fn run(data: &[u8]) {
    let Ok((sps, rest)) = V4l2CtrlHevcSps::read_from_prefix(data) else {
        return;
    };
    let Ok((pps, rest)) = V4l2CtrlHevcPps::read_from_prefix(rest) else {
        return;
    };
    let Ok((params, rest)) = V4l2CtrlHevcDecodeParams::read_from_prefix(rest) else {
        return;
    };
    let Ok((scaling, payload)) = V4l2CtrlHevcScalingMatrix::read_from_prefix(rest) else {
        return;
    };
    let controls = Controls {
        sps: &sps,
        pps: &pps,
        scaling: Some(&scaling),
        params: &params,
    };
    let mut writer = Writer::default();
    let mut out = Vec::new();
    // A second time, the parameter sets are there.
    for _ in 0..2 {
        let before = out.len();
        match writer.write(&controls, OutputOrder::Decode, payload, &mut out) {
            Ok(_) => assert!(out.len() > before),
            Err(_) => assert_eq!(out.len(), before),
        }
    }
}
