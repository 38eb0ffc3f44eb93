// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev torture`: the scenarios of `daedalus-tests` in guests. Kills, four clients at once and what no real
//! client does, under the plain and the sanitizer kernel; loads and unloads under the sanitizer kernel;
//! damaged jobs and long runs.

mod args;
mod hostile;
mod life;
mod limits;
mod lines;
mod reload;
pub(crate) mod screen;
mod single;
mod storm;
mod streams;

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;

pub(crate) use args::Args;
use args::Part;

use crate::bed::Bed;
use crate::make::kernel::Kernel;
use crate::outcome::Outcome;

/// A guest: a part in a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    part: Part,
    kernel: Kernel,
}

impl Guest {
    /// Whether its checks are about real time: it is to have the machine's attention.
    pub(crate) fn is_timed(self) -> bool {
        self.kernel == Kernel::Plain || self.part == Part::Storm
    }

    /// Runs it; `Err` is for what kept it from running at all.
    pub(crate) fn run(self, bed: &Bed, args: &Args) -> Result<Outcome> {
        let (outcome, kernel) = (Outcome::new(), self.kernel);
        match self.part {
            Part::Life => life::run(bed, kernel, args, &outcome),
            Part::Damage => streams::damage(bed, kernel, args, &outcome),
            Part::Long => streams::long(bed, kernel, args, &outcome),
            Part::Reload => reload::run(bed, kernel, args, &outcome),
            Part::Storm => storm::run(bed, kernel, args, &outcome),
            Part::Hostile => hostile::run(bed, kernel, args, &outcome),
            part => single::run(bed, part, kernel, args, &outcome),
        }?;
        Ok(outcome)
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part.to_possible_value();
        let part = part.as_ref().map_or("", |part| part.get_name());
        write!(f, "{part} ({})", self.kernel)
    }
}

/// Returns the guests that are wanted, in the order in which they run.
pub(crate) fn guests(args: &Args) -> Vec<Guest> {
    let parts = Part::value_variants().iter().filter(|part| args.wants(**part));
    parts
        .flat_map(|part| {
            let kernels = kernels(*part, args);
            kernels.into_iter().map(|kernel| Guest { part: *part, kernel })
        })
        .collect()
}

/// Returns the kernels in which a part runs.
fn kernels(part: Part, args: &Args) -> Vec<Kernel> {
    let watchful = args.watchful();
    match part {
        Part::Life => args.kernels().collect(),
        Part::Damage => args
            .kernels()
            .filter(|kernel| !args.quick || *kernel == Kernel::Plain)
            .collect(),
        Part::Long => vec![args.kernel.unwrap_or(Kernel::Plain)],
        Part::Reload => args.kernels().filter(|kernel| *kernel == watchful).collect(),
        Part::Storm | Part::Hostile => vec![watchful],
        part if single::in_both(part) => args.kernels().collect(),
        _ => vec![args.kernel.unwrap_or(Kernel::Sanitizers)],
    }
}

/// Runs it; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let outcome = Outcome::new();
    for guest in guests(args) {
        outcome.absorb(guest.run(bed, args)?);
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_kernels_in_which_they_find_something() {
        let shown = |args: &Args| guests(args).iter().map(Guest::to_string).collect::<Vec<_>>();
        let all = [
            "life (plain)",
            "life (sanitizers)",
            "reload (sanitizers)",
            "damage (plain)",
            "long (plain)",
            "storm (sanitizers)",
            "hostile (sanitizers)",
            "leaks (plain)",
            "leaks (sanitizers)",
            "orders (sanitizers)",
            "stall (sanitizers)",
            "seek (plain)",
            "seek (sanitizers)",
            "exhaust (sanitizers)",
        ];
        assert_eq!(shown(&Args::quick()), all);
        let coverage = shown(&Args::coverage());
        assert_eq!(
            coverage,
            ["life", "reload", "storm", "hostile", "exhaust"].map(|part| format!("{part} (coverage)"))
        );
    }

    #[test]
    fn what_counts_real_time_is_timed() {
        let guests = guests(&Args::quick());
        let timed = guests.iter().filter(|guest| guest.is_timed()).count();
        assert_eq!((timed, guests.len()), (6, 14));
    }
}
