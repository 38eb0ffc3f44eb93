// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Provides the memory that libraries decode into: private blocks from a pool, or the CAPTURE buffer itself.
//!
//! A picture's luma is decoded straight into CAPTURE if an [`Offer`] fits. Its chroma is, too, if CAPTURE has
//! it in memory planes of its own. Otherwise chroma is decoded into a private block, and is written to
//! CAPTURE when the picture is final. The rules have these reasons:
//! - A decoder writes whole blocks, so it also writes below the picture. That memory must belong to nobody.
//!   Colour planes that follow in the same memory plane are therefore written last, from private memory.
//! - A decoder may walk through a reference with the line length of the picture that it decodes. So the line
//!   length is a function of the picture's size alone, and a CAPTURE buffer with another one is not used.
//! - A client can change the bytes of a CAPTURE buffer at any time. No decoder computes an address from an
//!   8-bit sample, so any value is harmless. 10-bit samples have invalid values; those pictures are always
//!   private.
//!
//! A picture in CAPTURE is read as a reference after its job was reported. V4L2 asks for that: a client must
//! not queue the buffer again while a later job refers to it, and one that does damages its own pictures. The
//! mapping lives as long as the decoder's last reference to the picture. So memory that the client has freed
//! is given back when the picture leaves the decoder: as its successors are decoded, or at the latest when a
//! queue stops.

use std::io;
use std::sync::Arc;

use crate::memory::{Mapping, OutOfBounds, View};
use crate::options::MAX_PIXELS;

/// Alignment of lines, in bytes, and of blocks, in samples.
///
/// Both libraries read and write a little past the picture: dav1d up to the next 128 pixels in both
/// directions and 64 bytes after a plane, libavcodec less. The module aligns the lines of CAPTURE buffers in
/// the same way, so that pictures can be decoded into them.
pub(crate) const ALIGN: usize = 128;
/// Bytes after each plane.
const SLACK: usize = 128;
/// Alignment of a plane in CAPTURE, in bytes: the libraries' vector code needs it.
const PLANE_ALIGN: usize = 64;
/// A block that was not used for this many pictures is freed when a new one is needed.
const KEPT: u64 = 64;

/// The layout of a 4:2:0 or monochrome picture in memory: planes Y, Cb, Cr, samples of 8 bit, or of 10 bit in
/// 16 (native byte order, value in the low bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Luma samples per line of the picture.
    pub(crate) width: u32,
    /// Lines of the picture.
    pub(crate) height: u32,
    /// Bits per sample: 8 or 10.
    pub(crate) depth: u8,
    /// Whether there are chroma planes.
    pub(crate) chroma: bool,
    /// Bytes from line to line of each plane: a multiple of 128 for luma, of 64 for chroma.
    pub(crate) stride: [usize; 3],
    /// Lines of luma that a decoder may write.
    lines: usize,
}

impl Layout {
    /// Returns the layout of a picture for which a library needs memory for `alloc` (width, height) samples.
    /// `None` if the numbers are absurd.
    pub(crate) fn new(
        (width, height): (u32, u32),
        alloc: (u32, u32),
        depth: u8,
        chroma: bool,
    ) -> Option<Self> {
        if width == 0 || height == 0 || u64::from(width) * u64::from(height) > u64::from(MAX_PIXELS) {
            return None;
        }
        let alloc_width = usize::try_from(alloc.0.max(width)).ok()?.next_multiple_of(ALIGN);
        let mut luma_stride = alloc_width * if depth > 8 { 2 } else { 1 };
        // Lines at distances of a large power of two share cache sets; dav1d's own allocator avoids
        // that in the same way. 8 bit must have the line length of CAPTURE.
        if depth > 8 && luma_stride % 1024 == 0 {
            luma_stride += ALIGN;
        }
        let chroma_stride = if chroma { luma_stride / 2 } else { 0 };
        let layout = Self {
            width,
            height,
            depth,
            chroma,
            stride: [luma_stride, chroma_stride, chroma_stride],
            lines: usize::try_from(alloc.1.max(height)).ok()?.next_multiple_of(2),
        };
        // No sum of the three overflows afterwards.
        luma_stride
            .checked_mul(layout.lines.next_multiple_of(ALIGN))?
            .checked_mul(2)?
            .checked_add(3 * SLACK)?;
        Some(layout)
    }

    /// Returns the samples per line and the lines of a plane.
    pub(crate) fn plane_size(&self, plane: usize) -> (usize, usize) {
        let (width, height) = (self.width as usize, self.height as usize);
        if plane == 0 {
            (width, height)
        } else {
            (width.div_ceil(2), height.div_ceil(2))
        }
    }

    /// Returns the bytes per sample.
    pub(crate) fn sample_bytes(&self) -> usize {
        if self.depth > 8 { 2 } else { 1 }
    }

    /// Returns the number of planes.
    pub(crate) fn planes(&self) -> usize {
        if self.chroma { 3 } else { 1 }
    }

    /// Returns the bytes of a plane in private memory.
    fn private_len(&self, plane: usize) -> usize {
        let lines = self.lines.next_multiple_of(ALIGN);
        self.stride[plane] * if plane == 0 { lines } else { lines / 2 } + SLACK
    }

    /// Returns the lines of a plane that a library may touch.
    pub(crate) fn touched_lines(&self, plane: usize) -> usize {
        if plane == 0 { self.lines } else { self.lines / 2 }
    }

    /// Returns the bytes of a plane that a library may touch.
    fn touched_len(&self, plane: usize) -> usize {
        self.stride[plane] * self.touched_lines(plane) + SLACK
    }
}

/// CAPTURE memory that a picture of 8 bit may be decoded into, if it fits.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// Width and height of the buffer's format.
    pub(crate) size: (u32, u32),
    /// The luma plane, to the end of its memory plane.
    pub(crate) luma: View,
    /// Nothing else is in luma's memory plane.
    pub(crate) apart: bool,
    /// Chroma planes that are memory planes of their own.
    pub(crate) chroma: Option<[View; 2]>,
}

impl Offer {
    /// Returns whether the first `lines` lines that are decoded stay as they are. Below the picture they do
    /// not where chroma is written there.
    pub(crate) fn keeps_lines(&self, lines: u32) -> bool {
        self.apart || lines <= self.size.1
    }

    fn takes_luma(&self, layout: &Layout) -> bool {
        layout.depth == 8
            && layout.width <= self.size.0
            && layout.height <= self.size.1
            && suits(&self.luma, layout, 0)
    }

    fn takes_chroma(&self, layout: &Layout) -> Option<&[View; 2]> {
        self.chroma
            .as_ref()
            .filter(|[cb, cr]| layout.chroma && suits(cb, layout, 1) && suits(cr, layout, 2))
    }
}

/// Returns whether a plane may be decoded into `view`.
fn suits(view: &View, layout: &Layout, plane: usize) -> bool {
    view.stride() == layout.stride[plane]
        && view.len() >= layout.touched_len(plane)
        && view.as_ptr().addr() % PLANE_ALIGN == 0
}

/// A picture's memory.
///
/// A library writes to it through raw pointers until the picture is final, and may go on reading it
/// as a reference. So its bytes are copied out and never borrowed.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) layout: Layout,
    planes: [View; 3],
    /// Which planes are CAPTURE's.
    lent: [bool; 3],
}

impl Frame {
    /// Returns a plane: Y, Cb, Cr. A plane that the layout has not got is empty.
    pub(crate) fn plane(&self, plane: usize) -> &View {
        &self.planes[plane]
    }

    /// Returns whether a plane is in CAPTURE.
    pub(crate) fn is_lent(&self, plane: usize) -> bool {
        self.lent[plane]
    }

    /// Makes the planes in CAPTURE grey: what a client had in them is no part of any picture.
    pub(crate) fn fill_lent(&self) -> Result<(), OutOfBounds> {
        for plane in (0..3).filter(|plane| self.is_lent(*plane)) {
            let (stride, (_, lines)) = (self.layout.stride[plane], self.layout.plane_size(plane));
            self.planes[plane].sub(0, stride, stride, lines).fill([0x80; 2])?;
        }
        Ok(())
    }

    /// Returns the part of the picture that begins at `corner` and has this size. An odd corner is moved to
    /// the chroma sample that covers it. `None` if it is not inside.
    pub(crate) fn part(&self, corner: (usize, usize), (width, height): (u32, u32)) -> Option<Self> {
        let layout = Layout {
            width,
            height,
            ..self.layout
        };
        let inside = |from: usize, len: u32, all: u32| {
            len > 0
                && from
                    .checked_add(len as usize)
                    .is_some_and(|end| end <= all as usize)
        };
        if !inside(corner.0, width, self.layout.width) || !inside(corner.1, height, self.layout.height) {
            return None;
        }
        let planes = [0, 1, 2].map(|plane| {
            let (left, top) = match plane {
                0 => corner,
                _ => (corner.0 / 2, corner.1 / 2),
            };
            let (samples, lines) = layout.plane_size(plane);
            let bytes = layout.sample_bytes();
            let offset = top * layout.stride[plane] + left * bytes;
            self.planes[plane].sub(offset, layout.stride[plane], samples * bytes, lines)
        });
        Some(Self {
            layout,
            planes,
            lent: self.lent,
        })
    }
}

/// A private block.
#[derive(Debug)]
struct Block {
    memory: Arc<Mapping>,
    depth: u8,
    /// [`Pool::pictures`] when it was used last.
    used: u64,
}

/// Blocks to be used again, so that decoding allocates nothing once a stream runs.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    blocks: Vec<Block>,
    pictures: u64,
}

impl Pool {
    /// Provides memory for a picture: that of `offer` if it fits, and private blocks that nobody else uses.
    /// It contains an earlier picture of this session, or grey.
    pub(crate) fn acquire(&mut self, layout: Layout, offer: Option<&Offer>) -> io::Result<Arc<Frame>> {
        self.pictures += 1;
        let offer = offer.filter(|offer| offer.takes_luma(&layout));
        let chroma = offer.and_then(|offer| offer.takes_chroma(&layout));
        let lent = [
            offer.map(|offer| &offer.luma),
            chroma.map(|[cb, _]| cb),
            chroma.map(|[_, cr]| cr),
        ];
        let mut lens = [0; 3];
        for (plane, len) in lens.iter_mut().enumerate().take(layout.planes()) {
            if lent[plane].is_none() {
                *len = layout.private_len(plane);
            }
        }
        let total = lens.iter().sum();
        let memory = match offer {
            // Planes that do not exist are no bytes of CAPTURE.
            Some(offer) if total == 0 => Arc::clone(offer.luma.mapping()),
            _ => self.block(total, layout.depth)?,
        };
        let mut at = 0;
        let mut place = |plane: usize| match lent[plane] {
            Some(view) => Ok(view.clone()),
            None => {
                let start = at;
                at += lens[plane];
                let (memory, stride) = (Arc::clone(&memory), layout.stride[plane]);
                View::new(memory, start, lens[plane], stride).map_err(io::Error::other)
            }
        };
        let planes = [place(0)?, place(1)?, place(2)?];
        let lent = lent.map(|view| view.is_some());
        Ok(Arc::new(Frame { layout, planes, lent }))
    }

    fn block(&mut self, len: usize, depth: u8) -> io::Result<Arc<Mapping>> {
        let now = self.pictures;
        let idle = |block: &mut Block| Arc::get_mut(&mut block.memory).is_some();
        for block in &mut self.blocks {
            if block.depth == depth && block.memory.len() == len && idle(block) {
                block.used = now;
                return Ok(block.memory.clone());
            }
        }
        // Blocks of another size are left from before a change of resolution.
        self.blocks
            .retain_mut(|block| now - block.used < KEPT || !idle(block));
        let memory = grey(len, depth)?;
        self.blocks.push(Block {
            memory: memory.clone(),
            depth,
            used: now,
        });
        Ok(memory)
    }
}

/// Allocates memory filled with grey, so that no decoding error can show memory that was never written.
fn grey(len: usize, depth: u8) -> io::Result<Arc<Mapping>> {
    let memory = Mapping::anonymous(len)?;
    let grey = if depth > 8 {
        (1u16 << (depth - 1)).to_ne_bytes()
    } else {
        [0x80; 2]
    };
    let block: Vec<u8> = grey.iter().copied().cycle().take(4096).collect();
    for start in (0..len).step_by(block.len()) {
        let part = block.len().min(len - start);
        memory.write(start, &block[..part]).map_err(io::Error::other)?;
    }
    Ok(memory)
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
            assert!(depth == 8 || layout.stride[0] % 1024 != 0);
            assert!(layout.stride[0] >= (width as usize).next_multiple_of(128) * layout.sample_bytes());
            let frame = Pool::default().acquire(layout, None).expect("frame");
            for plane in 0..3 {
                let lines = if plane == 0 { 64 } else { 32 };
                assert!(frame.plane(plane).len() >= layout.stride[plane] * lines + SLACK);
                assert_eq!(frame.plane(plane).as_ptr().addr() % 64, 0);
            }
        }
    }

    #[test]
    fn absurd_sizes_are_refused() {
        assert!(Layout::new((0, 1), (1, 1), 8, true).is_none());
        assert!(Layout::new((u32::MAX, u32::MAX), (1, 1), 8, true).is_none());
        assert!(Layout::new((16384, 16384), (1, 1), 8, true).is_none());
    }

    #[test]
    fn blocks_are_grey_and_come_back() {
        let mut pool = Pool::default();
        let first = pool.acquire(layout(64, 64), None).expect("frame");
        let mut bytes = [0; 64];
        first
            .plane(2)
            .read(first.layout.stride[2] * 31, &mut bytes)
            .expect("read");
        assert_eq!(bytes, [0x80; 64]);
        let second = pool.acquire(layout(64, 64), None).expect("frame");
        assert_ne!(first.plane(0).as_ptr(), second.plane(0).as_ptr());
        let address = first.plane(0).as_ptr();
        drop(first);
        let again = pool.acquire(layout(64, 64), None).expect("frame");
        assert_eq!(again.plane(0).as_ptr(), address);
        drop((again, second));
        for _ in 0..KEPT {
            pool.acquire(layout(128, 640), None).expect("frame");
        }
        let _held = pool.acquire(layout(128, 640), None).expect("frame");
        pool.acquire(layout(128, 640), None).expect("frame");
        assert_eq!(pool.blocks.len(), 2, "blocks of the old size are freed");
    }

    /// Returns an offer of `len` bytes at `offset` for 128 x 128 pixels.
    fn offer(offset: usize, len: usize, stride: usize) -> Offer {
        let mapping = Mapping::anonymous(1 << 20).expect("memory");
        let view = View::new(mapping, offset, len, stride).expect("view");
        Offer {
            size: (128, 128),
            luma: view.lend().expect("writable"),
            apart: true,
            chroma: None,
        }
    }

    #[test]
    fn only_a_fitting_offer_is_taken() {
        let mut pool = Pool::default();
        let mut takes = |size: (u32, u32), depth: u8, offer: &Offer| {
            let layout = Layout::new(size, size, depth, true).expect("layout");
            let frame = pool.acquire(layout, Some(offer)).expect("frame");
            let taken = frame.plane(0).as_ptr() == offer.luma.as_ptr();
            assert_ne!(frame.plane(1).as_ptr(), offer.luma.as_ptr());
            taken
        };
        let whole = 128 * 128 + SLACK;
        assert!(takes((128, 128), 8, &offer(64, whole, 128)));
        assert!(takes((100, 100), 8, &offer(0, whole, 128)));
        assert!(!takes((128, 128), 8, &offer(1, whole, 128)), "unaligned");
        assert!(!takes((128, 128), 8, &offer(0, whole - 1, 128)), "too short");
        assert!(
            !takes((128, 128), 8, &offer(0, 2 * whole, 256)),
            "another line length"
        );
        assert!(!takes((64, 130), 8, &offer(0, 2 * whole, 128)), "too high");
        assert!(!takes((64, 64), 10, &offer(0, 2 * whole, 128)), "10 bit");
    }

    #[test]
    fn a_frame_keeps_the_memory_of_its_offer() {
        let mut pool = Pool::default();
        let offer = offer(0, 128 * 128 + SLACK, 128);
        let memory = Arc::downgrade(offer.luma.mapping());
        let mono = Layout::new((128, 128), (128, 128), 8, false).expect("layout");
        let frame = pool.acquire(mono, Some(&offer)).expect("frame");
        drop(offer);
        assert!(memory.upgrade().is_some());
        drop(frame);
        assert!(memory.upgrade().is_none(), "nothing else keeps it");
    }
}
