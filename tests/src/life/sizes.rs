// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pictures of several sizes in one session: buffers of both sizes side by side, added and removed while it
//! streams, and new sequences after both queues were stopped.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use daedalus_client::device::Nodes;
use daedalus_uapi::codec::Codec;

use super::common::Common;
use crate::guest::broker::Broker;
use crate::guest::clip::{Clip, Clips, later};
use crate::guest::figures::Figures;
use crate::guest::rig::Rig;

/// Arguments of `sizes`.
#[derive(Debug, clap::Args)]
pub(super) struct SizesArgs {
    /// Streams whose pictures change their size, each with its list of checksums beside it
    /// (`FILE.nv12.frames.md5` or `FILE.p010.frames.md5`).
    streams: Vec<PathBuf>,
}

/// Jobs of a clip that are enough.
const JOBS: usize = 30;
/// The sizes that follow each other in one session, as names of clips.
const SEQUENCES: [&str; 4] = ["240p", "480p", "qvga", "360p"];

pub(super) fn sizes(common: &Common, args: &SizesArgs, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?;
    let (broker, nodes) = Broker::start(common)?;
    let mut pictures = 0;
    for codec in Codec::ALL.iter().copied() {
        for stop in [true, false] {
            pictures += sequences(&nodes, &clips, codec, stop, figures).with_context(|| {
                let how = if stop { "stopped" } else { "streaming" };
                format!("new sequences of {codec}, {how}")
            })?;
        }
    }
    for stream in &args.streams {
        pictures += within(&nodes, stream, figures).with_context(|| format!("{}", stream.display()))?;
    }
    figures.set("streams", args.streams.len());
    figures.set("pictures", pictures);
    broker.stop()?;
    Ok(())
}

/// Plays clips of several sizes, one after the other in one session, with both queues stopped in between or
/// not.
fn sequences(nodes: &Nodes, clips: &Clips, codec: Codec, stop: bool, figures: &mut Figures) -> Result<usize> {
    let clips: Vec<Clip> = SEQUENCES
        .iter()
        .map(|size| {
            let mut clip = clips.clip(&format!("{codec}-{size}"))?;
            clip.jobs.truncate(JOBS);
            Ok(clip)
        })
        .collect::<Result<_>>()?;
    let payloads = clips
        .iter()
        .flat_map(|clip| &clip.jobs)
        .map(|job| job.payload.len());
    let payload = payloads.max().unwrap_or_default();
    let mut rig = Rig::open(nodes, clips[0].codec, &clips[0].jobs[0], payload, 1)?;
    let mut shift = 0;
    let mut pictures = 0;
    let mut returned = Vec::new();
    let mut ends = Vec::new();
    for clip in &clips {
        for job in &clip.jobs {
            rig.submit(&later(clip.codec, job, shift), &mut returned)?
                .with_context(|| format!("controls of {}", clip.name))?;
        }
        ends.push((shift, clip));
        shift += clip.period();
        if stop {
            rig.drain(&mut returned)?;
            rig.restart()?;
        }
    }
    rig.drain(&mut returned)?;
    for (shift, clip) in ends {
        let mut own = Vec::new();
        while returned
            .first()
            .is_some_and(|picture| picture.timestamp < shift + clip.period())
        {
            let mut picture = returned.remove(0);
            picture.timestamp -= shift;
            own.push(picture);
        }
        pictures += clip.compare_packed(&own)?;
    }
    let (removed, side_by_side) = rig.turnover();
    ensure!(
        stop || (removed > 0 && side_by_side > 1),
        "buffers of {side_by_side} sizes lived side by side, {removed} were removed"
    );
    note(figures, removed, side_by_side);
    Ok(pictures)
}

/// Plays a stream whose pictures change their size, with or without key frames.
fn within(nodes: &Nodes, stream: &std::path::Path, figures: &mut Figures) -> Result<usize> {
    let name = stream.display().to_string();
    let lists = ["nv12", "p010"].map(|layout| PathBuf::from(format!("{name}.{layout}.frames.md5")));
    let list = lists.into_iter().find(|list| list.is_file());
    let list = list.context("there is no list of checksums beside it")?;
    let clip = Clip::load(&name, stream, std::iter::once(list), 1)?;
    let payload = clip.jobs.iter().map(|job| job.payload.len()).max();
    let mut rig = Rig::open(nodes, clip.codec, &clip.jobs[0], payload.unwrap_or_default(), 1)?;
    let mut returned = Vec::new();
    for job in &clip.jobs {
        rig.submit(job, &mut returned)?.context("its controls")?;
    }
    rig.drain(&mut returned)?;
    let pictures = clip.compare_packed(&returned)?;
    let (removed, side_by_side) = rig.turnover();
    ensure!(
        removed > 0 && side_by_side > 1,
        "buffers of {side_by_side} sizes lived side by side, {removed} were removed"
    );
    note(figures, removed, side_by_side);
    Ok(pictures)
}

/// Notes how much CAPTURE buffers came and went.
fn note(figures: &mut Figures, removed: usize, side_by_side: usize) {
    figures.add("buffers_removed", removed);
    figures.most("sizes_side_by_side", side_by_side);
}
