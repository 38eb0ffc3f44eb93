// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A clip for the stateful node, and a client that follows dev-decoder.rst while it plays the clip: what the
//! scenarios do to it comes between its calls.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::raw::hex;
use daedalus_client::stateful::{self, OutputPicture, Settings, Stream, Turn};
use daedalus_uapi::codec::{Codec, Stream as Container};
use md5::{Digest, Md5};

use super::common::{Common, within};
use crate::codec;
use crate::guest::clip::Clips;
use crate::guest::process::command;
use crate::stateful::units;

/// Time that a lost worker's successor, and the pictures from the next key frame on, may take.
pub(super) const RECOVERY: Duration = Duration::from_secs(20);
/// Changes of size in one stream.
pub(super) const CHANGES: usize = 16;

/// A clip as units, with the checksums of its pictures in output order.
pub(super) struct Clip {
    pub(super) name: String,
    pub(super) codec: Codec,
    pub(super) size: (u32, u32),
    pub(super) file: PathBuf,
    pub(super) units: Vec<Vec<u8>>,
    pub(super) sums: Vec<String>,
}

impl Clip {
    pub(super) fn load(common: &Common, name: &str) -> Result<Self> {
        Self::of(&common.clips()?, name)
    }

    fn of(clips: &Clips, name: &str) -> Result<Self> {
        let (file, codec) = clips.file(name)?;
        let (width, height) = clips.size(name)?;
        Ok(Self {
            name: name.to_owned(),
            codec,
            size: (u32::try_from(width)?, u32::try_from(height)?),
            units: units(codec, &file)?,
            file,
            sums: clips.sums(name)?,
        })
    }

    /// Returns two small clips of a codec that have one size, with 8 bit and with 10; `None` if no clip of it
    /// has 10 bit.
    pub(super) fn of_two_depths(common: &Common, codec: Codec) -> Result<Option<[Self; 2]>> {
        let small = common.small()?;
        let names: Vec<&str> = small.names().collect();
        let sizes = names
            .iter()
            .filter_map(|name| name.strip_prefix(&format!("{codec}-10bit-")));
        let mut pairs = sizes.map(|size| [format!("{codec}-{size}"), format!("{codec}-10bit-{size}")]);
        let pair = pairs.rfind(|pair| pair.iter().all(|name| names.contains(&name.as_str())));
        let Some([shallow, deep]) = pair else {
            return Ok(None);
        };
        Ok(Some([Self::of(&small, &shallow)?, Self::of(&small, &deep)?]))
    }

    /// Returns a clip with the same pictures in other colours; `None` if no program can make one.
    pub(super) fn recoloured(&self) -> Result<Option<Self>> {
        let Some(filter) = codec::row(self.codec).recolour else {
            return Ok(None);
        };
        let name = self.file.file_name().context("a clip without a name")?;
        let file = std::env::temp_dir().join("recoloured");
        std::fs::create_dir_all(&file)?;
        let file = file.join(name);
        let (from, to) = (self.file.to_string_lossy(), file.to_string_lossy());
        let muxer = if self.has_start_codes() { "rawvideo" } else { "ivf" };
        command(
            "ffmpeg",
            &[
                "-v", "error", "-nostdin", "-y", "-i", &from, "-c", "copy", "-bsf:v", filter, "-f", muxer,
                &to,
            ],
        )?;
        Ok(Some(Self {
            name: format!("{} in other colours", self.name),
            codec: self.codec,
            size: self.size,
            units: units(self.codec, &file)?,
            file,
            sums: self.sums.clone(),
        }))
    }

    /// Returns whether the stream is one of start codes, so that it may be cut anywhere.
    pub(super) fn has_start_codes(&self) -> bool {
        self.codec.info().stream == Container::StartCodes
    }

    /// Opens a decoder for it.
    pub(super) fn open(&self, settings: Settings) -> Result<Stream> {
        let format = self.codec.info().stateful_formats[0];
        Ok(Stream::open(&stateful::find(format)?, format, settings)?)
    }

    /// Plays units from the first to the last, and compares with the checksums.
    pub(super) fn play(&self, settings: Settings, units: &[Vec<u8>], sums: &[String]) -> Result<u32> {
        let mut stream = self.open(settings)?;
        let mut received = Vec::new();
        let formats = stateful::play(&mut stream, units.iter().cloned(), &mut |picture| {
            received.push(picture);
            Ok(())
        })?;
        compare(&received, sums)?;
        Ok(formats)
    }
}

fn sum(picture: &OutputPicture) -> String {
    hex(&Md5::digest(&picture.pixels))
}

/// Demands that exactly these pictures came, in this order.
pub(super) fn compare(received: &[OutputPicture], sums: &[String]) -> Result<()> {
    for (number, (picture, md5)) in received.iter().zip(sums).enumerate() {
        ensure!(!picture.error, "picture {number} has the error flag");
        ensure!(sum(picture) == *md5, "picture {number} is not exact");
    }
    ensure!(
        received.len() == sums.len(),
        "{} pictures came, not {}",
        received.len(),
        sums.len()
    );
    Ok(())
}

/// A stream in use, and its pictures.
pub(super) struct Player<'a> {
    clip: &'a Clip,
    pub(super) stream: Stream,
    pub(super) pictures: Vec<OutputPicture>,
    /// Units that were fed.
    pub(super) fed: usize,
    /// Added to timestamps, so that those of a second run are other ones.
    offset: u64,
    /// The last buffer of a format or of a drain has come.
    pub(super) over: bool,
    /// The longest time that anything took to come.
    pub(super) longest: Duration,
}

impl<'a> Player<'a> {
    pub(super) fn open(clip: &'a Clip, settings: Settings) -> Result<Self> {
        Ok(Self {
            clip,
            stream: clip.open(settings)?,
            pictures: Vec::new(),
            fed: 0,
            offset: 0,
            over: false,
            longest: Duration::ZERO,
        })
    }

    /// Feeds the next unit if there is one and a buffer is free. Returns whether it did.
    pub(super) fn feed(&mut self) -> Result<bool> {
        let Some(unit) = self.clip.units.get(self.fed) else {
            return Ok(false);
        };
        let timestamp = self.offset + (self.fed as u64 + 1) * 1_000_000;
        let fed = self.stream.feed(unit, timestamp)?;
        self.fed += usize::from(fed);
        Ok(fed)
    }

    /// Handles what comes next. A new format is set up at once if CAPTURE does not stream yet.
    pub(super) fn turn(&mut self) -> Result<()> {
        let start = Instant::now();
        let turn = self.stream.turn()?;
        self.longest = self.longest.max(start.elapsed());
        self.handle(turn)
    }

    pub(super) fn handle(&mut self, turn: Turn) -> Result<()> {
        match turn {
            Turn::Picture(picture, last) => {
                self.pictures.push(*picture);
                self.over |= last;
            }
            Turn::Last => self.over = true,
            Turn::NewFormat => {
                if !self.stream.streams() {
                    self.stream.set_up()?;
                }
            }
            Turn::End => bail!("EPIPE without a last buffer"),
            Turn::Coded => {}
        }
        Ok(())
    }

    /// Feeds and takes until `enough`.
    pub(super) fn until(&mut self, what: &str, enough: impl Fn(&Self) -> bool) -> Result<()> {
        let start = Instant::now();
        while !enough(self) {
            within(what, start.elapsed(), RECOVERY)?;
            while self.feed()? {}
            self.turn()?;
        }
        Ok(())
    }

    /// Feeds the rest, drains, and takes everything.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.over = false;
        let all = self.clip.units.len();
        self.until("feeding", |player| player.fed == all && player.stream.streams())?;
        self.stream.stop()?;
        self.take_end()
    }

    /// Takes everything up to the end of a drain.
    pub(super) fn take_end(&mut self) -> Result<()> {
        self.until("the end of a drain", |player| player.over)?;
        ensure!(
            self.stream.take_ends() == 1,
            "the drain's end is not announced once"
        );
        ensure!(
            matches!(self.stream.turn()?, Turn::End),
            "something follows the last buffer"
        );
        Ok(())
    }

    /// Begins again from the first unit, with other timestamps.
    pub(super) fn rewind(&mut self) {
        self.fed = 0;
        self.offset += 1_000_000_000_000;
        self.over = false;
    }

    /// Seeks to the first unit, plays to the end, and demands that every picture is right.
    pub(super) fn play_anew(&mut self) -> Result<()> {
        self.stream.seek()?;
        self.rewind();
        self.finish()?;
        self.check()
    }

    /// Returns the pictures since the last [`Player::rewind`]. Older ones may have come after it.
    pub(super) fn since_rewind(&mut self) -> Vec<OutputPicture> {
        let offset = self.offset;
        self.pictures.retain(|picture| picture.timestamp > offset);
        std::mem::take(&mut self.pictures)
    }

    /// Demands that all pictures of the clip came since the last [`Player::rewind`].
    pub(super) fn check(&mut self) -> Result<()> {
        let pictures = self.since_rewind();
        compare(&pictures, &self.clip.sums)
    }
}

/// Returns a stream of start codes as units of one NAL unit each.
pub(super) fn nal_units(clip: &Clip) -> Result<Vec<Vec<u8>>> {
    let contents = daedalus_client::container::open(std::fs::read(&clip.file)?)?;
    contents
        .units
        .map(|unit| Ok([&[0, 0, 0, 1][..], &unit?].concat()))
        .collect()
}

/// Returns the bytes of the longest unit.
pub(super) fn longest(units: &[Vec<u8>]) -> u32 {
    let longest = units.iter().map(Vec::len).max().unwrap_or(0);
    u32::try_from(longest).unwrap_or(u32::MAX)
}

/// Returns units and checksums of clips, one after the other.
pub(super) fn joined<'a>(clips: impl IntoIterator<Item = &'a Clip>) -> (Vec<Vec<u8>>, Vec<String>) {
    let (mut units, mut sums) = (Vec::new(), Vec::new());
    for clip in clips {
        units.extend_from_slice(&clip.units);
        sums.extend_from_slice(&clip.sums);
    }
    (units, sums)
}

/// Returns units and checksums of a stream whose size changes `changes` times, between the clip's and
/// another.
pub(super) fn resized(clip: &Clip, common: &Common, changes: usize) -> Result<(Vec<Vec<u8>>, Vec<String>)> {
    let other = Clip::load(common, &format!("{}-qvga", clip.codec))?;
    Ok(joined(
        (0..=changes).map(|change| if change % 2 == 0 { clip } else { &other }),
    ))
}
