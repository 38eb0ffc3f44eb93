// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tile offsets of a client that counts them from the wrong place.
//!
//! FFmpeg puts the data of a frame's tile groups one after the other into the buffer, and with each group
//! counts the offsets of all tiles from the start of that one. With several groups only those of the last are
//! right in the end. Since the sizes are right, and so are the distances within a group, the layout can be
//! told from the entries; it is taken for FFmpeg's only if it accounts for every byte of the payload.

use daedalus_uapi::v4l2_controls::V4l2CtrlAv1TileGroupEntry;

/// The offsets as they should be, if the entries are FFmpeg's of several tile groups in a payload of `length`
/// bytes, with tile sizes coded in `size_bytes`; else `None`.
pub(super) fn corrected(
    entries: &[V4l2CtrlAv1TileGroupEntry],
    size_bytes: u8,
    length: usize,
) -> Option<Vec<V4l2CtrlAv1TileGroupEntry>> {
    let coded = u64::from(size_bytes);
    let end = |entry: &V4l2CtrlAv1TileGroupEntry| u64::from(entry.tile_offset) + u64::from(entry.tile_size);
    // Within a group the next tile's size lies between two tiles.
    let groups: Vec<_> = entries
        .chunk_by(|tile, next| end(tile) + coded == u64::from(next.tile_offset))
        .collect();
    if groups.len() < 2 {
        return None;
    }
    // What each group's offsets were counted from, and how long it is.
    let mut places = Vec::with_capacity(groups.len());
    for group in &groups {
        let (first, last) = (group.first()?, group.last()?);
        let before = if group.len() > 1 { coded } else { 0 };
        let base = u64::from(first.tile_offset).checked_sub(before)?;
        places.push((base, end(last) - base));
    }
    let total: u64 = places.iter().map(|(_, length)| length).sum();
    let last_length = places.last().map(|(_, length)| *length)?;
    let base = total - last_length;
    if total != length as u64 || places.iter().any(|(counted_from, _)| *counted_from != base) {
        return None;
    }
    let mut start = 0;
    let mut all = Vec::with_capacity(entries.len());
    for (group, (_, length)) in groups.iter().zip(&places) {
        for entry in *group {
            let tile_offset = u32::try_from(u64::from(entry.tile_offset) - base + start).ok()?;
            all.push(V4l2CtrlAv1TileGroupEntry {
                tile_offset,
                ..*entry
            });
        }
        start += length;
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(places: &[(u32, u32)]) -> Vec<V4l2CtrlAv1TileGroupEntry> {
        places
            .iter()
            .map(|&(tile_offset, tile_size)| V4l2CtrlAv1TileGroupEntry {
                tile_offset,
                tile_size,
                ..Default::default()
            })
            .collect()
    }

    fn offsets(entries: Option<Vec<V4l2CtrlAv1TileGroupEntry>>) -> Option<Vec<u32>> {
        entries.map(|all| all.iter().map(|entry| entry.tile_offset).collect())
    }

    #[test]
    fn offsets_of_the_last_group_place_the_others() {
        // Groups of 2, 1 and 2 tiles, sizes in 2 bytes: 2+10+2+20, 5, 2+7+2+8 bytes. All offsets count from
        // the third group's start, 39.
        let ffmpeg = entries(&[(41, 10), (53, 20), (39, 5), (41, 7), (50, 8)]);
        // The ends of two groups cannot be confused: 73 + 2 is not 39, nor is 44 + 2 the 41 that follows.
        assert_eq!(offsets(corrected(&ffmpeg, 2, 58)), Some(vec![2, 14, 34, 41, 50]));
        // A byte more, and it is something else.
        assert_eq!(corrected(&ffmpeg, 2, 59), None);
    }

    #[test]
    fn offsets_that_are_right_stay() {
        // One group; and two groups with a header between them, as GStreamer places them.
        assert_eq!(corrected(&entries(&[(1, 10), (12, 20)]), 1, 32), None);
        assert_eq!(corrected(&entries(&[(3, 10), (16, 20)]), 1, 36), None);
        assert_eq!(corrected(&entries(&[(0, 10)]), 1, 10), None);
        assert_eq!(corrected(&[], 1, 0), None);
    }
}
