// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev test`: every check there is, in two lanes: the kernels and what is built against them, and
//! everything else. The guests run as soon as they have what they need, while the sanitizer kernel may still
//! be building.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use crate::bed::Bed;
use crate::make::kernel::Kernel;
use crate::outcome::{Outcome, Verdict};
use crate::site::ui;
use crate::{
    amd64, build, command_line, compliance, conformance, demo, docs, foreign, fuzz, ioctls, lint, replay,
    results, torture,
};

/// Arguments of `./dev test`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {}

/// The parts of the suite in the order of their ends, and the seconds that each took. Two lanes run at a
/// time.
#[derive(Default)]
struct Parts(Mutex<Vec<(String, f64)>>);

impl Parts {
    /// Runs a part and keeps its time.
    fn time<T>(&self, name: &str, part: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = part();
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push((name.to_owned(), started.elapsed().as_secs_f64()));
        result
    }

    fn into_list(self) -> Vec<(String, f64)> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs everything; the results go to target/test/results.json, too.
pub(crate) fn run(bed: &Bed, _args: &Args, parse: docs::Parse) -> Result<Outcome> {
    let started = Instant::now();
    std::fs::create_dir_all(bed.target.join("test"))?;
    std::fs::remove_file(bed.target.join("test/results.json")).ok();
    build::announce(bed, &[Kernel::Plain, Kernel::Sanitizers])?;
    bed.host.ready()?;
    let (outcome, parts) = (Outcome::new(), Parts::default());
    std::thread::scope(|scope| {
        let kernels = scope.spawn(|| kernels(bed, &outcome, &parts));
        parts.time("lint", || {
            lint::files(bed, &outcome);
            docs::marked(bed, &outcome, parse);
            lint::rust(bed, &outcome);
        });
        parts.time("unit tests", || lint::unit_tests(bed, &outcome));
        let built = parts.time("daemon and tools", || {
            outcome.check("daemon and tools build", || {
                bed.binaries()?;
                Ok(String::new())
            })
        });
        if built {
            guests(bed, &outcome, &parts, parse);
        }
        parts.time("crates", || lint::licences(bed, &outcome));
        if kernels.join().is_err() {
            outcome.check("kernels", || anyhow::bail!("ended by a panic"));
        }
        if built {
            group(&outcome, &parts, "torture", || {
                torture::run(bed, &torture::Args::quick())
            });
        }
    });
    let parts = parts.into_list();
    for (name, seconds) in &parts {
        ui::note(&format!("{seconds:6.0} s  {name}"));
    }
    write_results(bed, &outcome, &parts, started)?;
    ui::note(&format!(
        "{:.0} s; results in target/test/results.json",
        started.elapsed().as_secs_f64()
    ));
    Ok(outcome)
}

/// The lane of the kernels. What it starts gives way to the guests of the other lane: their clients and their
/// watchdog count real time.
fn kernels(bed: &Bed, outcome: &Outcome, parts: &Parts) {
    // A thread's niceness is its own on Linux, and is inherited. Failing to be nice is no failure.
    rustix::process::nice(10).ok();
    for which in [Kernel::Plain, Kernel::Sanitizers] {
        parts.time(&format!("{which} kernel"), || {
            outcome.check(&format!("{which} kernel and module build"), || {
                bed.module(which)?;
                Ok(bed.kernel_source()?.version)
            });
            lint::warnings(bed, outcome, which);
        });
    }
    lint::checkpatch(bed, outcome);
    group(outcome, parts, "modules", || foreign::run(bed));
}

/// What runs in guests with the plain kernel, and with a distribution's.
fn guests(bed: &Bed, outcome: &Outcome, parts: &Parts, parse: docs::Parse) {
    group(outcome, parts, "compliance", || {
        compliance::run(bed, Kernel::Plain)
    });
    group(outcome, parts, "demo", || demo::run(bed, &demo::Args::quick()));
    for args in conformance::Args::tests() {
        group(outcome, parts, "conformance", || conformance::run(bed, &args));
    }
    group(outcome, parts, "ioctls", || ioctls::run(bed));
    group(outcome, parts, "amd64", || amd64::run(bed, &amd64::Args::quick()));
    group(outcome, parts, "command line", || {
        command_line::run(bed, &command_line::Args::default())
    });
    group(outcome, parts, "docs", || {
        docs::run(bed, &docs::Args::quick(), parse)
    });
    group(outcome, parts, "replay", || {
        replay::run(bed, &replay::Args::default())
    });
    // Its inputs come from the traces of the replay.
    group(outcome, parts, "fuzz", || fuzz::run(bed, &fuzz::Args::quick()));
}

/// Takes over the checks of one part; what kept the part from running at all is a failure.
fn group(outcome: &Outcome, parts: &Parts, name: &str, part: impl FnOnce() -> Result<Outcome>) {
    match parts.time(name, part) {
        Ok(checks) if checks.checks().is_empty() => {
            outcome.check(name, || anyhow::bail!("it checked nothing"));
        }
        Ok(checks) => outcome.absorb(checks),
        Err(error) => {
            outcome.check(name, || Err(error));
        }
    }
}

fn write_results(bed: &Bed, outcome: &Outcome, parts: &[(String, f64)], started: Instant) -> Result<()> {
    let fields = json!({
        "passed": outcome.count(Verdict::Passed),
        "failed": outcome.count(Verdict::Failed),
        "skipped": outcome.count(Verdict::Skipped),
        "parts": parts,
    });
    results::write(&bed.target.join("test/results.json"), started, fields, outcome)
}
