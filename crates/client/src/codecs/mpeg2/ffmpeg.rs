// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FFmpeg's hwaccel for MPEG-2 (libavcodec/v4l2_request_mpeg2.c).
//!
//! A request has `SEQUENCE`, `PICTURE`, `QUANTISATION`, always all three (`v4l2_request_mpeg2_end_frame`).
//! The first has no profile and level, and the size of the OUTPUT buffer for that of the VBV. The chroma
//! matrices repeat those of luma. A reference that does not exist is 0 (`v4l2_request_mpeg2_start_frame`).

use daedalus_codecs::mpeg2::NO_PICTURE;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_MPEG2_PICTURE, V4L2_CID_STATELESS_MPEG2_QUANTISATION,
    V4L2_CID_STATELESS_MPEG2_SEQUENCE, V4l2CtrlMpeg2Picture, V4l2CtrlMpeg2Quantisation,
    V4l2CtrlMpeg2Sequence,
};

use crate::coded::{CodedJob, Control};
use crate::device::{ClientError, Device};
use crate::personality::controls::edit;
use crate::personality::hwaccel::Hwaccel;

/// An OUTPUT buffer's size.
const BUFFER: u32 = 1 << 20;

/// The hwaccel.
pub(crate) struct Mpeg2;

impl Hwaccel for Mpeg2 {
    fn prepare(&self, _: &Device) -> Result<bool, ClientError> {
        Ok(false)
    }

    fn request(&self, job: &CodedJob, _optional: bool) -> (Vec<Control>, Vec<u8>) {
        let mut controls = job.controls.clone();
        edit(
            &mut controls,
            V4L2_CID_STATELESS_MPEG2_SEQUENCE,
            |sequence: &mut V4l2CtrlMpeg2Sequence| {
                sequence.profile_and_level_indication = 0;
                sequence.vbv_buffer_size = BUFFER;
            },
        );
        edit(
            &mut controls,
            V4L2_CID_STATELESS_MPEG2_PICTURE,
            |picture: &mut V4l2CtrlMpeg2Picture| {
                for name in [&mut picture.forward_ref_ts, &mut picture.backward_ref_ts] {
                    if *name == NO_PICTURE {
                        *name = 0;
                    }
                }
            },
        );
        edit(
            &mut controls,
            V4L2_CID_STATELESS_MPEG2_QUANTISATION,
            |matrices: &mut V4l2CtrlMpeg2Quantisation| {
                matrices.chroma_intra_quantiser_matrix = matrices.intra_quantiser_matrix;
                matrices.chroma_non_intra_quantiser_matrix = matrices.non_intra_quantiser_matrix;
            },
        );
        (controls, job.payload.clone())
    }
}
