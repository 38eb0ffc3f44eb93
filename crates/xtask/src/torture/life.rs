// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev torture life`: kills, several clients at once and what no real client does, in one guest.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use daedalus_common::vectors;

use super::args::Args;
use super::limits::{LIFE_MIB, limits};
use super::lines::{keep, lines, record};
use crate::bed::Bed;
use crate::conformance::generated;
use crate::guest::paths::in_guest;
use crate::guest::{self, GuestJob};
use crate::make::kernel::Kernel;
use crate::outcome::Outcome;
use crate::play;
use crate::streams::{self, ListedStream, Use};

/// The scenarios of `life`, in the order in which they run.
const SCENARIOS: [&str; 26] = [
    "first-frame",
    "flush-held",
    "streams",
    "four-clients",
    "kill-worker",
    "kill-broker",
    EDGES,
    STATEFUL,
    "sandbox",
    "stop-worker",
    "starve-worker",
    "crash-loop",
    "abort",
    "limits",
    "memory",
    "many-sessions",
    VANISHED,
    FREEZE,
    "formats",
    "colour",
    REPORTS,
    FORK_SERVER,
    "screen",
    IDLE,
    SIZES,
    REPLACE,
];

/// Of those, what `./dev test` leaves to the other kernel. The sanitizer kernel takes several times as long
/// to decode, and finds nothing in more pictures;
const EXACTNESS: [&str; 7] = [
    "streams",
    "many-sessions",
    "formats",
    SIZES,
    "screen",
    IDLE,
    STATEFUL,
];
/// in the plain kernel real time counts.
const STATES: [&str; 11] = [
    "first-frame",
    "flush-held",
    EDGES,
    "sandbox",
    "starve-worker",
    "crash-loop",
    "limits",
    VANISHED,
    "colour",
    "screen",
    REPLACE,
];

/// Whether a scenario is run.
fn is_selected(scenario: &str, kernel: Kernel, quick: bool) -> bool {
    let left = match kernel {
        Kernel::Plain | Kernel::Coverage | Kernel::Image => &STATES[..],
        Kernel::Sanitizers => &EXACTNESS[..],
    };
    // The other kernels inject no faults.
    let is_able = scenario != REPORTS || kernel == Kernel::Sanitizers;
    is_able && !(quick && left.contains(&scenario))
}

/// Needs a kernel that injects faults.
const REPORTS: &str = "reports";

/// Takes how often the broker is replaced.
const REPLACE: &str = "replace-broker";

/// Takes streams.
const SIZES: &str = "sizes";

/// Takes whether its cases are shared among the codecs.
const EDGES: &str = "edges";

/// Takes that, too, and how long a stopped worker outlives its client, which passes each time by the clock.
const VANISHED: &str = "vanished-client";

/// Takes how often a client is frozen, and the watchdog's time, which passes each time by the clock.
const FREEZE: &str = "freeze";
/// Takes for how long the daemon is watched, which passes by the clock.
const IDLE: &str = "idle";
/// Takes the watchdog's time.
const FORK_SERVER: &str = "fork-server";
/// Takes whether its edges are shared among the codecs (several minutes if not), which codecs play, and how
/// often workers are killed, which takes seconds.
const STATEFUL: &str = "stateful";
const KILL_SECONDS: u64 = 20;
/// How long all its edges may take beside the other scenarios.
const EDGES_TIME: Duration = Duration::from_secs(600);

/// Returns the arguments of [`FREEZE`].
fn frozen(kernel: Kernel, quick: bool) -> String {
    let rounds = if quick { 1 } else { 3 };
    // Where calls may take long, the watchdog's time may be as short as in the storm.
    let watchdog = match kernel {
        Kernel::Plain | Kernel::Image => "",
        Kernel::Sanitizers | Kernel::Coverage => " --watchdog-ms 2200",
    };
    format!("--rounds {rounds}{watchdog}")
}

/// Returns the arguments of [`FORK_SERVER`]. A job's time holds the patience with a stopped server and the
/// start of another one, which loads libraries: on a machine that is busy otherwise that takes seconds.
fn served(kernel: Kernel, quick: bool) -> String {
    match (kernel, quick) {
        (Kernel::Sanitizers | Kernel::Coverage, _) => "--watchdog-ms 20000".to_owned(),
        (Kernel::Plain | Kernel::Image, true) => "--watchdog-ms 4000".to_owned(),
        (Kernel::Plain | Kernel::Image, false) => String::new(),
    }
}

/// Returns the streams whose pictures change their size, as the guest sees them: generated ones, and the
/// vectors' if they are here.
fn resized(bed: &Bed) -> Result<Vec<String>> {
    let folder = generated::folder(bed, true)?;
    let mut paths = Vec::new();
    for stream in streams::of(Use::Generated)? {
        let path = [folder.join(&stream.file), folder.join(stream.path())];
        let path = path.iter().find(|path| path.is_file());
        let path = path.with_context(|| format!("no generated {}", stream.file))?;
        paths.push(in_guest(bed, path)?);
    }
    if bed.vectors().is_some() {
        paths.extend(streams::of(Use::Sizes)?.iter().map(in_vectors));
    }
    Ok(paths)
}

/// Returns where the guest sees a stream of the vectors.
fn in_vectors(stream: &ListedStream) -> String {
    format!("/mnt/vectors/{}", stream.path())
}

/// Runs all scenarios in one guest.
pub(super) fn run(bed: &Bed, kernel: Kernel, args: &Args, outcome: &Outcome) -> Result<()> {
    let (clips, small) = (play::clips(bed)?.0, play::small_clips(bed)?);
    let lists = format!(
        "--clips {} --small {}",
        in_guest(bed, &clips)?,
        in_guest(bed, &small)?
    );
    let limits = limits(kernel, args.quick);
    let kills = Duration::from_secs(KILL_SECONDS * u64::from(args.kills.saturating_sub(1)));
    let edges = if args.quick { Duration::ZERO } else { EDGES_TIME };
    let life = limits.life + edges + kills;
    let share = if args.scenario.is_empty() { 3 } else { 1 };
    let tool = format!(
        "daedalus-tests life {lists} --limit-ms {} --deadline {}",
        limits.pending_ms,
        life.as_secs() / share
    );
    // GStreamer finds its devices when it scans its plugins, which it does anew in every guest.
    let mut script = format!(
        "export GST_REGISTRY=/tmp/gstreamer-registry.bin\ndaedalus_load {}\n",
        limits.parameters.join(" ")
    );
    let named =
        |scenario: &str| args.scenario.is_empty() || args.scenario.iter().any(|name| name == scenario);
    if let Some(unknown) = args
        .scenario
        .iter()
        .find(|name| !SCENARIOS.contains(&name.as_str()))
    {
        bail!("`life` has no scenario {unknown}: {}", SCENARIOS.join(" "));
    }
    let scenarios: Vec<&str> = SCENARIOS
        .into_iter()
        .filter(|scenario| is_selected(scenario, kernel, args.quick) && named(scenario))
        .collect();
    // A codec more does not make `./dev test` longer: the module's part is the same for all of them.
    let turns = if args.quick { "--in-turn" } else { "" };
    for scenario in &scenarios {
        let scenario = match *scenario {
            REPLACE => format!("{REPLACE} --replacements {}", args.replacements),
            SIZES => format!("{SIZES} {}", resized(bed)?.join(" ")),
            FREEZE => format!("{FREEZE} {}", frozen(kernel, args.quick)),
            FORK_SERVER => format!("{FORK_SERVER} {}", served(kernel, args.quick)),
            STATEFUL => {
                let line = format!("{STATEFUL} --kills {} {turns}", args.kills);
                args.codec
                    .iter()
                    .fold(line, |line, codec| format!("{line} --codec {codec}"))
            }
            EDGES => format!("{EDGES} {turns}"),
            IDLE if args.quick => format!("{IDLE} --seconds 10"),
            VANISHED if kernel != Kernel::Plain => format!("{VANISHED} --worker-wait-ms 800 {turns}"),
            other => other.to_owned(),
        };
        script.push_str(&format!("{tool} {scenario} >>life.jsonl || true\n"));
    }
    let mut names: Vec<String> = scenarios.into_iter().map(String::from).collect();
    if args.quick && kernel == Kernel::Sanitizers || !args.scenario.is_empty() {
        // Exactness again, or what was not asked for.
    } else if let Some(vectors) = bed.vectors() {
        for stream in streams::of(Use::Life)? {
            let (path, (sums, _)) = (in_vectors(&stream), stream.sums(&vectors)?);
            script.push_str(&format!(
                "{tool} play {path} --reference /mnt/vectors/{sums} >>life.jsonl || true\n"
            ));
            names.push(format!("play {path}"));
        }
    } else {
        outcome.skip(
            &format!("life ({kernel}): fields, 10 bit, sizes"),
            vectors::MISSING,
        );
    }
    script.push_str("daedalus_unload\n");
    let name = format!("torture-life-{kernel}");
    let job = GuestJob::new(&name, &script)
        .kernel(kernel)
        .timeout(life)
        .mem_mib(LIFE_MIB);
    let result = guest::run(bed, &job)?;
    let lines = lines(&result.out_dir.join("life.jsonl"));
    for name in &names {
        record(
            outcome,
            &format!("life ({kernel}): {name}"),
            lines.get_named(name),
        );
    }
    outcome.check(&format!("life ({kernel}): the guest and its kernel log"), || {
        result.judge()?;
        Ok(format!("{:.0} s", result.seconds))
    });
    keep(bed, &format!("life-{kernel}"), &lines.0, &result.reports)
}
