// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FFmpeg's hwaccel for VP9 (libavcodec/v4l2_request_vp9.c).
//!
//! A request has `FRAME` and `COMPRESSED_HDR`. The render size is not filled in (`fill_frame`). FFmpeg fills
//! the second control with the probabilities that it has parsed; here it is zero, since the parsers of this
//! crate leave the compressed header to the device, as the device does with the control.
//!
//! When an *inter* frame changes its size, FFmpeg loses the references: they belong to the session that
//! `update_size` (libavcodec/vp9.c) ended. This client keeps the session and resizes it.

use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_VP9_COMPRESSED_HDR, V4L2_CID_STATELESS_VP9_FRAME, V4l2CtrlVp9CompressedHdr,
    V4l2CtrlVp9Frame,
};

use crate::coded::{CodedJob, Control};
use crate::device::{ClientError, Device};
use crate::personality::controls::edit;
use crate::personality::hwaccel::Hwaccel;

/// The hwaccel.
pub(crate) struct Vp9;

impl Hwaccel for Vp9 {
    fn prepare(&self, device: &Device) -> Result<bool, ClientError> {
        // FFmpeg leaves the control out of its requests if the device does not have it; this one has.
        device.query_control(V4L2_CID_STATELESS_VP9_COMPRESSED_HDR)?;
        Ok(true)
    }

    fn keeps_session(&self, job: &CodedJob) -> bool {
        !job.key
    }

    fn request(&self, job: &CodedJob, _optional: bool) -> (Vec<Control>, Vec<u8>) {
        let mut controls = job.controls.clone();
        edit(
            &mut controls,
            V4L2_CID_STATELESS_VP9_FRAME,
            |frame: &mut V4l2CtrlVp9Frame| {
                frame.render_width_minus_1 = 0;
                frame.render_height_minus_1 = 0;
            },
        );
        let id = V4L2_CID_STATELESS_VP9_COMPRESSED_HDR;
        controls.push(Control::new(id, &V4l2CtrlVp9CompressedHdr::default()));
        (controls, job.payload.clone())
    }
}
