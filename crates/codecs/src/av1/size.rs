// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Frame size (5.9.5).

use daedalus_uapi::v4l2_controls::{V4L2_AV1_FRAME_FLAG_USE_SUPERRES, V4l2CtrlAv1Frame};

use super::error::{Av1Error, at_most};

/// `SUPERRES_NUM`.
pub(super) const SUPERRES_NUM: u32 = 8;

/// The frame's size, in luma samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// `UpscaledWidth`, 1 to 65536.
    pub(super) width: u32,
    /// `FrameHeight`, 1 to 65536.
    pub(super) height: u32,
    /// `SuperresDenom`, 8 (no superres) to 16.
    pub(super) superres_denom: u32,
}

impl Size {
    pub(super) fn new(frame: &V4l2CtrlAv1Frame) -> Result<Self, Av1Error> {
        let use_superres = frame.flags & V4L2_AV1_FRAME_FLAG_USE_SUPERRES != 0;
        let superres_denom = u32::from(frame.superres_denom);
        if use_superres && !(9..=16).contains(&superres_denom) {
            return Err(Av1Error::OutOfRange {
                field: "superres_denom",
                value: superres_denom.into(),
            });
        }
        let minus_1 = at_most("frame_width_minus_1", frame.frame_width_minus_1, 0xffff)? as u32;
        let width = if use_superres {
            frame.upscaled_width
        } else {
            minus_1 + 1
        };
        if !(1..=0x1_0000).contains(&width) {
            return Err(Av1Error::OutOfRange {
                field: "upscaled_width",
                value: width.into(),
            });
        }
        let height = at_most("frame_height_minus_1", frame.frame_height_minus_1, 0xffff)? as u32 + 1;
        Ok(Self {
            width,
            height,
            superres_denom: if use_superres {
                superres_denom
            } else {
                SUPERRES_NUM
            },
        })
    }

    /// `FrameWidth`: the width that is coded, before upscaling (5.9.8).
    pub(super) fn coded_width(&self) -> u32 {
        (self.width * SUPERRES_NUM + self.superres_denom / 2) / self.superres_denom
    }
}
