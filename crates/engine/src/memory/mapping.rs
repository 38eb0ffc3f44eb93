// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mapped memory: a dmabuf, another file, or private memory.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{Ordering, compiler_fence};

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use thiserror::Error;

use crate::memory::cache;

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

// SAFETY: mapped memory has no thread affinity, and neither has munmap.
unsafe impl Send for Mapping {}
// SAFETY: the fields never change. The bytes are accessed by copies through raw pointers alone, under the
// model in `crate::memory`: they are memory that may change at any time, which every reader of them allows
// for, so a second thread changes nothing that the code here relies on. Libraries need it: their threads drop
// the last reference of a picture.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `fd`, shared, for reading, and for writing as well if `writable`.
    ///
    /// # Errors
    /// Those of mmap(2); `InvalidInput` for a `len` of 0.
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
        // SAFETY: the kernel chooses an address range that nothing else uses, so no existing memory
        // changes its meaning.
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

    /// Returns the bytes that are mapped; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether [`Mapping::write`] is possible.
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
        // The caller looks at the copy: see `crate::memory`.
        compiler_fence(Ordering::SeqCst);
        Ok(())
    }

    /// Copies `from` to `offset`.
    ///
    /// # Errors
    /// [`OutOfBounds`] if it does not fit, or if the mapping is not writable.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
        self.check_writable(offset, from.len())?;
        self.check(offset, from.len())?;
        // SAFETY: the range was just checked to be inside of the mapping, which lives as long as
        // `self` and is writable; `from` is private memory and cannot overlap it.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.at(offset), from.len()) };
        Ok(())
    }

    /// Makes every byte 0x80: grey, in all formats. For CAPTURE memory, before the first picture: a decoder
    /// that meets damage may leave part of a picture out, and shows this there.
    ///
    /// # Errors
    /// [`OutOfBounds`] if the mapping is not writable.
    pub fn fill_grey(&self) -> Result<(), OutOfBounds> {
        let grey = [0x80; 4096];
        for start in (0..self.len).step_by(grey.len()) {
            self.write(start, &grey[..grey.len().min(self.len - start)])?;
        }
        // SAFETY: the range is the whole mapping, which is readable.
        unsafe { cache::clean(self.base.as_ptr(), self.len) };
        Ok(())
    }

    /// Returns the address of the byte at `offset`.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        self.base.as_ptr().wrapping_add(offset)
    }

    /// Fails if the mapping is for reading only. The range is for the error.
    pub(crate) fn check_writable(&self, offset: usize, len: usize) -> Result<(), OutOfBounds> {
        if self.writable {
            Ok(())
        } else {
            Err(OutOfBounds { offset, len, size: 0 })
        }
    }

    /// Fails if the range is not inside of the mapping.
    pub(crate) fn check(&self, offset: usize, len: usize) -> Result<(), OutOfBounds> {
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
        // SAFETY: the range was mapped by this value, which owns it. Whoever keeps a pointer into it also
        // holds the `Arc`, and there is none any more.
        let result = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        if let Err(error) = result {
            tracing::debug!(%error, "munmap");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

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
