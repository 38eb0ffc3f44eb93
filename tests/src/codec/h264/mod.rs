// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H.264 in the tests.

mod clips;
mod damage;

use std::path::Path;

use anyhow::Result;
use daedalus_client::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_MPEG_VIDEO_H264_LEVEL, V4L2_CID_MPEG_VIDEO_H264_PROFILE, V4L2_CID_STATELESS_H264_DECODE_MODE,
    V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_CID_STATELESS_H264_PPS, V4L2_CID_STATELESS_H264_PRED_WEIGHTS,
    V4L2_CID_STATELESS_H264_SCALING_MATRIX, V4L2_CID_STATELESS_H264_SLICE_PARAMS,
    V4L2_CID_STATELESS_H264_SPS, V4L2_CID_STATELESS_H264_START_CODE, V4L2_H264_DPB_ENTRY_FLAG_VALID,
    V4l2CtrlH264DecodeParams,
};

use super::edit;
use super::row::{GstSource, Row};

/// The row.
pub(super) static ROW: Row = Row {
    library: "libavcodec",
    menus: &[
        (V4L2_CID_MPEG_VIDEO_H264_PROFILE, "H264_PROFILE"),
        (V4L2_CID_MPEG_VIDEO_H264_LEVEL, "H264_LEVEL"),
        (V4L2_CID_STATELESS_H264_DECODE_MODE, "H264_DECODE_MODE"),
        (V4L2_CID_STATELESS_H264_START_CODE, "H264_START_CODE"),
    ],
    compound: &[
        (V4L2_CID_STATELESS_H264_SPS, "H264_SPS"),
        (V4L2_CID_STATELESS_H264_PPS, "H264_PPS"),
        (V4L2_CID_STATELESS_H264_SCALING_MATRIX, "H264_SCALING_MATRIX"),
        (V4L2_CID_STATELESS_H264_PRED_WEIGHTS, "H264_PRED_WEIGHTS"),
        (V4L2_CID_STATELESS_H264_SLICE_PARAMS, "H264_SLICE_PARAMS"),
        (V4L2_CID_STATELESS_H264_DECODE_PARAMS, "H264_DECODE_PARAMS"),
    ],
    array: None,
    shift_references,
    gst_parser: "h264parse",
    gst_source,
    recolour: Some("h264_metadata=colour_primaries=1:transfer_characteristics=1:matrix_coefficients=1"),
    damage: damage::ROW,
    clips: clips::ROW,
};

fn gst_source(_: &Path, extension: &str) -> Result<Option<GstSource>> {
    Ok(match extension {
        "h264" | "264" | "jsv" | "26l" | "avc" | "jvt" => Some(GstSource::default()),
        _ => None,
    })
}

fn shift_references(control: &mut Control, shift: u64, _: bool) {
    if control.id == V4L2_CID_STATELESS_H264_DECODE_PARAMS {
        edit::value(control, |params: &mut V4l2CtrlH264DecodeParams| {
            for entry in &mut params.dpb {
                if entry.flags & V4L2_H264_DPB_ENTRY_FLAG_VALID != 0 {
                    entry.reference_ts += shift;
                }
            }
        });
    }
}
