// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Streams of open bitstream units (OBUs) without a container: the low-overhead format and the
//! length-delimited one (section 5.2 and annex B of their specification). Both come out as temporal units
//! whose OBUs carry their sizes.

use crate::bits::leb128;

/// `obu_type` of a temporal delimiter.
const TEMPORAL_DELIMITER: u8 = 2;
/// Bit of the OBU header: one more header byte follows.
const EXTENSION: u8 = 0x04;
/// Bit of the OBU header: the size follows the header.
const HAS_SIZE: u8 = 0x02;

fn write_leb128(mut value: usize, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Takes `leb128()` and as many bytes as it says from the front of `bytes`.
fn sized<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (size, length) = leb128(bytes)?;
    let contents = bytes.get(length..length.checked_add(size)?)?;
    *bytes = &bytes[length + size..];
    Some(contents)
}

/// Returns the type of the OBU that begins with `header`; `None` if it cannot begin one.
fn obu_type(header: u8) -> Option<u8> {
    (header & 0x81 == 0).then_some((header >> 3) & 0xf)
}

/// Returns the temporal units of `bytes`, or `None` if it is no stream of OBUs or not a whole one.
pub(super) fn open(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    section5(bytes).or_else(|| annexb(bytes))
}

/// Returns whether `bytes` is the beginning of a stream of OBUs: both formats begin with an empty temporal
/// delimiter.
pub(super) fn begins(bytes: &[u8]) -> bool {
    let delimits = |header: u8| obu_type(header) == Some(TEMPORAL_DELIMITER);
    let low_overhead = || matches!(*bytes, [header, 0, ..] if header & HAS_SIZE != 0 && delimits(header));
    // Sizes of the temporal unit, of its first frame unit, and of the OBU.
    let delimited = || {
        let mut rest = bytes;
        let mut size = || {
            let (size, length) = leb128(rest)?;
            rest = &rest[length..];
            Some(size)
        };
        let (unit, frame, obu) = (size()?, size()?, size()?);
        // It has a header, which may have an extension and a size.
        let sizes = unit > frame && frame > obu && (1..=3).contains(&obu);
        rest.first().map(|&header| sizes && delimits(header))
    };
    low_overhead() || delimited() == Some(true)
}

fn section5(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    let mut rest = bytes;
    while let [header, ..] = *rest {
        let start = rest;
        if obu_type(header)? == TEMPORAL_DELIMITER {
            units.push(Vec::new());
        }
        if header & HAS_SIZE == 0 {
            return None;
        }
        rest = rest.get(1 + usize::from(header & EXTENSION != 0)..)?;
        sized(&mut rest)?;
        units.last_mut()?.extend(&start[..start.len() - rest.len()]);
    }
    (!units.is_empty()).then_some(units)
}

fn annexb(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut units = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let mut temporal_unit = sized(&mut rest)?;
        let mut unit = Vec::new();
        while !temporal_unit.is_empty() {
            let mut frame_unit = sized(&mut temporal_unit)?;
            while !frame_unit.is_empty() {
                let obu = sized(&mut frame_unit)?;
                let header = *obu.first()?;
                let kind = obu_type(header)?;
                if unit.is_empty() && kind != TEMPORAL_DELIMITER {
                    return None;
                }
                if header & HAS_SIZE != 0 {
                    unit.extend(obu);
                    continue;
                }
                let headers = 1 + usize::from(header & EXTENSION != 0);
                unit.push(header | HAS_SIZE);
                unit.extend(obu.get(1..headers)?);
                write_leb128(obu.len() - headers, &mut unit);
                unit.extend(&obu[headers..]);
            }
        }
        units.push(unit);
    }
    (!units.is_empty()).then_some(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_give_the_same_units() {
        let low_overhead = [0x12, 0, 0x0a, 2, 7, 8, 0x12, 0, 0x32, 1, 9];
        let delimited = [7, 6, 1, 0x10, 3, 0x08, 7, 8, 6, 5, 1, 0x10, 2, 0x30, 9];
        let units = open(&low_overhead).unwrap();
        assert_eq!(units, [low_overhead[..6].to_vec(), low_overhead[6..].to_vec()]);
        assert_eq!(open(&delimited).unwrap(), units);
    }

    #[test]
    fn other_data_is_no_stream() {
        assert_eq!(open(b""), None);
        assert_eq!(open(b"RIFF....AVI LIST"), None);
        assert_eq!(open(&[0x12, 0, 0x0a, 2, 7]), None);
    }
}
