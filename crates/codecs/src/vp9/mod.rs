// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VP9: the meaning of `V4L2_CID_STATELESS_VP9_FRAME`. The OUTPUT buffer holds the whole frame.

use daedalus_uapi::formats::Size;
use daedalus_uapi::protocol::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_VP9_FRAME, V4L2_VP9_FRAME_FLAG_INTRA_ONLY, V4L2_VP9_FRAME_FLAG_KEY_FRAME,
    V4l2CtrlVp9Frame,
};

use crate::controls::{Semantics, edit, get};

/// The meaning of VP9's controls.
#[derive(Clone, Copy, Debug)]
pub struct Vp9;

/// Returns whether a frame is a key frame, which takes all reference slots.
#[must_use]
pub fn is_key(frame: &V4l2CtrlVp9Frame) -> bool {
    frame.flags & V4L2_VP9_FRAME_FLAG_KEY_FRAME != 0
}

/// Returns the timestamps of the pictures that decoding of a frame may read.
pub fn references(frame: &V4l2CtrlVp9Frame) -> impl Iterator<Item = u64> {
    let intra = frame.flags & (V4L2_VP9_FRAME_FLAG_KEY_FRAME | V4L2_VP9_FRAME_FLAG_INTRA_ONLY) != 0;
    let names = [frame.last_frame_ts, frame.golden_frame_ts, frame.alt_frame_ts];
    names.into_iter().filter(move |_| !intra)
}

fn frame(controls: &[Control<'_>]) -> Option<V4l2CtrlVp9Frame> {
    get(controls, V4L2_CID_STATELESS_VP9_FRAME)
}

impl Semantics for Vp9 {
    fn picture_size(&self, controls: &[Control<'_>]) -> Option<Size> {
        let frame = frame(controls)?;
        Some(Size {
            width: u32::from(frame.frame_width_minus_1) + 1,
            height: u32::from(frame.frame_height_minus_1) + 1,
        })
    }

    fn is_key(&self, controls: &[Control<'_>]) -> Option<bool> {
        frame(controls).as_ref().map(is_key)
    }

    fn visit_references(&self, controls: &[Control<'_>], visit: &mut dyn FnMut(u64)) {
        frame(controls).iter().flat_map(references).for_each(visit);
    }

    fn rename_pictures(&self, id: u32, value: &mut [u8], rename: &mut dyn FnMut(&mut u64)) {
        if id == V4L2_CID_STATELESS_VP9_FRAME {
            edit(value, |frame: &mut V4l2CtrlVp9Frame| {
                let names = [
                    &mut frame.last_frame_ts,
                    &mut frame.golden_frame_ts,
                    &mut frame.alt_frame_ts,
                ];
                // Intra frames have none.
                names.into_iter().filter(|name| **name != 0).for_each(rename);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    #[test]
    fn the_frame_control_says_it_all() {
        let mut frame = V4l2CtrlVp9Frame {
            frame_width_minus_1: 34,
            frame_height_minus_1: 16,
            last_frame_ts: 1000,
            golden_frame_ts: 2000,
            ..Default::default()
        };
        let control = |frame| Control {
            id: V4L2_CID_STATELESS_VP9_FRAME,
            in_request: true,
            elems: 1,
            value: frame,
        };
        let semantics: &dyn Semantics = &Vp9;
        let references = |controls: &[Control<'_>]| {
            let mut names = Vec::new();
            semantics.visit_references(controls, &mut |name| names.push(name));
            names
        };
        let inter = frame;
        let inter: &[Control<'_>] = &[control(inter.as_bytes())];
        let size = Size {
            width: 35,
            height: 17,
        };
        assert_eq!(semantics.picture_size(inter), Some(size));
        assert_eq!(semantics.is_key(inter), Some(false));
        assert_eq!(references(inter), [1000, 2000, 0]);
        frame.flags = V4L2_VP9_FRAME_FLAG_KEY_FRAME;
        let key: &[Control<'_>] = &[control(frame.as_bytes())];
        assert_eq!(semantics.is_key(key), Some(true));
        assert!(references(key).is_empty());
        let short: &[Control<'_>] = &[control(&frame.as_bytes()[..10])];
        assert_eq!(semantics.picture_size(short), None);
        assert_eq!(semantics.is_key(short), None);
        assert_eq!(crate::av1::Av1.picture_size(inter), None);
        assert_eq!(semantics.picture_size(&[]), None);
    }
}
