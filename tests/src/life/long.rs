// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One clip again and again in one session: every picture exact, and a worker that does not grow.
//!
//! How many pictures are in flight is chance, and now and then there is one more than ever before. So the
//! growth that counts is that of the median round. The whole growth has a bound of a few pictures.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use daedalus_client::decoder::{Options, Picture, Plan, Session};
use daedalus_client::stateful::Settings;

use super::common::Common;
use super::stateful_player::{Clip as StreamClip, Player, longest};
use crate::guest::broker::Broker;
use crate::guest::clip::later;
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::left;

/// Arguments of `long`.
#[derive(Debug, clap::Args)]
pub(super) struct LongArgs {
    /// The clip; it begins with a key frame, and refers to nothing before it.
    clip: String,
    /// Play by the stateful node: a round goes on after a drain, and every other one begins again by a seek.
    #[arg(long)]
    pub(super) stateful: bool,
    /// How often it is played.
    #[arg(long, default_value_t = 30)]
    times: u64,
    /// Frames after which the worker is looked at.
    #[arg(long, default_value_t = 300)]
    settled: usize,
    /// KiB by which its private memory may grow in all rounds, if each is like the median one.
    #[arg(long, default_value_t = 256)]
    steady_kib: u64,
    /// KiB by which its private memory may grow in all: four pictures of 1080p.
    #[arg(long, default_value_t = 12_288)]
    growth_kib: u64,
}

/// One more than the most pictures before a seek.
const SOUGHT: usize = 11;
/// Mappings that a few more pictures need.
const MORE_MAPPINGS: u64 = 8;

/// The resources of a worker.
#[derive(Clone, Copy, Debug, Default)]
struct Resources {
    private_kib: u64,
    descriptors: u64,
    mappings: u64,
}

impl Resources {
    fn of(worker: u64) -> Result<Self> {
        let dir = format!("/proc/{worker}");
        let rollup = format!("{dir}/smaps_rollup");
        let rollup = std::fs::read_to_string(&rollup).with_context(|| format!("cannot read {rollup}"))?;
        let private_kib = private(&rollup);
        ensure!(private_kib > 0, "worker {worker} has no private memory");
        let maps = std::fs::read_to_string(format!("{dir}/maps"))?;
        Ok(Self {
            private_kib,
            descriptors: std::fs::read_dir(format!("{dir}/fd"))?.count() as u64,
            mappings: maps.lines().count() as u64,
        })
    }

    fn most(self, other: Self) -> Self {
        Self {
            private_kib: self.private_kib.max(other.private_kib),
            descriptors: self.descriptors.max(other.descriptors),
            mappings: self.mappings.max(other.mappings),
        }
    }
}

/// Returns the median of what the rounds add to the private memory, in KiB.
fn median_growth(rounds: &[Resources]) -> u64 {
    let mut growths: Vec<u64> = rounds
        .windows(2)
        .map(|pair| pair[1].private_kib.saturating_sub(pair[0].private_kib))
        .collect();
    growths.sort_unstable();
    growths.get(growths.len() / 2).copied().unwrap_or_default()
}

/// Returns the private pages in a text of the form of `smaps_rollup`, in KiB: those that only this process
/// has, changed or not, in memory or swapped out.
pub(super) fn private(rollup: &str) -> u64 {
    ["Private_Clean:", "Private_Dirty:", "Private_Hugetlb:", "Swap:"]
        .iter()
        .map(|name| kib(rollup, name))
        .sum()
}

/// Returns the number that follows `name`, which ends with a colon, in a text of the form of `smaps_rollup`,
/// in KiB; 0 if it is not there.
pub(super) fn kib(rollup: &str, name: &str) -> u64 {
    rollup
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// Returns the resources of the worker of this process's only session, which was never lost.
fn of_own_worker() -> Result<Resources> {
    let sessions = debugfs::own_sessions()?;
    let session = sessions.first().context("there is no session")?;
    ensure!(session.number("restarts") == 0, "the worker was lost");
    Resources::of(session.number("worker"))
}

pub(super) fn long(common: &Common, args: &LongArgs, figures: &mut Figures) -> Result<()> {
    figures.set("stream", args.clip.clone());
    if args.stateful {
        return long_stateful(common, args, figures);
    }
    let clip = common.clips()?.clip(&args.clip)?;
    let shown = clip.jobs.iter().map(|job| job.shows.len()).sum::<usize>();
    ensure!(clip.jobs[0].key, "{} begins with no key frame", clip.name);
    ensure!(
        shown * args.times as usize > args.settled + shown,
        "{shown} frames {} times are too few to see a growth after {}",
        args.times,
        args.settled
    );
    let (broker, nodes) = Broker::start(common)?;
    let plan = Plan::new(clip.codec, &clip.jobs);
    let mut session = Session::open(&nodes, &plan, &Options::default())?;
    let (mut frames, mut pictures) = (0, 0);
    let mut rounds: Vec<Resources> = Vec::new();
    for round in 0..args.times {
        let shift = clip.period() * round;
        for job in &clip.jobs {
            session.submit(&later(clip.codec, job, shift))?;
        }
        session.drain()?;
        let own: HashMap<u64, Picture> = session
            .take_pictures()
            .into_iter()
            .map(|(timestamp, picture)| (timestamp - shift, picture))
            .collect();
        pictures += clip.compare_all(&own).with_context(|| format!("round {round}"))?;
        frames += shown;
        let now = of_own_worker()?;
        if frames >= args.settled {
            rounds.push(now);
        }
    }
    figures.set("frames", frames);
    figures.set("pictures", pictures);
    figures.calls(session.longest());
    check_growth(args, &rounds, figures)?;
    drop(session);
    broker.stop()?;
    Ok(())
}

/// Demands that a worker does not grow from round to round.
fn check_growth(args: &LongArgs, rounds: &[Resources], figures: &mut Figures) -> Result<()> {
    let first = *rounds
        .first()
        .context("the clip was not played for long enough")?;
    let most = rounds.iter().copied().fold(first, Resources::most);
    let growth = most.private_kib - first.private_kib;
    let steady = median_growth(rounds) * (rounds.len() as u64 - 1);
    figures.set("private_kib", first.private_kib);
    figures.set("private_kib_growth", growth);
    figures.set("private_kib_steady_growth", steady);
    figures.set("descriptors", first.descriptors);
    figures.set("mappings", first.mappings);
    ensure!(
        steady < args.steady_kib && growth < args.growth_kib,
        "the worker's private memory grows by {growth} KiB after {} frames, and by {steady} KiB if each \
         round is like the median one",
        args.settled
    );
    ensure!(
        most.descriptors == first.descriptors && most.mappings <= first.mappings + MORE_MAPPINGS,
        "the worker gathers descriptors ({} to {}) or mappings ({} to {})",
        first.descriptors,
        most.descriptors,
        first.mappings,
        most.mappings
    );
    Ok(())
}

fn long_stateful(common: &Common, args: &LongArgs, figures: &mut Figures) -> Result<()> {
    let clip = StreamClip::load(common, &args.clip)?;
    let (broker, _) = Broker::start_with(common, &["--faces=both"])?;
    let settings = Settings {
        unit_bytes: longest(&clip.units),
        ..Settings::default()
    };
    let mut player = Player::open(&clip, settings)?;
    let (mut frames, mut rounds) = (0, Vec::new());
    for round in 0..args.times {
        if round > 0 {
            player.stream.start()?;
            player.stream.queue_all()?;
            player.rewind();
        }
        if round % 2 == 1 {
            let pictures = round as usize % SOUGHT;
            player.until("pictures", |player| player.pictures.len() >= pictures)?;
            player.stream.seek()?;
            player.rewind();
        }
        player.finish().with_context(|| format!("round {round}"))?;
        player.check().with_context(|| format!("round {round}"))?;
        frames += clip.sums.len();
        // A seek and a drain leave different amounts of memory behind: like is compared with like.
        if frames >= args.settled && round % 2 == 1 {
            rounds.push(of_own_worker()?);
        }
    }
    figures.set("frames", frames);
    check_growth(args, &rounds, figures)?;
    drop(player);
    broker.stop()?;
    left::nothing()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory_is_what_only_the_process_has() {
        let rollup = "55 - 7f [rollup]\nRss: 900 kB\nPss_Dirty: 7 kB\nShared_Dirty: 9 kB\n\
                      Private_Clean: 4 kB\n\
                      Private_Dirty: 120 kB\nSwap: 8 kB\nSwapPss: 3 kB\n";
        assert_eq!(private(rollup), 132);
        assert_eq!(private(""), 0);
    }

    #[test]
    fn one_more_picture_is_no_steady_growth() {
        let rounds = |kib: &[u64]| -> Vec<Resources> {
            let resources = |&private_kib| Resources {
                private_kib,
                ..Resources::default()
            };
            kib.iter().map(resources).collect()
        };
        assert_eq!(median_growth(&rounds(&[10, 10, 1500, 1500, 1501])), 1);
        assert_eq!(median_growth(&rounds(&[10, 1500, 1500, 1500])), 0);
        assert_eq!(median_growth(&rounds(&[10, 15, 20, 25])), 5);
        assert_eq!(median_growth(&rounds(&[10])), 0);
    }
}
