// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Ioctls with arguments that may be anything.

use std::ffi::c_void;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

/// Words of the largest argument of any ioctl that is called here, and some.
const WORDS: usize = 96;
/// Bytes of an [`Arena`]: more than any control value, and than all planes of a buffer.
const ARENA: usize = 64 << 10;
/// What a pointer field says if it is to point nowhere: addresses that no process has mapped.
const NOWHERE: [u64; 3] = [0, 8, 0xffff_8000_0000_0000];

/// An ioctl's argument: words, whatever they mean.
#[derive(Clone, Debug)]
#[repr(C, align(8))]
pub(super) struct Arg([u32; WORDS]);

impl Default for Arg {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl Arg {
    /// Returns the word at the byte offset `at`.
    pub(super) fn get(&self, at: usize) -> u32 {
        self.0[at / 4]
    }

    /// Sets the word at the byte offset `at`.
    pub(super) fn set(&mut self, at: usize, value: u32) -> &mut Self {
        self.0[at / 4] = value;
        self
    }

    /// Sets the two words at `at`.
    pub(super) fn set64(&mut self, at: usize, value: u64) -> &mut Self {
        self.set(at, value as u32).set(at + 4, (value >> 32) as u32)
    }

    /// Returns the two words at `at`.
    pub(super) fn get64(&self, at: usize) -> u64 {
        u64::from(self.get(at)) | (u64::from(self.get(at + 4)) << 32)
    }
}

/// Memory that arguments point to; the kernel may write anything there.
#[derive(Debug)]
pub(super) struct Arena(Vec<u64>);

impl Arena {
    pub(super) fn new() -> Self {
        Self(vec![0; ARENA / 8])
    }

    /// Returns the address of the byte offset `at`, rounded down to 8.
    pub(super) fn address(&mut self, at: usize) -> u64 {
        self.0[at / 8..].as_mut_ptr() as u64
    }

    /// Returns an address that is mapped nowhere.
    pub(super) fn nowhere(which: u64) -> u64 {
        NOWHERE[which as usize % NOWHERE.len()]
    }

    /// Sets the word at the byte offset `at`.
    pub(super) fn set(&mut self, at: usize, value: u32) {
        let (word, shift) = (&mut self.0[at / 8], at % 8 * 8);
        *word = (*word & !(u64::from(u32::MAX) << shift)) | (u64::from(value) << shift);
    }

    /// Returns the word at the byte offset `at`.
    pub(super) fn get(&self, at: usize) -> u32 {
        (self.0[at / 8] >> (at % 8 * 8)) as u32
    }

    /// Returns the first `bytes` bytes.
    pub(super) fn bytes(&self, bytes: usize) -> Vec<u8> {
        let words = self.0.iter().flat_map(|word| word.to_ne_bytes());
        words.take(bytes).collect()
    }

    /// Copies `bytes` to the byte offset `at`, a multiple of 8.
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        for (word, chunk) in self.0[at / 8..].iter_mut().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(eight);
        }
    }

    /// Zeroes the first `bytes`.
    pub(super) fn clear(&mut self, bytes: usize) {
        self.0[..bytes.div_ceil(8)].fill(0);
    }
}

struct Raw<'a> {
    opcode: Opcode,
    arg: &'a mut Arg,
}

// SAFETY: the argument is as large as the number says (`call` checks it); what is returned is a plain number.
unsafe impl Ioctl for Raw<'_> {
    type Output = i32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.arg).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> Result<i32> {
        Ok(out)
    }
}

/// Calls an ioctl whose argument, if it has one, is at most [`WORDS`] words.
///
/// Pointers in `arg` point into an [`Arena`] or nowhere: [`Arena::address`] and [`Arena::nowhere`] are the
/// only makers of addresses, and whoever puts arbitrary words into an argument sets its pointers afterwards.
pub(super) fn call(fd: BorrowedFd<'_>, opcode: Opcode, arg: &mut Arg) -> Result<i32> {
    if ((opcode >> 16) & 0x3fff) as usize > WORDS * 4 {
        return Err(Errno::TOOBIG);
    }
    // SAFETY: the argument has room, and the kernel writes elsewhere only through pointers, which lead to an
    // arena (no references to its contents are alive during the call) or nowhere.
    unsafe { ioctl(fd, Raw { opcode, arg }) }
}

/// Takes a descriptor that the kernel has just installed.
pub(super) fn installed(fd: u32) -> Option<OwnedFd> {
    let fd = i32::try_from(fd).ok().filter(|fd| *fd > 2)?;
    // SAFETY: an ioctl that succeeded has just installed it for this process, and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_where_they_were_put() {
        let mut arena = Arena::new();
        arena.set(12, 0xdead_beef);
        arena.set(8, 1);
        assert_eq!((arena.get(8), arena.get(12), arena.get(16)), (1, 0xdead_beef, 0));
        arena.write(16, &[1, 2, 3, 4, 5]);
        assert_eq!((arena.get(16), arena.get(20)), (0x0403_0201, 5));
        assert_eq!(arena.bytes(19)[16..], [1, 2, 3]);
        let mut arg = Arg::default();
        arg.set64(8, 0x1_0000_0002);
        assert_eq!((arg.get(8), arg.get(12), arg.get64(8)), (2, 1, 0x1_0000_0002));
    }

    #[test]
    fn an_argument_that_is_too_small_is_not_used() {
        let fd = std::fs::File::open("/dev/null").unwrap();
        let opcode = rustix::ioctl::opcode::read_write::<[u8; 4096]>(b'V', 1);
        let fd = std::os::fd::AsFd::as_fd(&fd);
        assert_eq!(call(fd, opcode, &mut Arg::default()), Err(Errno::TOOBIG));
    }
}
