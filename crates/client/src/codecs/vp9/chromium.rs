// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chromium's part for VP9 (media/gpu/v4l2/v4l2_video_decoder_delegate_vp9.cc, `SubmitDecode`).
//!
//! A request has `FRAME` and `COMPRESSED_HDR`; the second is zero here, since the parsers of this crate leave
//! the compressed header to the device.

use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_VP9_COMPRESSED_HDR, V4L2_CID_STATELESS_VP9_FRAME, V4L2_VP9_FRAME_FLAG_X_SUBSAMPLING,
    V4L2_VP9_FRAME_FLAG_Y_SUBSAMPLING, V4l2CtrlVp9CompressedHdr, V4l2CtrlVp9Frame,
};

use crate::coded::{CodedJob, Control};
use crate::personality::delegate::{Delegate, Parts, Shape};
use crate::personality::frames::Frames;

/// The delegate.
pub(crate) struct Vp9;

impl Delegate for Vp9 {
    fn depth_control(&self, bit_depth: u8) -> Option<Control> {
        let frame = V4l2CtrlVp9Frame {
            bit_depth,
            profile: 2,
            flags: V4L2_VP9_FRAME_FLAG_X_SUBSAMPLING | V4L2_VP9_FRAME_FLAG_Y_SUBSAMPLING,
            ..Default::default()
        };
        (bit_depth != 8).then(|| Control::new(V4L2_CID_STATELESS_VP9_FRAME, &frame))
    }

    fn request(&self, job: &CodedJob, mut controls: Vec<Control>, _frames: &Frames) -> Parts {
        let id = V4L2_CID_STATELESS_VP9_COMPRESSED_HDR;
        controls.push(Control::new(id, &V4l2CtrlVp9CompressedHdr::default()));
        Parts {
            controls: vec![controls],
            payload: job.payload.clone(),
        }
    }

    fn refusal(&self, job: &CodedJob, session: Option<Shape>) -> Option<&'static str> {
        let shape = ((job.coded_width, job.coded_height), job.bit_depth);
        let changes = session.is_some_and(|session| session != shape);
        (changes && !job.key).then_some(
            "vp9_decoder.cc, Decode: \"Resolution change currently supported for keyframes\", the frame is \
             dropped",
        )
    }
}
