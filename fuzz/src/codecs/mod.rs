// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fuzz targets of codecs' headers, a file each.

mod av1;
mod controls;
mod h264;
mod hevc;
mod mpeg2;
mod target;
mod vp8;

use daedalus_uapi::Codec;

pub use target::Target;

/// Returns the target of a codec; `None` if it has neither headers to write nor headers to read.
#[must_use]
pub fn target(codec: Codec) -> Option<Target> {
    match codec {
        Codec::H264 => Some(h264::TARGET),
        Codec::Av1 => Some(av1::TARGET),
        Codec::Vp8 => Some(vp8::TARGET),
        Codec::Mpeg2 => Some(mpeg2::TARGET),
        Codec::Hevc => Some(hevc::TARGET),
        Codec::Vp9 => None,
    }
}
