// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whole streams in one session.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use daedalus_client::decoder::{Options, Plan, Session, decode};
use daedalus_client::device::Nodes;
use daedalus_client::queue::Backing;
use daedalus_uapi::fourcc;

use super::common::Common;
use crate::codec;
use crate::guest::broker::Broker;
use crate::guest::clip::Clip;
use crate::guest::figures::Figures;

/// Arguments of `play`.
#[derive(Debug, clap::Args)]
pub(super) struct PlayArgs {
    /// The coded stream.
    stream: PathBuf,
    /// List of its pictures' checksums, in display order.
    #[arg(long)]
    reference: PathBuf,
    /// Jobs in flight.
    #[arg(long, default_value_t = 4)]
    depth: usize,
}

pub(super) fn first_frame(common: &Common, figures: &mut Figures) -> Result<()> {
    let clip = common.clips()?.usual("240p")?;
    let (broker, nodes) = Broker::start(common)?;
    let start = Instant::now();
    let session = decode(&nodes, clip.codec, &clip.jobs[..1], &Options::default())?;
    figures.longest("first_frame_ms", start.elapsed());
    figures.calls(session.longest());
    figures.set("pictures", clip.compare(session.pictures(), 0..1)?);
    drop(session);
    broker.stop()?;
    Ok(())
}

pub(super) fn play(common: &Common, args: &PlayArgs, figures: &mut Figures) -> Result<()> {
    let name = args.stream.display().to_string();
    figures.set("stream", name.clone());
    let clip = Clip::load(&name, &args.stream, std::iter::once(args.reference.clone()), 1)?;
    let (broker, nodes) = Broker::start(common)?;
    let options = Options {
        depth: args.depth,
        ..Options::default()
    };
    let session = decode(&nodes, clip.codec, &clip.jobs, &options)?;
    figures.calls(session.longest());
    figures.set("pictures", clip.compare_all(session.pictures())?);
    drop(session);
    broker.stop()?;
    Ok(())
}

pub(super) fn streams(common: &Common, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?;
    let (broker, nodes) = Broker::start(common)?;
    let mut played = Vec::new();
    let mut pictures = 0;
    for clip in clips.every("240p")? {
        let name = &clip.name;
        let udmabuf = Options {
            coded: Backing::Udmabuf,
            raw: Backing::Udmabuf,
            ..Options::default()
        };
        for (kind, options) in [("mmap", Options::default()), ("udmabuf", udmabuf)] {
            let session = decode(&nodes, clip.codec, &clip.jobs, &options)
                .with_context(|| format!("{name} in {kind} memory"))?;
            figures.calls(session.longest());
            pictures += clip
                .compare_all(session.pictures())
                .with_context(|| format!("in {kind} memory"))?;
            played.push(format!("{name} {kind}"));
        }
        pictures += exported(&nodes, &clip, figures).context("in memory of another session")?;
        played.push(format!("{name} exported"));
    }
    let clip = clips.clip(codec::EVERY_FORMAT)?;
    for format in [fourcc::NV12, fourcc::NV12M, fourcc::YUV420, fourcc::YUV420M] {
        let options = Options {
            raw_format: Some(format),
            ..Options::default()
        };
        let kind = fourcc::name(format);
        let session = decode(&nodes, clip.codec, &clip.jobs, &options).context(kind.clone())?;
        pictures += clip.compare_all(session.pictures()).context(kind.clone())?;
        played.push(format!("{} {kind}", clip.name));
    }
    figures.set("pictures", pictures);
    figures.set("played", played);
    broker.stop()?;
    Ok(())
}

/// Decodes into CAPTURE buffers that another session exported, and which is closed before the decoding
/// begins: the memory lives on.
fn exported(nodes: &Nodes, clip: &Clip, figures: &mut Figures) -> Result<usize> {
    let plan = Plan::new(clip.codec, &clip.jobs);
    let options = Options::default();
    let fds = Session::open(nodes, &plan, &options)?.export()?;
    let options = Options {
        raw: Backing::Imported(fds.iter().map(Arc::clone).collect()),
        ..options
    };
    let session = decode(nodes, clip.codec, &clip.jobs, &options)?;
    figures.calls(session.longest());
    clip.compare_all(session.pictures())
}
