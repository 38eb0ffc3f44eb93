// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HEVC stateless controls: those of a decoder of whole frames.

use super::base::{V4L2_CID_CODEC_BASE, V4L2_CID_CODEC_STATELESS_BASE};
use super::structs::uapi_structs;

/// Menu: HEVC profile.
pub const V4L2_CID_MPEG_VIDEO_HEVC_PROFILE: u32 = V4L2_CID_CODEC_BASE + 615;
/// Menu: HEVC level.
pub const V4L2_CID_MPEG_VIDEO_HEVC_LEVEL: u32 = V4L2_CID_CODEC_BASE + 616;
/// [`V4l2CtrlHevcSps`].
pub const V4L2_CID_STATELESS_HEVC_SPS: u32 = V4L2_CID_CODEC_STATELESS_BASE + 400;
/// [`V4l2CtrlHevcPps`].
pub const V4L2_CID_STATELESS_HEVC_PPS: u32 = V4L2_CID_CODEC_STATELESS_BASE + 401;
/// The slices' headers: an array, which a decoder of whole frames need not have.
pub const V4L2_CID_STATELESS_HEVC_SLICE_PARAMS: u32 = V4L2_CID_CODEC_STATELESS_BASE + 402;
/// [`V4l2CtrlHevcScalingMatrix`].
pub const V4L2_CID_STATELESS_HEVC_SCALING_MATRIX: u32 = V4L2_CID_CODEC_STATELESS_BASE + 403;
/// [`V4l2CtrlHevcDecodeParams`].
pub const V4L2_CID_STATELESS_HEVC_DECODE_PARAMS: u32 = V4L2_CID_CODEC_STATELESS_BASE + 404;
/// Menu: HEVC decode mode, slice based or frame based.
pub const V4L2_CID_STATELESS_HEVC_DECODE_MODE: u32 = V4L2_CID_CODEC_STATELESS_BASE + 405;
/// Menu: HEVC start code, none or Annex B.
pub const V4L2_CID_STATELESS_HEVC_START_CODE: u32 = V4L2_CID_CODEC_STATELESS_BASE + 406;
/// The slices' entry points: an array, which a decoder of whole frames need not have.
pub const V4L2_CID_STATELESS_HEVC_ENTRY_POINT_OFFSETS: u32 = V4L2_CID_CODEC_STATELESS_BASE + 407;

/// Decode mode: one slice segment per OUTPUT buffer.
pub const V4L2_STATELESS_HEVC_DECODE_MODE_SLICE_BASED: u32 = 0;
/// Decode mode: all slice segments of a picture in one OUTPUT buffer.
pub const V4L2_STATELESS_HEVC_DECODE_MODE_FRAME_BASED: u32 = 1;
/// Start code: slice segments come without one.
pub const V4L2_STATELESS_HEVC_START_CODE_NONE: u32 = 0;
/// Start code: slice segments are prefixed by 00 00 01 or 00 00 00 01.
pub const V4L2_STATELESS_HEVC_START_CODE_ANNEX_B: u32 = 1;

/// `separate_colour_plane_flag`, in [`V4l2CtrlHevcSps::flags`].
pub const V4L2_HEVC_SPS_FLAG_SEPARATE_COLOUR_PLANE: u64 = 0x1;
/// `scaling_list_enabled_flag`.
pub const V4L2_HEVC_SPS_FLAG_SCALING_LIST_ENABLED: u64 = 0x2;
/// `amp_enabled_flag`.
pub const V4L2_HEVC_SPS_FLAG_AMP_ENABLED: u64 = 0x4;
/// `sample_adaptive_offset_enabled_flag`.
pub const V4L2_HEVC_SPS_FLAG_SAMPLE_ADAPTIVE_OFFSET: u64 = 0x8;
/// `pcm_enabled_flag`.
pub const V4L2_HEVC_SPS_FLAG_PCM_ENABLED: u64 = 0x10;
/// `pcm_loop_filter_disabled_flag`.
pub const V4L2_HEVC_SPS_FLAG_PCM_LOOP_FILTER_DISABLED: u64 = 0x20;
/// `long_term_ref_pics_present_flag`.
pub const V4L2_HEVC_SPS_FLAG_LONG_TERM_REF_PICS_PRESENT: u64 = 0x40;
/// `sps_temporal_mvp_enabled_flag`.
pub const V4L2_HEVC_SPS_FLAG_SPS_TEMPORAL_MVP_ENABLED: u64 = 0x80;
/// `strong_intra_smoothing_enabled_flag`.
pub const V4L2_HEVC_SPS_FLAG_STRONG_INTRA_SMOOTHING_ENABLED: u64 = 0x100;

/// `dependent_slice_segments_enabled_flag`, in [`V4l2CtrlHevcPps::flags`].
pub const V4L2_HEVC_PPS_FLAG_DEPENDENT_SLICE_SEGMENT_ENABLED: u64 = 0x1;
/// `output_flag_present_flag`.
pub const V4L2_HEVC_PPS_FLAG_OUTPUT_FLAG_PRESENT: u64 = 0x2;
/// `sign_data_hiding_enabled_flag`.
pub const V4L2_HEVC_PPS_FLAG_SIGN_DATA_HIDING_ENABLED: u64 = 0x4;
/// `cabac_init_present_flag`.
pub const V4L2_HEVC_PPS_FLAG_CABAC_INIT_PRESENT: u64 = 0x8;
/// `constrained_intra_pred_flag`.
pub const V4L2_HEVC_PPS_FLAG_CONSTRAINED_INTRA_PRED: u64 = 0x10;
/// `transform_skip_enabled_flag`.
pub const V4L2_HEVC_PPS_FLAG_TRANSFORM_SKIP_ENABLED: u64 = 0x20;
/// `cu_qp_delta_enabled_flag`.
pub const V4L2_HEVC_PPS_FLAG_CU_QP_DELTA_ENABLED: u64 = 0x40;
/// `pps_slice_chroma_qp_offsets_present_flag`.
pub const V4L2_HEVC_PPS_FLAG_PPS_SLICE_CHROMA_QP_OFFSETS_PRESENT: u64 = 0x80;
/// `weighted_pred_flag`.
pub const V4L2_HEVC_PPS_FLAG_WEIGHTED_PRED: u64 = 0x100;
/// `weighted_bipred_flag`.
pub const V4L2_HEVC_PPS_FLAG_WEIGHTED_BIPRED: u64 = 0x200;
/// `transquant_bypass_enabled_flag`.
pub const V4L2_HEVC_PPS_FLAG_TRANSQUANT_BYPASS_ENABLED: u64 = 0x400;
/// `tiles_enabled_flag`.
pub const V4L2_HEVC_PPS_FLAG_TILES_ENABLED: u64 = 0x800;
/// `entropy_coding_sync_enabled_flag`.
pub const V4L2_HEVC_PPS_FLAG_ENTROPY_CODING_SYNC_ENABLED: u64 = 0x1000;
/// `loop_filter_across_tiles_enabled_flag`.
pub const V4L2_HEVC_PPS_FLAG_LOOP_FILTER_ACROSS_TILES_ENABLED: u64 = 0x2000;
/// `pps_loop_filter_across_slices_enabled_flag`.
pub const V4L2_HEVC_PPS_FLAG_PPS_LOOP_FILTER_ACROSS_SLICES_ENABLED: u64 = 0x4000;
/// `deblocking_filter_override_enabled_flag`.
pub const V4L2_HEVC_PPS_FLAG_DEBLOCKING_FILTER_OVERRIDE_ENABLED: u64 = 0x8000;
/// `pps_deblocking_filter_disabled_flag`.
pub const V4L2_HEVC_PPS_FLAG_PPS_DISABLE_DEBLOCKING_FILTER: u64 = 0x10000;
/// `lists_modification_present_flag`.
pub const V4L2_HEVC_PPS_FLAG_LISTS_MODIFICATION_PRESENT: u64 = 0x20000;
/// `slice_segment_header_extension_present_flag`.
pub const V4L2_HEVC_PPS_FLAG_SLICE_SEGMENT_HEADER_EXTENSION_PRESENT: u64 = 0x40000;
/// `deblocking_filter_control_present_flag`.
pub const V4L2_HEVC_PPS_FLAG_DEBLOCKING_FILTER_CONTROL_PRESENT: u64 = 0x80000;
/// `uniform_spacing_flag`.
pub const V4L2_HEVC_PPS_FLAG_UNIFORM_SPACING: u64 = 0x100000;

/// Entries of the decoded picture buffer.
pub const V4L2_HEVC_DPB_ENTRIES_NUM_MAX: usize = 16;
/// The picture is a long-term reference, in [`V4l2HevcDpbEntry::flags`].
pub const V4L2_HEVC_DPB_ENTRY_LONG_TERM_REFERENCE: u8 = 0x01;

/// The picture is an IRAP picture, in [`V4l2CtrlHevcDecodeParams::flags`].
pub const V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC: u64 = 0x1;
/// The picture is an IDR picture.
pub const V4L2_HEVC_DECODE_PARAM_FLAG_IDR_PIC: u64 = 0x2;
/// `no_output_of_prior_pics_flag`.
pub const V4L2_HEVC_DECODE_PARAM_FLAG_NO_OUTPUT_OF_PRIOR: u64 = 0x4;

uapi_structs! {
    /// `struct v4l2_ctrl_hevc_sps`.
    pub struct V4l2CtrlHevcSps {
        /// `sps_video_parameter_set_id`.
        pub video_parameter_set_id: u8,
        /// `sps_seq_parameter_set_id`.
        pub seq_parameter_set_id: u8,
        /// `pic_width_in_luma_samples`.
        pub pic_width_in_luma_samples: u16,
        /// `pic_height_in_luma_samples`.
        pub pic_height_in_luma_samples: u16,
        /// `bit_depth_luma_minus8`.
        pub bit_depth_luma_minus8: u8,
        /// `bit_depth_chroma_minus8`.
        pub bit_depth_chroma_minus8: u8,
        /// `log2_max_pic_order_cnt_lsb_minus4`.
        pub log2_max_pic_order_cnt_lsb_minus4: u8,
        /// `sps_max_dec_pic_buffering_minus1`, of the sub-layer that is decoded.
        pub sps_max_dec_pic_buffering_minus1: u8,
        /// `sps_max_num_reorder_pics`, of that sub-layer.
        pub sps_max_num_reorder_pics: u8,
        /// `sps_max_latency_increase_plus1`, of that sub-layer.
        pub sps_max_latency_increase_plus1: u8,
        /// `log2_min_luma_coding_block_size_minus3`.
        pub log2_min_luma_coding_block_size_minus3: u8,
        /// `log2_diff_max_min_luma_coding_block_size`.
        pub log2_diff_max_min_luma_coding_block_size: u8,
        /// `log2_min_luma_transform_block_size_minus2`.
        pub log2_min_luma_transform_block_size_minus2: u8,
        /// `log2_diff_max_min_luma_transform_block_size`.
        pub log2_diff_max_min_luma_transform_block_size: u8,
        /// `max_transform_hierarchy_depth_inter`.
        pub max_transform_hierarchy_depth_inter: u8,
        /// `max_transform_hierarchy_depth_intra`.
        pub max_transform_hierarchy_depth_intra: u8,
        /// `pcm_sample_bit_depth_luma_minus1`.
        pub pcm_sample_bit_depth_luma_minus1: u8,
        /// `pcm_sample_bit_depth_chroma_minus1`.
        pub pcm_sample_bit_depth_chroma_minus1: u8,
        /// `log2_min_pcm_luma_coding_block_size_minus3`.
        pub log2_min_pcm_luma_coding_block_size_minus3: u8,
        /// `log2_diff_max_min_pcm_luma_coding_block_size`.
        pub log2_diff_max_min_pcm_luma_coding_block_size: u8,
        /// `num_short_term_ref_pic_sets`. The sets themselves are not in the control.
        pub num_short_term_ref_pic_sets: u8,
        /// `num_long_term_ref_pics_sps`. The pictures themselves are not in the control.
        pub num_long_term_ref_pics_sps: u8,
        /// `chroma_format_idc`.
        pub chroma_format_idc: u8,
        /// `sps_max_sub_layers_minus1`.
        pub sps_max_sub_layers_minus1: u8,
        /// Zero.
        pub reserved: [u8; 6],
        /// `V4L2_HEVC_SPS_FLAG_*`.
        pub flags: u64,
    }

    /// `struct v4l2_ctrl_hevc_pps`.
    pub struct V4l2CtrlHevcPps {
        /// `pps_pic_parameter_set_id`.
        pub pic_parameter_set_id: u8,
        /// `num_extra_slice_header_bits`.
        pub num_extra_slice_header_bits: u8,
        /// `num_ref_idx_l0_default_active_minus1`.
        pub num_ref_idx_l0_default_active_minus1: u8,
        /// `num_ref_idx_l1_default_active_minus1`.
        pub num_ref_idx_l1_default_active_minus1: u8,
        /// `init_qp_minus26`.
        pub init_qp_minus26: i8,
        /// `diff_cu_qp_delta_depth`.
        pub diff_cu_qp_delta_depth: u8,
        /// `pps_cb_qp_offset`.
        pub pps_cb_qp_offset: i8,
        /// `pps_cr_qp_offset`.
        pub pps_cr_qp_offset: i8,
        /// `num_tile_columns_minus1`.
        pub num_tile_columns_minus1: u8,
        /// `num_tile_rows_minus1`.
        pub num_tile_rows_minus1: u8,
        /// `column_width_minus1`.
        pub column_width_minus1: [u8; 20],
        /// `row_height_minus1`.
        pub row_height_minus1: [u8; 22],
        /// `pps_beta_offset_div2`.
        pub pps_beta_offset_div2: i8,
        /// `pps_tc_offset_div2`.
        pub pps_tc_offset_div2: i8,
        /// `log2_parallel_merge_level_minus2`.
        pub log2_parallel_merge_level_minus2: u8,
        /// Zero.
        pub reserved: u8,
        /// `V4L2_HEVC_PPS_FLAG_*`.
        pub flags: u64,
    }

    /// `struct v4l2_ctrl_hevc_scaling_matrix`: all lists in raster order.
    pub struct V4l2CtrlHevcScalingMatrix {
        /// `ScalingList` of 4x4 blocks: intra Y, Cb, Cr, inter Y, Cb, Cr.
        pub scaling_list_4x4: [[u8; 16]; 6],
        /// `ScalingList` of 8x8 blocks.
        pub scaling_list_8x8: [[u8; 64]; 6],
        /// `ScalingList` of 16x16 blocks.
        pub scaling_list_16x16: [[u8; 64]; 6],
        /// `ScalingList` of 32x32 blocks: intra Y, inter Y.
        pub scaling_list_32x32: [[u8; 64]; 2],
        /// `scaling_list_dc_coef_minus8` plus 8 of 16x16 blocks.
        pub scaling_list_dc_coef_16x16: [u8; 6],
        /// `scaling_list_dc_coef_minus8` plus 8 of 32x32 blocks.
        pub scaling_list_dc_coef_32x32: [u8; 2],
    }

    /// `struct v4l2_hevc_dpb_entry`.
    pub struct V4l2HevcDpbEntry {
        /// Timestamp of the CAPTURE buffer that holds the picture.
        pub timestamp: u64,
        /// `V4L2_HEVC_DPB_ENTRY_*`.
        pub flags: u8,
        /// The picture is a field.
        pub field_pic: u8,
        /// Zero.
        pub reserved: u16,
        /// `PicOrderCntVal` of the picture.
        pub pic_order_cnt_val: i32,
    }

    /// `struct v4l2_ctrl_hevc_decode_params`.
    pub struct V4l2CtrlHevcDecodeParams {
        /// `PicOrderCntVal`.
        pub pic_order_cnt_val: i32,
        /// Size of `st_ref_pic_set()` in the slice header, in bits.
        pub short_term_ref_pic_set_size: u16,
        /// Size of the long-term reference syntax in the slice header, in bits.
        pub long_term_ref_pic_set_size: u16,
        /// Number of entries of `dpb` that hold a picture.
        pub num_active_dpb_entries: u8,
        /// `NumPocStCurrBefore`.
        pub num_poc_st_curr_before: u8,
        /// `NumPocStCurrAfter`.
        pub num_poc_st_curr_after: u8,
        /// `NumPocLtCurr`.
        pub num_poc_lt_curr: u8,
        /// `RefPicSetStCurrBefore`, as indices into `dpb`.
        pub poc_st_curr_before: [u8; V4L2_HEVC_DPB_ENTRIES_NUM_MAX],
        /// `RefPicSetStCurrAfter`, as indices into `dpb`.
        pub poc_st_curr_after: [u8; V4L2_HEVC_DPB_ENTRIES_NUM_MAX],
        /// `RefPicSetLtCurr`, as indices into `dpb`.
        pub poc_lt_curr: [u8; V4L2_HEVC_DPB_ENTRIES_NUM_MAX],
        /// `NumDeltaPocs[RefRpsIdx]`.
        pub num_delta_pocs_of_ref_rps_idx: u8,
        /// Zero.
        pub reserved: [u8; 3],
        /// The decoded picture buffer before this picture.
        pub dpb: [V4l2HevcDpbEntry; V4L2_HEVC_DPB_ENTRIES_NUM_MAX],
        /// `V4L2_HEVC_DECODE_PARAM_FLAG_*`.
        pub flags: u64,
    }
}
