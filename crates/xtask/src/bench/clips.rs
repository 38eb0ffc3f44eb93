// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The clips that are measured: those of the demo and of the generated streams, several times in a row, so
//! that a run takes long enough for its start to be of little weight. Each begins with a key frame, so any
//! repetition decodes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use daedalus_uapi::Codec;
use daedalus_uapi::codec::Stream;

use crate::bed::Bed;
use crate::codecs;
use crate::conformance::{generated, manifest};
use crate::play;

/// Frames per second of the generated clips.
const RATE: f64 = 30.0;

/// A clip.
#[derive(Clone, Debug)]
pub(crate) struct Clip {
    /// Its name in tables.
    pub(crate) name: String,
    /// Its codec.
    pub(crate) codec: Codec,
    pub(crate) path: PathBuf,
    /// The same played once.
    pub(crate) once: PathBuf,
    /// How often it is in `path`.
    pub(crate) times: usize,
    pub(crate) frames: usize,
    /// Bits per sample.
    pub(crate) depth: u8,
    pub(crate) mbit: f64,
}

#[cfg(test)]
impl Clip {
    /// Returns one without a file.
    pub(crate) fn sample(codec: Codec) -> Self {
        Self {
            name: "x".into(),
            codec,
            path: "x".into(),
            once: "x".into(),
            times: 1,
            frames: 1,
            depth: 8,
            mbit: 1.0,
        }
    }
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// Of the demo's clips those of this size: `1080p`, `360p`, `qvga`.
    Demo(&'a str),
    /// Of the generated streams those of 10 bit and 1080p.
    TenBit,
    /// Of the generated streams those of 4K.
    Large,
}

/// The clips of a kind, each `times` in a row; makes what is not there.
pub(crate) fn repeated(bed: &Bed, kind: Kind<'_>, times: usize) -> Result<Vec<Clip>> {
    let clips = match kind {
        Kind::Demo(size) => demo(bed, size)?,
        Kind::TenBit => of_generated(bed, "10bit-1080p", codecs::ten_bit())?,
        Kind::Large => of_generated(bed, "2160p", Codec::ALL.to_vec())?,
    };
    // Some codecs have 8 bits only.
    let all = matches!(kind, Kind::TenBit) || Codec::ALL.iter().all(|codec| has(&clips, *codec));
    ensure!(
        all && !clips.is_empty(),
        "{} clips of {kind:?}, not one for each codec",
        clips.len()
    );
    clips.into_iter().map(|clip| repeat(bed, clip, times)).collect()
}

fn has(clips: &[Clip], codec: Codec) -> bool {
    clips.iter().any(|clip| clip.codec == codec)
}

fn demo(bed: &Bed, size: &str) -> Result<Vec<Clip>> {
    let (list, streams) = play::clips(bed)?;
    let dir = list.parent().context("a list without a directory")?;
    Ok(streams
        .iter()
        .filter(|stream| stream.name.ends_with(size))
        .map(|stream| Clip {
            name: stream.name.clone(),
            codec: stream.codec,
            path: dir.join(&stream.path),
            once: PathBuf::new(),
            times: 1,
            frames: stream.frames,
            depth: 8,
            mbit: 0.0,
        })
        .collect())
}

fn of_generated(bed: &Bed, size: &str, codecs: Vec<Codec>) -> Result<Vec<Clip>> {
    let dir = generated::folder(bed, false)?;
    let rows = manifest::load(&dir)?;
    let clip = |codec: Codec| {
        let file = codecs::file(codec, size);
        let row = rows.iter().find(|row| row.file == file);
        let row = row.with_context(|| format!("no generated {file}"))?;
        Ok(Clip {
            name: format!("{codec}-{size}"),
            codec,
            path: dir.join(&file),
            once: PathBuf::new(),
            times: 1,
            frames: row.frames,
            depth: row.bit_depth().with_context(|| row.pixfmt.clone())?,
            mbit: 0.0,
        })
    };
    codecs.into_iter().map(clip).collect()
}

/// The clip several times in a row, under target/bench, which guest and root see.
fn repeat(bed: &Bed, mut clip: Clip, times: usize) -> Result<Clip> {
    let data = std::fs::read(&clip.path).with_context(|| format!("no {}", clip.path.display()))?;
    clip.mbit = data.len() as f64 * 8.0 * RATE / clip.frames as f64 / 1e6;
    let end = extension(&clip.path).to_owned();
    let dir = bed.target.join("bench/clips");
    std::fs::create_dir_all(&dir)?;
    let write = |times: usize| -> Result<PathBuf> {
        let joined = match clip.codec.info().stream {
            _ if end == "ivf" => repeat_ivf(&data, times)?,
            Stream::StartCodes => data.repeat(times),
            _ => bail!("no way to repeat .{end}"),
        };
        let path = dir.join(format!("{}-x{times}.{end}", clip.name));
        if !std::fs::read(&path).is_ok_and(|old| old == joined) {
            std::fs::write(&path, joined).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(path)
    };
    (clip.once, clip.path) = (write(1)?, write(times)?);
    clip.times = times;
    clip.frames *= times;
    Ok(clip)
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|end| end.to_str()).unwrap_or_default()
}

/// Bytes of IVF's file header, and of a frame's.
const FILE: usize = 32;
const FRAME: usize = 12;

/// The frames of an IVF file again and again, with timestamps that go on.
fn repeat_ivf(data: &[u8], times: usize) -> Result<Vec<u8>> {
    ensure!(data.starts_with(b"DKIF") && data.len() > FILE, "no IVF file");
    let mut frames = Vec::new();
    let mut at = FILE;
    while at < data.len() {
        let header = data.get(at..at + FRAME).context("a frame header is cut off")?;
        let size = u32::from_le_bytes(header[..4].try_into()?) as usize;
        let time = u64::from_le_bytes(header[4..].try_into()?);
        let frame = data
            .get(at + FRAME..at + FRAME + size)
            .context("a frame is cut off")?;
        frames.push((time, frame));
        at += FRAME + size;
    }
    let last = frames.iter().map(|(time, _)| *time).max().context("no frame")?;
    let step = frames.get(1).map_or(1, |(time, _)| (*time).max(1));
    let mut joined = data[..FILE].to_vec();
    let count = u32::try_from(frames.len() * times)?;
    joined[24..28].copy_from_slice(&count.to_le_bytes());
    for round in 0..times as u64 {
        for (time, frame) in &frames {
            joined.extend(u32::try_from(frame.len())?.to_le_bytes());
            joined.extend((time + round * (last + step)).to_le_bytes());
            joined.extend(*frame);
        }
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_have_timestamps_that_go_on() {
        let mut data = b"DKIF".to_vec();
        data.resize(FILE, 0);
        for (time, frame) in [(0u64, b"ab".as_slice()), (2, b"c")] {
            data.extend((frame.len() as u32).to_le_bytes());
            data.extend(time.to_le_bytes());
            data.extend(frame);
        }
        let joined = repeat_ivf(&data, 3).unwrap();
        assert_eq!(joined.len(), FILE + 3 * (2 * FRAME + 3));
        assert_eq!(joined[24], 6);
        let second = FILE + 2 * FRAME + 3;
        assert_eq!(joined[second..second + 5], [2, 0, 0, 0, 4]);
        assert!(repeat_ivf(b"no", 2).is_err());
        assert!(repeat_ivf(&data[..data.len() - 1], 2).is_err());
    }
}
