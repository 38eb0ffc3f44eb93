// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rust mirror of the daedalus protocol header and of the V4L2 stateless codec controls.
//!
//! [`codec`] is the registry of codecs, [`formats`] that of raw formats and their geometry. [`protocol`]
//! mirrors `include/uapi/linux/daedalus.h` structure by structure and reads messages; [`fd`] wraps the two
//! kinds of file descriptor; [`v4l2_controls`] mirrors the codec controls of `linux/v4l2-controls.h`;
//! [`video`] asks video nodes of other drivers what they are. Layouts are compared with the C headers by this
//! crate's tests.

pub mod codec;
pub mod fd;
pub mod formats;
pub mod fourcc;
pub mod protocol;
pub mod video;

pub use codec::{Codec, CodecSet, v4l2_controls};
