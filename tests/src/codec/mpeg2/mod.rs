// SPDX-License-Identifier: Apache-2.0 OR MIT
//! MPEG-2 in the tests.

mod clips;
mod damage;
mod reference;
mod writer;

use std::path::Path;

use anyhow::Result;
use daedalus_client::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_MPEG2_PICTURE, V4L2_CID_STATELESS_MPEG2_QUANTISATION,
    V4L2_CID_STATELESS_MPEG2_SEQUENCE, V4l2CtrlMpeg2Picture,
};

use super::edit;
use super::row::{GstSource, Row};

/// The row.
pub(super) static ROW: Row = Row {
    library: "libavcodec",
    menus: &[],
    compound: &[
        (V4L2_CID_STATELESS_MPEG2_SEQUENCE, "MPEG2_SEQUENCE"),
        (V4L2_CID_STATELESS_MPEG2_PICTURE, "MPEG2_PICTURE"),
        (V4L2_CID_STATELESS_MPEG2_QUANTISATION, "MPEG2_QUANTISATION"),
    ],
    array: None,
    shift_references,
    gst_parser: "mpegvideoparse",
    gst_source,
    recolour: Some("mpeg2_metadata=colour_primaries=1:transfer_characteristics=1:matrix_coefficients=1"),
    damage: damage::ROW,
    clips: clips::ROW,
};

fn gst_source(_: &Path, extension: &str) -> Result<Option<GstSource>> {
    Ok(match extension {
        "mpeg2" | "m2v" => Some(GstSource::default()),
        _ => None,
    })
}

/// Leaves a reference that does not exist as it is.
fn shift_references(control: &mut Control, shift: u64, _: bool) {
    if control.id == V4L2_CID_STATELESS_MPEG2_PICTURE {
        edit::value(control, |picture: &mut V4l2CtrlMpeg2Picture| {
            for name in [&mut picture.forward_ref_ts, &mut picture.backward_ref_ts] {
                if ![0, u64::MAX].contains(name) {
                    *name += shift;
                }
            }
        });
    }
}
