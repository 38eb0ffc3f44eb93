// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes the result of a job into CAPTURE: its picture, or a substitute for one that is lost.
//!
//! The substitute is the session's last good picture, which is not copied for this. If it was decoded into a
//! CAPTURE buffer, its pixels are whatever the client has put there since: the same picture, or something of
//! the client's own. It is forgotten when a later picture in the same buffer goes wrong.

use std::sync::Arc;

use crate::capture::{Lines, Target};
use crate::error::JobError;
use crate::frames::Frame;

/// A decoded picture.
#[derive(Debug)]
pub(crate) struct Picture {
    /// The memory that it was decoded into.
    pub(crate) frame: Arc<Frame>,
    /// The lines of it that are decoded.
    pub(crate) lines: Lines,
    /// Why it is not exact; `None` if it is.
    pub(crate) damage: Option<JobError>,
}

/// The last picture of a session that was exact.
#[derive(Debug, Default)]
pub(crate) struct LastGood {
    picture: Option<(Arc<Frame>, Lines)>,
}

impl LastGood {
    /// Writes a decoded picture, and remembers it if it is exact.
    ///
    /// # Errors
    /// [`Picture::damage`], or the reason why the picture does not go into the buffer.
    pub(crate) fn write(&mut self, target: &Target, picture: Picture) -> Result<(), JobError> {
        let Picture { frame, lines, damage } = picture;
        if let Err(error) = target.write(&frame, lines) {
            self.forget_overwritten(target);
            if matches!(error, JobError::BitDepth { .. }) {
                target.fill_grey();
            } else {
                target.fill_around(&frame);
            }
            return Err(error);
        }
        match damage {
            Some(damage) => {
                self.forget_overwritten(target);
                target.fill_around(&frame);
                Err(damage)
            }
            None => {
                target.fill_rest(&frame);
                self.picture = Some((frame, lines));
                Ok(())
            }
        }
    }

    /// Writes the last good picture, or grey, where there is no picture. `overwritten` says that a decoder
    /// has begun to write into the buffer.
    pub(crate) fn substitute(&mut self, target: &Target, overwritten: bool) {
        if overwritten {
            self.forget_overwritten(target);
        }
        match &self.picture {
            Some((frame, lines)) if frame.layout.depth == target.depth() => {
                // The part that fits is good enough here.
                if let Err(error) = target.write(frame, *lines) {
                    tracing::debug!(%error, "substitute picture");
                }
                target.fill_around(frame);
            }
            _ => target.fill_grey(),
        }
    }

    /// Forgets the picture if it is in the buffer, which has another picture now.
    fn forget_overwritten(&mut self, target: &Target) {
        self.picture.take_if(|(frame, _)| target.holds(frame));
    }

    /// Forgets the picture.
    pub(crate) fn reset(&mut self) {
        self.picture = None;
    }
}
