// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reference slots.

use super::motion::GlobalMotion;

/// Number of reference slots (`NUM_REF_FRAMES`).
pub(super) const SLOTS: usize = 8;

/// The frame in a reference slot, as far as the coding of later frames depends on it (7.20).
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) filled: bool,
    pub(super) timestamp: u64,
    /// `RefOrderHint`.
    pub(super) order_hint: u32,
    /// A key frame that was not shown and may be: `show_existing_frame` of it reloads all slots.
    pub(super) showable_key: bool,
    /// `SavedGmParams`.
    pub(super) motion: GlobalMotion,
}

impl Slot {
    pub(super) const EMPTY: Self = Self {
        filled: false,
        timestamp: 0,
        order_hint: 0,
        showable_key: false,
        motion: GlobalMotion::DEFAULT,
    };
}
