// SPDX-License-Identifier: Apache-2.0 OR MIT
//! OBU headers (5.3) and the OBUs that carry no frame.

use crate::bits::BitWriter;

/// `obu_type` (6.2.2).
#[derive(Clone, Copy, Debug)]
pub(super) enum ObuType {
    SequenceHeader = 1,
    TemporalDelimiter = 2,
    FrameHeader = 3,
    Frame = 6,
}

impl ObuType {
    /// `obu_header()` without extension, with a size field.
    pub(super) fn header(self) -> u8 {
        let has_size_field = 0b10;
        ((self as u8) << 3) | has_size_field
    }
}

/// Appends a temporal delimiter: what follows is a new temporal unit.
pub(super) fn temporal_delimiter(out: &mut Vec<u8>) {
    out.extend([ObuType::TemporalDelimiter.header(), 0]);
}

/// Appends a frame header that shows the frame of a slot (5.9.2, `show_existing_frame`).
pub(super) fn show_existing_frame(out: &mut Vec<u8>, slot: usize) {
    out.extend([ObuType::FrameHeader.header(), 1]);
    let mut w = BitWriter::new(out);
    let show_existing_frame = true;
    w.flag(show_existing_frame);
    w.bits(3, slot as u64);
    w.trailing();
}
