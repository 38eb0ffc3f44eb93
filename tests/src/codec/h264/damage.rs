// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Damage to the controls of H.264.

use daedalus_client::CodedJob;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_CID_STATELESS_H264_PPS, V4L2_CID_STATELESS_H264_SLICE_PARAMS,
    V4L2_CID_STATELESS_H264_SPS, V4l2CtrlH264DecodeParams, V4l2CtrlH264Pps, V4l2CtrlH264SliceParams,
    V4l2CtrlH264Sps,
};

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

fn edit_params(job: &mut CodedJob, change: impl FnOnce(&mut V4l2CtrlH264DecodeParams)) {
    control(job, V4L2_CID_STATELESS_H264_DECODE_PARAMS, change);
}

fn edit_pps(job: &mut CodedJob, change: impl FnOnce(&mut V4l2CtrlH264Pps)) {
    control(job, V4L2_CID_STATELESS_H264_PPS, change);
}

fn edit_slice(job: &mut CodedJob, change: impl FnOnce(&mut V4l2CtrlH264SliceParams)) {
    control(job, V4L2_CID_STATELESS_H264_SLICE_PARAMS, change);
}

fn offsets(job: &mut CodedJob, random: &mut Random) {
    let (past, _) = past_end(job, random);
    edit_params(job, |params| {
        params.dec_ref_pic_marking_bit_size = past;
        params.pic_order_cnt_bit_size = past;
    });
    edit_slice(job, |slice| {
        slice.header_bit_size = past;
        slice.first_mb_in_slice = past;
    });
}

fn timestamps(job: &mut CodedJob, random: &mut Random) {
    let own = job.timestamp;
    edit_params(job, |params| {
        for entry in &mut params.dpb {
            entry.reference_ts = other_timestamp(own, random);
        }
    });
}

fn dimensions(job: &mut CodedJob, random: &mut Random) {
    let mut other = |value: u16| other_size(value.into(), u16::MAX.into(), random) as u16;
    control(job, V4L2_CID_STATELESS_H264_SPS, |sps: &mut V4l2CtrlH264Sps| {
        sps.pic_width_in_mbs_minus1 = other(sps.pic_width_in_mbs_minus1);
        sps.pic_height_in_map_units_minus1 = other(sps.pic_height_in_map_units_minus1);
    });
}

fn reference_lists(job: &mut CodedJob, random: &mut Random) {
    edit_params(job, |params| {
        for entry in &mut params.dpb {
            entry.frame_num = random.next() as u16;
            entry.pic_num = random.next() as u32;
            entry.fields = random.byte();
            entry.flags = random.next() as u32;
            entry.top_field_order_cnt = random.next() as i32;
        }
        params.frame_num = random.next() as u16;
    });
    edit_pps(job, |pps| {
        pps.num_ref_idx_l0_default_active_minus1 = random.index(32) as u8;
        pps.num_ref_idx_l1_default_active_minus1 = random.index(32) as u8;
    });
    edit_slice(job, |slice| {
        for entry in slice.ref_pic_list0.iter_mut().chain(&mut slice.ref_pic_list1) {
            (entry.index, entry.fields) = (random.byte(), random.byte());
        }
    });
}

/// Changes slice groups and slices.
fn tile_table(job: &mut CodedJob, random: &mut Random) {
    edit_pps(job, |pps| {
        pps.num_slice_groups_minus1 = random.index(8) as u8;
        pps.pic_init_qp_minus26 = random.byte() as i8;
    });
}
