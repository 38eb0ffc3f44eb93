// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Scaling lists (ITU-T H.265 7.3.4, 7.4.5).

use daedalus_uapi::v4l2_controls::V4l2CtrlHevcScalingMatrix;

use super::reader::{Reader, Wrong};

/// Table 7-6: blocks in intra prediction mode.
const INTRA: [u8; 64] = [
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 17, 16, 17, 16, 17, 18, 17, 18, 18, 17, 18, 21, 19, 20, 21, 20,
    19, 21, 24, 22, 22, 24, 24, 22, 22, 24, 25, 25, 27, 30, 27, 25, 25, 29, 31, 35, 35, 31, 29, 36, 41, 44,
    41, 36, 47, 54, 54, 47, 65, 70, 65, 88, 88, 115,
];
/// Table 7-6: blocks in inter prediction mode.
const INTER: [u8; 64] = [
    16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 17, 17, 17, 17, 17, 18, 18, 18, 18, 18, 18, 20, 20, 20, 20, 20,
    20, 20, 24, 24, 24, 24, 24, 24, 24, 24, 25, 25, 25, 25, 25, 25, 25, 28, 28, 28, 28, 28, 28, 33, 33, 33,
    33, 33, 41, 41, 41, 41, 54, 54, 54, 71, 71, 91,
];

/// A list in coded order, of 16 entries or 64, with the DC coefficient of larger blocks.
#[derive(Clone, Copy, Debug)]
struct List {
    entries: [u8; 64],
    dc: u8,
}

/// The lists by `sizeId` and `matrixId`.
#[derive(Clone, Debug)]
pub(super) struct Lists([[List; 6]; 4]);

fn default_list(size: usize, matrix: usize) -> List {
    let entries = match (size, matrix) {
        (0, _) => [16; 64],
        (_, 0..=2) => INTRA,
        _ => INTER,
    };
    List { entries, dc: 16 }
}

impl Default for Lists {
    /// Returns the lists of tables 7-5 and 7-6.
    fn default() -> Self {
        Self(std::array::from_fn(|size| {
            std::array::from_fn(|matrix| default_list(size, matrix))
        }))
    }
}

impl Lists {
    /// `scaling_list_data()`.
    pub(super) fn parse(r: &mut Reader) -> Result<Self, Wrong> {
        let mut lists = Self::default();
        for size in 0..4 {
            let step = if size == 3 { 3 } else { 1 };
            for matrix in (0..6).step_by(step) {
                let pred_mode = r.flag()?;
                lists.0[size][matrix] = if pred_mode {
                    explicit(r, size)?
                } else {
                    match r.ue()? as usize {
                        0 => default_list(size, matrix),
                        delta => {
                            let from = delta
                                .checked_mul(step)
                                .and_then(|delta| matrix.checked_sub(delta));
                            lists.0[size][from.ok_or("a scaling list refers to none")?]
                        }
                    }
                };
            }
        }
        Ok(lists)
    }

    /// Returns the control: the lists in raster order.
    pub(super) fn control(&self) -> V4l2CtrlHevcScalingMatrix {
        let [of_4x4, of_8x8, of_16x16, of_32x32] = &self.0;
        V4l2CtrlHevcScalingMatrix {
            scaling_list_4x4: of_4x4.map(|list| raster(&list, 4)),
            scaling_list_8x8: of_8x8.map(|list| raster(&list, 8)),
            scaling_list_16x16: of_16x16.map(|list| raster(&list, 8)),
            scaling_list_32x32: [of_32x32[0], of_32x32[3]].map(|list| raster(&list, 8)),
            scaling_list_dc_coef_16x16: of_16x16.map(|list| list.dc),
            scaling_list_dc_coef_32x32: [of_32x32[0].dc, of_32x32[3].dc],
        }
    }
}

fn explicit(r: &mut Reader, size: usize) -> Result<List, Wrong> {
    let mut list = List {
        entries: [0; 64],
        dc: 16,
    };
    let mut coefficient = 8;
    if size > 1 {
        coefficient = r.se()?.wrapping_add(8);
        list.dc = u8::try_from(coefficient).map_err(|_| "a DC coefficient is out of range")?;
    }
    let count = if size == 0 { 16 } else { 64 };
    for entry in &mut list.entries[..count] {
        coefficient = coefficient.wrapping_add(r.se()?).rem_euclid(256);
        *entry = coefficient as u8;
    }
    Ok(list)
}

/// Moves a list from up-right diagonal order (6.5.3) to raster order.
fn raster<const N: usize>(list: &List, side: usize) -> [u8; N] {
    let mut positions: Vec<(usize, usize)> = (0..side).flat_map(|y| (0..side).map(move |x| (x, y))).collect();
    positions.sort_by_key(|(x, y)| (x + y, *x));
    let mut raster = [0; N];
    for ((x, y), entry) in positions.into_iter().zip(list.entries) {
        raster[y * side + x] = entry;
    }
    raster
}
