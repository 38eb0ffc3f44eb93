// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Damage to the controls of AV1.

use daedalus_client::{CodedJob, Control};
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_AV1_SEQUENCE, V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
    V4l2Av1TileInfo, V4l2CtrlAv1Frame, V4l2CtrlAv1Sequence, V4l2CtrlAv1TileGroupEntry,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::codec::edit::{control, other_size, other_timestamp, past_end};
use crate::codec::row::DamageRow;
use crate::random::Random;

pub(super) const ROW: DamageRow = DamageRow {
    notices_truncation: true,
    offsets,
    timestamps,
    dimensions,
    reference_lists,
    tile_table,
};

fn edit_frame(job: &mut CodedJob, change: impl FnOnce(&mut V4l2CtrlAv1Frame)) {
    control(job, V4L2_CID_STATELESS_AV1_FRAME, change);
}

/// Returns the control with the places of the tiles.
fn tile_entries(job: &mut CodedJob) -> Option<&mut Control> {
    let id = V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY;
    job.controls.iter_mut().find(|control| control.id == id)
}

fn offsets(job: &mut CodedJob, random: &mut Random) {
    const SIZE: usize = size_of::<V4l2CtrlAv1TileGroupEntry>();
    let (past, in_size) = past_end(job, random);
    if let Some(tiles) = tile_entries(job) {
        let at = random.index(tiles.value.len() / SIZE) * SIZE;
        if let Ok(mut entry) = V4l2CtrlAv1TileGroupEntry::read_from_bytes(&tiles.value[at..at + SIZE]) {
            if in_size {
                entry.tile_size = past;
            } else {
                entry.tile_offset = past;
            }
            tiles.value[at..at + SIZE].copy_from_slice(entry.as_bytes());
        }
    }
}

fn timestamps(job: &mut CodedJob, random: &mut Random) {
    let own = job.timestamp;
    edit_frame(job, |frame| {
        for timestamp in &mut frame.reference_frame_ts {
            *timestamp = other_timestamp(own, random);
        }
    });
}

fn dimensions(job: &mut CodedJob, random: &mut Random) {
    let mut size = (0, 0);
    edit_frame(job, |frame| {
        let mut other = |value: u32| other_size(value, u16::MAX.into(), random);
        size = (
            other(frame.frame_width_minus_1),
            other(frame.frame_height_minus_1),
        );
        (frame.frame_width_minus_1, frame.frame_height_minus_1) = size;
        frame.upscaled_width = size.0 + 1;
    });
    if random.index(2) == 0 {
        let id = V4L2_CID_STATELESS_AV1_SEQUENCE;
        control(job, id, |sequence: &mut V4l2CtrlAv1Sequence| {
            sequence.max_frame_width_minus_1 = size.0 as u16;
            sequence.max_frame_height_minus_1 = size.1 as u16;
        });
    }
}

fn reference_lists(job: &mut CodedJob, random: &mut Random) {
    edit_frame(job, |frame| {
        for index in &mut frame.ref_frame_idx {
            *index = if random.index(4) == 0 {
                random.byte() as i8
            } else {
                random.index(8) as i8
            };
        }
        for hint in &mut frame.order_hints {
            *hint = random.index(256) as u32;
        }
        frame.primary_ref_frame = random.index(8) as u8;
        frame.refresh_frame_flags = random.byte();
    });
}

fn tile_table(job: &mut CodedJob, random: &mut Random) {
    edit_frame(job, |frame| damage_tile_info(&mut frame.tile_info, random));
    if let Some(tiles) = tile_entries(job) {
        match random.index(3) {
            0 => {
                let at = random.index(tiles.value.len());
                tiles.value[at] = random.byte();
            }
            1 => {
                let entry = tiles.value.clone();
                tiles.value.extend(entry);
            }
            _ => {}
        }
    }
}

fn damage_tile_info(info: &mut V4l2Av1TileInfo, random: &mut Random) {
    match random.index(4) {
        0 => info.tile_cols = random.byte(),
        1 => info.tile_rows = random.byte(),
        2 => info.context_update_tile_id = random.byte(),
        _ => {
            info.flags ^= 1;
            info.width_in_sbs_minus_1[0] = random.next() as u32;
            info.mi_col_starts[1] = random.next() as u32;
        }
    }
}
