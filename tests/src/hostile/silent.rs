// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Memory whose owner answers late or never: whoever reads it waits, until it is let go (userfaultfd(2)).

use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::ioctl::{Opcode, opcode};
use rustix::mm::{MapFlags, ProtFlags, UserfaultfdFlags, mmap_anonymous, munmap, userfaultfd};

use super::raw::{self, Arg};

/// `UFFD_API`, the version of the interface.
const API: u64 = 0xaa;
/// `UFFDIO_REGISTER_MODE_MISSING`: what waits is an access to a page that was never written.
const MODE_MISSING: u64 = 1;
/// `UFFDIO_API`, whose argument has three words of 64 bits.
const UFFDIO_API: Opcode = opcode::read_write::<[u64; 3]>(0xaa, 0x3f);
/// `UFFDIO_REGISTER`: start, length, mode and what can be done about it.
const UFFDIO_REGISTER: Opcode = opcode::read_write::<[u64; 4]>(0xaa, 0x00);

/// Pages that nobody can read before [`Silence::end`]. Nothing in this process may touch them: they are for
/// the kernel, as the payload of a call.
#[derive(Debug)]
pub(super) struct Silence {
    address: u64,
    length: usize,
    handler: Mutex<Option<OwnedFd>>,
}

impl Silence {
    /// Makes `length` bytes of it.
    pub(super) fn new(length: usize) -> Result<Self> {
        let length = length.next_multiple_of(rustix::param::page_size());
        // SAFETY: what it can observe and change is the range that is registered below, of which this process
        // has neither references nor accesses of its own.
        let handler = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK) }
            .context("userfaultfd")?;
        let mut arg = Arg::default();
        arg.set64(0, API);
        raw::call(handler.as_fd(), UFFDIO_API, &mut arg).context("UFFDIO_API")?;
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), length, protection, flags) }.context("mmap")?;
        let mut arg = Arg::default();
        arg.set64(0, start as u64)
            .set64(8, length as u64)
            .set64(16, MODE_MISSING);
        let registered = raw::call(handler.as_fd(), UFFDIO_REGISTER, &mut arg);
        let silence = Self {
            address: start as u64,
            length,
            handler: Mutex::new(Some(handler)),
        };
        registered.context("UFFDIO_REGISTER")?;
        Ok(silence)
    }

    /// Returns its address, for a call to read from.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Waits until somebody waits for it.
    pub(super) fn touched(&self, limit: Duration) -> Result<()> {
        let handler = self.handler.lock().unwrap_or_else(PoisonError::into_inner);
        let handler = handler.as_ref().context("it has ended")?;
        let timeout = Timespec {
            tv_sec: i64::try_from(limit.as_secs())?,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let mut fds = [PollFd::new(handler, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&timeout))?;
        ensure!(
            ready == 1 && fds[0].revents().contains(PollFlags::IN),
            "the call did not come to read its payload"
        );
        Ok(())
    }

    /// Lets everybody read zeros.
    pub(super) fn end(&self) {
        *self.handler.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.end();
        // SAFETY: it was mapped in `new`, and nothing refers to it: the call that read it has returned, or
        // gets EFAULT.
        let unmapped = unsafe { munmap(self.address as *mut std::ffi::c_void, self.length) };
        debug_assert!(unmapped.is_ok());
    }
}
