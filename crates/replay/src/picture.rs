// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The checksum of a picture in a CAPTURE buffer.
//!
//! It covers the pixels that the codec defines and nothing else. CAPTURE's format may be larger than the
//! picture (sizes are rounded up to even, and a client keeps its buffers when a stream becomes smaller),
//! and what is next to the picture there is nobody's: an earlier picture's, or what a decoder leaves
//! that writes whole blocks.

use daedalus_engine::RawPicture;
use daedalus_engine::memory::View;
use daedalus_uapi::fourcc;
use daedalus_uapi::protocol::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_H264_SPS, V4L2_CID_STATELESS_VP9_FRAME,
    V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY, V4l2CtrlAv1Frame, V4l2CtrlH264Sps, V4l2CtrlVp9Frame,
};
use md5::{Digest, Md5};
use zerocopy::FromBytes;

/// An MD5 sum.
pub type Md5Sum = [u8; 16];

/// A size in luma samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Samples in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
}

impl Size {
    /// The part of a buffer of the size `format` that a picture of this size covers.
    #[must_use]
    pub fn within(self, format: Self) -> Self {
        Self {
            width: self.width.min(format.width),
            height: self.height.min(format.height),
        }
    }
}

/// The size that a job's controls give the picture as decoded, without cropping; of a field, that of its
/// frame. `None` if there is no such control.
#[must_use]
pub fn size_in_controls(coded_format: u32, controls: &[Control<'_>]) -> Option<Size> {
    let (width, height) = match coded_format {
        fourcc::H264_SLICE => {
            let sps: V4l2CtrlH264Sps = get(controls, V4L2_CID_STATELESS_H264_SPS)?;
            let frames_only = sps.flags & V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY != 0;
            let unit = if frames_only { 16 } else { 32 };
            (
                (u32::from(sps.pic_width_in_mbs_minus1) + 1) * 16,
                (u32::from(sps.pic_height_in_map_units_minus1) + 1) * unit,
            )
        }
        fourcc::VP9_FRAME => {
            let frame: V4l2CtrlVp9Frame = get(controls, V4L2_CID_STATELESS_VP9_FRAME)?;
            (
                u32::from(frame.frame_width_minus_1) + 1,
                u32::from(frame.frame_height_minus_1) + 1,
            )
        }
        fourcc::AV1_FRAME => {
            let frame: V4l2CtrlAv1Frame = get(controls, V4L2_CID_STATELESS_AV1_FRAME)?;
            // Some clients leave the width after superres out.
            let width = match frame.upscaled_width {
                0 => frame.frame_width_minus_1.saturating_add(1),
                width => width,
            };
            (width, frame.frame_height_minus_1.saturating_add(1))
        }
        _ => return None,
    };
    Some(Size { width, height })
}

fn get<T: FromBytes>(controls: &[Control<'_>], id: u32) -> Option<T> {
    let control = controls.iter().find(|control| control.id == id)?;
    Some(T::read_from_prefix(control.value).ok()?.0)
}

/// MD5 of the upper left `size` of the picture in `raw`, as `docs/traces.md` defines it: the lines of
/// each colour plane without padding, luma first, in the order in which the format has them.
///
/// `None` if the format is not known or the planes do not hold a picture of that size.
#[must_use]
pub fn checksum(raw: &RawPicture, size: Size) -> Option<Md5Sum> {
    let format = Size {
        width: raw.width,
        height: raw.height,
    };
    if size.within(format) != size || size.width == 0 || size.height == 0 {
        return None;
    }
    let mut sum = Md5::new();
    let mut line = Vec::new();
    for area in areas(raw, size)? {
        // Before anything of a size that the geometry only claims is allocated.
        if area.line > area.plane.len() {
            return None;
        }
        for y in 0..area.lines {
            line.resize(area.line, 0);
            let at = y.checked_mul(area.stride)?.checked_add(area.offset)?;
            area.plane.read(at, &mut line).ok()?;
            sum.update(&line);
        }
    }
    Some(sum.finalize().into())
}

/// Where the lines of a colour plane (or of two that are interleaved) are.
struct Area<'a> {
    plane: &'a View,
    offset: usize,
    stride: usize,
    /// Bytes of a line.
    line: usize,
    lines: usize,
}

fn areas(raw: &RawPicture, size: Size) -> Option<Vec<Area<'_>>> {
    let first = raw.planes.first()?;
    let (width, height) = (size.width as usize, size.height as usize);
    let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
    let sample = if raw.format == fourcc::P010 { 2 } else { 1 };
    let stride = first.stride();
    let format_height = raw.height as usize;
    let area = |plane, offset, stride, line, lines| Area {
        plane,
        offset,
        stride,
        line,
        lines,
    };
    let luma = area(first, 0, stride, width * sample, height);
    let below = stride.checked_mul(format_height)?;
    Some(match (raw.format, raw.planes.as_slice()) {
        (fourcc::NV12 | fourcc::P010, _) => {
            vec![
                luma,
                area(first, below, stride, half_width * 2 * sample, half_height),
            ]
        }
        (fourcc::NV12M, [_, chroma, ..]) => vec![
            luma,
            area(chroma, 0, chroma.stride(), half_width * 2, half_height),
        ],
        (fourcc::YUV420, _) => {
            let chroma = (stride / 2).checked_mul(format_height.div_ceil(2))?;
            let third = below.checked_add(chroma)?;
            vec![
                luma,
                area(first, below, stride / 2, half_width, half_height),
                area(first, third, stride / 2, half_width, half_height),
            ]
        }
        (fourcc::YUV420M, [_, cb, cr, ..]) => vec![
            luma,
            area(cb, 0, cb.stride(), half_width, half_height),
            area(cr, 0, cr.stride(), half_width, half_height),
        ],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use daedalus_engine::memory::Mapping;

    use super::*;

    /// A picture whose bytes are a function of the sample's place, and 0xee elsewhere.
    fn picture(format: u32, planes: &[(usize, usize)], samples: &[(usize, usize, u8)]) -> RawPicture {
        let planes = planes
            .iter()
            .map(|&(len, stride)| {
                let mapping = Mapping::anonymous(len).unwrap();
                mapping.write(0, &vec![0xee; len]).unwrap();
                View::new(mapping, 0, len, stride).unwrap()
            })
            .collect::<Vec<_>>();
        for &(plane, offset, value) in samples {
            planes[plane].write(offset, &[value]).unwrap();
        }
        RawPicture {
            format,
            width: 4,
            height: 2,
            planes,
        }
    }

    const SIZE: Size = Size { width: 3, height: 1 };

    #[test]
    fn padding_and_what_is_next_to_the_picture_do_not_count() {
        // 3x1 in 4x2: luma 1 2 3, Cb 4 6, Cr 5 7.
        let nv12 = picture(
            fourcc::NV12,
            &[(24, 8)],
            &[
                (0, 0, 1),
                (0, 1, 2),
                (0, 2, 3),
                (0, 16, 4),
                (0, 17, 5),
                (0, 18, 6),
                (0, 19, 7),
            ],
        );
        let expected: Md5Sum = Md5::digest([1, 2, 3, 4, 5, 6, 7]).into();
        assert_eq!(checksum(&nv12, SIZE), Some(expected));
        let nv12m = picture(
            fourcc::NV12M,
            &[(16, 8), (8, 8)],
            &[
                (0, 0, 1),
                (0, 1, 2),
                (0, 2, 3),
                (1, 0, 4),
                (1, 1, 5),
                (1, 2, 6),
                (1, 3, 7),
            ],
        );
        assert_eq!(checksum(&nv12m, SIZE), Some(expected));
    }

    #[test]
    fn planar_formats_are_summed_plane_by_plane() {
        let expected: Md5Sum = Md5::digest([1, 2, 3, 4, 5, 6, 7]).into();
        let yu12 = picture(
            fourcc::YUV420,
            &[(24, 8)],
            &[
                (0, 0, 1),
                (0, 1, 2),
                (0, 2, 3),
                (0, 16, 4),
                (0, 17, 5),
                (0, 20, 6),
                (0, 21, 7),
            ],
        );
        assert_eq!(checksum(&yu12, SIZE), Some(expected));
        let ym12 = picture(
            fourcc::YUV420M,
            &[(16, 8), (4, 4), (4, 4)],
            &[
                (0, 0, 1),
                (0, 1, 2),
                (0, 2, 3),
                (1, 0, 4),
                (1, 1, 5),
                (2, 0, 6),
                (2, 1, 7),
            ],
        );
        assert_eq!(checksum(&ym12, SIZE), Some(expected));
    }

    #[test]
    fn absurd_geometry_has_no_checksum() {
        let raw = picture(fourcc::NV12, &[(24, 8)], &[]);
        for (width, height) in [(5, 1), (4, 3), (0, 1), (1, 0), (u32::MAX, u32::MAX)] {
            assert_eq!(checksum(&raw, Size { width, height }), None);
        }
        let short = picture(fourcc::NV12, &[(12, 8)], &[]);
        assert_eq!(checksum(&short, SIZE), None);
        let mut huge = picture(fourcc::P010, &[(24, usize::MAX)], &[]);
        (huge.width, huge.height) = (u32::MAX, u32::MAX);
        let size = Size {
            width: u32::MAX,
            height: u32::MAX,
        };
        assert_eq!(checksum(&huge, size), None);
        assert_eq!(checksum(&picture(fourcc::NV12M, &[(24, 8)], &[]), SIZE), None);
    }

    #[test]
    fn sizes_are_those_of_the_controls() {
        let mut frame = V4l2CtrlVp9Frame::default();
        (frame.frame_width_minus_1, frame.frame_height_minus_1) = (34, 16);
        let control = Control {
            id: V4L2_CID_STATELESS_VP9_FRAME,
            in_request: true,
            elems: 1,
            value: zerocopy::IntoBytes::as_bytes(&frame),
        };
        let size = size_in_controls(fourcc::VP9_FRAME, &[control]);
        assert_eq!(
            size,
            Some(Size {
                width: 35,
                height: 17
            })
        );
        assert_eq!(size_in_controls(fourcc::AV1_FRAME, &[control]), None);
        let short = Control {
            value: &control.value[..10],
            ..control
        };
        assert_eq!(size_in_controls(fourcc::VP9_FRAME, &[short]), None);
    }
}
