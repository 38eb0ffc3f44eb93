// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev bench`: what the device and the engine cost, against what a user would run instead. Ratios of runs
//! that alternate, so that they say something on a busy machine, too; never a check of `./dev test`.

mod clients;
pub(crate) mod clips;
mod dav1ddec;
mod device;
mod engine;
mod figures;
mod machine;
mod memory;
mod null;
mod options;
mod pipelines;
mod plot;
mod report;
mod runs;
mod stages;
mod stateful;
mod table;

use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::bed::Bed;
use crate::outcome::Outcome;
use crate::site::files::read;
use crate::site::ui;
use machine::{Machine, PartResult, load, processor};
pub(crate) use options::Args;
use options::Part;
use report::Results;

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
            Part::Stateful => measure(bed, args, part, stateful::measure),
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
    let (load_before, start) = (load()?, Instant::now());
    let rows = measure(bed, args)?;
    let result = PartResult {
        machine: Machine {
            processor: processor()?,
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            kernel: read(std::path::Path::new("/proc/sys/kernel/osrelease"))?
                .trim()
                .to_owned(),
            load_before,
            load_after: load()?,
            seconds: start.elapsed().as_secs_f64(),
        },
        rows,
    };
    report::keep(bed, part, &result)?;
    Ok(format!(
        "{} rows in target/bench/{}.json",
        result.rows.len(),
        part.name()
    ))
}
