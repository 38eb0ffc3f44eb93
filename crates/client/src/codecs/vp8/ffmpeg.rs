// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FFmpeg's hwaccel for VP8 (libavcodec/v4l2_request_vp8.c).
//!
//! A request has `FRAME`; nothing is set or asked for before. The scales are not filled in
//! (`v4l2_request_vp8_decode_slice`). On a key frame the references are those that the decoder had before,
//! as the parser gives them. The payload is the whole frame. libavcodec/vp8.c (`vp78_decode_frame`) keeps the
//! last picture while it gets a buffer for the next one, for its segments. A key frame of another size ends
//! the session (`update_dimensions`).

use daedalus_uapi::v4l2_controls::{V4L2_CID_STATELESS_VP8_FRAME, V4l2CtrlVp8Frame};

use crate::coded::{CodedJob, Control};
use crate::device::{ClientError, Device};
use crate::personality::controls::edit;
use crate::personality::hwaccel::Hwaccel;

/// The hwaccel.
pub(crate) struct Vp8;

impl Hwaccel for Vp8 {
    fn prepare(&self, _device: &Device) -> Result<bool, ClientError> {
        Ok(false)
    }

    fn keeps_last_picture(&self) -> bool {
        true
    }

    fn request(&self, job: &CodedJob, _optional: bool) -> (Vec<Control>, Vec<u8>) {
        let mut controls = job.controls.clone();
        edit(
            &mut controls,
            V4L2_CID_STATELESS_VP8_FRAME,
            |frame: &mut V4l2CtrlVp8Frame| {
                frame.horizontal_scale = 0;
                frame.vertical_scale = 0;
            },
        );
        (controls, job.payload.clone())
    }
}
