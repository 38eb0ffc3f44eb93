// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev torture`: the scenarios of `daedalus-tests life` in guests. Kills, four clients at once and what no real
//! client does, under the plain and the sanitizer kernel; loads and unloads under the sanitizer kernel; damaged jobs and
//! long runs.

mod hostile;
mod single;
mod storm;
mod streams;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::conformance::generated;
use crate::guest::paths::in_guest;
use crate::guest::{self, GuestJob};
use crate::make::kernel::Kernel;
use crate::outcome::{Check, Outcome, Verdict};
use crate::play;
use crate::site::files::write_json;
use crate::vectors;

/// What there is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Kills, several clients, edges, in both kernels
    Life,
    /// insmod, serve, decode 5 frames, stop, rmmod, in the sanitizer kernel
    Reload,
    /// Damaged jobs of each codec, in both kernels (a tenth of the variants in the sanitizer kernel)
    Damage,
    /// One clip of each codec again and again: exact pictures, and a worker that does not grow
    Long,
    /// Four clients while workers, brokers and clients are killed at random, in the sanitizer kernel
    Storm,
    /// Any ioctl, a daemon that answers nonsense, failing allocations, foreign memory, in the sanitizer kernel
    Hostile,
    /// What is refused or given back again and again: nothing is left and nothing grows, in both kernels
    Leaks,
    /// Sessions close in any order, in the sanitizer kernel
    Orders,
    /// A session plays on whatever others do, in the sanitizer kernel
    Stall,
    /// Stops with jobs in flight, in both kernels (a tenth in the sanitizer kernel)
    Seek,
    /// An unprivileged user takes all that there is, in the sanitizer kernel
    Exhaust,
}

/// Arguments of `./dev torture`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// What to run; everything if nothing is named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Cycles of `reload`
    #[arg(long, default_value_t = 200)]
    cycles: u32,
    /// Replacements of the broker while jobs are in flight
    #[arg(long, default_value_t = 50)]
    replacements: u32,
    /// Variants of damage, for each codec
    #[arg(long, default_value_t = 500)]
    variants: u32,
    /// How often `long` plays its clips, which have 60 frames
    #[arg(long, default_value_t = 30)]
    times: u32,
    /// Only this kernel
    #[arg(long, value_enum)]
    kernel: Option<Kernel>,
    /// How much of the whole `storm`, `hostile` and what follows them do, in percent
    #[arg(long, default_value = "100%", value_parser = percent)]
    scale: u32,
    /// Of all random choices
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(skip)]
    quick: bool,
}

/// Reads `N` or `N%`.
fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse();
    match number {
        Ok(number @ 1..=1000) => Ok(number),
        _ => Err("expected a number of percent, from 1 to 1000".into()),
    }
}

impl Args {
    /// What `./dev test` runs.
    pub(crate) fn quick() -> Self {
        Self {
            parts: Vec::new(),
            cycles: 5,
            replacements: 2,
            variants: 38,
            times: 4,
            kernel: None,
            quick: true,
            scale: 2,
            seed: 1,
        }
    }

    fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }

    /// What counts lines: everything there is for the module, a small part of what goes on for long.
    pub(crate) fn coverage() -> Self {
        Self {
            parts: vec![
                Part::Life,
                Part::Reload,
                Part::Storm,
                Part::Hostile,
                Part::Exhaust,
            ],
            replacements: 5,
            kernel: Some(Kernel::Coverage),
            quick: false,
            scale: 10,
            ..Self::quick()
        }
    }

    /// In which kernel the parts run that need one that finds faults.
    fn watchful(&self) -> Kernel {
        match self.kernel {
            Some(Kernel::Coverage) => Kernel::Coverage,
            _ => Kernel::Sanitizers,
        }
    }

    fn kernels(&self) -> impl Iterator<Item = Kernel> + use<> {
        let only = self.kernel;
        match only {
            Some(only) => vec![only],
            None => vec![Kernel::Plain, Kernel::Sanitizers],
        }
        .into_iter()
    }
}

/// The scenarios of `life`, in the order in which they run.
const SCENARIOS: [&str; 23] = [
    "first-frame",
    "flush-held",
    "streams",
    "four-clients",
    "kill-worker",
    "kill-broker",
    "edges",
    "sandbox",
    "stop-worker",
    "starve-worker",
    "crash-loop",
    "abort",
    "limits",
    "memory",
    "many-sessions",
    "vanished-client",
    "freeze",
    "formats",
    "colour",
    "fork-server",
    "screen",
    SIZES,
    REPLACE,
];

/// Of those, what `./dev test` leaves to the other kernel. The sanitizer kernel takes several times as long to decode, and
/// finds nothing in more pictures;
const EXACTNESS: [&str; 5] = ["streams", "many-sessions", "formats", SIZES, "screen"];
/// in the plain kernel real time counts.
const STATES: [&str; 11] = [
    "first-frame",
    "flush-held",
    "edges",
    "sandbox",
    "starve-worker",
    "crash-loop",
    "limits",
    "vanished-client",
    "colour",
    "screen",
    REPLACE,
];

/// MiB of memory of a guest for `life`: buffers and private memory of the 64 sessions of `many-sessions`.
const LIFE_MIB: u32 = 4096;

/// Whether a scenario is run.
fn taken(scenario: &str, kernel: Kernel, quick: bool) -> bool {
    let left = match kernel {
        Kernel::Plain | Kernel::Coverage | Kernel::Image => &STATES[..],
        Kernel::Sanitizers => &EXACTNESS[..],
    };
    !(quick && left.contains(&scenario))
}

/// Takes how often the broker is replaced.
const REPLACE: &str = "replace-broker";

/// Takes streams.
const SIZES: &str = "sizes";

/// Of the generated streams, those whose pictures change their size.
const GENERATED: [&str; 3] = [
    "h264-new-sps.h264",
    "vp9-resize-360p.ivf",
    "av1-resize-random-360p.ivf",
];

/// Of the vectors, too.
const RESIZED: [&str; 2] = [
    "av1/dav1d/8-bit/sframe/autostitch-480p-240p-160p-10s.ivf",
    "av1/dav1d/8-bit/resize/av1-1-b8-03-sizeup.ivf",
];

/// Streams of the vectors that the clips cannot stand for: coded fields, which share a CAPTURE buffer by
/// V4L2_BUF_FLAG_M2M_HOLD_CAPTURE_BUF; 10 bit; frames of several sizes; hidden frames that are shown later.
const VECTORS: [(&str, &str); 6] = [
    ("h264/JVT-AVC_V1/CVFI2_SVA_C.264", "nv12"),
    ("h264/JVT-FR-EXT/HCAFF1_HHI.264", "nv12"),
    ("h264/goh264/high10_b_deblock_cabac.h264", "p010"),
    ("vp9/libvpx/vp90-2-10-show-existing-frame2.webm", "nv12"),
    ("av1/dav1d/8-bit/resize/av1-1-b8-03-sizeup.ivf", "nv12"),
    ("av1/dav1d/10-bit/quantizer/av1-1-b10-00-quantizer-22.ivf", "p010"),
];

/// Limits of a kernel: how long a pending call may take when something is killed, how long a guest, and the module's
/// parameters that go with it.
struct Limits {
    pending_ms: u32,
    life: Duration,
    parameters: &'static [&'static str],
}

/// `./dev test` has to pass on machines that are busy otherwise, where a blocked call says little: it allows calls this
/// much more time than `./dev torture`.
const QUICK_PATIENCE: u32 = 2;

fn limits(kernel: Kernel, quick: bool) -> Limits {
    let patience = if quick { QUICK_PATIENCE } else { 1 };
    match kernel {
        Kernel::Plain | Kernel::Image => Limits {
            pending_ms: 1000 * patience,
            life: Duration::from_secs(600),
            parameters: &[],
        },
        // What it counts, not how long that takes, is of interest.
        Kernel::Sanitizers | Kernel::Coverage => Limits {
            pending_ms: 3000 * patience,
            life: Duration::from_secs(1500),
            parameters: &["watchdog_ms=5000", "drain_ms=500", "worker_wait_ms=2500"],
        },
    }
}

/// Runs it; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let outcome = Outcome::new();
    let (list, _) = play::clips(bed)?;
    let clips = in_guest(bed, &list)?;
    if args.wants(Part::Life) {
        let lists = format!(
            "--clips {clips} --small {}",
            in_guest(bed, &play::small_clips(bed)?)?
        );
        for kernel in args.kernels() {
            life(bed, kernel, &lists, args, &outcome)?;
        }
    }
    if args.wants(Part::Damage) {
        streams::damage(bed, args, &outcome)?;
    }
    if args.wants(Part::Long) {
        streams::long(bed, args, &outcome)?;
    }
    if args.wants(Part::Reload) && args.kernels().any(|kernel| kernel == args.watchful()) {
        reload(bed, args, &clips, &outcome)?;
    }
    if args.wants(Part::Storm) {
        storm::run(bed, args, &clips, &outcome)?;
    }
    if args.wants(Part::Hostile) {
        hostile::run(bed, args, &clips, &outcome)?;
    }
    single::run(bed, args, &clips, &outcome)?;
    Ok(outcome)
}

/// Streams whose pictures change their size, as the guest sees them.
fn resized(bed: &Bed) -> Result<Vec<String>> {
    let folder = generated::folder(bed, true)?;
    let mut streams = Vec::new();
    for file in GENERATED {
        let codec = file.split('-').next().unwrap_or_default();
        let path = [folder.join(file), folder.join(codec).join(file)];
        let path = path.iter().find(|path| path.is_file());
        streams.push(in_guest(
            bed,
            path.with_context(|| format!("no generated {file}"))?,
        )?);
    }
    if bed.vectors().is_some() {
        streams.extend(RESIZED.iter().map(|stream| format!("/mnt/vectors/{stream}")));
    }
    Ok(streams)
}

/// All scenarios in one guest.
fn life(bed: &Bed, kernel: Kernel, lists: &str, args: &Args, outcome: &Outcome) -> Result<()> {
    let limits = limits(kernel, args.quick);
    let tool = format!(
        "daedalus-tests life {lists} --limit-ms {} --deadline {}",
        limits.pending_ms,
        limits.life.as_secs() / 3
    );
    let mut script = format!("daedalus_load {}\n", limits.parameters.join(" "));
    let scenarios: Vec<&str> = SCENARIOS
        .into_iter()
        .filter(|scenario| taken(scenario, kernel, args.quick))
        .collect();
    for scenario in &scenarios {
        let scenario = match *scenario {
            REPLACE => format!("{REPLACE} --replacements {}", args.replacements),
            SIZES => format!("{SIZES} {}", resized(bed)?.join(" ")),
            other => other.to_owned(),
        };
        script.push_str(&format!("{tool} {scenario} >>life.jsonl || true\n"));
    }
    let mut wanted: Vec<String> = scenarios.into_iter().map(String::from).collect();
    if args.quick && kernel == Kernel::Sanitizers {
        // Exactness again.
    } else if bed.vectors().is_some() {
        for (stream, layout) in VECTORS {
            let path = format!("/mnt/vectors/{stream}");
            script.push_str(&format!(
                "{tool} play {path} --reference {path}.{layout}.frames.md5 >>life.jsonl || true\n"
            ));
            wanted.push(format!("play {path}"));
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
        .timeout(limits.life)
        .mem_mib(LIFE_MIB);
    let result = guest::run(bed, &job)?;
    let lines = lines(&result.out_dir.join("life.jsonl"));
    for name in &wanted {
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

/// Loads and unloads in one guest.
fn reload(bed: &Bed, args: &Args, clips: &str, outcome: &Outcome) -> Result<()> {
    let (kernel, cycles) = (args.watchful(), args.cycles);
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

/// The lines of JSON that the scenarios printed.
struct Lines(Vec<Value>);

impl Lines {
    /// The line of a scenario; `play` has its stream behind its name.
    fn get_named(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|line| {
            let scenario = line["scenario"].as_str().unwrap_or_default();
            match line["stream"].as_str() {
                Some(stream) => format!("{scenario} {stream}") == name,
                None => scenario == name,
            }
        })
    }
}

fn lines(path: &Path) -> Lines {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    Lines(
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect(),
    )
}

/// One scenario's check; a scenario that printed nothing has failed.
fn record(outcome: &Outcome, name: &str, line: Option<&Value>) {
    let judged = || -> Result<String> {
        let line = line.context("it did not come to its end")?;
        if line["passed"].as_bool() != Some(true) {
            bail!("{}", line["error"].as_str().unwrap_or("it did not pass"));
        }
        let figures = line.as_object().into_iter().flatten();
        let shown = figures
            .filter(|(name, value)| value.is_number() && !["seconds", "limit_ms"].contains(&name.as_str()));
        Ok(shown
            .map(|(name, value)| format!("{name} {value}"))
            .collect::<Vec<_>>()
            .join(", "))
    };
    let seconds = line.and_then(|line| line["seconds"].as_f64()).unwrap_or_default();
    let (verdict, note) = match judged() {
        Ok(note) => (Verdict::Passed, note),
        Err(error) => (Verdict::Failed, format!("{error:#}")),
    };
    outcome.record(Check {
        name: name.to_owned(),
        verdict,
        note,
        seconds,
    });
}

/// Keeps what was measured in target/torture.
fn keep(bed: &Bed, name: &str, lines: &[Value], reports: &[String]) -> Result<()> {
    let path: PathBuf = bed.target.join("torture").join(format!("{name}.json"));
    write_json(&path, &json!({ "scenarios": lines, "kernel_reports": reports }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_read() {
        assert_eq!(percent("2%"), Ok(2));
        assert_eq!(percent("100"), Ok(100));
        assert!(percent("0").is_err() && percent("2 %").is_err() && percent("many").is_err());
    }

    #[test]
    fn a_missing_or_failed_scenario_fails() {
        let lines = Lines(vec![
            json!({ "scenario": "edges", "passed": true, "edges": 36, "seconds": 2.0 }),
            json!({ "scenario": "play", "stream": "a.ivf", "passed": false, "error": "not exact" }),
        ]);
        let outcome = Outcome::new();
        record(&outcome, "edges", lines.get_named("edges"));
        record(&outcome, "play a.ivf", lines.get_named("play a.ivf"));
        record(&outcome, "play b.ivf", lines.get_named("play b.ivf"));
        let checks = outcome.checks();
        assert_eq!(checks[0].verdict, Verdict::Passed);
        assert_eq!(checks[0].note, "edges 36");
        assert_eq!(checks[1].note, "not exact");
        assert_eq!(checks[2].verdict, Verdict::Failed);
    }
}
