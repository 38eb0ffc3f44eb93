// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Damage to the control of VP8.

use daedalus_client::CodedJob;
use daedalus_uapi::v4l2_controls::{V4L2_CID_STATELESS_VP8_FRAME, V4l2CtrlVp8Frame};

use crate::codec::edit::{control, other_size, other_timestamp, past_end};
use crate::codec::row::DamageRow;
use crate::random::Random;

pub(super) const ROW: DamageRow = DamageRow {
    // The control says how long the last partition is.
    notices_truncation: true,
    offsets,
    timestamps,
    dimensions,
    reference_lists,
    tile_table,
};

fn edit_frame(job: &mut CodedJob, change: impl FnOnce(&mut V4l2CtrlVp8Frame)) {
    control(job, V4L2_CID_STATELESS_VP8_FRAME, change);
}

fn offsets(job: &mut CodedJob, random: &mut Random) {
    let (past, of_first) = past_end(job, random);
    edit_frame(job, |frame| {
        if of_first {
            frame.first_part_size = past;
            frame.first_part_header_bits = past;
        } else {
            frame.dct_part_sizes = [past; 8];
        }
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
        (frame.width, frame.height) = (other(frame.width), other(frame.height));
    });
}

fn reference_lists(job: &mut CodedJob, random: &mut Random) {
    edit_frame(job, |frame| {
        frame.flags = u64::from(random.byte() & 0x3f);
        let names = [frame.last_frame_ts, frame.golden_frame_ts, frame.alt_frame_ts];
        let mut draw = || names[random.index(names.len())];
        (frame.last_frame_ts, frame.golden_frame_ts, frame.alt_frame_ts) = (draw(), draw(), draw());
    });
}

fn tile_table(job: &mut CodedJob, random: &mut Random) {
    edit_frame(job, |frame| {
        frame.num_dct_parts = 1 << random.index(4);
        let at = random.index(frame.dct_part_sizes.len());
        frame.dct_part_sizes[at] = random.index(1 << 24) as u32;
    });
}
