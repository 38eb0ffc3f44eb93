// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cleans processor caches, for devices that read memory past them.
//!
//! Buffers are mapped cached. The module says that its device is coherent, because the processor decodes, so
//! the kernel cleans nothing. A display or a GPU that imports a buffer need not be coherent; those of a
//! Raspberry Pi are not. videobuf2 maps memory for such devices without cleaning it
//! (`DMA_ATTR_SKIP_CPU_SYNC`). So whoever wrote a picture cleans it, to the point of coherency, before the
//! job is reported.
//!
//! On arm64 a process may do so (`SCTLR_EL1.UCI`, which Linux sets). Devices of x86 see the caches.

/// Writes cached contents of the `len` bytes at `start` to memory.
///
/// # Safety
/// The bytes are mapped and readable.
#[cfg(target_arch = "aarch64")]
pub(crate) unsafe fn clean(start: *const u8, len: usize) {
    use std::arch::asm;

    let type_register: u64;
    // SAFETY: reads a register that EL0 may read. Where cores differ, Linux answers with a value that suits
    // all.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) type_register, options(nomem, nostack, preserves_flags)) };
    // CTR_EL0.DminLine: log2 of the words in the smallest data cache line (Arm ARM D24.2.34).
    let line = 4usize << ((type_register >> 16) & 0xf);
    let end = start.addr() + len;
    let mut at = start.addr() & !(line - 1);
    while at < end {
        // SAFETY: the line has a byte of the range, which the caller promises to be mapped. No byte changes.
        unsafe { asm!("dc cvac, {}", in(reg) at, options(nostack, preserves_flags)) };
        at += line;
    }
    // SAFETY: a barrier. Without it the job could be reported before the lines are in memory.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Does nothing: devices of this architecture see the caches.
///
/// # Safety
/// Nothing is required.
#[cfg(not(target_arch = "aarch64"))]
pub(crate) unsafe fn clean(_start: *const u8, _len: usize) {}
