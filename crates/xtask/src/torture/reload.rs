// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev torture reload`: loads, serves, decodes, stops and unloads, again and again.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::args::Args;
use super::limits::limits;
use super::lines::{keep, lines, record};
use crate::bed::Bed;
use crate::guest::paths::in_guest;
use crate::guest::{self, GuestJob};
use crate::make::kernel::Kernel;
use crate::outcome::Outcome;
use crate::play;

/// Loads and unloads in one guest.
pub(super) fn run(bed: &Bed, kernel: Kernel, args: &Args, outcome: &Outcome) -> Result<()> {
    let clips = in_guest(bed, &play::clips(bed)?.0)?;
    let cycles = args.cycles;
    let parameters = limits(kernel, false)
        .parameters
        .iter()
        .fold(String::new(), |all, parameter| all + " --parameter " + parameter);
    // What the module depends on stays loaded.
    let script = format!(
        "daedalus_load\ndaedalus_unload\n\
         daedalus-tests life --clips {clips} --deadline 880 reload --module /mnt/modules/daedalus_v4l2.ko \
         --cycles {cycles}{parameters} >>life.jsonl || true\n"
    );
    let job = GuestJob::new("torture-reload", &script)
        .kernel(kernel)
        .timeout(Duration::from_secs(900));
    let result = guest::run(bed, &job)?;
    let lines = lines(&result.out_dir.join("life.jsonl"));
    record(
        outcome,
        &format!("reload ({kernel}): {cycles} cycles"),
        lines.get_named("reload"),
    );
    outcome.check(
        &format!("reload ({kernel}): the guest and its kernel log"),
        || {
            result.judge()?;
            ensure!(result.seconds < 900.0, "it took {:.0} s", result.seconds);
            Ok(format!("{:.0} s", result.seconds))
        },
    );
    keep(bed, "reload", &lines.0, &result.reports)
}
