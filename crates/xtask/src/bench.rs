// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev bench`: what the device and the engine cost, against what a user would run instead. Ratios of runs that
//! alternate, so that they say something on a busy machine, too; never a check of `./dev test`.

mod clients;
pub(crate) mod clips;
mod dav1ddec;
mod device;
mod engine;
mod figures;
mod memory;
mod null;
mod pipelines;
mod plot;
mod report;
mod runs;
mod stages;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bed::{Bed, read};
use crate::guest::{self, GuestJob};
use crate::outcome::Outcome;
use crate::ui;
use report::{Results, Table};

/// What there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// What a job costs beside decoding: time, system calls, bytes, with the null backend
    Null,
    /// Through the device in the guest, against software in the same guest
    Device,
    /// The engine alone, against ffmpeg and dav1d, and its threads against one
    Engine,
    /// 1, 4 and 16 clients at once
    Clients,
    /// A worker's private memory by owner
    Memory,
    /// Instructions by callgrind: against ffmpeg, and by stage
    Stages,
}

impl Part {
    const ALL: [Self; 6] = [
        Self::Null,
        Self::Device,
        Self::Engine,
        Self::Clients,
        Self::Memory,
        Self::Stages,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Device => "device",
            Self::Engine => "engine",
            Self::Clients => "clients",
            Self::Memory => "memory",
            Self::Stages => "stages",
        }
    }
}

/// Begins a script in the guest: what limits the time of a job is not measured, and a busy machine starts workers slowly.
const PATIENT: &str = "daedalus_load watchdog_ms=10000 worker_wait_ms=10000\n";
/// The codecs as clips name them.
const CODECS: [&str; 3] = ["h264", "vp9", "av1"];

/// Arguments of `./dev bench`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// What to measure; everything if nothing is named
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Alternating runs of each comparison; one more comes before, and does not count
    #[arg(long, default_value_t = 7, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    runs: usize,
    /// How often a clip is played in a row within a run, instead of each part's own number
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    times: Option<usize>,
    /// Only this codec
    #[arg(long, value_parser = CODECS)]
    codec: Option<String>,
    /// Size of the clips of `device`; the targets are for 1080p
    #[arg(long, default_value = "1080p", value_parser = ["1080p", "480p", "360p", "240p", "qvga"])]
    size: String,
    /// Processors of the guest of `device` and `clients`
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4))]
    cpus: u32,
    /// `engine` decodes 4K, too
    #[arg(long)]
    large: bool,
    /// A target that is not met is a failure
    #[arg(long)]
    strict: bool,
    /// Measure nothing: tables, plots and targets of what was measured before
    #[arg(long, conflicts_with = "parts")]
    report: bool,
    /// Put the tables and plots of all parts that were measured into docs/performance.md
    #[arg(long)]
    document: bool,
}

impl Args {
    fn times(&self, own: usize) -> usize {
        self.times.unwrap_or(own)
    }

    fn takes(&self, codec: &str) -> bool {
        self.codec.as_deref().is_none_or(|only| only == codec)
    }
}

/// What a part has measured, and where.
#[derive(Debug, Serialize, Deserialize)]
struct Measured<T> {
    machine: Machine,
    rows: Vec<T>,
}

/// The machine while it measured.
#[derive(Debug, Serialize, Deserialize)]
struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
    /// Processes that ran or waited to run, over a minute, before and after. What is measured counts, too.
    load_before: f64,
    load_after: f64,
    seconds: f64,
}

impl Machine {
    fn text(&self) -> String {
        format!(
            "Measured in {:.0} s on {} processors ({}), Linux {}, load {:.1} before and {:.1} after.\n\n",
            self.seconds, self.processors, self.processor, self.kernel, self.load_before, self.load_after
        )
    }
}

/// Processes that run or wait to run, over a minute.
fn load() -> Result<f64> {
    let text = read(std::path::Path::new("/proc/loadavg"))?;
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .context("/proc/loadavg is not understood")
}

fn processor() -> Result<String> {
    let text = read(std::path::Path::new("/proc/cpuinfo"))?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    Ok(model
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']))
        .unwrap_or("of an unknown model")
        .to_owned())
}

/// Runs it; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let outcome = Outcome::new();
    std::fs::create_dir_all(bed.target.join("bench"))?;
    for part in Part::ALL {
        if args.report || !args.parts.is_empty() && !args.parts.contains(&part) {
            continue;
        }
        outcome.check(&format!("bench: {}", part.name()), || match part {
            Part::Null => measure(bed, args, part, null::measure),
            Part::Device => measure(bed, args, part, device::measure),
            Part::Engine => measure(bed, args, part, engine::measure),
            Part::Clients => measure(bed, args, part, clients::measure),
            Part::Memory => measure(bed, args, part, memory::measure),
            Part::Stages => measure(bed, args, part, stages::measure),
        });
    }
    let results = Results::load(bed)?;
    outcome.check("bench: tables and plots", || {
        results.write(bed, args.document)?;
        Ok("target/bench/bench.md".to_owned())
    });
    ui::line("targets, of the newest results of every part:");
    for target in results.targets() {
        let line = format!(
            "{:12}  {:>9}  {:>7}  {}",
            target.verdict(),
            target.bound.text(),
            target.shown(),
            target.what
        );
        ui::line(&format!("  {line}"));
        if args.strict && !target.wish {
            outcome.check(&target.what, || match target.met() {
                Some(true) => Ok(target.shown()),
                _ => bail!(
                    "{} ({}): {}",
                    target.verdict(),
                    target.bound.text(),
                    target.shown()
                ),
            });
        }
    }
    Ok(outcome)
}

/// Measures a part and keeps what came of it.
fn measure<T: Serialize>(
    bed: &Bed,
    args: &Args,
    part: Part,
    measure: impl FnOnce(&Bed, &Args) -> Result<Vec<T>>,
) -> Result<String> {
    // Nothing is to be built while time is taken.
    bed.binaries()?;
    let (load_before, begun) = (load()?, Instant::now());
    let rows = measure(bed, args)?;
    let measured = Measured {
        machine: Machine {
            processor: processor()?,
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: read(std::path::Path::new("/proc/sys/kernel/osrelease"))?
                .trim()
                .to_owned(),
            load_before,
            load_after: load()?,
            seconds: begun.elapsed().as_secs_f64(),
        },
        rows,
    };
    report::keep(bed, part, &measured)?;
    Ok(format!(
        "{} rows in target/bench/{}.json",
        measured.rows.len(),
        part.name()
    ))
}

/// Runs a job that leaves lines of JSON in `lines.jsonl`.
fn guest_lines<T: DeserializeOwned>(bed: &Bed, job: &GuestJob) -> Result<Vec<T>> {
    let result = guest::run(bed, job)?;
    result.judge()?;
    read(&result.out_dir.join("lines.jsonl"))?
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("malformed line: {line}")))
        .collect()
}

/// A codec's name for people.
fn name_of(codec: &str) -> String {
    match codec {
        "h264" => "H.264",
        "vp9" => "VP9",
        "av1" => "AV1",
        other => other,
    }
    .to_owned()
}

/// The files' names without their directories.
fn names_of_files(paths: &BTreeSet<String>) -> Vec<String> {
    let names: BTreeSet<&str> = paths
        .iter()
        .map(|path| path.rsplit('/').next().unwrap_or_default())
        .collect();
    names.into_iter().map(str::to_owned).collect()
}
