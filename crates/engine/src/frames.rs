// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Private frames that the libraries decode into, and the pool that keeps them.

use std::io;
use std::sync::Arc;

use crate::memory::Mapping;

/// Both libraries read and write a little past what they were asked for: dav1d up to the next 128
/// pixels in both directions and 64 bytes after a plane, libavcodec less.
const ALIGN: usize = 128;
/// Bytes after each plane.
const SLACK: usize = 128;

/// How a 4:2:0 or monochrome picture lies in memory: planes Y, Cb, Cr, samples of 8 bit, or of 10 bit in
/// 16 (native byte order, value in the low bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Luma samples per line of the picture.
    pub(crate) width: u32,
    /// Lines of the picture.
    pub(crate) height: u32,
    /// Bits per sample: 8 or 10.
    pub(crate) depth: u8,
    /// There are chroma planes.
    pub(crate) chroma: bool,
    /// Offset of each plane.
    pub(crate) offset: [usize; 3],
    /// Bytes from line to line of each plane: a multiple of 128 for luma, of 64 for chroma.
    pub(crate) stride: [usize; 3],
    /// Bytes of all planes.
    pub(crate) size: usize,
}

impl Layout {
    /// The layout of a picture for which a library wants at least `alloc` (width, height) samples.
    /// `None` if the numbers are absurd.
    pub(crate) fn new(
        (width, height): (u32, u32),
        alloc: (u32, u32),
        depth: u8,
        chroma: bool,
    ) -> Option<Self> {
        if width == 0 || height == 0 || u64::from(width) * u64::from(height) > u64::from(crate::MAX_PIXELS) {
            return None;
        }
        let alloc_width = usize::try_from(alloc.0.max(width)).ok()?.next_multiple_of(ALIGN);
        let alloc_height = usize::try_from(alloc.1.max(height)).ok()?.next_multiple_of(ALIGN);
        let mut luma_stride = alloc_width * if depth > 8 { 2 } else { 1 };
        // Lines at distances of a large power of two share cache sets; dav1d's own allocator avoids
        // that in the same way.
        if luma_stride % 1024 == 0 {
            luma_stride += ALIGN;
        }
        let luma_size = luma_stride.checked_mul(alloc_height)?.checked_add(SLACK)?;
        let (chroma_stride, chroma_size) = if chroma {
            (luma_stride / 2, luma_stride / 2 * (alloc_height / 2) + SLACK)
        } else {
            (0, 0)
        };
        Some(Self {
            width,
            height,
            depth,
            chroma,
            offset: [0, luma_size, luma_size + chroma_size],
            stride: [luma_stride, chroma_stride, chroma_stride],
            size: luma_size.checked_add(chroma_size.checked_mul(2)?)?,
        })
    }

    /// Samples per line and lines of a plane.
    pub(crate) fn plane_size(&self, plane: usize) -> (usize, usize) {
        let (width, height) = (self.width as usize, self.height as usize);
        if plane == 0 {
            (width, height)
        } else {
            (width.div_ceil(2), height.div_ceil(2))
        }
    }

    /// Bytes per sample.
    pub(crate) fn sample_bytes(&self) -> usize {
        if self.depth > 8 { 2 } else { 1 }
    }
}

/// A picture in private memory.
///
/// A library writes to it through raw pointers until the picture is final, and may go on reading it
/// as a reference. So its bytes are copied out and never borrowed.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) layout: Layout,
    memory: Arc<Mapping>,
}

impl Frame {
    /// A frame filled with grey, so that no decoding error can show memory that was never written.
    fn new(layout: Layout) -> io::Result<Self> {
        let memory = Mapping::anonymous(layout.size)?;
        let grey = if layout.depth > 8 {
            (1u16 << (layout.depth - 1)).to_ne_bytes()
        } else {
            [0x80; 2]
        };
        let block: Vec<u8> = grey.iter().copied().cycle().take(4096).collect();
        for start in (0..layout.size).step_by(block.len()) {
            let len = block.len().min(layout.size - start);
            memory.write(start, &block[..len]).map_err(io::Error::other)?;
        }
        Ok(Self { layout, memory })
    }

    /// The memory of all planes.
    pub(crate) fn memory(&self) -> &Mapping {
        &self.memory
    }

    /// Address of a plane's first sample.
    pub(crate) fn plane_ptr(&self, plane: usize) -> *mut u8 {
        self.memory.as_ptr().wrapping_add(self.layout.offset[plane])
    }

    /// Offset within [`Frame::memory`] of line `y` of a plane.
    pub(crate) fn line(&self, plane: usize, y: usize) -> usize {
        self.layout.offset[plane] + self.layout.stride[plane] * y
    }
}

/// Frames to be used again, so that decoding allocates nothing once a stream runs.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    frames: Vec<Arc<Frame>>,
}

impl Pool {
    /// A frame that nobody else uses. Its contents are those of an earlier picture of this session, or
    /// grey.
    pub(crate) fn acquire(&mut self, layout: Layout) -> io::Result<Arc<Frame>> {
        let idle = self.frames.iter_mut().find_map(|frame| {
            (frame.layout == layout && Arc::get_mut(frame).is_some()).then(|| frame.clone())
        });
        if let Some(frame) = idle {
            return Ok(frame);
        }
        // Idle frames of another size are left over from before a change of resolution.
        self.frames
            .retain_mut(|frame| frame.layout == layout || Arc::get_mut(frame).is_none());
        let frame = Arc::new(Frame::new(layout)?);
        self.frames.push(frame.clone());
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(width: u32, height: u32) -> Layout {
        Layout::new((width, height), (width, height), 8, true).expect("layout")
    }

    #[test]
    fn strides_suit_both_libraries() {
        for (width, depth) in [(1, 8), (176, 8), (1920, 8), (1920, 10), (4096, 10), (1024, 8)] {
            let layout = Layout::new((width, 64), (width, 64), depth, true).expect("layout");
            assert_eq!(layout.stride[0] % 128, 0);
            assert_eq!(layout.stride[1] % 64, 0);
            assert_ne!(layout.stride[0] % 1024, 0);
            assert!(layout.stride[0] >= (width as usize).next_multiple_of(128) * layout.sample_bytes());
            assert!(layout.offset[2] + layout.stride[2] * 64 <= layout.size);
        }
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(Layout::new((0, 1), (1, 1), 8, true).is_none());
        assert!(Layout::new((u32::MAX, u32::MAX), (1, 1), 8, true).is_none());
        assert!(Layout::new((16384, 16384), (1, 1), 8, true).is_none());
    }

    #[test]
    fn frames_are_grey_and_come_back() {
        let mut pool = Pool::default();
        let first = pool.acquire(layout(64, 64)).expect("frame");
        let mut bytes = [0; 64];
        first.memory().read(first.line(2, 31), &mut bytes).expect("read");
        assert_eq!(bytes, [0x80; 64]);
        let second = pool.acquire(layout(64, 64)).expect("frame");
        assert!(!Arc::ptr_eq(&first, &second));
        let address = first.plane_ptr(0);
        drop(first);
        assert_eq!(pool.acquire(layout(64, 64)).expect("frame").plane_ptr(0), address);
        drop(second);
        let _other = pool.acquire(layout(128, 64)).expect("frame");
        assert_eq!(pool.frames.len(), 1, "frames of the old size are freed");
    }
}
