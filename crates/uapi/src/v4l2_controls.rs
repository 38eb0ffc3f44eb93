// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Rust mirror of the V4L2 stateless codec controls of `<linux/v4l2-controls.h>`: H.264, VP9, AV1.
//!
//! Field names and meanings are those of the kernel's
//! `Documentation/userspace-api/media/v4l/ext-ctrls-codec-stateless.rst`, which refers in turn to
//! the syntax elements of the codec's specification. C enumerations are `u32` fields, since a value
//! that comes from a client may be none of the enumerators. No structure has implicit padding, so
//! each is [`zerocopy::FromBytes`] and [`zerocopy::IntoBytes`]; the layout is compared with the C
//! header by `tests/layout_v4l2.rs`.

mod av1;
mod h264;
mod vp9;

pub use av1::*;
pub use h264::*;
pub use vp9::*;

/// Defines control structures with the traits that every one of them has.
macro_rules! uapi_structs {
    ($($(#[$meta:meta])* pub struct $name:ident { $($body:tt)* })*) => {$(
        $(#[$meta])*
        #[derive(
            Clone,
            Copy,
            Debug,
            PartialEq,
            zerocopy::FromBytes,
            zerocopy::IntoBytes,
            zerocopy::KnownLayout,
            zerocopy::Immutable,
        )]
        #[repr(C)]
        pub struct $name { $($body)* }

        impl Default for $name {
            /// The structure with every byte zero, which is how the kernel initialises it.
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    )*};
}
use uapi_structs;

/// Base of the stateful codec controls, which the profile and level menus belong to.
pub const V4L2_CID_CODEC_BASE: u32 = 0x0099_0900;
/// Base of the stateless codec controls.
pub const V4L2_CID_CODEC_STATELESS_BASE: u32 = 0x00a4_0900;

/// Menu: H.264 level.
pub const V4L2_CID_MPEG_VIDEO_H264_LEVEL: u32 = V4L2_CID_CODEC_BASE + 359;
/// Menu: H.264 profile.
pub const V4L2_CID_MPEG_VIDEO_H264_PROFILE: u32 = V4L2_CID_CODEC_BASE + 363;
/// Menu: VP9 profile.
pub const V4L2_CID_MPEG_VIDEO_VP9_PROFILE: u32 = V4L2_CID_CODEC_BASE + 512;
/// Menu: VP9 level.
pub const V4L2_CID_MPEG_VIDEO_VP9_LEVEL: u32 = V4L2_CID_CODEC_BASE + 513;
/// Menu: AV1 profile.
pub const V4L2_CID_MPEG_VIDEO_AV1_PROFILE: u32 = V4L2_CID_CODEC_BASE + 655;
/// Menu: AV1 level.
pub const V4L2_CID_MPEG_VIDEO_AV1_LEVEL: u32 = V4L2_CID_CODEC_BASE + 656;

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
/// [`V4l2CtrlVp9Frame`].
pub const V4L2_CID_STATELESS_VP9_FRAME: u32 = V4L2_CID_CODEC_STATELESS_BASE + 300;
/// [`V4l2CtrlVp9CompressedHdr`].
pub const V4L2_CID_STATELESS_VP9_COMPRESSED_HDR: u32 = V4L2_CID_CODEC_STATELESS_BASE + 301;
/// [`V4l2CtrlAv1Sequence`].
pub const V4L2_CID_STATELESS_AV1_SEQUENCE: u32 = V4L2_CID_CODEC_STATELESS_BASE + 500;
/// A dynamic array of [`V4l2CtrlAv1TileGroupEntry`], at most [`V4L2_AV1_MAX_TILE_COUNT`] long.
pub const V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY: u32 = V4L2_CID_CODEC_STATELESS_BASE + 501;
/// [`V4l2CtrlAv1Frame`].
pub const V4L2_CID_STATELESS_AV1_FRAME: u32 = V4L2_CID_CODEC_STATELESS_BASE + 502;
/// [`V4l2CtrlAv1FilmGrain`].
pub const V4L2_CID_STATELESS_AV1_FILM_GRAIN: u32 = V4L2_CID_CODEC_STATELESS_BASE + 505;
