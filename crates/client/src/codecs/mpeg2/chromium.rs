// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chromium's part for MPEG-2: it has none.

use crate::coded::{CodedJob, Control};
use crate::personality::delegate::{Delegate, Parts, Shape};
use crate::personality::frames::Frames;

/// The delegate.
pub(crate) struct Mpeg2;

impl Delegate for Mpeg2 {
    fn request(&self, job: &CodedJob, controls: Vec<Control>, _frames: &Frames) -> Parts {
        Parts {
            controls: vec![controls],
            payload: job.payload.clone(),
        }
    }

    fn refusal(&self, _job: &CodedJob, _session: Option<Shape>) -> Option<&'static str> {
        Some(
            "v4l2/v4l2_utils.cc, EnumerateSupportedProfilesForV4L2Codec: \"Unsupported codec\", \
             kV4L2CodecPixFmtToProfileCID does not have it",
        )
    }
}
