// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sequence and picture parameter sets (ITU-T H.265 7.3.2.2, 7.3.2.3), as far as decoding needs them.

use daedalus_uapi::v4l2_controls::*;

use super::reader::{Reader, Wrong};
use super::reference_set::ShortTermSet;
use super::scaling::Lists;
use crate::bits::flags;
use crate::coded::Visible;

/// A sequence parameter set.
#[derive(Clone, Debug, Default)]
pub(super) struct Sps {
    /// What the control has of it.
    pub(super) control: V4l2CtrlHevcSps,
    /// The part of its pictures that is shown.
    pub(super) visible: Visible,
    /// Its short-term reference picture sets.
    pub(super) sets: Vec<ShortTermSet>,
    /// `lt_ref_pic_poc_lsb_sps` and `used_by_curr_pic_lt_sps_flag`.
    pub(super) long_term: Vec<(u32, bool)>,
    /// Its scaling lists; `None` if scaling is not enabled.
    pub(super) scaling: Option<Lists>,
}

impl Sps {
    pub(super) fn has(&self, flag: u64) -> bool {
        self.control.flags & flag != 0
    }

    /// Returns the number of bits of `slice_pic_order_cnt_lsb`.
    pub(super) fn lsb_bits(&self) -> u32 {
        u32::from(self.control.log2_max_pic_order_cnt_lsb_minus4) + 4
    }

    /// Returns `PicSizeInCtbsY`.
    pub(super) fn blocks(&self) -> u32 {
        let sps = &self.control;
        let log2 =
            sps.log2_min_luma_coding_block_size_minus3 + 3 + sps.log2_diff_max_min_luma_coding_block_size;
        let blocks = |samples: u16| u32::from(samples).div_ceil(1 << log2);
        blocks(sps.pic_width_in_luma_samples) * blocks(sps.pic_height_in_luma_samples)
    }

    pub(super) fn parse(unit: &[u8]) -> Result<Self, Wrong> {
        let r = &mut Reader::new(unit, usize::MAX);
        let mut sps = Self::default();
        let c = &mut sps.control;
        c.video_parameter_set_id = r.small(4)?;
        c.sps_max_sub_layers_minus1 = r.small(3)?;
        let _temporal_id_nesting = r.flag()?;
        profile_tier_level(r, c.sps_max_sub_layers_minus1)?;
        c.seq_parameter_set_id = r.small_ue(15)?;
        c.chroma_format_idc = r.small_ue(3)?;
        let separate_colour_plane = c.chroma_format_idc == 3 && r.flag()?;
        c.pic_width_in_luma_samples = r.ue()?.try_into().map_err(|_| "the picture is too wide")?;
        c.pic_height_in_luma_samples = r.ue()?.try_into().map_err(|_| "the picture is too high")?;
        let conformance_window = r.flag()?;
        let mut window = [0; 4];
        if conformance_window {
            for offset in &mut window {
                *offset = r.ue()?;
            }
        }
        sps.visible = visible(&sps.control, window)?;
        let c = &mut sps.control;
        c.bit_depth_luma_minus8 = r.small_ue(8)?;
        c.bit_depth_chroma_minus8 = r.small_ue(8)?;
        c.log2_max_pic_order_cnt_lsb_minus4 = r.small_ue(12)?;
        let ordering_info_of_all = r.flag()?;
        // The last sub-layer's hold: it is the one that is decoded.
        let count = if ordering_info_of_all {
            c.sps_max_sub_layers_minus1 + 1
        } else {
            1
        };
        for _ in 0..count {
            c.sps_max_dec_pic_buffering_minus1 = r.small_ue(16)?;
            c.sps_max_num_reorder_pics = r.small_ue(16)?;
            c.sps_max_latency_increase_plus1 = r.ue()?.min(255) as u8;
        }
        c.log2_min_luma_coding_block_size_minus3 = r.small_ue(3)?;
        c.log2_diff_max_min_luma_coding_block_size = r.small_ue(3)?;
        c.log2_min_luma_transform_block_size_minus2 = r.small_ue(3)?;
        c.log2_diff_max_min_luma_transform_block_size = r.small_ue(3)?;
        c.max_transform_hierarchy_depth_inter = r.small_ue(4)?;
        c.max_transform_hierarchy_depth_intra = r.small_ue(4)?;
        let scaling_list_enabled = r.flag()?;
        if scaling_list_enabled {
            let present = r.flag()?;
            sps.scaling = Some(if present {
                Lists::parse(r)?
            } else {
                Lists::default()
            });
        }
        let amp_enabled = r.flag()?;
        let sample_adaptive_offset = r.flag()?;
        let pcm_enabled = r.flag()?;
        let mut pcm_loop_filter_disabled = false;
        let c = &mut sps.control;
        if pcm_enabled {
            c.pcm_sample_bit_depth_luma_minus1 = r.small(4)?;
            c.pcm_sample_bit_depth_chroma_minus1 = r.small(4)?;
            c.log2_min_pcm_luma_coding_block_size_minus3 = r.small_ue(2)?;
            c.log2_diff_max_min_pcm_luma_coding_block_size = r.small_ue(2)?;
            pcm_loop_filter_disabled = r.flag()?;
        }
        c.num_short_term_ref_pic_sets = r.small_ue(64)?;
        for _ in 0..c.num_short_term_ref_pic_sets {
            let set = ShortTermSet::parse(r, &sps.sets, false)?;
            sps.sets.push(set.set);
        }
        let long_term_ref_pics_present = r.flag()?;
        if long_term_ref_pics_present {
            let lsb_bits = sps.lsb_bits();
            sps.control.num_long_term_ref_pics_sps = r.small_ue(32)?;
            for _ in 0..sps.control.num_long_term_ref_pics_sps {
                sps.long_term.push((r.bits(lsb_bits)?, r.flag()?));
            }
        }
        let temporal_mvp_enabled = r.flag()?;
        let strong_intra_smoothing = r.flag()?;
        // VUI and extensions follow, which no control has.
        sps.control.flags = flags([
            (separate_colour_plane, V4L2_HEVC_SPS_FLAG_SEPARATE_COLOUR_PLANE),
            (scaling_list_enabled, V4L2_HEVC_SPS_FLAG_SCALING_LIST_ENABLED),
            (amp_enabled, V4L2_HEVC_SPS_FLAG_AMP_ENABLED),
            (sample_adaptive_offset, V4L2_HEVC_SPS_FLAG_SAMPLE_ADAPTIVE_OFFSET),
            (pcm_enabled, V4L2_HEVC_SPS_FLAG_PCM_ENABLED),
            (
                pcm_loop_filter_disabled,
                V4L2_HEVC_SPS_FLAG_PCM_LOOP_FILTER_DISABLED,
            ),
            (
                long_term_ref_pics_present,
                V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT,
            ),
            (temporal_mvp_enabled, V4L2_HEVC_SPS_FLAG_SPS_TEMPORAL_MVP_ENABLED),
            (
                strong_intra_smoothing,
                V4L2_HEVC_SPS_FLAG_STRONG_INTRA_SMOOTHING_ENABLED,
            ),
        ]);
        Ok(sps)
    }
}

/// Skips `profile_tier_level()` (7.3.3).
fn profile_tier_level(r: &mut Reader, max_sub_layers_minus1: u8) -> Result<(), Wrong> {
    r.bits(32)?;
    r.bits(32)?;
    // The rest of 88 bits of profile, and general_level_idc.
    r.bits(32)?;
    let mut present = Vec::new();
    for _ in 0..max_sub_layers_minus1 {
        present.push((r.flag()?, r.flag()?));
    }
    if max_sub_layers_minus1 > 0 {
        r.bits(2 * (8 - u32::from(max_sub_layers_minus1)))?;
    }
    for (profile, level) in present {
        if profile {
            r.bits(32)?;
            r.bits(32)?;
            r.bits(24)?;
        }
        if level {
            r.bits(8)?;
        }
    }
    Ok(())
}

/// Returns the part of a picture that is shown (7-19): `window` is left, right, top, bottom.
fn visible(sps: &V4l2CtrlHevcSps, window: [u32; 4]) -> Result<Visible, Wrong> {
    let (horizontal, vertical) = match sps.chroma_format_idc {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let [left, right, top, bottom] = window;
    let side = |samples: u16, unit: u32, before: u32, after: u32| {
        let cut = before.checked_add(after)?.checked_mul(unit)?;
        u32::from(samples).checked_sub(cut).filter(|rest| *rest > 0)
    };
    let width = side(sps.pic_width_in_luma_samples, horizontal, left, right);
    let height = side(sps.pic_height_in_luma_samples, vertical, top, bottom);
    let (width, height) = width.zip(height).ok_or("nothing of the picture is shown")?;
    Ok(Visible {
        left: left * horizontal,
        top: top * vertical,
        width,
        height,
    })
}

/// A picture parameter set.
#[derive(Clone, Debug, Default)]
pub(super) struct Pps {
    /// What the control has of it.
    pub(super) control: V4l2CtrlHevcPps,
    /// `pps_seq_parameter_set_id`.
    pub(super) sps_id: u8,
    /// Its own scaling lists.
    pub(super) scaling: Option<Lists>,
}

impl Pps {
    pub(super) fn has(&self, flag: u64) -> bool {
        self.control.flags & flag != 0
    }

    pub(super) fn parse(unit: &[u8]) -> Result<Self, Wrong> {
        let r = &mut Reader::new(unit, usize::MAX);
        let mut pps = Self::default();
        let c = &mut pps.control;
        c.pic_parameter_set_id = r.small_ue(63)?;
        pps.sps_id = r.small_ue(15)?;
        let dependent_slice_segments_enabled = r.flag()?;
        let output_flag_present = r.flag()?;
        c.num_extra_slice_header_bits = r.small(3)?;
        let sign_data_hiding_enabled = r.flag()?;
        let cabac_init_present = r.flag()?;
        c.num_ref_idx_l0_default_active_minus1 = r.small_ue(14)?;
        c.num_ref_idx_l1_default_active_minus1 = r.small_ue(14)?;
        c.init_qp_minus26 = r.small_se()?;
        let constrained_intra_pred = r.flag()?;
        let transform_skip_enabled = r.flag()?;
        let cu_qp_delta_enabled = r.flag()?;
        if cu_qp_delta_enabled {
            c.diff_cu_qp_delta_depth = r.small_ue(3)?;
        }
        c.pps_cb_qp_offset = r.small_se()?;
        c.pps_cr_qp_offset = r.small_se()?;
        let slice_chroma_qp_offsets_present = r.flag()?;
        let weighted_pred = r.flag()?;
        let weighted_bipred = r.flag()?;
        let transquant_bypass_enabled = r.flag()?;
        let tiles_enabled = r.flag()?;
        let entropy_coding_sync_enabled = r.flag()?;
        // Without tiles the one tile is uniform, and its loop filter would cross borders (7.4.3.3.1).
        let (mut uniform_spacing, mut across_tiles) = (false, false);
        if tiles_enabled {
            c.num_tile_columns_minus1 = r.small_ue(19)?;
            c.num_tile_rows_minus1 = r.small_ue(21)?;
            uniform_spacing = r.flag()?;
            if !uniform_spacing {
                let columns = usize::from(c.num_tile_columns_minus1);
                let rows = usize::from(c.num_tile_rows_minus1);
                let columns = c.column_width_minus1[..columns].iter_mut();
                for size_minus1 in columns.chain(&mut c.row_height_minus1[..rows]) {
                    *size_minus1 = r.small_ue(255)?;
                }
            }
            across_tiles = r.flag()?;
        }
        let across_slices = r.flag()?;
        let deblocking_control_present = r.flag()?;
        let (mut deblocking_override_enabled, mut deblocking_disabled) = (false, false);
        if deblocking_control_present {
            deblocking_override_enabled = r.flag()?;
            deblocking_disabled = r.flag()?;
            if !deblocking_disabled {
                c.pps_beta_offset_div2 = r.small_se()?;
                c.pps_tc_offset_div2 = r.small_se()?;
            }
        }
        let scaling_list_data_present = r.flag()?;
        if scaling_list_data_present {
            pps.scaling = Some(Lists::parse(r)?);
        }
        let lists_modification_present = r.flag()?;
        let c = &mut pps.control;
        c.log2_parallel_merge_level_minus2 = r.small_ue(4)?;
        let header_extension_present = r.flag()?;
        // Extensions follow, which no control has.
        c.flags = flags([
            (
                dependent_slice_segments_enabled,
                V4L2_HEVC_PPS_FLAG_DEPENDENT_SLICE_SEGMENT_ENABLED,
            ),
            (output_flag_present, V4L2_HEVC_PPS_FLAG_OUTPUT_FLAG_PRESENT),
            (
                sign_data_hiding_enabled,
                V4L2_HEVC_PPS_FLAG_SIGN_DATA_HIDING_ENABLED,
            ),
            (cabac_init_present, V4L2_HEVC_PPS_FLAG_CABAC_INIT_PRESENT),
            (constrained_intra_pred, V4L2_HEVC_PPS_FLAG_CONSTRAINED_INTRA_PRED),
            (transform_skip_enabled, V4L2_HEVC_PPS_FLAG_TRANSFORM_SKIP_ENABLED),
            (cu_qp_delta_enabled, V4L2_HEVC_PPS_FLAG_CU_QP_DELTA_ENABLED),
            (
                slice_chroma_qp_offsets_present,
                V4L2_HEVC_PPS_FLAG_PPS_SLICE_CHROMA_QP_OFFSETS_PRESENT,
            ),
            (weighted_pred, V4L2_HEVC_PPS_FLAG_WEIGHTED_PRED),
            (weighted_bipred, V4L2_HEVC_PPS_FLAG_WEIGHTED_BIPRED),
            (
                transquant_bypass_enabled,
                V4L2_HEVC_PPS_FLAG_TRANSQUANT_BYPASS_ENABLED,
            ),
            (tiles_enabled, V4L2_HEVC_PPS_FLAG_TILES_ENABLED),
            (
                entropy_coding_sync_enabled,
                V4L2_HEVC_PPS_FLAG_ENTROPY_CODING_SYNC_ENABLED,
            ),
            (across_tiles, V4L2_HEVC_PPS_FLAG_LOOP_FILTER_ACROSS_TILES_ENABLED),
            (
                across_slices,
                V4L2_HEVC_PPS_FLAG_PPS_LOOP_FILTER_ACROSS_SLICES_ENABLED,
            ),
            (
                deblocking_override_enabled,
                V4L2_HEVC_PPS_FLAG_DEBLOCKING_FILTER_OVERRIDE_ENABLED,
            ),
            (
                deblocking_disabled,
                V4L2_HEVC_PPS_FLAG_PPS_DISABLE_DEBLOCKING_FILTER,
            ),
            (
                lists_modification_present,
                V4L2_HEVC_PPS_FLAG_LISTS_MODIFICATION_PRESENT,
            ),
            (
                header_extension_present,
                V4L2_HEVC_PPS_FLAG_SLICE_SEGMENT_HEADER_EXTENSION_PRESENT,
            ),
            (
                deblocking_control_present,
                V4L2_HEVC_PPS_FLAG_DEBLOCKING_FILTER_CONTROL_PRESENT,
            ),
            (uniform_spacing, V4L2_HEVC_PPS_FLAG_UNIFORM_SPACING),
        ]);
        Ok(pps)
    }
}
