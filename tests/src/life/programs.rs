// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stateful face's edges by the programs themselves: stock FFmpeg and GStreamer.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daedalus_client::raw::{RawFormat, Shape, md5_hex};
use daedalus_uapi::protocol::DRIVER_NAME;

use super::common::Common;
use super::stateful_player::{CHANGES, Clip, joined, resized};
use crate::gst::{self, Decoders};
use crate::play::{self, Patience, Source};
use crate::stateful;

const PATIENCE: Patience = Patience {
    stall: Duration::from_secs(60),
    limit: Duration::from_secs(60),
};
/// Bytes before the first frame of an IVF file.
const IVF_HEADER: usize = 32;
/// How often a clip is looped.
const LOOPS: usize = 10;
/// Pictures that may differ where a file is cut off: one is cut, and others refer to it.
const CUT_PICTURES: usize = 4;

/// A program that decodes by the stateful node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    Ffmpeg,
    Gstreamer,
}

impl Program {
    const ALL: [Self; 2] = [Self::Ffmpeg, Self::Gstreamer];

    /// Starts it for a file of the clip's codec; `None` if it has no decoder for that.
    fn start(self, clip: &Clip, file: &Path, log: &Path) -> Result<Option<Child>> {
        match self {
            Self::Ffmpeg => {
                if !stateful::has_ffmpeg_decoder(clip.codec)? {
                    return Ok(None);
                }
                stateful::ffmpeg(&stateful::ffmpeg_decoder(clip.codec), file, log).map(Some)
            }
            Self::Gstreamer => {
                let Ok(element) = Decoders::Stateful(DRIVER_NAME.to_owned()).element(clip.codec) else {
                    return Ok(None);
                };
                let mut parts = gst::source(clip.codec, file)?;
                parts.extend([
                    element.name,
                    "video/x-raw,format={NV12,P010_10LE}".into(),
                    "gdppay".into(),
                    "fdsink fd=1 sync=false".into(),
                ]);
                let words: Vec<String> = parts.join(" ! ").split(' ').map(str::to_owned).collect();
                let mut command = gst::command(&words);
                let child = command.stderr(File::create(log)?).process_group(0).spawn();
                child.context("cannot start gst-launch-1.0").map(Some)
            }
        }
    }

    /// Returns the form of its output.
    fn source(self, clip: &Clip) -> Source {
        match self {
            Self::Ffmpeg => Source::Frames(Shape {
                format: RawFormat::Nv12,
                width: clip.size.0 as usize,
                height: clip.size.1 as usize,
            }),
            Self::Gstreamer => Source::Gdp,
        }
    }

    /// Decodes a file of the clip's codec and size. Returns the checksum of each picture; `None` if it has no
    /// decoder for that.
    fn decode(self, clip: &Clip, file: &Path) -> Result<Option<Vec<String>>> {
        let log = std::env::temp_dir().join("program.log");
        let Some(mut child) = self.start(clip, file, &log)? else {
            return Ok(None);
        };
        let mut sums = Vec::new();
        let played = play::follow(&mut child, &log, self.source(clip), PATIENCE, &mut |_, data| {
            sums.push(md5_hex(data));
            Ok(())
        });
        let ended = play::end(&mut child, played.is_err());
        let text = std::fs::read(&log)?;
        played
            .and(ended)
            .with_context(|| String::from_utf8_lossy(&text).into_owned())?;
        Ok(Some(sums))
    }

    /// Decodes units, and demands these pictures.
    fn check(self, clip: &Clip, units: &[Vec<u8>], sums: &[String]) -> Result<()> {
        let file = write(clip, units)?;
        let Some(found) = self.decode(clip, &file)? else {
            return Ok(());
        };
        let wrong = found.iter().zip(sums).position(|(found, sum)| found != sum);
        ensure!(wrong.is_none(), "picture {wrong:?} is not exact");
        ensure!(
            found.len() == sums.len(),
            "{} pictures, not {}",
            found.len(),
            sums.len()
        );
        Ok(())
    }
}

/// Writes units as a file like the clip's.
fn write(clip: &Clip, units: &[Vec<u8>]) -> Result<PathBuf> {
    let bytes = if clip.has_start_codes() {
        units.concat()
    } else {
        let mut bytes = std::fs::read(&clip.file)?;
        ensure!(bytes.starts_with(b"DKIF"), "{} is no IVF", clip.file.display());
        bytes.truncate(IVF_HEADER);
        for (timestamp, unit) in (0u64..).zip(units) {
            bytes.extend(u32::try_from(unit.len())?.to_le_bytes());
            bytes.extend(timestamp.to_le_bytes());
            bytes.extend(unit);
        }
        bytes
    };
    let extension = clip.file.extension().context("a clip without an extension")?;
    let file = std::env::temp_dir().join("edge").with_extension(extension);
    std::fs::write(&file, bytes)?;
    Ok(file)
}

/// Does something with each program, and names the one that fails.
fn each(play: impl Fn(Program) -> Result<()>) -> Result<()> {
    for program in Program::ALL {
        play(program).with_context(|| format!("{program:?}"))?;
    }
    Ok(())
}

/// A clip again and again in one stream.
pub(super) fn looped(clip: &Clip, _: &Common) -> Result<()> {
    let (units, sums) = joined(std::iter::repeat_n(clip, LOOPS));
    each(|program| program.check(clip, &units, &sums))
}

/// Streams that end behind the first and behind the second unit.
pub(super) fn short(clip: &Clip, _: &Common) -> Result<()> {
    if clip.has_start_codes() {
        return Ok(());
    }
    each(|program| {
        for units in [&clip.units[..1], &clip.units[..2]] {
            let Some(found) = program.decode(clip, &write(clip, units)?)? else {
                return Ok(());
            };
            ensure!(!found.is_empty(), "no picture of {} units", units.len());
            ensure!(
                clip.sums.starts_with(&found),
                "the pictures of {} units differ",
                units.len()
            );
        }
        Ok(())
    })
}

/// A file that ends within a unit: the program ends, and what came before is exact.
pub(super) fn cut_off(clip: &Clip, _: &Common) -> Result<()> {
    let whole = std::fs::read(&clip.file)?;
    each(|program| {
        for third in [1, 2] {
            let file = write(clip, &[])?;
            std::fs::write(&file, &whole[..whole.len() * third / 3])?;
            let Some(found) = program.decode(clip, &file)? else {
                return Ok(());
            };
            let exact = found
                .iter()
                .zip(&clip.sums)
                .take_while(|(found, sum)| found == sum);
            let exact = exact.count();
            ensure!(exact > 0, "no picture of {third} thirds of the file");
            ensure!(
                found.len() - exact <= CUT_PICTURES,
                "{third} thirds of the file: {} pictures, of which {exact} are exact",
                found.len()
            );
        }
        Ok(())
    })
}

/// Other colours alone.
pub(super) fn colours(clip: &Clip, _: &Common) -> Result<()> {
    let Some(other) = clip.recoloured()? else {
        return Ok(());
    };
    let (units, sums) = joined([clip, &other, clip]);
    each(|program| program.check(clip, &units, &sums))
}

/// Sixteen changes of size, and 10 bit and 8 bit again. A file of FFmpeg's raw pictures has one format.
pub(super) fn format_changes(clip: &Clip, common: &Common) -> Result<()> {
    let program = Program::Gstreamer;
    let (units, sums) = resized(clip, common, CHANGES)?;
    program.check(clip, &units, &sums).context("sizes")?;
    let Some([shallow, deep]) = Clip::of_two_depths(common, clip.codec)? else {
        return Ok(());
    };
    let (units, sums) = joined([&shallow, &deep, &shallow]);
    program.check(&shallow, &units, &sums).context("depths")
}
