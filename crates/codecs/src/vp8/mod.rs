// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VP8: the meaning of `V4L2_CID_STATELESS_VP8_FRAME`, and a reader of frame headers.
//!
//! The OUTPUT buffer holds the whole frame. The control does not tell which reference slots a frame changes;
//! [`FrameHeader`] reads it from the frame.

mod header;
pub mod tables;

use daedalus_uapi::formats::Size;
use daedalus_uapi::protocol::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_VP8_FRAME, V4L2_VP8_FRAME_FLAG_KEY_FRAME, V4l2CtrlVp8Frame,
};

use crate::controls::{Semantics, edit, get};
pub use header::{CopyOrder, FrameHeader, HeaderError, Slots, Update};

/// The meaning of VP8's controls.
#[derive(Clone, Copy, Debug)]
pub struct Vp8;

/// Returns whether a frame is a key frame, which fills all reference slots.
#[must_use]
pub fn is_key(frame: &V4l2CtrlVp8Frame) -> bool {
    frame.flags & V4L2_VP8_FRAME_FLAG_KEY_FRAME != 0
}

/// Returns the timestamps of the pictures that decoding of a frame may read. Clients name pictures in the
/// control of a key frame, too, which reads none.
pub fn references(frame: &V4l2CtrlVp8Frame) -> impl Iterator<Item = u64> {
    let key = is_key(frame);
    let names = [frame.last_frame_ts, frame.golden_frame_ts, frame.alt_frame_ts];
    names.into_iter().filter(move |_| !key)
}

fn frame(controls: &[Control<'_>]) -> Option<V4l2CtrlVp8Frame> {
    get(controls, V4L2_CID_STATELESS_VP8_FRAME)
}

impl Semantics for Vp8 {
    fn picture_size(&self, controls: &[Control<'_>]) -> Option<Size> {
        let frame = frame(controls)?;
        Some(Size {
            width: frame.width.into(),
            height: frame.height.into(),
        })
    }

    fn is_key(&self, controls: &[Control<'_>]) -> Option<bool> {
        frame(controls).as_ref().map(is_key)
    }

    fn visit_references(&self, controls: &[Control<'_>], visit: &mut dyn FnMut(u64)) {
        frame(controls).iter().flat_map(references).for_each(visit);
    }

    fn rename_pictures(&self, id: u32, value: &mut [u8], rename: &mut dyn FnMut(&mut u64)) {
        if id == V4L2_CID_STATELESS_VP8_FRAME {
            edit(value, |frame: &mut V4l2CtrlVp8Frame| {
                let names = [
                    &mut frame.last_frame_ts,
                    &mut frame.golden_frame_ts,
                    &mut frame.alt_frame_ts,
                ];
                // The first key frame has none.
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
        let inter = V4l2CtrlVp8Frame {
            width: 175,
            height: 143,
            last_frame_ts: 1000,
            golden_frame_ts: 2000,
            ..Default::default()
        };
        let key = V4l2CtrlVp8Frame {
            flags: V4L2_VP8_FRAME_FLAG_KEY_FRAME,
            ..inter
        };
        let control = |value| Control {
            id: V4L2_CID_STATELESS_VP8_FRAME,
            in_request: true,
            elems: 1,
            value,
        };
        let semantics: &dyn Semantics = &Vp8;
        let references = |controls: &[Control<'_>]| {
            let mut names = Vec::new();
            semantics.visit_references(controls, &mut |name| names.push(name));
            names
        };
        let size = Size {
            width: 175,
            height: 143,
        };
        let of_inter: &[Control<'_>] = &[control(inter.as_bytes())];
        assert_eq!(semantics.picture_size(of_inter), Some(size));
        assert_eq!(semantics.is_key(of_inter), Some(false));
        assert_eq!(references(of_inter), [1000, 2000, 0]);
        let of_key: &[Control<'_>] = &[control(key.as_bytes())];
        assert_eq!(semantics.is_key(of_key), Some(true));
        assert!(references(of_key).is_empty());
        assert_eq!(semantics.picture_size(&[control(&key.as_bytes()[..10])]), None);
        assert_eq!(semantics.is_key(&[]), None);
        let mut value = key.as_bytes().to_vec();
        semantics.rename_pictures(V4L2_CID_STATELESS_VP8_FRAME, &mut value, &mut |name| *name += 1);
        let renamed: V4l2CtrlVp8Frame = get(&[control(&value)], V4L2_CID_STATELESS_VP8_FRAME).unwrap();
        let names = [
            renamed.last_frame_ts,
            renamed.golden_frame_ts,
            renamed.alt_frame_ts,
        ];
        assert_eq!(names, [1001, 2001, 0]);
    }
}
