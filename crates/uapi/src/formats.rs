// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The raw formats of CAPTURE, and the places of their samples in memory.
//!
//! All are 4:2:0. Colour planes are luma and chroma; memory planes are the buffers of a picture. A format has
//! one memory plane for all colour planes, or one for each. In one memory plane, chroma begins right behind
//! the buffer's lines of luma, and a line of a separate chroma plane has half the bytes of a line of luma.

use crate::fourcc;
use crate::protocol::MAX_PLANES;

/// A size in luma samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Size {
    /// Samples in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
}

/// The order of the two chroma planes' samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chroma {
    /// As one colour plane: Cb, Cr, Cb, Cr, …
    Interleaved,
    /// As two colour planes: Cb, then Cr.
    Separate,
}

/// A raw format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawFormat {
    /// `V4L2_PIX_FMT_*`.
    pub fourcc: u32,
    /// Bits of a sample: 8, or 10 in the high bits of 16, little endian.
    pub depth: u8,
    /// Memory planes.
    pub memory_planes: usize,
    /// The order of the chroma planes' samples.
    pub chroma: Chroma,
}

/// Every raw format, those that a driver prefers first.
pub static RAW_FORMATS: [RawFormat; 5] = [
    raw(fourcc::NV12, 8, 1, Chroma::Interleaved),
    raw(fourcc::NV12M, 8, 2, Chroma::Interleaved),
    raw(fourcc::YUV420, 8, 1, Chroma::Separate),
    raw(fourcc::YUV420M, 8, 3, Chroma::Separate),
    raw(fourcc::P010, 10, 1, Chroma::Interleaved),
];

const fn raw(fourcc: u32, depth: u8, memory_planes: usize, chroma: Chroma) -> RawFormat {
    RawFormat {
        fourcc,
        depth,
        memory_planes,
        chroma,
    }
}

/// A line of luma is a multiple of this many bytes, in buffers that the module allocates.
pub const LINE_ALIGN: usize = 128;
/// Decoders write whole blocks of up to this many lines below the picture.
pub const BLOCK_LINES: usize = 128;
/// Bytes behind each memory plane's samples, for vectors that end beyond them.
pub const PLANE_TAIL: usize = 128;

/// A memory plane as the module allocates it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlane {
    /// Bytes between two lines of its first colour plane.
    pub bytesperline: usize,
    /// Bytes of the memory plane.
    pub sizeimage: usize,
}

/// The place of a colour plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColourPlane {
    /// The memory plane's index.
    pub memory: usize,
    /// Bytes before the first line.
    pub offset: usize,
    /// Bytes between two lines.
    pub stride: usize,
    /// Bytes of samples in a line; of both chroma planes, where they are interleaved.
    pub line: usize,
    /// Lines.
    pub lines: usize,
}

/// The places of a picture's colour planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Luma.
    pub luma: ColourPlane,
    /// Chroma.
    pub chroma: ChromaLayout,
}

/// The places of a picture's chroma planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChromaLayout {
    /// Both planes interleaved.
    Interleaved(ColourPlane),
    /// Cb and Cr.
    Separate([ColourPlane; 2]),
}

impl Size {
    /// Returns the part of a buffer of the size `format` that a picture of this size covers.
    #[must_use]
    pub fn within(self, format: Self) -> Self {
        Self {
            width: self.width.min(format.width),
            height: self.height.min(format.height),
        }
    }

    /// Returns the size of CAPTURE for an OUTPUT format of this size: rounded up to even.
    #[must_use]
    pub const fn rounded(self) -> Self {
        Self {
            width: self.width.saturating_add(self.width & 1),
            height: self.height.saturating_add(self.height & 1),
        }
    }
}

impl RawFormat {
    /// Returns the format with this fourcc.
    #[must_use]
    pub fn of(fourcc: u32) -> Option<&'static Self> {
        RAW_FORMATS.iter().find(|format| format.fourcc == fourcc)
    }

    /// Returns the format that the module grants by default for samples of `depth` bits.
    #[must_use]
    pub fn default_for(depth: u8) -> &'static Self {
        let wide = depth > 8;
        RAW_FORMATS
            .iter()
            .find(|format| (format.depth > 8) == wide)
            .unwrap_or(&RAW_FORMATS[0])
    }

    /// Returns the bytes of a sample.
    #[must_use]
    pub const fn sample_bytes(&self) -> usize {
        if self.depth > 8 { 2 } else { 1 }
    }

    /// Returns two bytes which, repeated, make every sample grey.
    #[must_use]
    pub const fn grey(&self) -> [u8; 2] {
        if self.depth > 8 {
            0x8000u16.to_le_bytes()
        } else {
            [0x80; 2]
        }
    }

    /// Returns where the colour planes of the upper left `part` of a buffer lie. The buffer's size is
    /// `format`, and `strides` are the bytes per line of its memory planes.
    ///
    /// `None` if there are fewer memory planes than the format has. Offsets of an absurd geometry saturate,
    /// and nothing is compared with memory: that is left to whoever reads or writes it.
    #[must_use]
    pub fn layout(&self, format: Size, strides: &[usize], part: Size) -> Option<Layout> {
        if strides.len() < self.memory_planes {
            return None;
        }
        let (width, height) = (part.width as usize, part.height as usize);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let format_height = format.height as usize;
        let sample = self.sample_bytes();
        let stride = strides[0];
        let plane = |memory, offset, stride, line, lines| ColourPlane {
            memory,
            offset,
            stride,
            line,
            lines,
        };
        let second = stride.saturating_mul(format_height);
        let chroma = match (self.chroma, self.memory_planes) {
            (Chroma::Interleaved, planes) => {
                let (memory, offset, stride) = match planes {
                    1 => (0, second, stride),
                    _ => (1, 0, strides[1]),
                };
                ChromaLayout::Interleaved(plane(
                    memory,
                    offset,
                    stride,
                    half_width * 2 * sample,
                    half_height,
                ))
            }
            (Chroma::Separate, 1) => {
                let below = (stride / 2).saturating_mul(format_height.div_ceil(2));
                let offsets = [second, second.saturating_add(below)];
                ChromaLayout::Separate(
                    offsets.map(|offset| plane(0, offset, stride / 2, half_width * sample, half_height)),
                )
            }
            (Chroma::Separate, _) => ChromaLayout::Separate(
                [1, 2].map(|memory| plane(memory, 0, strides[memory], half_width * sample, half_height)),
            ),
        };
        Some(Layout {
            luma: plane(0, 0, stride, width * sample, height),
            chroma,
        })
    }

    /// Returns the memory planes that the module allocates for a picture of `size`, which is rounded up to
    /// even. The first [`RawFormat::memory_planes`] count; the others are zero.
    ///
    /// Sizes are those of `kernel/daedalus_codec.c`: a line of luma is a multiple of [`LINE_ALIGN`] bytes,
    /// and there is room below the picture for whole blocks and a tail. With a single memory plane that room
    /// is where chroma lies.
    #[must_use]
    pub fn memory(&self, size: Size) -> [MemoryPlane; MAX_PLANES] {
        let size = size.rounded();
        let line = (size.width as usize * self.sample_bytes()).next_multiple_of(LINE_ALIGN);
        let luma = line * size.height as usize;
        let room = line * (size.height as usize).next_multiple_of(BLOCK_LINES);
        let mut planes = [MemoryPlane::default(); MAX_PLANES];
        planes[0].bytesperline = line;
        if self.memory_planes == 1 {
            planes[0].sizeimage = (luma + luma / 2).max(room) + PLANE_TAIL;
            return planes;
        }
        planes[0].sizeimage = room + PLANE_TAIL;
        let separate = self.memory_planes - 1;
        for plane in &mut planes[1..self.memory_planes] {
            plane.bytesperline = line / separate;
            plane.sizeimage = room / 2 / separate + PLANE_TAIL;
        }
        planes
    }
}

impl Layout {
    /// Iterates the colour planes as they lie: luma, then chroma.
    pub fn planes(&self) -> impl Iterator<Item = &ColourPlane> {
        let chroma: &[ColourPlane] = match &self.chroma {
            ChromaLayout::Interleaved(plane) => std::slice::from_ref(plane),
            ChromaLayout::Separate(planes) => planes,
        };
        std::iter::once(&self.luma).chain(chroma)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size {
        width: 101,
        height: 51,
    };

    #[test]
    fn planes_do_not_overlap_and_are_within_the_memory() {
        for format in &RAW_FORMATS {
            assert_eq!(RawFormat::of(format.fourcc), Some(format));
            let memory = format.memory(SIZE);
            let strides = memory.map(|plane| plane.bytesperline);
            let strides = &strides[..format.memory_planes];
            let layout = format.layout(SIZE.rounded(), strides, SIZE).unwrap();
            let mut ends = [0; MAX_PLANES];
            for plane in layout.planes() {
                assert!(plane.line <= plane.stride, "{format:?}");
                assert!(plane.offset >= ends[plane.memory], "{format:?}");
                ends[plane.memory] = plane.offset + plane.stride * plane.lines;
            }
            for (end, plane) in ends.iter().zip(&memory) {
                assert!(*end <= plane.sizeimage, "{format:?}");
            }
            assert_eq!(format.layout(SIZE, &strides[1..], SIZE), None);
        }
    }

    #[test]
    fn geometry_is_the_modules() {
        let planes = |fourcc| {
            RawFormat::of(fourcc)
                .unwrap()
                .memory(SIZE)
                .map(|plane| (plane.bytesperline, plane.sizeimage))
        };
        let room = 128 * 128;
        assert_eq!(planes(fourcc::NV12), [(128, room + 128), (0, 0), (0, 0)]);
        assert_eq!(
            planes(fourcc::NV12M),
            [(128, room + 128), (128, room / 2 + 128), (0, 0)]
        );
        assert_eq!(
            planes(fourcc::YUV420M),
            [(128, room + 128), (64, room / 4 + 128), (64, room / 4 + 128)]
        );
        assert_eq!(planes(fourcc::P010)[0], (256, 2 * room + 128));
    }

    #[test]
    fn absurd_geometry_saturates() {
        let absurd = Size {
            width: u32::MAX,
            height: u32::MAX,
        };
        for format in &RAW_FORMATS {
            let layout = format.layout(absurd, &[usize::MAX; MAX_PLANES], absurd).unwrap();
            assert!(layout.planes().all(|plane| plane.stride >= usize::MAX / 2));
        }
    }

    #[test]
    fn the_default_has_the_depth() {
        assert_eq!(RawFormat::default_for(8).fourcc, fourcc::NV12);
        assert_eq!(RawFormat::default_for(10).fourcc, fourcc::P010);
        assert_eq!(RawFormat::of(fourcc::NV12).unwrap().grey(), [0x80, 0x80]);
        assert_eq!(RawFormat::of(fourcc::P010).unwrap().grey(), [0, 0x80]);
    }
}
