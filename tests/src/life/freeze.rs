// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everybody frozen, as when a machine is put to sleep; the daemon alone; a client alone. Tasks that are frozen answer
//! nothing while time goes on.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use daedalus_client::decoder::{Options, Picture, Plan, Session, decode};
use daedalus_client::device::Nodes;

use super::clip::{Clip, later};
use super::daemon::Broker;
use super::isolation::{parameter, set_parameter};
use super::{Common, Figures, debugfs, within};

/// Every worker waits so long with each job that it has read, in milliseconds, so that one is in flight most of the time.
const HELD: &str = "--fault=stall:all:20";
/// How long clients wait for a picture: longer than any freeze.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where cgroups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Arguments of `freeze`.
#[derive(Debug, clap::Args)]
pub(super) struct FreezeArgs {
    /// How often everybody is frozen.
    #[arg(long, default_value_t = 50)]
    times: u64,
    /// The clip's name.
    #[arg(long, default_value = "vp9-qvga")]
    clip: String,
    /// Seconds for which the kernel's test of the freezer keeps everybody frozen.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// The module's watchdog_ms meanwhile: less than that, and more than a job takes here.
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

/// A control group whose processes can be frozen; thawed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one with `process` in it, and with what that starts from now on.
    fn around(name: &str, process: u32) -> Result<Self> {
        let dir = PathBuf::from(CGROUPS).join(format!("daedalus-{name}"));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let group = Self(dir);
        group.write("cgroup.procs", &process.to_string())?;
        Ok(group)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.0.join(file);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Freezes or thaws it, and waits until that is so.
    fn freeze(&self, frozen: bool) -> Result<()> {
        let wanted = format!("frozen {}", u8::from(frozen));
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })?;
        let begun = Instant::now();
        while !fs::read_to_string(self.0.join("cgroup.events"))?.contains(&wanted) {
            ensure!(
                begun.elapsed() < Duration::from_secs(10),
                "the cgroup is not '{wanted}'"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Nothing can be done about a failure.
        let _ = self.write("cgroup.freeze", "0");
    }
}

pub(super) fn freeze(common: &Common, args: &FreezeArgs, figures: &mut Figures) -> Result<()> {
    let clip = common.clips()?.clip(&args.clip)?;
    ensure!(
        args.seconds * 1000 > args.watchdog_ms,
        "everybody is frozen for less than the watchdog's time"
    );
    let _parameters = Parameters::set(args.watchdog_ms)?;
    let (broker, nodes) = Broker::start_with(common, &[HELD])?;
    everybody(args, &nodes, &clip, figures).context("everybody frozen")?;
    client(common, args, &clip, figures).context("a client frozen")?;
    daemon(common, args, &broker, &nodes, &clip, figures).context("the daemon frozen")?;
    broker.stop()?;
    Ok(())
}

/// The kernel's test of the freezer, as often as asked for, while one session plays on and others begin and end.
fn everybody(args: &FreezeArgs, nodes: &Nodes, clip: &Clip, figures: &mut Figures) -> Result<()> {
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
        let frozen = (0..args.times).try_for_each(|time| freeze_all(&busy).with_context(|| format!("freeze {time}")));
        done.store(true, Ordering::Release);
        let played = players.map(|player| player.join().unwrap_or_else(|_| Err(anyhow!("a client panicked"))));
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
    let begun = Instant::now();
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
        if begun.elapsed() > Duration::from_secs(5) {
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
            session.submit(&later(job, shift))?;
        }
        session.drain()?;
        let own: HashMap<u64, Picture> = session
            .take_pictures()
            .into_iter()
            .map(|(timestamp, picture)| (timestamp - shift, picture))
            .collect();
        exact += clip.compare_all(&own).with_context(|| format!("round {round}"))?;
        round += 1;
        kept()?;
    }
    Ok(exact)
}

/// No session of this process has lost a worker or a job.
fn kept() -> Result<()> {
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
        kept()?;
    }
    Ok(exact)
}

/// A client that takes nothing for longer than the watchdog's time loses nothing.
fn client(common: &Common, args: &FreezeArgs, clip: &Clip, figures: &mut Figures) -> Result<()> {
    let list = common.clips.as_deref().context("this scenario needs --clips")?;
    let out = std::env::temp_dir().join("frozen-client");
    let mut player = Player(
        Command::new(std::env::current_exe()?)
            .args(["play", "--client", "ffmpeg-like", "--only", &clip.name])
            .arg("--list")
            .arg(list)
            .arg("--out")
            .arg(out)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start a client")?,
    );
    let group = Cgroup::around("client", player.0.id())?;
    let session = || -> Result<Option<debugfs::Session>> {
        let client = u64::from(player.0.id());
        let mut sessions = debugfs::sessions()?.into_iter();
        Ok(sessions.find(|session| session.number("client") == client))
    };
    let begun = Instant::now();
    while session()?.is_none_or(|session| session.number("done") < 8) {
        ensure!(begun.elapsed() < PATIENCE, "the client does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    group.freeze(true)?;
    std::thread::sleep(Duration::from_millis(2 * args.watchdog_ms));
    let frozen = session()?.context("the client ended before it was frozen")?;
    let done = frozen.number("done");
    ensure!(
        frozen.number("restarts") == 0 && frozen.number("failed") == 0,
        "the client's worker was lost: {frozen:?}"
    );
    group.freeze(false)?;
    let status = player.0.wait()?;
    figures.set("client_frozen_after_jobs", done);
    ensure!(
        status.success(),
        "the client's pictures are not exact, or it failed: {status}"
    );
    Ok(())
}

/// A client in a process of its own, killed when dropped.
struct Player(Child);

impl Drop for Player {
    fn drop(&mut self) {
        // It has ended already, unless the scenario failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A daemon that does nothing, with all its workers: the watchdog gives every buffer back, and once the daemon goes on,
/// so do new sessions.
fn daemon(
    common: &Common,
    args: &FreezeArgs,
    broker: &Broker,
    nodes: &Nodes,
    clip: &Clip,
    figures: &mut Figures,
) -> Result<()> {
    let options = Options {
        patience: PATIENCE,
        ..Options::default()
    };
    let mut session = Session::open(nodes, &Plan::new(clip.codec, &clip.jobs), &options)?;
    let group = Cgroup::around("daemon", broker.id())?;
    for job in &clip.jobs[..8] {
        session.submit(job)?;
    }
    let own = debugfs::own_sessions()?;
    let worker = own.first().map_or(0, |session| session.number("worker"));
    ensure!(worker > 0, "the session has no worker");
    // The worker was there before the group was, or came after it: either way it is in the group from now on.
    group.write("cgroup.procs", &worker.to_string())?;
    group.freeze(true)?;
    ensure!(session.in_flight() > 0, "no job is in flight");
    let begun = Instant::now();
    session.drain()?;
    let took = begun.elapsed();
    figures.longest("daemon_frozen_drain_ms", took);
    figures.set("daemon_frozen_failed_jobs", session.failed_jobs());
    within(
        "to get every buffer back from a frozen daemon",
        took,
        Duration::from_millis(args.watchdog_ms) + common.limit(),
    )?;
    ensure!(
        session.failed_jobs() > 0,
        "the daemon was frozen, and no job failed"
    );
    group.freeze(false)?;
    drop(session);
    let session = decode(nodes, clip.codec, &clip.jobs, &options).context("a session after the thaw")?;
    clip.compare_all(session.pictures())?;
    Ok(())
}
