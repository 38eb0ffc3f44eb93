// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kills, reloads, several clients at once, and calls that no real client makes: scenarios with the small
//! client, which run in the guest. The caller loads the module; each scenario starts the broker (`reload`
//! loads the module, too).
//!
//! Each scenario prints one line of JSON with its figures. Its exit status is 0 only if it saw everything
//! that it looked for.

mod caches;
mod clients;
mod colour;
mod common;
mod damage;
mod edges;
mod foreign;
mod formats;
mod freeze;
mod idle;
mod imitations;
mod isolation;
mod kills;
mod long;
mod memory;
mod playing;
mod programs;
mod reload;
mod reports;
mod screen;
mod seek;
mod sessions;
mod sizes;
mod stateful;
mod stateful_player;
mod storm;
mod storm_client;
mod suspend;
mod variants;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::guest::figures::{Figures, guard};
use common::Common;

/// Arguments of `daedalus-tests life`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Subcommand)]
enum Scenario {
    /// One exact frame through the kernel.
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
    Edges(common::TurnArgs),
    /// What the workers' sandbox refuses, tried from inside.
    Sandbox,
    /// SIGSTOP of a worker.
    StopWorker,
    /// The fork server stopped and killed, and the server of a worker that crashed.
    ForkServer(common::WatchdogArgs),
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
    /// A worker, the broker and a client, each frozen alone.
    Freeze(freeze::FreezeArgs),
    /// The daemon without sessions, and with clients that only look at the device.
    Idle(idle::IdleArgs),
    /// Both queues stopped with jobs in flight and started at a key frame, again and again.
    Seek(seek::SeekArgs),
    /// What 64 sessions at once cost.
    ManySessions,
    /// Clients killed, and what is left of them.
    VanishedClient(sessions::VanishArgs),
    /// A client of it, until it is killed or its standard input ends.
    #[command(hide = true)]
    SessionsClient(sessions::ClientArgs),
    /// All processes frozen while clients play (needs a kernel that can be suspended).
    Suspend(suspend::SuspendArgs),
    /// What devices that do not snoop would see (needs the module of testbed/caches).
    Caches,
    /// Every CAPTURE format, at odd sizes, 8 and 10 bit.
    Formats,
    /// Pictures of several sizes in one session.
    Sizes(sizes::SizesArgs),
    /// The stateful face in every order that is allowed, with workers that are lost in every state.
    Stateful(stateful::StatefulArgs),
    /// Reports about other drivers and clients, each by its source (needs a kernel that injects faults).
    Reports,
    /// The colours of OUTPUT and CAPTURE.
    Colour,
    /// Pictures on a screen that imports their buffers.
    Screen(screen::ScreenArgs),
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
            Self::Edges(_) => "edges",
            Self::Sandbox => "sandbox",
            Self::StopWorker => "stop-worker",
            Self::ForkServer(_) => "fork-server",
            Self::StarveWorker => "starve-worker",
            Self::CrashLoop => "crash-loop",
            Self::Abort => "abort",
            Self::ReplaceBroker(_) => "replace-broker",
            Self::Limits => "limits",
            Self::Memory => "memory",
            Self::Freeze(_) => "freeze",
            Self::Idle(_) => "idle",
            Self::Seek(_) => "seek",
            Self::ManySessions => "many-sessions",
            Self::VanishedClient(_) => "vanished-client",
            Self::SessionsClient(_) => "sessions-client",
            Self::Suspend(_) => "suspend",
            Self::Caches => "caches",
            Self::Formats => "formats",
            Self::Sizes(_) => "sizes",
            Self::Stateful(_) => "stateful",
            Self::Reports => "reports",
            Self::Colour => "colour",
            Self::Screen(args) if args.stateful => "stateful-screen",
            Self::Screen(_) => "screen",
            Self::Long(args) if args.stateful => "stateful-long",
            Self::Long(_) => "long",
            Self::Damage(_) => "damage",
            Self::Reload(_) => "reload",
            Self::Storm(args) if args.stateful => "stateful-storm",
            Self::Storm(_) => "storm",
            Self::StormClient(_) => "storm-client",
        }
    }
}

/// Runs the chosen scenario.
///
/// # Errors
///
/// When anything is not as it has to be; the text says so in plain words.
pub(crate) fn run(args: &Args) -> Result<()> {
    let name = args.scenario.name();
    guard(name, Duration::from_secs(args.common.deadline));
    let mut figures = Figures::default();
    let start = Instant::now();
    let common = &args.common;
    let result = match &args.scenario {
        Scenario::FirstFrame => playing::first_frame(common, &mut figures),
        Scenario::Streams => playing::streams(common, &mut figures),
        Scenario::Play(play) => playing::play(common, play, &mut figures),
        Scenario::FourClients => clients::four_clients(common, &mut figures),
        Scenario::KillWorker(worker) => kills::kill_worker(common, worker, &mut figures),
        Scenario::KillBroker => kills::kill_broker(common, &mut figures),
        Scenario::FlushHeld => edges::flush_held(common, &mut figures),
        Scenario::Edges(turns) => edges::edges(common, turns, &mut figures),
        Scenario::Sandbox => isolation::sandbox(common, &mut figures),
        Scenario::StopWorker => isolation::stop_worker(common, &mut figures),
        Scenario::ForkServer(args) => {
            args.run(|watchdog| isolation::fork_server(common, watchdog, &mut figures))
        }
        Scenario::StarveWorker => isolation::starve_worker(common, &mut figures),
        Scenario::CrashLoop => isolation::crash_loop(common, &mut figures),
        Scenario::Abort => isolation::abort(common, &mut figures),
        Scenario::ReplaceBroker(replace) => isolation::replace_broker(common, replace, &mut figures),
        Scenario::Limits => isolation::limits(common, &mut figures),
        Scenario::Memory => memory::memory(common, &mut figures),
        Scenario::Freeze(args) => freeze::freeze(common, args, &mut figures),
        Scenario::Idle(args) => idle::idle(common, args, &mut figures),
        Scenario::Seek(args) => seek::seek(common, args, &mut figures),
        Scenario::ManySessions => sessions::many_sessions(common, &mut figures),
        Scenario::VanishedClient(args) => sessions::vanished_client(common, args, &mut figures),
        Scenario::SessionsClient(client) => return sessions::client(common, client),
        Scenario::Suspend(args) => suspend::suspend(common, args, &mut figures),
        Scenario::Caches => caches::caches(common, &mut figures),
        Scenario::Formats => formats::formats(common, &mut figures),
        Scenario::Sizes(args) => sizes::sizes(common, args, &mut figures),
        Scenario::Stateful(args) => stateful::stateful(common, args, &mut figures),
        Scenario::Reports => reports::reports(common, &mut figures),
        Scenario::Colour => colour::colour(common, &mut figures),
        Scenario::Screen(args) => screen::screen(common, args, &mut figures),
        Scenario::Long(args) => long::long(common, args, &mut figures),
        Scenario::Damage(damage) => damage::damage_groups(common, damage, &mut figures),
        Scenario::Reload(reload) => reload::reload(common, reload, &mut figures),
        Scenario::Storm(storm) => storm::storm(common, storm, &mut figures),
        Scenario::StormClient(client) => return storm_client::run(common, client),
    };
    figures.print(name, start, &result);
    result
}
