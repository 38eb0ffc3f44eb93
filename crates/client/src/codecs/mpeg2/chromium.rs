// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chromium's part for MPEG-2: it has none.

use crate::coded::CodedJob;
use crate::personality::delegate::{Delegate, Shape};

/// The delegate.
pub(crate) struct Mpeg2;

impl Delegate for Mpeg2 {
    fn refusal(&self, _job: &CodedJob, _session: Option<Shape>) -> Option<&'static str> {
        Some(
            "v4l2/v4l2_utils.cc, EnumerateSupportedProfilesForV4L2Codec: \"Unsupported codec\", \
             kV4L2CodecPixFmtToProfileCID does not have it",
        )
    }
}
