// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parts of `./dev torture` that are one scenario in a guest of its own; what they measured goes to
//! target/torture/PART-KERNEL.json.

use std::time::Duration;

use anyhow::{Context, Result};

use super::args::{Args, Part};
use super::limits::LIFE_MIB;
use super::lines::{keep, lines, record};
use crate::bed::Bed;
use crate::guest::paths::in_guest;
use crate::guest::{self, GuestJob};
use crate::make::kernel::Kernel;
use crate::outcome::Outcome;
use crate::play;

/// As for other guests with this kernel.
const PARAMETERS: &str = "watchdog_ms=5000 worker_wait_ms=3000";

/// One of them.
struct Single {
    part: Part,
    /// Of the scenario, too.
    name: &'static str,
    /// The subcommand of `daedalus-tests`.
    command: &'static str,
    /// Whether it runs in the plain kernel, too, and the sanitizer kernel has a tenth of it.
    both: bool,
    /// The scenario's own arguments, of so many percent in this kernel.
    arguments: fn(u32, Kernel) -> String,
    /// Seconds that it may take besides a minute, of a whole run.
    seconds: u64,
}

static SINGLES: [Single; 5] = [
    Single {
        part: Part::Leaks,
        name: "leaks",
        command: "hostile",
        both: true,
        arguments: |scale, kernel| {
            // KASAN keeps what was freed for a while.
            let growth = if kernel == Kernel::Plain { "--growth" } else { "" };
            format!("--rounds {} {growth}", share(1000, scale, 40))
        },
        seconds: 1800,
    },
    Single {
        part: Part::Orders,
        name: "orders",
        command: "hostile",
        both: false,
        arguments: |scale, _| format!("--seconds {}", share(600, scale, 20)),
        seconds: 900,
    },
    Single {
        part: Part::Stall,
        name: "stall",
        command: "hostile",
        both: false,
        arguments: |scale, _| {
            format!(
                "--pictures {} --rounds {} --sessions {} --core-ms {}",
                share(15, scale, 4),
                share(12, scale, 4),
                share(64, scale, 6),
                share(5000, scale, 400)
            )
        },
        seconds: 900,
    },
    Single {
        part: Part::Seek,
        name: "seek",
        command: "life",
        both: true,
        arguments: |scale, _| format!("--rounds {}", share(2000, scale, 24)),
        seconds: 3600,
    },
    Single {
        part: Part::Exhaust,
        name: "exhaust",
        command: "hostile",
        both: false,
        arguments: |scale, _| {
            format!(
                "--session-mb {} --requests {}",
                share(512, scale, 128),
                share(4000, scale, 200)
            )
        },
        seconds: 600,
    },
];

/// Returns so many percent of `whole`, but at least `least`.
fn share(whole: u32, scale: u32, least: u32) -> u32 {
    (whole * scale).div_ceil(100).max(least)
}

/// Returns the one that is this part, if it is one of them.
fn find(part: Part) -> Option<&'static Single> {
    SINGLES.iter().find(|single| single.part == part)
}

/// Returns whether a part is one of them, and runs in both kernels.
pub(super) fn in_both(part: Part) -> bool {
    find(part).is_some_and(|single| single.both)
}

/// Runs one of them in one kernel.
pub(super) fn run(bed: &Bed, part: Part, kernel: Kernel, args: &Args, outcome: &Outcome) -> Result<()> {
    let single = find(part).context("no such part")?;
    let clips = in_guest(bed, &play::clips(bed)?.0)?;
    let scale = match kernel {
        Kernel::Plain => args.scale,
        _ if single.both => args.scale.div_ceil(10),
        _ => args.scale,
    };
    let limit = 180 + single.seconds * u64::from(scale) / 100;
    let parameters = match kernel {
        Kernel::Plain | Kernel::Image => "",
        Kernel::Sanitizers | Kernel::Coverage => PARAMETERS,
    };
    let script = format!(
        "daedalus_load {parameters}\n\
         daedalus-tests {} --clips {clips} --deadline {limit} {} {} --seed {} >>life.jsonl || true\n\
         daedalus_unload\n",
        single.command,
        single.name,
        (single.arguments)(scale, kernel),
        args.seed
    );
    let job = GuestJob::new(&format!("torture-{}-{kernel}", single.name), &script)
        .kernel(kernel)
        .timeout(Duration::from_secs(limit + 60))
        .mem_mib(LIFE_MIB);
    let result = guest::run(bed, &job)?;
    let lines = lines(&result.out_dir.join("life.jsonl"));
    let name = format!("{} ({kernel}), {scale} %", single.name);
    record(outcome, &name, lines.get_named(single.name));
    outcome.check(&format!("{name}: the guest and its kernel log"), || {
        result.judge()?;
        Ok(format!("{:.0} s", result.seconds))
    });
    keep(
        bed,
        &format!("{}-{kernel}", single.name),
        &lines.0,
        &result.reports,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_nothing() {
        assert_eq!(share(2000, 2, 24), 40);
        assert_eq!(share(2000, 1, 24), 24);
        assert_eq!(share(2000, 100, 24), 2000);
    }
}
