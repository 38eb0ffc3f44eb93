// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds slices that are missing, and takes out of a payload what is no slice of the picture.

use crate::error::JobError;
use crate::fields::Structure;

/// `slice_start_code` (ITU-T H.262, table 6-1).
const SLICES: std::ops::RangeInclusive<u8> = 0x01..=0xaf;
/// `sequence_end_code`. FFmpeg takes the one behind the last picture of a sequence for a part of its slices.
const SEQUENCE_END: u8 = 0xb7;
/// Above this height, the first bits of a slice continue its row (6.3.16). libavcodec counts macroblocks.
const TALL: usize = 2800 / 16;
/// Lines of a row of macroblocks.
const ROW: usize = 16;
/// Least bytes of a slice behind its start code: libavcodec takes none that are shorter.
const LEAST: usize = 2;

/// The rows of macroblocks that a picture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    /// All.
    all: usize,
    /// Those that are visible: the others may be missing, as libavcodec has it.
    visible: usize,
    /// A slice's row has more than one byte.
    tall: bool,
}

impl Rows {
    /// Returns the number of rows in frames of `height` lines (6.3.3).
    pub(super) fn in_frame(height: usize, progressive: bool) -> usize {
        if progressive {
            height.div_ceil(ROW)
        } else {
            2 * height.div_ceil(2 * ROW)
        }
    }

    /// Returns the rows of a picture. `in_frame` is the number of rows in frames of its sequence.
    pub(super) fn of(height: usize, in_frame: usize, structure: Structure) -> Self {
        let tall = in_frame > TALL;
        match structure {
            Structure::Frame => Self {
                all: in_frame,
                visible: height.div_ceil(ROW),
                tall,
            },
            Structure::Field { bottom } => Self {
                all: in_frame / 2,
                visible: (height - usize::from(bottom && height > 0)).div_ceil(2 * ROW),
                tall,
            },
        }
    }

    /// Returns the row of the slice behind a start code (6.3.16); `None` if it is another start code.
    fn of_slice(&self, code: u8, payload: &[u8]) -> Option<usize> {
        let low = SLICES
            .contains(&code)
            .then(|| usize::from(code - SLICES.start()))?;
        let high = payload.first().filter(|_| self.tall);
        Some(high.map_or(0, |byte| usize::from(byte >> 5) << 7) + low)
    }
}

/// Checks the slices in `bytes` from `start` on, and removes everything else. Returns the damage that was
/// found, if any. The end of a sequence behind the slices is none.
///
/// # Errors
/// [`JobError::Payload`] if there is no slice.
pub(super) fn check(
    bytes: &mut Vec<u8>,
    start: usize,
    rows: &Rows,
) -> Result<Option<&'static str>, JobError> {
    let mut damage = None;
    let mut has_slice = vec![false; rows.all];
    let mut length = start;
    let first = next_start_code(bytes, start);
    let before = first.unwrap_or(bytes.len());
    if bytes[start..before].iter().any(|&byte| byte != 0) {
        damage = Some("bytes before the first slice");
    }
    let mut next = first;
    while let Some(at) = next {
        next = next_start_code(bytes, at + 3);
        let end = next.unwrap_or(bytes.len());
        let Some((code, payload)) = bytes[at + 3..end].split_first() else {
            damage = Some("a start code is cut off");
            continue;
        };
        if *code == SEQUENCE_END && next.is_none() && payload.iter().all(|&byte| byte == 0) {
            continue;
        }
        let row = rows.of_slice(*code, payload);
        damage = match row {
            None => Some("it is more than slices"),
            Some(row) if row >= rows.all => Some("a slice is below the picture"),
            Some(_) if payload.len() < LEAST => Some("a slice is cut off"),
            Some(row) => {
                has_slice[row] = true;
                bytes.copy_within(at..end, length);
                length += end - at;
                damage
            }
        };
    }
    bytes.truncate(length);
    if !has_slice.contains(&true) {
        return Err(JobError::Payload("no slice"));
    }
    let missing = has_slice.iter().take(rows.visible).any(|has_slice| !has_slice);
    Ok(damage.or(missing.then_some("a slice is missing")))
}

/// Returns the place of the first `00 00 01` at or after `from`.
fn next_start_code(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 2;
    while at < bytes.len() {
        match bytes[at] {
            1 if bytes[at - 1] == 0 && bytes[at - 2] == 0 => return Some(at - 2),
            // The third byte of a start code is 1, the others are 0: after a larger one, none of the next two
            // positions can end it.
            0 | 1 => at += 1,
            _ => at += 3,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Structure = Structure::Frame;
    const TOP: Structure = Structure::Field { bottom: false };
    const BOTTOM: Structure = Structure::Field { bottom: true };

    fn rows(height: usize, progressive: bool, structure: Structure) -> (usize, usize) {
        let rows = Rows::of(height, Rows::in_frame(height, progressive), structure);
        (rows.all, rows.visible)
    }

    #[test]
    fn the_last_row_may_be_invisible() {
        assert_eq!(rows(240, true, FRAME), (15, 15));
        assert_eq!(rows(240, false, FRAME), (16, 15));
        assert_eq!(rows(240, false, TOP), (8, 8));
        assert_eq!(rows(1080, false, FRAME), (68, 68));
        assert_eq!(rows(1080, false, BOTTOM), (34, 34));
        // One line below 32: it is the top field's.
        assert_eq!((rows(33, false, TOP), rows(33, false, BOTTOM)), ((2, 2), (2, 1)));
        assert_eq!(rows(0, false, BOTTOM), (0, 0));
    }

    /// Returns what is left of the slices, and the damage.
    fn checked(payload: &[u8], rows: &Rows) -> (Vec<u8>, Option<&'static str>) {
        let mut bytes = [&[7; 5][..], payload].concat();
        let damage = check(&mut bytes, 5, rows).expect("there is a slice");
        assert_eq!(bytes[..5], [7; 5]);
        (bytes.split_off(5), damage)
    }

    #[test]
    fn each_visible_row_has_a_slice() {
        let rows = Rows::of(48, 4, FRAME);
        let slice = |row: u8| [0, 0, 1, row, 0x12, 0x34];
        let all = [slice(1), slice(2), slice(2), slice(3), slice(4)].concat();
        assert_eq!(checked(&all, &rows), (all.clone(), None));
        // The fourth is below the 48 lines.
        assert_eq!(checked(&all[..24], &rows).1, None);
        let gap = [slice(1), slice(3), slice(4)].concat();
        assert_eq!(checked(&gap, &rows), (gap.clone(), Some("a slice is missing")));
    }

    #[test]
    fn what_is_no_slice_of_the_picture_is_left_out() {
        let rows = Rows::of(16, 1, FRAME);
        let slice = [0, 0, 1, 1, 0x12, 0x34];
        for (before, after, damage) in [
            (&[][..], &[][..], None),
            (&[0, 0][..], &[], None),
            (&[9], &[], Some("bytes before the first slice")),
            (&[0, 0, 1, 0xb3, 1, 2, 3, 4], &[], Some("it is more than slices")),
            (&[], &[0, 0, 1, 0, 1, 2, 3], Some("it is more than slices")),
            (&[], &[0, 0, 1, 2, 1, 2], Some("a slice is below the picture")),
            (&[], &[0, 0, 1, 1, 1], Some("a slice is cut off")),
            (&[], &[0, 0, 1], Some("a start code is cut off")),
            (&[], &[0, 0, 1, 0xb7], None),
            (&[], &[0, 0, 1, 0xb7, 0, 0], None),
            (&[], &[0, 0, 1, 0xb7, 5], Some("it is more than slices")),
            (&[0, 0, 1, 0xb7], &[], Some("it is more than slices")),
        ] {
            let payload = [before, &slice, after].concat();
            assert_eq!(
                checked(&payload, &rows),
                (slice.to_vec(), damage),
                "{payload:02x?}"
            );
        }
        for none in [&[][..], &[0, 0], &[1, 2, 3, 4], &[0, 0, 1, 0xb5, 1, 2, 3]] {
            assert!(check(&mut none.to_vec(), 0, &rows).is_err());
        }
    }

    #[test]
    fn rows_of_tall_pictures_have_three_more_bits() {
        let rows = Rows::of(4320, 270, FRAME);
        assert_eq!(rows.of_slice(1, &[0x1f]), Some(0));
        assert_eq!(rows.of_slice(2, &[0x5f]), Some(257));
        assert_eq!(Rows::of(2160, 135, FRAME).of_slice(2, &[0x5f]), Some(1));
    }
}
