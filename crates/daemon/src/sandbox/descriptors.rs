// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Closes the descriptors that a worker has inherited and does not need.
#![expect(unsafe_code, reason = "close_range() has no safe wrapper")]

use std::io;
use std::os::fd::RawFd;

/// The first descriptor after the standard ones.
const FIRST: u32 = 3;

/// Closes every descriptor from 3 on but `open_fd`. The caller must not have opened any.
pub(super) fn close_others(open_fd: Option<RawFd>) -> io::Result<()> {
    match open_fd
        .and_then(|fd| u32::try_from(fd).ok())
        .filter(|&fd| fd >= FIRST)
    {
        None => close(FIRST, u32::MAX),
        Some(open_fd) => {
            if open_fd > FIRST {
                close(FIRST, open_fd - 1)?;
            }
            close(open_fd + 1, u32::MAX)
        }
    }
}

fn close(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: no value of this program owns a descriptor in the range: the process has opened none, and
    // inherited descriptors have no owner.
    match unsafe { libc::close_range(first, last, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
