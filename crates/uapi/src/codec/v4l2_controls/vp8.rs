// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VP8 stateless controls. Clauses are those of RFC 6386.

use super::base::{V4L2_CID_CODEC_BASE, V4L2_CID_CODEC_STATELESS_BASE};
use super::structs::uapi_structs;

/// Menu: VP8 profile, which the bitstream calls version.
pub const V4L2_CID_MPEG_VIDEO_VP8_PROFILE: u32 = V4L2_CID_CODEC_BASE + 511;
/// [`V4l2CtrlVp8Frame`].
pub const V4L2_CID_STATELESS_VP8_FRAME: u32 = V4L2_CID_CODEC_STATELESS_BASE + 200;

/// `segmentation_enabled`, in [`V4l2Vp8Segment::flags`].
pub const V4L2_VP8_SEGMENT_FLAG_ENABLED: u32 = 0x01;
/// `update_mb_segmentation_map`.
pub const V4L2_VP8_SEGMENT_FLAG_UPDATE_MAP: u32 = 0x02;
/// `update_segment_feature_data`.
pub const V4L2_VP8_SEGMENT_FLAG_UPDATE_FEATURE_DATA: u32 = 0x04;
/// `segment_feature_mode` is 0.
pub const V4L2_VP8_SEGMENT_FLAG_DELTA_VALUE_MODE: u32 = 0x08;

/// `loop_filter_adj_enable`, in [`V4l2Vp8LoopFilter::flags`].
pub const V4L2_VP8_LF_ADJ_ENABLE: u32 = 0x01;
/// `mode_ref_lf_delta_update`.
pub const V4L2_VP8_LF_DELTA_UPDATE: u32 = 0x02;
/// `filter_type` is 1.
pub const V4L2_VP8_LF_FILTER_TYPE_SIMPLE: u32 = 0x04;

/// Probabilities of a coefficient's token tree.
pub const V4L2_VP8_COEFF_PROB_CNT: usize = 11;
/// Probabilities of a component of a motion vector.
pub const V4L2_VP8_MV_PROB_CNT: usize = 19;

/// Key frame, in [`V4l2CtrlVp8Frame::flags`].
pub const V4L2_VP8_FRAME_FLAG_KEY_FRAME: u64 = 0x01;
/// The highest bit of the version.
pub const V4L2_VP8_FRAME_FLAG_EXPERIMENTAL: u64 = 0x02;
/// `show_frame`.
pub const V4L2_VP8_FRAME_FLAG_SHOW_FRAME: u64 = 0x04;
/// `mb_no_skip_coeff`.
pub const V4L2_VP8_FRAME_FLAG_MB_NO_SKIP_COEFF: u64 = 0x08;
/// `sign_bias_golden`.
pub const V4L2_VP8_FRAME_FLAG_SIGN_BIAS_GOLDEN: u64 = 0x10;
/// `sign_bias_alternate`.
pub const V4L2_VP8_FRAME_FLAG_SIGN_BIAS_ALT: u64 = 0x20;

uapi_structs! {
    /// `struct v4l2_vp8_segment` (9.3).
    pub struct V4l2Vp8Segment {
        /// `quantizer_update_value`, with its sign.
        pub quant_update: [i8; 4],
        /// `lf_update_value`, with its sign.
        pub lf_update: [i8; 4],
        /// `segment_prob`.
        pub segment_probs: [u8; 3],
        /// Zero.
        pub padding: u8,
        /// `V4L2_VP8_SEGMENT_FLAG_*`.
        pub flags: u32,
    }

    /// `struct v4l2_vp8_loop_filter` (9.6).
    pub struct V4l2Vp8LoopFilter {
        /// `delta_magnitude` with its sign, for each reference frame.
        pub ref_frm_delta: [i8; 4],
        /// The same for each mode of a macroblock.
        pub mb_mode_delta: [i8; 4],
        /// `sharpness_level`, 0 to 7.
        pub sharpness_level: u8,
        /// `loop_filter_level`, 0 to 63.
        pub level: u8,
        /// Zero.
        pub padding: u16,
        /// `V4L2_VP8_LF_*`.
        pub flags: u32,
    }

    /// `struct v4l2_vp8_quantization` (9.6).
    pub struct V4l2Vp8Quantization {
        /// `y_ac_qi`, 0 to 127.
        pub y_ac_qi: u8,
        /// `y_dc_delta`, −15 to 15.
        pub y_dc_delta: i8,
        /// `y2_dc_delta`, −15 to 15.
        pub y2_dc_delta: i8,
        /// `y2_ac_delta`, −15 to 15.
        pub y2_ac_delta: i8,
        /// `uv_dc_delta`, −15 to 15.
        pub uv_dc_delta: i8,
        /// `uv_ac_delta`, −15 to 15.
        pub uv_ac_delta: i8,
        /// Zero.
        pub padding: u16,
    }

    /// `struct v4l2_vp8_entropy` (13.5, 16.2, 17.2): the probabilities in force in this frame.
    pub struct V4l2Vp8Entropy {
        /// Of coefficients: by block type, band and context.
        pub coeff_probs: [[[[u8; V4L2_VP8_COEFF_PROB_CNT]; 3]; 8]; 4],
        /// Of luma prediction modes.
        pub y_mode_probs: [u8; 4],
        /// Of chroma prediction modes.
        pub uv_mode_probs: [u8; 3],
        /// Of motion vectors: rows, then columns.
        pub mv_probs: [[u8; V4L2_VP8_MV_PROB_CNT]; 2],
        /// Zero.
        pub padding: [u8; 3],
    }

    /// `struct v4l2_vp8_entropy_coder_state` (7.3): the decoder of booleans behind the frame header.
    pub struct V4l2Vp8EntropyCoderState {
        /// Its range, 128 to 255.
        pub range: u8,
        /// The upper eight bits of its value.
        pub value: u8,
        /// Bits that are left of the byte behind them, 0 to 7.
        pub bit_count: u8,
        /// Zero.
        pub padding: u8,
    }

    /// `struct v4l2_ctrl_vp8_frame` (9, 19.2).
    pub struct V4l2CtrlVp8Frame {
        /// Segments.
        pub segment: V4l2Vp8Segment,
        /// Loop filter.
        pub lf: V4l2Vp8LoopFilter,
        /// Quantizer.
        pub quant: V4l2Vp8Quantization,
        /// Probabilities.
        pub entropy: V4l2Vp8Entropy,
        /// The decoder of booleans behind the header.
        pub coder_state: V4l2Vp8EntropyCoderState,
        /// Width in pixels; of an inter frame, that of its key frame.
        pub width: u16,
        /// Height in pixels.
        pub height: u16,
        /// `horizontal_scale`, 0 to 3.
        pub horizontal_scale: u8,
        /// `vertical_scale`, 0 to 3.
        pub vertical_scale: u8,
        /// `version`, 0 to 3.
        pub version: u8,
        /// `prob_skip_false`.
        pub prob_skip_false: u8,
        /// `prob_intra`.
        pub prob_intra: u8,
        /// `prob_last`.
        pub prob_last: u8,
        /// `prob_gf`.
        pub prob_gf: u8,
        /// Partitions of coefficients: 1, 2, 4 or 8.
        pub num_dct_parts: u8,
        /// Bytes of the first partition.
        pub first_part_size: u32,
        /// Bits of the frame header in the first partition.
        pub first_part_header_bits: u32,
        /// Bytes of each partition of coefficients.
        pub dct_part_sizes: [u32; 8],
        /// Timestamp of the picture that is the last reference; meaningless in a key frame.
        pub last_frame_ts: u64,
        /// Timestamp of the golden reference.
        pub golden_frame_ts: u64,
        /// Timestamp of the alternate reference.
        pub alt_frame_ts: u64,
        /// `V4L2_VP8_FRAME_FLAG_*`.
        pub flags: u64,
    }
}
