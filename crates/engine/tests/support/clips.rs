// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Small clips for tests that need damage, seeks and sizes rather than conformance: made by the encoders
//! that the ffmpeg program has, so that these tests depend on no other file.

#![allow(dead_code, reason = "each user needs another part")]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use daedalus_client::{Codec, CodedJob};
use daedalus_common::codecs;

/// Pictures between two key frames.
pub(crate) const GOP: usize = 8;

/// The jobs of a clip of 24 pictures, 322 × 182, with noise, made by `ffmpeg`.
pub(crate) fn jobs(codec: Codec) -> Result<Vec<CodedJob>> {
    let cell = |column| {
        let cell = codecs::cell(codec.name(), column);
        cell.with_context(|| format!("codecs.tsv has no {column} for {codec}"))
    };
    encoded(&format!("{codec}.{}", cell("ending")?), cell("groups")?)
}

/// The jobs of such a clip by an encoder with other options.
pub(crate) fn encoded(name: &str, options: &str) -> Result<Vec<CodedJob>> {
    let path = encode(name, options)?;
    daedalus_client::jobs(&path)?
        .collect::<Result<_, _>>()
        .with_context(|| name.to_owned())
}

fn encode(name: &str, options: &str) -> Result<PathBuf> {
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
        .args(options.split(' '))
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
