// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HEVC in the tests.

mod cabac;
mod clips;
mod damage;
mod writer;

use std::path::Path;

use anyhow::Result;
use daedalus_client::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_MPEG_VIDEO_HEVC_LEVEL, V4L2_CID_MPEG_VIDEO_HEVC_PROFILE, V4L2_CID_STATELESS_HEVC_DECODE_MODE,
    V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, V4L2_CID_STATELESS_HEVC_PPS,
    V4L2_CID_STATELESS_HEVC_SCALING_MATRIX, V4L2_CID_STATELESS_HEVC_SPS, V4L2_CID_STATELESS_HEVC_START_CODE,
    V4l2CtrlHevcDecodeParams,
};

use super::edit;
use super::row::{GstSource, Row};

/// The row.
pub(super) static ROW: Row = Row {
    library: "libavcodec",
    menus: &[
        (V4L2_CID_MPEG_VIDEO_HEVC_PROFILE, "HEVC_PROFILE"),
        (V4L2_CID_MPEG_VIDEO_HEVC_LEVEL, "HEVC_LEVEL"),
        (V4L2_CID_STATELESS_HEVC_DECODE_MODE, "HEVC_DECODE_MODE"),
        (V4L2_CID_STATELESS_HEVC_START_CODE, "HEVC_START_CODE"),
    ],
    compound: &[
        (V4L2_CID_STATELESS_HEVC_SPS, "HEVC_SPS"),
        (V4L2_CID_STATELESS_HEVC_PPS, "HEVC_PPS"),
        (V4L2_CID_STATELESS_HEVC_SCALING_MATRIX, "HEVC_SCALING_MATRIX"),
        (V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, "HEVC_DECODE_PARAMS"),
    ],
    array: None,
    shift_references,
    gst_parser: "h265parse",
    gst_source,
    recolour: Some("hevc_metadata=colour_primaries=1:transfer_characteristics=1:matrix_coefficients=1"),
    damage: damage::ROW,
    clips: clips::ROW,
};

fn gst_source(_: &Path, extension: &str) -> Result<Option<GstSource>> {
    Ok(match extension {
        "hevc" | "h265" | "265" | "bit" => Some(GstSource::default()),
        _ => None,
    })
}

fn shift_references(control: &mut Control, shift: u64, _: bool) {
    if control.id == V4L2_CID_STATELESS_HEVC_DECODE_PARAMS {
        edit::value(control, |params: &mut V4l2CtrlHevcDecodeParams| {
            let count = usize::from(params.num_active_dpb_entries);
            for entry in params.dpb.iter_mut().take(count) {
                entry.timestamp += shift;
            }
        });
    }
}
