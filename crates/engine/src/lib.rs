// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes V4L2 stateless jobs with libavcodec and dav1d.
//!
//! The kernel module hands out a [`Job`] for one request: the coded data, the controls and the CAPTURE
//! memory. A [`Session`] turns jobs into pixels, and returns each with a [`JobReport`].
//!
//! ```text
//! Session                 a decoder for the coded format; each job is returned once
//!    │ Job
//!    ▼
//! LibraryDecoder          jobs in flight, threads, history, last good picture
//!    │                    a codec's module supplies the hooks (Library): it writes the headers
//!    │                    that the client did not send, and judges pictures
//!    │ Packet             a private copy of the coded data
//!    ▼
//! libav, libdav1d         the only modules that call the C libraries
//!    │ allocator callback: which picture does this packet decode into?
//!    ▼
//! frames                  CAPTURE itself, or a pool of private memory
//!    │ convert
//!    ▼
//! capture ──► memory      writes the rest into CAPTURE once, within its bounds
//! ```
//!
//! Invariants:
//! - The order in which a library outputs pictures is ignored. Pixels are final when a job is reported.
//! - A failed job leaves sane pixels in CAPTURE: the decoder's concealment, otherwise this session's last
//!   good picture, otherwise grey.
//! - Nothing that comes from a client (controls, coded data, geometry) can cause a panic or an access out of
//!   bounds.

mod capture;
mod codecs;
mod controls;
mod convert;
mod decoder;
mod error;
mod fields;
mod frames;
mod history;
mod in_flight;
mod job;
mod last_good;
mod libav;
mod libdav1d;
mod library;
pub mod memory;
mod null;
mod options;
mod packets;
mod payload;
mod session;
pub mod stateful;
mod stream_codec;
mod stream_library;
mod unwritten;

pub use codecs::{open, served_codecs, warm_up};
pub use error::{EngineError, JobError};
pub use job::{Decoder, Job, JobReport, RawPicture, Status};
pub use options::{Backend, MAX_PIXELS, Options, Threads};
pub use session::{OpenDecoder, Session};
