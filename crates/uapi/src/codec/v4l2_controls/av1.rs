// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AV1 stateless controls.

use super::base::{V4L2_CID_CODEC_BASE, V4L2_CID_CODEC_STATELESS_BASE};
use super::structs::uapi_structs;

/// Menu: AV1 profile.
pub const V4L2_CID_MPEG_VIDEO_AV1_PROFILE: u32 = V4L2_CID_CODEC_BASE + 655;
/// Menu: AV1 level.
pub const V4L2_CID_MPEG_VIDEO_AV1_LEVEL: u32 = V4L2_CID_CODEC_BASE + 656;
/// [`V4l2CtrlAv1Sequence`].
pub const V4L2_CID_STATELESS_AV1_SEQUENCE: u32 = V4L2_CID_CODEC_STATELESS_BASE + 500;
/// A dynamic array of [`V4l2CtrlAv1TileGroupEntry`], at most [`V4L2_AV1_MAX_TILE_COUNT`] long.
pub const V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY: u32 = V4L2_CID_CODEC_STATELESS_BASE + 501;
/// [`V4l2CtrlAv1Frame`].
pub const V4L2_CID_STATELESS_AV1_FRAME: u32 = V4L2_CID_CODEC_STATELESS_BASE + 502;
/// [`V4l2CtrlAv1FilmGrain`].
pub const V4L2_CID_STATELESS_AV1_FILM_GRAIN: u32 = V4L2_CID_CODEC_STATELESS_BASE + 505;

/// `INTRA_FRAME` and the seven inter references; also the number of reference slots.
pub const V4L2_AV1_TOTAL_REFS_PER_FRAME: usize = 8;
/// Most CDEF strengths of a frame.
pub const V4L2_AV1_CDEF_MAX: usize = 8;
/// Most planes of a frame.
pub const V4L2_AV1_NUM_PLANES_MAX: usize = 3;
/// Segments of a frame.
pub const V4L2_AV1_MAX_SEGMENTS: usize = 8;
/// Most operating points of a sequence.
pub const V4L2_AV1_MAX_OPERATING_POINTS: usize = 32;
/// Inter references of a frame.
pub const V4L2_AV1_REFS_PER_FRAME: usize = 7;
/// Size of the luma scaling function's arrays; at most 14 points are coded.
pub const V4L2_AV1_MAX_NUM_Y_POINTS: usize = 16;
/// Size of the Cb scaling function's arrays; at most 10 points are coded.
pub const V4L2_AV1_MAX_NUM_CB_POINTS: usize = 16;
/// Size of the Cr scaling function's arrays; at most 10 points are coded.
pub const V4L2_AV1_MAX_NUM_CR_POINTS: usize = 16;
/// Auto-regressive coefficients of a chroma plane at the largest lag.
pub const V4L2_AV1_AR_COEFFS_SIZE: usize = 25;
/// Most planes of a frame (the kernel header has two names for it).
pub const V4L2_AV1_MAX_NUM_PLANES: usize = 3;
/// Most tile columns.
pub const V4L2_AV1_MAX_TILE_COLS: usize = 64;
/// Most tile rows.
pub const V4L2_AV1_MAX_TILE_ROWS: usize = 64;
/// Most tiles that the tile group control carries.
pub const V4L2_AV1_MAX_TILE_COUNT: usize = 512;

/// `still_picture`, in [`V4l2CtrlAv1Sequence::flags`].
pub const V4L2_AV1_SEQUENCE_FLAG_STILL_PICTURE: u32 = 0x0000_0001;
/// `use_128x128_superblock`.
pub const V4L2_AV1_SEQUENCE_FLAG_USE_128X128_SUPERBLOCK: u32 = 0x0000_0002;
/// `enable_filter_intra`.
pub const V4L2_AV1_SEQUENCE_FLAG_ENABLE_FILTER_INTRA: u32 = 0x0000_0004;
/// `enable_intra_edge_filter`.
pub const V4L2_AV1_SEQUENCE_FLAG_ENABLE_INTRA_EDGE_FILTER: u32 = 0x0000_0008;
/// `enable_interintra_compound`.
pub const V4L2_AV1_SEQUENCE_FLAG_ENABLE_INTERINTRA_COMPOUND: u32 = 0x0000_0010;
/// `enable_masked_compound`.
pub const V4L2_AV1_SEQUENCE_FLAG_ENABLE_MASKED_COMPOUND: u32 = 0x0000_0020;
/// `enable_warped_motion`.
pub const V4L2_AV1_SEQUENCE_FLAG_ENABLE_WARPED_MOTION: u32 = 0x0000_0040;
/// `enable_dual_filter`.
pub const V4L2_AV1_SEQUENCE_FLAG_ENABLE_DUAL_FILTER: u32 = 0x0000_0080;
/// `enable_order_hint`.
pub const V4L2_AV1_SEQUENCE_FLAG_ENABLE_ORDER_HINT: u32 = 0x0000_0100;
/// `enable_jnt_comp`.
pub const V4L2_AV1_SEQUENCE_FLAG_ENABLE_JNT_COMP: u32 = 0x0000_0200;
/// `enable_ref_frame_mvs`.
pub const V4L2_AV1_SEQUENCE_FLAG_ENABLE_REF_FRAME_MVS: u32 = 0x0000_0400;
/// `enable_superres`.
pub const V4L2_AV1_SEQUENCE_FLAG_ENABLE_SUPERRES: u32 = 0x0000_0800;
/// `enable_cdef`.
pub const V4L2_AV1_SEQUENCE_FLAG_ENABLE_CDEF: u32 = 0x0000_1000;
/// `enable_restoration`.
pub const V4L2_AV1_SEQUENCE_FLAG_ENABLE_RESTORATION: u32 = 0x0000_2000;
/// `mono_chrome`.
pub const V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME: u32 = 0x0000_4000;
/// `color_range`.
pub const V4L2_AV1_SEQUENCE_FLAG_COLOR_RANGE: u32 = 0x0000_8000;
/// `subsampling_x`.
pub const V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X: u32 = 0x0001_0000;
/// `subsampling_y`.
pub const V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y: u32 = 0x0002_0000;
/// `film_grain_params_present`.
pub const V4L2_AV1_SEQUENCE_FLAG_FILM_GRAIN_PARAMS_PRESENT: u32 = 0x0004_0000;
/// `separate_uv_delta_q`.
pub const V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q: u32 = 0x0008_0000;

/// Identity, in [`V4l2Av1GlobalMotion::type_`].
pub const V4L2_AV1_WARP_MODEL_IDENTITY: u32 = 0;
/// Translation.
pub const V4L2_AV1_WARP_MODEL_TRANSLATION: u32 = 1;
/// Rotation, symmetric zoom and translation.
pub const V4L2_AV1_WARP_MODEL_ROTZOOM: u32 = 2;
/// General affine transform.
pub const V4L2_AV1_WARP_MODEL_AFFINE: u32 = 3;

/// `INTRA_FRAME`.
pub const V4L2_AV1_REF_INTRA_FRAME: usize = 0;
/// `LAST_FRAME`.
pub const V4L2_AV1_REF_LAST_FRAME: usize = 1;
/// `LAST2_FRAME`.
pub const V4L2_AV1_REF_LAST2_FRAME: usize = 2;
/// `LAST3_FRAME`.
pub const V4L2_AV1_REF_LAST3_FRAME: usize = 3;
/// `GOLDEN_FRAME`.
pub const V4L2_AV1_REF_GOLDEN_FRAME: usize = 4;
/// `BWDREF_FRAME`.
pub const V4L2_AV1_REF_BWDREF_FRAME: usize = 5;
/// `ALTREF2_FRAME`.
pub const V4L2_AV1_REF_ALTREF2_FRAME: usize = 6;
/// `ALTREF_FRAME`.
pub const V4L2_AV1_REF_ALTREF_FRAME: usize = 7;

/// `is_global`, in [`V4l2Av1GlobalMotion::flags`].
pub const V4L2_AV1_GLOBAL_MOTION_FLAG_IS_GLOBAL: u8 = 0x1;
/// `is_rot_zoom`.
pub const V4L2_AV1_GLOBAL_MOTION_FLAG_IS_ROT_ZOOM: u8 = 0x2;
/// `is_translation`.
pub const V4L2_AV1_GLOBAL_MOTION_FLAG_IS_TRANSLATION: u8 = 0x4;

/// No filter, in [`V4l2Av1LoopRestoration::frame_restoration_type`].
pub const V4L2_AV1_FRAME_RESTORE_NONE: u32 = 0;
/// Wiener filter.
pub const V4L2_AV1_FRAME_RESTORE_WIENER: u32 = 1;
/// Self-guided filter.
pub const V4L2_AV1_FRAME_RESTORE_SGRPROJ: u32 = 2;
/// Chosen per unit.
pub const V4L2_AV1_FRAME_RESTORE_SWITCHABLE: u32 = 3;

/// `UsesLr`, in [`V4l2Av1LoopRestoration::flags`].
pub const V4L2_AV1_LOOP_RESTORATION_FLAG_USES_LR: u8 = 0x1;
/// `usesChromaLr`.
pub const V4L2_AV1_LOOP_RESTORATION_FLAG_USES_CHROMA_LR: u8 = 0x2;

/// `segmentation_enabled`, in [`V4l2Av1Segmentation::flags`].
pub const V4L2_AV1_SEGMENTATION_FLAG_ENABLED: u8 = 0x1;
/// `segmentation_update_map`.
pub const V4L2_AV1_SEGMENTATION_FLAG_UPDATE_MAP: u8 = 0x2;
/// `segmentation_temporal_update`.
pub const V4L2_AV1_SEGMENTATION_FLAG_TEMPORAL_UPDATE: u8 = 0x4;
/// `segmentation_update_data`.
pub const V4L2_AV1_SEGMENTATION_FLAG_UPDATE_DATA: u8 = 0x8;
/// `SegIdPreSkip`.
pub const V4L2_AV1_SEGMENTATION_FLAG_SEG_ID_PRE_SKIP: u8 = 0x10;

/// Quantizer, index into [`V4l2Av1Segmentation::feature_data`] and its enable bits.
pub const V4L2_AV1_SEG_LVL_ALT_Q: usize = 0;
/// Luma loop filter level of vertical edges.
pub const V4L2_AV1_SEG_LVL_ALT_LF_Y_V: usize = 1;
/// Reference frame.
pub const V4L2_AV1_SEG_LVL_REF_FRAME: usize = 5;
/// Skip.
pub const V4L2_AV1_SEG_LVL_REF_SKIP: usize = 6;
/// Global motion vector.
pub const V4L2_AV1_SEG_LVL_REF_GLOBALMV: usize = 7;
/// Number of segment features.
pub const V4L2_AV1_SEG_LVL_MAX: usize = 8;

/// `loop_filter_delta_enabled`, in [`V4l2Av1LoopFilter::flags`].
pub const V4L2_AV1_LOOP_FILTER_FLAG_DELTA_ENABLED: u8 = 0x1;
/// `loop_filter_delta_update`.
pub const V4L2_AV1_LOOP_FILTER_FLAG_DELTA_UPDATE: u8 = 0x2;
/// `delta_lf_present`.
pub const V4L2_AV1_LOOP_FILTER_FLAG_DELTA_LF_PRESENT: u8 = 0x4;
/// `delta_lf_multi`.
pub const V4L2_AV1_LOOP_FILTER_FLAG_DELTA_LF_MULTI: u8 = 0x8;

/// `diff_uv_delta`, in [`V4l2Av1Quantization::flags`].
pub const V4L2_AV1_QUANTIZATION_FLAG_DIFF_UV_DELTA: u8 = 0x1;
/// `using_qmatrix`.
pub const V4L2_AV1_QUANTIZATION_FLAG_USING_QMATRIX: u8 = 0x2;
/// `delta_q_present`.
pub const V4L2_AV1_QUANTIZATION_FLAG_DELTA_Q_PRESENT: u8 = 0x4;

/// `uniform_tile_spacing_flag`, in [`V4l2Av1TileInfo::flags`].
pub const V4L2_AV1_TILE_INFO_FLAG_UNIFORM_TILE_SPACING: u8 = 0x1;

/// Key frame, in [`V4l2CtrlAv1Frame::frame_type`].
pub const V4L2_AV1_KEY_FRAME: u32 = 0;
/// Inter frame.
pub const V4L2_AV1_INTER_FRAME: u32 = 1;
/// Intra-only frame.
pub const V4L2_AV1_INTRA_ONLY_FRAME: u32 = 2;
/// Switch frame.
pub const V4L2_AV1_SWITCH_FRAME: u32 = 3;

/// Eight-tap filter, in [`V4l2CtrlAv1Frame::interpolation_filter`].
pub const V4L2_AV1_INTERPOLATION_FILTER_EIGHTTAP: u32 = 0;
/// Smooth eight-tap filter.
pub const V4L2_AV1_INTERPOLATION_FILTER_EIGHTTAP_SMOOTH: u32 = 1;
/// Sharp eight-tap filter.
pub const V4L2_AV1_INTERPOLATION_FILTER_EIGHTTAP_SHARP: u32 = 2;
/// Bilinear filter.
pub const V4L2_AV1_INTERPOLATION_FILTER_BILINEAR: u32 = 3;
/// Chosen per block.
pub const V4L2_AV1_INTERPOLATION_FILTER_SWITCHABLE: u32 = 4;

/// 4x4 only, in [`V4l2CtrlAv1Frame::tx_mode`].
pub const V4L2_AV1_TX_MODE_ONLY_4X4: u32 = 0;
/// The largest that fits.
pub const V4L2_AV1_TX_MODE_LARGEST: u32 = 1;
/// Chosen per block.
pub const V4L2_AV1_TX_MODE_SELECT: u32 = 2;

/// `show_frame`, in [`V4l2CtrlAv1Frame::flags`].
pub const V4L2_AV1_FRAME_FLAG_SHOW_FRAME: u32 = 0x0000_0001;
/// `showable_frame`.
pub const V4L2_AV1_FRAME_FLAG_SHOWABLE_FRAME: u32 = 0x0000_0002;
/// `error_resilient_mode`.
pub const V4L2_AV1_FRAME_FLAG_ERROR_RESILIENT_MODE: u32 = 0x0000_0004;
/// `disable_cdf_update`.
pub const V4L2_AV1_FRAME_FLAG_DISABLE_CDF_UPDATE: u32 = 0x0000_0008;
/// `allow_screen_content_tools`.
pub const V4L2_AV1_FRAME_FLAG_ALLOW_SCREEN_CONTENT_TOOLS: u32 = 0x0000_0010;
/// `force_integer_mv`.
pub const V4L2_AV1_FRAME_FLAG_FORCE_INTEGER_MV: u32 = 0x0000_0020;
/// `allow_intrabc`.
pub const V4L2_AV1_FRAME_FLAG_ALLOW_INTRABC: u32 = 0x0000_0040;
/// `use_superres`.
pub const V4L2_AV1_FRAME_FLAG_USE_SUPERRES: u32 = 0x0000_0080;
/// `allow_high_precision_mv`.
pub const V4L2_AV1_FRAME_FLAG_ALLOW_HIGH_PRECISION_MV: u32 = 0x0000_0100;
/// `is_motion_mode_switchable`.
pub const V4L2_AV1_FRAME_FLAG_IS_MOTION_MODE_SWITCHABLE: u32 = 0x0000_0200;
/// `use_ref_frame_mvs`.
pub const V4L2_AV1_FRAME_FLAG_USE_REF_FRAME_MVS: u32 = 0x0000_0400;
/// `disable_frame_end_update_cdf`.
pub const V4L2_AV1_FRAME_FLAG_DISABLE_FRAME_END_UPDATE_CDF: u32 = 0x0000_0800;
/// `allow_warped_motion`.
pub const V4L2_AV1_FRAME_FLAG_ALLOW_WARPED_MOTION: u32 = 0x0000_1000;
/// `reference_select`.
pub const V4L2_AV1_FRAME_FLAG_REFERENCE_SELECT: u32 = 0x0000_2000;
/// `reduced_tx_set`.
pub const V4L2_AV1_FRAME_FLAG_REDUCED_TX_SET: u32 = 0x0000_4000;
/// `skipModeAllowed`.
pub const V4L2_AV1_FRAME_FLAG_SKIP_MODE_ALLOWED: u32 = 0x0000_8000;
/// `skip_mode_present`.
pub const V4L2_AV1_FRAME_FLAG_SKIP_MODE_PRESENT: u32 = 0x0001_0000;
/// `frame_size_override_flag`.
pub const V4L2_AV1_FRAME_FLAG_FRAME_SIZE_OVERRIDE: u32 = 0x0002_0000;
/// `buffer_removal_time_present_flag`.
pub const V4L2_AV1_FRAME_FLAG_BUFFER_REMOVAL_TIME_PRESENT: u32 = 0x0004_0000;
/// `frame_refs_short_signaling`.
pub const V4L2_AV1_FRAME_FLAG_FRAME_REFS_SHORT_SIGNALING: u32 = 0x0008_0000;

/// `apply_grain`, in [`V4l2CtrlAv1FilmGrain::flags`].
pub const V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN: u8 = 0x1;
/// `update_grain`.
pub const V4L2_AV1_FILM_GRAIN_FLAG_UPDATE_GRAIN: u8 = 0x2;
/// `chroma_scaling_from_luma`.
pub const V4L2_AV1_FILM_GRAIN_FLAG_CHROMA_SCALING_FROM_LUMA: u8 = 0x4;
/// `overlap_flag`.
pub const V4L2_AV1_FILM_GRAIN_FLAG_OVERLAP: u8 = 0x8;
/// `clip_to_restricted_range`.
pub const V4L2_AV1_FILM_GRAIN_FLAG_CLIP_TO_RESTRICTED_RANGE: u8 = 0x10;

uapi_structs! {
    /// `struct v4l2_ctrl_av1_sequence`: sequence header (AV1 5.5).
    pub struct V4l2CtrlAv1Sequence {
        /// `V4L2_AV1_SEQUENCE_FLAG_*`.
        pub flags: u32,
        /// `seq_profile`, 0 to 2.
        pub seq_profile: u8,
        /// `OrderHintBits`, 0 to 8.
        pub order_hint_bits: u8,
        /// `BitDepth`: 8, 10 or 12.
        pub bit_depth: u8,
        /// Zero.
        pub reserved: u8,
        /// `max_frame_width_minus_1`, in luma samples.
        pub max_frame_width_minus_1: u16,
        /// `max_frame_height_minus_1`, in luma samples.
        pub max_frame_height_minus_1: u16,
    }

    /// `struct v4l2_ctrl_av1_tile_group_entry`: where one tile's data is (AV1 5.11.1).
    pub struct V4l2CtrlAv1TileGroupEntry {
        /// Offset of the tile's data in the OUTPUT buffer, in bytes.
        pub tile_offset: u32,
        /// `tileSize`, in bytes.
        pub tile_size: u32,
        /// `tileRow`.
        pub tile_row: u32,
        /// `tileCol`.
        pub tile_col: u32,
    }

    /// `struct v4l2_av1_global_motion` (AV1 6.8.17), indexed by reference frame.
    pub struct V4l2Av1GlobalMotion {
        /// `V4L2_AV1_GLOBAL_MOTION_FLAG_*`.
        pub flags: [u8; V4L2_AV1_TOTAL_REFS_PER_FRAME],
        /// `V4L2_AV1_WARP_MODEL_*` (`GmType`).
        pub type_: [u32; V4L2_AV1_TOTAL_REFS_PER_FRAME],
        /// `gm_params`, with `WARPEDMODEL_PREC_BITS` (16) fractional bits.
        pub params: [[i32; 6]; V4L2_AV1_TOTAL_REFS_PER_FRAME],
        /// Bit per reference frame: the parameters have no valid shear (AV1 7.11.3.6).
        pub invalid: u8,
        /// Zero.
        pub reserved: [u8; 3],
    }

    /// `struct v4l2_av1_loop_restoration` (AV1 6.10.15).
    pub struct V4l2Av1LoopRestoration {
        /// `V4L2_AV1_LOOP_RESTORATION_FLAG_*`.
        pub flags: u8,
        /// `lr_unit_shift`, 0 to 2.
        pub lr_unit_shift: u8,
        /// `lr_uv_shift`.
        pub lr_uv_shift: u8,
        /// Zero.
        pub reserved: u8,
        /// `FrameRestorationType` per plane: `V4L2_AV1_FRAME_RESTORE_*`.
        pub frame_restoration_type: [u32; V4L2_AV1_NUM_PLANES_MAX],
        /// `LoopRestorationSize` per plane, in samples of the plane.
        pub loop_restoration_size: [u32; V4L2_AV1_MAX_NUM_PLANES],
    }

    /// `struct v4l2_av1_cdef` (AV1 6.10.14).
    pub struct V4l2Av1Cdef {
        /// `cdef_damping_minus_3`, 0 to 3.
        pub damping_minus_3: u8,
        /// `cdef_bits`, 0 to 3: `1 << bits` strengths are valid.
        pub bits: u8,
        /// `cdef_y_pri_strength`, 0 to 15.
        pub y_pri_strength: [u8; V4L2_AV1_CDEF_MAX],
        /// `cdef_y_sec_strength`: 0, 1, 2, and 3 or 4 for the coded value 3.
        pub y_sec_strength: [u8; V4L2_AV1_CDEF_MAX],
        /// `cdef_uv_pri_strength`, 0 to 15.
        pub uv_pri_strength: [u8; V4L2_AV1_CDEF_MAX],
        /// `cdef_uv_sec_strength`: as for luma.
        pub uv_sec_strength: [u8; V4L2_AV1_CDEF_MAX],
    }

    /// `struct v4l2_av1_segmentation` (AV1 6.8.13).
    pub struct V4l2Av1Segmentation {
        /// `V4L2_AV1_SEGMENTATION_FLAG_*`.
        pub flags: u8,
        /// `LastActiveSegId`, 0 to 7.
        pub last_active_seg_id: u8,
        /// Bit `V4L2_AV1_SEG_LVL_*` says that the segment's feature is enabled.
        pub feature_enabled: [u8; V4L2_AV1_MAX_SEGMENTS],
        /// `FeatureData`: valid where the feature is enabled.
        pub feature_data: [[i16; V4L2_AV1_SEG_LVL_MAX]; V4L2_AV1_MAX_SEGMENTS],
    }

    /// `struct v4l2_av1_loop_filter` (AV1 6.8.10, 6.8.16).
    pub struct V4l2Av1LoopFilter {
        /// `V4L2_AV1_LOOP_FILTER_FLAG_*`.
        pub flags: u8,
        /// `loop_filter_level`: luma vertical, luma horizontal, U, V; 0 to 63.
        pub level: [u8; 4],
        /// `loop_filter_sharpness`, 0 to 7.
        pub sharpness: u8,
        /// `loop_filter_ref_deltas` in force, −64 to 63.
        pub ref_deltas: [i8; V4L2_AV1_TOTAL_REFS_PER_FRAME],
        /// `loop_filter_mode_deltas` in force, −64 to 63.
        pub mode_deltas: [i8; 2],
        /// `delta_lf_res`, 0 to 3.
        pub delta_lf_res: u8,
    }

    /// `struct v4l2_av1_quantization` (AV1 6.8.11).
    pub struct V4l2Av1Quantization {
        /// `V4L2_AV1_QUANTIZATION_FLAG_*`.
        pub flags: u8,
        /// `base_q_idx`.
        pub base_q_idx: u8,
        /// `DeltaQYDc`, −64 to 63.
        pub delta_q_y_dc: i8,
        /// `DeltaQUDc`, −64 to 63.
        pub delta_q_u_dc: i8,
        /// `DeltaQUAc`, −64 to 63.
        pub delta_q_u_ac: i8,
        /// `DeltaQVDc`, −64 to 63.
        pub delta_q_v_dc: i8,
        /// `DeltaQVAc`, −64 to 63.
        pub delta_q_v_ac: i8,
        /// `qm_y`, 0 to 15.
        pub qm_y: u8,
        /// `qm_u`, 0 to 15.
        pub qm_u: u8,
        /// `qm_v`, 0 to 15.
        pub qm_v: u8,
        /// `delta_q_res`, 0 to 3.
        pub delta_q_res: u8,
    }

    /// `struct v4l2_av1_tile_info` (AV1 6.8.14).
    pub struct V4l2Av1TileInfo {
        /// `V4L2_AV1_TILE_INFO_FLAG_*`.
        pub flags: u8,
        /// `context_update_tile_id`.
        pub context_update_tile_id: u8,
        /// `TileCols`, 1 to 64.
        pub tile_cols: u8,
        /// `TileRows`, 1 to 64.
        pub tile_rows: u8,
        /// `MiColStarts`, in 4x4 luma blocks; some clients fill in superblocks.
        pub mi_col_starts: [u32; V4L2_AV1_MAX_TILE_COLS + 1],
        /// `MiRowStarts`, in 4x4 luma blocks; some clients fill in superblocks.
        pub mi_row_starts: [u32; V4L2_AV1_MAX_TILE_ROWS + 1],
        /// `width_in_sbs_minus_1`; some clients fill it in for non-uniform tiles only.
        pub width_in_sbs_minus_1: [u32; V4L2_AV1_MAX_TILE_COLS],
        /// `height_in_sbs_minus_1`; some clients fill it in for non-uniform tiles only.
        pub height_in_sbs_minus_1: [u32; V4L2_AV1_MAX_TILE_ROWS],
        /// `TileSizeBytes`, 1 to 4.
        pub tile_size_bytes: u8,
        /// Zero.
        pub reserved: [u8; 3],
    }

    /// `struct v4l2_ctrl_av1_frame`: frame header (AV1 5.9).
    pub struct V4l2CtrlAv1Frame {
        /// Tile layout.
        pub tile_info: V4l2Av1TileInfo,
        /// Quantization parameters.
        pub quantization: V4l2Av1Quantization,
        /// `SuperresDenom`, 8 (none) to 16.
        pub superres_denom: u8,
        /// Segmentation parameters.
        pub segmentation: V4l2Av1Segmentation,
        /// Loop filter parameters.
        pub loop_filter: V4l2Av1LoopFilter,
        /// CDEF parameters.
        pub cdef: V4l2Av1Cdef,
        /// `SkipModeFrame`.
        pub skip_mode_frame: [u8; 2],
        /// `primary_ref_frame`, 0 to 6, or 7: none.
        pub primary_ref_frame: u8,
        /// Loop restoration parameters.
        pub loop_restoration: V4l2Av1LoopRestoration,
        /// Global motion parameters.
        pub global_motion: V4l2Av1GlobalMotion,
        /// `V4L2_AV1_FRAME_FLAG_*`.
        pub flags: u32,
        /// `V4L2_AV1_KEY_FRAME` and its like.
        pub frame_type: u32,
        /// `OrderHint`.
        pub order_hint: u32,
        /// `UpscaledWidth`, in luma samples.
        pub upscaled_width: u32,
        /// `V4L2_AV1_INTERPOLATION_FILTER_*`.
        pub interpolation_filter: u32,
        /// `V4L2_AV1_TX_MODE_*`.
        pub tx_mode: u32,
        /// Frame width minus 1, in luma samples: `frame_width_minus_1`, or `FrameWidth - 1` after
        /// superres, as the client pleases.
        pub frame_width_minus_1: u32,
        /// Frame height minus 1, in luma samples.
        pub frame_height_minus_1: u32,
        /// `RenderWidth` minus 1, in luma samples.
        pub render_width_minus_1: u16,
        /// `RenderHeight` minus 1, in luma samples.
        pub render_height_minus_1: u16,
        /// `current_frame_id`.
        pub current_frame_id: u32,
        /// `buffer_removal_time`, in clock ticks.
        pub buffer_removal_time: [u32; V4L2_AV1_MAX_OPERATING_POINTS],
        /// Zero.
        pub reserved: [u8; 4],
        /// `OrderHints`, indexed by reference frame.
        pub order_hints: [u32; V4L2_AV1_TOTAL_REFS_PER_FRAME],
        /// Timestamp of each reference slot's CAPTURE buffer, in nanoseconds.
        pub reference_frame_ts: [u64; V4L2_AV1_TOTAL_REFS_PER_FRAME],
        /// `ref_frame_idx`: the slot of each inter reference.
        pub ref_frame_idx: [i8; V4L2_AV1_REFS_PER_FRAME],
        /// `refresh_frame_flags`: the slots that this frame goes into.
        pub refresh_frame_flags: u8,
    }

    /// `struct v4l2_ctrl_av1_film_grain`: film grain parameters (AV1 6.8.20).
    pub struct V4l2CtrlAv1FilmGrain {
        /// `V4L2_AV1_FILM_GRAIN_FLAG_*`.
        pub flags: u8,
        /// `cr_mult`.
        pub cr_mult: u8,
        /// `grain_seed`.
        pub grain_seed: u16,
        /// `film_grain_params_ref_idx`, 0 to 7.
        pub film_grain_params_ref_idx: u8,
        /// `num_y_points`, 0 to 14.
        pub num_y_points: u8,
        /// `point_y_value`.
        pub point_y_value: [u8; V4L2_AV1_MAX_NUM_Y_POINTS],
        /// `point_y_scaling`.
        pub point_y_scaling: [u8; V4L2_AV1_MAX_NUM_Y_POINTS],
        /// `num_cb_points`, 0 to 10.
        pub num_cb_points: u8,
        /// `point_cb_value`.
        pub point_cb_value: [u8; V4L2_AV1_MAX_NUM_CB_POINTS],
        /// `point_cb_scaling`.
        pub point_cb_scaling: [u8; V4L2_AV1_MAX_NUM_CB_POINTS],
        /// `num_cr_points`, 0 to 10.
        pub num_cr_points: u8,
        /// `point_cr_value`.
        pub point_cr_value: [u8; V4L2_AV1_MAX_NUM_CR_POINTS],
        /// `point_cr_scaling`.
        pub point_cr_scaling: [u8; V4L2_AV1_MAX_NUM_CR_POINTS],
        /// `grain_scaling_minus_8`, 0 to 3.
        pub grain_scaling_minus_8: u8,
        /// `ar_coeff_lag`, 0 to 3.
        pub ar_coeff_lag: u8,
        /// `ar_coeffs_y_plus_128`.
        pub ar_coeffs_y_plus_128: [u8; V4L2_AV1_AR_COEFFS_SIZE],
        /// `ar_coeffs_cb_plus_128`.
        pub ar_coeffs_cb_plus_128: [u8; V4L2_AV1_AR_COEFFS_SIZE],
        /// `ar_coeffs_cr_plus_128`.
        pub ar_coeffs_cr_plus_128: [u8; V4L2_AV1_AR_COEFFS_SIZE],
        /// `ar_coeff_shift_minus_6`, 0 to 3.
        pub ar_coeff_shift_minus_6: u8,
        /// `grain_scale_shift`, 0 to 3.
        pub grain_scale_shift: u8,
        /// `cb_mult`.
        pub cb_mult: u8,
        /// `cb_luma_mult`.
        pub cb_luma_mult: u8,
        /// `cr_luma_mult`.
        pub cr_luma_mult: u8,
        /// `cb_offset`, 0 to 511.
        pub cb_offset: u16,
        /// `cr_offset`, 0 to 511.
        pub cr_offset: u16,
        /// Zero.
        pub reserved: [u8; 4],
    }
}
