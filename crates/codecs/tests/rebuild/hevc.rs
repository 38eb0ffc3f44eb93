// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HEVC streams, decoded by the `ffmpeg` program.

use std::sync::atomic::{AtomicUsize, Ordering};

use daedalus_client::CodedJob;
use daedalus_codecs::hevc::{Controls, OutputOrder, Writer, write_access_unit_delimiter};
use daedalus_uapi::v4l2_controls::*;

use crate::ffmpeg::{self, RebuiltStream};
use crate::vectors::Vector;

/// Pictures of which segments' headers were rewritten.
pub(crate) static REWRITTEN: AtomicUsize = AtomicUsize::new(0);

/// Rebuilds a stream, in parts that each have pictures of one size.
fn rewrite(vector: &Vector) -> Result<Vec<RebuiltStream>, String> {
    let mut writer = Writer::default();
    let mut parts: Vec<RebuiltStream> = Vec::new();
    let mut shape = None;
    for job in daedalus_client::jobs(&vector.path).map_err(|e| e.to_string())? {
        let job = job.map_err(|e| e.to_string())?;
        let sps = control(&job, V4L2_CID_STATELESS_HEVC_SPS).ok_or("no SPS control")?;
        let pps = control(&job, V4L2_CID_STATELESS_HEVC_PPS).ok_or("no PPS control")?;
        let params = control(&job, V4L2_CID_STATELESS_HEVC_DECODE_PARAMS).ok_or("no parameters")?;
        let scaling = control(&job, V4L2_CID_STATELESS_HEVC_SCALING_MATRIX);
        let this = (job.visible, (job.coded_width, job.coded_height));
        if shape.replace(this) != Some(this) {
            writer.reset();
            parts.push(RebuiltStream {
                stream: Vec::new(),
                crop: ffmpeg::crop(this.0, this.1),
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

/// md5 of the rebuilt stream's pictures.
pub(crate) fn rebuild(vector: &Vector) -> Result<String, String> {
    ffmpeg::decode(vector, "hevc", &rewrite(vector)?)
}
