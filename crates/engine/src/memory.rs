// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Shared and private memory, accessed within bounds and by copying only.
//!
//! A dmabuf may be written by the client at any time. So no reference to its bytes is ever formed:
//! everything that leaves a [`Mapping`] is a copy, and nothing is read back after it was checked.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use thiserror::Error;

use crate::cache;

/// A range that is not inside the memory, or a write to memory that is for reading.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{len} bytes at {offset} are outside of the {size} bytes that may be accessed")]
pub struct OutOfBounds {
    /// First byte of the range.
    pub offset: usize,
    /// Bytes of the range.
    pub len: usize,
    /// Bytes that may be accessed; 0 for a write to read-only memory.
    pub size: usize,
}

/// A shared mapping of a file (a dmabuf), or anonymous memory. Unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: a mapping is plain memory without thread affinity, and all access is by copying through raw
// pointers; no reference to its contents exists.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `fd`, shared, for reading, and for writing as well if `writable`.
    ///
    /// # Errors
    /// What mmap(2) reports; `InvalidInput` for a `len` of 0.
    pub fn of_fd(fd: BorrowedFd<'_>, len: usize, writable: bool) -> io::Result<Arc<Self>> {
        let access = if writable {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        Self::check_len(len)?;
        // SAFETY: the kernel chooses an address range that nothing else uses, so no existing memory
        // changes its meaning.
        let base = unsafe { mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, fd, 0) }?;
        Self::own(base.cast(), len, writable)
    }

    /// Maps `len` bytes of private memory, all zero.
    ///
    /// # Errors
    /// As [`Mapping::of_fd`].
    pub fn anonymous(len: usize) -> io::Result<Arc<Self>> {
        Self::check_len(len)?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as in `of_fd`.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), len, access, MapFlags::PRIVATE) }?;
        Self::own(base.cast(), len, true)
    }

    fn check_len(len: usize) -> io::Result<()> {
        if len == 0 || isize::try_from(len).is_err() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "length of a mapping"));
        }
        Ok(())
    }

    fn own(base: *mut u8, len: usize, writable: bool) -> io::Result<Arc<Self>> {
        let base = NonNull::new(base).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Arc::new(Self { base, len, writable }))
    }

    /// Bytes that are mapped; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether [`Mapping::write`] is possible.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Copies `into.len()` bytes from `offset` on.
    ///
    /// # Errors
    /// [`OutOfBounds`] if they are not all inside.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.check(offset, into.len())?;
        // SAFETY: the range was just checked to be inside of the mapping, which lives as long as
        // `self`; `into` is private memory and cannot overlap it.
        unsafe { std::ptr::copy_nonoverlapping(self.at(offset), into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Copies `from` to `offset`.
    ///
    /// # Errors
    /// [`OutOfBounds`] if it does not fit, or if the mapping is not writable.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        if !self.writable {
            return Err(OutOfBounds {
                offset,
                len: from.len(),
                size: 0,
            });
        }
        self.check(offset, from.len())?;
        // SAFETY: the range was just checked to be inside of the mapping, which lives as long as
        // `self` and is writable; `from` is private memory and cannot overlap it.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.at(offset), from.len()) };
        Ok(())
    }

    /// Makes every byte 0x80: grey, in all formats. For CAPTURE memory, before the first picture: where a decoder
    /// that meets damage leaves something out, that is what shows.
    ///
    /// # Errors
    /// [`OutOfBounds`] if the mapping is not writable.
    pub fn fill_grey(&self) -> Result<(), OutOfBounds> {
        let grey = [0x80; 4096];
        for start in (0..self.len).step_by(grey.len()) {
            self.write(start, &grey[..grey.len().min(self.len - start)])?;
        }
        // SAFETY: that is the mapping.
        unsafe { cache::clean(self.as_ptr(), self.len) };
        Ok(())
    }

    /// The first byte, for code that hands the memory to a C library.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    fn at(&self, offset: usize) -> *mut u8 {
        self.base.as_ptr().wrapping_add(offset)
    }

    fn check(&self, offset: usize, len: usize) -> Result<(), OutOfBounds> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(OutOfBounds {
                offset,
                len,
                size: self.len,
            }),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by this value, which owns it, and no pointer into it is kept
        // by anyone who does not hold the `Arc`.
        let result = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        if let Err(error) = result {
            tracing::debug!(%error, "munmap");
        }
    }
}

/// A part of a [`Mapping`]: one memory plane of a buffer.
#[derive(Clone, Debug)]
pub struct Plane {
    mapping: Arc<Mapping>,
    offset: usize,
    len: usize,
    bytesperline: usize,
    slow: bool,
    /// Its exporter makes it visible to devices.
    cleaned: bool,
}

/// A part of a [`Plane`] that a library may write pictures into and read them from.
#[derive(Clone, Debug)]
pub(crate) struct Lent {
    pub(crate) memory: Arc<Mapping>,
    /// First byte within the memory.
    pub(crate) offset: usize,
    len: usize,
    /// Bytes from line to line.
    pub(crate) stride: usize,
}

impl Lent {
    /// Bytes that are lent.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first byte.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.memory.at(self.offset)
    }
}

impl Plane {
    /// The `len` bytes at `offset` of `mapping`. `bytesperline` is the distance in bytes between two
    /// lines of the (first) colour plane, or 0 for coded data.
    ///
    /// # Errors
    /// [`OutOfBounds`] if the bytes are not all inside of the mapping.
    pub fn new(
        mapping: Arc<Mapping>,
        offset: usize,
        len: usize,
        bytesperline: usize,
    ) -> Result<Self, OutOfBounds> {
        mapping.check(offset, len)?;
        Ok(Self {
            mapping,
            offset,
            len,
            bytesperline,
            slow: false,
            cleaned: false,
        })
    }

    /// Returns the same plane, which its exporter makes visible to devices that read memory past the processor's caches:
    /// this process need not.
    #[must_use]
    pub fn cleaned_by_exporter(mut self) -> Self {
        self.cleaned = true;
        self
    }

    /// The same plane, of which it is known that reading is slow (memory that a client brought may not be
    /// cached): it is written once and never read.
    #[must_use]
    pub fn slow_to_read(mut self) -> Self {
        self.slow = true;
        self
    }

    /// Lends what is from `offset` on, for a library to decode into. `None` if that is outside of the plane,
    /// or if the memory is for reading only or slow to read.
    pub(crate) fn lend(&self, offset: usize, stride: usize) -> Option<Lent> {
        let len = self.len.checked_sub(offset)?;
        (self.mapping.writable && !self.slow).then(|| Lent {
            memory: self.mapping.clone(),
            offset: self.offset + offset,
            len,
            stride,
        })
    }

    /// Where the plane begins: no other plane does while this memory is mapped.
    pub(crate) fn address(&self) -> usize {
        self.mapping.at(self.offset).addr()
    }

    /// Whether `offset` within the plane is `from_offset` within `from`.
    pub(crate) fn is_at(&self, offset: usize, from: &Mapping, from_offset: usize) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.mapping), from) && self.offset + offset == from_offset
    }

    /// Writes `blocks` × `N` bytes from `offset` on, each `N` made by `change` of as many of `from`, from `from_offset`
    /// on.
    ///
    /// # Errors
    /// As [`Plane::copy_from`].
    pub(crate) fn change_from<const N: usize>(
        &self,
        offset: usize,
        blocks: usize,
        (from, from_offset): (&Mapping, usize),
        change: impl Fn(&[u8], &mut [u8]),
    ) -> Result<(), OutOfBounds> {
        let len = blocks.saturating_mul(N);
        let to = self.check(offset, len)?;
        from.check(from_offset, len)?;
        if !self.mapping.writable {
            return Err(OutOfBounds { offset, len, size: 0 });
        }
        let to = self.mapping.at(to).cast::<[u8; N]>();
        let from = from.at(from_offset).cast::<[u8; N]>();
        for block in 0..blocks {
            // SAFETY: the blocks were just checked to be inside of their mapping.
            let bytes = unsafe { from.wrapping_add(block).read_unaligned() };
            let mut out = [0; N];
            change(&bytes, &mut out);
            // SAFETY: and so was the output, which is writable. No reference to it exists.
            unsafe { to.wrapping_add(block).write_unaligned(out) };
        }
        Ok(())
    }

    /// Writes `blocks` × `2 * N` bytes from `offset` on, each `2 * N` made by `merge` of `N` bytes of each of
    /// two sources.
    ///
    /// # Errors
    /// As [`Plane::copy_from`].
    pub(crate) fn merge_from<const N: usize, const OUT: usize>(
        &self,
        offset: usize,
        blocks: usize,
        [first, second]: [(&Mapping, usize); 2],
        merge: impl Fn(&[u8], &[u8], &mut [u8]),
    ) -> Result<(), OutOfBounds> {
        const { assert!(OUT == 2 * N) };
        let to = self.check(offset, blocks.saturating_mul(OUT))?;
        first.0.check(first.1, blocks * N)?;
        second.0.check(second.1, blocks * N)?;
        if !self.mapping.writable {
            return Err(OutOfBounds {
                offset,
                len: blocks * OUT,
                size: 0,
            });
        }
        let to = self.mapping.at(to).cast::<[u8; OUT]>();
        let from = [first, second].map(|(mapping, at)| mapping.at(at).cast::<[u8; N]>());
        for block in 0..blocks {
            // SAFETY: the blocks of the first source were just checked to be inside of its mapping.
            let first = unsafe { from[0].wrapping_add(block).read_unaligned() };
            // SAFETY: and so were those of the second.
            let second = unsafe { from[1].wrapping_add(block).read_unaligned() };
            let mut out = [0; OUT];
            merge(&first, &second, &mut out);
            // SAFETY: and so was the output, which is writable. No reference to it exists.
            unsafe { to.wrapping_add(block).write_unaligned(out) };
        }
        Ok(())
    }

    /// Makes `len` bytes from `offset` on visible to devices that read memory past the processor's caches, unless its
    /// exporter does, or the memory is a client's own: whoever exported that does it when the access bracket is closed.
    ///
    /// # Errors
    /// [`OutOfBounds`] if they are not all inside of the plane.
    pub(crate) fn clean(&self, offset: usize, len: usize) -> Result<(), OutOfBounds> {
        let start = self.check(offset, len)?;
        if !self.slow && !self.cleaned {
            // SAFETY: the range was just checked to be inside of the mapping, which is readable and lives as long
            // as `self`.
            unsafe { cache::clean(self.mapping.at(start), len) };
        }
        Ok(())
    }

    /// Bytes of the plane.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the plane has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes from one line to the next of the (first) colour plane.
    #[must_use]
    pub fn bytesperline(&self) -> usize {
        self.bytesperline
    }

    /// Copies `into.len()` bytes from `offset` within the plane on.
    ///
    /// # Errors
    /// [`OutOfBounds`] if they are not all inside of the plane.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.mapping.read(self.check(offset, into.len())?, into)
    }

    /// Copies `from` to `offset` within the plane.
    ///
    /// # Errors
    /// [`OutOfBounds`] if it does not fit, or if the memory is not writable.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        self.mapping.write(self.check(offset, from.len())?, from)
    }

    /// Copies `len` bytes of `from`, from `from_offset` on, to `offset` within the plane.
    ///
    /// # Errors
    /// [`OutOfBounds`] if either range is not inside, or if the memory is not writable.
    pub fn copy_from(
        &self,
        offset: usize,
        from: &Mapping,
        from_offset: usize,
        len: usize,
    ) -> Result<(), OutOfBounds> {
        let to = self.check(offset, len)?;
        from.check(from_offset, len)?;
        if !self.mapping.writable {
            return Err(OutOfBounds { offset, len, size: 0 });
        }
        // SAFETY: both ranges were just checked to be inside of their mappings, which live as long as
        // `self` and `from`; they may be one and the same, which `copy` allows.
        unsafe { std::ptr::copy(from.at(from_offset), self.mapping.at(to), len) };
        Ok(())
    }

    fn check(&self, offset: usize, len: usize) -> Result<usize, OutOfBounds> {
        match offset.checked_add(len) {
            // The plane is inside of the mapping, so the sum does not overflow.
            Some(end) if end <= self.len => Ok(self.offset + offset),
            _ => Err(OutOfBounds {
                offset,
                len,
                size: self.len,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn planes_are_inside_of_their_mapping() {
        let mapping = Mapping::anonymous(100).expect("mapping");
        assert!(Plane::new(mapping.clone(), 0, 100, 0).is_ok());
        assert!(Plane::new(mapping.clone(), 1, 100, 0).is_err());
        assert!(Plane::new(mapping.clone(), usize::MAX, 2, 0).is_err());
        assert!(Plane::new(mapping, 101, 0, 0).is_err());
    }

    #[test]
    fn accesses_outside_of_a_plane_fail() {
        let mapping = Mapping::anonymous(64).expect("mapping");
        let plane = Plane::new(mapping.clone(), 16, 32, 0).expect("plane");
        assert_eq!(plane.write(0, &[7; 32]), Ok(()));
        assert!(plane.write(1, &[7; 32]).is_err());
        assert!(plane.write(usize::MAX, &[7; 2]).is_err());
        assert!(plane.read(32, &mut [0; 1]).is_err());
        let mut all = [1; 64];
        mapping.read(0, &mut all).expect("read");
        assert_eq!(all[..16], [0; 16]);
        assert_eq!(all[16..48], [7; 32]);
        assert_eq!(all[48..], [0; 16]);
    }

    #[test]
    fn a_read_only_file_mapping_refuses_writes_and_sees_others() {
        let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
        rustix::fs::ftruncate(&fd, 4096).expect("ftruncate");
        let writer = Mapping::of_fd(fd.as_fd(), 4096, true).expect("map");
        let reader = Mapping::of_fd(fd.as_fd(), 4096, false).expect("map");
        assert!(writer.is_writable() && !reader.is_writable());
        writer.write(4000, b"seen").expect("write");
        let mut seen = [0; 4];
        reader.read(4000, &mut seen).expect("read");
        assert_eq!(&seen, b"seen");
        assert!(reader.write(0, &[1]).is_err());
        assert!(Mapping::of_fd(fd.as_fd(), 0, false).is_err());
    }
}
