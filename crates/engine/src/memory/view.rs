// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parts of mapped memory, as bytes and as lines.

use std::sync::Arc;

use crate::memory::cache;
use crate::memory::mapping::{Mapping, OutOfBounds};

/// Bytes that [`View::fill`] writes at a time, on the stack.
const CHUNK: usize = 2048;

/// A part of a [`Mapping`]: a buffer's memory plane, a colour plane in it, or coded data.
///
/// Colour planes have lines: `lines` of them, `stride` bytes from one to the next, `line_len` bytes of
/// samples in each. All of them are inside of the view.
#[derive(Clone, Debug)]
pub struct View {
    mapping: Arc<Mapping>,
    offset: usize,
    len: usize,
    stride: usize,
    line_len: usize,
    lines: usize,
    slow: bool,
    /// The exporter of the memory makes it visible to devices.
    cleaned: bool,
}

impl View {
    /// Returns a view of the `len` bytes at `offset` of `mapping`. `stride` is the distance in bytes between
    /// two lines of the (first) colour plane, or 0 for coded data.
    ///
    /// # Errors
    /// [`OutOfBounds`] if the bytes are not all inside of the mapping.
    pub fn new(mapping: Arc<Mapping>, offset: usize, len: usize, stride: usize) -> Result<Self, OutOfBounds> {
        mapping.check(offset, len)?;
        Ok(Self {
            mapping,
            offset,
            len,
            stride,
            line_len: stride,
            lines: fitting_lines(len, stride, stride),
            slow: false,
            cleaned: false,
        })
    }

    /// Returns the same view, whose exporter makes it visible to devices that read memory past the
    /// processor's caches: this process need not.
    #[must_use]
    pub fn cleaned_by_exporter(mut self) -> Self {
        self.cleaned = true;
        self
    }

    /// Returns the same view, which is written once and never read: reading is slow if memory that a client
    /// brought is not cached.
    #[must_use]
    pub fn slow_to_read(mut self) -> Self {
        self.slow = true;
        self
    }

    /// Returns the part from `offset` on as a colour plane of `lines` lines, each with `line_len` bytes of
    /// samples. Lines and bytes that are not inside of this view are left out.
    pub(crate) fn sub(&self, offset: usize, stride: usize, line_len: usize, lines: usize) -> Self {
        let offset = offset.min(self.len);
        let len = self.len - offset;
        let line_len = line_len.min(stride);
        Self {
            mapping: Arc::clone(&self.mapping),
            offset: self.offset + offset,
            len,
            stride,
            line_len,
            lines: lines.min(fitting_lines(len, stride, line_len)),
            slow: self.slow,
            cleaned: self.cleaned,
        }
    }

    /// Returns the view for a library to decode into. `None` if the memory is for reading only, or slow to
    /// read.
    pub(crate) fn lend(&self) -> Option<Self> {
        (self.mapping.is_writable() && !self.slow).then(|| self.clone())
    }

    /// Returns the bytes of the view.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the view has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the bytes from one line to the next of the (first) colour plane.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Returns the bytes of samples in a line.
    pub(crate) fn line_len(&self) -> usize {
        self.line_len
    }

    /// Returns the number of lines.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// Returns the memory that this is a part of.
    pub(crate) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Returns the address of the first byte, for a library that decodes into the memory. While it is mapped,
    /// no other memory has the address.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.mapping.at(self.offset)
    }

    /// Returns whether each line begins where the same line of `other` does.
    pub(crate) fn has_lines_of(&self, other: &Self) -> bool {
        self.as_ptr() == other.as_ptr() && self.stride == other.stride
    }

    /// Copies `into.len()` bytes from `offset` within the view on.
    ///
    /// # Errors
    /// [`OutOfBounds`] if they are not all inside of the view.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.mapping.read(self.check(offset, into.len())?, into)
    }

    /// Copies `from` to `offset` within the view.
    ///
    /// # Errors
    /// [`OutOfBounds`] if it does not fit, or if the memory is not writable.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        self.mapping.write(self.check(offset, from.len())?, from)
    }

    /// Fills all lines with `pattern`, repeated.
    ///
    /// # Errors
    /// As [`View::write`].
    pub(crate) fn fill(&self, pattern: [u8; 2]) -> Result<(), OutOfBounds> {
        let mut chunk = [0; CHUNK];
        for pair in chunk.chunks_exact_mut(2) {
            pair.copy_from_slice(&pattern);
        }
        for y in 0..self.lines {
            for x in (0..self.line_len).step_by(CHUNK) {
                self.write(y * self.stride + x, &chunk[..CHUNK.min(self.line_len - x)])?;
            }
        }
        Ok(())
    }

    /// Makes all lines visible to devices that read memory past the processor's caches, unless the exporter
    /// does so. Memory that a client brought is left alone: its exporter does so when the access bracket is
    /// closed.
    pub(crate) fn clean(&self) {
        let Some(others) = self.lines.checked_sub(1) else {
            return;
        };
        if !self.slow && !self.cleaned {
            // SAFETY: all lines are inside of the mapping, which is readable and lives as long as `self`.
            unsafe { cache::clean(self.as_ptr(), others * self.stride + self.line_len) };
        }
    }

    /// Copies `len` bytes of line `from_y` of `from` to line `y`. If the two are the same memory, nothing is
    /// written.
    ///
    /// # Errors
    /// [`OutOfBounds`] if either range is not inside, or if this memory is not writable.
    pub(crate) fn copy_line(
        &self,
        y: usize,
        from: &Self,
        from_y: usize,
        len: usize,
    ) -> Result<(), OutOfBounds> {
        let (to, from) = (self.line(y, len)?, from.line(from_y, len)?);
        if std::ptr::eq(to, from) {
            return Ok(());
        }
        self.mapping.check_writable(self.offset, len)?;
        // SAFETY: both ranges were just checked to be inside of their mappings, which live as long as the
        // views, and the first is writable. They may overlap, which `copy` allows.
        unsafe { std::ptr::copy(from, to, len) };
        Ok(())
    }

    /// Writes `len` bytes to line `y`, made by `convert` of as many bytes of line `from_y` of `from`, `N` at
    /// a time.
    ///
    /// # Errors
    /// As [`View::copy_line`].
    pub(crate) fn convert_line<const N: usize>(
        &self,
        y: usize,
        (from, from_y): (&Self, usize),
        len: usize,
        convert: impl Fn(&[u8], &mut [u8]),
    ) -> Result<(), OutOfBounds> {
        let (to, from) = (self.line(y, len)?, from.line(from_y, len)?);
        self.mapping.check_writable(self.offset, len)?;
        let (blocks, rest) = (len / N, len % N);
        for block in 0..blocks {
            let mut out = [0; N];
            // SAFETY: the source's `len` bytes were just checked to be inside of its mapping.
            let bytes = unsafe { from.wrapping_add(block * N).cast::<[u8; N]>().read_unaligned() };
            convert(&bytes, &mut out);
            // SAFETY: the `len` bytes of the line were just checked to be inside of its mapping, which is
            // writable.
            unsafe { to.wrapping_add(block * N).cast::<[u8; N]>().write_unaligned(out) };
        }
        if rest > 0 {
            let (mut bytes, mut out) = ([0; N], [0; N]);
            // SAFETY: these are the last of the source's `len` bytes, and fewer than `N`.
            unsafe { std::ptr::copy_nonoverlapping(from.wrapping_add(blocks * N), bytes.as_mut_ptr(), rest) };
            convert(&bytes, &mut out);
            // SAFETY: these are the last of the line's `len` bytes, and fewer than `N`.
            unsafe { std::ptr::copy_nonoverlapping(out.as_ptr(), to.wrapping_add(blocks * N), rest) };
        }
        Ok(())
    }

    /// Writes `len` bytes to line `y`, made by `interleave` of half as many bytes of line `from_y` of each of
    /// two sources: `OUT` bytes at a time of twice `N`.
    ///
    /// # Errors
    /// As [`View::copy_line`].
    pub(crate) fn interleave_lines<const N: usize, const OUT: usize>(
        &self,
        y: usize,
        (first, second, from_y): (&Self, &Self, usize),
        len: usize,
        interleave: impl Fn(&[u8], &[u8], &mut [u8]),
    ) -> Result<(), OutOfBounds> {
        const { assert!(OUT == 2 * N && N % 2 == 0) };
        // Whole samples, of one byte or two.
        let half = len.div_ceil(2).next_multiple_of(2);
        let to = self.line(y, len)?;
        let (first, second) = (first.line(from_y, half)?, second.line(from_y, half)?);
        self.mapping.check_writable(self.offset, len)?;
        let (blocks, rest) = (len / OUT, len % OUT);
        for block in 0..blocks {
            let mut out = [0; OUT];
            // SAFETY: the first source's `half` bytes were just checked to be inside of its mapping.
            let a = unsafe { first.wrapping_add(block * N).cast::<[u8; N]>().read_unaligned() };
            // SAFETY: the second source's `half` bytes were just checked to be inside of its mapping.
            let b = unsafe { second.wrapping_add(block * N).cast::<[u8; N]>().read_unaligned() };
            interleave(&a, &b, &mut out);
            // SAFETY: the `len` bytes of the line were just checked to be inside of its mapping, which is
            // writable.
            unsafe {
                to.wrapping_add(block * OUT)
                    .cast::<[u8; OUT]>()
                    .write_unaligned(out)
            };
        }
        if rest > 0 {
            let (mut a, mut b, mut out) = ([0; N], [0; N], [0; OUT]);
            let at = blocks * N;
            // SAFETY: these are the last of the first source's `half` bytes, at most `N` since `rest` is
            // below `OUT`.
            unsafe { std::ptr::copy_nonoverlapping(first.wrapping_add(at), a.as_mut_ptr(), half - at) };
            // SAFETY: these are the last of the second source's `half` bytes, at most `N`.
            unsafe { std::ptr::copy_nonoverlapping(second.wrapping_add(at), b.as_mut_ptr(), half - at) };
            interleave(&a, &b, &mut out);
            // SAFETY: these are the last of the line's `len` bytes, and fewer than `OUT`.
            unsafe { std::ptr::copy_nonoverlapping(out.as_ptr(), to.wrapping_add(blocks * OUT), rest) };
        }
        Ok(())
    }

    /// Returns the address of line `y`, of which `len` bytes are inside of the view.
    fn line(&self, y: usize, len: usize) -> Result<*mut u8, OutOfBounds> {
        let offset = y.saturating_mul(self.stride);
        Ok(self.mapping.at(self.check(offset, len)?))
    }

    /// Returns where a range of the view is in the mapping.
    fn check(&self, offset: usize, len: usize) -> Result<usize, OutOfBounds> {
        match offset.checked_add(len) {
            // The view is inside of the mapping, so the sum does not overflow.
            Some(end) if end <= self.len => Ok(self.offset + offset),
            _ => Err(OutOfBounds {
                offset,
                len,
                size: self.len,
            }),
        }
    }
}

/// Returns how many lines with `line_len` bytes of samples are inside of `len` bytes.
fn fitting_lines(len: usize, stride: usize, line_len: usize) -> usize {
    match len.checked_sub(line_len) {
        Some(rest) if stride > 0 => rest / stride + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_are_inside_of_their_mapping() {
        let mapping = Mapping::anonymous(100).expect("mapping");
        assert!(View::new(mapping.clone(), 0, 100, 0).is_ok());
        assert!(View::new(mapping.clone(), 1, 100, 0).is_err());
        assert!(View::new(mapping.clone(), usize::MAX, 2, 0).is_err());
        assert!(View::new(mapping, 101, 0, 0).is_err());
    }

    #[test]
    fn accesses_outside_of_a_view_fail() {
        let mapping = Mapping::anonymous(64).expect("mapping");
        let view = View::new(mapping.clone(), 16, 32, 0).expect("view");
        assert_eq!(view.write(0, &[7; 32]), Ok(()));
        assert!(view.write(1, &[7; 32]).is_err());
        assert!(view.write(usize::MAX, &[7; 2]).is_err());
        assert!(view.read(32, &mut [0; 1]).is_err());
        let mut all = [1; 64];
        mapping.read(0, &mut all).expect("read");
        assert_eq!(all[..16], [0; 16]);
        assert_eq!(all[16..48], [7; 32]);
        assert_eq!(all[48..], [0; 16]);
    }

    #[test]
    fn lines_are_inside_of_their_view() {
        let view = View::new(Mapping::anonymous(100).expect("mapping"), 0, 100, 0).expect("view");
        for (offset, stride, line_len, lines, fitting) in [
            (0, 10, 10, 10, 10),
            (0, 10, 10, 11, 10),
            (1, 10, 10, 10, 9),
            (1, 10, 9, 10, 10),
            (200, 10, 9, 10, 0),
            (0, 0, 9, 10, 0),
            (0, usize::MAX, 100, 10, 1),
            (0, usize::MAX, 101, 10, 0),
        ] {
            let sub = view.sub(offset, stride, line_len, lines);
            assert_eq!(sub.lines(), fitting, "{offset} {stride} {line_len} {lines}");
            assert!(sub.line_len() <= stride);
            assert_eq!(sub.fill([1, 2]), Ok(()));
        }
        assert!(view.sub(0, usize::MAX, 1, 1).line(2, 1).is_err());
    }

    #[test]
    fn conversions_write_their_bytes_and_no_others() {
        let view = || View::new(Mapping::anonymous(64).expect("mapping"), 0, 64, 32).expect("view");
        let (to, a, b) = (view(), view(), view());
        a.fill([1, 2]).expect("fill");
        b.fill([3, 4]).expect("fill");
        let invert = |bytes: &[u8], out: &mut [u8]| {
            for (out, byte) in out.iter_mut().zip(bytes) {
                *out = !byte;
            }
        };
        to.convert_line::<8>(1, (&a, 0), 19, invert).expect("convert");
        let mut line = [0; 64];
        to.read(0, &mut line).expect("read");
        assert!(line[..32] == [0; 32] && line[51..] == [0; 13]);
        assert!(
            line[32..51]
                .iter()
                .zip([!1, !2].iter().cycle())
                .all(|(byte, due)| byte == due)
        );

        let pairs = |a: &[u8], b: &[u8], out: &mut [u8]| {
            for ((out, a), b) in out.chunks_exact_mut(2).zip(a).zip(b) {
                out.copy_from_slice(&[*a, *b]);
            }
        };
        to.interleave_lines::<4, 8>(0, (&a, &b, 1), 19, pairs)
            .expect("interleave");
        to.read(0, &mut line).expect("read");
        assert!(line[19..32] == [0; 13]);
        assert!(
            line[..19]
                .iter()
                .zip([1, 3, 2, 4].iter().cycle())
                .all(|(byte, due)| byte == due)
        );
        // The source's last line ends before it has enough bytes.
        let short = a.sub(32, 32, 8, 1);
        assert!(
            to.interleave_lines::<4, 8>(0, (&short, &b, 1), 32, pairs)
                .is_err()
        );
        assert!(to.convert_line::<8>(2, (&a, 0), 1, invert).is_err());
    }
}
