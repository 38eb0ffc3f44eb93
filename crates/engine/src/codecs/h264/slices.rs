// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the types of slices.

/// The slices in an OUTPUT buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slices {
    /// Slice NAL units (types 1 and 5).
    pub(crate) count: usize,
    /// At least one of them is a P, B or SP slice, or cannot be read.
    pub(crate) inter: bool,
}

impl Slices {
    /// Reads the NAL units of Annex B data.
    pub(crate) fn of(data: &[u8]) -> Self {
        let mut slices = Self::default();
        let mut at = 0;
        while let Some(start) = next_start_code(data, at) {
            at = start;
            // nal_unit_type (ITU-T H.264 7.3.1): 1 is a slice, 5 a slice of an IDR picture.
            if matches!(data.get(at).map(|header| header & 0x1f), Some(1 | 5)) {
                slices.count += 1;
                // slice_type modulo 5 (table 7-6): 2 is I, 4 is SI.
                slices.inter |= !matches!(slice_type(&data[at + 1..]), Some(2 | 4 | 7 | 9));
            }
        }
        slices
    }
}

/// Returns the index after the first start code at or after `from`.
fn next_start_code(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 2;
    while at < data.len() {
        match data[at] {
            1 if data[at - 1] == 0 && data[at - 2] == 0 => return Some(at + 1),
            // The third byte of a start code is 1, the others are 0: after a larger one, none of the
            // next two positions can end it.
            0 | 1 => at += 1,
            _ => at += 3,
        }
    }
    None
}

/// Returns `slice_type` of a slice header (7.3.3), whose first element is `first_mb_in_slice`.
///
/// Within both there are at most 17 + 3 zero bits in a row, since a picture has less than 2^18
/// macroblocks (table A-1); the 22 that call for an emulation prevention byte (7.4.1) do not occur.
fn slice_type(header: &[u8]) -> Option<u32> {
    let mut bits = [0; 8];
    let len = header.len().min(bits.len());
    bits[..len].copy_from_slice(&header[..len]);
    let (_, bits) = exp_golomb(u64::from_be_bytes(bits))?;
    exp_golomb(bits).map(|(value, _)| value)
}

/// Reads ue(v) (9.1) from the high bits; returns the value and the bits after it.
fn exp_golomb(bits: u64) -> Option<(u32, u64)> {
    let zeros = bits.leading_zeros();
    if zeros > 17 {
        return None;
    }
    let length = 2 * zeros + 1;
    let value = u32::try_from((bits >> (64 - length)) - 1).ok()?;
    Some((value, bits << length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slice_types_are_read() {
        // first_mb_in_slice 0, slice_type 7 (I): 1 0001000.
        assert_eq!(slice_type(&[0b1000_1000]), Some(7));
        // 5 (P): 1 00110.
        assert_eq!(slice_type(&[0b1001_1000]), Some(5));
        // first_mb_in_slice 65535 is 16 zeros, 1, 16 zeros.
        assert_eq!(slice_type(&[0, 0, 0x80, 0, 0x08]), Some(7));
        assert_eq!(slice_type(&[]), None);
    }

    #[test]
    fn all_slices_count() {
        let intra = [0, 0, 1, 0x65, 0x88, 0x84, 0, 0, 0, 1, 0x61, 0x88, 0x84];
        assert_eq!(
            Slices::of(&intra),
            Slices {
                count: 2,
                inter: false
            }
        );
        let mixed = [
            0, 0, 1, 0x65, 0x88, 0x84, 0, 0, 1, 0x61, 0x9a, 0x23, 0, 0, 1, 6, 5,
        ];
        assert_eq!(
            Slices::of(&mixed),
            Slices {
                count: 2,
                inter: true
            }
        );
        assert_eq!(Slices::of(&[0, 0, 1]), Slices::default());
        assert_eq!(Slices::of(&[0, 1]), Slices::default());
        assert_eq!(
            Slices::of(&[0, 0, 1, 0x65]),
            Slices {
                count: 1,
                inter: true
            }
        );
    }
}
