// SPDX-License-Identifier: Apache-2.0 OR MIT
//! SPS (7.3.2.1.1) and PPS (7.3.2.2).

use daedalus_uapi::v4l2_controls::*;

use super::error::H264Error;
use super::nal::{NalHeader, write_nal};
use super::vui::VuiPolicy;
use crate::bits::BitWriter;

/// Raster position of each coefficient of a 4x4 block in zig-zag order (table 8-2).
///
/// Scaling lists are always coded in this order, for field pictures too (8.5.6).
const ZIG_ZAG_4X4: [u8; 16] = [0, 1, 4, 8, 5, 2, 3, 6, 9, 12, 13, 10, 7, 11, 14, 15];

/// Raster position of each coefficient of an 8x8 block in zig-zag order (table 8-3).
const ZIG_ZAG_8X8: [u8; 64] = zig_zag_8x8();

/// Walks the anti-diagonals of an 8x8 block, upwards on even ones and downwards on odd ones.
const fn zig_zag_8x8() -> [u8; 64] {
    let mut order = [0; 64];
    let mut n = 0;
    let mut diagonal = 0;
    while diagonal < 15 {
        let mut step = 0;
        while step <= diagonal {
            let (x, y) = if diagonal % 2 == 0 {
                (step, diagonal - step)
            } else {
                (diagonal - step, step)
            };
            if x < 8 && y < 8 {
                order[n] = (y * 8 + x) as u8;
                n += 1;
            }
            step += 1;
        }
        diagonal += 1;
    }
    order
}

fn within(
    field: &'static str,
    value: impl Into<i32>,
    range: std::ops::RangeInclusive<i32>,
) -> Result<(), H264Error> {
    let value = value.into();
    if range.contains(&value) {
        Ok(())
    } else {
        Err(H264Error::OutOfRange {
            field,
            value,
            min: *range.start(),
            max: *range.end(),
        })
    }
}

/// Returns the scaling matrix that applies to a picture, or `None` for the flat one.
///
/// The PPS's flag says so, but some clients send the matrix and leave the flag unset:
/// `set_in_request` is whether the matrix is among the controls of this picture's request.
pub fn scaling_matrix_in_force<'a>(
    pps: &V4l2CtrlH264Pps,
    matrix: &'a V4l2CtrlH264ScalingMatrix,
    set_in_request: bool,
) -> Option<&'a V4l2CtrlH264ScalingMatrix> {
    (set_in_request || pps.flags & V4L2_H264_PPS_FLAG_SCALING_MATRIX_PRESENT != 0).then_some(matrix)
}

/// Appends the SPS as a NAL unit with a start code. After an error nothing has been appended.
pub fn write_sps(sps: &V4l2CtrlH264Sps, vui: VuiPolicy, out: &mut Vec<u8>) -> Result<(), H264Error> {
    check_sps(sps)?;
    within("max_dec_frame_buffering", vui.max_dec_frame_buffering, 0..=16)?;
    let buffering = vui.max_dec_frame_buffering.into();
    within(
        "max_num_reorder_frames",
        vui.max_num_reorder_frames,
        0..=buffering,
    )?;
    write_nal(out, NalHeader::Sps, |w| {
        sps_data(w, sps);
        let vui_parameters_present = true;
        w.flag(vui_parameters_present);
        bitstream_restriction(w, vui);
        Ok(())
    })
}

fn check_sps(sps: &V4l2CtrlH264Sps) -> Result<(), H264Error> {
    within("seq_parameter_set_id", sps.seq_parameter_set_id, 0..=31)?;
    if sps.has_chroma_format() {
        within("chroma_format_idc", sps.chroma_format_idc, 0..=3)?;
        within("bit_depth_luma_minus8", sps.bit_depth_luma_minus8, 0..=6)?;
        within("bit_depth_chroma_minus8", sps.bit_depth_chroma_minus8, 0..=6)?;
    }
    within("log2_max_frame_num_minus4", sps.log2_max_frame_num_minus4, 0..=12)?;
    within("pic_order_cnt_type", sps.pic_order_cnt_type, 0..=2)?;
    within(
        "log2_max_pic_order_cnt_lsb_minus4",
        sps.log2_max_pic_order_cnt_lsb_minus4,
        0..=12,
    )?;
    within("max_num_ref_frames", sps.max_num_ref_frames, 0..=16)
}

fn sps_data(w: &mut BitWriter<'_>, sps: &V4l2CtrlH264Sps) {
    let flag = |f: u32| sps.flags & f != 0;

    w.bits(8, sps.profile_idc.into());
    // constraint_set0_flag is the lowest bit of the control and the first bit of the syntax.
    for set in 0..6 {
        w.flag(sps.constraint_set_flags & (1 << set) != 0);
    }
    w.bits(2, 0);
    w.bits(8, sps.level_idc.into());
    w.ue(sps.seq_parameter_set_id.into());
    if sps.has_chroma_format() {
        w.ue(sps.chroma_format_idc.into());
        if sps.chroma_format_idc == 3 {
            w.flag(flag(V4L2_H264_SPS_FLAG_SEPARATE_COLOUR_PLANE));
        }
        w.ue(sps.bit_depth_luma_minus8.into());
        w.ue(sps.bit_depth_chroma_minus8.into());
        w.flag(flag(V4L2_H264_SPS_FLAG_QPPRIME_Y_ZERO_TRANSFORM_BYPASS));
        let seq_scaling_matrix_present = false;
        w.flag(seq_scaling_matrix_present);
    }
    w.ue(sps.log2_max_frame_num_minus4.into());
    w.ue(sps.pic_order_cnt_type.into());
    if sps.pic_order_cnt_type == 0 {
        w.ue(sps.log2_max_pic_order_cnt_lsb_minus4.into());
    } else if sps.pic_order_cnt_type == 1 {
        w.flag(flag(V4L2_H264_SPS_FLAG_DELTA_PIC_ORDER_ALWAYS_ZERO));
        w.se(sps.offset_for_non_ref_pic);
        w.se(sps.offset_for_top_to_bottom_field);
        let cycle = sps.num_ref_frames_in_pic_order_cnt_cycle;
        w.ue(cycle.into());
        for offset in sps.offset_for_ref_frame.iter().take(cycle.into()) {
            w.se(*offset);
        }
    }
    w.ue(sps.max_num_ref_frames.into());
    w.flag(flag(V4L2_H264_SPS_FLAG_GAPS_IN_FRAME_NUM_VALUE_ALLOWED));
    w.ue(sps.pic_width_in_mbs_minus1.into());
    w.ue(sps.pic_height_in_map_units_minus1.into());
    let frame_mbs_only = flag(V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY);
    w.flag(frame_mbs_only);
    if !frame_mbs_only {
        w.flag(flag(V4L2_H264_SPS_FLAG_MB_ADAPTIVE_FRAME_FIELD));
    }
    w.flag(flag(V4L2_H264_SPS_FLAG_DIRECT_8X8_INFERENCE));
    let frame_cropping = false;
    w.flag(frame_cropping);
}

/// `vui_parameters()` (E.1.1) with nothing but the bitstream restriction.
fn bitstream_restriction(w: &mut BitWriter<'_>, vui: VuiPolicy) {
    // aspect_ratio_info, overscan_info, video_signal_type, chroma_loc_info, timing_info,
    // nal_hrd_parameters, vcl_hrd_parameters and pic_struct: none present.
    w.bits(8, 0);
    let bitstream_restriction = true;
    w.flag(bitstream_restriction);
    let motion_vectors_over_pic_boundaries = true;
    w.flag(motion_vectors_over_pic_boundaries);
    // No limit on the bytes of a picture nor on the bits of a macroblock; motion vectors as long as
    // the syntax allows.
    w.ue(0);
    w.ue(0);
    w.ue(15);
    w.ue(15);
    w.ue(vui.max_num_reorder_frames.into());
    w.ue(vui.max_dec_frame_buffering.into());
}

/// Appends the PPS as a NAL unit with a start code. After an error nothing has been appended.
///
/// `scaling` is the matrix in force, see [`scaling_matrix_in_force`].
pub fn write_pps(
    sps: &V4l2CtrlH264Sps,
    pps: &V4l2CtrlH264Pps,
    scaling: Option<&V4l2CtrlH264ScalingMatrix>,
    out: &mut Vec<u8>,
) -> Result<(), H264Error> {
    check_pps(sps, pps)?;
    write_nal(out, NalHeader::Pps, |w| {
        pps_data(w, pps);
        let transform_8x8_mode = pps.flags & V4L2_H264_PPS_FLAG_TRANSFORM_8X8_MODE != 0;
        let second_offset_differs = pps.second_chroma_qp_index_offset != pps.chroma_qp_index_offset;
        // The elements from transform_8x8_mode_flag on are absent in the profiles before High.
        let extended = transform_8x8_mode || scaling.is_some() || second_offset_differs;
        if sps.has_chroma_format() || extended {
            w.flag(transform_8x8_mode);
            w.flag(scaling.is_some());
            if let Some(matrix) = scaling {
                scaling_lists(w, sps, transform_8x8_mode, matrix)?;
            }
            w.se(pps.second_chroma_qp_index_offset.into());
        }
        Ok(())
    })
}

fn check_pps(sps: &V4l2CtrlH264Sps, pps: &V4l2CtrlH264Pps) -> Result<(), H264Error> {
    if pps.num_slice_groups_minus1 > 0 {
        return Err(H264Error::SliceGroups {
            count: u32::from(pps.num_slice_groups_minus1) + 1,
        });
    }
    if pps.seq_parameter_set_id != sps.seq_parameter_set_id {
        return Err(H264Error::SpsMismatch {
            pps: pps.seq_parameter_set_id,
            sps: sps.seq_parameter_set_id,
        });
    }
    within(
        "num_ref_idx_l0_default_active_minus1",
        pps.num_ref_idx_l0_default_active_minus1,
        0..=31,
    )?;
    within(
        "num_ref_idx_l1_default_active_minus1",
        pps.num_ref_idx_l1_default_active_minus1,
        0..=31,
    )?;
    within("weighted_bipred_idc", pps.weighted_bipred_idc, 0..=2)?;
    let qp_bd_offset = if sps.has_chroma_format() {
        6 * i32::from(sps.bit_depth_luma_minus8)
    } else {
        0
    };
    within(
        "pic_init_qp_minus26",
        pps.pic_init_qp_minus26,
        -26 - qp_bd_offset..=25,
    )?;
    within("pic_init_qs_minus26", pps.pic_init_qs_minus26, -26..=25)?;
    within("chroma_qp_index_offset", pps.chroma_qp_index_offset, -12..=12)?;
    within(
        "second_chroma_qp_index_offset",
        pps.second_chroma_qp_index_offset,
        -12..=12,
    )
}

fn pps_data(w: &mut BitWriter<'_>, pps: &V4l2CtrlH264Pps) {
    let flag = |f: u16| pps.flags & f != 0;

    w.ue(pps.pic_parameter_set_id.into());
    w.ue(pps.seq_parameter_set_id.into());
    w.flag(flag(V4L2_H264_PPS_FLAG_ENTROPY_CODING_MODE));
    w.flag(flag(V4L2_H264_PPS_FLAG_BOTTOM_FIELD_PIC_ORDER_IN_FRAME_PRESENT));
    w.ue(pps.num_slice_groups_minus1.into());
    w.ue(pps.num_ref_idx_l0_default_active_minus1.into());
    w.ue(pps.num_ref_idx_l1_default_active_minus1.into());
    w.flag(flag(V4L2_H264_PPS_FLAG_WEIGHTED_PRED));
    w.bits(2, pps.weighted_bipred_idc.into());
    w.se(pps.pic_init_qp_minus26.into());
    w.se(pps.pic_init_qs_minus26.into());
    w.se(pps.chroma_qp_index_offset.into());
    w.flag(flag(V4L2_H264_PPS_FLAG_DEBLOCKING_FILTER_CONTROL_PRESENT));
    w.flag(flag(V4L2_H264_PPS_FLAG_CONSTRAINED_INTRA_PRED));
    w.flag(flag(V4L2_H264_PPS_FLAG_REDUNDANT_PIC_CNT_PRESENT));
}

/// Returns the lists of `pic_scaling_matrix_present_flag`, every one of them explicit.
///
/// The order of the 8x8 lists in the control is that of the syntax, table 7-2: intra Y, inter Y, then
/// Cb and Cr, which are coded for 4:4:4 only.
fn scaling_lists(
    w: &mut BitWriter<'_>,
    sps: &V4l2CtrlH264Sps,
    transform_8x8_mode: bool,
    matrix: &V4l2CtrlH264ScalingMatrix,
) -> Result<(), H264Error> {
    let lists_8x8 = match (transform_8x8_mode, sps.chroma_format_idc) {
        (false, _) => 0,
        (true, 3) => 6,
        (true, _) => 2,
    };
    for (n, list) in matrix.scaling_list_4x4.iter().enumerate() {
        scaling_list(w, list, &ZIG_ZAG_4X4).ok_or(H264Error::ScalingList { list: n })?;
    }
    for (n, list) in matrix.scaling_list_8x8.iter().take(lists_8x8).enumerate() {
        scaling_list(w, list, &ZIG_ZAG_8X8).ok_or(H264Error::ScalingList { list: 6 + n })?;
    }
    Ok(())
}

/// `scaling_list()` (7.3.2.1.1.1) of a list in raster order; `None` if it has an entry of 0, which
/// the syntax gives another meaning.
fn scaling_list(w: &mut BitWriter<'_>, list: &[u8], scan: &[u8]) -> Option<()> {
    let scaling_list_present = true;
    w.flag(scaling_list_present);
    let mut last = 8u8;
    for &position in scan {
        let scale = list[usize::from(position)];
        if scale == 0 {
            return None;
        }
        // delta_scale is −128 to 127, modulo 256.
        w.se(i32::from(scale.wrapping_sub(last) as i8));
        last = scale;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zig_zag_orders_begin_and_end_as_in_the_specification() {
        // Figure 8-8 and table 8-3.
        assert_eq!(ZIG_ZAG_8X8[..10], [0, 1, 8, 16, 9, 2, 3, 10, 17, 24]);
        assert_eq!(ZIG_ZAG_8X8[58..], [61, 54, 47, 55, 62, 63]);
    }
}
