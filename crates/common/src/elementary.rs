// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tells the codec of a stream of start codes, by what is behind them.

/// A codec whose streams begin with start codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elementary {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    Hevc,
    /// ISO/IEC 11172-2.
    Mpeg1,
    /// ITU-T H.262.
    Mpeg2,
}

/// Bytes of a stream that [`Elementary::of`] looks at: the units before the parameter sets are small.
pub const HEAD: usize = 1 << 16;

/// `sequence_header_code` and `extension_start_code` (H.262, table 6-1).
const SEQUENCE_HEADER: u8 = 0xb3;
const EXTENSION: u8 = 0xb5;

impl Elementary {
    /// Returns the codec of a stream that begins with `head`; `None` if it is not told there.
    ///
    /// H.264 and H.265 have the same start codes and NAL unit headers of one and two bytes. Neither can have
    /// a slice before its parameter sets, and no header of a parameter set of one is one of the other: the
    /// first decides. The start code of MPEG's sequence header is none of theirs, since its first bit is set,
    /// but those of slices could be.
    pub fn of(head: &[u8]) -> Option<Self> {
        let head = &head[..head.len().min(HEAD)];
        let mut sequences = units(head).skip_while(|unit| unit.first() != Some(&SEQUENCE_HEADER));
        if sequences.next().is_some() {
            let extended = sequences
                .next()
                .is_some_and(|unit| unit.first() == Some(&EXTENSION));
            return Some(if extended { Self::Mpeg2 } else { Self::Mpeg1 });
        }
        units(head).find_map(|unit| match unit {
            _ if is_h264_sps(unit) => Some(Self::H264),
            _ if is_hevc_set(unit) => Some(Self::Hevc),
            _ => None,
        })
    }

    /// Returns its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::Hevc => "HEVC",
            Self::Mpeg1 => "MPEG-1",
            Self::Mpeg2 => "MPEG-2",
        }
    }
}

/// Returns true for a sequence parameter set of H.264 (7.3.1, 7.3.2.1.1): `nal_unit_type` 7, a `nal_ref_idc`
/// above 0 (7.4.1), and the two bits 0 that follow the profile's constraints.
fn is_h264_sps(unit: &[u8]) -> bool {
    let [header, _profile, constraints, ..] = *unit else {
        return false;
    };
    let (forbidden_zero_bit, nal_ref_idc, nal_unit_type) = (header >> 7, (header >> 5) & 3, header & 0x1f);
    forbidden_zero_bit == 0 && nal_ref_idc > 0 && nal_unit_type == 7 && constraints & 3 == 0
}

/// Returns true for a video or sequence parameter set of H.265 (7.3.1.2): `nal_unit_type` 32 or 33 in the
/// base layer, whose `TemporalId` is 0 (7.4.2.2).
fn is_hevc_set(unit: &[u8]) -> bool {
    let [first, second, ..] = *unit else {
        return false;
    };
    let (forbidden_zero_bit, nal_unit_type) = (first >> 7, (first >> 1) & 0x3f);
    let (nuh_layer_id, nuh_temporal_id_plus1) = (((first & 1) << 5) | (second >> 3), second & 7);
    forbidden_zero_bit == 0
        && matches!(nal_unit_type, 32 | 33)
        && nuh_layer_id == 0
        && nuh_temporal_id_plus1 == 1
}

/// Returns what follows each start code, up to the next.
fn units(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let start = |bytes: &[u8]| bytes.windows(3).position(|window| window == [0, 0, 1]);
    let mut rest = start(bytes).map(|at| &bytes[at + 3..]);
    std::iter::from_fn(move || {
        let unit = rest?;
        let end = start(unit);
        rest = end.map(|end| &unit[end + 3..]);
        Some(&unit[..end.unwrap_or(unit.len())])
    })
}

#[cfg(test)]
mod tests {
    use super::Elementary::{self, H264, Hevc, Mpeg1, Mpeg2};

    fn stream(units: &[&[u8]]) -> Vec<u8> {
        let unit = |unit: &&[u8]| [&[0, 0, 0, 1], *unit].concat();
        units.iter().flat_map(unit).collect()
    }

    #[test]
    fn parameter_sets_tell_h264_from_hevc() {
        let of = |units: &[&[u8]]| Elementary::of(&stream(units));
        // An access unit delimiter and supplemental information may come first.
        assert_eq!(of(&[&[0x09, 0xf0], &[0x06, 5], &[0x67, 100, 0, 30]]), Some(H264));
        assert_eq!(of(&[&[0x27, 66, 0xe0, 30]]), Some(H264));
        assert_eq!(of(&[&[0x46, 1, 0x50], &[0x40, 1, 12, 1]]), Some(Hevc));
        assert_eq!(of(&[&[0x4e, 1, 5], &[0x42, 1, 1, 1]]), Some(Hevc));
        // No parameter sets: slices of H.264, of H.265, and one of its second layer's.
        assert_eq!(of(&[&[0x65, 0x88, 0x84]]), None);
        assert_eq!(of(&[&[0x26, 1, 0xaf]]), None);
        assert_eq!(of(&[&[0x42, 9, 1, 1]]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn sequence_headers_are_of_mpeg() {
        let header = [0xb3, 0x16, 0, 0xf0, 0x13];
        assert_eq!(Elementary::of(&stream(&[&header, &[0xb5, 0x14]])), Some(Mpeg2));
        assert_eq!(Elementary::of(&stream(&[&header, &[0xb8, 0]])), Some(Mpeg1));
        // Slices of a picture before it, in rows 66 and 103.
        let slices: [&[u8]; 2] = [&[0x42, 1, 1, 1], &[0x67, 100, 0, 30]];
        let joined_late = [slices[0], slices[1], &header, &[0xb5, 0x14]];
        assert_eq!(Elementary::of(&stream(&joined_late)), Some(Mpeg2));
    }
}
