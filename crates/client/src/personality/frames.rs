// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Keeps track of the CAPTURE buffers that hold pictures, and of the time that they are needed.

use std::collections::HashMap;

use crate::coded::{CodedJob, Visible};
use crate::device::ClientError;

/// A picture that the client still needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    /// The CAPTURE buffer's index.
    pub(crate) buffer: usize,
    /// The timestamp of its jobs, which names it in controls.
    pub(crate) timestamp: u64,
    /// The part that is shown.
    pub(crate) visible: Visible,
    /// The order counts of its top and bottom field, for codecs whose controls repeat them.
    pub(crate) counts: [i32; 2],
    referenced: bool,
    /// Not shown yet, and it will be, though the parser has not said so.
    unshown: bool,
    /// Times that it is to be shown.
    waiting: usize,
}

impl Frame {
    /// Returns the picture of `job`, in `buffer`.
    pub(crate) fn new(job: &CodedJob, buffer: usize, timestamp: u64) -> Self {
        Self {
            buffer,
            timestamp,
            visible: job.visible,
            counts: [0; 2],
            referenced: false,
            unshown: false,
            waiting: 0,
        }
    }

    /// Returns whether a later picture may refer to it.
    pub(crate) fn is_reference(&self) -> bool {
        self.referenced
    }
}

/// The pictures, by the name that the parser gave them.
#[derive(Debug)]
pub(crate) struct Frames {
    pictures: HashMap<u64, Frame>,
    /// Every picture is shown once, at some time. Else a picture that is not shown at once is only shown if
    /// it stays a reference.
    all_shown: bool,
}

impl Frames {
    pub(crate) fn new(all_shown: bool) -> Self {
        Self {
            pictures: HashMap::new(),
            all_shown,
        }
    }

    pub(crate) fn add(&mut self, picture: u64, mut frame: Frame) {
        frame.unshown = self.all_shown;
        self.pictures.insert(picture, frame);
    }

    pub(crate) fn get(&self, picture: u64) -> Option<&Frame> {
        self.pictures.get(&picture)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.pictures.values()
    }

    /// From now on later pictures may refer to `pictures` alone.
    pub(crate) fn set_references(&mut self, pictures: &[u64]) {
        for (picture, frame) in &mut self.pictures {
            frame.referenced = pictures.contains(picture);
        }
    }

    /// Notes that the picture is to be shown once more.
    ///
    /// # Errors
    /// If the client has not got it any more: a mistake here, not of the device.
    pub(crate) fn will_show(&mut self, picture: u64) -> Result<(), ClientError> {
        let frame = self.pictures.get_mut(&picture);
        let frame = frame.ok_or_else(|| missing(picture))?;
        frame.unshown = false;
        frame.waiting += 1;
        Ok(())
    }

    /// The picture was shown.
    pub(crate) fn shown(&mut self, picture: u64) {
        if let Some(frame) = self.pictures.get_mut(&picture) {
            frame.waiting = frame.waiting.saturating_sub(1);
        }
    }

    /// Forgets the pictures that are neither references nor to be shown; their buffers can be used again.
    pub(crate) fn release(&mut self) -> Vec<usize> {
        let mut buffers = Vec::new();
        self.pictures.retain(|_, frame| {
            let needed = frame.referenced || frame.unshown || frame.waiting > 0;
            if !needed {
                buffers.push(frame.buffer);
            }
            needed
        });
        buffers
    }

    /// Forgets all pictures.
    pub(crate) fn clear(&mut self) {
        self.pictures.clear();
    }
}

/// Returns the error for a picture that is not there.
pub(crate) fn missing(picture: u64) -> ClientError {
    ClientError::Unexpected(format!("picture {picture} is not there to be shown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(buffer: usize) -> Frame {
        Frame {
            buffer,
            timestamp: 0,
            visible: Visible::default(),
            counts: [0; 2],
            referenced: false,
            unshown: false,
            waiting: 0,
        }
    }

    #[test]
    fn a_buffer_is_kept_while_it_is_a_reference_or_to_be_shown() {
        let mut frames = Frames::new(false);
        frames.add(1, frame(0));
        frames.add(2, frame(1));
        frames.set_references(&[1]);
        // A picture that is neither is never needed.
        assert_eq!(frames.release(), [1]);
        frames.will_show(1).expect("it is there");
        frames.will_show(1).expect("it is shown twice");
        frames.set_references(&[]);
        frames.shown(1);
        assert!(frames.release().is_empty());
        frames.shown(1);
        assert_eq!(frames.release(), [0]);
        assert!(frames.will_show(1).is_err());
    }

    #[test]
    fn every_picture_waits_for_its_turn_if_all_are_shown() {
        let mut frames = Frames::new(true);
        frames.add(1, frame(0));
        frames.set_references(&[]);
        assert!(frames.release().is_empty());
        frames.will_show(1).expect("it is there");
        frames.shown(1);
        assert_eq!(frames.release(), [0]);
    }
}
