// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Damage to the controls of VP9.

use daedalus_client::CodedJob;
use daedalus_uapi::v4l2_controls::{V4L2_CID_STATELESS_VP9_FRAME, V4l2CtrlVp9Frame};

use crate::codec::edit::{control, other_size, other_timestamp, past_end};
use crate::codec::row::DamageRow;
use crate::random::Random;

pub(super) const ROW: DamageRow = DamageRow {
    // Nothing says how long the last tile is, and libavcodec takes zeros for up to ten superblocks more.
    notices_truncation: false,
    offsets,
    timestamps,
    dimensions,
    reference_lists,
    tile_table,
};

fn edit_frame(job: &mut CodedJob, change: impl FnOnce(&mut V4l2CtrlVp9Frame)) {
    control(job, V4L2_CID_STATELESS_VP9_FRAME, change);
}

fn offsets(job: &mut CodedJob, random: &mut Random) {
    let (past, _) = past_end(job, random);
    edit_frame(job, |frame| {
        frame.compressed_header_size = (past as u16).max(1);
        frame.uncompressed_header_size = (past as u16).max(1);
    });
}

fn timestamps(job: &mut CodedJob, random: &mut Random) {
    let own = job.timestamp;
    let mut other = || other_timestamp(own, random);
    edit_frame(job, |frame| {
        (frame.last_frame_ts, frame.golden_frame_ts, frame.alt_frame_ts) = (other(), other(), other());
    });
}

fn dimensions(job: &mut CodedJob, random: &mut Random) {
    let mut other = |value: u16| other_size(value.into(), u16::MAX.into(), random) as u16;
    edit_frame(job, |frame| {
        frame.frame_width_minus_1 = other(frame.frame_width_minus_1);
        frame.frame_height_minus_1 = other(frame.frame_height_minus_1);
    });
}

fn reference_lists(job: &mut CodedJob, random: &mut Random) {
    edit_frame(job, |frame| {
        frame.ref_frame_sign_bias = random.byte() & 7;
        frame.reset_frame_context = random.byte() % 3;
        frame.reference_mode = random.byte() % 3;
    });
}

fn tile_table(job: &mut CodedJob, random: &mut Random) {
    edit_frame(job, |frame| {
        frame.tile_cols_log2 = random.index(7) as u8;
        frame.tile_rows_log2 = random.index(3) as u8;
    });
}
