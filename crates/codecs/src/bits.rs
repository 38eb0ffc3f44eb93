// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Writing and reading of bits, most significant first, and of the codes that codecs build on them.

/// Appends bits to a byte vector, most significant first.
///
/// Bits of an unfinished byte are held back until [`align`](Self::align) or
/// [`trailing`](Self::trailing) completes it; a writer that is dropped before loses them.
#[derive(Debug)]
pub struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// The lowest `pending` bits are those not yet in `out`; `pending` is below 8 between calls.
    acc: u64,
    pending: u32,
}

impl<'a> BitWriter<'a> {
    /// Returns a writer whose first bit begins a new byte at the end of `out`.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self {
            out,
            acc: 0,
            pending: 0,
        }
    }

    /// The lowest `n` (at most 56) bits of `value`: `u(n)`, `f(n)`.
    pub fn bits(&mut self, n: u32, value: u64) {
        debug_assert!(n <= 56);
        self.acc = (self.acc << n) | (value & ((1 << n) - 1));
        self.pending += n;
        while self.pending >= 8 {
            self.pending -= 8;
            self.out.push((self.acc >> self.pending) as u8);
        }
    }

    /// One bit.
    pub fn flag(&mut self, value: bool) {
        self.bits(1, u64::from(value));
    }

    /// `ue(v)`: Exp-Golomb code of at most 2^32 − 1.
    pub fn ue(&mut self, value: u32) {
        self.exp_golomb(u64::from(value));
    }

    /// `se(v)`: signed Exp-Golomb code.
    pub fn se(&mut self, value: i32) {
        let magnitude = u64::from(value.unsigned_abs()) * 2;
        self.exp_golomb(if value > 0 { magnitude - 1 } else { magnitude });
    }

    fn exp_golomb(&mut self, code: u64) {
        let code = code + 1;
        let length = 64 - code.leading_zeros();
        self.bits(length - 1, 0);
        self.bits(length, code);
    }

    /// `su(n)`: two's complement in `n` bits.
    pub fn su(&mut self, n: u32, value: i32) {
        self.bits(n, value as u64);
    }

    /// `ns(n)`: `value`, which must be below `n`, in the shortest of two code lengths.
    pub fn ns(&mut self, n: u32, value: u32) {
        debug_assert!(value < n);
        let w = 32 - n.leading_zeros();
        let m = (1u64 << w) - u64::from(n);
        let value = u64::from(value);
        if value < m {
            self.bits(w - 1, value);
        } else {
            self.bits(w, value + m);
        }
    }

    /// Zero bits up to the next byte boundary.
    pub fn align(&mut self) {
        self.bits((8 - self.pending) % 8, 0);
    }

    /// A one bit, then zero bits up to the next byte boundary:
    /// `trailing_bits`, `rbsp_trailing_bits`.
    pub fn trailing(&mut self) {
        self.flag(true);
        self.align();
    }
}

/// Reads bits of bytes, most significant first. Each method returns `None` at the end of the bytes.
#[derive(Clone, Copy, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    /// Returns a reader of `bytes` that begins at the bit `position`.
    pub fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position }
    }

    /// Returns the position of the next bit.
    pub fn position(&self) -> usize {
        self.position
    }

    /// One bit.
    pub fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.position / 8)?;
        let bit = (byte >> (7 - self.position % 8)) & 1;
        self.position += 1;
        Some(bit != 0)
    }

    /// `u(n)` for `n` up to 32.
    pub fn bits(&mut self, n: u32) -> Option<u32> {
        let bits = (0..n).try_fold(0u64, |value, _| Some((value << 1) | u64::from(self.flag()?)));
        Some(bits? as u32)
    }

    /// `ue(v)`; `None` also for a code of more than 32 bits.
    pub fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        let base = 1u32.checked_shl(zeros)?;
        Some(base - 1 + self.bits(zeros)?)
    }
}

/// Appends `value` as `leb128()`, seven bits a byte, the lowest first, in as few bytes as possible.
pub fn leb128(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(f: impl FnOnce(&mut BitWriter<'_>)) -> Vec<u8> {
        let mut out = Vec::new();
        let mut w = BitWriter::new(&mut out);
        f(&mut w);
        w.align();
        out
    }

    #[test]
    fn exp_golomb_codes_are_those_of_the_specification() {
        // Table 9-2: 0 → 1, 1 → 010, 2 → 011, 3 → 00100, 7 → 0001000.
        assert_eq!(
            written(|w| [0, 1, 2].map(|v| w.ue(v)).into_iter().collect()),
            [0b1010_0110]
        );
        assert_eq!(written(|w| w.ue(3)), [0b0010_0000]);
        assert_eq!(written(|w| w.ue(7)), [0b0001_0000]);
        // Table 9-3: 1 → code 1, −1 → code 2, 2 → code 3.
        assert_eq!(written(|w| w.se(1)), written(|w| w.ue(1)));
        assert_eq!(written(|w| w.se(-1)), written(|w| w.ue(2)));
        assert_eq!(written(|w| w.se(2)), written(|w| w.ue(3)));
        assert_eq!(written(|w| w.ue(u32::MAX)), [0, 0, 0, 0, 0x80, 0, 0, 0, 0]);
    }

    #[test]
    fn the_non_symmetric_code_is_that_of_the_specification() {
        // The table for n = 5: 00, 01, 10, 110, 111.
        let codes: Vec<u8> = (0..5).map(|v| written(|w| w.ns(5, v))[0]).collect();
        assert_eq!(
            codes,
            [0b0000_0000, 0b0100_0000, 0b1000_0000, 0b1100_0000, 0b1110_0000]
        );
        // One possible value takes no bits.
        assert_eq!(written(|w| w.ns(1, 0)), []);
    }

    #[test]
    fn signed_values_are_two_s_complement() {
        assert_eq!(written(|w| w.su(7, -64)), [0b1000_0000]);
        assert_eq!(written(|w| w.su(7, -1)), [0b1111_1110]);
        assert_eq!(written(|w| w.su(7, 63)), [0b0111_1110]);
    }

    #[test]
    fn what_was_written_is_read() {
        let values = [0, 1, 2, 3, 254, 65_535, (1 << 31) - 2];
        let bytes = written(|w| {
            w.bits(3, 5);
            values.into_iter().for_each(|value| w.ue(value));
            w.bits(32, 0x8000_0001);
        });
        let mut r = BitReader::new(&bytes, 1);
        assert_eq!(r.bits(2), Some(1));
        assert_eq!(values.map(|_| r.ue()), values.map(Some));
        assert_eq!(r.bits(32), Some(0x8000_0001));
        assert_eq!((r.bits(8), r.ue()), (None, None));
        assert_eq!(BitReader::new(&[0; 9], 0).ue(), None, "no code has so many zeros");
    }

    #[test]
    fn leb128_is_little_endian_in_groups_of_seven() {
        let mut out = Vec::new();
        for v in [0, 127, 128, 300] {
            leb128(&mut out, v);
        }
        assert_eq!(out, [0, 127, 0x80, 1, 0xac, 2]);
    }

    #[test]
    fn trailing_bits_complete_the_byte_or_add_one() {
        assert_eq!(written(|w| w.trailing()), [0x80]);
        let mut out = Vec::new();
        let mut w = BitWriter::new(&mut out);
        w.bits(8, 0xa5);
        w.trailing();
        assert_eq!(out, [0xa5, 0x80]);
    }
}
