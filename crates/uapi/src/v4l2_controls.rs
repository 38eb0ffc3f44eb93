// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rust mirror of the V4L2 stateless codec controls of `<linux/v4l2-controls.h>`, a file for each codec.
//!
//! Field names and meanings are those of the kernel's
//! `Documentation/userspace-api/media/v4l/ext-ctrls-codec-stateless.rst`, which refers in turn to
//! the syntax elements of the codec's specification. C enumerations are `u32` fields, since a value
//! that comes from a client may be none of the enumerators. No structure has implicit padding, so
//! each is [`zerocopy::FromBytes`] and [`zerocopy::IntoBytes`]; the layout is compared with the C
//! header by `tests/layout_v4l2.rs`.

mod av1;
mod base;
mod h264;
mod hevc;
mod mpeg2;
mod structs;
mod vp8;
mod vp9;

pub use av1::*;
pub use base::*;
pub use h264::*;
pub use hevc::*;
pub use mpeg2::*;
pub use vp8::*;
pub use vp9::*;
