// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HEVC streams, decoded by the `ffmpeg` program.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use daedalus_client::{CodedJob, Visible};
use daedalus_codecs::hevc::{Controls, OutputOrder, Writer, write_access_unit_delimiter};
use daedalus_uapi::v4l2_controls::*;

use md5::{Digest as _, Md5};

use crate::vectors::{Vector, scratch};

/// Pictures of which segments' headers were rewritten.
pub(crate) static REWRITTEN: AtomicUsize = AtomicUsize::new(0);

/// A part of the stream in which pictures have one size, rebuilt.
struct Rebuilt {
    stream: Vec<u8>,
    /// The part of its pictures that is shown, and their size as decoded.
    visible: Visible,
    coded: (u32, u32),
}

/// Rebuilds a stream, in parts that each have pictures of one size.
fn rewrite(vector: &Vector) -> Result<Vec<Rebuilt>, String> {
    let mut writer = Writer::default();
    let mut parts: Vec<Rebuilt> = Vec::new();
    for job in daedalus_client::jobs(&vector.path).map_err(|e| e.to_string())? {
        let job = job.map_err(|e| e.to_string())?;
        let sps = control(&job, V4L2_CID_STATELESS_HEVC_SPS).ok_or("no SPS control")?;
        let pps = control(&job, V4L2_CID_STATELESS_HEVC_PPS).ok_or("no PPS control")?;
        let params = control(&job, V4L2_CID_STATELESS_HEVC_DECODE_PARAMS).ok_or("no parameters")?;
        let scaling = control(&job, V4L2_CID_STATELESS_HEVC_SCALING_MATRIX);
        let (visible, coded) = (job.visible, (job.coded_width, job.coded_height));
        if parts
            .last()
            .is_none_or(|part| (part.visible, part.coded) != (visible, coded))
        {
            writer.reset();
            parts.push(Rebuilt {
                stream: Vec::new(),
                visible,
                coded,
            });
        }
        let Some(part) = parts.last_mut() else { continue };
        write_access_unit_delimiter(&mut part.stream);
        let controls = Controls {
            sps: &sps,
            pps: &pps,
            scaling: scaling.as_ref(),
            params: &params,
        };
        let written = writer
            .write(&controls, OutputOrder::Display, &job.payload, &mut part.stream)
            .map_err(|e| e.to_string())?;
        REWRITTEN.fetch_add(usize::from(written.rewritten > 0), Ordering::Relaxed);
        if !written.in_order {
            return Err("slice segments are missing".to_owned());
        }
    }
    Ok(parts)
}

fn control<T: zerocopy::FromBytes>(job: &CodedJob, id: u32) -> Option<T> {
    job.control(id).and_then(|c| c.get())
}

/// md5 of the rebuilt stream's pictures, cropped as the client would show them.
pub(crate) fn rebuild(vector: &Vector) -> Result<String, String> {
    let path = scratch(vector, "hevc");
    let mut md5 = Md5::new();
    let mut complaints = String::new();
    for Rebuilt {
        stream,
        visible,
        coded,
    } in rewrite(vector)?
    {
        std::fs::write(&path, stream).map_err(|e| e.to_string())?;
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg
            .args(["-v", "error", "-threads", "1", "-f", "hevc", "-i"])
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
            .args(["-noautoscale", "-c:v", "rawvideo", "-f", "rawvideo", "-"])
            .output()
            .map_err(|e| format!("ffmpeg: {e}"))?;
        md5.update(&output.stdout);
        complaints.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    let md5 = format!("{:032x}", u128::from_be_bytes(md5.finalize().into()));
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
