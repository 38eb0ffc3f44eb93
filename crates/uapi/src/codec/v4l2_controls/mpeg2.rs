// SPDX-License-Identifier: Apache-2.0 OR MIT
//! MPEG-2 stateless controls. Syntax elements are those of ITU-T H.262.

use super::base::V4L2_CID_CODEC_STATELESS_BASE;
use super::structs::uapi_structs;

/// [`V4l2CtrlMpeg2Sequence`].
pub const V4L2_CID_STATELESS_MPEG2_SEQUENCE: u32 = V4L2_CID_CODEC_STATELESS_BASE + 220;
/// [`V4l2CtrlMpeg2Picture`].
pub const V4L2_CID_STATELESS_MPEG2_PICTURE: u32 = V4L2_CID_CODEC_STATELESS_BASE + 221;
/// [`V4l2CtrlMpeg2Quantisation`].
pub const V4L2_CID_STATELESS_MPEG2_QUANTISATION: u32 = V4L2_CID_CODEC_STATELESS_BASE + 222;

/// `progressive_sequence`, in [`V4l2CtrlMpeg2Sequence::flags`].
pub const V4L2_MPEG2_SEQ_FLAG_PROGRESSIVE: u8 = 0x01;

/// Intra picture, in [`V4l2CtrlMpeg2Picture::picture_coding_type`].
pub const V4L2_MPEG2_PIC_CODING_TYPE_I: u8 = 1;
/// Predicted picture.
pub const V4L2_MPEG2_PIC_CODING_TYPE_P: u8 = 2;
/// Bidirectionally predicted picture.
pub const V4L2_MPEG2_PIC_CODING_TYPE_B: u8 = 3;
/// Picture of DC coefficients, which MPEG-2 does not have.
pub const V4L2_MPEG2_PIC_CODING_TYPE_D: u8 = 4;

/// Top field, in [`V4l2CtrlMpeg2Picture::picture_structure`].
pub const V4L2_MPEG2_PIC_TOP_FIELD: u8 = 0x1;
/// Bottom field.
pub const V4L2_MPEG2_PIC_BOTTOM_FIELD: u8 = 0x2;
/// Frame.
pub const V4L2_MPEG2_PIC_FRAME: u8 = 0x3;

/// `top_field_first`, in [`V4l2CtrlMpeg2Picture::flags`].
pub const V4L2_MPEG2_PIC_FLAG_TOP_FIELD_FIRST: u32 = 0x0001;
/// `frame_pred_frame_dct`.
pub const V4L2_MPEG2_PIC_FLAG_FRAME_PRED_DCT: u32 = 0x0002;
/// `concealment_motion_vectors`.
pub const V4L2_MPEG2_PIC_FLAG_CONCEALMENT_MV: u32 = 0x0004;
/// `q_scale_type`.
pub const V4L2_MPEG2_PIC_FLAG_Q_SCALE_TYPE: u32 = 0x0008;
/// `intra_vlc_format`.
pub const V4L2_MPEG2_PIC_FLAG_INTRA_VLC: u32 = 0x0010;
/// `alternate_scan`.
pub const V4L2_MPEG2_PIC_FLAG_ALT_SCAN: u32 = 0x0020;
/// `repeat_first_field`.
pub const V4L2_MPEG2_PIC_FLAG_REPEAT_FIRST: u32 = 0x0040;
/// `progressive_frame`.
pub const V4L2_MPEG2_PIC_FLAG_PROGRESSIVE: u32 = 0x0080;

uapi_structs! {
    /// `struct v4l2_ctrl_mpeg2_sequence`: sequence header and sequence extension (6.2.2.1, 6.2.2.3).
    pub struct V4l2CtrlMpeg2Sequence {
        /// `horizontal_size`.
        pub horizontal_size: u16,
        /// `vertical_size`: lines of a frame.
        pub vertical_size: u16,
        /// `vbv_buffer_size`; clients fill in what they like.
        pub vbv_buffer_size: u32,
        /// `profile_and_level_indication`; some clients leave it 0.
        pub profile_and_level_indication: u16,
        /// `chroma_format`: 1 is 4:2:0.
        pub chroma_format: u8,
        /// `V4L2_MPEG2_SEQ_FLAG_*`.
        pub flags: u8,
    }

    /// `struct v4l2_ctrl_mpeg2_picture`: picture header and picture coding extension (6.2.3, 6.2.3.1).
    pub struct V4l2CtrlMpeg2Picture {
        /// Timestamp of the backward reference's CAPTURE buffer, in nanoseconds.
        pub backward_ref_ts: u64,
        /// Timestamp of the forward reference's CAPTURE buffer, in nanoseconds.
        pub forward_ref_ts: u64,
        /// `V4L2_MPEG2_PIC_FLAG_*`.
        pub flags: u32,
        /// `f_code`: forward and backward, each horizontal and vertical.
        pub f_code: [[u8; 2]; 2],
        /// `V4L2_MPEG2_PIC_CODING_TYPE_*`.
        pub picture_coding_type: u8,
        /// `V4L2_MPEG2_PIC_{TOP_FIELD,BOTTOM_FIELD,FRAME}`.
        pub picture_structure: u8,
        /// `intra_dc_precision`, 0 to 3.
        pub intra_dc_precision: u8,
        /// Zero.
        pub reserved: [u8; 5],
    }

    /// `struct v4l2_ctrl_mpeg2_quantisation`: the matrices in force, in zigzag order (6.2.3.2).
    pub struct V4l2CtrlMpeg2Quantisation {
        /// `intra_quantiser_matrix`.
        pub intra_quantiser_matrix: [u8; 64],
        /// `non_intra_quantiser_matrix`.
        pub non_intra_quantiser_matrix: [u8; 64],
        /// `chroma_intra_quantiser_matrix`: of 4:2:2 and 4:4:4 only.
        pub chroma_intra_quantiser_matrix: [u8; 64],
        /// `chroma_non_intra_quantiser_matrix`: of 4:2:2 and 4:4:4 only.
        pub chroma_non_intra_quantiser_matrix: [u8; 64],
    }
}
