// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FFmpeg of the Debian root: encodes small clips for guests, and says what their pictures are.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::bed::Bed;
use crate::make::root;

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
