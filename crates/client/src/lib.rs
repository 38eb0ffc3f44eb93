// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A small client of the V4L2 stateless decoder interface.
//!
//! Two halves that do not need each other. The first turns a coded file into [`CodedJob`]s: [`jobs`] reads
//! the [`container`], and the folders of `codecs` have a parser each, which parses headers, keeps the
//! references and fills in the `V4L2_CID_STATELESS_*` controls. It needs no device. The second half drives a
//! device with them: [`decoder`] on top of [`device`] and [`queue`], which wrap the ioctls of [`v4l2`].
//! [`personality`] drives it as other clients do. [`stateful`] is a client of the stateful interface, which
//! needs no parser. [`gdp`] and [`raw`] read what GStreamer hands over.
//! [`vectors`] says where the conformance vectors are.

mod bits;
mod codecs;
mod coded;
pub mod container;
pub mod decoder;
pub mod device;
mod error;
pub mod gdp;
mod jobs;
pub mod memory;
pub mod personality;
pub mod picture;
pub mod queue;
pub mod raw;
pub mod stateful;
pub mod v4l2;

pub use coded::{CodedJob, Control, TemporalUnit, Tile, TileGroup, Visible};
pub use daedalus_common::vectors;
pub use daedalus_uapi::Codec;
pub use error::ParseError;
pub use jobs::{Jobs, jobs, jobs_of, prompt_jobs};
