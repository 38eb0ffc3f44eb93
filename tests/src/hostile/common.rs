// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The arguments of every scenario, and the processes of which one consists.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use crate::guest::clip::{Clip, Clips};

/// The arguments of all scenarios.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Common {
    /// The generated clips' list (clips.json).
    #[arg(long, global = true, value_name = "FILE", default_value = "clips.json")]
    pub(super) clips: PathBuf,
    /// Of all random choices.
    #[arg(long, global = true, default_value_t = 1)]
    pub(super) seed: u64,
    /// Seconds after which the scenario is taken for hung.
    #[arg(long, global = true, default_value_t = 600)]
    pub(super) deadline: u64,
    /// Where the daemon's log goes.
    #[arg(long, global = true, default_value = "daedalusd.log")]
    pub(super) broker_log: PathBuf,
}

impl Common {
    /// Reads a small clip of each codec.
    pub(super) fn small_clips(&self) -> Result<Vec<Clip>> {
        Clips::load(&self.clips)?.every_usual_first("qvga")
    }
}

/// Starts this program again, as a part of a scenario. Its output is for [`ended`].
pub(super) fn start(common: &Common, role: &str, words: &[String], stdin: Stdio) -> Result<Child> {
    let program = std::env::current_exe().context("this program's own path")?;
    Command::new(program)
        .args(["hostile", role])
        .args(words)
        .arg(format!("--clips={}", common.clips.display()))
        .arg(format!("--seed={}", common.seed))
        .stdin(stdin)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {role}"))
}

/// Waits for a part's end, and returns the report on its last line.
pub(super) fn ended<T: DeserializeOwned>(child: Child, role: &str) -> Result<T> {
    let output = child.wait_with_output().context("waiting for a process")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .last()
        .with_context(|| format!("{role} said nothing: {}", output.status))?;
    serde_json::from_str(line).with_context(|| format!("{role}: {line}"))
}
