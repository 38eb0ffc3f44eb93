// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AV1 streams, decoded by the `dav1d` program.

use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use daedalus_client::CodedJob;
use daedalus_codecs::av1::{Av1Frame, Av1Writer};
use daedalus_uapi::v4l2_controls::*;
use md5::{Digest, Md5};
use zerocopy::FromBytes;

use crate::vectors::{Vector, scratch};

/// What the decoder outputs when it is given the rebuilt stream, hidden pictures too, in its order.
struct Output {
    /// The picture's timestamp, or `None` for one that is shown again: the client has it already.
    timestamp: Option<u64>,
    /// Size of the raw picture, in bytes.
    bytes: usize,
}

struct RebuiltStream {
    stream: Vec<u8>,
    outputs: Vec<Output>,
    /// The pictures in display order, by timestamp.
    shows: Vec<u64>,
}

fn control<T: FromBytes>(job: &CodedJob, id: u32) -> Option<T> {
    job.control(id).and_then(|c| c.get())
}

/// Returns the size of a picture as the decoder's `yuv` output has it, in bytes.
fn picture_bytes(sequence: &V4l2CtrlAv1Sequence, frame: &V4l2CtrlAv1Frame) -> usize {
    let (width, height) = (
        frame.upscaled_width as usize,
        frame.frame_height_minus_1 as usize + 1,
    );
    let halved = |size: usize, flag: u32| {
        if sequence.flags & flag != 0 {
            size.div_ceil(2)
        } else {
            size
        }
    };
    let chroma = halved(width, V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_X)
        * halved(height, V4L2_AV1_SEQUENCE_FLAG_SUBSAMPLING_Y);
    let mono = sequence.flags & V4L2_AV1_SEQUENCE_FLAG_MONO_CHROME != 0;
    let samples = width * height + if mono { 0 } else { 2 * chroma };
    samples * if sequence.bit_depth > 8 { 2 } else { 1 }
}

fn rewrite(vector: &Vector) -> Result<RebuiltStream, String> {
    let mut writer = Av1Writer::new();
    let mut rebuilt = RebuiltStream {
        stream: Vec::new(),
        outputs: Vec::new(),
        shows: Vec::new(),
    };
    let mut sequence = None;
    let mut bytes_of = HashMap::new();
    for job in daedalus_client::jobs(&vector.path).map_err(|e| e.to_string())? {
        let job = job.map_err(|e| e.to_string())?;
        sequence = control::<V4l2CtrlAv1Sequence>(&job, V4L2_CID_STATELESS_AV1_SEQUENCE).or(sequence);
        let sequence = sequence.as_ref().ok_or("no sequence control yet")?;
        let frame =
            control::<V4l2CtrlAv1Frame>(&job, V4L2_CID_STATELESS_AV1_FRAME).ok_or("no frame control")?;
        let tiles = job
            .control(V4L2_CID_STATELESS_AV1_TILE_GROUP_ENTRY)
            .ok_or("no tile control")?;
        let tiles: Vec<V4l2CtrlAv1TileGroupEntry> = tiles
            .value
            .chunks(16)
            .filter_map(|c| FromBytes::read_from_bytes(c).ok())
            .collect();
        let film_grain = control::<V4l2CtrlAv1FilmGrain>(&job, V4L2_CID_STATELESS_AV1_FILM_GRAIN);
        let job_of_writer = Av1Frame {
            sequence,
            frame: &frame,
            tiles: &tiles,
            film_grain: film_grain.as_ref(),
            payload: &job.payload,
            timestamp: job.timestamp,
        };
        let written = writer
            .write(&job_of_writer, &mut rebuilt.stream)
            .map_err(|e| format!("frame {}: {e}", rebuilt.outputs.len()))?;
        if written.stale_reference {
            return Err(format!(
                "frame {}: a reference is not the one meant",
                rebuilt.outputs.len()
            ));
        }
        if written.reshown.is_some() {
            let shown = bytes_of.get(&frame.reference_frame_ts[0]).copied();
            rebuilt.outputs.push(Output {
                timestamp: None,
                bytes: shown.ok_or("unknown picture shown")?,
            });
        }
        let bytes = picture_bytes(sequence, &frame);
        bytes_of.insert(job.timestamp, bytes);
        rebuilt.outputs.push(Output {
            timestamp: Some(job.timestamp),
            bytes,
        });
        rebuilt.shows.extend(&job.shows);
    }
    Ok(rebuilt)
}

/// Returns the decoder's pictures, by timestamp.
fn decode(rebuilt: &RebuiltStream, coded: &Path, raw: &Path) -> Result<HashMap<u64, Vec<u8>>, String> {
    std::fs::write(coded, &rebuilt.stream).map_err(|e| e.to_string())?;
    let run = Command::new("dav1d")
        .args([
            "--quiet",
            "--demuxer",
            "section5",
            "--muxer",
            "yuv",
            "--threads",
            "1",
        ])
        .args([
            "--framedelay",
            "1",
            "--outputinvisible",
            "1",
            "--alllayers",
            "1",
            "--filmgrain",
            "1",
        ])
        .arg("-i")
        .arg(coded)
        .arg("-o")
        .arg(raw)
        .output()
        .map_err(|e| format!("dav1d: {e}"))?;
    if !run.status.success() {
        return Err(format!("dav1d: {}", String::from_utf8_lossy(&run.stderr)));
    }
    let mut file = BufReader::new(std::fs::File::open(raw).map_err(|e| e.to_string())?);
    let mut pictures = HashMap::new();
    for (i, output) in rebuilt.outputs.iter().enumerate() {
        let mut picture = vec![0; output.bytes];
        file.read_exact(&mut picture)
            .map_err(|e| format!("dav1d's picture {i}: {e}"))?;
        if let Some(timestamp) = output.timestamp {
            pictures.insert(timestamp, picture);
        }
    }
    match file.read(&mut [0]) {
        Ok(0) => Ok(pictures),
        _ => Err("dav1d output more pictures than expected".to_owned()),
    }
}

/// How many key frames were shown again, over all streams.
pub(crate) static RESHOWN: AtomicUsize = AtomicUsize::new(0);

/// md5 of the rebuilt stream's pictures, as the client would show them.
pub(crate) fn rebuild(vector: &Vector) -> Result<String, String> {
    let rebuilt = rewrite(vector)?;
    let reshown = rebuilt.outputs.iter().filter(|o| o.timestamp.is_none()).count();
    RESHOWN.fetch_add(reshown, Ordering::Relaxed);
    let (coded, raw) = (scratch(vector, "obu"), scratch(vector, "yuv"));
    let pictures = decode(&rebuilt, &coded, &raw);
    std::fs::remove_file(&raw).map_err(|e| e.to_string())?;
    let pictures = pictures?;
    let mut hash = Md5::new();
    for timestamp in &rebuilt.shows {
        hash.update(
            pictures
                .get(timestamp)
                .ok_or("a picture is shown that was not decoded")?,
        );
    }
    let md5 = format!("{:x}", hash.finalize());
    // Kept after a failure, to be looked at.
    if md5 == vector.md5 {
        std::fs::remove_file(&coded).map_err(|e| e.to_string())?;
    }
    Ok(md5)
}
