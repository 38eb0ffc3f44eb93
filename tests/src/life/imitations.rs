// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The stateful face's edges in the order of calls of real clients: no picture is lost, and none comes twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use daedalus_client::personality::stateful::{self as imitation, Container, Habits, StatefulPersonality};
use daedalus_client::stateful::{self, OutputPicture};

use super::common::Common;
use super::stateful_player::{CHANGES, Clip, compare, joined, longest, nal_units, resized};

/// How long a client is busy elsewhere, which is longer than a picture takes.
const PAUSE: Duration = Duration::from_millis(150);

/// A play of a client.
struct Played {
    pictures: Vec<OutputPicture>,
    /// Events about the source.
    events: u32,
}

/// Plays units as a client does.
fn play(
    personality: StatefulPersonality,
    clip: &Clip,
    size: (u32, u32),
    pause: Duration,
    units: &[Vec<u8>],
) -> Result<Played> {
    let coded_format = clip.codec.info().stateful_formats[0];
    let container = Container {
        coded_format,
        size,
        unit_bytes: longest(units),
    };
    let habits = Habits {
        pause,
        ..Habits::default()
    };
    let node = stateful::find(coded_format)?;
    let mut pictures = Vec::new();
    let mut show = |picture| {
        pictures.push(picture);
        Ok(())
    };
    let units = units.iter().cloned();
    let played = imitation::play(personality, &node, container, habits, units, &mut show);
    let events = played.with_context(|| format!("after {} pictures", pictures.len()))?;
    Ok(Played { pictures, events })
}

/// Plays with each client, and names the one that fails.
fn each(play: impl Fn(StatefulPersonality) -> Result<()>) -> Result<()> {
    for personality in StatefulPersonality::ALL {
        play(personality).context(personality.name())?;
    }
    Ok(())
}

/// A whole stream, by clients that are quick and by clients that are busy elsewhere.
pub(super) fn whole(clip: &Clip, _: &Common) -> Result<()> {
    each(|personality| {
        for pause in [Duration::ZERO, PAUSE] {
            let played = play(personality, clip, clip.size, pause, &clip.units)?;
            compare(&played.pictures, &clip.sums)
                .with_context(|| format!("{} ms between an event and its answer", pause.as_millis()))?;
        }
        Ok(())
    })
}

/// A container that tells another size than the stream has.
pub(super) fn wrong_size(clip: &Clip, _: &Common) -> Result<()> {
    each(|personality| {
        let played = play(personality, clip, (64, 64), Duration::ZERO, &clip.units)?;
        compare(&played.pictures, &clip.sums)
    })
}

/// Parameter sets and slices in buffers of their own.
pub(super) fn units_apart(clip: &Clip, _: &Common) -> Result<()> {
    if !clip.has_start_codes() {
        return Ok(());
    }
    let units = nal_units(clip)?;
    each(|personality| {
        let played = play(personality, clip, clip.size, Duration::ZERO, &units)?;
        compare(&played.pictures, &clip.sums)
    })
}

/// Streams that end behind the first and behind the second unit. A unit of bytes is no picture, and a frame
/// that is not shown has none: the pictures that come are the first ones.
pub(super) fn short(clip: &Clip, _: &Common) -> Result<()> {
    if clip.has_start_codes() {
        return Ok(());
    }
    each(|personality| {
        for units in [&clip.units[..1], &clip.units[..2]] {
            let pictures = play(personality, clip, clip.size, Duration::ZERO, units)?.pictures;
            ensure!(!pictures.is_empty(), "no picture of {} units", units.len());
            compare(&pictures, &clip.sums[..pictures.len()])?;
        }
        Ok(())
    })
}

/// Sixteen changes of size.
pub(super) fn size_changes(clip: &Clip, common: &Common) -> Result<()> {
    let (units, sums) = resized(clip, common, CHANGES)?;
    each(|personality| {
        let played = play(personality, clip, clip.size, Duration::ZERO, &units)?;
        compare(&played.pictures, &sums)?;
        ensure!(
            played.events as usize == CHANGES + 1,
            "{} events about the source",
            played.events
        );
        Ok(())
    })
}

/// 10 bit, and 8 bit again. Raspberry Pi's FFmpeg looks at the size alone, and keeps the buffers.
pub(super) fn depth_changes(clip: &Clip, common: &Common) -> Result<()> {
    let Some([shallow, deep]) = Clip::of_two_depths(common, clip.codec)? else {
        return Ok(());
    };
    let (units, sums) = joined([&shallow, &deep, &shallow]);
    let client = StatefulPersonality::Chromium;
    let played = play(client, &shallow, shallow.size, Duration::ZERO, &units)?;
    compare(&played.pictures, &sums)?;
    ensure!(played.events == 3, "{} events about the source", played.events);
    Ok(())
}

/// Other colours alone: nothing that a client has to answer.
pub(super) fn colours(clip: &Clip, _: &Common) -> Result<()> {
    let Some(other) = clip.recoloured()? else {
        return Ok(());
    };
    let (units, sums) = joined([clip, &other, clip]);
    each(|personality| {
        let played = play(personality, clip, clip.size, Duration::ZERO, &units)?;
        compare(&played.pictures, &sums)?;
        ensure!(played.events == 1, "{} events about the source", played.events);
        Ok(())
    })
}
