// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flag words.

use std::ops::BitOr;

/// The union of the flags whose condition holds.
pub(crate) fn flags<T: BitOr<Output = T> + Default, const N: usize>(flags: [(bool, T); N]) -> T {
    flags.into_iter().fold(
        T::default(),
        |all, (set, flag)| if set { all | flag } else { all },
    )
}
