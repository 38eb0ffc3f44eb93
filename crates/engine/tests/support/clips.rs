// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Small clips for tests that need damage, seeks and sizes rather than conformance: made by the encoders
//! that the ffmpeg program has, so that these tests depend on no other file.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use daedalus_client::{Codec, CodedJob};

/// Pictures between two key frames.
pub(crate) const GOP: usize = 8;

/// The jobs of a clip of 24 pictures, 322 × 182, with noise, made by `ffmpeg`.
///
/// H.264 has four slices per picture and B pictures.
pub(crate) fn jobs(codec: Codec) -> Result<Vec<CodedJob>> {
    let (name, encoder): (_, &[&str]) = match codec {
        Codec::H264 => (
            "clip.h264",
            &[
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-bf",
                "2",
                "-threads",
                "1",
                "-x264-params",
                "slices=4:keyint=8:min-keyint=8:scenecut=0",
            ],
        ),
        Codec::Vp9 => (
            "clip-vp9.ivf",
            &[
                "-c:v",
                "libvpx-vp9",
                "-g",
                "8",
                "-deadline",
                "realtime",
                "-cpu-used",
                "8",
                "-b:v",
                "2M",
            ],
        ),
        Codec::Av1 => ("clip-av1.ivf", &["-c:v", "libsvtav1", "-preset", "10", "-g", "8"]),
    };
    let path = encode(name, encoder)?;
    daedalus_client::jobs(&path)?
        .collect::<Result<_, _>>()
        .context(name)
}

fn encode(name: &str, encoder: &[&str]) -> Result<PathBuf> {
    // Tests run in parallel, in one process or several: each makes its own file.
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}-{name}", std::process::id()));
    let output = Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-y",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=322x182:rate=25,noise=alls=30",
        ])
        .args(["-frames:v", "24", "-pix_fmt", "yuv420p"])
        .args(encoder)
        .arg(&path)
        .output()
        .context("this test needs the ffmpeg program")?;
    ensure!(
        output.status.success(),
        "ffmpeg: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(path)
}
