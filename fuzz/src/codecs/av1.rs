// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Inputs of the target `av1_headers`.

use daedalus_trace::Job;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_AV1_FILM_GRAIN, V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_AV1_SEQUENCE,
    V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY,
};

use super::controls::{control, value};

pub(super) fn headers(job: &Job) -> Option<(&'static str, Vec<u8>)> {
    control(job, V4L2_CID_STATELESS_AV1_SEQUENCE)?;
    let tiles = control(job, V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY);
    let tiles = tiles.map_or(0, |control| control.elems.min(31));
    let input = [
        &[0x80 | tiles as u8][..],
        value(job, V4L2_CID_STATELESS_AV1_SEQUENCE),
        value(job, V4L2_CID_STATELESS_AV1_FRAME),
        value(job, V4L2_CID_STATELESS_AV1_FILM_GRAIN),
        value(job, V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY),
    ];
    Some(("av1_headers", input.concat()))
}
