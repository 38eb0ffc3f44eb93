// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Controls as imitated clients need them: tiles, and the size of a sequence.

use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_AV1_SEQUENCE, V4l2CtrlAv1Sequence, V4l2CtrlAv1TileGroupEntry,
};

use crate::coded::{CodedJob, Control, Tile};

/// Returns width and height of the pictures for which a client prepares a session: the largest that the
/// sequence has.
pub(crate) fn session_size(job: &CodedJob) -> (u32, u32) {
    job.control(V4L2_CID_STATELESS_AV1_SEQUENCE)
        .and_then(Control::get::<V4l2CtrlAv1Sequence>)
        .map_or((job.coded_width, job.coded_height), |sequence| {
            (
                u32::from(sequence.max_frame_width_minus_1) + 1,
                u32::from(sequence.max_frame_height_minus_1) + 1,
            )
        })
}

/// Returns a tile's entry in the control.
pub(super) fn entry(tile: &Tile) -> V4l2CtrlAv1TileGroupEntry {
    V4l2CtrlAv1TileGroupEntry {
        tile_offset: tile.offset,
        tile_size: tile.size,
        tile_row: tile.row,
        tile_col: tile.column,
    }
}
