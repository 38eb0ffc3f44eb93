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

#[cfg(test)]
mod tests {
    use daedalus_uapi::v4l2_controls::V4L2_AV1_INTER_FRAME;
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;

    fn control(frame: &V4l2CtrlAv1Frame) -> Control<'_> {
        Control {
            id: V4L2_CID_STATELESS_AV1_FRAME,
            in_request: true,
            elems: 1,
            value: frame.as_bytes(),
        }
    }

    #[test]
    fn the_width_is_that_after_superres_if_a_client_tells_it() {
        let mut frame = V4l2CtrlAv1Frame {
            frame_width_minus_1: 99,
            frame_height_minus_1: 49,
            upscaled_width: 200,
            ..Default::default()
        };
        let size = |frame: &V4l2CtrlAv1Frame| {
            Av1.picture_size(&[control(frame)])
                .map(|size| (size.width, size.height))
        };
        assert_eq!(size(&frame), Some((200, 50)));
        frame.upscaled_width = 0;
        assert_eq!(size(&frame), Some((100, 50)));
        frame.frame_width_minus_1 = u32::MAX;
        assert_eq!(size(&frame), Some((u32::MAX, 50)));
        assert_eq!(Av1.picture_size(&[]), None);
    }

    #[test]
    fn slots_that_a_frame_names_are_read_and_all_have_names() {
        let mut frame = V4l2CtrlAv1Frame {
            frame_type: V4L2_AV1_INTER_FRAME,
            reference_frame_ts: [1, 2, 3, 4, 5, 6, 7, 8],
            ref_frame_idx: [0, 0, 7, 1, 1, -1, 9],
            ..Default::default()
        };
        let read = |frame: &V4l2CtrlAv1Frame| {
            let mut names = Vec::new();
            Av1.visit_references(&[control(frame)], &mut |name| names.push(name));
            names
        };
        assert_eq!(read(&frame), [1, 1, 8, 2, 2]);
        assert_eq!(Av1.is_key(&[control(&frame)]), Some(false));
        let mut value = frame.as_bytes().to_vec();
        Av1.rename_pictures(V4L2_CID_STATELESS_AV1_FRAME, &mut value, &mut |name| *name *= 10);
        let renamed = V4l2CtrlAv1Frame::read_from_bytes(&value).unwrap();
        assert_eq!(renamed.reference_frame_ts, [10, 20, 30, 40, 50, 60, 70, 80]);
        frame.frame_type = V4L2_AV1_KEY_FRAME;
        assert!(read(&frame).is_empty());
        assert_eq!(Av1.is_key(&[control(&frame)]), Some(true));
    }
}
