// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev test`: every check there is, in two lanes.
//!
//! While the main lane checks and builds the programs, the other one makes the kernels and what is built
//! against them. Then the main lane runs what counts real time, one guest after the other. What does not
//! count it is in a queue, from which the other lane takes as soon as the kernels are there, and the main
//! lane when it has nothing else to do.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use crate::bed::Bed;
use crate::make::kernel::Kernel;
use crate::outcome::{CheckResult, Outcome};
use crate::site::ui;
use crate::{
    amd64, build, command_line, compliance, conformance, demo, docs, foreign, fuzz, ioctls, lint, replay,
    results, torture,
};

/// Arguments of `./dev test`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// Guests that run at the same time
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    guests: u8,
}

/// The parts of the suite in the order of their ends, and the seconds that each took. Two lanes run at a
/// time.
#[derive(Default)]
struct Parts(Mutex<Vec<(String, f64)>>);

impl Parts {
    /// Runs a part and keeps its time.
    fn time<T>(&self, name: &str, part: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = part();
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.push((name.to_owned(), start.elapsed().as_secs_f64()));
        result
    }

    fn into_list(self) -> Vec<(String, f64)> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part that boots guests, or needs what guests recorded.
struct Part<'a> {
    name: String,
    run: Box<dyn FnOnce() -> Result<Outcome> + Send + 'a>,
}

impl<'a> Part<'a> {
    fn new(name: impl Into<String>, run: impl FnOnce() -> Result<Outcome> + Send + 'a) -> Self {
        Self {
            name: name.into(),
            run: Box::new(run),
        }
    }
}

/// The parts that do not count real time, the first to be taken first.
type Queue<'a> = Mutex<VecDeque<Part<'a>>>;

/// MiB of available memory with which two guests run at the same time.
const FOR_TWO_MIB: u64 = 10 * 1024;

/// Runs everything; the results go to target/test/results.json, too.
pub(crate) fn run(bed: &Bed, args: &Args, parse: docs::Parse) -> Result<Outcome> {
    let start = Instant::now();
    std::fs::create_dir_all(bed.target.join("test"))?;
    std::fs::remove_file(bed.target.join("test/results.json")).ok();
    build::announce(bed, &[Kernel::Plain, Kernel::Sanitizers])?;
    bed.host.ready()?;
    let (outcome, parts) = (Outcome::new(), Parts::default());
    let torture_args = &torture::Args::quick();
    let queue: Queue<'_> = Mutex::default();
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
        let licences = Part::new("licences", move || {
            let outcome = Outcome::new();
            lint::licences(bed, &outcome);
            Ok(outcome)
        });
        if !built {
            group(&outcome, &parts, licences);
            joined(kernels, &outcome);
            return;
        }
        let (timed, patient) = torture::guests(torture_args)
            .into_iter()
            .partition::<Vec<_>, _>(|guest| guest.is_timed());
        let of_guest = move |guest: torture::Guest| {
            Part::new(format!("torture: {guest}"), move || guest.run(bed, torture_args))
        };
        let amd64 = Part::new("amd64", move || amd64::run(bed, &amd64::Args::quick()));
        locked(&queue).push_back(amd64);
        locked(&queue).extend(patient.into_iter().map(of_guest));
        locked(&queue).push_back(licences);
        scope.spawn(|| {
            joined(kernels, &outcome);
            if args.guests > 1 && host_has_memory(FOR_TWO_MIB) {
                // Less than the guests that count time, more than what only uses up time.
                rustix::process::nice(5).ok();
                drain(&queue, &outcome, &parts);
            }
        });
        for part in guests(bed, parse) {
            group(&outcome, &parts, part);
        }
        // Its inputs come from the traces of the replay.
        let fuzz = Part::new("fuzz", move || fuzz::run(bed, &fuzz::Args::quick()));
        locked(&queue).push_back(fuzz);
        for part in timed.into_iter().map(of_guest) {
            group(&outcome, &parts, part);
        }
        drain(&queue, &outcome, &parts);
    });
    let parts = parts.into_list();
    for (name, seconds) in &parts {
        ui::note(&format!("{seconds:6.0} s  {name}"));
    }
    write_results(bed, &outcome, &parts, start)?;
    ui::note(&format!(
        "{:.0} s; results in target/test/results.json",
        start.elapsed().as_secs_f64()
    ));
    Ok(outcome)
}

/// Waits for the kernels.
fn joined(kernels: ScopedJoinHandle<'_, ()>, outcome: &Outcome) {
    if kernels.join().is_err() {
        outcome.check("kernels", || anyhow::bail!("ended by a panic"));
    }
}

fn locked<'q, 'a>(queue: &'q Queue<'a>) -> std::sync::MutexGuard<'q, VecDeque<Part<'a>>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs parts of the queue until there is none.
fn drain(queue: &Queue<'_>, outcome: &Outcome, parts: &Parts) {
    loop {
        // Not in the loop's condition: the lock would be held while the part runs.
        let next = locked(queue).pop_front();
        let Some(part) = next else { return };
        group(outcome, parts, part);
    }
}

/// Returns whether this machine has so much memory available, in MiB.
fn host_has_memory(mib: u64) -> bool {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.is_some_and(|kib| kib >> 10 >= mib)
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
    parts.time("checkpatch", || lint::checkpatch(bed, outcome));
    group(outcome, parts, Part::new("modules", move || foreign::run(bed)));
}

/// What counts real time, in guests with the plain kernel.
fn guests(bed: &Bed, parse: docs::Parse) -> Vec<Part<'_>> {
    let mut parts = vec![
        Part::new("compliance", move || {
            let outcome = compliance::run(bed, Kernel::Plain)?;
            let reason = "minutes a codec; `./dev compliance` does it here, and stock kernels have it below";
            outcome.skip("compliance of the stateful node", reason);
            let reason = "minutes a codec; `./dev torture life` does it, and each edge has one codec below";
            outcome.skip("every edge of the stateful node with every codec", reason);
            Ok(outcome)
        }),
        Part::new("demo", move || demo::run(bed, &demo::Args::quick())),
    ];
    parts.extend(
        conformance::Args::tests()
            .into_iter()
            .map(|args| Part::new("conformance", move || conformance::run(bed, &args))),
    );
    parts.extend([
        Part::new("ioctls", move || ioctls::run(bed)),
        Part::new("command line", move || {
            command_line::run(bed, &command_line::Args::default())
        }),
        Part::new("docs", move || docs::run(bed, &docs::Args::quick(), parse)),
        Part::new("replay", move || replay::run(bed, &replay::Args::default())),
    ]);
    parts
}

/// Runs a part and takes over its checks; what kept it from running at all is a failure.
fn group(outcome: &Outcome, parts: &Parts, part: Part<'_>) {
    let name = part.name;
    match parts.time(&name, part.run) {
        Ok(checks) if checks.checks().is_empty() => {
            outcome.check(&name, || anyhow::bail!("it checked nothing"));
        }
        Ok(checks) => outcome.absorb(checks),
        Err(error) => {
            outcome.check(&name, || Err(error));
        }
    }
}

fn write_results(bed: &Bed, outcome: &Outcome, parts: &[(String, f64)], start: Instant) -> Result<()> {
    let fields = json!({
        "passed": outcome.count(CheckResult::Passed),
        "failed": outcome.count(CheckResult::Failed),
        "skipped": outcome.count(CheckResult::Skipped),
        "parts": parts,
    });
    results::write(&bed.target.join("test/results.json"), start, fields, outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lanes_drain_the_queue_and_nothing_runs_twice() {
        let (outcome, parts) = (Outcome::new(), Parts::default());
        let queue: Queue<'_> = Mutex::default();
        for number in 0..20 {
            locked(&queue).push_back(Part::new(format!("part {number}"), move || {
                let own = Outcome::new();
                own.check(&format!("check {number}"), || Ok(String::new()));
                Ok(own)
            }));
        }
        locked(&queue).push_back(Part::new("empty", || Ok(Outcome::new())));
        locked(&queue).push_back(Part::new("broken", || anyhow::bail!("no guest")));
        std::thread::scope(|scope| {
            scope.spawn(|| drain(&queue, &outcome, &parts));
            drain(&queue, &outcome, &parts);
        });
        let mut names: Vec<String> = outcome.checks().into_iter().map(|check| check.name).collect();
        names.sort();
        names.dedup();
        assert_eq!((names.len(), outcome.count(CheckResult::Failed)), (22, 2));
        assert_eq!(parts.into_list().len(), 22);
    }
}
