// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tile offsets of a client that counts them from the wrong place.
//!
//! FFmpeg puts the data of a frame's tile groups one after the other into the buffer, and with each group
//! counts the offsets of all tiles from the start of that one. With several groups only those of the last are
//! right in the end. Since the sizes are right, and so are the distances within a group, the layout can be
//! told from the entries; it is taken for FFmpeg's only if it accounts for every byte of the payload.

use daedalus_uapi::v4l2_controls::V4l2CtrlAv1TileGroupEntry;

/// Returns the offsets as they should be, if the entries are FFmpeg's of several tile groups in a payload of
/// `length` bytes, with tile sizes coded in `size_bytes`; else `None`.
pub(super) fn corrected(
    entries: &[V4l2CtrlAv1TileGroupEntry],
    size_bytes: u8,
    length: usize,
) -> Option<Vec<V4l2CtrlAv1TileGroupEntry>> {
    let coded = u64::from(size_bytes);
    if coded == 0 {
        return None;
    }
    let groups = split(entries, coded);
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

/// Returns the end of a tile's data.
fn end(entry: &V4l2CtrlAv1TileGroupEntry) -> u64 {
    u64::from(entry.tile_offset) + u64::from(entry.tile_size)
}

/// Returns the tile groups, as far as their tiles follow each other: behind a tile comes the size of the next
/// one, `coded` bytes, or the last one itself, whose size is not coded.
fn split(entries: &[V4l2CtrlAv1TileGroupEntry], coded: u64) -> Vec<&[V4l2CtrlAv1TileGroupEntry]> {
    let mut groups = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let follows = |pair: &[V4l2CtrlAv1TileGroupEntry], distance: u64| {
            end(&pair[0]) + distance == u64::from(pair[1].tile_offset)
        };
        let mut pairs = rest.windows(2);
        let mut length = 1 + pairs.by_ref().take_while(|pair| follows(pair, coded)).count();
        if rest.get(length - 1..=length).is_some_and(|pair| follows(pair, 0)) {
            length += 1;
        }
        let (group, behind) = rest.split_at(length);
        groups.push(group);
        rest = behind;
    }
    groups
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
        // Groups of 3, 1 and 2 tiles, sizes in 2 bytes: 2 + 10 + 2 + 20 + 30, 5, and 2 + 7 + 8 bytes. All
        // offsets count from the third group's start, 69.
        let ffmpeg = entries(&[(71, 10), (83, 20), (103, 30), (69, 5), (71, 7), (78, 8)]);
        assert_eq!(
            offsets(corrected(&ffmpeg, 2, 86)),
            Some(vec![2, 14, 34, 64, 71, 78])
        );
        // A byte more, and it is something else.
        assert_eq!(corrected(&ffmpeg, 2, 87), None);
    }

    #[test]
    fn offsets_that_are_right_stay() {
        // One group; and two groups with a header between them, as GStreamer places them.
        assert_eq!(corrected(&entries(&[(1, 10), (11, 20)]), 1, 31), None);
        assert_eq!(
            corrected(&entries(&[(2, 10), (12, 5), (19, 20), (39, 5)]), 1, 44),
            None
        );
        assert_eq!(corrected(&entries(&[(0, 10)]), 1, 10), None);
        assert_eq!(corrected(&[], 1, 0), None);
    }
}
