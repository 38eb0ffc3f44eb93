// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The AV1 writer: a session's frames of any control bytes give OBUs or an error, and what it says of them is
//! true.

use daedalus_codecs::av1::{Av1Frame, Av1Writer};
use daedalus_trace::Job;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_AV1_FILM_GRAIN, V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_AV1_SEQUENCE,
    V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY, V4l2CtrlAv1FilmGrain, V4l2CtrlAv1Frame, V4l2CtrlAv1Sequence,
    V4l2CtrlAv1TileGroupEntry,
};
use zerocopy::FromBytes;

use super::controls::{control, value};
use super::target::Target;

/// The target.
pub(super) const TARGET: Target = Target { input, run };

fn input(job: &Job) -> Option<Vec<u8>> {
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
    Some(input.concat())
}

/// Splits a `T` off the input; what is missing at its end is zero.
fn take<T: FromBytes>(rest: &mut &[u8]) -> T {
    let (mine, tail) = rest.split_at(size_of::<T>().min(rest.len()));
    let mut bytes = mine.to_vec();
    bytes.resize(size_of::<T>(), 0);
    *rest = tail;
    T::read_from_bytes(&bytes).unwrap_or_else(|_| unreachable!("the size is right"))
}

fn run(data: &[u8]) {
    let mut rest = data;
    let mut writer = Av1Writer::new();
    let mut out = Vec::new();
    while let Some((&choice, tail)) = rest.split_first() {
        rest = tail;
        let sequence: V4l2CtrlAv1Sequence = take(&mut rest);
        let frame: V4l2CtrlAv1Frame = take(&mut rest);
        let grain: Option<V4l2CtrlAv1FilmGrain> = (choice & 0x80 != 0).then(|| take(&mut rest));
        let tiles: Vec<V4l2CtrlAv1TileGroupEntry> = (0..choice & 0x1f).map(|_| take(&mut rest)).collect();
        let payload = &rest[..rest.len().min(256)];
        let job = Av1Frame {
            sequence: &sequence,
            frame: &frame,
            tiles: &tiles,
            film_grain: grain.as_ref(),
            payload,
            timestamp: frame.reference_frame_ts[0].wrapping_add(u64::from(choice)),
        };
        out.clear();
        if let Ok(written) = writer.write(&job, &mut out) {
            assert!(written.frame.start < written.frame.end && written.frame.end <= out.len());
            if let Some(reshown) = written.reshown {
                assert!(reshown.start < reshown.end && reshown.end <= written.frame.start);
            }
        } else {
            assert!(out.is_empty(), "an error appends nothing");
        }
        if choice & 0x40 != 0 {
            writer.reset();
        }
    }
}
