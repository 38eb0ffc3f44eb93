// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev test`: every check there is, in two lanes: the kernels and what is built against them, and everything
//! else. The guests run as soon as they have what they need, while the sanitizer kernel may still be building.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use crate::bed::Bed;
use crate::cache::write_whole;
use crate::guest::Kernel;
use crate::outcome::{Outcome, Verdict};
use crate::{
    amd64, build, command_line, compliance, conformance, demo, docs, foreign, fuzz, ioctls, lint, replay, torture,
    ui,
};

/// Arguments of `./dev test`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {}

/// Runs everything; the results go to target/test/results.json, too.
pub(crate) fn run(bed: &Bed, _args: &Args) -> Result<Outcome> {
    let started = Instant::now();
    std::fs::create_dir_all(bed.target.join("test"))?;
    std::fs::remove_file(bed.target.join("test/results.json")).ok();
    build::announce(bed, &[Kernel::Plain, Kernel::Sanitizers])?;
    bed.host.ready()?;
    let outcome = Outcome::new();
    std::thread::scope(|scope| {
        let kernels = scope.spawn(|| kernels(bed, &outcome));
        lint::files(bed, &outcome);
        docs::marked(bed, &outcome);
        lint::rust(bed, &outcome);
        lint::unit_tests(bed, &outcome);
        let built = outcome.check("daemon and tools build", || {
            bed.binaries()?;
            Ok(String::new())
        });
        if built {
            guests(bed, &outcome);
        }
        lint::crates(bed, &outcome);
        if kernels.join().is_err() {
            outcome.check("kernels", || anyhow::bail!("ended by a panic"));
        }
        if built {
            group(&outcome, "torture", || torture::run(bed, &torture::Args::quick()));
        }
    });
    write_results(bed, &outcome, started)?;
    ui::note(&format!(
        "{:.0} s; results in target/test/results.json",
        started.elapsed().as_secs_f64()
    ));
    Ok(outcome)
}

/// The lane of the kernels. What it starts gives way to the guests of the other lane: their clients and their watchdog
/// count real time.
fn kernels(bed: &Bed, outcome: &Outcome) {
    // A thread's niceness is its own on Linux, and is inherited. Failing to be nice is no failure.
    rustix::process::nice(10).ok();
    for which in [Kernel::Plain, Kernel::Sanitizers] {
        outcome.check(&format!("{which} kernel and module build"), || {
            bed.module(which)?;
            Ok(bed.kernel_source()?.version)
        });
        lint::module(bed, outcome, which);
    }
    lint::checkpatch(bed, outcome);
    group(outcome, "modules", || foreign::run(bed));
}

/// What runs in guests with the plain kernel, and with a distribution's.
fn guests(bed: &Bed, outcome: &Outcome) {
    group(outcome, "compliance", || compliance::run(bed, Kernel::Plain));
    group(outcome, "demo", || demo::run(bed, &demo::Args::quick()));
    for args in conformance::Args::tests() {
        group(outcome, "conformance", || conformance::run(bed, &args));
    }
    group(outcome, "ioctls", || ioctls::run(bed));
    group(outcome, "amd64", || amd64::run(bed, &amd64::Args::quick()));
    group(outcome, "command line", || {
        command_line::run(bed, &command_line::Args::default())
    });
    group(outcome, "docs", || docs::run(bed, &docs::Args::quick()));
    group(outcome, "replay", || replay::run(bed, &replay::Args::default()));
    // Its inputs come from the traces of the replay.
    group(outcome, "fuzz", || fuzz::run(bed, &fuzz::Args::quick()));
}

/// Takes over the checks of one part; what kept the part from running at all is a failure.
fn group(outcome: &Outcome, name: &str, part: impl FnOnce() -> Result<Outcome>) {
    match part() {
        Ok(checks) if checks.checks().is_empty() => {
            outcome.check(name, || anyhow::bail!("it checked nothing"));
        }
        Ok(checks) => outcome.absorb(checks),
        Err(error) => {
            outcome.check(name, || Err(error));
        }
    }
}

fn write_results(bed: &Bed, outcome: &Outcome, started: Instant) -> Result<()> {
    let results = json!({
        "passed": outcome.count(Verdict::Passed),
        "failed": outcome.count(Verdict::Failed),
        "skipped": outcome.count(Verdict::Skipped),
        "seconds": started.elapsed().as_secs_f64(),
        "checks": outcome.checks(),
    });
    write_whole(
        &bed.target.join("test/results.json"),
        &serde_json::to_string_pretty(&results)?,
    )
}
