// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plays a stream through an imitated client and compares every picture that it would show.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::device::Nodes;
use daedalus_client::personality::{self, Personality, ShownPicture, Summary};
use daedalus_client::raw::{RawFormat, Shape};
use daedalus_common::play::Stream;
use daedalus_uapi::fourcc;

use crate::rows::Comparison;

/// Plays `stream`, whose path is relative to `base`; a `prompt` user takes every picture at once.
///
/// # Errors
///
/// When the client could not play it to its end, or received another format than the list demands.
pub(crate) fn play(
    personality: Personality,
    nodes: &Nodes,
    stream: &Stream,
    base: &Path,
    prompt: bool,
    comparison: &mut Comparison,
) -> Result<Summary> {
    comparison.load_references(stream, base)?;
    let file = base.join(&stream.path);
    let jobs = if prompt {
        daedalus_client::prompt_jobs(&file)?
    } else {
        daedalus_client::jobs(&file)?
    };
    let mut take = |shown: &ShownPicture<'_>| {
        let received = receive(shown, stream, comparison);
        received.map_err(|error| format!("{error:#}").into())
    };
    personality::play(personality, nodes, jobs, prompt, &mut take)
        .with_context(|| format!("{} could not play it", personality.name()))
}

/// Compares one picture.
fn receive(shown: &ShownPicture<'_>, stream: &Stream, comparison: &mut Comparison) -> Result<()> {
    let format = match shown.format {
        fourcc::NV12 => RawFormat::Nv12,
        fourcc::P010 => RawFormat::P010,
        other => bail!("no format to compare: {}", fourcc::name(other)),
    };
    if let Some(demanded) = &stream.format {
        let demanded = RawFormat::from_caps(demanded)?;
        ensure!(
            demanded == format,
            "the list demands {demanded:?}, the device gives {format:?}"
        );
    }
    let shape = Shape {
        format,
        width: shown.visible.width as usize,
        height: shown.visible.height as usize,
    };
    comparison.receive(shape, shown.pixels)
}
