// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `scaling_list_data()` (7.3.4).

use daedalus_uapi::v4l2_controls::V4l2CtrlHevcScalingMatrix;

use super::error::HevcError;
use crate::bits::BitWriter;

/// Raster position of each coefficient of a 4x4 block in up-right diagonal order (6.5.3).
const DIAGONAL_4X4: [u8; 16] = diagonal(4);

/// Raster position of each coefficient of an 8x8 block in up-right diagonal order.
const DIAGONAL_8X8: [u8; 64] = diagonal(8);

/// Walks the anti-diagonals of a square block, each from its lower left end.
const fn diagonal<const N: usize>(side: usize) -> [u8; N] {
    let mut order = [0; N];
    let (mut n, mut sum) = (0, 0);
    while sum < 2 * side - 1 {
        let mut x = 0;
        while x <= sum {
            let y = sum - x;
            if x < side && y < side {
                order[n] = (y * side + x) as u8;
                n += 1;
            }
            x += 1;
        }
        sum += 1;
    }
    order
}

/// Returns the lists to write: `None` if the client never sent any, which leaves those of the specification.
///
/// # Errors
/// [`HevcError::ScalingList`].
pub(super) fn in_force(
    matrix: Option<&V4l2CtrlHevcScalingMatrix>,
) -> Result<Option<&V4l2CtrlHevcScalingMatrix>, HevcError> {
    let sent = matrix.filter(|matrix| **matrix != V4l2CtrlHevcScalingMatrix::default());
    let complete = |matrix: &V4l2CtrlHevcScalingMatrix| {
        let (dc_16x16, dc_32x32) = (
            matrix.scaling_list_dc_coef_16x16,
            matrix.scaling_list_dc_coef_32x32,
        );
        !dc_16x16.contains(&0) && !dc_32x32.contains(&0)
    };
    match sent {
        Some(matrix) if !complete(matrix) => Err(HevcError::ScalingList),
        sent => Ok(sent),
    }
}

/// Writes every list explicitly. Those of 32x32 blocks have `matrixId` 0 and 3, of which the control has 0
/// and 1.
pub(super) fn scaling_list_data(w: &mut BitWriter<'_>, matrix: &V4l2CtrlHevcScalingMatrix) {
    for list in &matrix.scaling_list_4x4 {
        scaling_list(w, list, &DIAGONAL_4X4, None);
    }
    for list in &matrix.scaling_list_8x8 {
        scaling_list(w, list, &DIAGONAL_8X8, None);
    }
    let of_16x16 = matrix
        .scaling_list_16x16
        .iter()
        .zip(matrix.scaling_list_dc_coef_16x16);
    let of_32x32 = matrix
        .scaling_list_32x32
        .iter()
        .zip(matrix.scaling_list_dc_coef_32x32);
    for (list, dc) in of_16x16.chain(of_32x32) {
        scaling_list(w, list, &DIAGONAL_8X8, Some(dc));
    }
}

fn scaling_list(w: &mut BitWriter<'_>, list: &[u8], scan: &[u8], dc: Option<u8>) {
    let scaling_list_pred_mode = true;
    w.flag(scaling_list_pred_mode);
    if let Some(dc) = dc {
        w.se(i32::from(dc) - 8);
    }
    let mut last = dc.unwrap_or(8);
    for &position in scan {
        let coefficient = list[usize::from(position)];
        // scaling_list_delta_coef is −128 to 127, modulo 256.
        w.se(i32::from(coefficient.wrapping_sub(last) as i8));
        last = coefficient;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagonals_go_up_to_the_right() {
        assert_eq!(
            DIAGONAL_4X4,
            [0, 4, 1, 8, 5, 2, 12, 9, 6, 3, 13, 10, 7, 14, 11, 15]
        );
        assert_eq!(DIAGONAL_8X8[..6], [0, 8, 1, 16, 9, 2]);
        assert_eq!(DIAGONAL_8X8[60..], [47, 62, 55, 63]);
    }

    #[test]
    fn a_matrix_is_complete_or_was_never_sent() {
        let mut matrix = V4l2CtrlHevcScalingMatrix::default();
        assert_eq!(in_force(None), Ok(None));
        assert_eq!(in_force(Some(&matrix)), Ok(None));
        matrix.scaling_list_dc_coef_16x16 = [16; 6];
        assert_eq!(in_force(Some(&matrix)), Err(HevcError::ScalingList));
        matrix.scaling_list_dc_coef_32x32 = [16; 2];
        assert_eq!(in_force(Some(&matrix)), Ok(Some(&matrix)));
    }
}
