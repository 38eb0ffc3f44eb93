// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Video usability information.

use daedalus_uapi::v4l2_controls::V4l2CtrlH264Sps;

/// The reordering that the written VUI announces (E.2.1, `bitstream_restriction_flag`).
///
/// It says how long a decoder holds pictures back to put them into display order. A stateless client
/// puts them in order itself, so the engine wants none held back ([`decode_order`](Self::decode_order)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VuiPolicy {
    /// `max_num_reorder_frames`, 0 to 16, at most `max_dec_frame_buffering`.
    pub max_num_reorder_frames: u8,
    /// `max_dec_frame_buffering`, 0 to 16, at least the SPS's `max_num_ref_frames`.
    pub max_dec_frame_buffering: u8,
}

impl VuiPolicy {
    /// Every picture is output as soon as it is decoded.
    pub fn decode_order(sps: &V4l2CtrlH264Sps) -> Self {
        Self {
            max_num_reorder_frames: 0,
            max_dec_frame_buffering: sps.max_num_ref_frames.clamp(1, 16),
        }
    }

    /// As many pictures as any level allows may be held back: output is in display order, late.
    pub fn display_order() -> Self {
        Self {
            max_num_reorder_frames: 16,
            max_dec_frame_buffering: 16,
        }
    }
}
