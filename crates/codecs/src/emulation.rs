// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Emulation prevention: the bytes 3 that keep start codes out of NAL units.

/// Inserts `emulation_prevention_three_byte` in `out` from `start` on.
pub(crate) fn prevent(out: &mut Vec<u8>, start: usize) {
    let mut i = start;
    let mut zeros = Zeros::default();
    while i < out.len() {
        if zeros.needs_prevention(out[i]) {
            out.insert(i, 3);
            zeros = Zeros::default();
        } else {
            zeros.pass(out[i]);
        }
        i += 1;
    }
}

/// The zero bytes at the end of what was written, as far as emulation prevention depends on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Zeros(u8);

impl Zeros {
    /// Returns whether a byte 3 must come before `byte`.
    pub(crate) fn needs_prevention(self, byte: u8) -> bool {
        self.0 == 2 && byte <= 3
    }

    /// Returns whether `byte`, as it stands in a NAL unit, prevents emulation.
    pub(crate) fn is_prevention(self, byte: u8) -> bool {
        self.0 == 2 && byte == 3
    }

    /// Notes a byte of the payload.
    pub(crate) fn pass(&mut self, byte: u8) {
        self.0 = if byte == 0 { (self.0 + 1).min(2) } else { 0 };
    }

    /// Appends a byte of the payload, behind a byte 3 where one is needed.
    pub(crate) fn push(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.needs_prevention(byte) {
            out.push(3);
            *self = Self::default();
        }
        out.push(byte);
        self.pass(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_in_the_payload_are_broken_up() {
        for (payload, unit) in [
            (&[0, 0, 1][..], &[0, 0, 3, 1][..]),
            (&[0, 0, 3], &[0, 0, 3, 3]),
            (&[0, 0, 4], &[0, 0, 4]),
            (&[0, 0, 0, 0, 0], &[0, 0, 3, 0, 0, 3, 0]),
            (&[0, 1, 0, 0, 2], &[0, 1, 0, 0, 3, 2]),
        ] {
            let mut out = payload.to_vec();
            prevent(&mut out, 0);
            assert_eq!(out, unit);
            let (mut pushed, mut zeros) = (Vec::new(), Zeros::default());
            payload.iter().for_each(|&byte| zeros.push(byte, &mut pushed));
            assert_eq!(pushed, unit);
        }
    }
}
