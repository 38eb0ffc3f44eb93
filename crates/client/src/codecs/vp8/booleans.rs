// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The decoder of booleans (RFC 6386, 7), which takes its data bit by bit.

/// The decoder. Zeros follow the end of its data.
#[derive(Debug)]
pub(super) struct Booleans<'a> {
    data: &'a [u8],
    /// The next bit of the data, from the start, the highest of a byte first.
    next: usize,
    value: u8,
    range: u8,
}

impl<'a> Booleans<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            next: 8,
            value: data.first().copied().unwrap_or_default(),
            range: 255,
        }
    }

    fn bit(&mut self) -> u8 {
        let byte = self.data.get(self.next / 8).copied().unwrap_or_default();
        let bit = (byte >> (7 - self.next % 8)) & 1;
        self.next += 1;
        bit
    }

    /// Reads a boolean that is false with this probability, in 1/256.
    pub(super) fn boolean(&mut self, probability: u8) -> bool {
        let split = (1 + ((u16::from(self.range) - 1) * u16::from(probability)) / 256) as u8;
        let is_set = self.value >= split;
        if is_set {
            self.value -= split;
            self.range -= split;
        } else {
            self.range = split;
        }
        while self.range & 0x80 == 0 {
            self.range <<= 1;
            self.value = (self.value << 1) | self.bit();
        }
        is_set
    }

    /// Reads a flag.
    pub(super) fn flag(&mut self) -> bool {
        self.boolean(128)
    }

    /// Reads a number of `bits` bits.
    pub(super) fn literal(&mut self, bits: u32) -> u32 {
        let mut value = 0;
        for _ in 0..bits {
            value = value * 2 + u32::from(self.flag());
        }
        value
    }

    /// Reads a flag, and if it is set a number of `bits` bits and its sign.
    pub(super) fn optional_signed(&mut self, bits: u32) -> Option<i8> {
        self.flag().then(|| {
            let value = self.literal(bits) as i8;
            if self.flag() { -value } else { value }
        })
    }

    /// Returns the bits of the data that are used up.
    pub(super) fn consumed(&self) -> u32 {
        (self.next - 8) as u32
    }

    /// Returns range, value, and the bits that are left of the byte behind the value.
    pub(super) fn state(&self) -> (u8, u8, u8) {
        (
            self.range,
            self.value,
            (self.next.next_multiple_of(8) - self.next) as u8,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_divide_the_range() {
        // 255 is split at 1 + 254 * 128 / 256 = 128.
        let mut low = Booleans::new(&[127, 0xff]);
        assert!(!low.flag());
        assert_eq!((low.state(), low.consumed()), ((128, 127, 0), 0));
        let mut high = Booleans::new(&[128, 0x80]);
        assert!(high.flag());
        // 127 is doubled, and one bit of the second byte follows.
        assert_eq!((high.state(), high.consumed()), ((254, 1, 7), 1));
        let mut rare = Booleans::new(&[0, 0]);
        // 1 + 254 * 1 / 256 = 1: seven shifts.
        assert!(!rare.boolean(1));
        assert_eq!((rare.state(), rare.consumed()), ((128, 0, 1), 7));
    }

    #[test]
    fn the_end_is_followed_by_zeros() {
        let mut bits = Booleans::new(&[]);
        assert_eq!(bits.literal(31), 0);
        assert_eq!(bits.optional_signed(7), None);
    }
}
