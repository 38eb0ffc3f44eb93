// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev torture hostile`: the scenarios of `daedalus-tests hostile` in one guest; what they measured goes
//! to target/torture/hostile.json.

use std::time::Duration;

use anyhow::Result;
use daedalus_uapi::Codec;

use super::args::Args;
use super::lines::{keep, lines, record};
use crate::bed::Bed;
use crate::guest::paths::in_guest;
use crate::guest::{self, GuestJob};
use crate::make::kernel::Kernel;
use crate::outcome::Outcome;
use crate::play;

/// As for other guests with this kernel.
const PARAMETERS: &str = "watchdog_ms=5000 drain_ms=500 worker_wait_ms=3000";
/// Ioctls, and messages of the hostile daemon, of the whole.
const CALLS: u64 = 1_000_000;
/// Random rounds with failing allocations, of the whole.
const ROUNDS: u64 = 2000;

/// Runs all of them in one guest.
pub(super) fn run(bed: &Bed, kernel: Kernel, args: &Args, outcome: &Outcome) -> Result<()> {
    let clips = in_guest(bed, &play::clips(bed)?.0)?;
    let part = |whole: u64| (whole * u64::from(args.scale)).div_ceil(100);
    // A call that hangs ends a scenario; a slow machine does not. `fail-nth` lives hundreds of lives.
    let limit = 600 + u64::from(args.scale) * 40;
    let tool = format!(
        "daedalus-tests hostile --clips {clips} --seed {} --deadline {limit}",
        args.seed
    );
    let (calls, rounds) = (part(CALLS), part(ROUNDS));
    // Every allocation of the module's loading fails in turn from a tenth of the whole on; below, some do.
    let stride = if args.scale >= 10 { 1 } else { 29 };
    let codecs = if args.scale >= 10 { Codec::ALL.len() } else { 1 };
    let parameters = PARAMETERS.replace(' ', " --parameter ");
    let script = format!(
        "daedalus_load {PARAMETERS}\n\
         {tool} imports --codecs {codecs} >>life.jsonl || true\n\
         {tool} ioctls --calls {calls} >>life.jsonl || true\n\
         {tool} ioctls --stateful --calls {calls} >>life.jsonl || true\n\
         {tool} daemon --messages {calls} >>life.jsonl || true\n\
         {tool} daemon --stateful --messages {calls} >>life.jsonl || true\n\
         {tool} fail-nth --rounds {rounds} --module /mnt/modules/daedalus_v4l2.ko --load-stride {stride} \
         --parameter {parameters} >>life.jsonl || true\n\
         daedalus_unload\n"
    );
    let job = GuestJob::new("torture-hostile", &script)
        .kernel(kernel)
        .timeout(Duration::from_secs(6 * limit));
    let result = guest::run(bed, &job)?;
    let lines = lines(&result.out_dir.join("life.jsonl"));
    for name in [
        "imports",
        "ioctls",
        "stateful-ioctls",
        "hostile-daemon",
        "stateful-daemon",
        "fail-nth",
    ] {
        record(
            outcome,
            &format!("{name} ({kernel}), {} %", args.scale),
            lines.get_named(name),
        );
    }
    outcome.check(
        &format!("hostile ({kernel}): the guest and its kernel log"),
        || {
            result.judge()?;
            Ok(format!("{:.0} s", result.seconds))
        },
    );
    keep(bed, "hostile", &lines.0, &result.reports)
}
