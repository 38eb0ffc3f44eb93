// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What of traces needs the engine: recording what a worker decodes, and decoding it again.
//!
//! ```text
//! worker ──► Recorder ──► trace ──► Player ──► engine
//!                           └─────► replay() = Player + comparison
//! ```

#![forbid(unsafe_code)]

mod error;
mod picture;
mod player;
mod recorder;
mod replay;

use daedalus_trace::Verdict;

pub use error::ReplayError;
pub use picture::{Md5Sum, Size, checksum, size_in_controls};
pub use player::{Finished, Pace, Player};
pub use recorder::Recorder;
pub use replay::{Difference, Options, Report, What, replay};

/// How a trace names an engine's status.
fn verdict(status: daedalus_engine::Status) -> Verdict {
    match status {
        daedalus_engine::Status::Ok => Verdict::Ok,
        daedalus_engine::Status::Error => Verdict::Error,
    }
}
