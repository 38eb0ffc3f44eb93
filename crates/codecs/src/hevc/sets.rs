// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VPS (7.3.2.1), SPS (7.3.2.2) and PPS (7.3.2.3).

use daedalus_uapi::v4l2_controls::*;

use super::error::{HevcError, within};
use super::nal::{NalType, write_nal};
use super::scaling::scaling_list_data;
use crate::bits::BitWriter;

/// Largest `sps_max_dec_pic_buffering_minus1`.
const MAX_BUFFERING_MINUS1: u8 = 15;

/// The order in which the written sequence lets a decoder output its pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputOrder {
    /// Every picture as soon as it is decoded: the client puts them in order.
    Decode,
    /// In display order, by the SPS control's numbers.
    Display,
}

/// The size of a sequence's coding tree blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    /// `CtbLog2SizeY`.
    pub(super) log2_size: u32,
    /// `PicWidthInCtbsY` and `PicHeightInCtbsY`.
    pub(super) picture: (u32, u32),
}

impl Blocks {
    /// Returns the size for an SPS that [`check_sps`] lets pass.
    pub(super) fn of(sps: &V4l2CtrlHevcSps) -> Self {
        let log2_size = u32::from(sps.log2_min_luma_coding_block_size_minus3)
            + 3
            + u32::from(sps.log2_diff_max_min_luma_coding_block_size);
        let blocks = |samples: u16| u32::from(samples).div_ceil(1 << log2_size);
        Self {
            log2_size,
            picture: (
                blocks(sps.pic_width_in_luma_samples),
                blocks(sps.pic_height_in_luma_samples),
            ),
        }
    }

    /// Returns `PicSizeInCtbsY`.
    pub(super) fn count(self) -> u32 {
        self.picture.0 * self.picture.1
    }
}

/// Returns the place of a coding tree block, which has its address in raster order, in the order of decoding
/// (6.5.1): that of its tile, and its own within the tile. SPS and PPS are checked.
pub(super) fn tile_scan(sps: &V4l2CtrlHevcSps, pps: &V4l2CtrlHevcPps, address: u32) -> [u32; 4] {
    let (width, height) = Blocks::of(sps).picture;
    let (x, y) = (address % width, address / width);
    if pps.flags & V4L2_HEVC_PPS_FLAG_TILES_ENABLED == 0 {
        return [0, 0, y, x];
    }
    let uniform = pps.flags & V4L2_HEVC_PPS_FLAG_UNIFORM_SPACING != 0;
    let tile = |place: u32, blocks: u32, sizes_minus1: &[u8], count_minus1: u8| {
        let count = u32::from(count_minus1) + 1;
        let ends = (1..=count).scan(0, move |end, tile| {
            *end = match sizes_minus1.get(tile as usize - 1) {
                _ if uniform => tile * blocks / count,
                Some(size_minus1) if tile < count => *end + u32::from(*size_minus1) + 1,
                _ => blocks,
            };
            Some(*end)
        });
        ends.take_while(|end| *end <= place).count() as u32
    };
    let row = tile(y, height, &pps.row_height_minus1, pps.num_tile_rows_minus1);
    let column = tile(x, width, &pps.column_width_minus1, pps.num_tile_columns_minus1);
    [row, column, y, x]
}

/// Checks what the syntax and the decoders' sizes limit.
pub(super) fn check_sps(sps: &V4l2CtrlHevcSps) -> Result<(), HevcError> {
    within("chroma_format_idc", sps.chroma_format_idc, 1..=1)?;
    within(
        "pic_width_in_luma_samples",
        sps.pic_width_in_luma_samples,
        8..=16384,
    )?;
    within(
        "pic_height_in_luma_samples",
        sps.pic_height_in_luma_samples,
        8..=16384,
    )?;
    within("bit_depth_luma_minus8", sps.bit_depth_luma_minus8, 0..=2)?;
    let depth = i64::from(sps.bit_depth_luma_minus8);
    within(
        "bit_depth_chroma_minus8",
        sps.bit_depth_chroma_minus8,
        depth..=depth,
    )?;
    within(
        "log2_max_pic_order_cnt_lsb_minus4",
        sps.log2_max_pic_order_cnt_lsb_minus4,
        0..=12,
    )?;
    within(
        "log2_min_luma_coding_block_size_minus3",
        sps.log2_min_luma_coding_block_size_minus3,
        0..=3,
    )?;
    let smallest = i64::from(sps.log2_min_luma_coding_block_size_minus3) + 3;
    within(
        "log2_diff_max_min_luma_coding_block_size",
        sps.log2_diff_max_min_luma_coding_block_size,
        0.max(4 - smallest)..=6 - smallest,
    )?;
    within(
        "log2_min_luma_transform_block_size_minus2",
        sps.log2_min_luma_transform_block_size_minus2,
        0..=3,
    )?;
    within(
        "log2_diff_max_min_luma_transform_block_size",
        sps.log2_diff_max_min_luma_transform_block_size,
        0..=3,
    )?;
    within(
        "max_transform_hierarchy_depth_inter",
        sps.max_transform_hierarchy_depth_inter,
        0..=4,
    )?;
    within(
        "max_transform_hierarchy_depth_intra",
        sps.max_transform_hierarchy_depth_intra,
        0..=4,
    )?;
    if sps.flags & V4L2_HEVC_SPS_FLAG_PCM_ENABLED != 0 {
        within(
            "pcm_sample_bit_depth_luma_minus1",
            sps.pcm_sample_bit_depth_luma_minus1,
            0..=15,
        )?;
        within(
            "pcm_sample_bit_depth_chroma_minus1",
            sps.pcm_sample_bit_depth_chroma_minus1,
            0..=15,
        )?;
        within(
            "log2_min_pcm_luma_coding_block_size_minus3",
            sps.log2_min_pcm_luma_coding_block_size_minus3,
            0..=2,
        )?;
        within(
            "log2_diff_max_min_pcm_luma_coding_block_size",
            sps.log2_diff_max_min_pcm_luma_coding_block_size,
            0..=2,
        )?;
    }
    within(
        "num_short_term_ref_pic_sets",
        sps.num_short_term_ref_pic_sets,
        0..=64,
    )?;
    within(
        "num_long_term_ref_pics_sps",
        sps.num_long_term_ref_pics_sps,
        0..=32,
    )
}

/// Checks what the syntax and the sizes of its arrays limit, for an SPS that is checked.
pub(super) fn check_pps(sps: &V4l2CtrlHevcSps, pps: &V4l2CtrlHevcPps) -> Result<(), HevcError> {
    let blocks = Blocks::of(sps);
    within(
        "num_extra_slice_header_bits",
        pps.num_extra_slice_header_bits,
        0..=7,
    )?;
    within(
        "num_ref_idx_l0_default_active_minus1",
        pps.num_ref_idx_l0_default_active_minus1,
        0..=14,
    )?;
    within(
        "num_ref_idx_l1_default_active_minus1",
        pps.num_ref_idx_l1_default_active_minus1,
        0..=14,
    )?;
    let lowest_qp = -26 - 6 * i64::from(sps.bit_depth_luma_minus8);
    within("init_qp_minus26", pps.init_qp_minus26, lowest_qp..=25)?;
    within(
        "diff_cu_qp_delta_depth",
        pps.diff_cu_qp_delta_depth,
        0..=sps.log2_diff_max_min_luma_coding_block_size.into(),
    )?;
    within("pps_cb_qp_offset", pps.pps_cb_qp_offset, -12..=12)?;
    within("pps_cr_qp_offset", pps.pps_cr_qp_offset, -12..=12)?;
    if pps.flags & V4L2_HEVC_PPS_FLAG_TILES_ENABLED != 0 {
        let columns = blocks.picture.0.min(pps.column_width_minus1.len() as u32);
        let rows = blocks.picture.1.min(pps.row_height_minus1.len() as u32);
        let most = |tiles: u32| i64::from(tiles) - 1;
        within(
            "num_tile_columns_minus1",
            pps.num_tile_columns_minus1,
            0..=most(columns),
        )?;
        within("num_tile_rows_minus1", pps.num_tile_rows_minus1, 0..=most(rows))?;
    }
    within("pps_beta_offset_div2", pps.pps_beta_offset_div2, -6..=6)?;
    within("pps_tc_offset_div2", pps.pps_tc_offset_div2, -6..=6)?;
    within(
        "log2_parallel_merge_level_minus2",
        pps.log2_parallel_merge_level_minus2,
        0..=i64::from(blocks.log2_size) - 2,
    )
}

/// Appends the VPS as a NAL unit with a start code: one layer, one sub-layer.
pub(super) fn write_vps(sps: &V4l2CtrlHevcSps, order: OutputOrder, out: &mut Vec<u8>) {
    write_nal(out, NalType::Vps, |w| {
        let (vps_id, max_layers_minus1, max_sub_layers_minus1) = (0, 0, 0);
        w.bits(4, vps_id);
        let (base_layer_internal, base_layer_available, temporal_id_nesting) = (true, true, true);
        w.flag(base_layer_internal);
        w.flag(base_layer_available);
        w.bits(6, max_layers_minus1);
        w.bits(3, max_sub_layers_minus1);
        w.flag(temporal_id_nesting);
        w.bits(16, 0xffff);
        profile_tier_level(w, sps);
        ordering_info(w, sps, order);
        let (max_layer_id, num_layer_sets_minus1) = (0, 0);
        w.bits(6, max_layer_id);
        w.ue(num_layer_sets_minus1);
        let (timing_info_present, extension) = (false, false);
        w.flag(timing_info_present);
        w.flag(extension);
    });
}

/// `profile_tier_level()` (7.3.3), with the highest level: the controls have none.
fn profile_tier_level(w: &mut BitWriter<'_>, sps: &V4l2CtrlHevcSps) {
    let (main, main_10, level_6_2) = (1, 2, 186);
    let profile = if sps.bit_depth_luma_minus8 == 0 {
        main
    } else {
        main_10
    };
    let (profile_space, high_tier) = (0, false);
    w.bits(2, profile_space);
    w.flag(high_tier);
    w.bits(5, profile);
    // general_profile_compatibility_flag[j] is the j-th bit.
    w.bits(32, 1 << (31 - profile));
    let (progressive_source, interlaced_source, non_packed, frame_only) = (true, false, true, true);
    w.flag(progressive_source);
    w.flag(interlaced_source);
    w.flag(non_packed);
    w.flag(frame_only);
    w.bits(44, 0);
    w.bits(8, level_6_2);
}

/// The size of the decoded picture buffer and the reordering, of the only sub-layer.
fn ordering_info(w: &mut BitWriter<'_>, sps: &V4l2CtrlHevcSps, order: OutputOrder) {
    let sub_layer_ordering_info_present = true;
    w.flag(sub_layer_ordering_info_present);
    let [buffering_minus1, reorder, latency_plus1] = match order {
        OutputOrder::Decode => [MAX_BUFFERING_MINUS1, 0, 0],
        OutputOrder::Display => [
            sps.sps_max_dec_pic_buffering_minus1,
            sps.sps_max_num_reorder_pics,
            sps.sps_max_latency_increase_plus1,
        ],
    };
    w.ue(buffering_minus1.into());
    w.ue(reorder.into());
    w.ue(latency_plus1.into());
}

/// Appends the SPS as a NAL unit with a start code. [`check_sps`] lets it pass.
pub(super) fn write_sps(sps: &V4l2CtrlHevcSps, order: OutputOrder, out: &mut Vec<u8>) {
    write_nal(out, NalType::Sps, |w| {
        let (vps_id, max_sub_layers_minus1, temporal_id_nesting) = (0, 0, true);
        w.bits(4, vps_id);
        w.bits(3, max_sub_layers_minus1);
        w.flag(temporal_id_nesting);
        profile_tier_level(w, sps);
        let sps_id = 0;
        w.ue(sps_id);
        w.ue(sps.chroma_format_idc.into());
        w.ue(sps.pic_width_in_luma_samples.into());
        w.ue(sps.pic_height_in_luma_samples.into());
        let conformance_window = false;
        w.flag(conformance_window);
        w.ue(sps.bit_depth_luma_minus8.into());
        w.ue(sps.bit_depth_chroma_minus8.into());
        w.ue(sps.log2_max_pic_order_cnt_lsb_minus4.into());
        ordering_info(w, sps, order);
        block_sizes(w, sps);
        coding_tools(w, sps);
        reference_picture_sets(w, sps);
        w.flag(sps.flags & V4L2_HEVC_SPS_FLAG_SPS_TEMPORAL_MVP_ENABLED != 0);
        w.flag(sps.flags & V4L2_HEVC_SPS_FLAG_STRONG_INTRA_SMOOTHING_ENABLED != 0);
        let (vui_parameters_present, extension_present) = (false, false);
        w.flag(vui_parameters_present);
        w.flag(extension_present);
    });
}

fn block_sizes(w: &mut BitWriter<'_>, sps: &V4l2CtrlHevcSps) {
    w.ue(sps.log2_min_luma_coding_block_size_minus3.into());
    w.ue(sps.log2_diff_max_min_luma_coding_block_size.into());
    w.ue(sps.log2_min_luma_transform_block_size_minus2.into());
    w.ue(sps.log2_diff_max_min_luma_transform_block_size.into());
    w.ue(sps.max_transform_hierarchy_depth_inter.into());
    w.ue(sps.max_transform_hierarchy_depth_intra.into());
}

fn coding_tools(w: &mut BitWriter<'_>, sps: &V4l2CtrlHevcSps) {
    let flag = |f: u64| sps.flags & f != 0;
    let scaling_list_enabled = flag(V4L2_HEVC_SPS_FLAG_SCALING_LIST_ENABLED);
    w.flag(scaling_list_enabled);
    if scaling_list_enabled {
        // The lists in force go into the PPS, so that the SPS need not change with them.
        let sps_scaling_list_data_present = false;
        w.flag(sps_scaling_list_data_present);
    }
    w.flag(flag(V4L2_HEVC_SPS_FLAG_AMP_ENABLED));
    w.flag(flag(V4L2_HEVC_SPS_FLAG_SAMPLE_ADAPTIVE_OFFSET));
    let pcm_enabled = flag(V4L2_HEVC_SPS_FLAG_PCM_ENABLED);
    w.flag(pcm_enabled);
    if pcm_enabled {
        w.bits(4, sps.pcm_sample_bit_depth_luma_minus1.into());
        w.bits(4, sps.pcm_sample_bit_depth_chroma_minus1.into());
        w.ue(sps.log2_min_pcm_luma_coding_block_size_minus3.into());
        w.ue(sps.log2_diff_max_min_pcm_luma_coding_block_size.into());
        w.flag(flag(V4L2_HEVC_SPS_FLAG_PCM_LOOP_FILTER_DISABLED));
    }
}

/// As many sets and long-term pictures as the stream's SPS has, all empty: the slice segments' headers depend
/// on the numbers. Headers that name one of them are rewritten.
fn reference_picture_sets(w: &mut BitWriter<'_>, sps: &V4l2CtrlHevcSps) {
    w.ue(sps.num_short_term_ref_pic_sets.into());
    for index in 0..sps.num_short_term_ref_pic_sets {
        if index > 0 {
            let inter_ref_pic_set_prediction = false;
            w.flag(inter_ref_pic_set_prediction);
        }
        let (num_negative_pics, num_positive_pics) = (0, 0);
        w.ue(num_negative_pics);
        w.ue(num_positive_pics);
    }
    let long_term = sps.flags & V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT != 0;
    w.flag(long_term);
    if long_term {
        w.ue(sps.num_long_term_ref_pics_sps.into());
        for _ in 0..sps.num_long_term_ref_pics_sps {
            let (lt_ref_pic_poc_lsb, used_by_curr_pic) = (0, false);
            w.bits(
                u32::from(sps.log2_max_pic_order_cnt_lsb_minus4) + 4,
                lt_ref_pic_poc_lsb,
            );
            w.flag(used_by_curr_pic);
        }
    }
}

/// Appends the PPS as a NAL unit with a start code. [`check_pps`] lets it pass. `scaling` are the scaling
/// lists, `None` for those of the specification.
pub(super) fn write_pps(
    pps: &V4l2CtrlHevcPps,
    scaling: Option<&V4l2CtrlHevcScalingMatrix>,
    out: &mut Vec<u8>,
) {
    let flag = |f: u64| pps.flags & f != 0;
    write_nal(out, NalType::Pps, |w| {
        let sps_id = 0;
        w.ue(pps.pic_parameter_set_id.into());
        w.ue(sps_id);
        w.flag(flag(V4L2_HEVC_PPS_FLAG_DEPENDENT_SLICE_SEGMENT_ENABLED));
        w.flag(flag(V4L2_HEVC_PPS_FLAG_OUTPUT_FLAG_PRESENT));
        w.bits(3, pps.num_extra_slice_header_bits.into());
        w.flag(flag(V4L2_HEVC_PPS_FLAG_SIGN_DATA_HIDING_ENABLED));
        w.flag(flag(V4L2_HEVC_PPS_FLAG_CABAC_INIT_PRESENT));
        w.ue(pps.num_ref_idx_l0_default_active_minus1.into());
        w.ue(pps.num_ref_idx_l1_default_active_minus1.into());
        w.se(pps.init_qp_minus26.into());
        w.flag(flag(V4L2_HEVC_PPS_FLAG_CONSTRAINED_INTRA_PRED));
        w.flag(flag(V4L2_HEVC_PPS_FLAG_TRANSFORM_SKIP_ENABLED));
        let cu_qp_delta_enabled = flag(V4L2_HEVC_PPS_FLAG_CU_QP_DELTA_ENABLED);
        w.flag(cu_qp_delta_enabled);
        if cu_qp_delta_enabled {
            w.ue(pps.diff_cu_qp_delta_depth.into());
        }
        w.se(pps.pps_cb_qp_offset.into());
        w.se(pps.pps_cr_qp_offset.into());
        w.flag(flag(V4L2_HEVC_PPS_FLAG_PPS_SLICE_CHROMA_QP_OFFSETS_PRESENT));
        w.flag(flag(V4L2_HEVC_PPS_FLAG_WEIGHTED_PRED));
        w.flag(flag(V4L2_HEVC_PPS_FLAG_WEIGHTED_BIPRED));
        w.flag(flag(V4L2_HEVC_PPS_FLAG_TRANSQUANT_BYPASS_ENABLED));
        w.flag(flag(V4L2_HEVC_PPS_FLAG_TILES_ENABLED));
        w.flag(flag(V4L2_HEVC_PPS_FLAG_ENTROPY_CODING_SYNC_ENABLED));
        if flag(V4L2_HEVC_PPS_FLAG_TILES_ENABLED) {
            tiles(w, pps);
        }
        w.flag(flag(V4L2_HEVC_PPS_FLAG_PPS_LOOP_FILTER_ACROSS_SLICES_ENABLED));
        deblocking(w, pps);
        w.flag(scaling.is_some());
        if let Some(matrix) = scaling {
            scaling_list_data(w, matrix);
        }
        w.flag(flag(V4L2_HEVC_PPS_FLAG_LISTS_MODIFICATION_PRESENT));
        w.ue(pps.log2_parallel_merge_level_minus2.into());
        w.flag(flag(V4L2_HEVC_PPS_FLAG_SLICE_SEGMENT_HEADER_EXTENSION_PRESENT));
        let extension_present = false;
        w.flag(extension_present);
    });
}

fn tiles(w: &mut BitWriter<'_>, pps: &V4l2CtrlHevcPps) {
    w.ue(pps.num_tile_columns_minus1.into());
    w.ue(pps.num_tile_rows_minus1.into());
    let uniform_spacing = pps.flags & V4L2_HEVC_PPS_FLAG_UNIFORM_SPACING != 0;
    w.flag(uniform_spacing);
    if !uniform_spacing {
        // The last column and row have what is left.
        let columns = &pps.column_width_minus1[..usize::from(pps.num_tile_columns_minus1)];
        let rows = &pps.row_height_minus1[..usize::from(pps.num_tile_rows_minus1)];
        columns.iter().chain(rows).for_each(|&blocks| w.ue(blocks.into()));
    }
    w.flag(pps.flags & V4L2_HEVC_PPS_FLAG_LOOP_FILTER_ACROSS_TILES_ENABLED != 0);
}

fn deblocking(w: &mut BitWriter<'_>, pps: &V4l2CtrlHevcPps) {
    let control_present = pps.flags & V4L2_HEVC_PPS_FLAG_DEBLOCKING_FILTER_CONTROL_PRESENT != 0;
    w.flag(control_present);
    if control_present {
        w.flag(pps.flags & V4L2_HEVC_PPS_FLAG_DEBLOCKING_FILTER_OVERRIDE_ENABLED != 0);
        let disabled = pps.flags & V4L2_HEVC_PPS_FLAG_PPS_DISABLE_DEBLOCKING_FILTER != 0;
        w.flag(disabled);
        if !disabled {
            w.se(pps.pps_beta_offset_div2.into());
            w.se(pps.pps_tc_offset_div2.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_come_before_rows() {
        // 5 x 3 blocks of 64.
        let sps = V4l2CtrlHevcSps {
            pic_width_in_luma_samples: 300,
            pic_height_in_luma_samples: 192,
            log2_diff_max_min_luma_coding_block_size: 3,
            ..Default::default()
        };
        let mut pps = V4l2CtrlHevcPps::default();
        assert_eq!(Blocks::of(&sps).count(), 15);
        assert_eq!(tile_scan(&sps, &pps, 7), [0, 0, 1, 2]);
        pps.num_tile_columns_minus1 = 1;
        pps.flags = V4L2_HEVC_PPS_FLAG_TILES_ENABLED;
        pps.column_width_minus1[0] = 2;
        assert_eq!([7, 8, 13].map(|a| tile_scan(&sps, &pps, a)[1]), [0, 1, 1]);
        // 5 / 2 columns: the second tile begins at 2.
        pps.flags |= V4L2_HEVC_PPS_FLAG_UNIFORM_SPACING;
        assert_eq!([6, 7, 13].map(|a| tile_scan(&sps, &pps, a)[1]), [0, 1, 1]);
        pps.num_tile_rows_minus1 = 2;
        assert_eq!([4, 5, 14].map(|a| tile_scan(&sps, &pps, a)[0]), [0, 1, 2]);
    }
}
