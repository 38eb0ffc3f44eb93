// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Allocations that fail during a call: in turn, each that the call makes, or at random.

use std::collections::BTreeMap;
use std::fs::File;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::guest::figures::Figures;
use crate::random::Random;

/// More allocations than any call makes.
pub(super) const MOST: u64 = 3000;
/// Lives after which the sweep must have come to its end.
const LIVES: usize = 4000;
/// Lives in a row that must find no allocation that did not fail once. How often a life makes a call depends
/// on time, so one life may have calls that no other has.
const LIVES_WITHOUT_FAULT: usize = 3;

/// Calls that may be made again although they succeeded.
const REPEATABLE: [&str; 17] = [
    "QueryCap",
    "GFmt",
    "SFmt",
    "ReqBufs",
    "QueryBuf",
    "StreamOn",
    "StreamOff",
    "GCtrl",
    "SCtrl",
    "QueryCtrl",
    "QueryExtCtrl",
    "GExtCtrls",
    "SExtCtrls",
    "TryExtCtrls",
    "SubscribeEvent",
    "DecoderCmd",
    "Topology",
];

/// How far the sweep has come with one call of a life.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The allocation that fails next.
    next: u64,
    done: bool,
}

/// Makes allocations fail while calls are made.
#[derive(Debug)]
pub(super) struct Faults {
    /// /proc/thread-self/fail-nth: the number of the thread's allocation from now on that fails, 0 for none.
    nth: File,
    /// By a call's name, in the order in which a life makes the calls of that name.
    steps: BTreeMap<String, Vec<Step>>,
    /// Calls that the present life has made, by name.
    made: BTreeMap<String, usize>,
    /// Failures at random instead of in turn.
    pub(super) random: Option<Random>,
    /// Allocations that failed.
    pub(super) injected: u64,
    lives: usize,
    /// Error numbers that calls gave for it.
    errors: BTreeMap<i32, u64>,
}

impl Faults {
    /// Opens the thread's injection of faults.
    pub(super) fn new() -> Result<Self> {
        let path = "/proc/thread-self/fail-nth";
        let nth = File::options()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("{path}: the kernel injects no faults"))?;
        Ok(Self {
            nth,
            steps: BTreeMap::new(),
            made: BTreeMap::new(),
            random: None,
            injected: 0,
            lives: 0,
            errors: BTreeMap::new(),
        })
    }

    /// Has the thread's allocation number `nth` from now on fail; none if that is 0.
    pub(super) fn arm(&mut self, nth: u64) -> rustix::io::Result<()> {
        let text = nth.to_string();
        rustix::io::pwrite(&self.nth, text.as_bytes(), 0).map(drop)
    }

    /// Disarms, and returns whether the failure has happened.
    pub(super) fn happened(&mut self) -> bool {
        let mut text = [0; 24];
        let read = rustix::io::pread(&self.nth, &mut text, 0).unwrap_or_default();
        let left = std::str::from_utf8(&text[..read])
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok());
        let disarmed = self.arm(0);
        debug_assert!(disarmed.is_ok());
        left == Some(0)
    }

    /// Makes the next call of a life, again and again while it fails for an allocation that had to fail.
    pub(super) fn during<T>(
        &mut self,
        name: &str,
        mut call: impl FnMut() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        if let Some(rng) = &mut self.random {
            if rng.one_in(2) {
                let most = if rng.one_in(4) { 200 } else { 12 };
                let nth = 1 + rng.below(most);
                self.arm(nth)?;
                let result = call();
                if self.happened() {
                    self.injected += 1;
                }
                return result;
            }
            return call();
        }
        let made = self.made.entry(name.to_owned()).or_default();
        let at = *made;
        *made += 1;
        let steps = self.steps.entry(name.to_owned()).or_default();
        if at == steps.len() {
            steps.push(Step { next: 1, done: false });
        }
        let mut step = steps[at];
        let result = self.in_turn(name, &mut step, call);
        self.steps.entry(name.to_owned()).or_default()[at] = step;
        result
    }

    /// Makes a call with the failure that comes next in turn.
    fn in_turn<T>(
        &mut self,
        name: &str,
        step: &mut Step,
        mut call: impl FnMut() -> rustix::io::Result<T>,
    ) -> rustix::io::Result<T> {
        while !step.done && step.next <= MOST {
            self.arm(step.next)?;
            step.next += 1;
            let result = call();
            if !self.happened() {
                step.done = true;
                return result;
            }
            self.injected += 1;
            match result {
                Ok(_) if REPEATABLE.contains(&name) => {}
                // The next life goes on from here.
                Ok(_) => return result,
                Err(errno) => *self.errors.entry(errno.raw_os_error()).or_default() += 1,
            }
        }
        call()
    }
}

/// Notes what failed in the lives of `name`.
pub(super) fn note(name: &str, faults: &Faults, figures: &mut Figures) {
    let most = |steps: &Vec<Step>| steps.iter().map(|step| step.next.saturating_sub(2)).max();
    let allocations: BTreeMap<&String, _> = faults
        .steps
        .iter()
        .map(|(call, steps)| (call, most(steps)))
        .collect();
    figures.set(&format!("{name}_injected"), faults.injected);
    figures.set(
        &format!("{name}_calls"),
        faults.steps.values().map(Vec::len).sum::<usize>(),
    );
    figures.set(&format!("{name}_lives"), faults.lives);
    figures.set(&format!("{name}_allocations"), json!(allocations));
    figures.set(&format!("{name}_errors"), json!(faults.errors));
}

/// Repeats `life` until no call of it has an allocation left that did not fail once.
pub(super) fn sweep(mut faults: Faults, mut life: impl FnMut(Faults) -> Result<Faults>) -> Result<Faults> {
    let mut without = 0;
    for _ in 0..LIVES {
        let before = faults.injected;
        faults.made.clear();
        faults.lives += 1;
        faults = life(faults)?;
        without = if faults.injected == before { without + 1 } else { 0 };
        if without == LIVES_WITHOUT_FAULT {
            ensure!(faults.injected > 0, "no allocation failed");
            let endless = |(_, steps): &(&String, &Vec<Step>)| steps.iter().any(|step| step.next > MOST);
            if let Some((call, _)) = faults.steps.iter().find(endless) {
                bail!("{call} makes ever more allocations");
            }
            return Ok(faults);
        }
    }
    bail!(
        "after {LIVES} lives there are still calls with allocations: {:?}",
        faults.steps
    )
}
