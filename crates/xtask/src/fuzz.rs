// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev fuzz`: the targets of fuzz/, built with libFuzzer's coverage in the Debian root and run there for a
//! time.
//!
//! The first inputs come from the traces that `./dev replay` records; what a run finds is kept under
//! target/fuzz and is the next run's beginning.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use daedalus_uapi::Codec;
use serde_json::json;

use crate::bed::Bed;
use crate::codecs;
use crate::make::root;
use crate::outcome::Outcome;
use crate::site::cmd::last_lines;
use crate::site::files::{read, write_json};
use crate::site::ui;

/// A target.
#[derive(Debug)]
struct Target {
    name: String,
    /// The program of fuzz/fuzz_targets that has it, and the codec that the program is told.
    program: &'static str,
    codec: Option<Codec>,
    /// Bytes of the longest input.
    longest: u32,
}

/// The program that has a target for each codec with headers.
const HEADERS: &str = "headers";
/// The others, with the bytes of the longest input.
const MESSAGES: (&str, u32) = ("messages", 16_384);
const TRACE: (&str, u32) = ("trace", 65_536);
const JOBS: (&str, u32) = ("jobs", 262_144);
/// All programs.
const PROGRAMS: [&str; 4] = [MESSAGES.0, HEADERS, TRACE.0, JOBS.0];

/// Returns all targets.
fn targets() -> Result<Vec<Target>> {
    let alone = |(program, longest): (&'static str, u32)| Target {
        name: program.to_owned(),
        program,
        codec: None,
        longest,
    };
    let mut targets = vec![alone(MESSAGES)];
    targets.extend(codecs::rows()?.iter().filter_map(|row| {
        Some(Target {
            name: format!("{}_{HEADERS}", row.codec),
            program: HEADERS,
            codec: Some(row.codec),
            longest: row.longest?,
        })
    }));
    targets.extend([TRACE, JOBS].map(alone));
    Ok(targets)
}

/// What rustc is told so that libFuzzer sees edges and comparisons; the stable compiler can do this, and what
/// it cannot do, the address sanitizer, would not see into the C libraries anyway.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks";

/// Runs its arguments, and says how long processors worked for them.
const TIMED: &str = "TIMEFORMAT='processor time: %U %S'; time \"$@\"";

/// The part of the wanted processor time that is enough: the last second is not worth another start.
const ENOUGH: f64 = 0.95;

/// Arguments of `./dev fuzz`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Which targets; all if none is named
    targets: Vec<String>,
    /// Seconds of processor time for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Targets that run at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

impl Args {
    /// What `./dev test` runs.
    pub(crate) fn quick() -> Self {
        Self {
            targets: Vec::new(),
            seconds: 12,
            jobs: 2,
        }
    }
}

/// Runs it; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let targets = targets()?;
    let names: Vec<&str> = targets.iter().map(|target| target.name.as_str()).collect();
    for name in &args.targets {
        ensure!(
            names.contains(&name.as_str()),
            "the targets are {}, not {name}",
            names.join(", ")
        );
    }
    let outcome = Outcome::new();
    let dir = bed.target.join("fuzz");
    std::fs::create_dir_all(&dir)?;
    let programs = build(bed, &dir)?;
    seed(bed, &dir, &outcome)?;
    let selection = targets
        .iter()
        .filter(|target| args.targets.is_empty() || args.targets.contains(&target.name));
    let queue = std::sync::Mutex::new(selection.collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.pop());
                    let Some(next) = next else { return };
                    outcome.check(&format!("fuzz {} ({} s)", next.name, args.seconds), || {
                        target(bed, &dir, &programs, next, args.seconds)
                    });
                }
            });
        }
    });
    Ok(outcome)
}

/// The program that makes inputs, which has nobody to count its edges for.
fn build_seeds(bed: &Bed, dir: &Path) -> Result<PathBuf> {
    let target = dir.join("seeds");
    bed.command("cargo")?
        .args([
            "build",
            "--release",
            "--locked",
            "--offline",
            "-p",
            "daedalus-fuzz",
            "--bin",
            "fuzz-seeds",
        ])
        .arg("--target-dir")
        .arg(root::inside(bed, &target))
        .log(dir.join("seeds.log"))
        .run()
        .context("building fuzz-seeds failed")?;
    Ok(target.join("release/fuzz-seeds"))
}

/// Builds the targets; the directory in which they are.
fn build(bed: &Bed, dir: &Path) -> Result<PathBuf> {
    let _step = ui::Step::begin("building the fuzz targets (2-4 minutes)");
    let log = dir.join("build.log");
    std::fs::remove_file(&log).ok();
    let target = dir.join("build");
    bed.command("env")?
        .arg(format!("RUSTFLAGS={COVERAGE}"))
        .args([
            "cargo",
            "build",
            "--release",
            "--locked",
            "--offline",
            "-p",
            "daedalus-fuzz",
        ])
        .args(PROGRAMS.iter().flat_map(|name| ["--bin", *name]))
        // Named, so that build scripts and procedural macros are built without coverage.
        .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir"])
        .arg(root::inside(bed, &target))
        .log(&log)
        .run()
        .context("building the fuzz targets failed")?;
    Ok(target.join("x86_64-unknown-linux-gnu/release"))
}

/// Puts inputs from traces into the corpora.
fn seed(bed: &Bed, dir: &Path, outcome: &Outcome) -> Result<()> {
    let traces = match std::fs::read_dir(bed.target.join("replay/traces")) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?,
        Err(_) => Vec::new(),
    };
    if traces.is_empty() {
        outcome.skip(
            "fuzz: inputs from traces",
            "no trace was recorded here: run ./dev replay first",
        );
        return Ok(());
    }
    let mut cmd = bed
        .command(root::inside(bed, &build_seeds(bed, dir)?))?
        .arg(root::inside(bed, &dir.join("corpus")))
        .log(dir.join("seeds.log"));
    for trace in &traces {
        cmd = cmd.arg(root::inside(bed, trace));
    }
    cmd.run().context("making inputs from traces")
}

/// Runs one target. A crash, a hang of a minute or too much memory is a failure that names the input.
fn target(bed: &Bed, dir: &Path, programs: &Path, target: &Target, seconds: u32) -> Result<String> {
    let Target {
        name,
        program,
        codec,
        longest,
    } = target;
    let corpus = dir.join("corpus").join(name);
    let found = dir.join("found").join(name);
    std::fs::create_dir_all(&corpus)?;
    if found.exists() {
        std::fs::remove_dir_all(&found)?;
    }
    std::fs::create_dir_all(&found)?;
    let log = dir.join(format!("{name}.log"));
    std::fs::remove_file(&log).ok();
    let arguments = [
        format!("-artifact_prefix={}/", root::inside(bed, &found).display()),
        format!("-max_len={longest}"),
        "-timeout=60".into(),
        "-rss_limit_mb=6000".into(),
        "-print_final_stats=1".into(),
        "-verbosity=1".into(),
    ];
    let mut used = 0.0;
    let mut clean = true;
    // libFuzzer counts real time, of which a busy machine gives it a part: what is left is run again.
    while clean && used < f64::from(seconds) * ENOUGH {
        let left = (f64::from(seconds) - used).ceil();
        let exit = bed
            .command("bash")?
            .args(["-c", TIMED, "fuzz", "env"])
            .args(codec.map(|codec| format!("DAEDALUS_FUZZ_CODEC={codec}")))
            .arg(root::inside(bed, &programs.join(program)))
            .arg(root::inside(bed, &corpus))
            .args(&arguments)
            .arg(format!("-max_total_time={left}"))
            .log(&log)
            .timeout(Duration::from_secs(u64::from(seconds) + 120))
            .status()?;
        clean = exit.status.success() && !exit.timed_out;
        let before = used;
        used = processor_seconds(&read(&log)?);
        clean &= used > before;
    }
    let text = read(&log)?;
    let inputs: Vec<String> = std::fs::read_dir(&found)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    let runs = stats(&text, "number_of_executed_units").sum::<u64>();
    write_json(
        &dir.join(format!("{name}.json")),
        &json!({
            "target": name,
            "processor_seconds": used,
            "runs": runs,
            "new_inputs": stats(&text, "new_units_added").sum::<u64>(),
            "peak_rss_mb": stats(&text, "peak_rss_mb").max(),
            "found": inputs,
        }),
    )?;
    if !clean || !inputs.is_empty() {
        bail!(
            "inputs {} under {}; the log ({}) ends:\n{}",
            inputs.join(", "),
            found.display(),
            log.display(),
            last_lines(&text, 20)
        );
    }
    ensure!(runs > 0, "nothing was run ({})", log.display());
    Ok(format!("{runs} runs in {used:.0} s of processor time, no crash"))
}

/// A figure of libFuzzer's final statistics, of each time that it was run.
fn stats<'a>(log: &'a str, name: &'a str) -> impl Iterator<Item = u64> + use<'a> {
    log.lines()
        .filter_map(|line| line.strip_prefix("stat::")?.split_once(':'))
        .filter(move |(key, _)| *key == name)
        .filter_map(|(_, value)| value.trim().parse().ok())
}

/// The processor time of everything that [`TIMED`] ran, in seconds.
fn processor_seconds(log: &str) -> f64 {
    log.lines()
        .filter_map(|line| line.strip_prefix("processor time:"))
        .flat_map(str::split_whitespace)
        .filter_map(|figure| figure.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_program_and_every_codec_of_it_is_run() {
        let files = |folder: &str| -> BTreeSet<String> {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../fuzz")
                .join(folder);
            let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
            paths
                .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(files("fuzz_targets"), BTreeSet::from(PROGRAMS.map(str::to_owned)));
        let mut codecs = files("src/codecs");
        codecs.retain(|name| name.parse::<Codec>().is_ok());
        let targets = targets().unwrap();
        let run = targets
            .iter()
            .filter_map(|target| Some(target.codec?.name().to_owned()));
        assert_eq!(codecs, run.collect::<BTreeSet<_>>());
        let programs = targets.iter().map(|target| target.program);
        assert_eq!(programs.collect::<BTreeSet<_>>(), BTreeSet::from(PROGRAMS));
    }

    #[test]
    fn figures_are_read() {
        let log = "#2 INITED\nstat::number_of_executed_units: 123\nstat::peak_rss_mb:              45\n\
                   processor time: 1.250 0.500\n\
                   stat::number_of_executed_units: 7\nprocessor time: 2.000 0.250\n";
        assert_eq!(stats(log, "number_of_executed_units").sum::<u64>(), 130);
        assert_eq!(stats(log, "peak_rss_mb").max(), Some(45));
        assert_eq!(stats(log, "new_units_added").count(), 0);
        assert!((processor_seconds(log) - 4.0).abs() < 1e-9);
    }
}
