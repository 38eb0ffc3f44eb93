// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Results of a part, with the machine on which it measured.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::site::files::read;

/// What a part has measured, and where.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PartResult<T> {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<T>,
}

/// The machine while it measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) kernel: String,
    /// Processes that ran or waited to run, over a minute, before and after. What is measured counts, too.
    pub(crate) load_before: f64,
    pub(crate) load_after: f64,
    pub(crate) seconds: f64,
}

impl Machine {
    pub(crate) fn text(&self) -> String {
        format!(
            "Measured in {:.0} s on {} processors ({}), Linux {}, load {:.1} before and {:.1} after.\n\n",
            self.seconds, self.processors, self.processor, self.kernel, self.load_before, self.load_after
        )
    }
}

/// Processes that run or wait to run, over a minute.
pub(crate) fn load() -> Result<f64> {
    let text = read(Path::new("/proc/loadavg"))?;
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .context("/proc/loadavg is not understood")
}

pub(crate) fn processor() -> Result<String> {
    let text = read(Path::new("/proc/cpuinfo"))?;
    let model = text.lines().find_map(|line| line.strip_prefix("model name"));
    Ok(model
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']))
        .unwrap_or("of an unknown model")
        .to_owned())
}
