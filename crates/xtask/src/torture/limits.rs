// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long calls and guests may take, and how much memory guests have.

use std::time::Duration;

use crate::make::kernel::Kernel;

/// MiB of memory of a guest for `life`: buffers and private memory of the 64 sessions of `many-sessions`.
pub(super) const LIFE_MIB: u32 = 4096;

/// Limits of a kernel: how long a pending call may take when something is killed, how long a guest, and the
/// module's parameters that go with it.
pub(super) struct Limits {
    pub(super) pending_ms: u32,
    pub(super) life: Duration,
    pub(super) parameters: &'static [&'static str],
}

/// `./dev test` has to pass on machines that are busy otherwise, where a blocked call says little: it allows
/// calls this much more time than `./dev torture`.
const QUICK_PATIENCE: u32 = 2;

/// Returns the limits of a kernel.
pub(super) fn limits(kernel: Kernel, quick: bool) -> Limits {
    let patience = if quick { QUICK_PATIENCE } else { 1 };
    match kernel {
        Kernel::Plain | Kernel::Image => Limits {
            pending_ms: 1000 * patience,
            life: Duration::from_secs(600),
            parameters: &[],
        },
        // What it counts, not how long that takes, is of interest.
        Kernel::Sanitizers | Kernel::Coverage => Limits {
            pending_ms: 3000 * patience,
            life: Duration::from_secs(1500),
            parameters: &["watchdog_ms=5000", "drain_ms=500", "worker_wait_ms=2500"],
        },
    }
}
