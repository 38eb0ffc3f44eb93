// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compares FFmpeg's pictures with those of another decoder, for a codec whose standard leaves the rounding
//! of its transform open.
//!
//! IEEE 1180 bounds what a transform's rounding may do to a sample: 1 at most, 0.06 in the mean square, and
//! 0.015 in the mean. A predicted picture adds the differences of its references to its own, so its bounds
//! are those of as many transforms as add up in it.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use daedalus_client::raw::{RawFormat, Shape, hex};
use daedalus_uapi::codec::Codec;
use md5::{Digest, Md5};

use super::ffmpeg;
use crate::codec;
use crate::codec::clips::{Near, Reference};

/// Bounds of one transform (IEEE 1180-1990, 3.3).
const PEAK: u32 = 1;
/// Both decoders may be off by this in the mean, and in opposite directions.
const MEAN: f64 = 2.0 * 0.015;
const MEAN_SQUARE: f64 = 0.06;
/// How far a picture is from another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Distance {
    peak: u8,
    mean: f64,
    mean_square: f64,
}

impl Distance {
    fn of(ours: &[u8], theirs: &[u8]) -> Self {
        let (mut peak, mut sum, mut squares) = (0, 0i64, 0u64);
        for (ours, theirs) in ours.iter().zip(theirs) {
            let difference = i64::from(*ours) - i64::from(*theirs);
            peak = peak.max(ours.abs_diff(*theirs));
            sum += difference;
            squares += difference.unsigned_abs().pow(2);
        }
        let count = ours.len().max(1) as f64;
        Self {
            peak,
            mean: sum as f64 / count,
            mean_square: squares as f64 / count,
        }
    }

    /// Returns whether it is within the bounds of so many transforms.
    fn is_within(&self, generations: u32) -> bool {
        u32::from(self.peak) <= PEAK * generations
            && self.mean.abs() <= MEAN * f64::from(generations)
            && self.mean_square <= MEAN_SQUARE * f64::from(generations)
    }

    fn most(self, other: Self) -> Self {
        Self {
            peak: self.peak.max(other.peak),
            mean: if self.mean.abs() < other.mean.abs() {
                other.mean
            } else {
                self.mean
            },
            mean_square: self.mean_square.max(other.mean_square),
        }
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            peak,
            mean,
            mean_square,
        } = self;
        write!(f, "peak {peak}, mean {mean:.4}, mean square {mean_square:.4}")
    }
}

/// The outcome of a stream.
pub(super) struct StreamComparison {
    /// Pictures.
    pub(super) pictures: usize,
    /// The largest of each distance.
    most: Distance,
    /// MD5 of FFmpeg's pictures, packed and planar.
    planar_md5: String,
}

/// Compares all pictures of a stream of this shape.
///
/// # Errors
///
/// When a picture is out of bounds, or the numbers of pictures differ.
pub(super) fn compare(near: &Near, clip: &Path, shape: Shape) -> Result<StreamComparison> {
    let mut ffmpeg = Ffmpeg::start(clip)?;
    let mut theirs = (near.pictures)(clip, shape)?;
    let generations = (near.generations)(clip)?;
    let mut most = Distance::default();
    let mut hash = Md5::new();
    let mut ours = vec![0; shape.packed_len()];
    for picture in 0.. {
        if !ffmpeg.read(&mut ours)? {
            ensure!(
                theirs.next().is_none(),
                "{} has more than {picture} pictures",
                near.name
            );
            ffmpeg.end()?;
            return Ok(StreamComparison {
                pictures: picture,
                most,
                planar_md5: hex(&hash.finalize()),
            });
        }
        hash.update(&ours);
        let theirs = theirs.next();
        let theirs = theirs.with_context(|| format!("{} has {picture} pictures only", near.name))??;
        let distance = Distance::of(&ours, &theirs);
        let generations = generations.get(picture).copied();
        let generations = generations.with_context(|| format!("no job has picture {picture}"))?;
        ensure!(
            distance.is_within(generations),
            "picture {picture} differs from that of {} by more than {generations} transforms: {distance}",
            near.name
        );
        most = most.most(distance);
    }
    unreachable!("a stream ends")
}

/// FFmpeg, which writes packed planar pictures.
struct Ffmpeg(Child);

impl Ffmpeg {
    fn start(clip: &Path) -> Result<Self> {
        let mut command = ffmpeg::decoder(clip);
        command.args([
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-fps_mode",
            "passthrough",
            "-",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Self(command.spawn().context("cannot start ffmpeg")?))
    }

    /// Reads a picture; `false` at the end.
    fn read(&mut self, picture: &mut [u8]) -> Result<bool> {
        let out = self.0.stdout.as_mut().context("ffmpeg has no output")?;
        let mut filled = 0;
        while filled < picture.len() {
            match out.read(&mut picture[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        ensure!(
            [0, picture.len()].contains(&filled),
            "the last picture is cut off"
        );
        Ok(filled > 0)
    }

    fn end(&mut self) -> Result<()> {
        let status = self.0.wait()?;
        ensure!(status.success(), "ffmpeg failed: {status}");
        Ok(())
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        // If the reader stops early, the program must not wait for it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Arguments of `daedalus-tests near`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The streams' codec.
    #[arg(long)]
    codec: Codec,
    /// A folder with MANIFEST.tsv.
    folder: PathBuf,
    /// Only streams whose path contains this text.
    #[arg(long)]
    only: Option<String>,
}

/// Compares FFmpeg's pictures of each stream of a folder with those of another decoder, and their checksum
/// with the MANIFEST's. Prints a line for each stream; nothing if the codec's pictures are exact.
///
/// # Errors
///
/// When pictures of a stream are out of bounds, or are not those of the MANIFEST.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Reference::Near(near) = codec::row(args.codec).clips.reference else {
        return Ok(());
    };
    let text = std::fs::read_to_string(args.folder.join("MANIFEST.tsv"))
        .with_context(|| format!("{} has no MANIFEST.tsv", args.folder.display()))?;
    let mut rows = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t'));
    let columns: Vec<&str> = rows.next().context("the MANIFEST is empty")?.collect();
    let (mut streams, mut pictures, mut failed) = (0, 0, 0);
    let mut worst = Distance::default();
    for row in rows {
        let fields: Vec<&str> = row.collect();
        let field = |name| {
            let column = columns.iter().position(|column| *column == name);
            column
                .and_then(|at| fields.get(at))
                .with_context(|| format!("no {name} in the MANIFEST"))
        };
        let file = field("file")?;
        if args
            .only
            .as_ref()
            .is_some_and(|part| !file.contains(part.as_str()))
        {
            continue;
        }
        let shape = Shape {
            format: RawFormat::I420,
            width: field("width")?.parse()?,
            height: field("height")?.parse()?,
        };
        let is_right = |compared: StreamComparison| {
            ensure!(
                compared.planar_md5 == *field("raw_md5")?,
                "ffmpeg's pictures are not those of the MANIFEST"
            );
            Ok(compared)
        };
        match compare(near, &args.folder.join(file), shape).and_then(is_right) {
            Ok(compared) => {
                println!("{file}: {} pictures: {}", compared.pictures, compared.most);
                streams += 1;
                pictures += compared.pictures;
                worst = worst.most(compared.most);
            }
            Err(error) => {
                failed += 1;
                eprintln!("{file}: {error:#}");
            }
        }
    }
    ensure!(
        failed == 0,
        "{failed} streams are not near those of {}",
        near.name
    );
    println!(
        "{streams} streams, {pictures} pictures near those of {}: {worst}",
        near.name
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_have_bounds() {
        let grey = [128; 1000];
        assert!(Distance::of(&grey, &grey).is_within(1));
        let mut other = grey;
        other[..30].fill(129);
        assert!(Distance::of(&grey, &other).is_within(1));
        other[..40].fill(129);
        let distance = Distance::of(&grey, &other);
        assert!(!distance.is_within(1) && distance.is_within(2), "{distance}");
        other[500] = 132;
        assert!(!Distance::of(&grey, &other).is_within(3));
    }
}
