// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Traces: recordings of what a worker was asked to do and what came of it, without what decodes them.
//!
//! A trace holds everything that one worker's decoder was given (controls, coded data, the geometry
//! and identity of the buffers, resets), and for each job its status and a checksum of the picture. So
//! the session can be decoded again with neither kernel nor client, and compared. `docs/traces.md`
//! describes the file; [`format`] is its encoding.
//!
//! ```text
//! worker ──► daedalus_replay::Recorder ──► Writer ──► file ──► Reader ──► daedalus_replay::Player ──► engine
//! ```
//!
//! [`Reader`] gives [`Record`]s one after the other and holds no more than one in memory. Nothing here needs
//! a decoder: the crate `daedalus-replay` records and decodes.

#![forbid(unsafe_code)]

mod error;
pub mod format;
mod reader;
mod writer;

pub use error::TraceError;
pub use format::{Buffer, Control, Job, JobResult, JobStatus, Plane, Record, Session};
pub use reader::{Limits, Reader};
pub use writer::Writer;
