// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VP9 in the tests.

mod clips;
mod damage;

use std::path::Path;

use anyhow::Result;
use daedalus_client::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_MPEG_VIDEO_VP9_PROFILE, V4L2_CID_STATELESS_VP9_COMPRESSED_HDR, V4L2_CID_STATELESS_VP9_FRAME,
    V4l2CtrlVp9Frame,
};

use super::edit;
use super::row::{GstSource, Row};

/// The row.
pub(super) static ROW: Row = Row {
    library: "libavcodec",
    menus: &[(V4L2_CID_MPEG_VIDEO_VP9_PROFILE, "VP9_PROFILE")],
    compound: &[
        (V4L2_CID_STATELESS_VP9_FRAME, "VP9_FRAME"),
        (V4L2_CID_STATELESS_VP9_COMPRESSED_HDR, "VP9_COMPRESSED_HDR"),
    ],
    array: None,
    shift_references,
    gst_parser: "vp9parse",
    gst_source,
    recolour: Some("vp9_metadata=color_space=bt709"),
    damage: damage::ROW,
    clips: clips::ROW,
};

fn gst_source(_: &Path, extension: &str) -> Result<Option<GstSource>> {
    Ok(GstSource::container(extension))
}

/// Leaves a picture without references as it is: its timestamps name none.
fn shift_references(control: &mut Control, shift: u64, is_intra: bool) {
    if control.id == V4L2_CID_STATELESS_VP9_FRAME && !is_intra {
        edit::value(control, |frame: &mut V4l2CtrlVp9Frame| {
            frame.last_frame_ts += shift;
            frame.golden_frame_ts += shift;
            frame.alt_frame_ts += shift;
        });
    }
}
