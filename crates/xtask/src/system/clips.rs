// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest with a disk plays: a small clip of each codec, a longer one, and the small conformance streams of
//! testbed/system/streams.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::bed::Bed;
use crate::make::root;
use crate::site::files::{data_lines, read};

/// Name, FFmpeg's options, frames, frames per second. Key frames come often in the long ones: workers end while they play;
/// the slow one is played while packages are installed.
const CLIPS: [(&str, &str, u32, u32); 5] = [
    ("h264.264", "-c:v libx264 -preset veryfast -g 10 -f h264", 10, 25),
    (
        "vp9.ivf",
        "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 500k -f ivf",
        10,
        25,
    ),
    ("av1.ivf", "-c:v libsvtav1 -preset 12 -crf 40 -f ivf", 10, 25),
    (
        "long.264",
        "-c:v libx264 -preset veryfast -g 5 -bf 0 -f h264",
        500,
        25,
    ),
    (
        "slow.264",
        "-c:v libx264 -preset veryfast -g 5 -bf 0 -f h264",
        9000,
        5,
    ),
];

/// What Chromium plays: name, and FFmpeg's options. Below 360 lines it takes its own decoders (`kSoftwareDecoderHeightCutoff`
/// in its media/filters/decoder_selector.cc).
const FOR_CHROMIUM: [(&str, &str); 3] = [
    ("h264.mp4", "-c:v libx264 -preset veryfast -profile:v high -g 20"),
    (
        "vp9.webm",
        "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -b:v 800k",
    ),
    ("av1.mp4", "-c:v libsvtav1 -preset 12 -crf 40"),
];

/// Makes them in `dir`/clips: the clips, `streams` with a directory per codec if the vectors are here, and `chromium`, if that
/// is asked for, with the clips' checksums.
pub(super) fn make(bed: &Bed, dir: &Path, chromium: bool) -> Result<PathBuf> {
    let clips = dir.join("clips");
    if clips.exists() {
        std::fs::remove_dir_all(&clips)?;
    }
    std::fs::create_dir_all(&clips)?;
    let log = dir.join("clips.log");
    std::fs::remove_file(&log).ok();
    for (name, options, frames, rate) in CLIPS {
        let source = format!("testsrc2=size=320x180:rate={rate}");
        encode(bed, &source, frames, options, &clips.join(name), &log)?;
    }
    if let Some(vectors) = bed.vectors() {
        streams(bed, &vectors, &clips.join("streams"))?;
    }
    if chromium {
        for_chromium(bed, &clips.join("chromium"), &log)?;
    }
    Ok(clips)
}

/// Encodes pictures of an FFmpeg source.
fn encode(bed: &Bed, source: &str, frames: u32, options: &str, to: &Path, log: &Path) -> Result<()> {
    bed.command("ffmpeg")?
        .args(["-nostdin", "-hide_banner", "-y", "-f", "lavfi", "-i", source])
        .args(["-pix_fmt", "yuv420p", "-frames:v", &frames.to_string()])
        .args(options.split(' '))
        .arg(root::inside(bed, to))
        .log(log)
        .run()
}

/// The clips for Chromium, and for each NAME a NAME.md5 with the checksum of each picture as packed NV12, by FFmpeg.
fn for_chromium(bed: &Bed, to: &Path, log: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for (name, options) in FOR_CHROMIUM {
        let clip = to.join(name);
        encode(bed, "testsrc2=size=640x480:rate=5", 40, options, &clip, log)?;
        let pictures = bed
            .command("ffmpeg")?
            .args(["-nostdin", "-v", "error", "-threads", "1", "-i"])
            .arg(root::inside(bed, &clip))
            .args(["-pix_fmt", "nv12", "-f", "framemd5", "-"])
            .output()?;
        // A line is: stream, dts, pts, duration, bytes, checksum.
        let sums: Vec<&str> = pictures
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.rsplit_once(',')?.1.trim()))
            .collect();
        if sums.len() != 40 {
            bail!("{name} has {} pictures, not 40", sums.len());
        }
        std::fs::write(to.join(format!("{name}.md5")), sums.join("\n") + "\n")?;
    }
    Ok(())
}

/// Copies what testbed/system/streams names, each stream as CODEC/NAME with its pictures' checksums as CODEC/NAME.md5.
fn streams(bed: &Bed, vectors: &Path, to: &Path) -> Result<()> {
    let list = "testbed/system/streams";
    for line in data_lines(&read(&bed.repo.join(list))?) {
        let Some((codec, file)) = line.split_once(char::is_whitespace) else {
            bail!("{list}: no file in '{line}'");
        };
        let from = vectors.join(codec).join(file.trim());
        let name = from.file_name().context("a stream without a name")?.to_owned();
        let sums = ["nv12", "p010"]
            .map(|layout| PathBuf::from(format!("{}.{layout}.frames.md5", from.display())))
            .into_iter()
            .find(|path| path.exists())
            .with_context(|| format!("{list}: {} has no checksums", from.display()))?;
        let to = to.join(codec);
        std::fs::create_dir_all(&to)?;
        std::fs::copy(&from, to.join(&name)).with_context(|| from.display().to_string())?;
        std::fs::copy(sums, to.join(format!("{}.md5", name.to_string_lossy())))?;
    }
    Ok(())
}
