// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The MPEG-2 writers: controls of any bytes give headers or an error, and an error appends nothing.

use daedalus_codecs::mpeg2::{Headers, PictureControls};
use daedalus_trace::Job;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_MPEG2_PICTURE, V4L2_CID_STATELESS_MPEG2_QUANTISATION,
    V4L2_CID_STATELESS_MPEG2_SEQUENCE, V4l2CtrlMpeg2Picture, V4l2CtrlMpeg2Quantisation,
    V4l2CtrlMpeg2Sequence,
};
use zerocopy::FromBytes;

use super::controls::{control, value};
use super::target::Target;

/// The target.
pub(super) const TARGET: Target = Target { input, run };

fn input(job: &Job) -> Option<Vec<u8>> {
    control(job, V4L2_CID_STATELESS_MPEG2_SEQUENCE)?;
    let second_field = [u8::from(job.same_capture)];
    let input = [
        value(job, V4L2_CID_STATELESS_MPEG2_SEQUENCE),
        value(job, V4L2_CID_STATELESS_MPEG2_PICTURE),
        value(job, V4L2_CID_STATELESS_MPEG2_QUANTISATION),
        &second_field,
    ];
    Some(input.concat())
}

fn run(data: &[u8]) {
    let mut rest = data;
    let mut headers = Headers::default();
    let mut out = Vec::new();
    while let Ok((sequence, tail)) = V4l2CtrlMpeg2Sequence::read_from_prefix(rest) {
        let Ok((picture, tail)) = V4l2CtrlMpeg2Picture::read_from_prefix(tail) else {
            return;
        };
        let Ok((quantisation, tail)) = V4l2CtrlMpeg2Quantisation::read_from_prefix(tail) else {
            return;
        };
        let (&kind, tail) = tail.split_first().unwrap_or((&0, tail));
        rest = tail;
        let controls = PictureControls {
            sequence: &sequence,
            picture: &picture,
            quantisation: &quantisation,
        };
        let before = out.len();
        if headers.write(&controls, kind & 1 != 0, &mut out).is_err() {
            assert_eq!(out.len(), before);
            continue;
        }
        // No start code is imitated: the headers are five at most, and the extension of a matrix.
        let codes = out[before..].windows(3).filter(|bytes| *bytes == [0, 0, 1]);
        let codes = codes.count();
        assert!((2..=5).contains(&codes), "{codes} start codes");
        out.clear();
    }
}
