// SPDX-License-Identifier: Apache-2.0 OR MIT
//! First inputs of the targets for one codec's headers, one file each.

mod av1;
mod controls;
mod h264;
mod hevc;
mod mpeg2;
mod vp8;

use daedalus_trace::Job;

/// Returns the target of the job's codec, and its input: what it takes apart into the job's controls, or the
/// coded data that it reads. `None` if the codec has neither headers to write nor headers to read.
#[must_use]
pub fn headers(job: &Job) -> Option<(&'static str, Vec<u8>)> {
    h264::headers(job)
        .or_else(|| av1::headers(job))
        .or_else(|| vp8::headers(job))
        .or_else(|| mpeg2::headers(job))
        .or_else(|| hevc::headers(job))
}
