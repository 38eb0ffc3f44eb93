// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The meaning of `V4L2_CID_STATELESS_HEVC_{SPS,DECODE_PARAMS}`.

use daedalus_uapi::formats::Size;
use daedalus_uapi::protocol::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, V4L2_CID_STATELESS_HEVC_SPS, V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC,
    V4l2CtrlHevcDecodeParams, V4l2CtrlHevcSps, V4l2HevcDpbEntry,
};

use crate::controls::{Semantics, edit, get};

/// The meaning of HEVC's controls.
#[derive(Clone, Copy, Debug)]
pub struct Hevc;

/// Returns the entries of the decoded picture buffer that hold pictures.
pub fn entries(params: &V4l2CtrlHevcDecodeParams) -> &[V4l2HevcDpbEntry] {
    let count = usize::from(params.num_active_dpb_entries).min(params.dpb.len());
    &params.dpb[..count]
}

/// Returns the pictures that decoding may read: those before the picture in output order, those after it, and
/// long-term ones. `None` stands for one that the client has not got.
pub fn current(params: &V4l2CtrlHevcDecodeParams) -> impl Iterator<Item = Option<&V4l2HevcDpbEntry>> {
    let lists = [
        (&params.poc_st_curr_before, params.num_poc_st_curr_before),
        (&params.poc_st_curr_after, params.num_poc_st_curr_after),
        (&params.poc_lt_curr, params.num_poc_lt_curr),
    ];
    let lists = lists.map(|(list, count)| &list[..usize::from(count).min(list.len())]);
    let indices = lists.into_iter().flatten();
    indices.map(|&index| entries(params).get(usize::from(index)))
}

fn params(controls: &[Control<'_>]) -> Option<V4l2CtrlHevcDecodeParams> {
    get(controls, V4L2_CID_STATELESS_HEVC_DECODE_PARAMS)
}

impl Semantics for Hevc {
    fn picture_size(&self, controls: &[Control<'_>]) -> Option<Size> {
        let sps: V4l2CtrlHevcSps = get(controls, V4L2_CID_STATELESS_HEVC_SPS)?;
        Some(Size {
            width: sps.pic_width_in_luma_samples.into(),
            height: sps.pic_height_in_luma_samples.into(),
        })
    }

    fn is_key(&self, controls: &[Control<'_>]) -> Option<bool> {
        params(controls).map(|params| params.flags & V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC != 0)
    }

    fn visit_references(&self, controls: &[Control<'_>], visit: &mut dyn FnMut(u64)) {
        if let Some(params) = params(controls) {
            let references = current(&params).flatten();
            references.map(|entry| entry.timestamp).for_each(visit);
        }
    }

    fn rename_pictures(&self, id: u32, value: &mut [u8], rename: &mut dyn FnMut(&mut u64)) {
        if id == V4L2_CID_STATELESS_HEVC_DECODE_PARAMS {
            edit(value, |params: &mut V4l2CtrlHevcDecodeParams| {
                let count = usize::from(params.num_active_dpb_entries);
                for entry in params.dpb.iter_mut().take(count) {
                    rename(&mut entry.timestamp);
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
    fn the_size_is_that_without_cropping() {
        let sps = V4l2CtrlHevcSps {
            pic_width_in_luma_samples: 1920,
            pic_height_in_luma_samples: 1088,
            ..Default::default()
        };
        let size = Hevc.picture_size(&[control(V4L2_CID_STATELESS_HEVC_SPS, sps.as_bytes())]);
        assert_eq!(size.map(|size| (size.width, size.height)), Some((1920, 1088)));
        assert_eq!(Hevc.picture_size(&[]), None);
    }

    #[test]
    fn pictures_in_the_lists_are_read_and_all_have_names() {
        let mut params = V4l2CtrlHevcDecodeParams {
            num_active_dpb_entries: 3,
            num_poc_st_curr_before: 1,
            num_poc_lt_curr: 2,
            ..Default::default()
        };
        (params.dpb[0].timestamp, params.dpb[1].timestamp) = (1000, 2000);
        params.poc_st_curr_before[0] = 1;
        (params.poc_lt_curr[0], params.poc_lt_curr[1]) = (0xff, 0);
        let id = V4L2_CID_STATELESS_HEVC_DECODE_PARAMS;
        let controls = [control(id, params.as_bytes())];
        let mut read = Vec::new();
        Hevc.visit_references(&controls, &mut |name| read.push(name));
        assert_eq!(read, [2000, 1000]);
        assert!(current(&params).any(|entry| entry.is_none()));
        assert_eq!(Hevc.is_key(&controls), Some(false));
        let mut value = params.as_bytes().to_vec();
        Hevc.rename_pictures(id, &mut value, &mut |name| *name += 1);
        let renamed = V4l2CtrlHevcDecodeParams::read_from_bytes(&value).unwrap();
        let names = renamed.dpb.map(|entry| entry.timestamp);
        assert_eq!(names[..4], [1001, 2001, 1, 0]);
        // Counts that are too large are no end of anything.
        (params.num_active_dpb_entries, params.num_poc_st_curr_after) = (200, 200);
        assert_eq!((entries(&params).len(), current(&params).count()), (16, 19));
        params.flags = V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC;
        assert_eq!(Hevc.is_key(&[control(id, params.as_bytes())]), Some(true));
    }
}
