// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One of the three processes is frozen alone, as a container runtime does it (the freezer of cgroup v2): a
//! worker, the broker, the client. A process that is frozen cannot tell, and no signal but SIGKILL wakes it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daedalus_client::decoder::{Options, Plan, Session, decode};
use daedalus_client::device::Nodes;

use super::common::{Common, WatchdogArgs, within};
use crate::codec;
use crate::guest::broker::Broker;
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::module::parameter;

/// Where the hierarchy is mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// How long a group may take to be frozen.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a call may take beyond the watchdog's time.
const MARGIN: Duration = Duration::from_millis(350);

/// Arguments of `freeze`.
#[derive(Debug, clap::Args)]
pub(super) struct FreezeArgs {
    /// How often the client is frozen.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    watchdog: WatchdogArgs,
}

/// A group with one process, frozen until it is dropped.
pub(super) struct Freeze {
    group: PathBuf,
    home: PathBuf,
    pid: u32,
}

impl Freeze {
    /// Moves a process into a group of its own, and freezes that.
    pub(super) fn new(pid: u32) -> Result<Self> {
        let membership = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).context("its group")?;
        let home = membership
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .context("a process outside of cgroup v2")?;
        let group = PathBuf::from(format!("{CGROUPS}/daedalus-frozen-{pid}"));
        std::fs::create_dir(&group).with_context(|| format!("{}", group.display()))?;
        let frozen = Self {
            home: PathBuf::from(CGROUPS).join(home),
            group,
            pid,
        };
        std::fs::write(frozen.group.join("cgroup.procs"), pid.to_string()).context("cgroup.procs")?;
        std::fs::write(frozen.group.join("cgroup.freeze"), "1").context("cgroup.freeze")?;
        let start = Instant::now();
        loop {
            let events = std::fs::read_to_string(frozen.group.join("cgroup.events"))?;
            if events.lines().any(|line| line == "frozen 1") {
                return Ok(frozen);
            }
            ensure!(start.elapsed() < PATIENCE, "process {pid} does not freeze");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Freeze {
    fn drop(&mut self) {
        // What was killed has gone by itself; a group with a dead process in it may stay.
        let _ = std::fs::write(self.group.join("cgroup.freeze"), "0");
        let _ = std::fs::write(self.home.join("cgroup.procs"), self.pid.to_string());
        let _ = std::fs::remove_dir(&self.group);
    }
}

/// Runs the scenario.
pub(super) fn freeze(common: &Common, args: &FreezeArgs, figures: &mut Figures) -> Result<()> {
    args.watchdog
        .run(|watchdog| each(common, args.rounds, watchdog, figures))?;
    crate::guest::left::nothing_and_nobody()
}

/// Freezes each of the three.
fn each(common: &Common, rounds: usize, watchdog: Duration, figures: &mut Figures) -> Result<()> {
    let (broker, nodes) = Broker::start(common)?;
    figures.longest("watchdog_ms", watchdog);
    worker(common, &nodes, watchdog, figures).context("a frozen worker")?;
    the_broker(common, &nodes, &broker, figures).context("a frozen broker")?;
    client(common, watchdog, rounds, figures).context("a frozen client")?;
    broker.stop()?;
    Ok(())
}

/// Returns the only session of this process.
fn own_session() -> Result<debugfs::Session> {
    let mut sessions = debugfs::own_sessions()?;
    ensure!(sessions.len() == 1, "{} sessions, not one", sessions.len());
    sessions.pop().context("no session")
}

/// Freezes a worker: all buffers come back in the watchdog's time, and the session goes on with another one.
fn worker(common: &Common, nodes: &Nodes, watchdog: Duration, figures: &mut Figures) -> Result<()> {
    let clip = common.clips()?.repeated(&codec::usual("240p"), 2)?;
    let key = clip.next_key(1).context("the clip has no second key frame")?;
    let mut session = Session::open(nodes, &Plan::new(clip.codec, &clip.jobs), &Options::default())?;
    let mut frozen = None;
    for (index, job) in clip.jobs.iter().enumerate() {
        session.submit(job)?;
        if index == 10 {
            session.drain()?;
            frozen = Some(Freeze::new(own_session()?.number("worker") as u32)?);
        }
    }
    session.drain()?;
    drop(frozen);
    let longest = session.longest();
    figures.longest("worker_frozen_wait_ms", longest.wait);
    within(
        "a call while the worker is frozen",
        longest.call.max(longest.wait),
        common.limit().max(watchdog) + MARGIN,
    )?;
    ensure!(session.failed_jobs() > 0, "no job failed: no worker was frozen");
    clip.compare(session.pictures(), key..clip.jobs.len())?;
    Ok(())
}

/// Freezes the broker: who has a worker plays on, who needs one is told in time, and the broker then serves
/// again.
fn the_broker(common: &Common, nodes: &Nodes, broker: &Broker, figures: &mut Figures) -> Result<()> {
    let clip = common.clips()?.usual("240p")?;
    let plan = Plan::new(clip.codec, &clip.jobs);
    let mut session = Session::open(nodes, &plan, &Options::default())?;
    session.submit(&clip.jobs[0])?;
    session.drain()?;
    let frozen = Freeze::new(broker.id())?;
    for job in &clip.jobs[1..] {
        session.submit(job)?;
    }
    session.drain().context("a session that has a worker")?;
    clip.compare_all(session.pictures())?;
    ensure!(
        session.failed_jobs() == 0,
        "{} jobs failed",
        session.failed_jobs()
    );

    let start = Instant::now();
    let refused = decode(nodes, clip.codec, &clip.jobs, &Options::default());
    figures.longest("broker_frozen_refused_ms", start.elapsed());
    ensure!(refused.is_err(), "a session without a worker has decoded");
    let wait = Duration::from_millis(parameter("worker_wait_ms")?);
    within("that", start.elapsed(), wait + common.limit())?;
    drop(frozen);

    let session = decode(nodes, clip.codec, &clip.jobs, &Options::default()).context("afterwards")?;
    clip.compare_all(session.pictures())?;
    Ok(())
}

/// Freezes a client that plays, for longer than the watchdog's time: nothing is lost.
fn client(common: &Common, watchdog: Duration, rounds: usize, figures: &mut Figures) -> Result<()> {
    let mut process = Client::start(common, Stdio::piped())?;
    let pid = process.0.id();
    let mut lines = BufReader::new(process.0.stdout.take().context("no pipe from the client")?).lines();
    let mut played = |what: &str| -> Result<()> {
        lines
            .next()
            .with_context(|| format!("the client has failed {what}"))??;
        Ok(())
    };
    played("before it was frozen")?;
    let of_client = || -> Result<debugfs::Session> {
        let sessions = debugfs::sessions()?;
        let mut own = sessions
            .into_iter()
            .filter(|one| one.number("client") == u64::from(pid));
        own.next().context("the client has no session")
    };
    for round in 0..rounds {
        let frozen = Freeze::new(pid)?;
        std::thread::sleep(watchdog * 2);
        let session = of_client()?;
        ensure!(
            session.number("failed") == 0 && session.number("restarts") == 0,
            "round {round}: {} jobs failed, {} workers were lost",
            session.number("failed"),
            session.number("restarts")
        );
        drop(frozen);
        // The one that it was in the middle of, and a whole one.
        played("when it was let go")?;
        played("after it was let go")?;
    }
    let session = of_client()?;
    ensure!(
        session.number("failed") == 0 && session.number("restarts") == 0,
        "jobs or workers were lost"
    );
    figures.set("client_frozen_rounds", rounds);
    figures.longest("client_frozen_for_ms", watchdog * 2);
    Ok(())
}

/// A client's process.
pub(super) struct Client(pub(super) Child);

impl Client {
    /// Starts one that plays the usual clip again and again, and writes a line each time.
    pub(super) fn start(common: &Common, out: Stdio) -> Result<Self> {
        let list = common.clips.as_deref().context("this scenario needs --clips")?;
        let child = Command::new(std::env::current_exe()?)
            .args([
                "life",
                "sessions-client",
                "--clip",
                &codec::usual("240p"),
                "--again",
                "--clips",
            ])
            .arg(list)
            .stdin(Stdio::piped())
            .stdout(out)
            .spawn();
        Ok(Self(child.context("cannot start a client")?))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It plays on and on.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
