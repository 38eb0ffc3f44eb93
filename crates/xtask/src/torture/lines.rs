// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the scenarios of a guest printed, as checks and as files of target/torture.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::outcome::{Check, CheckResult, Outcome};
use crate::site::files::write_json;

/// The lines of JSON that the scenarios printed.
pub(super) struct Lines(pub(super) Vec<Value>);

impl Lines {
    /// The line of a scenario; `play` has its stream behind its name.
    pub(super) fn get_named(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|line| {
            let scenario = line["scenario"].as_str().unwrap_or_default();
            match line["stream"].as_str() {
                Some(stream) => format!("{scenario} {stream}") == name,
                None => scenario == name,
            }
        })
    }
}

/// Reads the lines that the scenarios printed in a guest.
pub(super) fn lines(path: &Path) -> Lines {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    Lines(
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect(),
    )
}

/// One scenario's check; a scenario that printed nothing has failed.
pub(super) fn record(outcome: &Outcome, name: &str, line: Option<&Value>) {
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
    let (result, note) = match judged() {
        Ok(note) => (CheckResult::Passed, note),
        Err(error) => (CheckResult::Failed, format!("{error:#}")),
    };
    outcome.record(Check {
        name: name.to_owned(),
        result,
        note,
        seconds,
    });
}

/// Keeps what was measured in target/torture.
pub(super) fn keep(bed: &Bed, name: &str, lines: &[Value], reports: &[String]) -> Result<()> {
    let path: PathBuf = bed.target.join("torture").join(format!("{name}.json"));
    write_json(&path, &json!({ "scenarios": lines, "kernel_reports": reports }))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(checks[0].result, CheckResult::Passed);
        assert_eq!(checks[0].note, "edges 36");
        assert_eq!(checks[1].note, "not exact");
        assert_eq!(checks[2].result, CheckResult::Failed);
    }
}
