// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FFmpeg of the Debian root: encodes small clips for guests, and says what their pictures are.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use daedalus_uapi::Codec;
use serde::Deserialize;

use crate::bed::Bed;
use crate::make::root;
use crate::site::table;

/// How a codec's clips are encoded, as a row of encoders.tsv.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Encoder {
    pub(crate) codec: Codec,
    /// What the file's name ends with.
    pub(crate) ending: String,
    /// FFmpeg's options.
    pub(crate) options: String,
}

/// Returns the encoders of all codecs, in the order of the registry.
pub(crate) fn encoders() -> Result<Vec<Encoder>> {
    let rows: Vec<Encoder> = table::rows("encoders.tsv", include_str!("encoders.tsv"))?;
    let row = |codec: &Codec| {
        let row = rows.iter().find(|row| row.codec == *codec).cloned();
        row.with_context(|| format!("encoders.tsv has no row for {codec}"))
    };
    Codec::ALL.iter().map(row).collect()
}

/// A moving picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frames: usize,
    /// Frames per second.
    pub(crate) rate: u32,
}

/// Encodes a scene to a file of the tree with FFmpeg's options.
pub(crate) fn encode(bed: &Bed, scene: Scene, options: &str, to: &Path, log: &Path) -> Result<()> {
    let Scene {
        width,
        height,
        frames,
        rate,
    } = scene;
    bed.command("ffmpeg")?
        .args(["-nostdin", "-hide_banner", "-y", "-f", "lavfi", "-i"])
        .arg(format!("testsrc2=size={width}x{height}:rate={rate}"))
        .args(["-pix_fmt", "yuv420p", "-frames:v", &frames.to_string()])
        .args(options.split(' '))
        .arg(root::inside(bed, to))
        .log(log)
        .run()
}

/// Returns the checksum of each of a clip's pictures as packed NV12, one a line.
///
/// # Errors
///
/// If there are not so many pictures.
pub(crate) fn sums(bed: &Bed, clip: &Path, frames: usize) -> Result<String> {
    let pictures = bed
        .command("ffmpeg")?
        .args(["-nostdin", "-v", "error", "-threads", "1", "-i"])
        .arg(root::inside(bed, clip))
        .args(["-pix_fmt", "nv12", "-f", "framemd5", "-"])
        .output()?;
    // A line is: stream, dts, pts, duration, bytes, checksum.
    let sums: Vec<&str> = pictures
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.rsplit_once(',')?.1.trim()))
        .collect();
    let found = sums.len();
    ensure!(
        found == frames,
        "{} has {found} pictures, not {frames}",
        clip.display()
    );
    Ok(sums.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_has_an_encoder() {
        let rows = encoders().unwrap();
        assert_eq!(rows.len(), Codec::ALL.len());
        assert!(rows.iter().all(|row| row.options.contains(" -f ")));
    }
}
