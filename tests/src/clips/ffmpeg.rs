// SPDX-License-Identifier: Apache-2.0 OR MIT
//! FFmpeg as a decoder of clips.

use std::path::Path;
use std::process::Command;

/// Makes a command of FFmpeg that decodes a clip; the output is to be added. More threads than one decode
/// interlaced fields wrong at times (ARCHITECTURE.md, Threads).
pub(super) fn decoder(clip: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-nostdin", "-threads", "1", "-i"])
        .arg(clip);
    command
}
