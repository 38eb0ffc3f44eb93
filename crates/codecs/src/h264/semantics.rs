// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The meaning of `V4L2_CID_STATELESS_H264_{SPS,DECODE_PARAMS}`.

use daedalus_uapi::formats::Size;
use daedalus_uapi::protocol::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_CID_STATELESS_H264_SPS, V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC,
    V4L2_H264_DPB_ENTRY_FLAG_ACTIVE, V4L2_H264_DPB_ENTRY_FLAG_VALID, V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY,
    V4l2CtrlH264DecodeParams, V4l2CtrlH264Sps, V4l2H264DpbEntry,
};

use crate::controls::{Semantics, edit, get};

/// The meaning of H.264's controls.
#[derive(Clone, Copy, Debug)]
pub struct H264;

/// Returns the pictures in the decoded picture buffer that decoding may read.
pub fn active(params: &V4l2CtrlH264DecodeParams) -> impl Iterator<Item = &V4l2H264DpbEntry> {
    let dpb = params.dpb.iter();
    dpb.filter(|entry| entry.flags & V4L2_H264_DPB_ENTRY_FLAG_ACTIVE != 0)
}

fn params(controls: &[Control<'_>]) -> Option<V4l2CtrlH264DecodeParams> {
    get(controls, V4L2_CID_STATELESS_H264_DECODE_PARAMS)
}

impl Semantics for H264 {
    fn picture_size(&self, controls: &[Control<'_>]) -> Option<Size> {
        let sps: V4l2CtrlH264Sps = get(controls, V4L2_CID_STATELESS_H264_SPS)?;
        // Of a sequence with fields, the height is that of a field.
        let frames_only = sps.flags & V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY != 0;
        let lines = if frames_only { 16 } else { 32 };
        Some(Size {
            width: (u32::from(sps.pic_width_in_mbs_minus1) + 1) * 16,
            height: (u32::from(sps.pic_height_in_map_units_minus1) + 1) * lines,
        })
    }

    fn is_key(&self, controls: &[Control<'_>]) -> Option<bool> {
        params(controls).map(|params| params.flags & V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC != 0)
    }

    fn visit_references(&self, controls: &[Control<'_>], visit: &mut dyn FnMut(u64)) {
        if let Some(params) = params(controls) {
            active(&params).map(|entry| entry.reference_ts).for_each(visit);
        }
    }

    fn rename_pictures(&self, id: u32, value: &mut [u8], rename: &mut dyn FnMut(&mut u64)) {
        if id == V4L2_CID_STATELESS_H264_DECODE_PARAMS {
            edit(value, |params: &mut V4l2CtrlH264DecodeParams| {
                for entry in &mut params.dpb {
                    if entry.flags & V4L2_H264_DPB_ENTRY_FLAG_VALID != 0 {
                        rename(&mut entry.reference_ts);
                    }
                }
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
    fn a_field_has_the_size_of_its_frame() {
        let mut sps = V4l2CtrlH264Sps {
            pic_width_in_mbs_minus1: 10,
            pic_height_in_map_units_minus1: 4,
            flags: V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY,
            ..Default::default()
        };
        let size = |sps: &V4l2CtrlH264Sps| {
            H264.picture_size(&[control(V4L2_CID_STATELESS_H264_SPS, sps.as_bytes())])
                .map(|size| (size.width, size.height))
        };
        assert_eq!(size(&sps), Some((176, 80)));
        sps.flags = 0;
        assert_eq!(size(&sps), Some((176, 160)));
        assert_eq!(H264.picture_size(&[]), None);
    }

    #[test]
    fn active_pictures_are_read_and_valid_ones_have_names() {
        let mut params = V4l2CtrlH264DecodeParams::default();
        params.dpb[0].flags = V4L2_H264_DPB_ENTRY_FLAG_VALID;
        params.dpb[3].flags = V4L2_H264_DPB_ENTRY_FLAG_VALID | V4L2_H264_DPB_ENTRY_FLAG_ACTIVE;
        (params.dpb[0].reference_ts, params.dpb[3].reference_ts) = (1000, 2000);
        let id = V4L2_CID_STATELESS_H264_DECODE_PARAMS;
        let controls = [control(id, params.as_bytes())];
        let mut read = Vec::new();
        H264.visit_references(&controls, &mut |name| read.push(name));
        assert_eq!(read, [2000]);
        assert_eq!(H264.is_key(&controls), Some(false));
        let mut value = params.as_bytes().to_vec();
        H264.rename_pictures(id, &mut value, &mut |name| *name += 1);
        let renamed = V4l2CtrlH264DecodeParams::read_from_bytes(&value).unwrap();
        let names = renamed.dpb.map(|entry| entry.reference_ts);
        assert_eq!((names[0], names[1], names[3]), (1001, 0, 2001));
        params.flags = V4L2_H264_DECODE_PARAM_FLAG_IDR_PIC;
        assert_eq!(H264.is_key(&[control(id, params.as_bytes())]), Some(true));
    }
}
