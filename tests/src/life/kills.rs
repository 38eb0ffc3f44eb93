// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Workers and brokers killed.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use daedalus_client::decoder::{Options, Plan, Session, decode};
use daedalus_client::device::Device;
use rustix::io::Errno;
use rustix::process::Signal;

use super::common::{Common, within};
use crate::codec;
use crate::guest::broker::Broker;
use crate::guest::clip::{Clip, Clips};
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::process::kill;

/// What a call may take beyond the limit, or the watchdog's time, when the watchdog has to end it.
const HANG_MARGIN: Duration = Duration::from_millis(250);

/// Arguments of `kill-worker`.
#[derive(Debug, clap::Args)]
pub(super) struct WorkerArgs {
    /// How many workers to kill.
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// The clips' size, as it is in their names.
    #[arg(long, default_value = "360p")]
    size: String,
    /// Leave out the worker that hangs, for whose end the watchdog's whole time has to pass.
    #[arg(long)]
    no_hang: bool,
}

pub(super) fn kill_worker(common: &Common, args: &WorkerArgs, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?;
    let (broker, nodes) = Broker::start(common)?;
    let names = codec::every_usual_first(&args.size);
    let (mut exact, mut failed) = (0, 0);
    for round in 0..args.rounds {
        let clip = clips.repeated(&names[round % names.len()], 2)?;
        // Blocking calls in every other round: then the time is DQBUF's and not poll's.
        let options = Options {
            blocking: round % 2 == 1,
            ..Options::default()
        };
        let mut session = Session::open(&nodes, &Plan::new(clip.codec, &clip.jobs), &options)?;
        let key = clip.next_key(1).context("the clip has no second key frame")?;
        let victim = (key / 3 + round * 5) % (key - 8) + 2;
        let mut before = 0;
        for (index, job) in clip.jobs.iter().enumerate() {
            session
                .submit(job)
                .with_context(|| format!("{}, job {index}", clip.name))?;
            if index == victim {
                before = session.pictures().len();
                kill(worker_of_own_session()?, Signal::KILL)?;
            }
        }
        session.drain().with_context(|| clip.name.clone())?;
        let longest = session.longest();
        figures.calls(longest);
        within(
            &format!("{}: a call after the worker was killed", clip.name),
            longest.call.max(longest.wait),
            common.limit(),
        )?;
        failed += session.failed_jobs();
        // What came back before is exact, and everything from the next key frame on.
        if before > 0 {
            exact += clip.compare(session.pictures(), 0..before)?;
        }
        exact += clip.compare(session.pictures(), key..clip.jobs.len())?;
        drop(session);
        let session = decode(&nodes, clip.codec, &clip.jobs[..key], &Options::default())
            .context("a new session after the kill")?;
        exact += clip.compare(session.pictures(), 0..key)?;
    }
    ensure!(failed > 0, "no job failed: no worker was killed while it had one");
    broker.stop()?;
    if !args.no_hang {
        exact += hung_worker(common, &clips, figures)?;
    }
    figures.set("rounds", args.rounds);
    figures.set("exact_pictures", exact);
    figures.set("failed_jobs", failed);
    figures.set("limit_ms", common.limit_ms);
    Ok(())
}

/// Lets a worker hang in the middle of a stream: the watchdog ends the job, and the session goes on.
fn hung_worker(common: &Common, clips: &Clips, figures: &mut Figures) -> Result<usize> {
    let clip = clips.repeated(&codec::usual("240p"), 2)?;
    let key = clip.next_key(1).context("the clip has no second key frame")?;
    let (broker, nodes) = Broker::start_with(common, &["--fault", "stall:20:60000"])?;
    let session =
        decode(&nodes, clip.codec, &clip.jobs, &Options::default()).context("a worker that hangs")?;
    let longest = session.longest();
    figures.longest("hung_worker_ms", longest.wait);
    let watchdog = std::fs::read_to_string("/sys/module/daedalus_v4l2/parameters/watchdog_ms")
        .context("cannot read the module's watchdog_ms")?;
    let watchdog = Duration::from_millis(watchdog.trim().parse().context("watchdog_ms")?);
    figures.longest("watchdog_ms", watchdog);
    // It is the watchdog that ends the wait, whatever it is set to.
    within(
        "a call while the worker hangs",
        longest.call.max(longest.wait),
        common.limit().max(watchdog) + HANG_MARGIN,
    )?;
    ensure!(
        session.failed_jobs() > 0,
        "the worker was to hang, and no job failed"
    );
    let exact =
        clip.compare(session.pictures(), 0..15)? + clip.compare(session.pictures(), key..clip.jobs.len())?;
    drop(session);
    broker.stop()?;
    Ok(exact)
}

/// Waits until this process's only session has a worker, and returns it.
fn worker_of_own_session() -> Result<u32> {
    let start = Instant::now();
    loop {
        for session in debugfs::own_sessions()? {
            match session.number("worker") {
                0 => {}
                pid => return u32::try_from(pid).context("a worker's process id"),
            }
        }
        ensure!(
            start.elapsed() < Duration::from_secs(20),
            "the session never had a worker"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn kill_broker(common: &Common, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?;
    let clip = clips.usual("360p")?;
    let plan = Plan::new(clip.codec, &clip.jobs);
    let (broker, nodes) = Broker::start(common)?;

    // One session has a worker, one is open and has none, when the broker dies.
    let mut playing = Session::open(&nodes, &plan, &Options::default())?;
    let half = clip.jobs.len() / 2;
    for job in &clip.jobs[..half] {
        playing.submit(job)?;
    }
    worker_of_own_session()?;
    let idle = Device::open(&nodes, false)?;
    broker.end(Signal::KILL)?;

    // The first plays on, exact.
    for job in &clip.jobs[half..] {
        playing
            .submit(job)
            .context("a session with a worker, after the broker was killed")?;
    }
    playing.drain()?;
    figures.calls(playing.longest());
    within(
        "a call after the broker was killed",
        playing.longest().call,
        common.limit(),
    )?;
    within(
        "a wait after the broker was killed",
        playing.longest().wait,
        common.limit(),
    )?;
    let mut exact = clip.compare_all(playing.pictures())?;
    drop(playing);

    // A new open fails with ENODEV, and soon.
    let start = Instant::now();
    let refused = Device::open(&nodes, false);
    let took = start.elapsed();
    figures.longest("refused_open_ms", took);
    let errno = refused.err().and_then(|error| error.errno());
    ensure!(
        errno == Some(Errno::NODEV),
        "open without a broker: {errno:?}, not ENODEV"
    );
    within("open without a broker", took, common.limit())?;

    // The session without a worker gets its work back.
    let start = Instant::now();
    let answer = unserved(idle, &plan, &clip);
    let took = start.elapsed();
    figures.longest("unserved_work_ms", took);
    let (mut idle, errno) = answer?;
    figures.set("unserved_errno", errno.map_or(0, Errno::raw_os_error));
    ensure!(
        errno == Some(Errno::IO),
        "work that nobody can take: {errno:?}, not EIO"
    );
    within("work that nobody can take", took, common.limit())?;

    // A new broker: both new sessions and the old one, once it starts again, decode.
    let (broker, nodes) = Broker::start(common)?;
    let session = decode(&nodes, clip.codec, &clip.jobs, &Options::default())
        .context("a new session after the broker's restart")?;
    exact += clip.compare_all(session.pictures())?;
    idle.restart()
        .context("STREAMOFF and STREAMON of the session that got no worker")?;
    for job in &clip.jobs {
        idle.submit(job)
            .context("the session that got no worker, after the broker's restart")?;
    }
    idle.drain()?;
    exact += clip.compare_all(idle.pictures())?;
    drop((session, idle));

    // A client whose open waits while the broker restarts.
    broker.end(Signal::KILL)?;
    let (news_sender, news) = mpsc::channel();
    let waiting = nodes.clone();
    let opener = std::thread::spawn(move || {
        // It cannot fail: the receiver waits below.
        let _ = news_sender.send(());
        Device::open(&waiting, false).map(drop)
    });
    news.recv().context("the opening thread ended")?;
    let (broker, _) = Broker::start(common)?;
    let opened = opener
        .join()
        .map_err(|_| anyhow!("the opening thread panicked"))?;
    let outcome = match opened {
        Ok(()) => "opened".to_owned(),
        Err(error) => format!("{error}"),
    };
    figures.set("open_during_restart", outcome);
    figures.set("exact_pictures", exact);
    figures.set("limit_ms", common.limit_ms);
    broker.stop()?;
    Ok(())
}

/// Starts to stream without a broker and submits until an error comes, which has to. Returns the session
/// and what the error was.
fn unserved(device: std::sync::Arc<Device>, plan: &Plan, clip: &Clip) -> Result<(Session, Option<Errno>)> {
    let mut session = Session::prepare(device, plan, &Options::default())?;
    for job in &clip.jobs {
        if let Err(error) = session.submit(job) {
            return Ok((session, error.errno()));
        }
        if session.failed_jobs() > 0 {
            return Ok((session, None));
        }
    }
    Err(anyhow!("work was taken although there is no broker"))
}
