// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A check and its result.

use std::fmt;

use serde::Serialize;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// The check passed.
    Good,
    /// The check failed, and clients will fail.
    Bad,
    /// The thing is optional, or cannot be seen from here.
    Note,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    #[serde(rename = "verdict")]
    pub(super) status: Status,
    pub(super) found: String,
    /// The command that repairs it.
    #[serde(rename = "mend")]
    pub(super) fix: Option<String>,
}

impl Check {
    pub(super) fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Good,
            found: found.into(),
            fix: None,
        }
    }

    pub(super) fn bad(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Bad,
            found: found.into(),
            fix: Some(fix.into()),
        }
    }

    pub(super) fn note(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Note,
            found: found.into(),
            fix: None,
        }
    }
}

impl fmt::Display for Check {
    /// Writes the lines for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.status {
            Status::Good => "ok  ",
            Status::Bad => "FAIL",
            Status::Note => "note",
        };
        writeln!(f, "{mark} {}: {}", self.name, self.found)?;
        match &self.fix {
            Some(fix) => writeln!(f, "     mend it: {fix}"),
            None => Ok(()),
        }
    }
}
