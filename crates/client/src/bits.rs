// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Flag words, and numbers of variable length.

use std::ops::BitOr;

/// Returns the union of the flags whose condition holds.
pub(crate) fn flags<T: BitOr<Output = T> + Default, const N: usize>(flags: [(bool, T); N]) -> T {
    flags.into_iter().fold(
        T::default(),
        |all, (set, flag)| if set { all | flag } else { all },
    )
}

/// Reads a `leb128()`, seven bits a byte, the lowest first. Returns the value and its length in bytes; `None`
/// if it is cut off or does not fit into 32 bits.
pub(crate) fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(u32::try_from(value).ok()?).ok()?, index + 1));
        }
    }
    None
}
