// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H.264 stateless controls.

use super::base::{V4L2_CID_CODEC_BASE, V4L2_CID_CODEC_STATELESS_BASE};
use super::structs::uapi_structs;

/// Menu: H.264 level.
pub const V4L2_CID_MPEG_VIDEO_H264_LEVEL: u32 = V4L2_CID_CODEC_BASE + 359;
/// Menu: H.264 profile.
pub const V4L2_CID_MPEG_VIDEO_H264_PROFILE: u32 = V4L2_CID_CODEC_BASE + 363;
/// Menu: H.264 decode mode, slice based or frame based.
pub const V4L2_CID_STATELESS_H264_DECODE_MODE: u32 = V4L2_CID_CODEC_STATELESS_BASE;
/// Menu: H.264 start code, none or Annex B.
pub const V4L2_CID_STATELESS_H264_START_CODE: u32 = V4L2_CID_CODEC_STATELESS_BASE + 1;
/// [`V4l2CtrlH264Sps`].
pub const V4L2_CID_STATELESS_H264_SPS: u32 = V4L2_CID_CODEC_STATELESS_BASE + 2;
/// [`V4l2CtrlH264Pps`].
pub const V4L2_CID_STATELESS_H264_PPS: u32 = V4L2_CID_CODEC_STATELESS_BASE + 3;
/// [`V4l2CtrlH264ScalingMatrix`].
pub const V4L2_CID_STATELESS_H264_SCALING_MATRIX: u32 = V4L2_CID_CODEC_STATELESS_BASE + 4;
/// [`V4l2CtrlH264PredWeights`].
pub const V4L2_CID_STATELESS_H264_PRED_WEIGHTS: u32 = V4L2_CID_CODEC_STATELESS_BASE + 5;
/// [`V4l2CtrlH264SliceParams`].
pub const V4L2_CID_STATELESS_H264_SLICE_PARAMS: u32 = V4L2_CID_CODEC_STATELESS_BASE + 6;
/// [`V4l2CtrlH264DecodeParams`].
pub const V4L2_CID_STATELESS_H264_DECODE_PARAMS: u32 = V4L2_CID_CODEC_STATELESS_BASE + 7;

/// Decode mode: one slice per OUTPUT buffer.
pub const V4L2_STATELESS_H264_DECODE_MODE_SLICE_BASED: u32 = 0;
/// Decode mode: all slices of a picture in one OUTPUT buffer.
pub const V4L2_STATELESS_H264_DECODE_MODE_FRAME_BASED: u32 = 1;
/// Start code: slices come without one.
pub const V4L2_STATELESS_H264_START_CODE_NONE: u32 = 0;
/// Start code: slices are prefixed by 00 00 01 or 00 00 00 01.
pub const V4L2_STATELESS_H264_START_CODE_ANNEX_B: u32 = 1;

/// `constraint_set0_flag`, in [`V4l2CtrlH264Sps::constraint_set_flags`].
pub const V4L2_H264_SPS_CONSTRAINT_SET0_FLAG: u8 = 0x01;
/// `constraint_set1_flag`.
pub const V4L2_H264_SPS_CONSTRAINT_SET1_FLAG: u8 = 0x02;
/// `constraint_set2_flag`.
pub const V4L2_H264_SPS_CONSTRAINT_SET2_FLAG: u8 = 0x04;
/// `constraint_set3_flag`.
pub const V4L2_H264_SPS_CONSTRAINT_SET3_FLAG: u8 = 0x08;
/// `constraint_set4_flag`.
pub const V4L2_H264_SPS_CONSTRAINT_SET4_FLAG: u8 = 0x10;
/// `constraint_set5_flag`.
pub const V4L2_H264_SPS_CONSTRAINT_SET5_FLAG: u8 = 0x20;

/// `separate_colour_plane_flag`, in [`V4l2CtrlH264Sps::flags`].
pub const V4L2_H264_SPS_FLAG_SEPARATE_COLOUR_PLANE: u32 = 0x01;
/// `qpprime_y_zero_transform_bypass_flag`.
pub const V4L2_H264_SPS_FLAG_QPPRIME_Y_ZERO_TRANSFORM_BYPASS: u32 = 0x02;
/// `delta_pic_order_always_zero_flag`.
pub const V4L2_H264_SPS_FLAG_DELTA_PIC_ORDER_ALWAYS_ZERO: u32 = 0x04;
/// `gaps_in_frame_num_value_allowed_flag`.
pub const V4L2_H264_SPS_FLAG_GAPS_IN_FRAME_NUM_VALUE_ALLOWED: u32 = 0x08;
/// `frame_mbs_only_flag`.
pub const V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY: u32 = 0x10;
/// `mb_adaptive_frame_field_flag`.
pub const V4L2_H264_SPS_FLAG_MB_ADAPTIVE_FRAME_FIELD: u32 = 0x20;
/// `direct_8x8_inference_flag`.
pub const V4L2_H264_SPS_FLAG_DIRECT_8X8_INFERENCE: u32 = 0x40;

/// `entropy_coding_mode_flag`, in [`V4l2CtrlH264Pps::flags`].
pub const V4L2_H264_PPS_FLAG_ENTROPY_CODING_MODE: u16 = 0x0001;
/// `bottom_field_pic_order_in_frame_present_flag`.
pub const V4L2_H264_PPS_FLAG_BOTTOM_FIELD_PIC_ORDER_IN_FRAME_PRESENT: u16 = 0x0002;
/// `weighted_pred_flag`.
pub const V4L2_H264_PPS_FLAG_WEIGHTED_PRED: u16 = 0x0004;
/// `deblocking_filter_control_present_flag`.
pub const V4L2_H264_PPS_FLAG_DEBLOCKING_FILTER_CONTROL_PRESENT: u16 = 0x0008;
/// `constrained_intra_pred_flag`.
pub const V4L2_H264_PPS_FLAG_CONSTRAINED_INTRA_PRED: u16 = 0x0010;
/// `redundant_pic_cnt_present_flag`.
pub const V4L2_H264_PPS_FLAG_REDUNDANT_PIC_CNT_PRESENT: u16 = 0x0020;
/// `transform_8x8_mode_flag`.
pub const V4L2_H264_PPS_FLAG_TRANSFORM_8X8_MODE: u16 = 0x0040;
/// A non-flat scaling matrix applies to the picture (from the SPS or the PPS: not the syntax
/// element `pic_scaling_matrix_present_flag`).
pub const V4L2_H264_PPS_FLAG_SCALING_MATRIX_PRESENT: u16 = 0x0080;

/// The top field is the reference, in [`V4l2H264Reference::fields`] and [`V4l2H264DpbEntry::fields`].
pub const V4L2_H264_TOP_FIELD_REF: u8 = 0x1;
/// The bottom field is the reference.
pub const V4L2_H264_BOTTOM_FIELD_REF: u8 = 0x2;
/// The frame is the reference.
pub const V4L2_H264_FRAME_REF: u8 = 0x3;

/// Entries of the decoded picture buffer (ITU-T H.264 A.3.1).
pub const V4L2_H264_NUM_DPB_ENTRIES: usize = 16;
/// Entries of a reference picture list: fields count one by one.
pub const V4L2_H264_REF_LIST_LEN: usize = 2 * V4L2_H264_NUM_DPB_ENTRIES;

/// P slice, in [`V4l2CtrlH264SliceParams::slice_type`].
pub const V4L2_H264_SLICE_TYPE_P: u8 = 0;
/// B slice.
pub const V4L2_H264_SLICE_TYPE_B: u8 = 1;
/// I slice.
pub const V4L2_H264_SLICE_TYPE_I: u8 = 2;
/// SP slice.
pub const V4L2_H264_SLICE_TYPE_SP: u8 = 3;
/// SI slice.
pub const V4L2_H264_SLICE_TYPE_SI: u8 = 4;

/// `direct_spatial_mv_pred_flag`, in [`V4l2CtrlH264SliceParams::flags`].
pub const V4L2_H264_SLICE_FLAG_DIRECT_SPATIAL_MV_PRED: u32 = 0x01;
/// `sp_for_switch_flag`.
pub const V4L2_H264_SLICE_FLAG_SP_FOR_SWITCH: u32 = 0x02;

/// The entry holds a picture, in [`V4l2H264DpbEntry::flags`].
pub const V4L2_H264_DPB_ENTRY_FLAG_VALID: u32 = 0x01;
/// The picture is used for reference.
pub const V4L2_H264_DPB_ENTRY_FLAG_ACTIVE: u32 = 0x02;
/// The picture is a long-term reference.
pub const V4L2_H264_DPB_ENTRY_FLAG_LONG_TERM: u32 = 0x04;
/// The picture is a field or a complementary field pair.
pub const V4L2_H264_DPB_ENTRY_FLAG_FIELD: u32 = 0x08;

/// IDR picture, in [`V4l2CtrlH264DecodeParams::flags`].
pub const V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC: u32 = 0x01;
/// `field_pic_flag`.
pub const V4L2_H264_DECODE_PARAM_FLAG_FIELD_PIC: u32 = 0x02;
/// `bottom_field_flag`.
pub const V4L2_H264_DECODE_PARAM_FLAG_BOTTOM_FIELD: u32 = 0x04;
/// The first slice is a P slice.
pub const V4L2_H264_DECODE_PARAM_FLAG_PFRAME: u32 = 0x08;
/// The first slice is a B slice.
pub const V4L2_H264_DECODE_PARAM_FLAG_BFRAME: u32 = 0x10;

uapi_structs! {
    /// `struct v4l2_ctrl_h264_sps`: sequence parameter set (ITU-T H.264 7.4.2.1.1).
    pub struct V4l2CtrlH264Sps {
        /// `profile_idc`.
        pub profile_idc: u8,
        /// `V4L2_H264_SPS_CONSTRAINT_SET*_FLAG`: `constraint_set0_flag` is the lowest bit.
        pub constraint_set_flags: u8,
        /// `level_idc`.
        pub level_idc: u8,
        /// `seq_parameter_set_id`, 0 to 31.
        pub seq_parameter_set_id: u8,
        /// `chroma_format_idc`, 0 to 3; 1 (4:2:0) where the profile does not code it.
        pub chroma_format_idc: u8,
        /// `bit_depth_luma_minus8`, 0 to 6.
        pub bit_depth_luma_minus8: u8,
        /// `bit_depth_chroma_minus8`, 0 to 6.
        pub bit_depth_chroma_minus8: u8,
        /// `log2_max_frame_num_minus4`, 0 to 12.
        pub log2_max_frame_num_minus4: u8,
        /// `pic_order_cnt_type`, 0 to 2.
        pub pic_order_cnt_type: u8,
        /// `log2_max_pic_order_cnt_lsb_minus4`, 0 to 12.
        pub log2_max_pic_order_cnt_lsb_minus4: u8,
        /// `max_num_ref_frames`, 0 to 16.
        pub max_num_ref_frames: u8,
        /// `num_ref_frames_in_pic_order_cnt_cycle`.
        pub num_ref_frames_in_pic_order_cnt_cycle: u8,
        /// `offset_for_ref_frame`.
        pub offset_for_ref_frame: [i32; 255],
        /// `offset_for_non_ref_pic`.
        pub offset_for_non_ref_pic: i32,
        /// `offset_for_top_to_bottom_field`.
        pub offset_for_top_to_bottom_field: i32,
        /// `pic_width_in_mbs_minus1`, in macroblocks.
        pub pic_width_in_mbs_minus1: u16,
        /// `pic_height_in_map_units_minus1`, in macroblocks or macroblock pairs.
        pub pic_height_in_map_units_minus1: u16,
        /// `V4L2_H264_SPS_FLAG_*`.
        pub flags: u32,
    }

    /// `struct v4l2_ctrl_h264_pps`: picture parameter set (ITU-T H.264 7.4.2.2).
    pub struct V4l2CtrlH264Pps {
        /// `pic_parameter_set_id`, 0 to 255.
        pub pic_parameter_set_id: u8,
        /// `seq_parameter_set_id`, 0 to 31.
        pub seq_parameter_set_id: u8,
        /// `num_slice_groups_minus1`, 0 to 7; the slice group map itself is not in the control.
        pub num_slice_groups_minus1: u8,
        /// `num_ref_idx_l0_default_active_minus1`, 0 to 31.
        pub num_ref_idx_l0_default_active_minus1: u8,
        /// `num_ref_idx_l1_default_active_minus1`, 0 to 31.
        pub num_ref_idx_l1_default_active_minus1: u8,
        /// `weighted_bipred_idc`, 0 to 2.
        pub weighted_bipred_idc: u8,
        /// `pic_init_qp_minus26`.
        pub pic_init_qp_minus26: i8,
        /// `pic_init_qs_minus26`.
        pub pic_init_qs_minus26: i8,
        /// `chroma_qp_index_offset`, −12 to 12.
        pub chroma_qp_index_offset: i8,
        /// `second_chroma_qp_index_offset`, −12 to 12.
        pub second_chroma_qp_index_offset: i8,
        /// `V4L2_H264_PPS_FLAG_*`.
        pub flags: u16,
    }

    /// `struct v4l2_ctrl_h264_scaling_matrix`: the lists that apply, after fall-back, in raster order.
    pub struct V4l2CtrlH264ScalingMatrix {
        /// Intra Y, Cb, Cr, inter Y, Cb, Cr.
        pub scaling_list_4x4: [[u8; 16]; 6],
        /// Intra Y, inter Y, intra Cb, inter Cb, intra Cr, inter Cr.
        pub scaling_list_8x8: [[u8; 64]; 6],
    }

    /// `struct v4l2_h264_weight_factors`: one list's explicit weights (ITU-T H.264 7.4.3.2).
    pub struct V4l2H264WeightFactors {
        /// `luma_weight_lX`.
        pub luma_weight: [i16; 32],
        /// `luma_offset_lX`.
        pub luma_offset: [i16; 32],
        /// `chroma_weight_lX`, Cb and Cr.
        pub chroma_weight: [[i16; 2]; 32],
        /// `chroma_offset_lX`, Cb and Cr.
        pub chroma_offset: [[i16; 2]; 32],
    }

    /// `struct v4l2_ctrl_h264_pred_weights`: prediction weight table (slice-based mode).
    pub struct V4l2CtrlH264PredWeights {
        /// `luma_log2_weight_denom`, 0 to 7.
        pub luma_log2_weight_denom: u16,
        /// `chroma_log2_weight_denom`, 0 to 7.
        pub chroma_log2_weight_denom: u16,
        /// Lists 0 and 1.
        pub weight_factors: [V4l2H264WeightFactors; 2],
    }

    /// `struct v4l2_h264_reference`: an entry of a reference picture list.
    pub struct V4l2H264Reference {
        /// `V4L2_H264_*_REF`.
        pub fields: u8,
        /// Index into [`V4l2CtrlH264DecodeParams::dpb`].
        pub index: u8,
    }

    /// `struct v4l2_ctrl_h264_slice_params`: slice header (slice-based mode).
    pub struct V4l2CtrlH264SliceParams {
        /// Bits from the start of the slice to `slice_data()`.
        pub header_bit_size: u32,
        /// `first_mb_in_slice`.
        pub first_mb_in_slice: u32,
        /// `V4L2_H264_SLICE_TYPE_*`.
        pub slice_type: u8,
        /// `colour_plane_id`.
        pub colour_plane_id: u8,
        /// `redundant_pic_cnt`.
        pub redundant_pic_cnt: u8,
        /// `cabac_init_idc`.
        pub cabac_init_idc: u8,
        /// `slice_qp_delta`.
        pub slice_qp_delta: i8,
        /// `slice_qs_delta`.
        pub slice_qs_delta: i8,
        /// `disable_deblocking_filter_idc`.
        pub disable_deblocking_filter_idc: u8,
        /// `slice_alpha_c0_offset_div2`.
        pub slice_alpha_c0_offset_div2: i8,
        /// `slice_beta_offset_div2`.
        pub slice_beta_offset_div2: i8,
        /// `num_ref_idx_l0_active_minus1`.
        pub num_ref_idx_l0_active_minus1: u8,
        /// `num_ref_idx_l1_active_minus1`.
        pub num_ref_idx_l1_active_minus1: u8,
        /// Zero.
        pub reserved: u8,
        /// Reference picture list 0 after its modifications.
        pub ref_pic_list0: [V4l2H264Reference; V4L2_H264_REF_LIST_LEN],
        /// Reference picture list 1 after its modifications.
        pub ref_pic_list1: [V4l2H264Reference; V4L2_H264_REF_LIST_LEN],
        /// `V4L2_H264_SLICE_FLAG_*`.
        pub flags: u32,
    }

    /// `struct v4l2_h264_dpb_entry`: a picture of the decoded picture buffer.
    pub struct V4l2H264DpbEntry {
        /// Timestamp of the CAPTURE buffer, in nanoseconds.
        pub reference_ts: u64,
        /// `PicNum` or `LongTermPicNum`.
        pub pic_num: u32,
        /// `frame_num`, or `LongTermFrameIdx` of a long-term reference.
        pub frame_num: u16,
        /// `V4L2_H264_*_REF`: how the entry is referenced.
        pub fields: u8,
        /// Zero.
        pub reserved: [u8; 5],
        /// `TopFieldOrderCnt`.
        pub top_field_order_cnt: i32,
        /// `BottomFieldOrderCnt`.
        pub bottom_field_order_cnt: i32,
        /// `V4L2_H264_DPB_ENTRY_FLAG_*`.
        pub flags: u32,
    }

    /// `struct v4l2_ctrl_h264_decode_params`: the picture's slice-invariant parameters.
    pub struct V4l2CtrlH264DecodeParams {
        /// The decoded picture buffer before this picture.
        pub dpb: [V4l2H264DpbEntry; V4L2_H264_NUM_DPB_ENTRIES],
        /// `nal_ref_idc`.
        pub nal_ref_idc: u16,
        /// `frame_num`.
        pub frame_num: u16,
        /// `TopFieldOrderCnt`.
        pub top_field_order_cnt: i32,
        /// `BottomFieldOrderCnt`.
        pub bottom_field_order_cnt: i32,
        /// `idr_pic_id`.
        pub idr_pic_id: u16,
        /// `pic_order_cnt_lsb`.
        pub pic_order_cnt_lsb: u16,
        /// `delta_pic_order_cnt_bottom`.
        pub delta_pic_order_cnt_bottom: i32,
        /// `delta_pic_order_cnt[0]`.
        pub delta_pic_order_cnt0: i32,
        /// `delta_pic_order_cnt[1]`.
        pub delta_pic_order_cnt1: i32,
        /// Size of `dec_ref_pic_marking()`, in bits.
        pub dec_ref_pic_marking_bit_size: u32,
        /// Size of the picture order count syntax, in bits.
        pub pic_order_cnt_bit_size: u32,
        /// `slice_group_change_cycle`.
        pub slice_group_change_cycle: u32,
        /// Zero.
        pub reserved: u32,
        /// `V4L2_H264_DECODE_PARAM_FLAG_*`.
        pub flags: u32,
    }
}

impl V4l2CtrlH264Sps {
    /// Returns whether the profile codes `chroma_format_idc` and what follows it (ITU-T H.264 7.3.2.1.1):
    /// the kernel's `V4L2_H264_SPS_HAS_CHROMA_FORMAT`.
    pub fn has_chroma_format(&self) -> bool {
        matches!(
            self.profile_idc,
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        )
    }
}
