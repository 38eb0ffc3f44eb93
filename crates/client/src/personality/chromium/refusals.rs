// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What Chromium does not decode on such a device, and where in its source (media/gpu) that is decided.

use daedalus_uapi::v4l2_controls::{
    V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN, V4L2_AV1_FRAME_FLAG_USE_SUPERRES,
    V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME, V4L2_CID_STATELESS_AV1_FILM_GRAIN, V4L2_CID_STATELESS_AV1_FRAME,
    V4L2_CID_STATELESS_AV1_SEQUENCE, V4L2_CID_STATELESS_H264_SPS, V4L2_CID_STATELESS_VP9_FRAME,
    V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY, V4l2CtrlAv1FilmGrain, V4l2CtrlAv1Frame, V4l2CtrlAv1Sequence,
    V4l2CtrlH264Sps,
};

use crate::job::{CodedJob, Control};
use crate::personality::controls::session_size;

/// Why Chromium does not decode `job`, with a session of this size and bit depth or with none; `None` if it
/// does.
pub(super) fn of(job: &CodedJob, session: Option<((u32, u32), u8)>) -> Option<&'static str> {
    if let Some(sps) = control::<V4l2CtrlH264Sps>(job, V4L2_CID_STATELESS_H264_SPS) {
        return h264(&sps);
    }
    if job.control(V4L2_CID_STATELESS_VP9_FRAME).is_some() {
        let changes = session.is_some_and(|session| session != (session_size(job), job.bit_depth));
        return (changes && !job.key).then_some(
            "vp9_decoder.cc, Decode: \"Resolution change currently supported for keyframes\", the frame is dropped",
        );
    }
    let sequence = control::<V4l2CtrlAv1Sequence>(job, V4L2_CID_STATELESS_AV1_SEQUENCE)?;
    let frame = control::<V4l2CtrlAv1Frame>(job, V4L2_CID_STATELESS_AV1_FRAME)?;
    av1(job, &sequence, &frame)
}

fn control<T: zerocopy::FromBytes>(job: &CodedJob, id: u32) -> Option<T> {
    job.control(id).and_then(Control::get::<T>)
}

fn h264(sps: &V4l2CtrlH264Sps) -> Option<&'static str> {
    if sps.flags & V4L2_H264_SPS_FLAG_FRAME_MBS_ONLY == 0 {
        return Some("h264_decoder.cc, ProcessSPS: \"frame_mbs_only_flag != 1 not supported\"");
    }
    (sps.bit_depth_luma_minus8 != 0 || sps.bit_depth_chroma_minus8 != 0)
        .then_some("v4l2/v4l2_video_decoder.cc, SetExtCtrls10Bit: 10 bit is known of HEVC, VP9 and AV1 only")
}

fn av1(job: &CodedJob, sequence: &V4l2CtrlAv1Sequence, frame: &V4l2CtrlAv1Frame) -> Option<&'static str> {
    if job.unit.as_ref().is_some_and(|unit| unit.operating_point != 0) {
        return Some(
            "av1_decoder.cc, DecodeInternal: \"Either temporal or spatial layer decoding is not supported\"",
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
            "av1_decoder.cc, DecodeInternal: \"Resolution change in the middle of video sequence is not supported\"",
        );
    }
    let grain = control::<V4l2CtrlAv1FilmGrain>(job, V4L2_CID_STATELESS_AV1_FILM_GRAIN);
    grain
        .is_some_and(|grain| grain.flags & V4L2_AV1_FILM_GRAIN_FLAG_APPLY_GRAIN != 0)
        .then_some("v4l2/v4l2_video_decoder_delegate_av1.cc, SubmitDecode: the film grain control is not set")
}
