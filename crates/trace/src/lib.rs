// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Traces: recordings of what a worker was asked to do and what came of it, and their replay.
//!
//! A trace holds everything that one worker's decoder was given (controls, coded data, the geometry
//! and identity of the buffers, resets), and for each job its status and a checksum of the picture. So
//! the session can be decoded again with neither kernel nor client, and compared. `docs/traces.md`
//! describes the file; [`format`] is its encoding.
//!
//! ```text
//! worker ──► Recorder ──► Writer ──► file ──► Reader ──► Player ──► engine
//!                                                └────► Replay = Player + comparison
//! ```
//!
//! To look at a trace, or to fuzz the reader, [`Reader`] is enough: it gives [`Record`]s one after the
//! other and holds no more than one in memory. To decode it, [`Player::feed`] takes those records;
//! [`replay`](fn@replay) does both and compares.

#![forbid(unsafe_code)]

mod error;
pub mod format;
mod picture;
mod player;
mod reader;
mod recorder;
mod replay;
mod writer;

pub use error::{ReplayError, TraceError};
pub use format::{Buffer, Control, Done, Job, Plane, Record, Session, Verdict};
pub use picture::{Md5Sum, Size, checksum, size_in_controls};
pub use player::{Finished, Pace, Player};
pub use reader::{Limits, Reader};
pub use recorder::Recorder;
pub use replay::{Difference, Options, Report, What, replay};
pub use writer::Writer;
