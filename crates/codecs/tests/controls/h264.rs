// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H.264 parameter sets.

use std::io::Cursor;

use cros_codecs::codec::h264::parser::{Nalu, Parser};
use daedalus_codecs::h264::{H264Error, ParameterSets, VuiPolicy, write_pps, write_sps};
use daedalus_uapi::v4l2_controls::*;
use proptest::prelude::*;
use zerocopy::FromBytes;

use crate::Draw;

/// The `profile_idc` that cros-codecs knows; 66, 77 and 88 do not code the chroma format.
const PROFILES: [u8; 7] = [66, 77, 88, 100, 110, 122, 244];

fn sps(draw: &mut Draw<'_>) -> V4l2CtrlH264Sps {
    let mut sps = V4l2CtrlH264Sps {
        profile_idc: PROFILES[draw.u8(0..=6) as usize],
        constraint_set_flags: draw.u8(0..=0x3f),
        level_idc: [10, 21, 31, 40, 51][draw.u8(0..=4) as usize],
        seq_parameter_set_id: draw.u8(0..=31),
        chroma_format_idc: 1,
        log2_max_frame_num_minus4: draw.u8(0..=12),
        pic_order_cnt_type: draw.u8(0..=2),
        log2_max_pic_order_cnt_lsb_minus4: draw.u8(0..=12),
        max_num_ref_frames: draw.u8(0..=16),
        num_ref_frames_in_pic_order_cnt_cycle: draw.u8(0..=254),
        offset_for_non_ref_pic: draw.within(-3000..=3000),
        offset_for_top_to_bottom_field: draw.within(-3000..=3000),
        pic_width_in_mbs_minus1: draw.u8(1..=127).into(),
        pic_height_in_map_units_minus1: draw.u8(1..=63).into(),
        flags: draw.within(0..=0x7f) as u32,
        ..Default::default()
    };
    for offset in &mut sps.offset_for_ref_frame[..usize::from(sps.num_ref_frames_in_pic_order_cnt_cycle)] {
        *offset = draw.within(-30000..=30000);
    }
    if sps.has_chroma_format() {
        sps.chroma_format_idc = draw.u8(0..=3);
        sps.bit_depth_luma_minus8 = draw.u8(0..=6);
        sps.bit_depth_chroma_minus8 = draw.u8(0..=6);
    }
    // 7.4.2.1.1: field coding needs direct_8x8_inference.
    if sps.flags & V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY == 0 {
        sps.flags |= V4L2_H264_SPS_FLAG_DIRECT_8X8_INFERENCE;
    }
    sps
}

fn pps(draw: &mut Draw<'_>, sps: &V4l2CtrlH264Sps) -> V4l2CtrlH264Pps {
    let chroma_qp_index_offset = draw.i8(-12..=12);
    let mut pps = V4l2CtrlH264Pps {
        pic_parameter_set_id: draw.u8(0..=255),
        seq_parameter_set_id: sps.seq_parameter_set_id,
        num_slice_groups_minus1: 0,
        num_ref_idx_l0_default_active_minus1: draw.u8(0..=31),
        num_ref_idx_l1_default_active_minus1: draw.u8(0..=31),
        weighted_bipred_idc: draw.u8(0..=2),
        pic_init_qp_minus26: draw.i8(-26..=25),
        pic_init_qs_minus26: draw.i8(-26..=25),
        chroma_qp_index_offset,
        second_chroma_qp_index_offset: chroma_qp_index_offset,
        flags: draw.within(0..=0x3f) as u16,
    };
    if sps.has_chroma_format() {
        pps.second_chroma_qp_index_offset = draw.i8(-12..=12);
        if draw.flag() {
            pps.flags |= V4L2_H264_PPS_FLAG_TRANSFORM_8X8_MODE;
        }
    }
    pps
}

fn matrix(draw: &mut Draw<'_>) -> V4l2CtrlH264ScalingMatrix {
    let mut matrix = V4l2CtrlH264ScalingMatrix::default();
    let lists_8x8 = matrix.scaling_list_8x8.iter_mut().flatten();
    matrix
        .scaling_list_4x4
        .iter_mut()
        .flatten()
        .chain(lists_8x8)
        .for_each(|s| *s = draw.byte().max(1));
    matrix
}

fn nalus(stream: &[u8]) -> Vec<Nalu<'_>> {
    let mut cursor = Cursor::new(stream);
    std::iter::from_fn(|| Nalu::next(&mut cursor).ok()).collect()
}

/// Raster position of the `n`-th coefficient in zig-zag order, from the definition: by anti-diagonals,
/// of which the odd ones go down.
fn zig_zag(size: usize) -> Vec<usize> {
    let mut positions: Vec<(usize, usize)> = (0..size).flat_map(|y| (0..size).map(move |x| (x, y))).collect();
    positions.sort_by_key(|&(x, y)| (x + y, if (x + y) % 2 == 0 { x } else { y }));
    positions.into_iter().map(|(x, y)| y * size + x).collect()
}

proptest! {
    #[test]
    fn parameter_sets_parse_back(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        scaled in any::<bool>(),
    ) {
        let draw = &mut Draw::new(&bytes);
        let sps = sps(draw);
        let pps = pps(draw, &sps);
        let matrix = (scaled && sps.has_chroma_format()).then(|| matrix(draw));
        let vui = VuiPolicy::decode_order(&sps);
        let mut stream = Vec::new();
        let written = ParameterSets::default().write(&sps, &pps, matrix.as_ref(), vui, &mut stream);
        prop_assert!(written.is_ok_and(|w| w.sps && w.pps), "{:?}", written);

        let units = nalus(&stream);
        prop_assert_eq!(units.len(), 2);
        let mut parser = Parser::default();
        let parsed = parser.parse_sps(&units[0]).map_err(TestCaseError::fail)?.clone();
        let flag = |f: u32| sps.flags & f != 0;
        prop_assert_eq!(parsed.profile_idc, sps.profile_idc);
        prop_assert_eq!(parsed.level_idc as u8, sps.level_idc);
        let constraints = [
            parsed.constraint_set0_flag, parsed.constraint_set1_flag, parsed.constraint_set2_flag,
            parsed.constraint_set3_flag, parsed.constraint_set4_flag, parsed.constraint_set5_flag,
        ];
        for (i, set) in constraints.into_iter().enumerate() {
            prop_assert_eq!(set, sps.constraint_set_flags & (1 << i) != 0);
        }
        prop_assert_eq!(parsed.seq_parameter_set_id, sps.seq_parameter_set_id);
        prop_assert_eq!(parsed.chroma_format_idc, sps.chroma_format_idc);
        prop_assert_eq!(parsed.bit_depth_luma_minus8, sps.bit_depth_luma_minus8);
        prop_assert_eq!(parsed.bit_depth_chroma_minus8, sps.bit_depth_chroma_minus8);
        if sps.has_chroma_format() {
            prop_assert_eq!(
                parsed.qpprime_y_zero_transform_bypass_flag,
                flag(V4L2_H264_SPS_FLAG_QPPRIME_Y_ZERO_TRANSFORM_BYPASS)
            );
        }
        if sps.chroma_format_idc == 3 {
            prop_assert_eq!(
                parsed.separate_colour_plane_flag,
                flag(V4L2_H264_SPS_FLAG_SEPARATE_COLOUR_PLANE)
            );
        }
        prop_assert_eq!(parsed.log2_max_frame_num_minus4, sps.log2_max_frame_num_minus4);
        prop_assert_eq!(parsed.pic_order_cnt_type, sps.pic_order_cnt_type);
        match sps.pic_order_cnt_type {
            0 => prop_assert_eq!(
                parsed.log2_max_pic_order_cnt_lsb_minus4,
                sps.log2_max_pic_order_cnt_lsb_minus4
            ),
            1 => {
                prop_assert_eq!(
                    parsed.delta_pic_order_always_zero_flag,
                    flag(V4L2_H264_SPS_FLAG_DELTA_PIC_ORDER_ALWAYS_ZERO)
                );
                prop_assert_eq!(parsed.offset_for_non_ref_pic, sps.offset_for_non_ref_pic);
                prop_assert_eq!(parsed.offset_for_top_to_bottom_field, sps.offset_for_top_to_bottom_field);
                let cycle = sps.num_ref_frames_in_pic_order_cnt_cycle;
                prop_assert_eq!(parsed.num_ref_frames_in_pic_order_cnt_cycle, cycle);
                let cycle = usize::from(cycle);
                prop_assert_eq!(&parsed.offset_for_ref_frame[..cycle], &sps.offset_for_ref_frame[..cycle]);
            }
            _ => {}
        }
        prop_assert_eq!(parsed.max_num_ref_frames, sps.max_num_ref_frames);
        prop_assert_eq!(
            parsed.gaps_in_frame_num_value_allowed_flag,
            flag(V4L2_H264_SPS_FLAG_GAPS_IN_FRAME_NUM_VALUE_ALLOWED)
        );
        prop_assert_eq!(parsed.pic_width_in_mbs_minus1, sps.pic_width_in_mbs_minus1);
        prop_assert_eq!(parsed.pic_height_in_map_units_minus1, sps.pic_height_in_map_units_minus1);
        let frame_mbs_only = flag(V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY);
        prop_assert_eq!(parsed.frame_mbs_only_flag, frame_mbs_only);
        if !frame_mbs_only {
            prop_assert_eq!(
                parsed.mb_adaptive_frame_field_flag,
                flag(V4L2_H264_SPS_FLAG_MB_ADAPTIVE_FRAME_FIELD)
            );
        }
        prop_assert_eq!(parsed.direct_8x8_inference_flag, flag(V4L2_H264_SPS_FLAG_DIRECT_8X8_INFERENCE));
        prop_assert!(!parsed.frame_cropping_flag && !parsed.seq_scaling_matrix_present_flag);
        let restriction = &parsed.vui_parameters;
        prop_assert!(parsed.vui_parameters_present_flag && restriction.bitstream_restriction_flag);
        prop_assert_eq!(restriction.max_num_reorder_frames, 0);
        prop_assert_eq!(restriction.max_dec_frame_buffering, u32::from(sps.max_num_ref_frames.max(1)));

        let parsed = parser.parse_pps(&units[1]).map_err(TestCaseError::fail)?;
        let flag = |f: u16| pps.flags & f != 0;
        prop_assert_eq!(parsed.pic_parameter_set_id, pps.pic_parameter_set_id);
        prop_assert_eq!(parsed.seq_parameter_set_id, pps.seq_parameter_set_id);
        prop_assert_eq!(parsed.entropy_coding_mode_flag, flag(V4L2_H264_PPS_FLAG_ENTROPY_CODING_MODE));
        prop_assert_eq!(
            parsed.bottom_field_pic_order_in_frame_present_flag,
            flag(V4L2_H264_PPS_FLAG_BOTTOM_FIELD_PIC_ORDER_IN_FRAME_PRESENT)
        );
        prop_assert_eq!(
            (parsed.num_ref_idx_l0_default_active_minus1, parsed.num_ref_idx_l1_default_active_minus1),
            (pps.num_ref_idx_l0_default_active_minus1, pps.num_ref_idx_l1_default_active_minus1)
        );
        prop_assert_eq!(parsed.weighted_pred_flag, flag(V4L2_H264_PPS_FLAG_WEIGHTED_PRED));
        prop_assert_eq!(parsed.weighted_bipred_idc, pps.weighted_bipred_idc);
        prop_assert_eq!(parsed.pic_init_qp_minus26, pps.pic_init_qp_minus26);
        prop_assert_eq!(parsed.pic_init_qs_minus26, pps.pic_init_qs_minus26);
        prop_assert_eq!(parsed.chroma_qp_index_offset, pps.chroma_qp_index_offset);
        prop_assert_eq!(parsed.second_chroma_qp_index_offset, pps.second_chroma_qp_index_offset);
        prop_assert_eq!(
            parsed.deblocking_filter_control_present_flag,
            flag(V4L2_H264_PPS_FLAG_DEBLOCKING_FILTER_CONTROL_PRESENT)
        );
        prop_assert_eq!(
            parsed.constrained_intra_pred_flag,
            flag(V4L2_H264_PPS_FLAG_CONSTRAINED_INTRA_PRED)
        );
        prop_assert_eq!(
            parsed.redundant_pic_cnt_present_flag,
            flag(V4L2_H264_PPS_FLAG_REDUNDANT_PIC_CNT_PRESENT)
        );
        prop_assert_eq!(parsed.transform_8x8_mode_flag, flag(V4L2_H264_PPS_FLAG_TRANSFORM_8X8_MODE));
        prop_assert_eq!(parsed.pic_scaling_matrix_present_flag, matrix.is_some());
        if let Some(matrix) = matrix {
            for (list, parsed) in matrix.scaling_list_4x4.iter().zip(&parsed.scaling_lists_4x4) {
                let coded: Vec<u8> = zig_zag(4).into_iter().map(|p| list[p]).collect();
                prop_assert_eq!(&coded, parsed);
            }
            let coded_8x8 = match (flag(V4L2_H264_PPS_FLAG_TRANSFORM_8X8_MODE), sps.chroma_format_idc) {
                (false, _) => 0,
                (true, 3) => 6,
                (true, _) => 2,
            };
            let lists = matrix.scaling_list_8x8.iter().zip(&parsed.scaling_lists_8x8).take(coded_8x8);
            for (list, parsed) in lists {
                let coded: Vec<u8> = zig_zag(8).into_iter().map(|p| list[p]).collect();
                prop_assert_eq!(&coded, parsed);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_give_an_error_or_a_stream(
        sps in prop::collection::vec(any::<u8>(), size_of::<V4l2CtrlH264Sps>()),
        pps in prop::collection::vec(any::<u8>(), size_of::<V4l2CtrlH264Pps>()),
        matrix in prop::collection::vec(any::<u8>(), size_of::<V4l2CtrlH264ScalingMatrix>()),
        small in any::<[bool; 2]>(),
    ) {
        let mut sps = V4l2CtrlH264Sps::read_from_bytes(&sps).expect("the size is right");
        let mut pps = V4l2CtrlH264Pps::read_from_bytes(&pps).expect("the size is right");
        let matrix = V4l2CtrlH264ScalingMatrix::read_from_bytes(&matrix).expect("the size is right");
        if small[0] {
            // Most arbitrary bytes are out of range: let the rest be reached.
            for field in [
                &mut sps.seq_parameter_set_id,
                &mut sps.chroma_format_idc,
                &mut sps.bit_depth_luma_minus8,
                &mut sps.bit_depth_chroma_minus8,
                &mut sps.log2_max_frame_num_minus4,
                &mut sps.pic_order_cnt_type,
                &mut sps.log2_max_pic_order_cnt_lsb_minus4,
                &mut sps.max_num_ref_frames,
            ] {
                *field %= 3;
            }
        }
        if small[1] {
            pps.seq_parameter_set_id = sps.seq_parameter_set_id;
            pps.num_slice_groups_minus1 = 0;
            pps.num_ref_idx_l0_default_active_minus1 %= 32;
            pps.num_ref_idx_l1_default_active_minus1 %= 32;
            pps.weighted_bipred_idc %= 3;
            pps.pic_init_qp_minus26 %= 25;
            pps.pic_init_qs_minus26 %= 25;
            pps.chroma_qp_index_offset %= 12;
            pps.second_chroma_qp_index_offset %= 12;
        }
        let mut out = vec![1, 2, 3];
        if write_sps(&sps, VuiPolicy::display_order(), &mut out).is_err() {
            prop_assert_eq!(out.len(), 3);
        }
        let before = out.len();
        if write_pps(&sps, &pps, Some(&matrix), &mut out).is_err() {
            prop_assert_eq!(out.len(), before);
        }
    }
}

#[test]
fn parameter_sets_are_written_once() {
    let draw = &mut Draw::new(&[]);
    let (mut sps, mut pps) = (sps(draw), pps(draw, &sps(&mut Draw::new(&[]))));
    let vui = VuiPolicy::decode_order(&sps);
    let mut sets = ParameterSets::default();
    let mut out = Vec::new();
    let mut write = |sets: &mut ParameterSets, sps: &_, pps: &_| {
        out.clear();
        sets.write(sps, pps, None, vui, &mut out)
            .map(|w| (w.sps, w.pps, out.is_empty()))
    };
    assert_eq!(write(&mut sets, &sps, &pps), Ok((true, true, false)));
    assert_eq!(write(&mut sets, &sps, &pps), Ok((false, false, true)));
    pps.pic_init_qp_minus26 = 3;
    assert_eq!(write(&mut sets, &sps, &pps), Ok((false, true, false)));
    pps.pic_parameter_set_id = 1;
    assert_eq!(write(&mut sets, &sps, &pps), Ok((false, true, false)));
    assert_eq!(write(&mut sets, &sps, &pps), Ok((false, false, true)));
    sps.level_idc += 1;
    assert_eq!(write(&mut sets, &sps, &pps), Ok((true, true, false)));
    sets.reset();
    assert_eq!(write(&mut sets, &sps, &pps), Ok((true, true, false)));
    pps.num_slice_groups_minus1 = 1;
    assert_eq!(
        write(&mut sets, &sps, &pps),
        Err(H264Error::SliceGroups { count: 2 })
    );
    pps.num_slice_groups_minus1 = 0;
    assert_eq!(write(&mut sets, &sps, &pps), Ok((true, true, false)));
}
