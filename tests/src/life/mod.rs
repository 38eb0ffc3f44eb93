// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kills, reloads, several clients at once, and what no real client does: scenarios with the small client,
//! which run in the guest. The module is loaded by whoever calls; the broker is started here (in `reload`,
//! the module too).
//!
//! Each scenario prints one line of JSON with what it measured. Its exit status is 0 only if everything
//! that it looked for was seen.

mod caches;
mod clients;
pub(crate) mod clip;
mod colour;
pub(crate) mod daemon;
mod damage;
pub(crate) mod debugfs;
mod edges;
mod foreign;
mod formats;
mod freeze;
pub(crate) mod isolation;
mod kills;
mod long;
mod memory;
mod playing;
mod random;
mod reload;
mod rig;
mod sessions;
mod sizes;
mod storm;
mod storm_client;
mod variants;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::figures::{Figures, guard};
use clip::Clips;

/// Arguments of `daedalus-tests life`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    common: Common,
}

/// What all scenarios take.
#[derive(Debug, clap::Args)]
struct Common {
    /// The generated clips' list (clips.json).
    #[arg(long, global = true, value_name = "FILE")]
    clips: Option<PathBuf>,
    /// The small clips' list.
    #[arg(long, global = true, value_name = "FILE")]
    small: Option<PathBuf>,
    /// Milliseconds within which every pending call has to return when something was killed.
    #[arg(long, global = true, default_value_t = 1000)]
    limit_ms: u64,
    /// Seconds after which the scenario is taken for hung.
    #[arg(long, global = true, default_value_t = 300)]
    deadline: u64,
    /// Where the broker's log goes.
    #[arg(long, global = true, default_value = "daedalusd.log")]
    broker_log: PathBuf,
}

impl Common {
    fn clips(&self) -> Result<Clips> {
        Clips::load(self.clips.as_deref().context("this scenario needs --clips")?)
    }

    fn small(&self) -> Result<Clips> {
        Clips::load(self.small.as_deref().context("this scenario needs --small")?)
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.limit_ms)
    }
}

#[derive(Debug, clap::Subcommand)]
enum Scenario {
    /// One exact VP9 frame through the kernel.
    FirstFrame,
    /// A whole stream of each codec, in mapped and imported memory and all picture formats.
    Streams,
    /// Plays a stream and compares it with a list of checksums.
    Play(playing::PlayArgs),
    /// Four sessions at once, two on one codec.
    FourClients,
    /// Workers killed in the middle of a stream.
    KillWorker(kills::WorkerArgs),
    /// The broker killed, and started again.
    KillBroker,
    /// `V4L2_DEC_CMD_FLUSH` and a held CAPTURE buffer.
    FlushHeld,
    /// What may be closed, stopped, freed and kept in any order.
    Edges,
    /// What the workers' sandbox refuses, tried from inside.
    Sandbox,
    /// SIGSTOP of a worker.
    StopWorker,
    /// Workers without memory.
    StarveWorker,
    /// Workers that crash at every job.
    CrashLoop,
    /// Sessions aborted from outside.
    Abort,
    /// The broker replaced while jobs are in flight.
    ReplaceBroker(isolation::ReplaceArgs),
    /// Limits on sessions and memory.
    Limits,
    /// Contiguous and scattered memory.
    Memory,
    /// What 64 sessions at once cost.
    ManySessions,
    /// Clients killed, and what is left of them.
    VanishedClient,
    /// A client of it, until it is killed or its standard input ends.
    #[command(hide = true)]
    SessionsClient(sessions::ClientArgs),
    /// All processes frozen, or the daemon or a client alone (needs a kernel that can be suspended).
    Freeze(freeze::FreezeArgs),
    /// What devices that do not snoop would see (needs the module of testbed/caches).
    Caches,
    /// Every CAPTURE format, at odd sizes, 8 and 10 bit.
    Formats,
    /// Pictures of several sizes in one session.
    Sizes(sizes::SizesArgs),
    /// The colours of OUTPUT and CAPTURE.
    Colour,
    /// One clip again and again, and the worker's memory.
    Long(long::LongArgs),
    /// Damaged jobs in the second of four groups of pictures.
    Damage(damage::DamageArgs),
    /// Loads, serves, decodes, stops and unloads, again and again.
    Reload(reload::ReloadArgs),
    /// Four clients, while workers, brokers and clients are killed and stopped at random.
    Storm(storm::StormArgs),
    /// A client of it, until its standard input ends.
    #[command(hide = true)]
    StormClient(storm_client::ClientArgs),
}

impl Scenario {
    fn name(&self) -> &'static str {
        match self {
            Self::FirstFrame => "first-frame",
            Self::Streams => "streams",
            Self::Play(_) => "play",
            Self::FourClients => "four-clients",
            Self::KillWorker(_) => "kill-worker",
            Self::KillBroker => "kill-broker",
            Self::FlushHeld => "flush-held",
            Self::Edges => "edges",
            Self::Sandbox => "sandbox",
            Self::StopWorker => "stop-worker",
            Self::StarveWorker => "starve-worker",
            Self::CrashLoop => "crash-loop",
            Self::Abort => "abort",
            Self::ReplaceBroker(_) => "replace-broker",
            Self::Limits => "limits",
            Self::Memory => "memory",
            Self::ManySessions => "many-sessions",
            Self::VanishedClient => "vanished-client",
            Self::SessionsClient(_) => "sessions-client",
            Self::Freeze(_) => "freeze",
            Self::Caches => "caches",
            Self::Formats => "formats",
            Self::Sizes(_) => "sizes",
            Self::Colour => "colour",
            Self::Long(_) => "long",
            Self::Damage(_) => "damage",
            Self::Reload(_) => "reload",
            Self::Storm(_) => "storm",
            Self::StormClient(_) => "storm-client",
        }
    }
}

/// Runs the chosen scenario.
///
/// # Errors
///
/// What was not as it has to be, in plain words.
pub(crate) fn run(args: &Args) -> Result<()> {
    let name = args.scenario.name();
    guard(name, Duration::from_secs(args.common.deadline));
    let mut figures = Figures::default();
    let begun = Instant::now();
    let common = &args.common;
    let result = match &args.scenario {
        Scenario::FirstFrame => playing::first_frame(common, &mut figures),
        Scenario::Streams => playing::streams(common, &mut figures),
        Scenario::Play(play) => playing::play(common, play, &mut figures),
        Scenario::FourClients => clients::four_clients(common, &mut figures),
        Scenario::KillWorker(worker) => kills::kill_worker(common, worker, &mut figures),
        Scenario::KillBroker => kills::kill_broker(common, &mut figures),
        Scenario::FlushHeld => edges::flush_held(common, &mut figures),
        Scenario::Edges => edges::edges(common, &mut figures),
        Scenario::Sandbox => isolation::sandbox(common, &mut figures),
        Scenario::StopWorker => isolation::stop_worker(common, &mut figures),
        Scenario::StarveWorker => isolation::starve_worker(common, &mut figures),
        Scenario::CrashLoop => isolation::crash_loop(common, &mut figures),
        Scenario::Abort => isolation::abort(common, &mut figures),
        Scenario::ReplaceBroker(replace) => isolation::replace_broker(common, replace, &mut figures),
        Scenario::Limits => isolation::limits(common, &mut figures),
        Scenario::Memory => memory::memory(common, &mut figures),
        Scenario::ManySessions => sessions::many_sessions(common, &mut figures),
        Scenario::VanishedClient => sessions::vanished_client(common, &mut figures),
        Scenario::SessionsClient(client) => return sessions::client(common, client),
        Scenario::Freeze(args) => freeze::freeze(common, args, &mut figures),
        Scenario::Caches => caches::caches(common, &mut figures),
        Scenario::Formats => formats::formats(common, &mut figures),
        Scenario::Sizes(args) => sizes::sizes(common, args, &mut figures),
        Scenario::Colour => colour::colour(common, &mut figures),
        Scenario::Long(args) => long::long(common, args, &mut figures),
        Scenario::Damage(damage) => damage::damage_groups(common, damage, &mut figures),
        Scenario::Reload(reload) => reload::reload(common, reload, &mut figures),
        Scenario::Storm(storm) => storm::storm(common, storm, &mut figures),
        Scenario::StormClient(client) => return storm_client::run(common, client),
    };
    figures.print(name, begun, &result);
    result
}

/// Fails unless `duration` is within `limit`.
fn within(what: &str, duration: Duration, limit: Duration) -> Result<()> {
    if duration > limit {
        bail!(
            "{what} took {} ms, and {} ms are allowed",
            duration.as_millis(),
            limit.as_millis()
        );
    }
    Ok(())
}
