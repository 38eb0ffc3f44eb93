// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All processes frozen while clients play, by the kernel's own test of its freezer, as when a machine is put
//! to sleep: nobody answers, and time goes on.

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use daedalus_client::decoder::{Options, Picture, Plan, Session, decode};
use daedalus_client::device::Nodes;

use super::common::Common;
use crate::codec;
use crate::guest::broker::Broker;
use crate::guest::clip::{Clip, later};
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::module::{parameter, set_parameter};

/// Lets every worker wait for some milliseconds with each job that it has read, so that one is in flight most
/// of the time.
const HELD: &str = "--fault=stall:all:20";
/// How long clients wait for a picture: longer than any freeze.
const PATIENCE: Duration = Duration::from_secs(60);

/// Arguments of `suspend`.
#[derive(Debug, clap::Args)]
pub(super) struct SuspendArgs {
    /// How often everybody is frozen.
    #[arg(long, default_value_t = 50)]
    times: u64,
    /// The clip's name.
    #[arg(long, default_value_t = codec::usual("qvga"))]
    clip: String,
    /// Seconds for which the kernel's test of the freezer keeps everybody frozen.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// The module's watchdog_ms meanwhile: less than `seconds`, and more than a job takes here.
    #[arg(long, default_value_t = 2000)]
    watchdog_ms: u64,
}

/// The module's parameters for the watchdog, put back when dropped.
struct Parameters(Vec<(&'static str, u64)>);

impl Parameters {
    /// Sets them all to `value`.
    fn set(value: u64) -> Result<Self> {
        let mut before = Self(Vec::new());
        for name in ["watchdog_ms", "worker_wait_ms"] {
            before.0.push((name, parameter(name)?));
            set_parameter(name, value)?;
        }
        Ok(before)
    }
}

impl Drop for Parameters {
    fn drop(&mut self) {
        for (name, value) in &self.0 {
            // The module has it as it was, or is gone.
            let _ = set_parameter(name, *value);
        }
    }
}

/// Runs the scenario.
pub(super) fn suspend(common: &Common, args: &SuspendArgs, figures: &mut Figures) -> Result<()> {
    let clip = common.clips()?.clip(&args.clip)?;
    ensure!(
        args.seconds * 1000 > args.watchdog_ms,
        "everybody is frozen for less than the watchdog's time"
    );
    let _parameters = Parameters::set(args.watchdog_ms)?;
    let (broker, nodes) = Broker::start_with(common, &[HELD])?;
    everybody(args, &nodes, &clip, figures)?;
    broker.stop()?;
    crate::guest::left::nothing_and_nobody()
}

/// Has the kernel test its freezer as often as asked for, while one session plays on and others begin and
/// end.
fn everybody(args: &SuspendArgs, nodes: &Nodes, clip: &Clip, figures: &mut Figures) -> Result<()> {
    fs::write("/sys/power/pm_test", "freezer").context("this kernel cannot test its freezer")?;
    fs::write(
        "/sys/module/suspend/parameters/pm_test_delay",
        args.seconds.to_string(),
    )
    .context("cannot set how long the test of the freezer lasts")?;
    let done = AtomicBool::new(false);
    let busy = AtomicU64::new(0);
    let results = std::thread::scope(|scope| {
        let players = [
            scope.spawn(|| one_session(nodes, clip, &done)),
            scope.spawn(|| many_sessions(nodes, clip, &done)),
        ];
        let mut frozen = Ok(());
        for time in 0..args.times {
            // A client that has ended has failed, and says why.
            if frozen.is_err() || players.iter().any(ScopedJoinHandle::is_finished) {
                break;
            }
            frozen = freeze_all(&busy).with_context(|| format!("freeze {time}"));
        }
        done.store(true, Ordering::Release);
        let played = players.map(|player| {
            player
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a client panicked")))
        });
        frozen.map(|()| played)
    });
    fs::write("/sys/power/pm_test", "none")?;
    let [one, many] = results?;
    let (one, many) = (one?, many?);
    let busy = busy.load(Ordering::Relaxed);
    figures.set("freezes", args.times);
    figures.set("freezes_with_a_job_in_flight", busy);
    figures.set("exact_pictures", one + many);
    ensure!(
        busy * 2 >= args.times,
        "a job was in flight at {busy} of {} freezes",
        args.times
    );
    Ok(())
}

/// Freezes all processes until the test is over, this one too.
fn freeze_all(busy: &AtomicU64) -> Result<()> {
    let start = Instant::now();
    loop {
        let flying: u64 = debugfs::own_sessions()?
            .iter()
            .map(|session| session.number("in_flight"))
            .sum();
        if flying > 0 {
            busy.fetch_add(1, Ordering::Relaxed);
            break;
        }
        // Then it is frozen as it is.
        if start.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    fs::write("/sys/power/state", "freeze").context("the test of the freezer failed")?;
    // What was frozen goes on for a while.
    std::thread::sleep(Duration::from_millis(200));
    Ok(())
}

/// Plays the clip again and again in one session, which must keep its worker; how many pictures were exact.
fn one_session(nodes: &Nodes, clip: &Clip, done: &AtomicBool) -> Result<usize> {
    let options = Options {
        patience: PATIENCE,
        ..Options::default()
    };
    let mut session = Session::open(nodes, &Plan::new(clip.codec, &clip.jobs), &options)?;
    let (mut exact, mut round) = (0, 0);
    while !done.load(Ordering::Acquire) {
        let shift = clip.period() * round;
        for job in &clip.jobs {
            session.submit(&later(clip.codec, job, shift))?;
        }
        session.drain()?;
        let own: HashMap<u64, Picture> = session
            .take_pictures()
            .into_iter()
            .map(|(timestamp, picture)| (timestamp - shift, picture))
            .collect();
        exact += clip.compare_all(&own).with_context(|| format!("round {round}"))?;
        round += 1;
        demand_no_loss()?;
    }
    Ok(exact)
}

/// Demands that no session of this process has lost a worker or a job.
fn demand_no_loss() -> Result<()> {
    for session in debugfs::own_sessions()? {
        ensure!(
            session.number("restarts") == 0 && session.number("failed") == 0,
            "a worker was lost: {session:?}"
        );
    }
    Ok(())
}

/// Begins and ends sessions, so that some freeze comes while a worker starts; how many pictures were exact.
fn many_sessions(nodes: &Nodes, clip: &Clip, done: &AtomicBool) -> Result<usize> {
    let options = Options {
        patience: PATIENCE,
        ..Options::default()
    };
    let mut exact = 0;
    while !done.load(Ordering::Acquire) {
        let session = decode(nodes, clip.codec, &clip.jobs[..4], &options)?;
        exact += clip.compare(session.pictures(), 0..4)?;
        demand_no_loss()?;
    }
    Ok(exact)
}
