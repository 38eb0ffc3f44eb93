// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What FFmpeg puts into a request.
//!
//! * H.264 (libavcodec/v4l2_request_h264.c): `SPS`, `PPS`, `SCALING_MATRIX`, `DECODE_PARAMS`, always all
//!   four; the matrix is flat where the stream has none, has two 8x8 lists, and the PPS says that it is there
//!   (`fill_pps`, `v4l2_request_h264_start_frame`). The DPB has the short-term references, latest first, then
//!   the long-term ones, without gaps, and no frames that stand for a gap in `frame_num` (`fill_dpb`).
//! * VP9 (v4l2_request_vp9.c): `FRAME` and `COMPRESSED_HDR`. The render size is not filled in
//!   (`fill_frame`). FFmpeg fills the second control with the probabilities that it has parsed; here it is
//!   zero, since the parsers of this crate leave the compressed header to the device, as the device does
//!   with the control.
//! * AV1 (v4l2_request_av1.c): `SEQUENCE`, `FRAME`, `TILE_GROUP_ENTRY`, and `FILM_GRAIN` if the device has
//!   it. OUTPUT holds tile data only: what follows the header of each tile group
//!   (`v4l2_request_av1_decode_slice`). With every tile group the offsets of *all* tiles are computed again,
//!   relative to that group: those of the groups before it are wrong then. `mi_col_starts` and
//!   `mi_row_starts` are in superblocks but for their last entries (`fill_frame`). A CDEF secondary strength
//!   is the code, 3 and not 4. A reference slot without a picture has the timestamp 0.

use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK, V4L2_CID_STATELESS_AV1_FILM_GRAIN,
    V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_AV1_SEQUENCE, V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
    V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_CID_STATELESS_H264_PPS,
    V4L2_CID_STATELESS_H264_SCALING_MATRIX, V4L2_CID_STATELESS_VP9_COMPRESSED_HDR,
    V4L2_CID_STATELESS_VP9_FRAME, V4L2_H264_DPB_ENTRY_FLAG_LONG_TERM, V4L2_H264_DPB_ENTRY_FLAG_VALID,
    V4L2_H264_PPS_FLAG_SCALING_MATRIX_PRESENT, V4l2CtrlAv1FilmGrain, V4l2CtrlAv1Frame, V4l2CtrlAv1Sequence,
    V4l2CtrlAv1TileGroupEntry, V4l2CtrlH264DecodeParams, V4l2CtrlH264Pps, V4l2CtrlH264ScalingMatrix,
    V4l2CtrlVp9CompressedHdr, V4l2CtrlVp9Frame, V4l2H264DpbEntry,
};

use crate::job::{CodedJob, Control, TemporalUnit};
use crate::personality::controls::{edit, rename_references};
use crate::personality::frames::Frames;

/// The controls and the payload of `job`'s request.
pub(super) fn of(job: &CodedJob, film_grain: bool, frames: &Frames) -> (Vec<Control>, Vec<u8>) {
    let mut controls = job.controls.clone();
    let mut payload = job.payload.clone();
    if job.control(V4L2_CID_STATELESS_H264_PPS).is_some() {
        h264(&mut controls);
    } else if job.control(V4L2_CID_STATELESS_VP9_FRAME).is_some() {
        edit(
            &mut controls,
            V4L2_CID_STATELESS_VP9_FRAME,
            |frame: &mut V4l2CtrlVp9Frame| {
                frame.render_width_minus_1 = 0;
                frame.render_height_minus_1 = 0;
            },
        );
        let id = V4L2_CID_STATELESS_VP9_COMPRESSED_HDR;
        controls.push(Control::new(id, &V4l2CtrlVp9CompressedHdr::default()));
    } else if let Some(unit) = &job.unit {
        let entries;
        (payload, entries) = tile_data(unit);
        av1(&mut controls, &entries, film_grain);
    }
    rename_references(&mut controls, 0, |picture| {
        frames.get(picture).map(|frame| frame.timestamp)
    });
    (controls, payload)
}

fn h264(controls: &mut Vec<Control>) {
    edit(
        controls,
        V4L2_CID_STATELESS_H264_PPS,
        |pps: &mut V4l2CtrlH264Pps| pps.flags |= V4L2_H264_PPS_FLAG_SCALING_MATRIX_PRESENT,
    );
    let id = V4L2_CID_STATELESS_H264_SCALING_MATRIX;
    if !controls.iter().any(|control| control.id == id) {
        let flat = V4l2CtrlH264ScalingMatrix {
            scaling_list_4x4: [[16; 16]; 6],
            scaling_list_8x8: [[16; 64]; 6],
        };
        let params = controls.len() - 1;
        controls.insert(params, Control::new(id, &flat));
    }
    edit(controls, id, |matrix: &mut V4l2CtrlH264ScalingMatrix| {
        for list in &mut matrix.scaling_list_8x8[2..] {
            *list = [0; 64];
        }
    });
    edit(
        controls,
        V4L2_CID_STATELESS_H264_DECODE_PARAMS,
        |params: &mut V4l2CtrlH264DecodeParams| {
            let all = params.dpb;
            let valid = |entry: &&V4l2H264DpbEntry| entry.flags & V4L2_H264_DPB_ENTRY_FLAG_VALID != 0;
            let long = |entry: &V4l2H264DpbEntry| entry.flags & V4L2_H264_DPB_ENTRY_FLAG_LONG_TERM != 0;
            let short_terms = all.iter().filter(valid).filter(|entry| !long(entry)).rev();
            let mut long_terms: Vec<_> = all.iter().filter(valid).filter(|entry| long(entry)).collect();
            long_terms.sort_by_key(|entry| entry.frame_num);
            let entries = short_terms.chain(long_terms);
            params.dpb = Default::default();
            for (entry, from) in params.dpb.iter_mut().zip(entries) {
                *entry = *from;
            }
        },
    );
}

/// The tiles' data, and the entries as they are after the last tile group.
fn tile_data(unit: &TemporalUnit) -> (Vec<u8>, Vec<V4l2CtrlAv1TileGroupEntry>) {
    let mut payload = Vec::new();
    let mut entries = Vec::new();
    let mut base = 0;
    for group in &unit.groups {
        base = payload.len() as u32;
        let start = group.data.start as u32;
        payload.extend(unit.bytes.get(group.data.clone()).unwrap_or_default());
        entries.extend(group.tiles.iter().map(|tile| V4l2CtrlAv1TileGroupEntry {
            tile_offset: tile.tile_offset - start,
            ..*tile
        }));
    }
    for entry in &mut entries {
        entry.tile_offset += base;
    }
    (payload, entries)
}

fn av1(controls: &mut Vec<Control>, entries: &[V4l2CtrlAv1TileGroupEntry], film_grain: bool) {
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
    use crate::job::TileGroup;

    #[test]
    fn offsets_of_earlier_tile_groups_are_wrong_as_they_are_in_ffmpeg() {
        let tile = |tile_offset, tile_size| V4l2CtrlAv1TileGroupEntry {
            tile_offset,
            tile_size,
            ..Default::default()
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
