// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a target is.

use daedalus_trace::Job;

/// The target of a codec's headers.
pub struct Target {
    /// Makes an input of a job: what is taken apart into the job's controls, or the coded data that is read.
    /// `None` if the job lacks them.
    pub input: fn(&Job) -> Option<Vec<u8>>,
    /// Tries an input. It panics if the codec's writer or reader does what it must not.
    pub run: fn(&[u8]),
}
