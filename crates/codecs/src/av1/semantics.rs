// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The meaning of `V4L2_CID_STATELESS_AV1_FRAME`.

use daedalus_uapi::formats::Size;
use daedalus_uapi::protocol::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_INTRA_ONLY_FRAME, V4L2_AV1_KEY_FRAME, V4L2_AV1_REFS_PER_FRAME, V4L2_CID_STATELESS_AV1_FRAME,
    V4l2CtrlAv1Frame,
};

use crate::controls::{Semantics, edit, get};

/// The meaning of AV1's controls.
#[derive(Clone, Copy, Debug)]
pub struct Av1;

/// Returns the timestamps of the pictures that decoding of a frame may read; `None` for what is no reference.
#[must_use]
pub fn references(frame: &V4l2CtrlAv1Frame) -> [Option<u64>; V4L2_AV1_REFS_PER_FRAME] {
    let intra = matches!(frame.frame_type, V4L2_AV1_KEY_FRAME | V4L2_AV1_INTRA_ONLY_FRAME);
    frame.ref_frame_idx.map(|slot| {
        let slot = usize::try_from(slot).ok().filter(|_| !intra)?;
        frame.reference_frame_ts.get(slot).copied()
    })
}

fn frame(controls: &[Control<'_>]) -> Option<V4l2CtrlAv1Frame> {
    get(controls, V4L2_CID_STATELESS_AV1_FRAME)
}

impl Semantics for Av1 {
    fn picture_size(&self, controls: &[Control<'_>]) -> Option<Size> {
        let frame = frame(controls)?;
        Some(Size {
            // Some clients leave the width after superres out.
            width: match frame.upscaled_width {
                0 => frame.frame_width_minus_1.saturating_add(1),
                width => width,
            },
            height: frame.frame_height_minus_1.saturating_add(1),
        })
    }

    fn is_key(&self, controls: &[Control<'_>]) -> Option<bool> {
        frame(controls).map(|frame| frame.frame_type == V4L2_AV1_KEY_FRAME)
    }

    fn visit_references(&self, controls: &[Control<'_>], visit: &mut dyn FnMut(u64)) {
        if let Some(frame) = frame(controls) {
            references(&frame).into_iter().flatten().for_each(visit);
        }
    }

    fn rename_pictures(&self, id: u32, value: &mut [u8], rename: &mut dyn FnMut(&mut u64)) {
        if id == V4L2_CID_STATELESS_AV1_FRAME {
            edit(value, |frame: &mut V4l2CtrlAv1Frame| {
                frame.reference_frame_ts.iter_mut().for_each(rename)
            });
        }
    }
}
