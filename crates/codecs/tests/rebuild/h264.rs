// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H.264 streams, decoded by the `ffmpeg` program.

use daedalus_client::CodedJob;
use daedalus_codecs::h264::{ParameterSets, VuiPolicy, scaling_matrix_in_force, write_access_unit_delimiter};
use daedalus_uapi::v4l2_controls::*;

use crate::ffmpeg::{self, RebuiltStream};
use crate::vectors::Vector;

fn rewrite(vector: &Vector) -> Result<RebuiltStream, String> {
    let mut sets = ParameterSets::default();
    let mut stream = Vec::new();
    let mut shape = None;
    // Controls keep their value until a request sets them anew.
    let (mut sps, mut matrix) = (None, V4l2CtrlH264ScalingMatrix::default());
    for job in daedalus_client::jobs(&vector.path).map_err(|e| e.to_string())? {
        let job = job.map_err(|e| e.to_string())?;
        let set_now = control::<V4l2CtrlH264ScalingMatrix>(&job, V4L2_CID_STATELESS_H264_SCALING_MATRIX);
        matrix = set_now.unwrap_or(matrix);
        sps = control::<V4l2CtrlH264Sps>(&job, V4L2_CID_STATELESS_H264_SPS).or(sps);
        let sps = sps.as_ref().ok_or("no SPS control yet")?;
        let pps = control::<V4l2CtrlH264Pps>(&job, V4L2_CID_STATELESS_H264_PPS).ok_or("no PPS control")?;
        let scaling = scaling_matrix_in_force(&pps, &matrix, set_now.is_some());
        write_access_unit_delimiter(&mut stream);
        sets.write(sps, &pps, scaling, VuiPolicy::display_order(), &mut stream)
            .map_err(|e| e.to_string())?;
        stream.extend_from_slice(&job.payload);
        let this = (job.visible, (job.coded_width, job.coded_height));
        if *shape.get_or_insert(this) != this {
            return Err("the picture size changes".to_owned());
        }
    }
    let (visible, coded) = shape.ok_or("no pictures")?;
    Ok(RebuiltStream {
        stream,
        crop: ffmpeg::crop(visible, coded),
    })
}

fn control<T: zerocopy::FromBytes>(job: &CodedJob, id: u32) -> Option<T> {
    job.control(id).and_then(|c| c.get())
}

/// md5 of the rebuilt stream's pictures.
pub(crate) fn rebuild(vector: &Vector) -> Result<String, String> {
    ffmpeg::decode(vector, "h264", &[rewrite(vector)?])
}
