// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the descriptors of AV1 section 4.10 and 5.9.26 to 5.9.29 from a byte slice.

/// The fault of a header.
pub(super) type Wrong = &'static str;

/// A position, in bits, in an OBU's payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// `f(n)`, for `n` up to 32.
    pub(super) fn bits(&mut self, n: u32) -> Result<u32, Wrong> {
        let mut value = 0;
        for _ in 0..n {
            let byte = self.bytes.get(self.position / 8).ok_or("a header is cut off")?;
            value = (value << 1) | u32::from((byte >> (7 - self.position % 8)) & 1);
            self.position += 1;
        }
        Ok(value)
    }

    /// `f(n)` for `n` up to 8.
    pub(super) fn small(&mut self, n: u32) -> Result<u8, Wrong> {
        self.bits(n.min(8)).map(|value| value as u8)
    }

    /// `f(1)`.
    pub(super) fn flag(&mut self) -> Result<bool, Wrong> {
        self.bits(1).map(|bit| bit != 0)
    }

    /// `su(n)`.
    pub(super) fn signed(&mut self, n: u32) -> Result<i32, Wrong> {
        let value = self.bits(n)?;
        let sign = 1 << (n - 1);
        Ok(if value & sign != 0 {
            value as i32 - 2 * sign as i32
        } else {
            value as i32
        })
    }

    /// `ns(n)`, for `n` from 1.
    pub(super) fn non_symmetric(&mut self, n: u32) -> Result<u32, Wrong> {
        let width = n.checked_ilog2().ok_or("ns(0)")? + 1;
        let short = (1u32 << width) - n;
        let value = self.bits(width - 1)?;
        if value < short {
            return Ok(value);
        }
        Ok((value << 1) - short + self.bits(1)?)
    }

    /// `uvlc()`.
    pub(super) fn uvlc(&mut self) -> Result<u32, Wrong> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        if zeros >= 32 {
            return Ok(u32::MAX);
        }
        Ok(self.bits(zeros)? + ((1u32 << zeros) - 1))
    }

    /// `le(n)`, for `n` up to 4.
    pub(super) fn little_endian(&mut self, n: u32) -> Result<u32, Wrong> {
        (0..n).try_fold(0, |value, index| Ok(value | (self.bits(8)? << (8 * index))))
    }

    /// `decode_signed_subexp_with_ref()` (5.9.26).
    pub(super) fn signed_subexp(&mut self, low: i32, high: i32, reference: i32) -> Result<i32, Wrong> {
        let limit = high - low;
        let reference = reference - low;
        let value = self.subexp(limit)?;
        let unsigned = if reference << 1 <= limit {
            inverse_recenter(reference, value)
        } else {
            limit - 1 - inverse_recenter(limit - 1 - reference, value)
        };
        Ok(unsigned + low)
    }

    /// `decode_subexp()` (5.9.28).
    fn subexp(&mut self, symbols: i32) -> Result<i32, Wrong> {
        let mut step = 0;
        let mut base = 0;
        loop {
            let bits = if step != 0 { 3 + step - 1 } else { 3 };
            let range = 1 << bits;
            if symbols <= base + 3 * range {
                return Ok(self.non_symmetric((symbols - base) as u32)? as i32 + base);
            }
            if !self.flag()? {
                return Ok(self.bits(bits)? as i32 + base);
            }
            step += 1;
            base += range;
        }
    }

    /// `byte_alignment()`; returns the number of bytes read so far.
    pub(super) fn align(&mut self) -> usize {
        self.position = self.position.next_multiple_of(8);
        self.position / 8
    }

    /// Skips whole bytes.
    pub(super) fn skip(&mut self, bytes: usize) -> Result<(), Wrong> {
        self.position += bytes * 8;
        if self.position > self.bytes.len() * 8 {
            Err("a tile is cut off")
        } else {
            Ok(())
        }
    }
}

/// `inverse_recenter()` (5.9.29).
fn inverse_recenter(reference: i32, value: i32) -> i32 {
    if value > 2 * reference {
        value
    } else if value & 1 != 0 {
        reference - ((value + 1) >> 1)
    } else {
        reference + (value >> 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_read_what_the_specification_says() {
        let mut reader = Reader::new(&[0b1010_0110, 0b0100_0000, 0x34, 0x12]);
        assert_eq!(reader.bits(3), Ok(0b101));
        assert_eq!(reader.signed(3), Ok(1));
        assert_eq!(reader.signed(2), Ok(-2));
        // uvlc 010 is 1.
        assert_eq!(reader.uvlc(), Ok(1));
        assert_eq!(reader.align(), 2);
        assert_eq!(reader.little_endian(2), Ok(0x1234));
        assert!(reader.flag().is_err());
        // ns(5): 0, 1, 2 in two bits, 3 and 4 in three.
        let mut reader = Reader::new(&[0b0001_1011, 0b1000_0000]);
        let values: Vec<u32> = (0..4).map(|_| reader.non_symmetric(5).unwrap()).collect();
        assert_eq!(values, [0, 1, 2, 4]);
    }
}
