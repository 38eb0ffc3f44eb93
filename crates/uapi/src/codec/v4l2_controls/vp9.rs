// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VP9 stateless controls.

use super::base::{V4L2_CID_CODEC_BASE, V4L2_CID_CODEC_STATELESS_BASE};
use super::structs::uapi_structs;

/// Menu: VP9 profile.
pub const V4L2_CID_MPEG_VIDEO_VP9_PROFILE: u32 = V4L2_CID_CODEC_BASE + 512;
/// Menu: VP9 level.
pub const V4L2_CID_MPEG_VIDEO_VP9_LEVEL: u32 = V4L2_CID_CODEC_BASE + 513;
/// [`V4l2CtrlVp9Frame`].
pub const V4L2_CID_STATELESS_VP9_FRAME: u32 = V4L2_CID_CODEC_STATELESS_BASE + 300;
/// [`V4l2CtrlVp9CompressedHdr`].
pub const V4L2_CID_STATELESS_VP9_COMPRESSED_HDR: u32 = V4L2_CID_CODEC_STATELESS_BASE + 301;

/// `loop_filter_delta_enabled`, in [`V4l2Vp9LoopFilter::flags`].
pub const V4L2_VP9_LOOP_FILTER_FLAG_DELTA_ENABLED: u8 = 0x1;
/// `loop_filter_delta_update`.
pub const V4L2_VP9_LOOP_FILTER_FLAG_DELTA_UPDATE: u8 = 0x2;

/// `segmentation_enabled`, in [`V4l2Vp9Segmentation::flags`].
pub const V4L2_VP9_SEGMENTATION_FLAG_ENABLED: u8 = 0x01;
/// `segmentation_update_map`.
pub const V4L2_VP9_SEGMENTATION_FLAG_UPDATE_MAP: u8 = 0x02;
/// `segmentation_temporal_update`.
pub const V4L2_VP9_SEGMENTATION_FLAG_TEMPORAL_UPDATE: u8 = 0x04;
/// `segmentation_update_data`.
pub const V4L2_VP9_SEGMENTATION_FLAG_UPDATE_DATA: u8 = 0x08;
/// `segmentation_abs_or_delta_update`.
pub const V4L2_VP9_SEGMENTATION_FLAG_ABS_OR_DELTA_UPDATE: u8 = 0x10;

/// Quantizer, index into [`V4l2Vp9Segmentation::feature_data`] and its enable bits.
pub const V4L2_VP9_SEG_LVL_ALT_Q: usize = 0;
/// Loop filter level.
pub const V4L2_VP9_SEG_LVL_ALT_L: usize = 1;
/// Reference frame.
pub const V4L2_VP9_SEG_LVL_REF_FRAME: usize = 2;
/// Skip.
pub const V4L2_VP9_SEG_LVL_SKIP: usize = 3;
/// Number of segment features.
pub const V4L2_VP9_SEG_LVL_MAX: usize = 4;
/// The valid bits of [`V4l2Vp9Segmentation::feature_enabled`].
pub const V4L2_VP9_SEGMENT_FEATURE_ENABLED_MASK: u8 = 0xf;

/// Key frame, in [`V4l2CtrlVp9Frame::flags`].
pub const V4L2_VP9_FRAME_FLAG_KEY_FRAME: u32 = 0x001;
/// `show_frame`.
pub const V4L2_VP9_FRAME_FLAG_SHOW_FRAME: u32 = 0x002;
/// `error_resilient_mode`.
pub const V4L2_VP9_FRAME_FLAG_ERROR_RESILIENT: u32 = 0x004;
/// `intra_only`.
pub const V4L2_VP9_FRAME_FLAG_INTRA_ONLY: u32 = 0x008;
/// `allow_high_precision_mv`.
pub const V4L2_VP9_FRAME_FLAG_ALLOW_HIGH_PREC_MV: u32 = 0x010;
/// `refresh_frame_context`.
pub const V4L2_VP9_FRAME_FLAG_REFRESH_FRAME_CTX: u32 = 0x020;
/// `frame_parallel_decoding_mode`.
pub const V4L2_VP9_FRAME_FLAG_PARALLEL_DEC_MODE: u32 = 0x040;
/// `subsampling_x`.
pub const V4L2_VP9_FRAME_FLAG_X_SUBSAMPLING: u32 = 0x080;
/// `subsampling_y`.
pub const V4L2_VP9_FRAME_FLAG_Y_SUBSAMPLING: u32 = 0x100;
/// `color_range`.
pub const V4L2_VP9_FRAME_FLAG_COLOR_RANGE_FULL_SWING: u32 = 0x200;

/// Sign bias of the "last" reference, in [`V4l2CtrlVp9Frame::ref_frame_sign_bias`].
pub const V4L2_VP9_SIGN_BIAS_LAST: u8 = 0x1;
/// Sign bias of the "golden" reference.
pub const V4L2_VP9_SIGN_BIAS_GOLDEN: u8 = 0x2;
/// Sign bias of the "alt" reference.
pub const V4L2_VP9_SIGN_BIAS_ALT: u8 = 0x4;

/// No context is reset, in [`V4l2CtrlVp9Frame::reset_frame_context`].
pub const V4L2_VP9_RESET_FRAME_CTX_NONE: u8 = 0;
/// The specified context is reset.
pub const V4L2_VP9_RESET_FRAME_CTX_SPEC: u8 = 1;
/// All contexts are reset.
pub const V4L2_VP9_RESET_FRAME_CTX_ALL: u8 = 2;

/// Eight-tap filter, in [`V4l2CtrlVp9Frame::interpolation_filter`].
pub const V4L2_VP9_INTERP_FILTER_EIGHTTAP: u8 = 0;
/// Smooth eight-tap filter.
pub const V4L2_VP9_INTERP_FILTER_EIGHTTAP_SMOOTH: u8 = 1;
/// Sharp eight-tap filter.
pub const V4L2_VP9_INTERP_FILTER_EIGHTTAP_SHARP: u8 = 2;
/// Bilinear filter.
pub const V4L2_VP9_INTERP_FILTER_BILINEAR: u8 = 3;
/// Chosen per block.
pub const V4L2_VP9_INTERP_FILTER_SWITCHABLE: u8 = 4;

/// Single reference, in [`V4l2CtrlVp9Frame::reference_mode`].
pub const V4L2_VP9_REFERENCE_MODE_SINGLE_REFERENCE: u8 = 0;
/// Compound reference.
pub const V4L2_VP9_REFERENCE_MODE_COMPOUND_REFERENCE: u8 = 1;
/// Chosen per block.
pub const V4L2_VP9_REFERENCE_MODE_SELECT: u8 = 2;

/// The highest profile.
pub const V4L2_VP9_PROFILE_MAX: u8 = 3;
/// Number of frame contexts.
pub const V4L2_VP9_NUM_FRAME_CTX: usize = 4;

/// 4x4 only, in [`V4l2CtrlVp9CompressedHdr::tx_mode`].
pub const V4L2_VP9_TX_MODE_ONLY_4X4: u8 = 0;
/// Up to 8x8.
pub const V4L2_VP9_TX_MODE_ALLOW_8X8: u8 = 1;
/// Up to 16x16.
pub const V4L2_VP9_TX_MODE_ALLOW_16X16: u8 = 2;
/// Up to 32x32.
pub const V4L2_VP9_TX_MODE_ALLOW_32X32: u8 = 3;
/// Chosen per block.
pub const V4L2_VP9_TX_MODE_SELECT: u8 = 4;

uapi_structs! {
    /// `struct v4l2_vp9_loop_filter` (VP9 7.2.8).
    pub struct V4l2Vp9LoopFilter {
        /// `loop_filter_ref_deltas`: the values in force, coded in this frame or not.
        pub ref_deltas: [i8; 4],
        /// `loop_filter_mode_deltas`: the values in force.
        pub mode_deltas: [i8; 2],
        /// `loop_filter_level`, 0 to 63.
        pub level: u8,
        /// `loop_filter_sharpness`, 0 to 7.
        pub sharpness: u8,
        /// `V4L2_VP9_LOOP_FILTER_FLAG_*`.
        pub flags: u8,
        /// Zero.
        pub reserved: [u8; 7],
    }

    /// `struct v4l2_vp9_quantization` (VP9 7.2.9).
    pub struct V4l2Vp9Quantization {
        /// `base_q_idx`.
        pub base_q_idx: u8,
        /// `delta_q_y_dc`, −15 to 15.
        pub delta_q_y_dc: i8,
        /// `delta_q_uv_dc`, −15 to 15.
        pub delta_q_uv_dc: i8,
        /// `delta_q_uv_ac`, −15 to 15.
        pub delta_q_uv_ac: i8,
        /// Zero.
        pub reserved: [u8; 4],
    }

    /// `struct v4l2_vp9_segmentation` (VP9 7.2.10).
    pub struct V4l2Vp9Segmentation {
        /// Data of each segment's features, valid where the feature is enabled.
        pub feature_data: [[i16; V4L2_VP9_SEG_LVL_MAX]; 8],
        /// Bit `V4L2_VP9_SEG_LVL_*` says that the segment's feature is enabled.
        pub feature_enabled: [u8; 8],
        /// `segmentation_tree_probs`.
        pub tree_probs: [u8; 7],
        /// `segmentation_pred_prob`.
        pub pred_probs: [u8; 3],
        /// `V4L2_VP9_SEGMENTATION_FLAG_*`.
        pub flags: u8,
        /// Zero.
        pub reserved: [u8; 5],
    }

    /// `struct v4l2_ctrl_vp9_frame`: the uncompressed header (VP9 7.2).
    pub struct V4l2CtrlVp9Frame {
        /// Loop filter parameters.
        pub lf: V4l2Vp9LoopFilter,
        /// Quantization parameters.
        pub quant: V4l2Vp9Quantization,
        /// Segmentation parameters.
        pub seg: V4l2Vp9Segmentation,
        /// `V4L2_VP9_FRAME_FLAG_*`.
        pub flags: u32,
        /// Size of the compressed header, in bytes.
        pub compressed_header_size: u16,
        /// Size of the uncompressed header, in bytes.
        pub uncompressed_header_size: u16,
        /// Frame width minus 1, in pixels.
        pub frame_width_minus_1: u16,
        /// Frame height minus 1, in pixels.
        pub frame_height_minus_1: u16,
        /// Render width minus 1, in pixels.
        pub render_width_minus_1: u16,
        /// Render height minus 1, in pixels.
        pub render_height_minus_1: u16,
        /// Timestamp of the "last" reference's CAPTURE buffer, in nanoseconds.
        pub last_frame_ts: u64,
        /// Timestamp of the "golden" reference's CAPTURE buffer, in nanoseconds.
        pub golden_frame_ts: u64,
        /// Timestamp of the "alt" reference's CAPTURE buffer, in nanoseconds.
        pub alt_frame_ts: u64,
        /// `V4L2_VP9_SIGN_BIAS_*`.
        pub ref_frame_sign_bias: u8,
        /// `V4L2_VP9_RESET_FRAME_CTX_*`.
        pub reset_frame_context: u8,
        /// `frame_context_idx`, 0 to 3.
        pub frame_context_idx: u8,
        /// Profile, 0 to 3.
        pub profile: u8,
        /// Bits per sample: 8, 10 or 12.
        pub bit_depth: u8,
        /// `V4L2_VP9_INTERP_FILTER_*`.
        pub interpolation_filter: u8,
        /// `tile_cols_log2`, 0 to 6.
        pub tile_cols_log2: u8,
        /// `tile_rows_log2`, 0 to 2.
        pub tile_rows_log2: u8,
        /// `V4L2_VP9_REFERENCE_MODE_*`.
        pub reference_mode: u8,
        /// Zero.
        pub reserved: [u8; 7],
    }

    /// `struct v4l2_vp9_mv_probs`: motion vector probability updates; 0 is "no update".
    pub struct V4l2Vp9MvProbs {
        /// `mv_joint_probs`.
        pub joint: [u8; 3],
        /// `mv_sign_prob`.
        pub sign: [u8; 2],
        /// `mv_class_probs`.
        pub classes: [[u8; 10]; 2],
        /// `mv_class0_bit_prob`.
        pub class0_bit: [u8; 2],
        /// `mv_bits_prob`.
        pub bits: [[u8; 10]; 2],
        /// `mv_class0_fr_probs`.
        pub class0_fr: [[[u8; 3]; 2]; 2],
        /// `mv_fr_probs`.
        pub fr: [[u8; 3]; 2],
        /// `mv_class0_hp_prob`.
        pub class0_hp: [u8; 2],
        /// `mv_hp_prob`.
        pub hp: [u8; 2],
    }

    /// `struct v4l2_ctrl_vp9_compressed_hdr`: the compressed header's probability updates (VP9 6.3),
    /// translated by `inv_map_table`; 0 is "no update".
    pub struct V4l2CtrlVp9CompressedHdr {
        /// `V4L2_VP9_TX_MODE_*`.
        pub tx_mode: u8,
        /// `tx_probs_8x8`.
        pub tx8: [[u8; 1]; 2],
        /// `tx_probs_16x16`.
        pub tx16: [[u8; 2]; 2],
        /// `tx_probs_32x32`.
        pub tx32: [[u8; 3]; 2],
        /// `coef_probs`.
        pub coef: [[[[[[u8; 3]; 6]; 6]; 2]; 2]; 4],
        /// `skip_prob`.
        pub skip: [u8; 3],
        /// `inter_mode_probs`.
        pub inter_mode: [[u8; 3]; 7],
        /// `interp_filter_probs`.
        pub interp_filter: [[u8; 2]; 4],
        /// `is_inter_prob`.
        pub is_inter: [u8; 4],
        /// `comp_mode_prob`.
        pub comp_mode: [u8; 5],
        /// `single_ref_prob`.
        pub single_ref: [[u8; 2]; 5],
        /// `comp_ref_prob`.
        pub comp_ref: [u8; 5],
        /// `y_mode_probs`.
        pub y_mode: [[u8; 9]; 4],
        /// `uv_mode_probs`.
        pub uv_mode: [[u8; 9]; 10],
        /// `partition_probs`.
        pub partition: [[u8; 3]; 16],
        /// Motion vector probabilities.
        pub mv: V4l2Vp9MvProbs,
    }
}
