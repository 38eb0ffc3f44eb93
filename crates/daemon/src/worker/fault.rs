// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Faults that a worker makes on purpose, for the tests of clients and of the module.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One fault: the job at which it happens, and the misbehaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// The job's id, which counts from 1 within a session; `None` is every job.
    job: Option<u64>,
    pub(crate) action: Action,
}

/// The misbehaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// Sleep before the job is decoded.
    Stall(Duration),
    /// Abort the worker before the job is decoded.
    Crash,
    /// Decode the job, but report an error.
    Error,
    /// Decode the job, and never answer it: the module's watchdog ends it, and the worker.
    Drop,
}

impl Fault {
    /// Returns whether the fault concerns the job with this id.
    pub(crate) fn hits(&self, job: u64) -> bool {
        self.job.is_none_or(|own| own == job)
    }
}

/// The text is no fault.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("expected stall:JOB:MS, crash:JOB, error:JOB or drop:JOB, where JOB is a number or \"all\"")]
pub(crate) struct FaultError;

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut words = text.split(':');
        let mut word = || words.next().ok_or(FaultError);
        let (name, job) = (word()?, word()?);
        let job = match job {
            "all" => None,
            number => Some(number.parse().map_err(|_| FaultError)?),
        };
        let action = match name {
            "stall" => Action::Stall(Duration::from_millis(word()?.parse().map_err(|_| FaultError)?)),
            "crash" => Action::Crash,
            "error" => Action::Error,
            "drop" => Action::Drop,
            _ => return Err(FaultError),
        };
        match words.next() {
            None => Ok(Self { job, action }),
            Some(_) => Err(FaultError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        for (text, job, action) in [
            (
                "stall:7:1500",
                Some(7),
                Action::Stall(Duration::from_millis(1500)),
            ),
            ("stall:all:1", None, Action::Stall(Duration::from_millis(1))),
            ("crash:1", Some(1), Action::Crash),
            ("crash:all", None, Action::Crash),
            ("drop:3", Some(3), Action::Drop),
            ("error:18446744073709551615", Some(u64::MAX), Action::Error),
        ] {
            let fault: Fault = text.parse().unwrap();
            assert_eq!(fault, Fault { job, action });
            // As the fork server gets it.
            let sent = serde_json::to_string(&fault).unwrap();
            assert_eq!(serde_json::from_str::<Fault>(&sent).unwrap(), fault);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "crash",
            "crash:",
            "crash:-1",
            "crash:1:2",
            "stall:1",
            "stall:1:x",
            "burn:1",
            "error:1:",
        ] {
            assert_eq!(text.parse::<Fault>(), Err(FaultError), "{text:?}");
        }
    }

    #[test]
    fn a_fault_hits_its_job_only() {
        let one: Fault = "error:3".parse().unwrap();
        assert!(one.hits(3) && !one.hits(2));
        let all: Fault = "error:all".parse().unwrap();
        assert!(all.hits(1) && all.hits(u64::MAX));
    }
}
