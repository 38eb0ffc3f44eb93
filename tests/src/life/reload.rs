// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loads and unloads.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daedalus_client::decoder::{Options, decode};

use super::common::Common;
use crate::guest::broker::Broker;
use crate::guest::figures::Figures;
use crate::guest::module::unload;
use crate::guest::process::command;

/// Arguments of `reload`.
#[derive(Debug, clap::Args)]
pub(super) struct ReloadArgs {
    /// The module; what it depends on is loaded already.
    #[arg(long, value_name = "FILE")]
    module: PathBuf,
    /// How often.
    #[arg(long, default_value_t = 5)]
    cycles: usize,
    /// The module's parameters.
    #[arg(long = "parameter", value_name = "NAME=VALUE")]
    parameters: Vec<String>,
}

/// Pictures that each cycle decodes.
const PICTURES: usize = 5;

pub(super) fn reload(common: &Common, args: &ReloadArgs, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?.every_usual_first("qvga")?;
    let module = args.module.to_str().context("the module's path is no text")?;
    let mut pictures = 0;
    let mut slowest = Duration::ZERO;
    let mut slowest_unload = Duration::ZERO;
    for cycle in 0..args.cycles {
        let start = Instant::now();
        let clip = &clips[cycle % clips.len()];
        let mut one = || -> Result<usize> {
            let mut insmod = vec![module];
            insmod.extend(args.parameters.iter().map(String::as_str));
            command("insmod", &insmod)?;
            let (broker, nodes) = Broker::start(common)?;
            let session = decode(&nodes, clip.codec, &clip.jobs[..PICTURES], &Options::default())?;
            let count = clip.compare(session.pictures(), 0..PICTURES)?;
            drop(session);
            broker.stop()?;
            slowest_unload = slowest_unload.max(unload()?);
            Ok(count)
        };
        pictures += one().with_context(|| format!("cycle {cycle}, {}", clip.name))?;
        slowest = slowest.max(start.elapsed());
    }
    ensure!(pictures > 0, "no cycle was asked for");
    figures.set("cycles", args.cycles);
    figures.set("exact_pictures", pictures);
    figures.longest("slowest_cycle_ms", slowest);
    figures.longest("slowest_unload_ms", slowest_unload);
    Ok(())
}
