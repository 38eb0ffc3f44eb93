// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory that is shared with the device's side: mappings and dmabufs.

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::{Errno, Result};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::v4l2::{UDMABUF_CREATE, UDMABUF_FLAGS_CLOEXEC, UdmabufCreate};

/// A shared mapping, unmapped on drop. Others may write to it at any time: it is only copied from
/// and to, and no reference to its bytes is ever made.
#[derive(Debug)]
pub struct Mapping {
    start: *mut c_void,
    length: usize,
    writable: bool,
}

// SAFETY: the memory is accessed through raw copies alone, which race with other processes in any case.
unsafe impl Send for Mapping {}
// SAFETY: as above; two threads that copy at once are no worse than two processes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `fd` from `offset`.
    ///
    /// # Errors
    /// The system's; `EINVAL` for a length of 0.
    pub fn new(fd: BorrowedFd<'_>, offset: u64, length: usize) -> Result<Self> {
        Self::with(fd, offset, length, ProtFlags::READ | ProtFlags::WRITE)
    }

    /// Maps `length` bytes of `fd` from its start for reading: writing to it is refused.
    ///
    /// # Errors
    /// As [`Mapping::new`].
    pub fn read_only(fd: BorrowedFd<'_>, length: usize) -> Result<Self> {
        Self::with(fd, 0, length, ProtFlags::READ)
    }

    fn with(fd: BorrowedFd<'_>, offset: u64, length: usize, protection: ProtFlags) -> Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, fd, offset) }?;
        let writable = protection.contains(ProtFlags::WRITE);
        Ok(Self {
            start,
            length,
            writable,
        })
    }

    /// Returns its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns whether it is empty, which it never is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Errors
    /// `EFAULT` if they do not fit; `EACCES` if it is for reading.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        if !self.writable {
            return Err(Errno::ACCESS);
        }
        self.check(offset, bytes.len())?;
        // SAFETY: the range lies within the mapping, which lives as long as `self`, and cannot overlap a
        // slice of Rust's.
        unsafe {
            ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.start.cast::<u8>().wrapping_add(offset),
                bytes.len(),
            )
        };
        Ok(())
    }

    /// Fills `bytes` from `offset`.
    ///
    /// # Errors
    /// `EFAULT` if there are not so many.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.check(offset, bytes.len())?;
        // SAFETY: as in `write`.
        unsafe {
            ptr::copy_nonoverlapping(
                self.start.cast::<u8>().wrapping_add(offset),
                bytes.as_mut_ptr(),
                bytes.len(),
            );
        }
        Ok(())
    }

    fn check(&self, offset: usize, length: usize) -> Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(Errno::FAULT),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped in `new` and nothing refers to it any more.
        let unmapped = unsafe { munmap(self.start, self.length) };
        debug_assert!(unmapped.is_ok());
    }
}

/// The `UDMABUF_CREATE` call, whose result is a file descriptor.
struct CreateUdmabuf(UdmabufCreate);

// SAFETY: the number's argument is the structure, which the kernel reads; it returns a descriptor or an
// error, and rustix has turned errors into `Err` before `output_from_ptr`.
unsafe impl Ioctl for CreateUdmabuf {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        UDMABUF_CREATE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        ptr::from_mut(&mut self.0).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> Result<Self::Output> {
        // SAFETY: the kernel has just installed this descriptor for the caller.
        Ok(unsafe { OwnedFd::from_raw_fd(out) })
    }
}

/// Returns a dmabuf of `length` bytes (rounded up to pages) of ordinary memory, from `/dev/udmabuf`.
///
/// # Errors
/// `ENOENT` if the kernel has no udmabuf; the system's.
pub fn udmabuf(length: usize) -> Result<OwnedFd> {
    let length = length.next_multiple_of(rustix::param::page_size()) as u64;
    let memfd = rustix::fs::memfd_create("udmabuf", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&memfd, length)?;
    rustix::fs::fcntl_add_seals(&memfd, SealFlags::SHRINK)?;
    let device = rustix::fs::open("/dev/udmabuf", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let memfd_number = std::os::fd::AsRawFd::as_raw_fd(&memfd);
    let create = UdmabufCreate {
        memfd: memfd_number as u32,
        flags: UDMABUF_FLAGS_CLOEXEC,
        offset: 0,
        size: length,
    };
    // SAFETY: the structure is the number's; `memfd` lives until after the call.
    unsafe { ioctl(device.as_fd(), CreateUdmabuf(create)) }
}
