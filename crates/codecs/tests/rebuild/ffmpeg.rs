// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Streams of start codes, decoded by the `ffmpeg` program.

use std::path::Path;
use std::process::Command;

use daedalus_client::Visible;
use md5::{Digest as _, Md5};

use crate::vectors::{Vector, scratch};

/// A stream, rebuilt, whose pictures have one size.
pub(crate) struct RebuiltStream {
    pub(crate) stream: Vec<u8>,
    /// The part of its pictures that is shown; `None` if it is all of them.
    pub(crate) crop: Option<Visible>,
}

/// Returns the part of pictures that is shown; `None` if it is all of them.
pub(crate) fn crop(visible: Visible, coded: (u32, u32)) -> Option<Visible> {
    ((visible.width, visible.height) != coded).then_some(visible)
}

/// Returns the md5 of the pictures of one stream after the other, cropped as the client would show them.
/// `format` is ffmpeg's name of the streams' format.
pub(crate) fn decode(vector: &Vector, format: &str, streams: &[RebuiltStream]) -> Result<String, String> {
    let path = scratch(vector, format);
    let mut md5 = Md5::new();
    let mut complaints = String::new();
    for RebuiltStream { stream, crop } in streams {
        std::fs::write(&path, stream).map_err(|e| e.to_string())?;
        let output = command(&path, format, crop.as_ref())
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

/// Returns the command that writes the pictures, raw.
fn command(path: &Path, format: &str, crop: Option<&Visible>) -> Command {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg
        // More threads decode fields wrong, once in some hundred times (ARCHITECTURE.md, Threads).
        .args(["-v", "error", "-threads", "1", "-f", format, "-i"])
        .arg(path)
        .args(["-fps_mode", "passthrough"]);
    if let Some(Visible {
        left,
        top,
        width,
        height,
    }) = crop
    {
        ffmpeg.args(["-vf", &format!("crop={width}:{height}:{left}:{top}:exact=1")]);
    }
    ffmpeg.args(["-noautoscale", "-c:v", "rawvideo", "-f", "rawvideo", "-"]);
    ffmpeg
}
