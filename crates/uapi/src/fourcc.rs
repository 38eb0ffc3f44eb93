// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The pixel formats of the device, by their V4L2 names (`linux/videodev2.h`).

pub use crate::codec::coded_formats::*;

/// Packs four characters the way `v4l2_fourcc()` does.
#[must_use]
pub const fn fourcc(code: [u8; 4]) -> u32 {
    u32::from_le_bytes(code)
}

/// `V4L2_PIX_FMT_NV12`: 8 bit 4:2:0, Y then interleaved CbCr, one memory plane.
pub const NV12: u32 = fourcc(*b"NV12");
/// `V4L2_PIX_FMT_NV12M`: as [`NV12`], two memory planes.
pub const NV12M: u32 = fourcc(*b"NM12");
/// `V4L2_PIX_FMT_YUV420`: 8 bit 4:2:0, Y, Cb, Cr, one memory plane.
pub const YUV420: u32 = fourcc(*b"YU12");
/// `V4L2_PIX_FMT_YUV420M`: as [`YUV420`], three memory planes.
pub const YUV420M: u32 = fourcc(*b"YM12");
/// `V4L2_PIX_FMT_P010`: as [`NV12`] with 10 bit in the high bits of 16, little endian.
pub const P010: u32 = fourcc(*b"P010");

/// Returns the four characters of `code`, for people; unprintable bytes appear as `.`.
#[must_use]
pub fn name(code: u32) -> String {
    code.to_le_bytes()
        .iter()
        .map(|&b| if b.is_ascii_graphic() { char::from(b) } else { '.' })
        .collect()
}
