// SPDX-License-Identifier: Apache-2.0 OR MIT
//! CAPTURE buffers: where the colour planes of each format are, and writing pictures into them.
//!
//! What was decoded straight into CAPTURE is left there. Of everything else, each byte is written at most once
//! per call and none is read. What lies outside of the picture (the CAPTURE format may be larger, lines may be
//! padded) belongs to nobody: clients crop to the picture, and the memory was made grey when it was mapped, or
//! came from the client itself.

use daedalus_uapi::fourcc;

use crate::RawPicture;
use crate::convert;
use crate::error::JobError;
use crate::frames::{Frame, Offer};
use crate::memory::{OutOfBounds, Plane};

/// Bytes that are converted at a time, on the stack.
const CHUNK: usize = 2048;
/// Bytes of interleaved samples that are converted at a time, in registers.
const BLOCK: usize = 64;

/// Which lines of a frame to show.
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
    /// The line to show as line `y` of a plane with `count` lines.
    fn source(self, y: usize, count: usize) -> usize {
        match self {
            Self::All => y,
            Self::TopField => y & !1,
            Self::BottomField => (y | 1).min(count - 1),
        }
    }
}

/// One colour plane (or two that are interleaved) in CAPTURE memory.
struct Area<'a> {
    plane: &'a Plane,
    offset: usize,
    stride: usize,
    /// Bytes of a line that may be written.
    line: usize,
    /// Lines that may be written.
    lines: usize,
}

impl<'a> Area<'a> {
    /// An area of `lines` lines of `line` bytes, reduced to what is in the memory.
    fn new(plane: &'a Plane, offset: usize, stride: usize, line: usize, lines: usize) -> Self {
        let line = line.min(stride);
        let room = plane.len().saturating_sub(offset);
        let fit = match room.checked_sub(line) {
            Some(rest) if stride > 0 => rest / stride + 1,
            _ => 0,
        };
        Self {
            plane,
            offset,
            stride,
            line,
            lines: lines.min(fit),
        }
    }

    /// Writes at byte `x` of line `y`; both are within `line` and `lines`.
    fn write(&self, x: usize, y: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        self.plane.write(self.offset + y * self.stride + x, from)
    }

    fn clean(&self) -> Result<(), OutOfBounds> {
        match self.lines.checked_sub(1) {
            None => Ok(()),
            Some(others) => self.plane.clean(self.offset, others * self.stride + self.line),
        }
    }

    fn fill(&self, pattern: [u8; 2]) -> Result<(), OutOfBounds> {
        let mut chunk = [0; CHUNK];
        for pair in chunk.chunks_exact_mut(2) {
            pair.copy_from_slice(&pattern);
        }
        for y in 0..self.lines {
            for x in (0..self.line).step_by(CHUNK) {
                self.write(x, y, &chunk[..CHUNK.min(self.line - x)])?;
            }
        }
        Ok(())
    }
}

/// A CAPTURE buffer, resolved into colour planes.
pub(crate) struct Target<'a> {
    luma: Area<'a>,
    chroma: Chroma<'a>,
    depth: u8,
    size: (u32, u32),
}

/// The chroma planes of a [`Target`].
enum Chroma<'a> {
    Interleaved(Area<'a>),
    Separate([Area<'a>; 2]),
}

impl<'a> Target<'a> {
    /// Resolves `raw`.
    ///
    /// # Errors
    /// [`JobError::RawFormat`]. Planes that are too small are no error here, see [`Target::write`].
    pub(crate) fn of(raw: &'a RawPicture) -> Result<Self, JobError> {
        let error = JobError::RawFormat {
            format: raw.format,
            planes: raw.planes.len(),
        };
        let Some(first) = raw.planes.first() else {
            return Err(error);
        };
        let (width, height) = (raw.width as usize, raw.height as usize);
        let (half_width, half_height) = (width.div_ceil(2), height.div_ceil(2));
        let stride = first.bytesperline();
        let second_at = stride.saturating_mul(height);
        let sample = if raw.format == fourcc::P010 { 2 } else { 1 };
        let luma = Area::new(first, 0, stride, width * sample, height);
        let chroma = match (raw.format, raw.planes.as_slice()) {
            (fourcc::NV12 | fourcc::P010, [_, ..]) => Chroma::Interleaved(Area::new(
                first,
                second_at,
                stride,
                half_width * 2 * sample,
                half_height,
            )),
            (fourcc::NV12M, [_, chroma, ..]) => Chroma::Interleaved(Area::new(
                chroma,
                0,
                chroma.bytesperline(),
                half_width * 2,
                half_height,
            )),
            (fourcc::YUV420, [_, ..]) => {
                let third_at = second_at.saturating_add((stride / 2).saturating_mul(half_height));
                Chroma::Separate(
                    [second_at, third_at]
                        .map(|offset| Area::new(first, offset, stride / 2, half_width, half_height)),
                )
            }
            (fourcc::YUV420M, [_, cb, cr, ..]) => Chroma::Separate(
                [cb, cr].map(|plane| Area::new(plane, 0, plane.bytesperline(), half_width, half_height)),
            ),
            _ => return Err(error),
        };
        let depth = if raw.format == fourcc::P010 { 10 } else { 8 };
        let size = (raw.width, raw.height);
        Ok(Self {
            luma,
            chroma,
            depth,
            size,
        })
    }

    /// What of the buffer pictures may be decoded into.
    ///
    /// Chroma planes which follow luma in the same memory are not offered: a decoder writes luma below the
    /// picture, and the lines at the start of such a plane are there.
    pub(crate) fn offer(&self) -> Option<Offer> {
        let lend = |area: &Area<'_>| area.plane.lend(area.offset, area.stride);
        let chroma = match &self.chroma {
            Chroma::Separate([cb, cr]) if cb.offset == 0 && cr.offset == 0 => {
                lend(cb).and_then(|cb| Some([cb, lend(cr)?]))
            }
            _ => None,
        };
        let luma = lend(&self.luma).filter(|_| self.depth == 8)?;
        Some(Offer {
            size: self.size,
            luma,
            chroma,
        })
    }

    /// The luma of `frame` is in this buffer.
    pub(crate) fn holds(&self, frame: &Frame) -> bool {
        self.luma
            .plane
            .is_at(self.luma.offset, frame.memory(0), frame.line(0, 0))
    }

    /// Bits per sample of the format.
    pub(crate) fn depth(&self) -> u8 {
        self.depth
    }

    /// Makes the whole buffer grey.
    pub(crate) fn fill_grey(&self) {
        let filled = self.luma.fill(self.grey()).and_then(|()| self.fill_chroma());
        if let Err(error) = filled.and_then(|()| self.clean()) {
            tracing::debug!(%error, "CAPTURE cannot be filled");
        }
    }

    /// Makes the whole buffer visible to devices, see [`Plane::clean`].
    fn clean(&self) -> Result<(), OutOfBounds> {
        self.luma.clean()?;
        match &self.chroma {
            Chroma::Interleaved(area) => area.clean(),
            Chroma::Separate(areas) => areas.iter().try_for_each(Area::clean),
        }
    }

    fn grey(&self) -> [u8; 2] {
        if self.depth > 8 {
            0x8000u16.to_le_bytes()
        } else {
            [0x80; 2]
        }
    }

    fn fill_chroma(&self) -> Result<(), OutOfBounds> {
        match &self.chroma {
            Chroma::Interleaved(area) => area.fill(self.grey()),
            Chroma::Separate(areas) => areas.iter().try_for_each(|area| area.fill(self.grey())),
        }
    }

    /// Writes the picture in `frame`. Its pixels must be final.
    ///
    /// # Errors
    /// [`JobError::BitDepth`], and nothing is written; [`JobError::TooLarge`], and what fits is written.
    pub(crate) fn write(&self, frame: &Frame, lines: Lines) -> Result<(), JobError> {
        let layout = &frame.layout;
        if layout.depth != self.depth {
            return Err(JobError::BitDepth {
                picture: layout.depth,
                raw: self.depth,
            });
        }
        let luma = match self.depth {
            8 => copy(&self.luma, frame, 0, lines),
            _ => raise(&self.luma, frame, lines),
        };
        let chroma = match &self.chroma {
            _ if !layout.chroma => self.fill_chroma().map(|()| true),
            Chroma::Interleaved(area) => interleave(area, frame, lines),
            Chroma::Separate([cb, cr]) => {
                copy(cb, frame, 1, lines).and_then(|fits| Ok(copy(cr, frame, 2, lines)? && fits))
            }
        };
        match (luma, chroma, self.clean()) {
            (Ok(true), Ok(true), Ok(())) => Ok(()),
            _ => Err(JobError::TooLarge {
                width: layout.width,
                height: layout.height,
            }),
        }
    }
}

/// Bytes of each line and number of lines to write, and whether that is the whole plane.
fn extent(area: &Area<'_>, line: usize, lines: usize) -> (usize, usize, bool) {
    (
        line.min(area.line),
        lines.min(area.lines),
        line <= area.line && lines <= area.lines,
    )
}

/// Copies an 8-bit plane. Returns whether all of it fitted.
fn copy(area: &Area<'_>, frame: &Frame, plane: usize, lines: Lines) -> Result<bool, OutOfBounds> {
    let (width, height) = frame.layout.plane_size(plane);
    let (len, count, whole) = extent(area, width, height);
    let memory = frame.memory(plane);
    for y in 0..count {
        let from = frame.line(plane, lines.source(y, height));
        let to = area.offset + y * area.stride;
        // What was decoded here is in place; of a field, the other field's lines are not. A line that is
        // a source is never written.
        if !area.plane.is_at(to, memory, from) {
            area.plane.copy_from(to, memory, from, len)?;
        }
    }
    Ok(whole)
}

/// Writes the luma plane of a 10-bit frame. Returns whether all of it fitted.
fn raise(area: &Area<'_>, frame: &Frame, lines: Lines) -> Result<bool, OutOfBounds> {
    let (width, height) = frame.layout.plane_size(0);
    let (len, count, whole) = extent(area, width * 2, height);
    let from = frame.memory(0);
    let blocks = len / BLOCK;
    let rest = len - blocks * BLOCK;
    for y in 0..count {
        let line = frame.line(0, lines.source(y, height));
        let to = area.offset + y * area.stride;
        area.plane
            .change_from::<BLOCK>(to, blocks, (from, line), convert::raise_10)?;
        if rest > 0 {
            let (mut bytes, mut out) = ([0; BLOCK], [0; BLOCK]);
            let x = blocks * BLOCK;
            from.read(line + x, &mut bytes[..rest])?;
            convert::raise_10(&bytes[..rest], &mut out[..rest]);
            area.write(x, y, &out[..rest])?;
        }
    }
    Ok(whole)
}

/// Writes both chroma planes interleaved. Returns whether all of it fitted.
fn interleave(area: &Area<'_>, frame: &Frame, lines: Lines) -> Result<bool, OutOfBounds> {
    let (width, height) = frame.layout.plane_size(1);
    let bytes = frame.layout.sample_bytes();
    let (len, count, whole) = extent(area, width * bytes * 2, height);
    let interleave = if bytes == 2 {
        convert::interleave_10
    } else {
        convert::interleave_8
    };
    let (cb, cr) = (frame.memory(1), frame.memory(2));
    for y in 0..count {
        let y_from = lines.source(y, height);
        let (u_line, v_line) = (frame.line(1, y_from), frame.line(2, y_from));
        let to = area.offset + y * area.stride;
        let sources = [(cb, u_line), (cr, v_line)];
        // Two loops, so that each is compiled for its own function.
        let blocks = len / BLOCK;
        if bytes == 2 {
            area.plane
                .merge_from::<{ BLOCK / 2 }, BLOCK>(to, blocks, sources, convert::interleave_10)?;
        } else {
            area.plane
                .merge_from::<{ BLOCK / 2 }, BLOCK>(to, blocks, sources, convert::interleave_8)?;
        }
        let x = blocks * BLOCK;
        let part = len - x;
        if part > 0 {
            let (mut u, mut v, mut out) = ([0; BLOCK / 2], [0; BLOCK / 2], [0; BLOCK]);
            let half = part.div_ceil(2 * bytes) * bytes;
            cb.read(u_line + x / 2, &mut u[..half])?;
            cr.read(v_line + x / 2, &mut v[..half])?;
            interleave(&u[..half], &v[..half], &mut out[..half * 2]);
            area.write(x, y, &out[..part])?;
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::frames::{Layout, Pool};
    use crate::memory::Mapping;

    const GUARD: usize = 4096;
    const UNTOUCHED: u8 = 0xee;

    /// Planes, each of exactly the given length, between guard bytes in one mapping.
    struct Guarded {
        mapping: Arc<Mapping>,
        starts: Vec<usize>,
        raw: RawPicture,
    }

    impl Guarded {
        fn new(format: u32, width: u32, height: u32, planes: &[(usize, usize)]) -> Self {
            let total = planes.iter().map(|&(len, _)| len + GUARD).sum::<usize>() + GUARD;
            let mapping = Mapping::anonymous(total).expect("memory");
            mapping.write(0, &vec![UNTOUCHED; total]).expect("fill");
            let mut at = GUARD;
            let (mut starts, mut resolved) = (Vec::new(), Vec::new());
            for &(len, stride) in planes {
                starts.push(at);
                resolved.push(Plane::new(mapping.clone(), at, len, stride).expect("plane"));
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
                frame
                    .memory(plane)
                    .write(frame.line(plane, y), &line)
                    .expect("write");
            }
        }
        frame
    }

    fn write(buffer: &Guarded, frame: &Frame, lines: Lines) -> Result<(), JobError> {
        let result = Target::of(&buffer.raw).and_then(|target| target.write(frame, lines));
        buffer.check_guards();
        result
    }

    #[test]
    fn each_format_has_its_planes_in_place() {
        let picture = frame(6, 4, 8, true);
        let nv12 = Guarded::new(fourcc::NV12, 6, 4, &[(8 * 6, 8)]);
        write(&nv12, &picture, Lines::All).expect("NV12");
        let bytes = nv12.plane(0);
        assert_eq!(bytes[8..16], [1, 1, 1, 1, 1, 1, UNTOUCHED, UNTOUCHED]);
        assert_eq!(
            bytes[40..48],
            [101, 201, 101, 201, 101, 201, UNTOUCHED, UNTOUCHED]
        );

        let nv12m = Guarded::new(fourcc::NV12M, 6, 4, &[(8 * 4, 8), (8 * 2, 8)]);
        write(&nv12m, &picture, Lines::All).expect("NV12M");
        assert_eq!(nv12m.plane(0), bytes[..32]);
        assert_eq!(nv12m.plane(1), bytes[32..]);

        let yuv420 = Guarded::new(fourcc::YUV420, 6, 4, &[(8 * 6, 8)]);
        write(&yuv420, &picture, Lines::All).expect("YUV420");
        let bytes = yuv420.plane(0);
        assert_eq!(bytes[36..40], [101, 101, 101, UNTOUCHED]);
        assert_eq!(bytes[44..48], [201, 201, 201, UNTOUCHED]);

        let yuv420m = Guarded::new(fourcc::YUV420M, 6, 4, &[(32, 8), (8, 4), (8, 4)]);
        write(&yuv420m, &picture, Lines::All).expect("YUV420M");
        assert_eq!(yuv420m.plane(1)[4..7], [101; 3]);
        assert_eq!(yuv420m.plane(2)[4..7], [201; 3]);

        let p010 = Guarded::new(fourcc::P010, 6, 4, &[(16 * 6, 16)]);
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
            let buffer = Guarded::new(
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
        let buffer = Guarded::new(fourcc::NV12, 4, 8, &[(48, 4)]);
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
        let buffer = Guarded::new(fourcc::P010, 4, 2, &[(24, 8)]);
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
                    let buffer = Guarded::new(format, size.0, size.1, &[(len, stride); 3]);
                    let result = write(&buffer, &picture, Lines::All);
                    assert!(matches!(result, Err(JobError::TooLarge { .. })), "{result:?}");
                    Target::of(&buffer.raw).expect("target").fill_grey();
                    buffer.check_guards();
                }
            }
        }
    }

    #[test]
    fn unusable_formats_and_depths_are_errors() {
        let picture = frame(4, 4, 8, true);
        for (format, planes) in [
            (fourcc::NV12M, 1),
            (fourcc::YUV420M, 2),
            (fourcc::H264_SLICE, 3),
            (fourcc::NV12, 0),
        ] {
            let buffer = Guarded::new(format, 4, 4, &vec![(64, 4); planes]);
            assert!(matches!(
                write(&buffer, &picture, Lines::All),
                Err(JobError::RawFormat { .. })
            ));
        }
        let p010 = Guarded::new(fourcc::P010, 4, 4, &[(64, 8)]);
        assert!(matches!(
            write(&p010, &picture, Lines::All),
            Err(JobError::BitDepth { .. })
        ));
        assert_eq!(p010.plane(0), [UNTOUCHED; 64]);
        let huge = Guarded::new(fourcc::YUV420, u32::MAX, u32::MAX, &[(64, usize::MAX)]);
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
            let buffer = Guarded::new(format, width, height, &planes);
            let target = Target::of(&buffer.raw).expect("target");
            let offer = target.offer().expect("offer");
            let picture = Pool::default().acquire(layout, Some(&offer)).expect("frame");
            assert!(target.holds(&picture));
            for plane in 0..3 {
                for y in 0..layout.plane_size(plane).1 {
                    let line = vec![(y + 50 * plane) as u8; layout.plane_size(plane).0];
                    picture
                        .memory(plane)
                        .write(picture.line(plane, y), &line)
                        .expect("decode");
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
        let mut buffer = Guarded::new(fourcc::NV12, 128, 128, &[(128 * 256, 128)]);
        assert!(Target::of(&buffer.raw).expect("target").offer().is_some());
        let plane = buffer.raw.planes.remove(0);
        buffer.raw.planes.push(plane.slow_to_read());
        assert!(Target::of(&buffer.raw).expect("target").offer().is_none());
        let deep = Guarded::new(fourcc::P010, 64, 64, &[(128 * 256, 128)]);
        assert!(Target::of(&deep.raw).expect("target").offer().is_none());
    }
}
