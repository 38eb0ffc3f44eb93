// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Records the jobs of a worker in a trace, and decodes them again. The crate `daedalus-trace` has the file's
//! format alone and needs no decoder.
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
mod status;

pub use error::ReplayError;
pub use picture::{Md5Sum, checksum};
pub use player::{FinishedJob, Pace, Player};
pub use recorder::Recorder;
pub use replay::{Difference, Options, Report, What, replay};
