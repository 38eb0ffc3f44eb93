// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Chromium's part for AV1 (media/gpu/v4l2/v4l2_video_decoder_delegate_av1.cc).
//!
//! A request has `SEQUENCE`, `FRAME` and `TILE_GROUP_ENTRY`, never `FILM_GRAIN`. OUTPUT holds the **whole
//! temporal unit**, again for each of its frames (`SubmitDecode`). Sizes of tiles in superblocks are there
//! for tiles of uneven sizes only (`FillTileInfo`). The flags of affine global motion are its number, 3
//! (`FillGlobalMotionParams`). `DIFF_UV_DELTA` is derived from the sequence
//! (`FillQuantizerIndexDeltaParams`). A reference slot without a picture has the timestamp 2^32 - 1
//! (`SetupFrameParams`).

use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN, V4L2_AV1_FRAME_FLAG_USE_SUPERRES,
    V4L2_AV1_QUANTIZATION_FLAG_DIFF_UV_DELTA, V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME,
    V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q, V4L2_AV1_TILE_INFO_FLAG_UNIFORM_TILE_SPACING,
    V4L2_AV1_WARP_MODEL_AFFINE, V4L2_CID_STATELESS_AV1_FILM_GRAIN, V4L2_CID_STATELESS_AV1_FRAME,
    V4L2_CID_STATELESS_AV1_SEQUENCE, V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY, V4l2Av1TileInfo,
    V4l2CtrlAv1FilmGrain, V4l2CtrlAv1Frame, V4l2CtrlAv1Sequence, V4l2CtrlAv1TileGroupEntry,
};

use super::controls::{entry, session_size};
use crate::coded::{CodedJob, Control};
use crate::personality::controls::edit;
use crate::personality::delegate::{Delegate, Parts, Shape};
use crate::personality::frames::Frames;

/// The delegate.
pub(crate) struct Av1;

impl Delegate for Av1 {
    fn depth_control(&self, bit_depth: u8) -> Option<Control> {
        let sequence = V4l2CtrlAv1Sequence {
            bit_depth,
            ..Default::default()
        };
        (bit_depth != 8).then(|| Control::new(V4L2_CID_STATELESS_AV1_SEQUENCE, &sequence))
    }

    fn absent(&self) -> u64 {
        u32::MAX.into()
    }

    fn request(&self, job: &CodedJob, mut controls: Vec<Control>, _frames: &Frames) -> Parts {
        let mut payload = job.payload.clone();
        if let Some(unit) = &job.unit {
            payload = unit.bytes.to_vec();
            let tiles = unit.groups.iter().flat_map(|group| &group.tiles);
            let entries: Vec<V4l2CtrlAv1TileGroupEntry> = tiles.map(entry).collect();
            fill(&mut controls, &entries);
        }
        Parts {
            controls: vec![controls],
            payload,
        }
    }

    fn refusal(&self, job: &CodedJob, _session: Option<Shape>) -> Option<&'static str> {
        let sequence: V4l2CtrlAv1Sequence = job.control(V4L2_CID_STATELESS_AV1_SEQUENCE)?.get()?;
        let frame: V4l2CtrlAv1Frame = job.control(V4L2_CID_STATELESS_AV1_FRAME)?.get()?;
        if job.unit.as_ref().is_some_and(|unit| unit.operating_point != 0) {
            return Some(
                "av1_decoder.cc, DecodeInternal: \"Either temporal or spatial layer decoding is \
                 not supported\"",
            );
        }
        if sequence.flags & V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME != 0 {
            return Some("av1_decoder.cc, IsYUV420Sequence: \"Only YUV 4:2:0 is supported\"");
        }
        if frame.flags & V4L2_AV1_FRAME_FLAG_USE_SUPERRES != 0 {
            return Some("av1_decoder.cc, DecodeInternal: \"Super resolution is not supported\"");
        }
        if (job.coded_width, job.coded_height) != session_size(job) {
            return Some(
                "av1_decoder.cc, DecodeInternal: \"Resolution change in the middle of video sequence is \
                 not supported\"",
            );
        }
        let grain = job
            .control(V4L2_CID_STATELESS_AV1_FILM_GRAIN)
            .and_then(Control::get::<V4l2CtrlAv1FilmGrain>);
        grain
            .is_some_and(|grain| grain.flags & V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN != 0)
            .then_some(
                "v4l2/v4l2_video_decoder_delegate_av1.cc, SubmitDecode: the film grain control is not set",
            )
    }
}

fn fill(controls: &mut Vec<Control>, tiles: &[V4l2CtrlAv1TileGroupEntry]) {
    controls.retain(|control| control.id != V4L2_CID_STATELESS_AV1_FILM_GRAIN);
    let id = V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY;
    if let Some(control) = controls.iter_mut().find(|control| control.id == id) {
        *control = Control::new(id, tiles);
    }
    let separate = controls
        .iter()
        .find(|control| control.id == V4L2_CID_STATELESS_AV1_SEQUENCE)
        .and_then(Control::get::<V4l2CtrlAv1Sequence>)
        .is_some_and(|sequence| sequence.flags & V4L2_AV1_SEQUENCE_FLAG_SEPARATE_UV_DELTA_Q != 0);
    edit(
        controls,
        V4L2_CID_STATELESS_AV1_FRAME,
        |frame: &mut V4l2CtrlAv1Frame| {
            only_uneven(&mut frame.tile_info);
            let affine = V4L2_AV1_WARP_MODEL_AFFINE;
            let motion = &mut frame.global_motion;
            for (flags, kind) in motion.flags.iter_mut().zip(motion.type_) {
                if kind == affine {
                    *flags |= affine as u8;
                }
            }
            let quantization = &mut frame.quantization;
            quantization.flags &= !V4L2_AV1_QUANTIZATION_FLAG_DIFF_UV_DELTA;
            if separate && quantization.base_q_idx != 0 {
                quantization.flags |= V4L2_AV1_QUANTIZATION_FLAG_DIFF_UV_DELTA;
            }
        },
    );
}

/// Takes the sizes of evenly spaced tiles away.
fn only_uneven(info: &mut V4l2Av1TileInfo) {
    if info.flags & V4L2_AV1_TILE_INFO_FLAG_UNIFORM_TILE_SPACING != 0 {
        info.width_in_sbs_minus_1 = [0; 64];
        info.height_in_sbs_minus_1 = [0; 64];
    }
}
