// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The part of FFmpeg's client that differs from codec to codec: a hwaccel.

use crate::coded::{CodedJob, Control};
use crate::device::{ClientError, Device};

/// A hwaccel.
pub(crate) trait Hwaccel: Sync {
    /// Asks the device what FFmpeg asks, and sets what it sets, once there are CAPTURE buffers. Returns
    /// whether the device has the control that requests have only then.
    ///
    /// # Errors
    /// The device's.
    fn prepare(&self, device: &Device) -> Result<bool, ClientError>;

    /// Returns whether a new size of the picture at this job leaves the session as it is.
    fn keeps_session(&self, _job: &CodedJob) -> bool {
        false
    }

    /// Returns whether the decoder lets go of a picture only when it has got a buffer for the next one.
    fn keeps_last_picture(&self) -> bool {
        false
    }

    /// Returns the controls and the payload of `job`'s request. Pictures have the parser's names.
    fn request(&self, job: &CodedJob, optional: bool) -> (Vec<Control>, Vec<u8>);
}
