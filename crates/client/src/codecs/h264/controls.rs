// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H.264 controls from parsed headers.

use cros_codecs::codec::h264::parser::{Pps, SliceHeader, Sps};
use daedalus_uapi::v4l2_controls::{
    V4L2_H264_DECODE_PARAM_FLAG_BFRAME, V4L2_H264_DECODE_PARAM_FLAG_BOTTOM_FIELD,
    V4L2_H264_DECODE_PARAM_FLAG_FIELD_PIC, V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC,
    V4L2_H264_DECODE_PARAM_FLAG_PFRAME, V4L2_H264_DPB_ENTRY_FLAG_ACTIVE, V4L2_H264_DPB_ENTRY_FLAG_FIELD,
    V4L2_H264_DPB_ENTRY_FLAG_LONG_TERM, V4L2_H264_DPB_ENTRY_FLAG_VALID,
    V4L2_H264_PPS_FLAG_BOTTOM_FIELD_PIC_ORDER_IN_FRAME_PRESENT, V4L2_H264_PPS_FLAG_CONSTRAINED_INTRA_PRED,
    V4L2_H264_PPS_FLAG_DEBLOCKING_FILTER_CONTROL_PRESENT, V4L2_H264_PPS_FLAG_ENTROPY_CODING_MODE,
    V4L2_H264_PPS_FLAG_REDUNDANT_PIC_CNT_PRESENT, V4L2_H264_PPS_FLAG_SCALING_MATRIX_PRESENT,
    V4L2_H264_PPS_FLAG_TRANSFORM_8X8_MODE, V4L2_H264_PPS_FLAG_WEIGHTED_PRED,
    V4L2_H264_SPS_CONSTRAINT_SET0_FLAG, V4L2_H264_SPS_CONSTRAINT_SET1_FLAG,
    V4L2_H264_SPS_CONSTRAINT_SET2_FLAG, V4L2_H264_SPS_CONSTRAINT_SET3_FLAG,
    V4L2_H264_SPS_CONSTRAINT_SET4_FLAG, V4L2_H264_SPS_CONSTRAINT_SET5_FLAG,
    V4L2_H264_SPS_FLAG_DELTA_PIC_ORDER_ALWAYS_ZERO, V4L2_H264_SPS_FLAG_DIRECT_8X8_INFERENCE,
    V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY, V4L2_H264_SPS_FLAG_GAPS_IN_FRAME_NUM_VALUE_ALLOWED,
    V4L2_H264_SPS_FLAG_MB_ADAPTIVE_FRAME_FIELD, V4L2_H264_SPS_FLAG_QPPRIME_Y_ZERO_TRANSFORM_BYPASS,
    V4L2_H264_SPS_FLAG_SEPARATE_COLOUR_PLANE, V4l2CtrlH264DecodeParams, V4l2CtrlH264Pps,
    V4l2CtrlH264ScalingMatrix, V4l2CtrlH264Sps, V4l2H264DpbEntry,
};

use super::dpb::{BOTTOM, FRAME, Frame};
use crate::bits::flags;

/// Frame zig-zag scan of a square block (table 8-2, 6.4): the raster position of each coded position.
/// Scaling lists are always coded in it, in fields too (8.5.6).
fn zigzag<const N: usize>(side: usize) -> [u8; N] {
    let diagonals = (0..2 * side - 1).flat_map(|sum| {
        (0..=sum).map(move |step| {
            if sum % 2 == 0 {
                (step, sum - step)
            } else {
                (sum - step, step)
            }
        })
    });
    let inside = diagonals.filter(|(x, y)| *x < side && *y < side);
    let mut scan = [0; N];
    for (entry, (x, y)) in scan.iter_mut().zip(inside) {
        *entry = (y * side + x) as u8;
    }
    scan
}

fn raster<const N: usize>(coded: &[u8; N], scan: &[u8; N]) -> [u8; N] {
    let mut list = [0; N];
    for (value, position) in coded.iter().zip(scan) {
        list[usize::from(*position)] = *value;
    }
    list
}

/// Returns whether the sequence or the picture has scaling lists other than flat ones.
pub(super) fn has_scaling_matrix(pps: &Pps) -> bool {
    pps.sps.seq_scaling_matrix_present_flag || pps.pic_scaling_matrix_present_flag
}

/// Returns the scaling lists in effect, in raster order.
pub(super) fn scaling_matrix(pps: &Pps) -> V4l2CtrlH264ScalingMatrix {
    let (scan4, scan8): ([u8; 16], [u8; 64]) = (zigzag(4), zigzag(8));
    // Without the 8x8 transform the picture's own lists have no 8x8 ones: those of the sequence stand.
    let mut lists = if pps.pic_scaling_matrix_present_flag && !pps.transform_8x8_mode_flag {
        pps.sps.scaling_lists_8x8
    } else {
        pps.scaling_lists_8x8
    };
    if pps.sps.chroma_format_idc != 3 {
        // Chroma has no 8x8 blocks: fall-back rule of table 7-2, so that no entry is zero.
        for index in 2..6 {
            lists[index] = lists[index - 2];
        }
    }
    V4l2CtrlH264ScalingMatrix {
        scaling_list_4x4: pps.scaling_lists_4x4.map(|list| raster(&list, &scan4)),
        scaling_list_8x8: lists.map(|list| raster(&list, &scan8)),
    }
}

pub(super) fn sps_control(sps: &Sps) -> V4l2CtrlH264Sps {
    V4l2CtrlH264Sps {
        profile_idc: sps.profile_idc,
        constraint_set_flags: flags([
            (sps.constraint_set0_flag, V4L2_H264_SPS_CONSTRAINT_SET0_FLAG),
            (sps.constraint_set1_flag, V4L2_H264_SPS_CONSTRAINT_SET1_FLAG),
            (sps.constraint_set2_flag, V4L2_H264_SPS_CONSTRAINT_SET2_FLAG),
            (sps.constraint_set3_flag, V4L2_H264_SPS_CONSTRAINT_SET3_FLAG),
            (sps.constraint_set4_flag, V4L2_H264_SPS_CONSTRAINT_SET4_FLAG),
            (sps.constraint_set5_flag, V4L2_H264_SPS_CONSTRAINT_SET5_FLAG),
        ]),
        level_idc: sps.level_idc as u8,
        seq_parameter_set_id: sps.seq_parameter_set_id,
        chroma_format_idc: sps.chroma_format_idc,
        bit_depth_luma_minus8: sps.bit_depth_luma_minus8,
        bit_depth_chroma_minus8: sps.bit_depth_chroma_minus8,
        log2_max_frame_num_minus4: sps.log2_max_frame_num_minus4,
        pic_order_cnt_type: sps.pic_order_cnt_type,
        log2_max_pic_order_cnt_lsb_minus4: sps.log2_max_pic_order_cnt_lsb_minus4,
        max_num_ref_frames: sps.max_num_ref_frames,
        num_ref_frames_in_pic_order_cnt_cycle: sps.num_ref_frames_in_pic_order_cnt_cycle,
        offset_for_ref_frame: sps.offset_for_ref_frame,
        offset_for_non_ref_pic: sps.offset_for_non_ref_pic,
        offset_for_top_to_bottom_field: sps.offset_for_top_to_bottom_field,
        pic_width_in_mbs_minus1: sps.pic_width_in_mbs_minus1,
        pic_height_in_map_units_minus1: sps.pic_height_in_map_units_minus1,
        flags: flags([
            (
                sps.separate_colour_plane_flag,
                V4L2_H264_SPS_FLAG_SEPARATE_COLOUR_PLANE,
            ),
            (
                sps.qpprime_y_zero_transform_bypass_flag,
                V4L2_H264_SPS_FLAG_QPPRIME_Y_ZERO_TRANSFORM_BYPASS,
            ),
            (
                sps.delta_pic_order_always_zero_flag,
                V4L2_H264_SPS_FLAG_DELTA_PIC_ORDER_ALWAYS_ZERO,
            ),
            (
                sps.gaps_in_frame_num_value_allowed_flag,
                V4L2_H264_SPS_FLAG_GAPS_IN_FRAME_NUM_VALUE_ALLOWED,
            ),
            (sps.frame_mbs_only_flag, V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY),
            (
                sps.mb_adaptive_frame_field_flag,
                V4L2_H264_SPS_FLAG_MB_ADAPTIVE_FRAME_FIELD,
            ),
            (
                sps.direct_8x8_inference_flag,
                V4L2_H264_SPS_FLAG_DIRECT_8X8_INFERENCE,
            ),
        ]),
    }
}

pub(super) fn pps_control(pps: &Pps) -> V4l2CtrlH264Pps {
    V4l2CtrlH264Pps {
        pic_parameter_set_id: pps.pic_parameter_set_id,
        seq_parameter_set_id: pps.seq_parameter_set_id,
        num_slice_groups_minus1: pps.num_slice_groups_minus1 as u8,
        num_ref_idx_l0_default_active_minus1: pps.num_ref_idx_l0_default_active_minus1,
        num_ref_idx_l1_default_active_minus1: pps.num_ref_idx_l1_default_active_minus1,
        weighted_bipred_idc: pps.weighted_bipred_idc,
        pic_init_qp_minus26: pps.pic_init_qp_minus26,
        pic_init_qs_minus26: pps.pic_init_qs_minus26,
        chroma_qp_index_offset: pps.chroma_qp_index_offset,
        second_chroma_qp_index_offset: pps.second_chroma_qp_index_offset,
        flags: flags([
            (
                pps.entropy_coding_mode_flag,
                V4L2_H264_PPS_FLAG_ENTROPY_CODING_MODE,
            ),
            (
                pps.bottom_field_pic_order_in_frame_present_flag,
                V4L2_H264_PPS_FLAG_BOTTOM_FIELD_PIC_ORDER_IN_FRAME_PRESENT,
            ),
            (pps.weighted_pred_flag, V4L2_H264_PPS_FLAG_WEIGHTED_PRED),
            (
                pps.deblocking_filter_control_present_flag,
                V4L2_H264_PPS_FLAG_DEBLOCKING_FILTER_CONTROL_PRESENT,
            ),
            (
                pps.constrained_intra_pred_flag,
                V4L2_H264_PPS_FLAG_CONSTRAINED_INTRA_PRED,
            ),
            (
                pps.redundant_pic_cnt_present_flag,
                V4L2_H264_PPS_FLAG_REDUNDANT_PIC_CNT_PRESENT,
            ),
            (pps.transform_8x8_mode_flag, V4L2_H264_PPS_FLAG_TRANSFORM_8X8_MODE),
            (has_scaling_matrix(pps), V4L2_H264_PPS_FLAG_SCALING_MATRIX_PRESENT),
        ]),
    }
}

/// The part of the decode parameters that comes from the picture that begins with `header`.
pub(super) struct Picture<'a> {
    pub(super) header: &'a SliceHeader,
    pub(super) nal_ref_idc: u8,
    pub(super) idr: bool,
    pub(super) fields: u8,
    pub(super) counts: [i32; 2],
    /// `MaxFrameNum`.
    pub(super) max_frame_num: i32,
}

pub(super) fn decode_params<'a>(
    picture: &Picture<'_>,
    references: impl Iterator<Item = &'a Frame>,
) -> V4l2CtrlH264DecodeParams {
    let header = picture.header;
    let frame_num = i32::from(header.frame_num);
    let mut control = V4l2CtrlH264DecodeParams {
        nal_ref_idc: u16::from(picture.nal_ref_idc),
        frame_num: header.frame_num,
        top_field_order_cnt: picture.counts[0],
        bottom_field_order_cnt: picture.counts[1],
        idr_pic_id: header.idr_pic_id,
        pic_order_cnt_lsb: header.pic_order_cnt_lsb,
        delta_pic_order_cnt_bottom: header.delta_pic_order_cnt_bottom,
        delta_pic_order_cnt0: header.delta_pic_order_cnt[0],
        delta_pic_order_cnt1: header.delta_pic_order_cnt[1],
        dec_ref_pic_marking_bit_size: header.dec_ref_pic_marking_bit_size as u32,
        pic_order_cnt_bit_size: header.pic_order_cnt_bit_size as u32,
        flags: flags([
            (picture.idr, V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC),
            (picture.fields != FRAME, V4L2_H264_DECODE_PARAM_FLAG_FIELD_PIC),
            (picture.fields == BOTTOM, V4L2_H264_DECODE_PARAM_FLAG_BOTTOM_FIELD),
            (
                header.slice_type.is_p() || header.slice_type.is_sp(),
                V4L2_H264_DECODE_PARAM_FLAG_PFRAME,
            ),
            (header.slice_type.is_b(), V4L2_H264_DECODE_PARAM_FLAG_BFRAME),
        ]),
        ..Default::default()
    };
    for (entry, frame) in control.dpb.iter_mut().zip(references) {
        // A frame inferred for a gap in frame_num has no pixels and hence no buffer to name: its entry is
        // not valid, and says which frame it stands for all the same.
        let Some(reference_ts) = frame.timestamp else {
            entry.frame_num = frame.frame_num as u16;
            entry.fields = frame.short;
            continue;
        };
        let wrapped = frame.frame_num_wrap(frame_num, picture.max_frame_num);
        *entry = V4l2H264DpbEntry {
            reference_ts,
            pic_num: if frame.long != 0 {
                frame.long_term_frame_idx
            } else {
                wrapped as u32
            },
            frame_num: if frame.long != 0 {
                frame.long_term_frame_idx as u16
            } else {
                frame.frame_num as u16
            },
            fields: frame.short | frame.long,
            top_field_order_cnt: frame.order[0],
            bottom_field_order_cnt: frame.order[1],
            flags: V4L2_H264_DPB_ENTRY_FLAG_VALID
                | V4L2_H264_DPB_ENTRY_FLAG_ACTIVE
                | if frame.long != 0 {
                    V4L2_H264_DPB_ENTRY_FLAG_LONG_TERM
                } else {
                    0
                }
                | if frame.by_field {
                    V4L2_H264_DPB_ENTRY_FLAG_FIELD
                } else {
                    0
                },
            ..Default::default()
        };
    }
    control
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_computed_scan_is_the_one_of_the_tables() {
        assert_eq!(
            zigzag::<16>(4),
            [0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15]
        );
        let scan = zigzag::<64>(8);
        assert_eq!(
            scan[..16],
            [0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5]
        );
        assert_eq!(scan[56..], [53, 60, 61, 54, 47, 55, 62, 63]);
        let mut all = scan;
        all.sort_unstable();
        assert!(
            all.iter()
                .enumerate()
                .all(|(index, value)| index == usize::from(*value))
        );
    }
}
