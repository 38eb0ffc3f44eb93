// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chromium's part for VP8 (media/gpu/v4l2/v4l2_video_decoder_delegate_vp8.cc, `SubmitDecode`).
//!
//! A request has `FRAME`, and the payload is the whole frame. On a key frame of the same size the references
//! are those that the decoder had before: vp8_decoder.cc (`DecodeAndOutputCurrentFrame`) refreshes them when
//! the frame was submitted, and forgets them at a new size.

use crate::coded::{CodedJob, Control};
use crate::personality::delegate::{Delegate, Parts, Shape};
use crate::personality::frames::Frames;

/// The delegate.
pub(crate) struct Vp8;

impl Delegate for Vp8 {
    fn request(&self, job: &CodedJob, controls: Vec<Control>, _frames: &Frames) -> Parts {
        Parts {
            controls: vec![controls],
            payload: job.payload.clone(),
        }
    }

    fn refusal(&self, _job: &CodedJob, _session: Option<Shape>) -> Option<&'static str> {
        None
    }
}
