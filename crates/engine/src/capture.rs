// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writes pictures into CAPTURE buffers.
//!
//! Planes that were decoded straight into CAPTURE are left alone. Every other byte of the picture is written
//! at most once per call, and no byte is read. The CAPTURE format may be larger than the picture, and lines
//! may be padded. Nothing defines the bytes outside of the picture: clients crop, and the memory was made
//! grey when it was mapped, or came from the client itself. A picture that is wrong may have a wrong size,
//! too: what is around it is made grey.

use daedalus_uapi::formats::{ChromaLayout, ColourPlane, RawFormat, Size};
use daedalus_uapi::protocol::MAX_PLANES;

use crate::convert;
use crate::error::JobError;
use crate::frames::{Frame, Offer};
use crate::job::RawPicture;
use crate::memory::{OutOfBounds, View};

/// Bytes of a line that are converted at a time, in registers.
const BLOCK: usize = 64;

/// The lines of a frame that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// All.
    All,
    /// Those of the top field, each twice: the bottom field is not decoded.
    TopField,
    /// Those of the bottom field, each twice.
    BottomField,
}

impl Lines {
    /// Returns the line that is shown as line `y` of a plane with `count` lines.
    fn source(self, y: usize, count: usize) -> usize {
        match self {
            Self::All => y,
            Self::TopField => y & !1,
            Self::BottomField => (y | 1).min(count - 1),
        }
    }
}

/// A CAPTURE buffer, resolved into colour planes.
pub(crate) struct Target {
    luma: View,
    chroma: Chroma,
    format: &'static RawFormat,
    size: Size,
}

/// The chroma planes of a [`Target`].
enum Chroma {
    Interleaved(View),
    Separate([View; 2]),
}

impl Target {
    /// Resolves `raw`.
    ///
    /// # Errors
    /// [`JobError::RawFormat`]. Planes that are too small are no error here, see [`Target::write`].
    pub(crate) fn of(raw: &RawPicture) -> Result<Self, JobError> {
        let size = Size {
            width: raw.width,
            height: raw.height,
        };
        let count = raw.planes.len().min(MAX_PLANES);
        let mut strides = [0; MAX_PLANES];
        for (stride, plane) in strides.iter_mut().zip(&raw.planes) {
            *stride = plane.stride();
        }
        let resolved = RawFormat::of(raw.format)
            .and_then(|format| Some((format, format.layout(size, &strides[..count], size)?)));
        let Some((format, layout)) = resolved else {
            return Err(JobError::RawFormat {
                format: raw.format,
                planes: raw.planes.len(),
            });
        };
        let view = |plane: &ColourPlane| {
            raw.planes[plane.memory].sub(plane.offset, plane.stride, plane.line, plane.lines)
        };
        Ok(Self {
            luma: view(&layout.luma),
            chroma: match &layout.chroma {
                ChromaLayout::Interleaved(plane) => Chroma::Interleaved(view(plane)),
                ChromaLayout::Separate([cb, cr]) => Chroma::Separate([view(cb), view(cr)]),
            },
            format,
            size,
        })
    }

    /// Returns the memory of the buffer that a picture may be decoded into.
    ///
    /// A decoder writes luma below the picture. Chroma planes that follow luma in the same memory plane begin
    /// there, so they are not offered.
    pub(crate) fn offer(&self) -> Option<Offer> {
        let chroma = match &self.chroma {
            Chroma::Separate([cb, cr]) if self.format.memory_planes > 1 => {
                cb.lend().and_then(|cb| Some([cb, cr.lend()?]))
            }
            _ => None,
        };
        let luma = self.luma.lend().filter(|_| self.depth() == 8)?;
        Some(Offer {
            size: (self.size.width, self.size.height),
            luma,
            apart: self.format.memory_planes > 1,
            chroma,
        })
    }

    /// Returns whether the luma of `frame` is in this buffer.
    pub(crate) fn holds(&self, frame: &Frame) -> bool {
        self.luma.as_ptr() == frame.plane(0).as_ptr()
    }

    /// Returns the bits per sample of the format.
    pub(crate) fn depth(&self) -> u8 {
        self.format.depth
    }

    /// Makes the whole buffer grey.
    pub(crate) fn fill_grey(&self) {
        let grey = self.format.grey();
        let filled = self.luma.fill(grey).and_then(|()| self.fill_chroma());
        if let Err(error) = filled {
            tracing::debug!(%error, "CAPTURE cannot be filled");
        }
        self.clean();
    }

    /// Makes the whole buffer visible to devices, see [`View::clean`].
    fn clean(&self) {
        self.luma.clean();
        match &self.chroma {
            Chroma::Interleaved(plane) => plane.clean(),
            Chroma::Separate(planes) => planes.iter().for_each(View::clean),
        }
    }

    fn fill_chroma(&self) -> Result<(), OutOfBounds> {
        let grey = self.format.grey();
        match &self.chroma {
            Chroma::Interleaved(plane) => plane.fill(grey),
            Chroma::Separate(planes) => planes.iter().try_for_each(|plane| plane.fill(grey)),
        }
    }

    /// Makes grey what the picture in `frame`, which is smaller than the buffer, leaves of it.
    pub(crate) fn fill_around(&self, frame: &Frame) {
        self.fill_outside(frame, false);
    }

    /// Does the same for an exact picture. Where the library decoded into the buffer, all that it may touch
    /// stays as it is, since later pictures may be predicted from it.
    pub(crate) fn fill_rest(&self, frame: &Frame) {
        let (width, height) = frame.layout.plane_size(0);
        if width < self.size.width as usize || height < self.size.height as usize {
            self.fill_outside(frame, true);
        }
    }

    /// Makes grey the part of each plane that the picture in `frame` leaves; with `keep`, without what the
    /// library may touch of the planes that it decoded into.
    fn fill_outside(&self, frame: &Frame, keep: bool) {
        let grey = self.format.grey();
        let outside = |to: &View, plane: usize, samples: usize| {
            let (width, height) = frame.layout.plane_size(plane);
            let line = width.saturating_mul(samples * frame.layout.sample_bytes());
            let parts = if keep && frame.is_lent(plane) {
                around(to, to.line_len(), frame.layout.touched_lines(plane))
            } else {
                around(to, line, height)
            };
            parts.into_iter().try_for_each(|part| part.fill(grey))
        };
        let luma = outside(&self.luma, 0, 1);
        let chroma = match &self.chroma {
            Chroma::Interleaved(plane) => outside(plane, 1, 2),
            Chroma::Separate([cb, cr]) => outside(cb, 1, 1).and_then(|()| outside(cr, 2, 1)),
        };
        if let Err(error) = luma.and(chroma) {
            tracing::debug!(%error, "CAPTURE cannot be filled");
        }
        self.clean();
    }

    /// Writes the picture in `frame`. Its pixels must be final.
    ///
    /// # Errors
    /// [`JobError::BitDepth`], and nothing is written; [`JobError::TooLarge`], and the part that fits is
    /// written.
    pub(crate) fn write(&self, frame: &Frame, lines: Lines) -> Result<(), JobError> {
        let layout = &frame.layout;
        if layout.depth != self.depth() {
            return Err(JobError::BitDepth {
                picture: layout.depth,
                raw: self.depth(),
            });
        }
        let luma = match self.depth() {
            8 => copy(&self.luma, frame, 0, lines),
            _ => raise(&self.luma, frame, lines),
        };
        let chroma = match &self.chroma {
            _ if !layout.chroma => self.fill_chroma().map(|()| true),
            Chroma::Interleaved(plane) => interleave(plane, frame, lines),
            Chroma::Separate([cb, cr]) => {
                copy(cb, frame, 1, lines).and_then(|fits| Ok(copy(cr, frame, 2, lines)? && fits))
            }
        };
        self.clean();
        match (luma, chroma) {
            (Ok(true), Ok(true)) => Ok(()),
            _ => Err(JobError::TooLarge {
                width: layout.width,
                height: layout.height,
            }),
        }
    }
}

/// Returns the parts of a plane to the right of and below its first `line` bytes of `lines` lines.
fn around(to: &View, line: usize, lines: usize) -> [View; 2] {
    let (line, lines, stride) = (line.min(to.line_len()), lines.min(to.lines()), to.stride());
    [
        to.sub(line, stride, to.line_len() - line, lines),
        to.sub(lines * stride, stride, to.line_len(), to.lines() - lines),
    ]
}

/// Returns how many bytes of each line, and how many lines, to write of a plane with `line` bytes and `lines`
/// lines; and whether that is the whole plane.
fn extent(to: &View, line: usize, lines: usize) -> (usize, usize, bool) {
    (
        line.min(to.line_len()),
        lines.min(to.lines()),
        line <= to.line_len() && lines <= to.lines(),
    )
}

/// Copies an 8-bit plane. Returns whether all of it fitted.
fn copy(to: &View, frame: &Frame, plane: usize, lines: Lines) -> Result<bool, OutOfBounds> {
    let (width, height) = frame.layout.plane_size(plane);
    let (len, count, whole) = extent(to, width, height);
    let from = frame.plane(plane);
    if lines == Lines::All && to.has_lines_of(from) {
        // The picture was decoded here.
        return Ok(whole);
    }
    for y in 0..count {
        // If one field of a frame was decoded here, its lines are copied onto those of the other field. A
        // line that is a source is never written.
        to.copy_line(y, from, lines.source(y, height), len)?;
    }
    Ok(whole)
}

/// Writes the luma plane of a 10-bit frame. Returns whether all of it fitted.
fn raise(to: &View, frame: &Frame, lines: Lines) -> Result<bool, OutOfBounds> {
    let (width, height) = frame.layout.plane_size(0);
    let (len, count, whole) = extent(to, width * 2, height);
    for y in 0..count {
        let from = (frame.plane(0), lines.source(y, height));
        to.convert_line::<BLOCK>(y, from, len, convert::raise_10)?;
    }
    Ok(whole)
}

/// Writes both chroma planes interleaved. Returns whether all of it fitted.
fn interleave(to: &View, frame: &Frame, lines: Lines) -> Result<bool, OutOfBounds> {
    const HALF: usize = BLOCK / 2;
    let (width, height) = frame.layout.plane_size(1);
    let bytes = frame.layout.sample_bytes();
    let (len, count, whole) = extent(to, width * bytes * 2, height);
    for y in 0..count {
        let from = (frame.plane(1), frame.plane(2), lines.source(y, height));
        // Two loops, so that each is compiled for its own function.
        if bytes == 2 {
            to.interleave_lines::<HALF, BLOCK>(y, from, len, convert::interleave_10)?;
        } else {
            to.interleave_lines::<HALF, BLOCK>(y, from, len, convert::interleave_8)?;
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daedalus_uapi::fourcc;

    use super::*;
    use crate::frames::{Layout, Pool};
    use crate::memory::Mapping;

    const GUARD: usize = 4096;
    const UNTOUCHED: u8 = 0xee;

    /// Planes, each of exactly the given length, between guard bytes in one mapping.
    struct GuardedBuffer {
        mapping: Arc<Mapping>,
        starts: Vec<usize>,
        raw: RawPicture,
    }

    impl GuardedBuffer {
        fn new(format: u32, width: u32, height: u32, planes: &[(usize, usize)]) -> Self {
            let total = planes.iter().map(|&(len, _)| len + GUARD).sum::<usize>() + GUARD;
            let mapping = Mapping::anonymous(total).expect("memory");
            mapping.write(0, &vec![UNTOUCHED; total]).expect("fill");
            let mut at = GUARD;
            let (mut starts, mut resolved) = (Vec::new(), Vec::new());
            for &(len, stride) in planes {
                starts.push(at);
                resolved.push(View::new(mapping.clone(), at, len, stride).expect("view"));
                at += len + GUARD;
            }
            let raw = RawPicture {
                format,
                width,
                height,
                planes: resolved,
            };
            Self { mapping, starts, raw }
        }

        fn plane(&self, index: usize) -> Vec<u8> {
            let mut bytes = vec![0; self.raw.planes[index].len()];
            self.raw.planes[index].read(0, &mut bytes).expect("read");
            bytes
        }

        /// Panics if a byte outside of the planes was written.
        fn check_guards(&self) {
            let mut all = vec![0; self.mapping.len()];
            self.mapping.read(0, &mut all).expect("read");
            for (plane, &start) in self.raw.planes.iter().zip(&self.starts) {
                all[start..start + plane.len()].fill(UNTOUCHED);
            }
            assert!(all.iter().all(|&byte| byte == UNTOUCHED), "written out of bounds");
        }
    }

    /// A frame whose samples tell where they are: luma line y is y, Cb 100 + y, Cr 200 + y.
    fn frame(width: u32, height: u32, depth: u8, chroma: bool) -> Arc<Frame> {
        let layout = Layout::new((width, height), (width, height), depth, chroma).expect("layout");
        let frame = Pool::default().acquire(layout, None).expect("frame");
        for (plane, base) in [(0, 0u16), (1, 100), (2, 200)]
            .into_iter()
            .take(if chroma { 3 } else { 1 })
        {
            let (width, height) = layout.plane_size(plane);
            for y in 0..height {
                let value = base + y as u16;
                let line: Vec<u8> = if depth > 8 {
                    (0..width).flat_map(|_| value.to_ne_bytes()).collect()
                } else {
                    vec![value as u8; width]
                };
                let at = layout.stride[plane] * y;
                frame.plane(plane).write(at, &line).expect("write");
            }
        }
        frame
    }

    fn write(buffer: &GuardedBuffer, frame: &Frame, lines: Lines) -> Result<(), JobError> {
        let result = Target::of(&buffer.raw).and_then(|target| target.write(frame, lines));
        buffer.check_guards();
        result
    }

    #[test]
    fn each_format_has_its_planes_in_place() {
        let picture = frame(6, 4, 8, true);
        let nv12 = GuardedBuffer::new(fourcc::NV12, 6, 4, &[(8 * 6, 8)]);
        write(&nv12, &picture, Lines::All).expect("NV12");
        let bytes = nv12.plane(0);
        assert_eq!(bytes[8..16], [1, 1, 1, 1, 1, 1, UNTOUCHED, UNTOUCHED]);
        assert_eq!(
            bytes[40..48],
            [101, 201, 101, 201, 101, 201, UNTOUCHED, UNTOUCHED]
        );

        let nv12m = GuardedBuffer::new(fourcc::NV12M, 6, 4, &[(8 * 4, 8), (8 * 2, 8)]);
        write(&nv12m, &picture, Lines::All).expect("NV12M");
        assert_eq!(nv12m.plane(0), bytes[..32]);
        assert_eq!(nv12m.plane(1), bytes[32..]);

        let yuv420 = GuardedBuffer::new(fourcc::YUV420, 6, 4, &[(8 * 6, 8)]);
        write(&yuv420, &picture, Lines::All).expect("YUV420");
        let bytes = yuv420.plane(0);
        assert_eq!(bytes[36..40], [101, 101, 101, UNTOUCHED]);
        assert_eq!(bytes[44..48], [201, 201, 201, UNTOUCHED]);

        let yuv420m = GuardedBuffer::new(fourcc::YUV420M, 6, 4, &[(32, 8), (8, 4), (8, 4)]);
        write(&yuv420m, &picture, Lines::All).expect("YUV420M");
        assert_eq!(yuv420m.plane(1)[4..7], [101; 3]);
        assert_eq!(yuv420m.plane(2)[4..7], [201; 3]);

        let p010 = GuardedBuffer::new(fourcc::P010, 6, 4, &[(16 * 6, 16)]);
        write(&p010, &frame(6, 4, 10, true), Lines::All).expect("P010");
        let bytes = p010.plane(0);
        assert_eq!(bytes[16..20], [1 << 6, 0, 1 << 6, 0]);
        assert_eq!(
            bytes[80..84],
            [
                ((101u16 << 6) & 0xff) as u8,
                101 >> 2,
                ((201u16 << 6) & 0xff) as u8,
                201 >> 2
            ]
        );
    }

    #[test]
    fn odd_and_wide_pictures_are_whole() {
        for (width, height) in [(1, 1), (35, 17), (4099, 3)] {
            let picture = frame(width, height, 8, true);
            let stride = (width as usize + 1).next_multiple_of(2);
            let chroma_lines = height.div_ceil(2) as usize;
            let buffer = GuardedBuffer::new(
                fourcc::NV12,
                width,
                height,
                &[(stride * (height as usize + chroma_lines), stride)],
            );
            write(&buffer, &picture, Lines::All).expect("odd size");
            let last = buffer.plane(0)[stride * (height as usize + chroma_lines - 1)..].to_vec();
            let value = chroma_lines as u8 - 1;
            for pair in last[..(width as usize).next_multiple_of(2)].chunks(2) {
                assert_eq!(pair, [100 + value, 200 + value]);
            }
        }
    }

    #[test]
    fn a_field_is_shown_on_both_lines() {
        let picture = frame(4, 8, 8, true);
        let buffer = GuardedBuffer::new(fourcc::NV12, 4, 8, &[(48, 4)]);
        write(&buffer, &picture, Lines::TopField).expect("top");
        assert_eq!(
            buffer.plane(0).iter().step_by(4).copied().collect::<Vec<_>>(),
            [0, 0, 2, 2, 4, 4, 6, 6, 100, 100, 102, 102]
        );
        write(&buffer, &picture, Lines::BottomField).expect("bottom");
        assert_eq!(
            buffer.plane(0).iter().step_by(4).copied().collect::<Vec<_>>(),
            [1, 1, 3, 3, 5, 5, 7, 7, 101, 101, 103, 103]
        );
    }

    #[test]
    fn monochrome_has_neutral_chroma() {
        let buffer = GuardedBuffer::new(fourcc::P010, 4, 2, &[(24, 8)]);
        write(&buffer, &frame(4, 2, 10, false), Lines::All).expect("mono");
        assert_eq!(buffer.plane(0)[16..], [0, 0x80, 0, 0x80, 0, 0x80, 0, 0x80]);
    }

    #[test]
    fn a_picture_that_does_not_fit_is_cut_and_reported() {
        for picture in [(65, 65), (640, 480)].map(|(w, h)| frame(w, h, 8, true)) {
            for format in [fourcc::NV12, fourcc::NV12M, fourcc::YUV420, fourcc::YUV420M] {
                // The format is smaller, or the planes are shorter than the format needs, or have an
                // absurd line length, or no bytes.
                for (size, len, stride) in [
                    ((32, 32), 1536, 32),
                    ((640, 480), 1000, 640),
                    ((64, 64), 99, 0),
                    ((64, 64), 0, 64),
                    ((640, 480), 77, 7),
                ] {
                    let buffer = GuardedBuffer::new(format, size.0, size.1, &[(len, stride); 3]);
                    let result = write(&buffer, &picture, Lines::All);
                    assert!(matches!(result, Err(JobError::TooLarge { .. })), "{result:?}");
                    Target::of(&buffer.raw).expect("target").fill_grey();
                    buffer.check_guards();
                }
            }
        }
    }

    #[test]
    fn around_a_smaller_picture_it_is_grey_also_if_it_is_exact() {
        for (format, depth, planes) in [
            (fourcc::NV12, 8, vec![(12 * 12, 12)]),
            (fourcc::NV12M, 8, vec![(12 * 8, 12), (12 * 4, 12)]),
            (fourcc::YUV420, 8, vec![(12 * 12, 12)]),
            (fourcc::YUV420M, 8, vec![(12 * 8, 12), (6 * 4, 6), (6 * 4, 6)]),
            (fourcc::P010, 10, vec![(24 * 12, 24)]),
        ] {
            let sample = if depth > 8 { 2 } else { 1 };
            let picture = frame(6, 4, depth, true);
            let [whole, part, exact] =
                [(true, false), (false, false), (false, true)].map(|(grey_first, exact)| {
                    let buffer = GuardedBuffer::new(format, 10, 8, &planes);
                    let target = Target::of(&buffer.raw).expect("target");
                    if grey_first {
                        target.fill_grey();
                    }
                    target.write(&picture, Lines::All).expect("fits");
                    if exact {
                        target.fill_rest(&picture);
                    } else {
                        target.fill_around(&picture);
                    }
                    buffer.check_guards();
                    (0..planes.len())
                        .map(|plane| buffer.plane(plane))
                        .collect::<Vec<_>>()
                });
            assert_eq!(whole, part, "{}", fourcc::name(format));
            assert_eq!(whole, exact, "{}", fourcc::name(format));
            assert_eq!(part[0][10 * sample..12 * sample], [UNTOUCHED; 4][..2 * sample]);
        }
    }

    #[test]
    fn unusable_formats_and_depths_are_errors() {
        let picture = frame(4, 4, 8, true);
        for (format, planes) in [
            (fourcc::NV12M, 1),
            (fourcc::YUV420M, 2),
            (0, 3),
            (fourcc::NV12, 0),
        ] {
            let buffer = GuardedBuffer::new(format, 4, 4, &vec![(64, 4); planes]);
            assert!(matches!(
                write(&buffer, &picture, Lines::All),
                Err(JobError::RawFormat { .. })
            ));
        }
        let p010 = GuardedBuffer::new(fourcc::P010, 4, 4, &[(64, 8)]);
        assert!(matches!(
            write(&p010, &picture, Lines::All),
            Err(JobError::BitDepth { .. })
        ));
        assert_eq!(p010.plane(0), [UNTOUCHED; 64]);
        let huge = GuardedBuffer::new(fourcc::YUV420, u32::MAX, u32::MAX, &[(64, usize::MAX)]);
        assert!(write(&huge, &picture, Lines::All).is_err());
    }

    #[test]
    fn what_was_decoded_into_the_buffer_stays_there() {
        let (width, height) = (128, 128);
        let layout = Layout::new((width, height), (width, height), 8, true).expect("layout");
        let len = 128 * 128 * 3 / 2 + 128;
        for (format, planes) in [
            (fourcc::NV12, vec![(len, 128)]),
            (fourcc::YUV420, vec![(len, 128)]),
            (fourcc::YUV420M, vec![(len, 128), (len, 64), (len, 64)]),
        ] {
            let buffer = GuardedBuffer::new(format, width, height, &planes);
            let target = Target::of(&buffer.raw).expect("target");
            let offer = target.offer().expect("offer");
            let picture = Pool::default().acquire(layout, Some(&offer)).expect("frame");
            assert!(target.holds(&picture));
            for plane in 0..3 {
                for y in 0..layout.plane_size(plane).1 {
                    let line = vec![(y + 50 * plane) as u8; layout.plane_size(plane).0];
                    let at = layout.stride[plane] * y;
                    picture.plane(plane).write(at, &line).expect("decode");
                }
            }
            target.write(&picture, Lines::All).expect("write");
            buffer.check_guards();
            let bytes = buffer.plane(0);
            assert!((0..128).all(|y| bytes[y * 128..(y + 1) * 128] == [y as u8; 128]));
            if format == fourcc::NV12 {
                assert_eq!(bytes[128 * 129..128 * 129 + 4], [51, 101, 51, 101]);
            }
            target.write(&picture, Lines::TopField).expect("field");
            let bytes = buffer.plane(0);
            assert!((0..128).all(|y| bytes[y * 128] == (y & !1) as u8));
        }
    }

    #[test]
    fn slow_memory_is_not_offered() {
        let mut buffer = GuardedBuffer::new(fourcc::NV12, 128, 128, &[(128 * 256, 128)]);
        assert!(Target::of(&buffer.raw).expect("target").offer().is_some());
        let plane = buffer.raw.planes.remove(0);
        buffer.raw.planes.push(plane.slow_to_read());
        assert!(Target::of(&buffer.raw).expect("target").offer().is_none());
        let deep = GuardedBuffer::new(fourcc::P010, 64, 64, &[(128 * 256, 128)]);
        assert!(Target::of(&deep.raw).expect("target").offer().is_none());
    }
}
