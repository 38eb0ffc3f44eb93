// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The meaning of `V4L2_CID_STATELESS_MPEG2_{SEQUENCE,PICTURE}`.

use daedalus_uapi::formats::Size;
use daedalus_uapi::protocol::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_MPEG2_PICTURE, V4L2_CID_STATELESS_MPEG2_SEQUENCE, V4L2_MPEG2_PIC_CODING_TYPE_B,
    V4L2_MPEG2_PIC_CODING_TYPE_I, V4L2_MPEG2_PIC_CODING_TYPE_P, V4l2CtrlMpeg2Picture, V4l2CtrlMpeg2Sequence,
};

use crate::controls::{Semantics, edit, get};

/// The timestamp by which GStreamer says that there is no such reference. FFmpeg says 0 then, which in
/// GStreamer names the first picture.
pub const NO_PICTURE: u64 = u64::MAX;

/// The meaning of MPEG-2's controls.
#[derive(Clone, Copy, Debug)]
pub struct Mpeg2;

fn picture(controls: &[Control<'_>]) -> Option<V4l2CtrlMpeg2Picture> {
    get(controls, V4L2_CID_STATELESS_MPEG2_PICTURE)
}

impl Semantics for Mpeg2 {
    fn picture_size(&self, controls: &[Control<'_>]) -> Option<Size> {
        let sequence: V4l2CtrlMpeg2Sequence = get(controls, V4L2_CID_STATELESS_MPEG2_SEQUENCE)?;
        Some(Size {
            width: sequence.horizontal_size.into(),
            height: sequence.vertical_size.into(),
        })
    }

    fn is_key(&self, controls: &[Control<'_>]) -> Option<bool> {
        picture(controls).map(|picture| picture.picture_coding_type == V4L2_MPEG2_PIC_CODING_TYPE_I)
    }

    fn visit_references(&self, controls: &[Control<'_>], visit: &mut dyn FnMut(u64)) {
        let Some(picture) = picture(controls) else {
            return;
        };
        let names = match picture.picture_coding_type {
            V4L2_MPEG2_PIC_CODING_TYPE_P => &[picture.forward_ref_ts][..],
            V4L2_MPEG2_PIC_CODING_TYPE_B => &[picture.forward_ref_ts, picture.backward_ref_ts],
            _ => &[],
        };
        names
            .iter()
            .copied()
            .filter(|name| *name != NO_PICTURE)
            .for_each(visit);
    }

    fn rename_pictures(&self, id: u32, value: &mut [u8], rename: &mut dyn FnMut(&mut u64)) {
        if id == V4L2_CID_STATELESS_MPEG2_PICTURE {
            edit(value, |picture: &mut V4l2CtrlMpeg2Picture| {
                let names = [&mut picture.forward_ref_ts, &mut picture.backward_ref_ts];
                names
                    .into_iter()
                    .filter(|name| ![0, NO_PICTURE].contains(*name))
                    .for_each(rename);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;

    fn control(id: u32, value: &[u8]) -> Control<'_> {
        Control {
            id,
            in_request: true,
            elems: 1,
            value,
        }
    }

    #[test]
    fn the_type_says_which_references_are_read() {
        let mut picture = V4l2CtrlMpeg2Picture {
            forward_ref_ts: 1000,
            backward_ref_ts: 2000,
            ..Default::default()
        };
        let id = V4L2_CID_STATELESS_MPEG2_PICTURE;
        for (coding_type, key, names) in [
            (V4L2_MPEG2_PIC_CODING_TYPE_I, true, &[][..]),
            (V4L2_MPEG2_PIC_CODING_TYPE_P, false, &[1000]),
            (V4L2_MPEG2_PIC_CODING_TYPE_B, false, &[1000, 2000]),
        ] {
            picture.picture_coding_type = coding_type;
            let controls = [control(id, picture.as_bytes())];
            let mut read = Vec::new();
            Mpeg2.visit_references(&controls, &mut |name| read.push(name));
            assert_eq!((Mpeg2.is_key(&controls), read.as_slice()), (Some(key), names));
        }
        picture.forward_ref_ts = NO_PICTURE;
        let mut read = Vec::new();
        Mpeg2.visit_references(&[control(id, picture.as_bytes())], &mut |name| read.push(name));
        assert_eq!(read, [2000]);
        let mut value = picture.as_bytes().to_vec();
        Mpeg2.rename_pictures(id, &mut value, &mut |name| *name += 1);
        let renamed = V4l2CtrlMpeg2Picture::read_from_bytes(&value).expect("the size is right");
        assert_eq!(
            (renamed.forward_ref_ts, renamed.backward_ref_ts),
            (NO_PICTURE, 2001)
        );
        assert_eq!(Mpeg2.is_key(&[]), None);
    }

    #[test]
    fn a_picture_has_the_size_of_its_sequence() {
        let sequence = V4l2CtrlMpeg2Sequence {
            horizontal_size: 1920,
            vertical_size: 1080,
            ..Default::default()
        };
        let controls = [control(V4L2_CID_STATELESS_MPEG2_SEQUENCE, sequence.as_bytes())];
        let size = Mpeg2
            .picture_size(&controls)
            .map(|size| (size.width, size.height));
        assert_eq!(size, Some((1920, 1080)));
    }
}
