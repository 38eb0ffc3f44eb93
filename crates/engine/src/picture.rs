// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What goes into CAPTURE when a job ends, well or not.

use std::sync::Arc;

use crate::error::JobError;
use crate::frames::Frame;
use crate::raw::{Lines, Target};

/// Writes pictures, and remembers the last good one to show in place of one that is lost.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    last_good: Option<(Arc<Frame>, Lines)>,
}

impl Shown {
    /// Writes a decoded picture. `damage` says why it is not exact.
    ///
    /// # Errors
    /// `damage`, or that the picture does not go into the buffer.
    pub(crate) fn picture(
        &mut self,
        target: &Target<'_>,
        frame: Arc<Frame>,
        lines: Lines,
        damage: Option<JobError>,
    ) -> Result<(), JobError> {
        if let Err(error) = target.write(&frame, lines) {
            if matches!(error, JobError::BitDepth { .. }) {
                target.fill_grey();
            }
            return Err(error);
        }
        match damage {
            Some(damage) => Err(damage),
            None => {
                self.last_good = Some((frame, lines));
                Ok(())
            }
        }
    }

    /// There is no picture: writes the last good one, or grey.
    pub(crate) fn substitute(&self, target: &Target<'_>) {
        match &self.last_good {
            Some((frame, lines)) if frame.layout.depth == target.depth() => {
                // What of it fits is good enough here.
                if let Err(error) = target.write(frame, *lines) {
                    tracing::debug!(%error, "substitute picture");
                }
            }
            _ => target.fill_grey(),
        }
    }

    /// Forgets the last good picture.
    pub(crate) fn reset(&mut self) {
        self.last_good = None;
    }
}
