// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Errors of AV1 controls.

/// Why a frame cannot be written from its controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Av1Error {
    /// A value which the syntax element cannot have.
    #[error("{field} is {value}, which AV1 cannot code")]
    OutOfRange {
        /// The control's field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// A global motion parameter which is out of range or finer than its precision.
    #[error("global motion parameter {index} of reference {reference} is {value}, which AV1 cannot code")]
    GlobalMotion {
        /// Reference frame, 1 to 7.
        reference: usize,
        /// Index of the parameter.
        index: usize,
        /// Its value, with 16 fractional bits.
        value: i32,
    },
    /// The control describes no tile layout that the syntax allows.
    ///
    /// Uniform spacing is taken when the flag is set and a uniform layout has as many columns and rows
    /// as the control says; which layout that is, is then unique. Else the widths and heights in
    /// superblocks are taken when they add up to the frame, and last the start positions in units of
    /// 4x4 luma samples.
    #[error("{columns} by {rows} tiles: no such layout of the frame")]
    TileLayout {
        /// `tile_cols`.
        columns: u8,
        /// `tile_rows`.
        rows: u8,
    },
    /// `context_update_tile_id` names no tile.
    #[error("context_update_tile_id is {id}, of {count} tiles")]
    ContextTile {
        /// `context_update_tile_id`.
        id: u8,
        /// Number of tiles.
        count: u32,
    },
    /// A tile is given twice, is not in the layout or is empty.
    #[error("tile {row}, {column}: unexpected entry")]
    TileEntry {
        /// `tile_row`.
        row: u32,
        /// `tile_col`.
        column: u32,
    },
    /// A tile's data is not within the payload.
    #[error("tile {row}, {column}: bytes {offset}+{size} are not within a payload of {payload}")]
    TileBounds {
        /// `tile_row`.
        row: u32,
        /// `tile_col`.
        column: u32,
        /// `tile_offset`.
        offset: u32,
        /// `tile_size`.
        size: u32,
        /// Size of the payload, in bytes.
        payload: usize,
    },
    /// Tiles overlap: together they are longer than the payload.
    #[error("tiles of {total} bytes in a payload of {payload}")]
    TileData {
        /// Sum of the sizes, in bytes.
        total: u64,
        /// Size of the payload, in bytes.
        payload: usize,
    },
    /// Not every tile of the layout has an entry.
    #[error("{given} tile entries for {expected} tiles")]
    TileCount {
        /// Number of entries.
        given: usize,
        /// Number of tiles.
        expected: u32,
    },
}

/// `value`, if it is at most `max`.
pub(super) fn at_most(field: &'static str, value: impl Into<i64>, max: i64) -> Result<u64, Av1Error> {
    let value = value.into();
    match u64::try_from(value) {
        Ok(v) if value <= max => Ok(v),
        _ => Err(Av1Error::OutOfRange { field, value }),
    }
}
