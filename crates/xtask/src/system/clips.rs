// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest with a disk plays: a small clip of each codec, two longer ones, and small conformance
//! streams.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use daedalus_uapi::{Codec, fourcc};
use serde::Deserialize;

use crate::bed::Bed;
use crate::codecs;
use crate::ffmpeg::{self, Scene};
use crate::make::root;
use crate::site::files::write_whole;
use crate::site::table;
use crate::streams::{self, Use};

/// The size of all clips but Chromium's.
const SIZE: (u32, u32) = (320, 180);
/// Clips of the usual codec: name, frames, frames per second. Workers end while the long one plays; the slow
/// one plays while packages are installed.
const LONG: [(&str, usize, u32); 2] = [("long", 500, 25), ("slow", 9000, 5)];
/// Key frames come often in them.
const OFTEN: &str = " -g 5 -bf 0";
/// Below 360 lines Chromium takes its own decoders (`kSoftwareDecoderHeightCutoff` in its
/// media/filters/decoder_selector.cc).
const FOR_CHROMIUM: Scene = Scene {
    width: 640,
    height: 480,
    frames: 40,
    rate: 5,
};

/// Makes them in `dir`/clips: the clips; `list` with a line for each codec's, of codec, file and format, the
/// usual codec's first; `streams` with a directory per codec if the vectors are here; and `chromium`, if that
/// is asked for, with the clips' checksums and a list of them; else for each codec's FILE a FILE.framed, with
/// a size before each unit.
pub(super) fn make(bed: &Bed, dir: &Path, chromium: bool) -> Result<PathBuf> {
    let clips = dir.join("clips");
    if clips.exists() {
        std::fs::remove_dir_all(&clips)?;
    }
    std::fs::create_dir_all(&clips)?;
    let log = dir.join("clips.log");
    std::fs::remove_file(&log).ok();
    let scene = |frames, rate| Scene {
        width: SIZE.0,
        height: SIZE.1,
        frames,
        rate,
    };
    let codecs = codecs::rows()?;
    let mut list = String::new();
    for row in &codecs {
        let file = format!("{}.{}", row.codec, row.ending);
        let format = fourcc::name(row.codec.coded_format());
        list.push_str(&format!("{} {file} {format}\n", row.codec));
        ffmpeg::encode(bed, scene(10, 25), &row.small, &clips.join(file), &log)?;
    }
    write_whole(&clips.join("list"), &list)?;
    let usual = codecs.first().context("no codec")?;
    for (name, frames, rate) in LONG {
        let options = usual.small.clone() + OFTEN;
        ffmpeg::encode(bed, scene(frames, rate), &options, &clips.join(name), &log)?;
    }
    if let Some(vectors) = bed.vectors() {
        streams(&vectors, &clips.join("streams"))?;
    }
    if chromium {
        for_chromium(bed, &clips.join("chromium"), &log)?;
    } else {
        let program = root::inside(bed, &bed.binaries()?.join("daedalus-tests"));
        for row in &codecs {
            let file = format!("{}.{}", row.codec, row.ending);
            let paths = [clips.join(&file), clips.join(file + ".framed")];
            bed.command(&program)?
                .arg("framed")
                .args(paths.map(|path| root::inside(bed, &path)))
                .log(&log)
                .run()?;
        }
    }
    Ok(clips)
}

/// What Chromium plays, as a row of chromium.tsv.
#[derive(Debug, Deserialize)]
struct ForChromium {
    file: String,
    codec: Codec,
    options: String,
}

/// Makes the clips for Chromium; for each FILE a FILE.md5 with the checksum of each picture as packed NV12,
/// by FFmpeg; and `list` with a line for each, of file and codec.
fn for_chromium(bed: &Bed, to: &Path, log: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    let mut list = String::new();
    for row in table::rows::<ForChromium>("chromium.tsv", include_str!("chromium.tsv"))? {
        let clip = to.join(&row.file);
        ffmpeg::encode(bed, FOR_CHROMIUM, &row.options, &clip, log)?;
        let sums = ffmpeg::sums(bed, &clip, FOR_CHROMIUM.frames)?;
        std::fs::write(to.join(format!("{}.md5", row.file)), sums)?;
        list.push_str(&format!("{} {}\n", row.file, row.codec));
    }
    write_whole(&to.join("list"), &list)
}

/// Copies the streams for these guests, each as CODEC/NAME with its pictures' checksums as CODEC/NAME.md5.
fn streams(vectors: &Path, to: &Path) -> Result<()> {
    for stream in streams::of(Use::System)? {
        let from = vectors.join(stream.path());
        let name = from.file_name().context("a stream without a name")?.to_owned();
        let (sums, _) = stream.sums(vectors)?;
        let to = to.join(stream.codec.name());
        std::fs::create_dir_all(&to)?;
        std::fs::copy(&from, to.join(&name)).with_context(|| from.display().to_string())?;
        std::fs::copy(
            vectors.join(sums),
            to.join(format!("{}.md5", name.to_string_lossy())),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_rows() {
        let clips: Vec<ForChromium> = table::rows("chromium.tsv", include_str!("chromium.tsv")).unwrap();
        assert!(clips.iter().all(|row| row.file.starts_with(row.codec.name())));
        assert!(!clips.is_empty());
    }
}
