// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The figures that scenarios measure, and the line of JSON with which each of them ends.

use std::time::{Duration, Instant};

use anyhow::Result;
use daedalus_client::device::Longest;
use serde_json::{Map, Value, json};

use super::debugfs;

/// The figures of a scenario, for its line of JSON.
#[derive(Debug, Default)]
pub(crate) struct Figures(Map<String, Value>);

impl Figures {
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    /// Notes a duration in milliseconds; the longest under one name counts.
    pub(crate) fn longest(&mut self, name: &str, duration: Duration) {
        let ms = duration.as_secs_f64() * 1000.0;
        let before = self.0.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        self.set(name, (ms.max(before) * 10.0).round() / 10.0);
    }

    /// Adds to a number.
    pub(crate) fn add(&mut self, name: &str, number: usize) {
        let before = self.0.get(name).and_then(Value::as_u64).unwrap_or_default();
        self.set(name, before + number as u64);
    }

    /// Notes a number; the largest under one name counts.
    pub(crate) fn most(&mut self, name: &str, number: usize) {
        let before = self.0.get(name).and_then(Value::as_u64).unwrap_or_default();
        self.set(name, before.max(number as u64));
    }

    /// Notes a session's longest calls.
    pub(crate) fn calls(&mut self, longest: Longest) {
        self.longest("longest_call_ms", longest.call);
        self.longest("longest_wait_ms", longest.wait);
    }

    /// Prints the line of a scenario that began at `start`.
    pub(crate) fn print(self, scenario: &str, start: Instant, result: &Result<()>) {
        let mut line = Map::new();
        line.insert("scenario".into(), scenario.into());
        line.insert("passed".into(), result.is_ok().into());
        let seconds = (start.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        line.insert("seconds".into(), seconds.into());
        if let Err(error) = result {
            line.insert("error".into(), format!("{error:#}").into());
        }
        line.extend(self.0);
        println!("{}", Value::Object(line));
    }
}

/// Ends the process if the scenario is still running after `deadline`: then a call hangs.
pub(crate) fn guard(name: &'static str, deadline: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(deadline);
        let line = json!({
            "scenario": name,
            "passed": false,
            "error": format!("still running after {} s", deadline.as_secs()),
        });
        println!("{line}");
        if let Ok(sessions) = debugfs::sessions() {
            eprintln!("sessions at that time: {sessions:#?}");
        }
        std::process::exit(3);
    });
}
