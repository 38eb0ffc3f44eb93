// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The arguments of every scenario, and the limit on how long a call may take.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daedalus_client::device::Nodes;

use crate::guest::broker::Broker;
use crate::guest::clip::Clips;
use crate::guest::module::with_parameter;

/// The module's parameter with the watchdog's time.
pub(super) const WATCHDOG: &str = "watchdog_ms";

/// The arguments of all scenarios.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// The generated clips' list (clips.json).
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) clips: Option<PathBuf>,
    /// The small clips' list.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) small: Option<PathBuf>,
    /// Milliseconds within which every pending call has to return when something was killed.
    #[arg(long, global = true, default_value_t = 1000)]
    pub(super) limit_ms: u64,
    /// Seconds after which the scenario is taken for hung.
    #[arg(long, global = true, default_value_t = 300)]
    pub(super) deadline: u64,
    /// Where the broker's log goes.
    #[arg(long, global = true, default_value = "daedalusd.log")]
    pub(super) broker_log: PathBuf,
}

impl Common {
    pub(super) fn clips(&self) -> Result<Clips> {
        Clips::load(self.clips.as_deref().context("this scenario needs --clips")?)
    }

    pub(super) fn small(&self) -> Result<Clips> {
        Clips::load(self.small.as_deref().context("this scenario needs --small")?)
    }

    pub(super) fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms)
    }
}

impl Broker {
    /// Starts one and waits until it serves the device.
    ///
    /// # Errors
    ///
    /// As [`Broker::start_logged`].
    pub(super) fn start(common: &Common) -> Result<(Self, Nodes)> {
        Self::start_with(common, &[])
    }

    /// Starts one as [`Broker::start`] does, with further arguments.
    ///
    /// # Errors
    ///
    /// As [`Broker::start_logged`].
    pub(super) fn start_with(common: &Common, args: &[&str]) -> Result<(Self, Nodes)> {
        Self::start_logged(&common.broker_log, args)
    }
}

/// Fails unless `duration` is within `limit`.
pub(super) fn within(what: &str, duration: Duration, limit: Duration) -> Result<()> {
    if duration > limit {
        bail!(
            "{what} took {} ms, and {} ms are allowed",
            duration.as_millis(),
            limit.as_millis()
        );
    }
    Ok(())
}

/// Which cases of a scenario run with which codecs.
#[derive(Debug, clap::Args)]
pub(super) struct TurnArgs {
    /// Run each case with one codec, the codecs taking turns, instead of each case with each codec.
    #[arg(long)]
    in_turn: bool,
}

impl TurnArgs {
    /// Returns whether a case runs with a codec. Both are numbers, and there are `codecs` codecs.
    pub(super) fn take(&self, case: usize, codec: usize, codecs: usize) -> bool {
        !self.in_turn || case % codecs == codec
    }
}

/// The watchdog's time while a scenario runs.
#[derive(Debug, clap::Args)]
pub(super) struct WatchdogArgs {
    /// The watchdog's time meanwhile, in milliseconds; the module's own without it.
    #[arg(long)]
    watchdog_ms: Option<u64>,
}

impl WatchdogArgs {
    /// Sets the watchdog's time, runs `scenario` with it, and sets the time from before again.
    ///
    /// # Errors
    ///
    /// Those of `scenario`, and when the module refuses the time.
    pub(super) fn run(&self, scenario: impl FnOnce(Duration) -> Result<()>) -> Result<()> {
        with_parameter(WATCHDOG, self.watchdog_ms, |watchdog_ms| {
            scenario(Duration::from_millis(watchdog_ms))
        })
    }
}
