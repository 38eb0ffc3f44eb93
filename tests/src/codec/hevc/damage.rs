// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Damage to the controls of HEVC.

use daedalus_client::CodedJob;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, V4L2_CID_STATELESS_HEVC_PPS, V4L2_CID_STATELESS_HEVC_SPS,
    V4l2CtrlHevcDecodeParams, V4l2CtrlHevcPps, V4l2CtrlHevcSps,
};

use crate::codec::edit::{control, other_size, other_timestamp, past_end};
use crate::codec::row::DamageRow;
use crate::random::Random;

pub(super) const ROW: DamageRow = DamageRow {
    // Without wavefronts, libavcodec decodes zeros where the data of a slice segment ends.
    notices_truncation: false,
    offsets,
    timestamps,
    dimensions,
    reference_lists,
    tile_table,
};

fn edit_params(job: &mut CodedJob, change: impl FnOnce(&mut V4l2CtrlHevcDecodeParams)) {
    control(job, V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, change);
}

fn edit_pps(job: &mut CodedJob, change: impl FnOnce(&mut V4l2CtrlHevcPps)) {
    control(job, V4L2_CID_STATELESS_HEVC_PPS, change);
}

fn offsets(job: &mut CodedJob, random: &mut Random) {
    let (past, _) = past_end(job, random);
    edit_params(job, |params| {
        params.short_term_ref_pic_set_size = past as u16;
        params.long_term_ref_pic_set_size = past as u16;
        params.num_delta_pocs_of_ref_rps_idx = past as u8;
    });
}

fn timestamps(job: &mut CodedJob, random: &mut Random) {
    let own = job.timestamp;
    edit_params(job, |params| {
        for entry in &mut params.dpb {
            entry.timestamp = other_timestamp(own, random);
        }
    });
}

fn dimensions(job: &mut CodedJob, random: &mut Random) {
    let mut other = |value: u16| other_size(value.into(), u16::MAX.into(), random) as u16;
    control(job, V4L2_CID_STATELESS_HEVC_SPS, |sps: &mut V4l2CtrlHevcSps| {
        sps.pic_width_in_luma_samples = other(sps.pic_width_in_luma_samples);
        sps.pic_height_in_luma_samples = other(sps.pic_height_in_luma_samples);
    });
}

fn reference_lists(job: &mut CodedJob, random: &mut Random) {
    edit_params(job, |params| {
        for entry in &mut params.dpb {
            entry.pic_order_cnt_val = random.next() as i32;
            entry.flags = random.byte();
        }
        let lists = [
            &mut params.poc_st_curr_before,
            &mut params.poc_st_curr_after,
            &mut params.poc_lt_curr,
        ];
        for index in lists.into_iter().flatten() {
            *index = random.byte();
        }
        params.num_active_dpb_entries = random.index(20) as u8;
        params.num_poc_st_curr_before = random.index(20) as u8;
        params.num_poc_st_curr_after = random.index(20) as u8;
        params.num_poc_lt_curr = random.index(20) as u8;
    });
    edit_pps(job, |pps| {
        pps.num_ref_idx_l0_default_active_minus1 = random.index(16) as u8;
        pps.num_ref_idx_l1_default_active_minus1 = random.index(16) as u8;
    });
}

/// Changes tiles and slices.
fn tile_table(job: &mut CodedJob, random: &mut Random) {
    edit_pps(job, |pps| {
        pps.num_tile_columns_minus1 = random.byte();
        pps.num_tile_rows_minus1 = random.byte();
        for size in pps
            .column_width_minus1
            .iter_mut()
            .chain(&mut pps.row_height_minus1)
        {
            *size = random.byte();
        }
        pps.num_extra_slice_header_bits = random.byte();
        pps.flags ^= random.next() & 0x1f_ffff;
    });
}
