// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes to the controls that the parsers made, as other clients fill them in.

use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_AV1_FRAME, V4L2_CID_STATELESS_AV1_SEQUENCE, V4L2_CID_STATELESS_H264_DECODE_PARAMS,
    V4L2_CID_STATELESS_VP9_FRAME, V4L2_H264_DPB_ENTRY_FLAG_VALID, V4l2CtrlAv1Frame, V4l2CtrlAv1Sequence,
    V4l2CtrlH264DecodeParams, V4l2CtrlVp9Frame,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::job::{CodedJob, Control};

/// Changes the value of the control `id`, if it is among `controls`.
pub(super) fn edit<T: FromBytes + IntoBytes + Immutable>(
    controls: &mut [Control],
    id: u32,
    change: impl FnOnce(&mut T),
) {
    if let Some(control) = controls.iter_mut().find(|control| control.id == id) {
        if let Some(mut value) = control.get::<T>() {
            change(&mut value);
            *control = Control::new(id, &value);
        }
    }
}

/// Replaces the parser's names of reference pictures by those that `map` gives; `absent` stands for a
/// reference that does not exist.
pub(super) fn rename_references(controls: &mut [Control], absent: u64, map: impl Fn(u64) -> Option<u64>) {
    let rename = |timestamp: &mut u64| *timestamp = map(*timestamp).unwrap_or(absent);
    edit(
        controls,
        V4L2_CID_STATELESS_H264_DECODE_PARAMS,
        |params: &mut V4l2CtrlH264DecodeParams| {
            for entry in &mut params.dpb {
                if entry.flags & V4L2_H264_DPB_ENTRY_FLAG_VALID != 0 {
                    rename(&mut entry.reference_ts);
                }
            }
        },
    );
    edit(
        controls,
        V4L2_CID_STATELESS_VP9_FRAME,
        |frame: &mut V4l2CtrlVp9Frame| {
            let (last, golden, alt) = (
                &mut frame.last_frame_ts,
                &mut frame.golden_frame_ts,
                &mut frame.alt_frame_ts,
            );
            for timestamp in [last, golden, alt] {
                // Intra frames have none.
                if *timestamp != 0 {
                    rename(timestamp);
                }
            }
        },
    );
    edit(
        controls,
        V4L2_CID_STATELESS_AV1_FRAME,
        |frame: &mut V4l2CtrlAv1Frame| frame.reference_frame_ts.iter_mut().for_each(rename),
    );
}

/// Size of the pictures for which a client prepares a session at this job: of AV1 the largest that the
/// sequence has, else the frame's own.
pub(super) fn session_size(job: &CodedJob) -> (u32, u32) {
    job.control(V4L2_CID_STATELESS_AV1_SEQUENCE)
        .and_then(Control::get::<V4l2CtrlAv1Sequence>)
        .map_or((job.coded_width, job.coded_height), |sequence| {
            (
                u32::from(sequence.max_frame_width_minus_1) + 1,
                u32::from(sequence.max_frame_height_minus_1) + 1,
            )
        })
}
