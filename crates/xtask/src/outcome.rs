// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What checks found: one line each as they end, and a closing count.

use std::sync::Mutex;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::site::ui;

/// How one check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CheckResult {
    /// What had to hold was seen to hold.
    Passed,
    /// It does not hold, or could not be found out.
    Failed,
    /// It was not looked at; the note says why and how to have it looked at.
    Skipped,
}

/// One check that has ended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    /// Unique in a run, and stable between runs.
    pub(crate) name: String,
    /// How it ended.
    #[serde(rename = "verdict")]
    pub(crate) result: CheckResult,
    /// A figure, the reason of a failure or of a skip; may be empty.
    pub(crate) note: String,
    /// Wall clock in seconds.
    pub(crate) seconds: f64,
}

/// The checks of one run. Shared by threads: each check prints its line as it ends.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    checks: Mutex<Vec<Check>>,
}

impl Outcome {
    /// An empty set of checks, which [`Outcome::ok`] counts as failed.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Runs `body` as the check `name`. `Ok(note)` is a pass and `Err` a failure with the error's chain as
    /// note. Returns whether it passed.
    pub(crate) fn check(&self, name: &str, body: impl FnOnce() -> Result<String>) -> bool {
        let start = Instant::now();
        let (result, note) = match body() {
            Ok(note) => (CheckResult::Passed, note),
            Err(error) => (CheckResult::Failed, format!("{error:#}")),
        };
        self.record(Check {
            name: name.into(),
            result,
            note,
            seconds: start.elapsed().as_secs_f64(),
        });
        result == CheckResult::Passed
    }

    /// Records that `name` was not looked at, and why.
    pub(crate) fn skip(&self, name: &str, reason: &str) {
        self.record(Check {
            name: name.into(),
            result: CheckResult::Skipped,
            note: reason.into(),
            seconds: 0.0,
        });
    }

    /// Records a check that was made elsewhere, and prints its line.
    pub(crate) fn record(&self, check: Check) {
        let word = match check.result {
            CheckResult::Passed => "pass",
            CheckResult::Failed => "FAIL",
            CheckResult::Skipped => "skip",
        };
        let note = if check.note.is_empty() {
            String::new()
        } else {
            format!(": {}", check.note)
        };
        ui::line(&format!("{word} {:>6.1} s  {}{note}", check.seconds, check.name));
        self.lock().push(check);
    }

    /// Takes over the checks of another run whose lines are already printed.
    pub(crate) fn absorb(&self, other: Outcome) {
        self.lock().extend(other.into_checks());
    }

    /// The checks so far, in the order in which they ended.
    pub(crate) fn checks(&self) -> Vec<Check> {
        self.lock().clone()
    }

    fn into_checks(self) -> Vec<Check> {
        self.checks
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How many checks ended with `result`.
    pub(crate) fn count(&self, result: CheckResult) -> usize {
        self.lock().iter().filter(|check| check.result == result).count()
    }

    /// True when something passed and nothing failed.
    pub(crate) fn ok(&self) -> bool {
        self.count(CheckResult::Failed) == 0 && self.count(CheckResult::Passed) > 0
    }

    /// Prints the failures once more, and `N passed, N failed, N skipped`.
    pub(crate) fn print_summary(&self) {
        for check in self
            .lock()
            .iter()
            .filter(|check| check.result == CheckResult::Failed)
        {
            let reason = check.note.lines().next().unwrap_or_default();
            ui::line(&format!("failed: {}: {reason}", check.name));
        }
        ui::line(&format!(
            "{} passed, {} failed, {} skipped",
            self.count(CheckResult::Passed),
            self.count(CheckResult::Failed),
            self.count(CheckResult::Skipped)
        ));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Check>> {
        self.checks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_or_nothing_at_all_is_not_ok() {
        let outcome = Outcome::new();
        assert!(!outcome.ok());
        outcome.skip("c", "no vectors");
        assert!(!outcome.ok());
        assert!(outcome.check("a", || Ok("1 frame".into())));
        assert!(outcome.ok());
        assert!(!outcome.check("b", || anyhow::bail!("frames differ")));
        assert!(!outcome.ok());
        assert_eq!(outcome.checks()[2].note, "frames differ");
    }
}
