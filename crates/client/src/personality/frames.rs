// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which CAPTURE buffer holds which picture, and for how long.

use std::collections::HashMap;

use crate::device::ClientError;
use crate::job::{CodedJob, Visible};

/// A picture that the client still needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// The CAPTURE buffer's index.
    pub(super) buffer: usize,
    /// The timestamp of its jobs, which names it in controls.
    pub(super) timestamp: u64,
    /// The part that is shown.
    pub(super) visible: Visible,
    /// H.264: `TopFieldOrderCnt` and `BottomFieldOrderCnt`.
    pub(super) counts: [i32; 2],
    referenced: bool,
    /// Not shown yet, and it will be, though the parser has not said so.
    unshown: bool,
    /// Times that it is to be shown.
    waiting: usize,
}

impl Frame {
    /// The picture of `job`, in `buffer`.
    pub(super) fn new(job: &CodedJob, buffer: usize, timestamp: u64) -> Self {
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

    /// A later picture may refer to it.
    pub(super) fn is_reference(&self) -> bool {
        self.referenced
    }
}

/// The pictures, by the name that the parser gave them.
#[derive(Debug)]
pub(super) struct Frames {
    pictures: HashMap<u64, Frame>,
    /// Every picture is shown once, at some time: H.264. Of other codecs a picture that is not shown at once
    /// is only shown if it stays a reference.
    all_shown: bool,
}

impl Frames {
    pub(super) fn new(all_shown: bool) -> Self {
        Self {
            pictures: HashMap::new(),
            all_shown,
        }
    }

    pub(super) fn add(&mut self, picture: u64, mut frame: Frame) {
        frame.unshown = self.all_shown;
        self.pictures.insert(picture, frame);
    }

    pub(super) fn get(&self, picture: u64) -> Option<&Frame> {
        self.pictures.get(&picture)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Frame> {
        self.pictures.values()
    }

    /// From now on later pictures may refer to `pictures` alone.
    pub(super) fn set_references(&mut self, pictures: &[u64]) {
        for (picture, frame) in &mut self.pictures {
            frame.referenced = pictures.contains(picture);
        }
    }

    /// The picture is to be shown once more.
    ///
    /// # Errors
    /// If the client has not got it any more: a mistake here, not of the device.
    pub(super) fn will_show(&mut self, picture: u64) -> Result<(), ClientError> {
        let frame = self.pictures.get_mut(&picture);
        let frame = frame.ok_or_else(|| missing(picture))?;
        frame.unshown = false;
        frame.waiting += 1;
        Ok(())
    }

    /// The picture was shown.
    pub(super) fn shown(&mut self, picture: u64) {
        if let Some(frame) = self.pictures.get_mut(&picture) {
            frame.waiting = frame.waiting.saturating_sub(1);
        }
    }

    /// Forgets the pictures that are neither references nor to be shown; their buffers can be used again.
    pub(super) fn release(&mut self) -> Vec<usize> {
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
    pub(super) fn clear(&mut self) {
        self.pictures.clear();
    }
}

/// The error for a picture that is not there.
pub(super) fn missing(picture: u64) -> ClientError {
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
        // A picture that is neither is never needed, as with VP9 and AV1.
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
    fn every_picture_of_h264_waits_for_its_turn() {
        let mut frames = Frames::new(true);
        frames.add(1, frame(0));
        frames.set_references(&[]);
        assert!(frames.release().is_empty());
        frames.will_show(1).expect("it is there");
        frames.shown(1);
        assert_eq!(frames.release(), [0]);
    }
}
