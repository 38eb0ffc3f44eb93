// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What goes into CAPTURE when a job ends, well or not.
//!
//! The last good picture is not copied. Where it is in a CAPTURE buffer, that holds what the client made of it
//! since: the same picture, or something of the client's own. A later picture in the same buffer that went wrong
//! makes it forgotten.

use std::sync::Arc;

use crate::error::JobError;
use crate::frames::{Frame, Offer};
use crate::raw::{Lines, Target};

/// What a picture may be decoded into, if decoding into CAPTURE is wanted and possible.
pub(crate) fn offer(target: &Result<Target<'_>, JobError>, direct: bool) -> Option<Offer> {
    target.as_ref().ok().filter(|_| direct).and_then(Target::offer)
}

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
            self.forget_overwritten(target);
            if matches!(error, JobError::BitDepth { .. }) {
                target.fill_grey();
            }
            return Err(error);
        }
        match damage {
            Some(damage) => {
                self.forget_overwritten(target);
                Err(damage)
            }
            None => {
                self.last_good = Some((frame, lines));
                Ok(())
            }
        }
    }

    /// There is no picture: writes the last good one, or grey. `spoiled` says that a decoder has begun to write
    /// into the buffer.
    pub(crate) fn substitute(&mut self, target: &Target<'_>, spoiled: bool) {
        if spoiled {
            self.forget_overwritten(target);
        }
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

    /// Forgets the last good picture if it is in the buffer, which has another picture now.
    fn forget_overwritten(&mut self, target: &Target<'_>) {
        self.last_good.take_if(|(frame, _)| target.holds(frame));
    }

    /// Forgets the last good picture.
    pub(crate) fn reset(&mut self) {
        self.last_good = None;
    }
}
