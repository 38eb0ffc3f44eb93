// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AV1 in the tests.

mod clips;
mod damage;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};
use daedalus_client::Control;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_MPEG_VIDEO_AV1_PROFILE, V4L2_CID_STATELESS_AV1_FILM_GRAIN, V4L2_CID_STATELESS_AV1_FRAME,
    V4L2_CID_STATELESS_AV1_SEQUENCE, V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY, V4l2CtrlAv1Frame,
    V4l2CtrlAv1TileGroupEntry,
};

use super::edit;
use super::row::{GstSource, Row};

/// The row.
pub(super) static ROW: Row = Row {
    library: "dav1d",
    menus: &[(V4L2_CID_MPEG_VIDEO_AV1_PROFILE, "AV1_PROFILE")],
    compound: &[
        (V4L2_CID_STATELESS_AV1_SEQUENCE, "AV1_SEQUENCE"),
        (V4L2_CID_STATELESS_AV1_FRAME, "AV1_FRAME"),
        (V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY, "AV1_TILE_GROUP_ENTRY"),
        (V4L2_CID_STATELESS_AV1_FILM_GRAIN, "AV1_FILM_GRAIN"),
    ],
    array: Some((
        V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
        size_of::<V4l2CtrlAv1TileGroupEntry>(),
    )),
    shift_references,
    gst_parser: "av1parse",
    gst_source,
    recolour: Some("av1_metadata=color_primaries=1:transfer_characteristics=1:matrix_coefficients=1"),
    damage: damage::ROW,
    clips: clips::ROW,
};

fn gst_source(file: &Path, extension: &str) -> Result<Option<GstSource>> {
    Ok(match extension {
        "obu" if length_delimited(file)? => Some(GstSource {
            // av1parse takes one buffer for whole temporal units of this format: it must not be cut.
            blocksize: Some(file.metadata()?.len()),
            elements: &["video/x-av1,stream-format=annexb,alignment=tu"],
        }),
        "obu" => Some(GstSource::through(&["video/x-av1,stream-format=obu-stream"])),
        _ => GstSource::container(extension),
    })
}

/// Returns whether a file of OBUs is of the length-delimited format, in which sizes come first. The
/// low-overhead format begins with a temporal delimiter that has a size field (AV1 specification, 5.3 and
/// 5.6).
fn length_delimited(file: &Path) -> Result<bool> {
    let mut start = [0; 2];
    File::open(file)
        .and_then(|mut f| f.read_exact(&mut start))
        .with_context(|| format!("cannot read {}", file.display()))?;
    Ok(start != [0x12, 0])
}

fn shift_references(control: &mut Control, shift: u64, _: bool) {
    if control.id == V4L2_CID_STATELESS_AV1_FRAME {
        edit::value(control, |frame: &mut V4l2CtrlAv1Frame| {
            for timestamp in &mut frame.reference_frame_ts {
                *timestamp += shift;
            }
        });
    }
}
