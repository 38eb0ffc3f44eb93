// SPDX-License-Identifier: Apache-2.0 OR MIT
//! MPEG-2 streams, decoded by the `ffmpeg` program.

use std::process::Command;

use daedalus_client::CodedJob;
use daedalus_codecs::mpeg2::{Headers, PictureControls};
use daedalus_uapi::v4l2_controls::*;

use crate::vectors::{Vector, scratch};

fn control<T: zerocopy::FromBytes>(job: &CodedJob, id: u32) -> Result<T, String> {
    let value = job.control(id).and_then(|control| control.get());
    value.ok_or(format!("no control {id:#x}"))
}

fn rewrite(vector: &Vector) -> Result<Vec<u8>, String> {
    let mut headers = Headers::default();
    let mut stream = Vec::new();
    for job in daedalus_client::jobs(&vector.path).map_err(|e| e.to_string())? {
        let job = job.map_err(|e| e.to_string())?;
        let controls = PictureControls {
            sequence: &control(&job, V4L2_CID_STATELESS_MPEG2_SEQUENCE)?,
            picture: &control(&job, V4L2_CID_STATELESS_MPEG2_PICTURE)?,
            quantisation: &control(&job, V4L2_CID_STATELESS_MPEG2_QUANTISATION)?,
        };
        headers
            .write(&controls, job.same_capture, &mut stream)
            .map_err(|e| e.to_string())?;
        stream.extend_from_slice(&job.payload);
    }
    Ok(stream)
}

/// md5 of the rebuilt stream's pictures.
pub(crate) fn rebuild(vector: &Vector) -> Result<String, String> {
    let path = scratch(vector, "m2v");
    std::fs::write(&path, rewrite(vector)?).map_err(|e| e.to_string())?;
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-threads", "1", "-f", "mpegvideo", "-i"])
        .arg(&path)
        .args(["-fps_mode", "passthrough", "-c:v", "rawvideo", "-f", "md5", "-"])
        .output()
        .map_err(|e| format!("ffmpeg: {e}"))?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    let md5 = text.trim().strip_prefix("MD5=");
    let md5 = md5.ok_or_else(|| format!("ffmpeg: {complaints}"))?.to_owned();
    if !complaints.is_empty() {
        let lines: Vec<_> = complaints.lines().take(2).collect();
        return Err(format!("md5 {md5}; {}", lines.join("; ")));
    }
    // Kept after a failure, to be looked at.
    if md5 == vector.md5 {
        std::fs::remove_file(&path).map_err(|e| e.to_string())?;
    }
    Ok(md5)
}
