// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kinds of frames.

use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_FRAME_FLAG_SHOW_FRAME, V4L2_AV1_FRAME_FLAG_SHOWABLE_FRAME, V4L2_AV1_INTER_FRAME,
    V4L2_AV1_INTRA_ONLY_FRAME, V4L2_AV1_KEY_FRAME, V4L2_AV1_SWITCH_FRAME, V4l2CtrlAv1Frame,
};

use super::error::Av1Error;

/// The consequences of a frame's type and of its show flags (5.9.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameKind {
    /// `FrameIsIntra`.
    pub(super) intra: bool,
    /// `show_frame`.
    pub(super) show: bool,
    /// `showable_frame`.
    pub(super) showable: bool,
    /// A shown key frame: it resets the order hints and refreshes all slots.
    pub(super) reset_all: bool,
    /// The type implies `error_resilient_mode` and `refresh_frame_flags`.
    pub(super) implied_resilient: bool,
    /// `refresh_frame_flags`.
    pub(super) refresh: u8,
}

impl FrameKind {
    pub(super) fn new(frame: &V4l2CtrlAv1Frame) -> Result<Self, Av1Error> {
        let (key, switch) = (
            frame.frame_type == V4L2_AV1_KEY_FRAME,
            frame.frame_type == V4L2_AV1_SWITCH_FRAME,
        );
        let intra = key || frame.frame_type == V4L2_AV1_INTRA_ONLY_FRAME;
        if !intra && !switch && frame.frame_type != V4L2_AV1_INTER_FRAME {
            return Err(Av1Error::OutOfRange {
                field: "frame_type",
                value: frame.frame_type.into(),
            });
        }
        let show = frame.flags & V4L2_AV1_FRAME_FLAG_SHOW_FRAME != 0;
        let reset_all = key && show;
        Ok(Self {
            intra,
            show,
            showable: if show {
                !key
            } else {
                frame.flags & V4L2_AV1_FRAME_FLAG_SHOWABLE_FRAME != 0
            },
            reset_all,
            implied_resilient: reset_all || switch,
            refresh: if reset_all || switch {
                0xff
            } else {
                frame.refresh_frame_flags
            },
        })
    }
}
