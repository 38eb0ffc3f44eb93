// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The meaning of each codec's controls, and writers of the headers that they stand for. A codec is a folder.
//!
//! A stateless client parses the stream, sends the headers' values as controls and puts little more than
//! slice or tile data into the OUTPUT buffer. [`of`] returns the [`Semantics`] of a codec: the questions that
//! every codec's controls answer. A stateful library wants the bitstream. Where the OUTPUT buffer does not
//! hold it, the folder has a writer:
//!
//! - [`h264`]: SPS and PPS NAL units in front of the client's slices;
//! - [`av1`]: sequence header, frame header and tile group OBUs around the client's tiles;
//! - [`mpeg2`]: sequence, group and picture headers in front of the client's slices.
//! - [`hevc`]: VPS, SPS and PPS NAL units in front of the client's slice segments, some of which are
//!   rewritten.
//!
//! [`vp9`] and [`vp8`] need none: the buffer holds the whole frame.
//!
//! Controls are not trusted: any value gives a result or a typed error, never a panic.
#![forbid(unsafe_code)]

pub mod av1;
pub mod bits;
mod controls;
mod emulation;
pub mod h264;
pub mod hevc;
pub mod mpeg2;
pub mod vp8;
pub mod vp9;

use daedalus_uapi::Codec;

pub use controls::Semantics;

/// Returns the meaning of a codec's controls.
#[must_use]
pub fn of(codec: Codec) -> &'static dyn Semantics {
    match codec {
        Codec::H264 => &h264::H264,
        Codec::Vp9 => &vp9::Vp9,
        Codec::Av1 => &av1::Av1,
        Codec::Vp8 => &vp8::Vp8,
        Codec::Mpeg2 => &mpeg2::Mpeg2,
        Codec::Hevc => &hevc::Hevc,
    }
}
