// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parts of `./dev torture` that are about streams: damaged jobs, and long runs.

use std::time::Duration;

use anyhow::Result;
use daedalus_uapi::Codec;

use super::args::Args;
use super::limits::limits;
use super::lines::{keep, lines, record};
use crate::bed::Bed;
use crate::codecs;
use crate::guest::paths::in_guest;
use crate::guest::{self, GuestJob};
use crate::make::kernel::Kernel;
use crate::outcome::Outcome;
use crate::play;

/// The sanitizer kernel, which takes several times as long, gets one variant of so many.
const SANITIZED_SHARE: u32 = 10;
/// But at least one of each kind of damage (tests/src/life/variants.rs).
const KINDS: u32 = 19;

/// How much more often a small clip is played by the stateful node than a large one by the other.
const LOOPS: u32 = 6;

/// Lists of clips, as the guest sees them.
struct Lists {
    quick: bool,
    large: String,
    small: String,
}

impl Lists {
    fn make(bed: &Bed, args: &Args) -> Result<Self> {
        Ok(Self {
            quick: args.quick,
            large: in_guest(bed, &play::clips(bed)?.0)?,
            small: in_guest(bed, &play::small_clips(bed)?)?,
        })
    }

    /// A scenario's command line, but for the scenario.
    fn tool(&self, kernel: Kernel, deadline: Duration) -> String {
        format!(
            "daedalus-tests life --clips {} --small {} --limit-ms {} --deadline {}",
            self.large,
            self.small,
            limits(kernel, self.quick).pending_ms,
            deadline.as_secs()
        )
    }
}

/// Returns the codecs whose jobs are damaged, each with the option of the daemon that goes with it.
fn damaged() -> Result<Vec<(Codec, String)>> {
    let rows = codecs::rows()?;
    let threads = rows
        .iter()
        .filter_map(|row| Some((row.codec, format!(" --threads={}", row.threads?))));
    let all = Codec::ALL.iter().map(|codec| (*codec, String::new()));
    Ok(all.chain(threads).collect())
}

/// Plays damaged jobs of every codec.
pub(super) fn damage(bed: &Bed, kernel: Kernel, args: &Args, outcome: &Outcome) -> Result<()> {
    let lists = Lists::make(bed, args)?;
    let variants = match kernel {
        Kernel::Plain | Kernel::Coverage | Kernel::Image => args.variants,
        Kernel::Sanitizers => (args.variants / SANITIZED_SHARE).max(KINDS),
    };
    let scenarios: Vec<_> = damaged()?
        .into_iter()
        .map(|(codec, threads)| {
            let scenario =
                format!("damage {codec}-groups{threads} --larger {codec}-480p --variants {variants}");
            (format!("damage {codec}-groups{threads}"), scenario)
        })
        .collect();
    run(bed, "damage", kernel, &lists, &scenarios, outcome)
}

/// Plays a clip of every codec for long.
pub(super) fn long(bed: &Bed, kernel: Kernel, args: &Args, outcome: &Outcome) -> Result<()> {
    let lists = Lists::make(bed, args)?;
    let (size, settled) = if args.quick { ("240p", 180) } else { ("1080p", 300) };
    let stateless = Codec::ALL.iter().map(|codec| {
        let clip = format!("{codec}-{size}");
        let scenario = format!("long {clip} --times {} --settled {settled}", args.times);
        (format!("long {clip}"), scenario)
    });
    // A clip of two seconds, in a loop.
    let loops = if args.quick { 0 } else { LOOPS * args.times };
    let stateful = Codec::ALL.iter().filter(|_| loops > 0).map(|codec| {
        let clip = format!("{codec}-240p");
        let scenario = format!("long {clip} --stateful --times {loops} --settled {settled}");
        (format!("stateful-long {clip}"), scenario)
    });
    let scenarios: Vec<_> = stateless.chain(stateful).collect();
    run(bed, "long", kernel, &lists, &scenarios, outcome)
}

/// Runs scenarios (what their lines of JSON are found by, and their command lines) in one guest.
fn run(
    bed: &Bed,
    part: &str,
    kernel: Kernel,
    lists: &Lists,
    scenarios: &[(String, String)],
    outcome: &Outcome,
) -> Result<()> {
    let each = match kernel {
        Kernel::Plain | Kernel::Coverage | Kernel::Image => Duration::from_secs(900),
        Kernel::Sanitizers => Duration::from_secs(1800),
    };
    let tool = lists.tool(kernel, each);
    let mut script = format!(
        "daedalus_load {}\n",
        limits(kernel, lists.quick).parameters.join(" ")
    );
    for (_, scenario) in scenarios {
        script.push_str(&format!("{tool} {scenario} >>life.jsonl || true\n"));
    }
    script.push_str("daedalus_unload\n");
    let name = format!("torture-{part}-{kernel}");
    let timeout = each * u32::try_from(scenarios.len())?;
    let result = guest::run(
        bed,
        &GuestJob::new(&name, &script).kernel(kernel).timeout(timeout),
    )?;
    let lines = lines(&result.out_dir.join("life.jsonl"));
    for (name, _) in scenarios {
        record(
            outcome,
            &format!("{part} ({kernel}): {name}"),
            lines.get_named(name),
        );
    }
    outcome.check(
        &format!("{part} ({kernel}): the guest and its kernel log"),
        || {
            result.judge()?;
            Ok(format!("{:.0} s", result.seconds))
        },
    );
    keep(bed, &format!("{part}-{kernel}"), &lines.0, &result.reports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_is_damaged_with_one_thread() {
        let damaged = damaged().unwrap();
        for codec in Codec::ALL {
            assert!(damaged.contains(&(*codec, String::new())), "{codec}");
        }
        assert!(damaged.len() > Codec::ALL.len());
    }
}
