// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds blocks that a library has not decoded, for a library that neither conceals nor reports them.
//!
//! Before the library decodes, each block of the frame gets a mark: samples that no picture has, except by a
//! chance of one in 2^64. They are in the corner that is decoded last, and out of the reach of filters that
//! later blocks apply across their edges. A mark that is still there afterwards tells that its block is not
//! decoded, or not to its end. Memory of a CAPTURE buffer is made grey before: what a client had in it is no
//! part of any picture. Private memory has an earlier picture of the session, or grey.

use crate::frames::Frame;
use crate::memory::OutOfBounds;

/// Lines of a mark.
const LINES: usize = 2;
/// Samples of a line of a mark.
const SAMPLES: usize = 4;
/// Samples from the mark's corner to that of its block.
const FROM_CORNER: usize = 8;

/// The marks of a picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marks {
    /// Side of a block, in luma samples: a multiple of 8. The picture's width and height are, too.
    pub(crate) block: usize,
    /// Makes the marks of each picture others.
    pub(crate) key: u64,
}

impl Marks {
    /// Puts a mark into each block of the frame, whose planes in CAPTURE are made grey before.
    pub(crate) fn put(&self, frame: &Frame) -> Result<(), OutOfBounds> {
        let luma = frame.plane(0);
        frame.fill_lent()?;
        for (index, at) in self.places(frame).enumerate() {
            let mark = self.mark(frame, index);
            let (first, second) = mark.split_at(mark.len() / LINES);
            luma.write(at, first)?;
            luma.write(at + frame.layout.stride[0], second)?;
        }
        Ok(())
    }

    /// Replaces the marks that are still there by grey. Returns their number.
    pub(crate) fn take(&self, frame: &Frame) -> Result<u32, OutOfBounds> {
        let luma = frame.plane(0);
        let mut found = 0;
        for (index, at) in self.places(frame).enumerate() {
            let mark = self.mark(frame, index);
            let line = mark.len() / LINES;
            let mut is = [0; 2 * LINES * SAMPLES];
            let (first, second) = is[..mark.len()].split_at_mut(line);
            luma.read(at, first)?;
            luma.read(at + frame.layout.stride[0], second)?;
            if is[..mark.len()] != *mark {
                continue;
            }
            found += 1;
            let grey = if frame.layout.depth > 8 {
                (1u16 << (frame.layout.depth - 1)).to_ne_bytes()
            } else {
                [0x80; 2]
            };
            let mut grey_line = [0; 2 * SAMPLES];
            grey_line
                .chunks_exact_mut(2)
                .for_each(|pair| pair.copy_from_slice(&grey));
            luma.write(at, &grey_line[..line])?;
            luma.write(at + frame.layout.stride[0], &grey_line[..line])?;
        }
        Ok(found)
    }

    /// Iterates the places of the marks in the luma plane, in bytes.
    fn places(&self, frame: &Frame) -> impl Iterator<Item = usize> {
        let (width, height) = frame.layout.plane_size(0);
        let (stride, sample, block) = (frame.layout.stride[0], frame.layout.sample_bytes(), self.block);
        let ends = move |size: usize| {
            (0..size)
                .step_by(block)
                .map(move |start| (start + block).min(size))
        };
        let at = |end: usize| end.checked_sub(FROM_CORNER);
        ends(height).filter_map(at).flat_map(move |y| {
            let columns = ends(width).filter_map(at);
            columns.map(move |x| y * stride + x * sample)
        })
    }

    /// Returns a block's mark.
    fn mark(&self, frame: &Frame, index: usize) -> Mark {
        let mut bytes = [0; 2 * LINES * SAMPLES];
        let mut state = self.key ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for half in bytes.chunks_exact_mut(8) {
            // The finalizer of splitmix64: every bit of a mark depends on every bit of the key.
            state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            state ^= state >> 31;
            half.copy_from_slice(&state.to_ne_bytes());
        }
        if frame.layout.depth > 8 {
            let most = (1u16 << frame.layout.depth) - 1;
            for sample in bytes.chunks_exact_mut(2) {
                let value = u16::from_ne_bytes([sample[0], sample[1]]) & most;
                sample.copy_from_slice(&value.to_ne_bytes());
            }
        }
        Mark {
            bytes,
            len: LINES * SAMPLES * frame.layout.sample_bytes(),
        }
    }
}

/// The samples of a mark, line by line.
struct Mark {
    bytes: [u8; 2 * LINES * SAMPLES],
    len: usize,
}

impl std::ops::Deref for Mark {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Layout, Pool};

    #[test]
    fn marks_tell_which_blocks_are_not_written() {
        for depth in [8, 10] {
            // 3 x 2 blocks, of which the last of a row and of a column are cut off.
            let layout = Layout::new((40, 24), (40, 24), depth, true).expect("layout");
            let frame = Pool::default().acquire(layout, None).expect("frame");
            let marks = Marks { block: 16, key: 7 };
            marks.put(&frame).expect("inside");
            // The second block of the first row is written, and so is the last line of the last one.
            let sample = layout.sample_bytes();
            for y in 0..16 {
                let line = vec![1; 16 * sample];
                frame
                    .plane(0)
                    .write(y * layout.stride[0] + 16 * sample, &line)
                    .expect("write");
            }
            let at = 23 * layout.stride[0] + 32 * sample;
            frame.plane(0).write(at, &vec![1; 8 * sample]).expect("write");
            assert_eq!(marks.take(&frame), Ok(5));
            assert_eq!(marks.take(&frame), Ok(0), "what is left is grey");
            let mut corner = vec![0; 4 * sample];
            frame
                .plane(0)
                .read(8 * layout.stride[0] + 8 * sample, &mut corner)
                .expect("read");
            let grey: &[u8] = if depth == 8 { &[0x80] } else { &[0, 2] };
            assert!(corner.chunks(sample).all(|value| value == grey));
        }
    }

    #[test]
    fn each_block_of_each_picture_has_another_mark() {
        let layout = Layout::new((64, 64), (64, 64), 8, true).expect("layout");
        let frame = Pool::default().acquire(layout, None).expect("frame");
        let mark = |key, index| Marks { block: 16, key }.mark(&frame, index).to_vec();
        assert_ne!(mark(1, 0), mark(2, 0));
        assert_ne!(mark(1, 0), mark(1, 1));
    }
}
