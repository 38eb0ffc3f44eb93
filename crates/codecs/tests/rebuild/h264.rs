// SPDX-License-Identifier: Apache-2.0 OR MIT
//! H.264 streams, decoded by the `ffmpeg` program.

use std::process::Command;

use daedalus_client::{CodedJob, Visible};
use daedalus_codecs::h264::{ParameterSets, VuiPolicy, scaling_matrix_in_force, write_access_unit_delimiter};
use daedalus_uapi::v4l2_controls::*;

use crate::vectors::{Vector, scratch};

/// The stream, rebuilt.
struct Rebuilt {
    stream: Vec<u8>,
    /// The part of its pictures that is shown, and their size as decoded.
    visible: Visible,
    coded: (u32, u32),
}

fn rewrite(vector: &Vector) -> Result<Rebuilt, String> {
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
    Ok(Rebuilt {
        stream,
        visible,
        coded,
    })
}

fn control<T: zerocopy::FromBytes>(job: &CodedJob, id: u32) -> Option<T> {
    job.control(id).and_then(|c| c.get())
}

/// md5 of the rebuilt stream's pictures, cropped as the client would show them.
pub(crate) fn rebuild(vector: &Vector) -> Result<String, String> {
    let Rebuilt {
        stream,
        visible,
        coded,
    } = rewrite(vector)?;
    let path = scratch(vector, "h264");
    std::fs::write(&path, stream).map_err(|e| e.to_string())?;
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg
        // More threads decode fields wrong, once in some hundred times (ARCHITECTURE.md, Threads).
        .args(["-v", "error", "-threads", "1", "-f", "h264", "-i"])
        .arg(&path)
        .args(["-fps_mode", "passthrough"]);
    if (visible.width, visible.height) != coded {
        let Visible {
            left,
            top,
            width,
            height,
        } = visible;
        ffmpeg.args(["-vf", &format!("crop={width}:{height}:{left}:{top}:exact=1")]);
    }
    let output = ffmpeg
        .args(["-noautoscale", "-c:v", "rawvideo", "-f", "md5", "-"])
        .output()
        .map_err(|e| format!("ffmpeg: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let md5 = text.trim().strip_prefix("MD5=").map(str::to_owned);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let md5 = md5.ok_or_else(|| format!("ffmpeg: {complaints}"))?;
    if !complaints.is_empty() && md5 != vector.md5 {
        let lines: Vec<_> = complaints.lines().take(2).collect();
        return Err(format!("md5 {md5}; {}", lines.join("; ")));
    }
    // Kept after a failure, to be looked at.
    if md5 == vector.md5 {
        std::fs::remove_file(&path).map_err(|e| e.to_string())?;
    }
    Ok(md5)
}
