// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the descriptors of ITU-T H.265 9.2 from a NAL unit.

/// The fault of a unit.
pub(super) type Wrong = &'static str;

/// A NAL unit's payload without `emulation_prevention_three_byte` (7.3.1.1), and a position in it.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    bytes: Vec<u8>,
    position: usize,
}

impl Reader {
    /// Returns a reader that stands behind the two bytes of the NAL unit header. It has at most `most` bytes
    /// of the unit.
    pub(super) fn new(unit: &[u8], most: usize) -> Self {
        let mut bytes = Vec::with_capacity(unit.len().min(most));
        for (index, byte) in unit.iter().take(most).enumerate() {
            let prevents = *byte == 3 && index >= 2 && unit[index - 2..index] == [0, 0];
            if !prevents {
                bytes.push(*byte);
            }
        }
        Self { bytes, position: 16 }
    }

    /// Returns the position of the next bit.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// `u(n)`, for `n` up to 32.
    pub(super) fn bits(&mut self, n: u32) -> Result<u32, Wrong> {
        let mut value = 0;
        for _ in 0..n {
            let byte = self.bytes.get(self.position / 8).ok_or("a unit is cut off")?;
            value = (value << 1) | u32::from((byte >> (7 - self.position % 8)) & 1);
            self.position += 1;
        }
        Ok(value)
    }

    /// `u(n)` for `n` up to 8.
    pub(super) fn small(&mut self, n: u32) -> Result<u8, Wrong> {
        self.bits(n.min(8)).map(|value| value as u8)
    }

    /// `u(1)`.
    pub(super) fn flag(&mut self) -> Result<bool, Wrong> {
        self.bits(1).map(|bit| bit != 0)
    }

    /// `ue(v)`.
    pub(super) fn ue(&mut self) -> Result<u32, Wrong> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        if zeros > 31 {
            return Err("an Exp-Golomb code is too long");
        }
        Ok((1 << zeros) - 1 + self.bits(zeros)?)
    }

    /// `ue(v)` of at most `most`, which is below 256.
    pub(super) fn small_ue(&mut self, most: u32) -> Result<u8, Wrong> {
        let value = self.ue()?;
        if value > most.min(255) {
            return Err("a value is too large");
        }
        Ok(value as u8)
    }

    /// `se(v)`.
    pub(super) fn se(&mut self) -> Result<i32, Wrong> {
        let code = i64::from(self.ue()?);
        let magnitude = (code + 1) / 2;
        Ok(if code % 2 == 0 { -magnitude } else { magnitude } as i32)
    }

    /// `se(v)` of a value that fits into a byte.
    pub(super) fn small_se(&mut self) -> Result<i8, Wrong> {
        i8::try_from(self.se()?).map_err(|_| "a value is too large")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_behind_the_header() {
        // 1, 010, 011, 00100, 1 with a byte that prevents emulation in front of the last zeros.
        let mut reader = Reader::new(&[0x42, 1, 0b1010_0110, 0b0100_1000, 0, 0, 3, 1], 100);
        let read: Vec<_> = (0..4).map(|_| reader.ue()).collect();
        assert_eq!(read, [Ok(0), Ok(1), Ok(2), Ok(3)]);
        assert_eq!((reader.bits(20), reader.bits(8)), (Ok(0x80000), Ok(1)));
        assert!(reader.flag().is_err());
        let mut reader = Reader::new(&[0x42, 1, 0b0100_1100], 100);
        assert_eq!([reader.se(), reader.se()], [Ok(1), Ok(-1)]);
    }
}
