// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FFmpeg's hwaccel for HEVC (libavcodec/v4l2_request_hevc.c).
//!
//! * `HEVC_DECODE_MODE` and `HEVC_START_CODE` are set to their defaults outside of any request. FFmpeg asks
//!   how long the array `HEVC_SLICE_PARAMS` may be, and sends none if the device has not got it.
//! * A request has `SPS`, `PPS`, `DECODE_PARAMS` and `SCALING_MATRIX`, always all four; the matrix is zero
//!   where the sequence has none. Of uniform tiles the sizes are filled in, too.
//! * A reference that is missing is a frame which FFmpeg has made up itself: it has a timestamp that no
//!   picture has.

use daedalus_uapi::Codec;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, V4L2_CID_STATELESS_HEVC_PPS,
    V4L2_CID_STATELESS_HEVC_SCALING_MATRIX, V4L2_CID_STATELESS_HEVC_SLICE_PARAMS,
    V4L2_CID_STATELESS_HEVC_SPS, V4L2_HEVC_PPS_FLAG_TILES_ENABLED, V4L2_HEVC_PPS_FLAG_UNIFORM_SPACING,
    V4l2CtrlHevcDecodeParams, V4l2CtrlHevcPps, V4l2CtrlHevcScalingMatrix, V4l2CtrlHevcSps, V4l2HevcDpbEntry,
};

use super::controls::{lists, log2_block};
use crate::coded::{CodedJob, Control};
use crate::device::{ClientError, Device};
use crate::personality::controls::edit;
use crate::personality::hwaccel::Hwaccel;

/// The timestamp of a frame that was never decoded: it is later than any.
const MADE_UP: u64 = (1 << 40) * 1000;

/// The hwaccel.
pub(crate) struct Hevc;

impl Hwaccel for Hevc {
    fn prepare(&self, device: &Device) -> Result<bool, ClientError> {
        let mut values = Vec::new();
        for &(id, _) in Codec::Hevc.info().menus {
            let default = device.query_control(id)?.default_value;
            values.push(Control::new(id, &(default as u32)));
        }
        device.set_controls(&values, None)?;
        if device.query_control(V4L2_CID_STATELESS_HEVC_SLICE_PARAMS).is_ok() {
            let text = "the device has an array of slice parameters, which is not imitated";
            return Err(ClientError::Unexpected(text.to_owned()));
        }
        Ok(false)
    }

    fn request(&self, job: &CodedJob, _optional: bool) -> (Vec<Control>, Vec<u8>) {
        let mut controls = job.controls.clone();
        let id = V4L2_CID_STATELESS_HEVC_SCALING_MATRIX;
        if !controls.iter().any(|control| control.id == id) {
            controls.push(Control::new(id, &V4l2CtrlHevcScalingMatrix::default()));
        }
        fill_tiles(&mut controls);
        edit(
            &mut controls,
            V4L2_CID_STATELESS_HEVC_DECODE_PARAMS,
            make_up_missing,
        );
        (controls, job.payload.clone())
    }
}

/// Fills in the sizes of uniform tiles.
fn fill_tiles(controls: &mut [Control]) {
    let sps = controls
        .iter()
        .find(|control| control.id == V4L2_CID_STATELESS_HEVC_SPS);
    let Some(sps) = sps.and_then(Control::get::<V4l2CtrlHevcSps>) else {
        return;
    };
    edit(
        controls,
        V4L2_CID_STATELESS_HEVC_PPS,
        |pps: &mut V4l2CtrlHevcPps| {
            let uniform = V4L2_HEVC_PPS_FLAG_TILES_ENABLED | V4L2_HEVC_PPS_FLAG_UNIFORM_SPACING;
            if pps.flags & uniform != uniform {
                return;
            }
            let fill = |sizes_minus1: &mut [u8], samples: u16, count_minus1: u8| {
                let blocks = u32::from(samples).div_ceil(1 << log2_block(&sps));
                let count = u32::from(count_minus1) + 1;
                for (tile, size_minus1) in (0..count).zip(sizes_minus1) {
                    let size = (tile + 1) * blocks / count - tile * blocks / count;
                    *size_minus1 = size.saturating_sub(1) as u8;
                }
            };
            fill(
                &mut pps.column_width_minus1,
                sps.pic_width_in_luma_samples,
                pps.num_tile_columns_minus1,
            );
            fill(
                &mut pps.row_height_minus1,
                sps.pic_height_in_luma_samples,
                pps.num_tile_rows_minus1,
            );
        },
    );
}

/// Adds an entry for each reference that is missing.
fn make_up_missing(params: &mut V4l2CtrlHevcDecodeParams) {
    let mut count = params.num_active_dpb_entries;
    let mut dpb = params.dpb;
    for list in lists(params) {
        for index in list {
            let at = usize::from(count);
            if *index >= count && at < dpb.len() {
                dpb[at] = V4l2HevcDpbEntry {
                    timestamp: MADE_UP,
                    ..Default::default()
                };
                *index = count;
                count += 1;
            }
        }
    }
    params.dpb = dpb;
    params.num_active_dpb_entries = count;
}
