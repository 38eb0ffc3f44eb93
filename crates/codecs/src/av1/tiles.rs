// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tile layout (5.9.15) and tile group (5.11.1).

use daedalus_uapi::v4l2_controls::*;

use super::error::Av1Error;
use super::sequence::SequenceInfo;
use super::size::Size;
use crate::bits::BitWriter;

/// Most superblock rows or columns of a tile layout that the control can hold.
const MAX_SPANS: usize = 64;
/// `MAX_TILE_WIDTH`, in luma samples.
const MAX_TILE_WIDTH: u32 = 4096;
/// `MAX_TILE_AREA`, in luma samples.
const MAX_TILE_AREA: u32 = 4096 * 2304;

/// `tile_log2` (5.9.16): the smallest `k` with `block << k` at least `target`.
fn tile_log2(block: u32, target: u32) -> u32 {
    let mut k = 0;
    while u64::from(block) << k < u64::from(target) {
        k += 1;
    }
    k
}

/// The coding of columns or rows.
#[derive(Clone, Copy, Debug)]
enum Spacing {
    /// `TileColsLog2` or `TileRowsLog2`, and the range in which the syntax codes it.
    Uniform { log2: u32, min: u32, max: u32 },
    /// Sizes in superblocks, and the largest size of one.
    Explicit {
        sizes: [u16; MAX_SPANS],
        count: usize,
        max: u32,
    },
}

impl Spacing {
    /// Returns the uniform spacing of `superblocks` that has `count` parts, if there is one.
    ///
    /// No two uniform spacings have the same number of parts, as long as that is at most 64.
    fn uniform(superblocks: u32, count: u8, min: u32, max: u32) -> Option<Self> {
        let max = max.max(min);
        (min..=max)
            .find(|&log2| superblocks.div_ceil(superblocks.div_ceil(1 << log2)) == u32::from(count))
            .map(|log2| Self::Uniform { log2, min, max })
    }

    /// The sizes that the control gives, as sizes or as start positions, without their limit.
    fn explicit(
        superblocks: u32,
        count: u8,
        minus_1: &[u32; MAX_SPANS],
        mi_starts: &[u32; MAX_SPANS + 1],
        mi_shift: u32,
    ) -> Option<([u16; MAX_SPANS], usize)> {
        let count = usize::from(count);
        if !(1..=MAX_SPANS).contains(&count) {
            return None;
        }
        // A frame has at most 1024 superblocks in either direction.
        let fits = |sizes: &[u16; MAX_SPANS]| sizes.iter().map(|&s| u32::from(s)).sum::<u32>() == superblocks;
        let mut sizes = [0; MAX_SPANS];
        for (size, minus_1) in sizes.iter_mut().zip(minus_1).take(count) {
            *size = u16::try_from(*minus_1).unwrap_or(u16::MAX).saturating_add(1);
        }
        if !fits(&sizes) {
            let start = |i: usize| {
                if i == count {
                    superblocks
                } else {
                    mi_starts[i] >> mi_shift
                }
            };
            sizes = [0; MAX_SPANS];
            for (i, size) in sizes.iter_mut().enumerate().take(count) {
                let span = start(i + 1).checked_sub(start(i)).filter(|&s| s > 0)?;
                *size = u16::try_from(span).ok()?;
            }
            fits(&sizes).then_some(())?;
        }
        Some((sizes, count))
    }

    /// `TileColsLog2` or `TileRowsLog2`.
    fn log2(&self) -> u32 {
        match self {
            Self::Uniform { log2, .. } => *log2,
            Self::Explicit { count, .. } => tile_log2(1, *count as u32),
        }
    }

    fn write(&self, w: &mut BitWriter<'_>) {
        match self {
            Self::Uniform { log2, min, max } => {
                for k in *min..*max {
                    let increment = k < *log2;
                    w.flag(increment);
                    if !increment {
                        break;
                    }
                }
            }
            Self::Explicit { sizes, count, max } => {
                let mut left: u32 = sizes.iter().map(|&s| u32::from(s)).sum();
                for &size in &sizes[..*count] {
                    w.ns(left.min(*max), u32::from(size) - 1);
                    left -= u32::from(size);
                }
            }
        }
    }
}

/// The tile layout of a frame, found in what the control says of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileLayout {
    columns: Spacing,
    rows: Spacing,
    context_update_tile_id: u8,
}

impl TileLayout {
    pub(super) fn new(
        sequence: &SequenceInfo,
        size: &Size,
        control: &V4l2Av1TileInfo,
    ) -> Result<Self, Av1Error> {
        let big = sequence.flag(V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK);
        let mi_shift = if big { 5 } else { 4 };
        let sample_shift = mi_shift + 2;
        // MiCols and MiRows are even numbers of 4x4 blocks: rounding up to 8 samples first, as 5.9.9
        // does, gives the same number of superblocks.
        let superblock = 1 << sample_shift;
        let (columns, rows) = (
            size.coded_width().div_ceil(superblock),
            size.height.div_ceil(superblock),
        );
        let max_width = MAX_TILE_WIDTH >> sample_shift;
        let max_area = MAX_TILE_AREA >> (2 * sample_shift);
        let min_log2_columns = tile_log2(max_width, columns);
        let max_log2_columns = tile_log2(1, columns.min(V4L2_AV1_MAX_TILE_COLS as u32));
        let max_log2_rows = tile_log2(1, rows.min(V4L2_AV1_MAX_TILE_ROWS as u32));
        let min_log2_tiles = min_log2_columns.max(tile_log2(max_area, rows * columns));

        let uniform = || {
            if control.flags & V4L2_AV1_TILE_INFO_FLAG_UNIFORM_TILE_SPACING == 0 {
                return None;
            }
            let columns = Spacing::uniform(columns, control.tile_cols, min_log2_columns, max_log2_columns)?;
            let min_log2_rows = min_log2_tiles.saturating_sub(columns.log2());
            Some((
                columns,
                Spacing::uniform(rows, control.tile_rows, min_log2_rows, max_log2_rows)?,
            ))
        };
        let explicit = || {
            let (widths, count) = Spacing::explicit(
                columns,
                control.tile_cols,
                &control.width_in_sbs_minus_1,
                &control.mi_col_starts,
                mi_shift,
            )?;
            let widest = widths
                .into_iter()
                .max()
                .map(u32::from)
                .filter(|&w| w <= max_width)?;
            let across = Spacing::Explicit {
                sizes: widths,
                count,
                max: max_width,
            };
            let (heights, count) = Spacing::explicit(
                rows,
                control.tile_rows,
                &control.height_in_sbs_minus_1,
                &control.mi_row_starts,
                mi_shift,
            )?;
            let area = match min_log2_tiles {
                0 => rows * columns,
                log2 => (rows * columns) >> (log2 + 1),
            };
            let max_height = (area / widest).max(1);
            heights
                .into_iter()
                .all(|h| u32::from(h) <= max_height)
                .then_some(())?;
            Some((
                across,
                Spacing::Explicit {
                    sizes: heights,
                    count,
                    max: max_height,
                },
            ))
        };
        let (columns, rows) = uniform().or_else(explicit).ok_or(Av1Error::TileLayout {
            columns: control.tile_cols,
            rows: control.tile_rows,
        })?;

        let (id, count) = (
            control.context_update_tile_id,
            u32::from(control.tile_cols) * u32::from(control.tile_rows),
        );
        if u32::from(id) >= count {
            return Err(Av1Error::ContextTile { id, count });
        }
        Ok(Self {
            columns,
            rows,
            context_update_tile_id: id,
        })
    }

    /// `tile_info()`.
    pub(super) fn write(&self, w: &mut BitWriter<'_>, tile_size_bytes: usize) {
        let uniform_tile_spacing = matches!(self.columns, Spacing::Uniform { .. });
        w.flag(uniform_tile_spacing);
        self.columns.write(w);
        self.rows.write(w);
        let log2 = self.columns.log2() + self.rows.log2();
        if log2 > 0 {
            w.bits(log2, self.context_update_tile_id.into());
            w.bits(2, tile_size_bytes as u64 - 1);
        }
    }
}

/// `TileSizeBytes` that can code a tile of `largest` bytes: 1 to 4.
pub(super) fn size_bytes(largest: usize) -> usize {
    let minus_1 = largest.saturating_sub(1);
    (1..4).find(|&bytes| minus_1 >> (8 * bytes) == 0).unwrap_or(4)
}

/// The tile group's own header: one group with all `tiles` of the frame. Follows on a byte boundary.
pub(super) fn write_group_header(w: &mut BitWriter<'_>, tiles: usize) {
    if tiles > 1 {
        let tile_start_and_end_present = false;
        w.flag(tile_start_and_end_present);
        w.align();
    }
}

/// The place of each tile of a frame in the payload, in coding order: rows of tiles, left to right.
///
/// Within the payload's bounds, none empty, and together no longer than it: what is written of them is
/// bounded by what the client wrote.
#[derive(Debug, Default)]
pub(super) struct TileOrder {
    tiles: Vec<std::ops::Range<usize>>,
}

impl TileOrder {
    /// Orders the entries of a frame of `columns` by `rows` tiles. Returns the size of the largest tile
    /// whose size is coded, that is, of any but the last, in bytes.
    pub(super) fn arrange(
        &mut self,
        entries: &[V4l2CtrlAv1TileGroupEntry],
        payload: &[u8],
        columns: u32,
        rows: u32,
    ) -> Result<usize, Av1Error> {
        let expected = columns * rows;
        if entries.len() != expected as usize {
            return Err(Av1Error::TileCount {
                given: entries.len(),
                expected,
            });
        }
        self.tiles.clear();
        self.tiles.resize(entries.len(), 0..0);
        for entry in entries {
            let (row, column) = (entry.tile_row, entry.tile_col);
            let unexpected = Av1Error::TileEntry { row, column };
            if row >= rows || column >= columns || entry.tile_size == 0 {
                return Err(unexpected);
            }
            let tile = &mut self.tiles[(row * columns + column) as usize];
            if tile.end != 0 {
                return Err(unexpected);
            }
            let (offset, size) = (entry.tile_offset as usize, entry.tile_size as usize);
            *tile = offset
                .checked_add(size)
                .filter(|&end| end <= payload.len())
                .map(|end| offset..end)
                .ok_or(Av1Error::TileBounds {
                    row,
                    column,
                    offset: entry.tile_offset,
                    size: entry.tile_size,
                    payload: payload.len(),
                })?;
        }
        let total = self.tiles.iter().map(|tile| tile.len() as u64).sum();
        if total > payload.len() as u64 {
            let payload = payload.len();
            return Err(Av1Error::TileData { total, payload });
        }
        Ok(self
            .tiles
            .iter()
            .rev()
            .skip(1)
            .map(|t| t.len())
            .max()
            .unwrap_or(0))
    }

    /// Returns the number of tiles.
    pub(super) fn len(&self) -> usize {
        self.tiles.len()
    }

    /// Returns the size of what [`write`](Self::write) appends, in bytes.
    pub(super) fn coded_len(&self, tile_size_bytes: usize) -> usize {
        let sizes = self.tiles.len().saturating_sub(1) * tile_size_bytes;
        self.tiles.iter().map(|t| t.len()).sum::<usize>() + sizes
    }

    /// Appends the tiles, each but the last with its size before it.
    pub(super) fn write(&self, payload: &[u8], tile_size_bytes: usize, out: &mut Vec<u8>) {
        for (i, tile) in self.tiles.iter().enumerate() {
            if i + 1 < self.tiles.len() {
                let minus_1 = (tile.len() as u64 - 1).to_le_bytes();
                out.extend_from_slice(&minus_1[..tile_size_bytes]);
            }
            out.extend_from_slice(&payload[tile.clone()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Width and height of a frame, whether its superblocks are large, and its tiles.
    fn layout(width: u32, height: u32, big: bool, control: &V4l2Av1TileInfo) -> Result<TileLayout, Av1Error> {
        let sequence = SequenceInfo::new(&V4l2CtrlAv1Sequence {
            bit_depth: 8,
            flags: if big {
                V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK
            } else {
                0
            },
            ..Default::default()
        })?;
        let frame = V4l2CtrlAv1Frame {
            frame_width_minus_1: width - 1,
            frame_height_minus_1: height - 1,
            ..Default::default()
        };
        TileLayout::new(&sequence, &Size::new(&frame)?, control)
    }

    fn uniform(columns: u8, rows: u8) -> V4l2Av1TileInfo {
        let flags = V4L2_AV1_TILE_INFO_FLAG_UNIFORM_TILE_SPACING;
        V4l2Av1TileInfo {
            flags,
            tile_cols: columns,
            tile_rows: rows,
            ..Default::default()
        }
    }

    fn bits(layout: &TileLayout) -> String {
        let mut out = Vec::new();
        let mut w = BitWriter::new(&mut out);
        layout.write(&mut w, 1);
        w.align();
        let bit = |n: usize| out[n / 8] & (0x80 >> (n % 8)) != 0;
        (0..8 * out.len())
            .map(|n| if bit(n) { '1' } else { '0' })
            .collect()
    }

    #[test]
    fn uniform_layouts_are_known_by_their_counts() -> Result<(), Av1Error> {
        // 1920x1080 in superblocks of 64: 30 by 17. Columns and rows: no increment.
        assert_eq!(bits(&layout(1920, 1080, false, &uniform(1, 1))?), "10000000");
        // Two columns and four rows, context_update_tile_id 0 in 3 bits, TileSizeBytes 1: log2 of the
        // columns is 1 (bits 1 0), of the rows 2 (bits 1 1 0).
        assert_eq!(
            bits(&layout(1920, 1080, false, &uniform(2, 4))?),
            "1101100000000000"
        );
        // 17 superblocks in tiles of 3 make 6 rows, with log2 3.
        assert_eq!(bits(&layout(1920, 1080, false, &uniform(1, 6))?)[..6], *"101110");
        // 7680x4320 must have at least 2 columns and, by its area, 4 tiles: nothing is coded up to that.
        assert_eq!(bits(&layout(7680, 4320, false, &uniform(2, 2))?)[..3], *"100");
        assert_eq!(
            layout(7680, 4320, false, &uniform(2, 1)).err(),
            Some(Av1Error::TileLayout { columns: 2, rows: 1 })
        );
        // No uniform layout has 29 columns of 30 superblocks, nor any at all none.
        assert!(layout(1920, 1080, false, &uniform(29, 1)).is_err());
        assert!(layout(1920, 1080, false, &uniform(0, 1)).is_err());
        Ok(())
    }

    #[test]
    fn explicit_layouts_are_found_in_sizes_or_starts() -> Result<(), Av1Error> {
        // 640x352 in superblocks of 64: 10 by 6. Columns of 3 and 7, rows of 1, 2 and 3.
        let by_size = |t: &mut V4l2Av1TileInfo| {
            t.width_in_sbs_minus_1[..2].copy_from_slice(&[2, 6]);
            t.height_in_sbs_minus_1[..3].copy_from_slice(&[0, 1, 2]);
        };
        let by_start = |t: &mut V4l2Av1TileInfo| {
            t.mi_col_starts[..3].copy_from_slice(&[0, 48, 160]);
            t.mi_row_starts[..4].copy_from_slice(&[0, 16, 48, 88]);
        };
        let in_superblocks = |t: &mut V4l2Av1TileInfo| {
            t.mi_col_starts[..3].copy_from_slice(&[0, 3, 160]);
            t.mi_row_starts[..4].copy_from_slice(&[0, 1, 3, 88]);
        };
        let none = V4l2Av1TileInfo {
            tile_cols: 2,
            tile_rows: 3,
            ..Default::default()
        };
        let with = |fill: &[&dyn Fn(&mut V4l2Av1TileInfo)]| {
            let mut control = none;
            fill.iter().for_each(|f| f(&mut control));
            layout(640, 352, false, &control).map(|l| bits(&l))
        };
        // ns(10) of 2, ns(7) of 6, ns(6) of 0, ns(5) of 1, ns(3) of 2; then the id and the size bytes.
        let expected = with(&[&by_size])?;
        assert_eq!(expected[..1 + 3 + 3 + 2 + 2 + 2], *"0010111000111");
        assert_eq!(with(&[&by_start])?, expected);
        assert_eq!(with(&[&by_size, &in_superblocks])?, expected);
        assert_eq!(with(&[]), Err(Av1Error::TileLayout { columns: 2, rows: 3 }));
        Ok(())
    }

    #[test]
    fn tiles_that_are_too_large_are_refused() {
        // 4160 samples wide: 65 superblocks of 64, of which a tile may have 64.
        let mut control = V4l2Av1TileInfo {
            tile_cols: 1,
            tile_rows: 1,
            ..Default::default()
        };
        control.width_in_sbs_minus_1[0] = 64;
        assert!(layout(4160, 64, false, &control).is_err());
        control.width_in_sbs_minus_1[0] = 63;
        assert!(layout(4096, 64, false, &control).is_ok());
        let id = V4l2Av1TileInfo {
            context_update_tile_id: 1,
            ..uniform(1, 1)
        };
        assert_eq!(
            layout(64, 64, true, &id).err(),
            Some(Av1Error::ContextTile { id: 1, count: 1 })
        );
    }

    #[test]
    fn tiles_share_no_data() {
        let entry = |tile_col, tile_offset, tile_size| V4l2CtrlAv1TileGroupEntry {
            tile_offset,
            tile_size,
            tile_row: 0,
            tile_col,
        };
        let payload = [0; 10];
        let arrange =
            |entries: &[_]| TileOrder::default().arrange(entries, &payload, entries.len() as u32, 1);
        assert_eq!(arrange(&[entry(0, 0, 4), entry(1, 4, 6)]), Ok(4));
        assert_eq!(arrange(&[entry(0, 6, 4), entry(1, 0, 6)]), Ok(4), "in any order");
        // Each within the payload, and together more than it: what is written would be as many times as long.
        let everything: Vec<_> = (0..64).map(|column| entry(column, 0, 10)).collect();
        assert_eq!(
            arrange(&everything),
            Err(Av1Error::TileData {
                total: 640,
                payload: 10
            })
        );
    }

    #[test]
    fn sizes_take_as_many_bytes_as_the_largest_needs() {
        assert_eq!(
            [0, 1, 256, 257, 65536, 65537, 1 << 24, (1 << 24) + 1].map(size_bytes),
            [1, 1, 1, 2, 2, 3, 3, 4]
        );
    }
}
