// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A small client of the V4L2 stateless decoder interface.
//!
//! Two halves that do not need each other. The first turns a coded file into [`CodedJob`]s, that is,
//! what a stateless client gives to a decoder: [`jobs`] reads the [`container`], and [`vp9`], [`h264`]
//! and [`av1`] parse headers, keep the references and fill in the `V4L2_CID_STATELESS_*` controls. It
//! needs no device. The second half drives a device with them: [`decoder`] on top of [`device`] and
//! [`queue`], which wrap the ioctls of [`v4l2`]. [`personality`] drives it as other clients do. [`gdp`] and [`raw`] read what GStreamer
//! hands over. [`vectors`] says where the conformance vectors are.

pub mod av1;
mod bits;
pub mod container;
pub mod decoder;
pub mod device;
mod error;
pub mod gdp;
pub mod h264;
mod job;
pub mod memory;
pub mod personality;
pub mod picture;
pub mod queue;
pub mod raw;
pub mod v4l2;
pub mod vectors;
pub mod vp9;

pub use daedalus_uapi::Codec;
pub use error::ParseError;
pub use job::{CodedJob, Control, Jobs, TemporalUnit, TileGroup, Visible, jobs, jobs_of, prompt_jobs};
