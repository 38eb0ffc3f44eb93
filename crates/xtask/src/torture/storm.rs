// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev torture storm`: one guest, one scenario; what it measured goes to target/torture/storm.json.

use std::time::Duration;

use anyhow::Result;

use super::args::Args;
use super::limits::limits;
use super::lines::{keep, lines, record};
use crate::bed::Bed;
use crate::guest::paths::in_guest;
use crate::guest::{self, GuestJob};
use crate::make::kernel::Kernel;
use crate::outcome::Outcome;
use crate::play;

/// A call may stay blocked for 3 s under sanitizers, so nothing may wait for longer: a stopped worker is
/// ended by the watchdog.
const PARAMETERS: &str = "watchdog_ms=2200 drain_ms=300 worker_wait_ms=2200";
/// Milliseconds more for a stream: a worker that is lost before it has read a unit costs the time until the
/// next one has started, and the fifth in a row the session (MAX_RESTARTS in daedalus_flow.c).
const STREAM_MS: u32 = 5 * 2200;

/// Runs it in one guest.
pub(super) fn run(bed: &Bed, kernel: Kernel, args: &Args, outcome: &Outcome) -> Result<()> {
    let clips = in_guest(bed, &play::clips(bed)?.0)?;
    let pending_ms = limits(kernel, args.quick).pending_ms;
    let limit = 90 + u64::from(args.scale) * 45;
    let tool = |limit_ms: u32, option: &str| {
        format!(
            "daedalus-tests life --clips {clips} --limit-ms {limit_ms} --deadline {limit} storm --scale {} \
             --seed {} {option} >>life.jsonl || true\n",
            args.scale, args.seed
        )
    };
    let mut script = format!("daedalus_load {PARAMETERS}\n");
    let mut names = vec!["storm"];
    if !args.quick {
        names.push("stateful-storm");
    }
    for name in &names {
        script.push_str(&match *name {
            "storm" => tool(pending_ms, ""),
            _ => tool(pending_ms + STREAM_MS, "--stateful"),
        });
    }
    script.push_str("daedalus_unload\n");
    let job = GuestJob::new("torture-storm", &script)
        .kernel(kernel)
        .timeout(Duration::from_secs(names.len() as u64 * limit + 120));
    let result = guest::run(bed, &job)?;
    let lines = lines(&result.out_dir.join("life.jsonl"));
    for name in names {
        let check = format!("{name} ({kernel}), {} %", args.scale);
        record(outcome, &check, lines.get_named(name));
    }
    outcome.check(&format!("storm ({kernel}): the guest and its kernel log"), || {
        result.judge()?;
        Ok(format!("{:.0} s", result.seconds))
    });
    keep(bed, "storm", &lines.0, &result.reports)
}
