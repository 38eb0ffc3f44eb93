// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The part of Chromium's client that differs from codec to codec: a `VideoDecoderDelegate`, and the decoder
//! above it.

use super::frames::Frames;
use crate::coded::{CodedJob, Control};

/// A request's contents.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The controls, call by call.
    pub(crate) controls: Vec<Vec<Control>>,
    /// The OUTPUT buffer's contents.
    pub(crate) payload: Vec<u8>,
}

/// The size and the bit depth of a session.
pub(crate) type Shape = ((u32, u32), u8);

/// The delegate of a codec whose requests are the parser's jobs as they are.
pub(crate) struct PlainDelegate;

impl Delegate for PlainDelegate {}

/// A delegate.
pub(crate) trait Delegate: Sync {
    /// Returns the control that makes the device offer formats of this bit depth; `None` if Chromium sets
    /// none.
    fn depth_control(&self, _bit_depth: u8) -> Option<Control> {
        None
    }

    /// Returns the timestamp that stands for a reference which does not exist.
    fn absent(&self) -> u64 {
        0
    }

    /// Returns the order counts of the picture's fields, which controls of later pictures repeat.
    fn order_counts(&self, _job: &CodedJob) -> [i32; 2] {
        [0; 2]
    }

    /// Returns `job`'s request. `controls` are the parser's, in which pictures have their timestamps.
    fn request(&self, job: &CodedJob, controls: Vec<Control>, _frames: &Frames) -> Parts {
        Parts {
            controls: vec![controls],
            payload: job.payload.clone(),
        }
    }

    /// Returns why Chromium does not decode `job`, with a session of this shape or with none; `None` if it
    /// does.
    fn refusal(&self, _job: &CodedJob, _session: Option<Shape>) -> Option<&'static str> {
        None
    }
}
