// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads the part of a frame's header that changes the reference slots, and the sizes of its partitions.
//! Clauses are those of RFC 6386.

use daedalus_uapi::formats::Size;
use thiserror::Error;

/// Most partitions of coefficients.
const PARTITIONS: usize = 8;
/// The start code of a key frame (9.1).
const START_CODE: [u8; 3] = [0x9d, 0x01, 0x2a];

/// Data that is no frame.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HeaderError {
    /// It ends within the uncompressed header.
    #[error("the header is cut off")]
    Short,
    /// A key frame has no start code.
    #[error("the start code is missing")]
    StartCode,
    /// A partition, or the table of their sizes, reaches past the end.
    #[error("a partition is cut off")]
    Partition,
}

/// The new contents of the golden or alternate slot, after a frame (9.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Update {
    /// Those that it had.
    #[default]
    Kept,
    /// The frame's picture.
    Picture,
    /// The last picture.
    Last,
    /// The picture of the other of both slots.
    Other,
}

/// The beginning of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameHeader {
    /// The frame is a key frame. Its picture fills every slot.
    pub key: bool,
    /// The size that a key frame has, without its scale.
    pub size: Option<Size>,
    /// Bytes of the first partition.
    pub first_part_size: u32,
    /// Partitions of coefficients: 1, 2, 4 or 8.
    pub num_dct_parts: u8,
    /// Bytes of each partition of coefficients. The last one takes what is left.
    pub dct_part_sizes: [u32; PARTITIONS],
    /// The frame's picture becomes the last one.
    pub refreshes_last: bool,
    /// The golden slot.
    pub golden: Update,
    /// The alternate slot.
    pub alternate: Update,
    /// `sign_bias_golden`.
    pub sign_bias_golden: bool,
    /// `sign_bias_alternate`.
    pub sign_bias_alternate: bool,
}

impl FrameHeader {
    /// Reads the header of the frame `data`.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn read(data: &[u8]) -> Result<Self, HeaderError> {
        let (tag, rest) = data.split_first_chunk::<3>().ok_or(HeaderError::Short)?;
        let tag = u32::from_le_bytes([tag[0], tag[1], tag[2], 0]);
        let mut header = Self {
            key: tag & 1 == 0,
            first_part_size: tag >> 5,
            ..Self::default()
        };
        let mut rest = rest;
        if header.key {
            let (start, behind) = rest.split_first_chunk::<7>().ok_or(HeaderError::Short)?;
            if !start.starts_with(&START_CODE) {
                return Err(HeaderError::StartCode);
            }
            let dimension = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
            header.size = Some(Size {
                width: dimension(start[3], start[4]),
                height: dimension(start[5], start[6]),
            });
            rest = behind;
        }
        let first = usize::try_from(header.first_part_size).map_err(|_| HeaderError::Partition)?;
        let (first, coefficients) = rest.split_at_checked(first).ok_or(HeaderError::Partition)?;
        header.read_first_partition(&mut Booleans::new(first));
        header.read_sizes(coefficients)?;
        Ok(header)
    }

    /// Reads the frame header up to `refresh_last` (19.2).
    fn read_first_partition(&mut self, bits: &mut Booleans<'_>) {
        if self.key {
            // color_space, clamping_type.
            bits.literal(2);
        }
        skip_segmentation(bits);
        // filter_type, loop_filter_level, sharpness_level.
        bits.literal(1 + 6 + 3);
        skip_filter_deltas(bits);
        self.num_dct_parts = 1 << bits.literal(2);
        // y_ac_qi, then five differences.
        bits.literal(7);
        for _ in 0..5 {
            bits.skip_optional(4 + 1);
        }
        if self.key {
            self.refreshes_last = true;
            (self.golden, self.alternate) = (Update::Picture, Update::Picture);
            return;
        }
        let (golden, alternate) = (bits.flag(), bits.flag());
        self.golden = update(golden, bits);
        self.alternate = update(alternate, bits);
        self.sign_bias_golden = bits.flag();
        self.sign_bias_alternate = bits.flag();
        // refresh_entropy_probs.
        bits.flag();
        self.refreshes_last = bits.flag();
    }

    /// Reads the table of sizes in front of the partitions of coefficients (9.5).
    fn read_sizes(&mut self, coefficients: &[u8]) -> Result<(), HeaderError> {
        let last = usize::from(self.num_dct_parts) - 1;
        let (table, partitions) = coefficients
            .split_at_checked(3 * last)
            .ok_or(HeaderError::Partition)?;
        let mut left = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        for (size, bytes) in self.dct_part_sizes.iter_mut().zip(table.chunks_exact(3)) {
            *size = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
            left = left.checked_sub(*size).ok_or(HeaderError::Partition)?;
        }
        self.dct_part_sizes[last] = left;
        Ok(())
    }
}

/// Reads how a slot that is not refreshed is updated.
fn update(refreshed: bool, bits: &mut Booleans<'_>) -> Update {
    if refreshed {
        return Update::Picture;
    }
    match bits.literal(2) {
        1 => Update::Last,
        2 => Update::Other,
        // 3 is reserved; decoders take it for 0.
        _ => Update::Kept,
    }
}

/// Reads over `update_segmentation()` (19.2).
fn skip_segmentation(bits: &mut Booleans<'_>) {
    if !bits.flag() {
        return;
    }
    let (map, data) = (bits.flag(), bits.flag());
    if data {
        // segment_feature_mode.
        bits.flag();
        for size in [7 + 1, 6 + 1] {
            for _ in 0..4 {
                bits.skip_optional(size);
            }
        }
    }
    if map {
        for _ in 0..3 {
            bits.skip_optional(8);
        }
    }
}

/// Reads over `mb_lf_adjustments()` (19.2).
fn skip_filter_deltas(bits: &mut Booleans<'_>) {
    if bits.flag() && bits.flag() {
        for _ in 0..8 {
            bits.skip_optional(6 + 1);
        }
    }
}

/// A decoder of booleans that are as likely true as false (7.3). Zeros follow the end of its data, as in
/// decoders.
#[derive(Debug)]
struct Booleans<'a> {
    rest: std::slice::Iter<'a, u8>,
    value: u32,
    range: u32,
    shifts: u32,
}

impl<'a> Booleans<'a> {
    fn new(data: &'a [u8]) -> Self {
        let mut rest = data.iter();
        let mut byte = || rest.next().copied().map_or(0, u32::from);
        let value = (byte() << 8) | byte();
        Self {
            rest,
            value,
            range: 255,
            shifts: 0,
        }
    }

    fn flag(&mut self) -> bool {
        let split = 1 + (((self.range - 1) * 128) >> 8);
        let set = self.value >= split << 8;
        if set {
            self.range -= split;
            self.value -= split << 8;
        } else {
            self.range = split;
        }
        while self.range < 128 {
            self.range <<= 1;
            self.value <<= 1;
            self.shifts += 1;
            if self.shifts == 8 {
                self.shifts = 0;
                self.value |= self.rest.next().copied().map_or(0, u32::from);
            }
        }
        set
    }

    /// Reads a number of `bits` bits, the highest first.
    fn literal(&mut self, bits: u32) -> u32 {
        (0..bits).fold(0, |value, _| (value << 1) | u32::from(self.flag()))
    }

    /// Reads over a value of `bits` bits that is there if a flag says so.
    fn skip_optional(&mut self, bits: u32) {
        if self.flag() {
            self.literal(bits);
        }
    }
}

/// The order in which golden and alternate slot are copied when both are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyOrder {
    /// The alternate slot first: what golden takes from it is new. So does libvpx, which defines the format.
    AlternateFirst,
    /// Both from the slots as they were: so do libavcodec and Chromium.
    AtOnce,
}

/// The pictures in the three reference slots, by their timestamps. `None` is an unknown picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// The last picture.
    pub last: Option<u64>,
    /// The golden picture.
    pub golden: Option<u64>,
    /// The alternate reference.
    pub alternate: Option<u64>,
}

impl Slots {
    /// Returns the slots after a frame with this header, whose picture has the name `picture`.
    #[must_use]
    pub fn after(self, header: &FrameHeader, picture: u64, order: CopyOrder) -> Self {
        let taken = |update, own, other| match update {
            Update::Kept => own,
            Update::Picture => Some(picture),
            Update::Last => self.last,
            Update::Other => other,
        };
        let alternate = taken(header.alternate, self.alternate, self.golden);
        // A slot that is refreshed is so after all copies.
        let copied = match (order, header.alternate) {
            (CopyOrder::AtOnce, _) | (_, Update::Picture) => self.alternate,
            (CopyOrder::AlternateFirst, _) => alternate,
        };
        Self {
            last: if header.refreshes_last {
                Some(picture)
            } else {
                self.last
            },
            golden: taken(header.golden, self.golden, copied),
            alternate,
        }
    }

    /// Returns the pictures of the slots: last, golden, alternate.
    #[must_use]
    pub fn pictures(self) -> [Option<u64>; 3] {
        [self.last, self.golden, self.alternate]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a frame whose header has zeros for all that is coded as booleans.
    fn frame(key: bool, first: usize, coefficients: &[u8]) -> Vec<u8> {
        let tag = u32::from(!key) | (u32::try_from(first).unwrap() << 5);
        let mut data = tag.to_le_bytes()[..3].to_vec();
        if key {
            data.extend(START_CODE);
            data.extend([0x23, 0x40, 0x11, 0x80]);
        }
        data.resize(data.len() + first, 0);
        data.extend(coefficients);
        data
    }

    #[test]
    fn key_frames_have_a_size_and_fill_every_slot() {
        let header = FrameHeader::read(&frame(true, 20, &[7; 5])).unwrap();
        let size = Size {
            width: 0x23,
            height: 0x11,
        };
        assert_eq!((header.key, header.size), (true, Some(size)));
        assert_eq!((header.first_part_size, header.num_dct_parts), (20, 1));
        assert_eq!(header.dct_part_sizes[0], 5);
        let slots = Slots::default().after(&header, 9, CopyOrder::AtOnce);
        assert_eq!(slots.pictures(), [Some(9); 3]);
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let whole = frame(true, 20, &[]);
        for length in 0..whole.len() {
            let error = FrameHeader::read(&whole[..length]).unwrap_err();
            let is = if length < 10 {
                HeaderError::Short
            } else {
                HeaderError::Partition
            };
            assert_eq!(error, is, "{length}");
        }
        let mut other = whole;
        other[3] = 0;
        assert_eq!(FrameHeader::read(&other), Err(HeaderError::StartCode));
        assert!(FrameHeader::read(&frame(false, 4, &[])).is_ok());
        // Booleans that are not there are false.
        assert!(FrameHeader::read(&frame(false, 0, &[])).is_ok());
    }

    #[test]
    fn sizes_of_partitions_are_in_front_of_them() {
        let mut header = FrameHeader {
            num_dct_parts: 4,
            ..FrameHeader::default()
        };
        let coefficients = [1, 0, 0, 0, 0, 0, 2, 0, 0, 9, 9, 9, 9, 9];
        assert_eq!(header.read_sizes(&coefficients), Ok(()));
        assert_eq!(header.dct_part_sizes[..5], [1, 0, 2, 2, 0]);
        for length in 0..12 {
            let cut = header.read_sizes(&coefficients[..length]);
            assert_eq!(cut, Err(HeaderError::Partition), "{length}");
        }
        assert_eq!(header.read_sizes(&coefficients[..12]), Ok(()));
    }

    #[test]
    fn copies_of_both_slots_depend_on_their_order() {
        let slots = Slots {
            last: Some(1),
            golden: Some(2),
            alternate: Some(3),
        };
        let after = |golden, alternate, order| {
            let header = FrameHeader {
                golden,
                alternate,
                ..FrameHeader::default()
            };
            slots.after(&header, 4, order).pictures().map(Option::unwrap)
        };
        use CopyOrder::{AlternateFirst, AtOnce};
        use Update::{Kept, Last, Other, Picture};
        assert_eq!(after(Other, Other, AtOnce), [1, 3, 2]);
        assert_eq!(after(Other, Other, AlternateFirst), [1, 2, 2]);
        assert_eq!(after(Other, Last, AtOnce), [1, 3, 1]);
        assert_eq!(after(Other, Last, AlternateFirst), [1, 1, 1]);
        for order in [AtOnce, AlternateFirst] {
            assert_eq!(after(Other, Picture, order), [1, 3, 4]);
            assert_eq!(after(Picture, Other, order), [1, 4, 2]);
            assert_eq!(after(Last, Other, order), [1, 1, 2]);
            assert_eq!(after(Kept, Kept, order), [1, 2, 3]);
        }
    }
}
