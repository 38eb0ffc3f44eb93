// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clients and daemons that break every rule, failing allocations, and memory that others brought. They run
//! in the guest with the sanitizer kernel, whose log says whether the module made a mistake. The scenarios
//! only demand that the module was put to the test, and that nothing hung.
//!
//! Each scenario prints one line of JSON with its figures. The seed is one of them: with the same seed every
//! process makes the same choices, as far as the answers are the same.

mod client;
mod common;
mod daemon;
mod exhaust;
mod faults;
mod imports;
mod ioctls;
mod leaks;
mod nth;
mod orders;
mod raw;
mod silent;
mod stall;
mod table;
mod victim;
mod worker;

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::guest::figures::{Figures, guard};
use common::Common;

/// Arguments of `daedalus-tests hostile`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    common: Common,
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
/// When anything is not as it has to be; the text says so in plain words.
pub(crate) fn run(args: &Args) -> Result<()> {
    let common = &args.common;
    let mut figures = Figures::default();
    let start = Instant::now();
    let (name, result) = match &args.scenario {
        Scenario::IoctlsProcess(options) => return ioctls::process(common, options),
        Scenario::IoctlsRacer(options) => return ioctls::racer(common, options),
        Scenario::DaemonBroker(options) => return daemon::broker(common, options),
        Scenario::DaemonWorker(options) => return worker::run(common, options),
        Scenario::DaemonClient(options) => return daemon::client(common, options),
        Scenario::StallVictim => return victim::process(common),
        Scenario::ExhaustClient(options) => return exhaust::client(common, options),
        Scenario::Ioctls(options) => {
            let name = if options.stateful {
                "stateful-ioctls"
            } else {
                "ioctls"
            };
            guard(name, Duration::from_secs(common.deadline));
            (name, ioctls::run(common, options, &mut figures))
        }
        Scenario::Daemon(options) => {
            let name = if options.stateful {
                "stateful-daemon"
            } else {
                "hostile-daemon"
            };
            guard(name, Duration::from_secs(common.deadline));
            (name, daemon::run(common, options, &mut figures))
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
    figures.print(name, start, &result);
    result
}
