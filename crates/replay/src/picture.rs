// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The checksum of a picture in a CAPTURE buffer.
//!
//! It covers the pixels that the codec defines and nothing else. CAPTURE's format may be larger than the
//! picture (sizes are rounded up to even, and a client keeps its buffers when a stream becomes smaller),
//! and what is next to the picture there is nobody's: an earlier picture's, or what a decoder leaves
//! that writes whole blocks.

use daedalus_engine::RawPicture;
use daedalus_uapi::formats::{ColourPlane, RawFormat, Size};
use md5::{Digest, Md5};

/// An MD5 sum.
pub type Md5Sum = [u8; 16];

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
    let strides: Vec<usize> = raw.planes.iter().map(|plane| plane.stride()).collect();
    let layout = RawFormat::of(raw.format)?.layout(format, &strides, size)?;
    let mut sum = Md5::new();
    let mut line = Vec::new();
    for plane in layout.planes() {
        let memory = raw.planes.get(plane.memory)?;
        // Before anything of a size that the geometry only claims is allocated.
        if plane.line > memory.len() {
            return None;
        }
        for y in 0..plane.lines {
            line.resize(plane.line, 0);
            memory.read(line_offset(plane, y)?, &mut line).ok()?;
            sum.update(&line);
        }
    }
    Some(sum.finalize().into())
}

/// Returns where line `y` of a colour plane begins; `None` if that is no number.
fn line_offset(plane: &ColourPlane, y: usize) -> Option<usize> {
    y.checked_mul(plane.stride)?.checked_add(plane.offset)
}

#[cfg(test)]
mod tests {
    use daedalus_engine::memory::{Mapping, View};
    use daedalus_uapi::fourcc;

    use super::*;

    /// Returns a picture whose bytes are a function of the sample's place, and 0xee elsewhere.
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
}
