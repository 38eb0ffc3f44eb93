// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clients and daemons that break every rule, failing allocations, and memory that others brought. Run in the guest
//! with the sanitizer kernel, whose log says whether the module kept its head: here is only seen that it was put to
//! the test, and that nothing hung.
//!
//! Each scenario prints one line of JSON with what it measured. The seed is among it: with the same one every process
//! makes the same choices, as far as the answers are the same.

mod client;
mod daemon;
mod exhaust;
mod imports;
mod ioctls;
mod leaks;
mod nth;
mod orders;
pub(crate) mod random;
mod raw;
mod silent;
mod stall;
mod table;
mod victim;
mod worker;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use crate::figures::{Figures, guard};
use crate::life::clip::{Clip, Clips};

/// Arguments of `daedalus-tests hostile`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    common: Common,
}

/// What all scenarios take.
#[derive(Clone, Debug, clap::Args)]
struct Common {
    /// The generated clips' list (clips.json).
    #[arg(long, global = true, value_name = "FILE", default_value = "clips.json")]
    clips: PathBuf,
    /// Of all random choices.
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
    /// Seconds after which the scenario is taken for hung.
    #[arg(long, global = true, default_value_t = 600)]
    deadline: u64,
    /// Where the daemon's log goes.
    #[arg(long, global = true, default_value = "daedalusd.log")]
    broker_log: PathBuf,
}

impl Common {
    /// A small clip of each codec.
    fn small_clips(&self) -> Result<Vec<Clip>> {
        let clips = Clips::load(&self.clips)?;
        ["vp9-qvga", "h264-qvga", "av1-qvga"]
            .map(|name| clips.clip(name))
            .into_iter()
            .collect()
    }
}

#[derive(Debug, clap::Subcommand)]
enum Scenario {
    /// Structured ioctls on the video and media nodes, with a daemon that works.
    Ioctls(ioctls::Options),
    /// A process of it.
    #[command(hide = true)]
    IoctlsProcess(ioctls::ProcessOptions),
    /// A process that uses a descriptor of another.
    #[command(hide = true)]
    IoctlsRacer(ioctls::ProcessOptions),
    /// A daemon that answers nonsense, with clients that run against it.
    Daemon(daemon::Options),
    /// That daemon's broker.
    #[command(hide = true)]
    DaemonBroker(daemon::BrokerOptions),
    /// That daemon's worker, whose session is its standard input.
    #[command(hide = true)]
    DaemonWorker(worker::Options),
    /// A client that runs against it until its standard input ends.
    #[command(hide = true)]
    DaemonClient(daemon::ClientOptions),
    /// Every allocation of every call of a session's life fails once; then random ones.
    FailNth(nth::Options),
    /// DMABUF memory of all kinds, good and bad.
    Imports(imports::ImportOptions),
    /// Calls that give back what they took, or are refused halfway, again and again: nothing is left of them.
    Leaks(leaks::Options),
    /// Descriptors and mappings of a session, closed in any order by several threads.
    Orders(orders::Options),
    /// A session plays on whatever others do.
    Stall(stall::Options),
    /// Whom it plays beside, until its standard input ends.
    #[command(hide = true)]
    StallVictim,
    /// Memory and requests without end, taken by an unprivileged user.
    Exhaust(exhaust::Options),
    /// That user's client, until its standard input ends.
    #[command(hide = true)]
    ExhaustClient(exhaust::ClientOptions),
}

/// Runs the chosen scenario.
///
/// # Errors
///
/// What was not as it has to be, in plain words.
pub(crate) fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    let mut figures = Figures::default();
    let begun = Instant::now();
    let (name, result) = match &args.scenario {
        Scenario::IoctlsProcess(options) => return ioctls::process(common, options),
        Scenario::IoctlsRacer(options) => return ioctls::racer(common, options),
        Scenario::DaemonBroker(options) => return daemon::broker(common, options),
        Scenario::DaemonWorker(options) => return worker::run(common, options),
        Scenario::DaemonClient(options) => return daemon::client(common, options),
        Scenario::StallVictim => return victim::process(common),
        Scenario::ExhaustClient(options) => return exhaust::client(common, options),
        Scenario::Ioctls(options) => {
            guard("ioctls", Duration::from_secs(common.deadline));
            ("ioctls", ioctls::run(common, options, &mut figures))
        }
        Scenario::Daemon(options) => {
            guard("hostile-daemon", Duration::from_secs(common.deadline));
            ("hostile-daemon", daemon::run(common, options, &mut figures))
        }
        Scenario::FailNth(options) => {
            guard("fail-nth", Duration::from_secs(common.deadline));
            ("fail-nth", nth::run(common, options, &mut figures))
        }
        Scenario::Imports(options) => {
            guard("imports", Duration::from_secs(common.deadline));
            ("imports", imports::run(common, options, &mut figures))
        }
        Scenario::Leaks(options) => {
            guard("leaks", Duration::from_secs(common.deadline));
            ("leaks", leaks::run(common, options, &mut figures))
        }
        Scenario::Orders(options) => {
            guard("orders", Duration::from_secs(common.deadline));
            ("orders", orders::run(common, options, &mut figures))
        }
        Scenario::Stall(options) => {
            guard("stall", Duration::from_secs(common.deadline));
            ("stall", stall::run(common, options, &mut figures))
        }
        Scenario::Exhaust(options) => {
            guard("exhaust", Duration::from_secs(common.deadline));
            ("exhaust", exhaust::run(common, options, &mut figures))
        }
    };
    figures.set("seed", common.seed);
    figures.print(name, begun, &result);
    result
}

/// Starts this program again, as a part of a scenario. What it prints is for [`ended`].
fn start(common: &Common, role: &str, words: &[String], stdin: Stdio) -> Result<Child> {
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

/// Waits for a part's end; what it reports, on its last line.
fn ended<T: DeserializeOwned>(child: Child, role: &str) -> Result<T> {
    let output = child.wait_with_output().context("waiting for a process")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .last()
        .with_context(|| format!("{role} said nothing: {}", output.status))?;
    serde_json::from_str(line).with_context(|| format!("{role}: {line}"))
}
