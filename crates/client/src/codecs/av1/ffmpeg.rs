// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FFmpeg's hwaccel for AV1 (libavcodec/v4l2_request_av1.c).
//!
//! * The presence of `AV1_FILM_GRAIN` is asked for (`v4l2_request_av1_post_frames_ctx`).
//! * A request has `SEQUENCE`, `FRAME`, `TILE_GROUP_ENTRY`, and `FILM_GRAIN` if the device has it. OUTPUT
//!   holds tile data only: the bytes behind the header of each tile group (`v4l2_request_av1_decode_slice`).
//!   With every tile group the offsets of *all* tiles are computed again, relative to that group: those of
//!   the groups before it are wrong then. `mi_col_starts` and `mi_row_starts` are in superblocks but for
//!   their last entries (`fill_frame`). A CDEF secondary strength is the code, 3 and not 4. A reference slot
//!   without a picture has the timestamp 0.

use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK, V4L2_CID_STATELESS_AV1_FILM_GRAIN,
    V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_AV1_SEQUENCE, V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
    V4l2CtrlAv1FilmGrain, V4l2CtrlAv1Frame, V4l2CtrlAv1Sequence, V4l2CtrlAv1TileGroupEntry,
};

use super::controls::entry;
use crate::coded::{CodedJob, Control, TemporalUnit, Tile};
use crate::device::{ClientError, Device};
use crate::personality::controls::edit;
use crate::personality::hwaccel::Hwaccel;

/// The hwaccel.
pub(crate) struct Av1;

impl Hwaccel for Av1 {
    fn prepare(&self, device: &Device) -> Result<bool, ClientError> {
        Ok(device.query_control(V4L2_CID_STATELESS_AV1_FILM_GRAIN).is_ok())
    }

    fn request(&self, job: &CodedJob, film_grain: bool) -> (Vec<Control>, Vec<u8>) {
        let mut controls = job.controls.clone();
        let Some(unit) = &job.unit else {
            return (controls, job.payload.clone());
        };
        let (payload, entries) = tile_data(unit);
        fill(&mut controls, &entries, film_grain);
        (controls, payload)
    }
}

/// Returns the tiles' data, and the entries as they are after the last tile group.
fn tile_data(unit: &TemporalUnit) -> (Vec<u8>, Vec<V4l2CtrlAv1TileGroupEntry>) {
    let mut payload = Vec::new();
    let mut entries = Vec::new();
    let mut base = 0;
    for group in &unit.groups {
        base = payload.len() as u32;
        let start = group.data.start as u32;
        payload.extend(unit.bytes.get(group.data.clone()).unwrap_or_default());
        entries.extend(group.tiles.iter().map(|tile| {
            entry(&Tile {
                offset: tile.offset - start,
                ..*tile
            })
        }));
    }
    for entry in &mut entries {
        entry.tile_offset += base;
    }
    (payload, entries)
}

fn fill(controls: &mut Vec<Control>, entries: &[V4l2CtrlAv1TileGroupEntry], film_grain: bool) {
    let sequence = controls
        .iter()
        .find(|control| control.id == V4L2_CID_STATELESS_AV1_SEQUENCE)
        .and_then(Control::get::<V4l2CtrlAv1Sequence>)
        .unwrap_or_default();
    let large = sequence.flags & V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK != 0;
    let shift = if large { 5 } else { 4 };
    edit(
        controls,
        V4L2_CID_STATELESS_AV1_FRAME,
        |frame: &mut V4l2CtrlAv1Frame| {
            let info = &mut frame.tile_info;
            let (cols, rows) = (usize::from(info.tile_cols), usize::from(info.tile_rows));
            let starts = info.mi_col_starts[..cols]
                .iter_mut()
                .chain(&mut info.mi_row_starts[..rows]);
            for start in starts {
                *start >>= shift;
            }
            let cdef = &mut frame.cdef;
            for strength in cdef.y_sec_strength.iter_mut().chain(&mut cdef.uv_sec_strength) {
                if *strength == 4 {
                    *strength = 3;
                }
            }
        },
    );
    let id = V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY;
    if let Some(control) = controls.iter_mut().find(|control| control.id == id) {
        *control = Control::new(id, entries);
    }
    let id = V4L2_CID_STATELESS_AV1_FILM_GRAIN;
    if !film_grain {
        controls.retain(|control| control.id != id);
    } else if !controls.iter().any(|control| control.id == id) {
        controls.push(Control::new(id, &V4l2CtrlAv1FilmGrain::default()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::coded::TileGroup;

    #[test]
    fn offsets_of_earlier_tile_groups_are_wrong_as_they_are_in_ffmpeg() {
        let tile = |offset, size| Tile {
            offset,
            size,
            row: 0,
            column: 0,
        };
        let one = TileGroup {
            data: 3..8,
            tiles: vec![tile(4, 1), tile(5, 3)],
        };
        let two = TileGroup {
            data: 10..12,
            tiles: vec![tile(10, 2)],
        };
        let unit = |groups| TemporalUnit {
            bytes: Arc::from((0..12).collect::<Vec<u8>>()),
            groups,
            operating_point: 0,
        };
        let offsets = |entries: Vec<V4l2CtrlAv1TileGroupEntry>| {
            entries.iter().map(|entry| entry.tile_offset).collect::<Vec<_>>()
        };
        let (payload, entries) = tile_data(&unit(vec![one.clone()]));
        assert_eq!(payload, [3, 4, 5, 6, 7]);
        assert_eq!(offsets(entries), [1, 2]);
        let (payload, entries) = tile_data(&unit(vec![one, two]));
        assert_eq!(payload, [3, 4, 5, 6, 7, 10, 11]);
        assert_eq!(offsets(entries), [6, 7, 5]);
    }
}
