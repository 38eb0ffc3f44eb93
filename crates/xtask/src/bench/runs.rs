// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Alternating runs by `daedalus-measure alternate`: the plan that it reads and the rows that it writes
//! (measure/src/alternate.rs is the other side).

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::figures::Spread;
use crate::bed::Bed;
use crate::guest::{self, GuestJob};
use crate::site::files::read;

/// Begins a script in the guest: what limits the time of a job is not measured, and a busy machine starts
/// workers slowly.
pub(crate) const PATIENT: &str = "daedalus_load watchdog_ms=10000 worker_wait_ms=10000\n";

/// What is to be run.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    /// Rounds that count.
    pub(crate) runs: usize,
    pub(crate) commands: Vec<Entry>,
}

/// A command.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// Program and arguments.
    pub(crate) words: Vec<String>,
    /// So many at once.
    pub(crate) copies: usize,
    /// What leaves a checksum of the same pictures; may be empty.
    pub(crate) proof: Vec<String>,
    /// In which file; `None` if GStreamer's videocodectestsink posts it.
    pub(crate) checksum: Option<String>,
}

impl Entry {
    /// A command without a proof, in words separated by spaces.
    pub(crate) fn new(name: &str, command: &str) -> Self {
        Self {
            name: name.to_owned(),
            words: words(command),
            copies: 1,
            proof: Vec::new(),
            checksum: None,
        }
    }

    /// So many at once.
    pub(crate) fn copies(mut self, copies: usize) -> Self {
        self.copies = copies;
        self
    }

    /// With a proof that writes a checksum to a file, or posts it.
    pub(crate) fn proof(mut self, command: &str, checksum: Option<&str>) -> Self {
        self.proof = words(command);
        self.checksum = checksum.map(str::to_owned);
        self
    }
}

fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

/// What a run took, in seconds.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// 0 does not count.
    pub(crate) round: usize,
    pub(crate) wall: f64,
    pub(crate) each: Vec<f64>,
    pub(crate) user: f64,
    pub(crate) system: f64,
    pub(crate) workers: f64,
    pub(crate) broker: f64,
    pub(crate) kernel_threads: f64,
    pub(crate) printed: String,
    pub(crate) libraries: BTreeSet<String>,
    pub(crate) checksum: Option<String>,
}

impl Row {
    /// Processor time of the command and of the workers that decoded for it.
    pub(crate) fn cpu(&self) -> f64 {
        self.user + self.system + self.workers
    }

    /// That, of the broker and of the kernel's own threads, too.
    pub(crate) fn all_cpu(&self) -> f64 {
        self.cpu() + self.broker + self.kernel_threads
    }
}

/// All rows of a plan.
#[derive(Debug)]
pub(crate) struct Rows(Vec<Row>);

impl Rows {
    /// Reads what was written.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        read(path)?
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("malformed row: {line}")))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// The rows of a command that count, by round.
    pub(crate) fn of(&self, name: &str) -> Result<Vec<&Row>> {
        let mut rows: Vec<&Row> = self
            .0
            .iter()
            .filter(|row| row.name == name && row.round > 0)
            .collect();
        rows.sort_by_key(|row| row.round);
        ensure!(!rows.is_empty(), "{name} was not run");
        Ok(rows)
    }

    /// The spread of a figure.
    pub(crate) fn spread(&self, name: &str, figure: impl Fn(&Row) -> f64) -> Result<Spread> {
        Spread::of(self.of(name)?.into_iter().map(figure).collect())
    }

    /// The spread of the ratios of a figure of two commands in the same round.
    pub(crate) fn ratio(&self, over: &str, under: &str, figure: impl Fn(&Row) -> f64) -> Result<Spread> {
        let (over, under) = (self.of(over)?, self.of(under)?);
        ensure!(
            over.len() == under.len(),
            "{} and {} runs cannot be compared",
            over.len(),
            under.len()
        );
        let pairs = over.iter().zip(under);
        Spread::of(pairs.map(|(over, under)| figure(over) / figure(under)).collect())
    }

    /// The decoder libraries that a command had loaded, or its workers.
    pub(crate) fn libraries(&self, name: &str) -> BTreeSet<String> {
        self.0
            .iter()
            .filter(|row| row.name == name)
            .flat_map(|row| row.libraries.iter().cloned())
            .collect()
    }

    /// The one checksum that all proofs of these commands left, in every round.
    pub(crate) fn equal_checksum(&self, names: &[&str]) -> Result<String> {
        let mut sums = BTreeSet::new();
        for row in self.0.iter().filter(|row| names.contains(&row.name.as_str())) {
            let sum = row.checksum.as_deref();
            sums.insert(sum.with_context(|| format!("{} left no checksum", row.name))?);
        }
        ensure!(
            sums.len() == 1,
            "the outputs of {} differ: {sums:?}",
            names.join(", ")
        );
        Ok(sums.into_iter().next().unwrap_or_default().to_owned())
    }
}

/// Runs a job that leaves lines of JSON in `lines.jsonl`.
pub(crate) fn guest_lines<T: DeserializeOwned>(bed: &Bed, job: &GuestJob) -> Result<Vec<T>> {
    let result = guest::run(bed, job)?;
    result.judge()?;
    read(&result.out_dir.join("lines.jsonl"))?
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("malformed line: {line}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, round: usize, wall: f64, checksum: &str) -> Row {
        Row {
            name: name.into(),
            round,
            wall,
            each: vec![wall],
            user: 0.0,
            system: 0.0,
            workers: 0.0,
            broker: 0.0,
            kernel_threads: 0.0,
            printed: String::new(),
            libraries: BTreeSet::new(),
            checksum: Some(checksum.into()),
        }
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let rows = Rows(vec![
            row("a", 0, 100.0, "x"),
            row("b", 1, 2.0, "x"),
            row("a", 1, 1.0, "x"),
            row("a", 2, 4.0, "x"),
            row("b", 2, 4.0, "x"),
        ]);
        let ratio = rows.ratio("a", "b", |row| row.wall).unwrap();
        assert_eq!((ratio.median, ratio.runs), (0.75, 2));
        assert_eq!(rows.equal_checksum(&["a", "b"]).unwrap(), "x");
        assert!(rows.of("c").is_err());
    }

    #[test]
    fn other_pictures_are_an_error() {
        let rows = Rows(vec![row("a", 1, 1.0, "x"), row("b", 1, 1.0, "y")]);
        assert!(rows.equal_checksum(&["a", "b"]).is_err());
        assert!(rows.equal_checksum(&["a"]).is_ok());
    }
}
