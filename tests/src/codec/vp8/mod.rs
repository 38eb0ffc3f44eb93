// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VP8 in the tests.

mod clips;
mod damage;

use std::path::Path;

use anyhow::Result;
use daedalus_client::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_MPEG_VIDEO_VP8_PROFILE, V4L2_CID_STATELESS_VP8_FRAME, V4l2CtrlVp8Frame,
};

use super::edit;
use super::row::{GstSource, Row};

/// The row.
pub(super) static ROW: Row = Row {
    library: "libavcodec",
    menus: &[(V4L2_CID_MPEG_VIDEO_VP8_PROFILE, "VP8_PROFILE")],
    compound: &[(V4L2_CID_STATELESS_VP8_FRAME, "VP8_FRAME")],
    array: None,
    shift_references,
    // GStreamer has no parser for it: the decoder's element parses.
    gst_parser: "identity",
    gst_source,
    recolour: None,
    damage: damage::ROW,
    clips: clips::ROW,
};

fn gst_source(_: &Path, extension: &str) -> Result<Option<GstSource>> {
    Ok(GstSource::container(extension))
}

/// Leaves a key frame as it is: what its timestamps name is not read.
fn shift_references(control: &mut Control, shift: u64, is_intra: bool) {
    if control.id == V4L2_CID_STATELESS_VP8_FRAME && !is_intra {
        edit::value(control, |frame: &mut V4l2CtrlVp8Frame| {
            frame.last_frame_ts += shift;
            frame.golden_frame_ts += shift;
            frame.alt_frame_ts += shift;
        });
    }
}
