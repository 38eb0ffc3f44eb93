// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NAL units in the byte stream format (7.3.1, annex B).

use std::ops::Range;

use crate::bits::BitWriter;
use crate::emulation;

/// `nal_unit_type` (table 7-1) of the units that the writers here make.
#[derive(Clone, Copy, Debug)]
pub(super) enum NalType {
    Vps = 32,
    Sps = 33,
    Pps = 34,
    AccessUnitDelimiter = 35,
    EndOfSequence = 36,
}

/// `CRA_NUT`.
pub(super) const CRA: u8 = 21;

/// Returns `nal_unit_type`.
pub(super) fn type_of(unit: &[u8]) -> u8 {
    unit.first().map_or(u8::MAX, |byte| (byte >> 1) & 0x3f)
}

/// Returns whether a unit is a slice segment of the base layer, of a type that is not reserved.
pub(super) fn is_segment(unit: &[u8]) -> bool {
    let layer = unit.get(1).map(|second| ((unit[0] & 1) << 5) | (second >> 3));
    layer == Some(0) && matches!(type_of(unit), 0..=9 | 16..=21)
}

/// Returns whether a type is that of an IRAP picture.
pub(super) fn is_irap(nal_type: u8) -> bool {
    matches!(nal_type, 16..=23)
}

/// Returns whether a type is that of an IDR picture.
pub(super) fn is_idr(nal_type: u8) -> bool {
    matches!(nal_type, 19 | 20)
}

/// Iterates the ranges of the units behind start codes, without the zero bytes behind a unit.
pub(super) fn units(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut next = start_code(bytes, 0);
    std::iter::from_fn(move || {
        let start = next? + 3;
        next = start_code(bytes, start);
        let end = next.unwrap_or(bytes.len());
        let zeros = bytes[start..end]
            .iter()
            .rev()
            .take_while(|byte| **byte == 0)
            .count();
        Some(start..end - zeros)
    })
}

/// Returns the place of the first `00 00 01` at or after `from`.
fn start_code(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 2;
    while at < bytes.len() {
        match bytes[at] {
            1 if bytes[at - 1] == 0 && bytes[at - 2] == 0 => return Some(at - 2),
            // The last byte of a start code is 1, the others are 0: after a larger one, none of the next two
            // positions can end it.
            0 | 1 => at += 1,
            _ => at += 3,
        }
    }
    None
}

/// Appends a NAL unit whose RBSP `payload` writes, without its trailing bits.
pub(super) fn write_nal(out: &mut Vec<u8>, nal_type: NalType, payload: impl FnOnce(&mut BitWriter<'_>)) {
    begin(out, nal_type);
    let rbsp = out.len();
    let mut w = BitWriter::new(out);
    payload(&mut w);
    w.trailing();
    emulation::prevent(out, rbsp);
}

/// Appends a start code and a NAL unit header: layer 0, `TemporalId` 0.
fn begin(out: &mut Vec<u8>, nal_type: NalType) {
    out.extend([0, 0, 0, 1, (nal_type as u8) << 1, 1]);
}

/// Appends an access unit delimiter that allows any slice type (7.3.2.5).
pub fn write_access_unit_delimiter(out: &mut Vec<u8>) {
    let any_slice_type = 2;
    write_nal(out, NalType::AccessUnitDelimiter, |w| w.bits(3, any_slice_type));
}

/// Appends an end of sequence NAL unit (7.3.2.6): the next picture is the first of a sequence.
pub(super) fn write_end_of_sequence(out: &mut Vec<u8>) {
    // Its RBSP is empty, without trailing bits.
    begin(out, NalType::EndOfSequence);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delimiters_are_those_of_the_specification() {
        let mut out = Vec::new();
        write_access_unit_delimiter(&mut out);
        write_end_of_sequence(&mut out);
        assert_eq!(out, [0, 0, 0, 1, 0x46, 1, 0x50, 0, 0, 0, 1, 0x48, 1]);
    }

    #[test]
    fn units_end_before_the_next_start_code() {
        let bytes = [9, 0, 0, 1, 2, 1, 0x80, 0, 0, 0, 1, 3, 0, 0, 3, 0, 0, 1];
        let found: Vec<&[u8]> = units(&bytes).map(|range| &bytes[range]).collect();
        assert_eq!(found, [&[2, 1, 0x80][..], &[3, 0, 0, 3], &[]]);
        assert_eq!(units(&[0, 0]).count(), 0);
    }

    #[test]
    fn only_segments_of_the_base_layer_count() {
        assert!(is_segment(&[0x26, 1]) && is_segment(&[0x02, 2]) && is_segment(&[0x12, 1]));
        assert!(!is_segment(&[0x26]) && !is_segment(&[]));
        // A second layer, a parameter set, reserved types.
        assert!(!is_segment(&[0x26, 9]) && !is_segment(&[0x27, 1]) && !is_segment(&[0x42, 1]));
        assert!(!is_segment(&[0x14, 1]) && !is_segment(&[0x2c, 1]));
    }
}
