// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The limits of a worker, and the view of a client when a worker is stopped, starved, crashes or is aborted,
//! or when the broker is replaced in the middle.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::decoder::{Options, Plan, Session, decode};
use daedalus_client::device::{Device, Nodes};
use daedalus_uapi::fd::SessionFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};
use serde_json::Value;

use super::common::{Common, WATCHDOG, within};
use crate::codec;
use crate::guest::broker::Broker;
use crate::guest::clip::Clip;
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::module::{parameter, set_parameter};
use crate::guest::process::{kill, pids};

/// What a call may take beyond the watchdog's time.
const MARGIN: Duration = Duration::from_millis(350);
/// Jobs of each session that a fork server in trouble has to give a worker.
const JOBS: usize = 12;
/// Ids of buffers that are looked for: more than all sessions since the module was loaded had buffers.
const IDS: u64 = 1 << 20;
/// Ids in a row that are no buffer's, behind the last of a session.
const GAP: u64 = 4096;

/// Arguments of `replace-broker`.
#[derive(Debug, clap::Args)]
pub(super) struct ReplaceArgs {
    /// How often the broker is replaced.
    #[arg(long, default_value_t = 50)]
    replacements: usize,
}

/// Opens a session and submits the first `jobs` of `clip`.
fn start(nodes: &Nodes, clip: &Clip, jobs: usize) -> Result<Session> {
    let mut session = Session::open(nodes, &Plan::new(clip.codec, &clip.jobs), &Options::default())?;
    for job in &clip.jobs[..jobs] {
        session.submit(job)?;
    }
    Ok(session)
}

/// This process's sessions that have a worker: id and the worker's process id. Waits for `count`.
fn workers(count: usize) -> Result<Vec<(u64, u32)>> {
    let started_at = Instant::now();
    loop {
        let found: Vec<(u64, u32)> = debugfs::own_sessions()?
            .iter()
            .map(|session| (session.number("id"), session.number("worker") as u32))
            .filter(|(_, worker)| *worker > 0)
            .collect();
        if found.len() >= count {
            return Ok(found);
        }
        ensure!(
            started_at.elapsed() < Duration::from_secs(20),
            "{} of {count} sessions have a worker",
            found.len()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Takes the session fd of a worker, as only root can.
fn session_fd_of(worker: u32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(worker)?).context("no process id")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("pidfd_open")?;
    pidfd_getfd(&pidfd, 0, PidfdGetfdFlags::empty()).context("pidfd_getfd")
}

/// Returns the ids of the buffers that a session fd hands out.
fn buffers_of(fd: &impl AsFd) -> Result<HashSet<u64>> {
    let session = SessionFd::new(fd.as_fd());
    let (mut found, mut last) = (HashSet::new(), IDS);
    for id in 1..=IDS {
        if id > last + GAP {
            break;
        }
        match session.buffer_fd(id) {
            Ok(_) => {
                found.insert(id);
                last = id;
            }
            Err(Errno::NOENT) => {}
            Err(error) => bail!("buffer {id}: {error}"),
        }
    }
    Ok(found)
}

/// Tries the sandbox from inside: `daedalusd sandbox-test` with the session fd of one of two living workers.
pub(super) fn sandbox(common: &Common, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?;
    let clip = clips.usual("240p")?;
    let (broker, nodes) = Broker::start(common)?;
    let mut own = start(&nodes, &clip, 4)?;
    own.drain()?;
    let (_, first) = workers(1)?[0];
    let mut other = start(&nodes, &clip, 4)?;
    other.drain()?;
    let second = workers(2)?
        .iter()
        .map(|(_, worker)| *worker)
        .find(|worker| *worker != first);
    let second = second.context("both sessions have one worker")?;

    let (own_fd, other_fd) = (session_fd_of(first)?, session_fd_of(second)?);
    let (mine, foreign) = (buffers_of(&own_fd)?, buffers_of(&other_fd)?);
    ensure!(!mine.is_empty() && !foreign.is_empty(), "no buffers to compare");
    let shared = mine.intersection(&foreign).count();
    ensure!(shared == 0, "{shared} buffers are handed to two sessions");
    let foreign: Vec<String> = foreign.iter().map(u64::to_string).collect();
    let output = Command::new("daedalusd")
        .arg("sandbox-test")
        .arg(format!("--worker={second}"))
        .arg(format!("--broker={}", broker.id()))
        .arg(format!("--foreign={}", foreign.join(",")))
        .stdin(Stdio::from(own_fd))
        .output()
        .context("cannot run daedalusd sandbox-test")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: Value = serde_json::from_str(&text).with_context(|| {
        format!(
            "sandbox-test says {text:?}, {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    figures.set(
        "attempts",
        report["attempts"].as_object().map_or(0, serde_json::Map::len),
    );
    figures.set("report", report.clone());
    ensure!(output.status.success(), "not refused: {}", report["wrong"]);

    // Nothing of it has hurt: both sessions go on, exact.
    let mut exact = 0;
    for mut session in [own, other] {
        for job in &clip.jobs[4..] {
            session.submit(job)?;
        }
        session.drain()?;
        exact += clip.compare_all(session.pictures())?;
    }
    figures.set("exact_pictures", exact);
    broker.stop()?;
    Ok(())
}

/// Stops a worker by SIGSTOP: the watchdog ends the jobs, and the session goes on with another.
pub(super) fn stop_worker(common: &Common, figures: &mut Figures) -> Result<()> {
    let clip = common.clips()?.repeated(&codec::usual("240p"), 2)?;
    let key = clip.next_key(1).context("the clip has no second key frame")?;
    let (broker, nodes) = Broker::start(common)?;
    let mut session = start(&nodes, &clip, 10)?;
    let (_, worker) = workers(1)?[0];
    kill(worker, Signal::STOP)?;
    for job in &clip.jobs[10..] {
        session.submit(job)?;
    }
    session.drain()?;
    let longest = session.longest();
    figures.calls(longest);
    figures.set("failed_jobs", session.failed_jobs());
    let watchdog = Duration::from_millis(parameter(WATCHDOG)?);
    within(
        "a call while the worker is stopped",
        longest.call.max(longest.wait),
        common.limit().max(watchdog) + MARGIN,
    )?;
    ensure!(
        session.failed_jobs() > 0,
        "no job failed, so no worker was stopped"
    );
    ensure!(workers(1)?[0].1 != worker, "the stopped worker was not replaced");
    figures.set(
        "exact_pictures",
        clip.compare(session.pictures(), key..clip.jobs.len())?,
    );
    broker.stop()?;
    Ok(())
}

/// Stops and kills the fork server, and crashes a worker: each session has a worker in time, every picture is
/// exact, and nothing is left of the servers.
///
/// A job waits for the server that replaces a stopped one. That wait is a part of the job's time.
pub(super) fn fork_server(common: &Common, watchdog: Duration, figures: &mut Figures) -> Result<()> {
    let limit = common.limit().max(watchdog);
    let clip = common.clips()?.usual("240p")?;
    let plan = Plan::new(clip.codec, &clip.jobs);
    let (broker, nodes) = Broker::start(common)?;
    let mut servers = HashSet::new();
    let mut exact = 0;
    for (round, signal) in [Signal::STOP, Signal::KILL, Signal::STOP].into_iter().enumerate() {
        let server = ready_fork_server(broker.id(), &servers)?;
        servers.insert(server);
        kill(server, signal)?;
        // Several at once: more than the server is asked for at one time.
        let mut sessions = Vec::new();
        let started_at = Instant::now();
        for _ in 0..6 {
            let mut session = Session::open(&nodes, &plan, &Options::default())?;
            session.submit(&clip.jobs[0])?;
            sessions.push(session);
        }
        workers(6)?;
        let took = started_at.elapsed();
        figures.longest(&format!("round_{round}_ms"), took);
        within("six workers", took, limit)?;
        for mut session in sessions {
            for job in &clip.jobs[1..JOBS] {
                session.submit(job)?;
            }
            session.drain()?;
            figures.calls(session.longest());
            exact += clip.compare(session.pictures(), 0..JOBS)?;
        }
    }
    // A worker that crashes takes its server with it.
    let tainted = ready_fork_server(broker.id(), &servers)?;
    servers.insert(tainted);
    let mut session = start(&nodes, &clip, 4)?;
    session.drain()?;
    let (_, worker) = workers(1)?[0];
    kill(worker, Signal::ABORT)?;
    ready_fork_server(broker.id(), &servers)?;
    ensure!(is_gone(tainted), "the server of a worker that crashed lives on");
    drop(session);
    for server in &servers {
        ensure!(is_gone(*server), "fork server {server} was not reaped");
    }
    figures.set("exact_pictures", exact);
    broker.stop()?;
    Ok(())
}

/// Waits until a broker has a fork server that is none of these and waits for requests.
fn ready_fork_server(broker: u32, others: &HashSet<u32>) -> Result<u32> {
    let started_at = Instant::now();
    let is_one = |pid: &u32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut parts = text.splitn(2, ')');
        let (name, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let mut words = rest.split_whitespace();
        // It sleeps once its libraries are loaded.
        let sleeps = words.next() == Some("S");
        let is_child = words.next() == Some(&broker.to_string());
        name.ends_with("(daedalus-fork") && sleeps && is_child && !others.contains(pid)
    };
    loop {
        if let Some(pid) = pids()?.into_iter().find(is_one) {
            return Ok(pid);
        }
        ensure!(
            started_at.elapsed() < Duration::from_secs(20),
            "the broker has no fork server"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits a moment until nothing is left of a process, not even a zombie; false if something is.
fn is_gone(pid: u32) -> bool {
    let started_at = Instant::now();
    while Path::new(&format!("/proc/{pid}")).exists() {
        if started_at.elapsed() > Duration::from_secs(5) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Starts workers whose memory does not suffice: error pictures, no hang, and the next session is exact.
pub(super) fn starve_worker(common: &Common, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?;
    let clip = clips.clip(codec::HEAVY)?;
    let (broker, nodes) = Broker::start_with(common, &["--worker-memory", "16"])?;
    let started_at = Instant::now();
    let mut failed = 0;
    let mut lost = None;
    let mut session = Session::open(&nodes, &Plan::new(clip.codec, &clip.jobs), &Options::default())?;
    for job in &clip.jobs {
        if let Err(error) = session.submit(job) {
            lost = error.errno();
            break;
        }
    }
    if lost.is_none() {
        lost = session.drain().err().and_then(|error| error.errno());
    }
    failed += session.failed_jobs();
    figures.longest("starved_ms", started_at.elapsed());
    figures.calls(session.longest());
    figures.set("failed_jobs", failed);
    figures.set("lost", lost.is_some());
    ensure!(failed > 0, "16 MiB were enough for 1080p");
    ensure!(
        lost.is_none_or(|errno| errno == Errno::IO),
        "the session ends with {lost:?}"
    );
    within(
        "a call while workers starve",
        session.longest().call.max(session.longest().wait),
        common.limit(),
    )?;
    drop(session);
    broker.stop()?;
    let (broker, nodes) = Broker::start(common)?;
    let session = decode(&nodes, clip.codec, &clip.jobs, &Options::default())?;
    figures.set("exact_pictures", clip.compare_all(session.pictures())?);
    drop(session);
    broker.stop()?;
    Ok(())
}

/// Starts workers that crash at every job: the session is given up, and says so.
pub(super) fn crash_loop(common: &Common, figures: &mut Figures) -> Result<()> {
    let clip = common.clips()?.repeated(&codec::usual("240p"), 4)?;
    let (broker, nodes) = Broker::start_with(common, &["--fault", "crash:all"])?;
    let mut session = Session::open(&nodes, &Plan::new(clip.codec, &clip.jobs), &Options::default())?;
    let id = debugfs::own_sessions()?[0].number("id");
    let mut end = None;
    for job in &clip.jobs {
        if let Err(error) = session.submit(job) {
            end = Some(error);
            break;
        }
    }
    let end = match end {
        Some(error) => error,
        None => match session.drain() {
            Err(error) => error,
            Ok(()) => bail!("a session whose workers all crash was not given up"),
        },
    };
    ensure!(end.errno() == Some(Errno::IO), "it ends with {end}, not EIO");
    figures.calls(session.longest());
    figures.set("failed_jobs", session.failed_jobs());
    let lost = &debugfs::own_sessions()?[0];
    ensure!(
        lost.text("state") == "lost",
        "its state is {}",
        lost.text("state")
    );
    let workers = lost.number("restarts");
    figures.set("workers", workers);
    ensure!(
        (4..=12).contains(&workers),
        "{workers} workers were started for it"
    );
    drop(session);
    broker.stop()?;
    let log = std::fs::read_to_string(&common.broker_log).context("the broker's log")?;
    let crashed = log
        .lines()
        .filter(|line| line.contains(&format!("session={id} ")) && line.contains("worker lost"))
        .count();
    ensure!(crashed > 0, "the broker's log does not name the lost workers");
    Ok(())
}

/// Writes to the module's `abort`: everything ends at once, and STREAMOFF brings the session back.
pub(super) fn abort(common: &Common, figures: &mut Figures) -> Result<()> {
    let clip = common.clips()?.usual("240p")?;
    ensure!(
        debugfs::abort(u64::MAX).is_err(),
        "a session that does not exist was aborted"
    );
    // In the middle of a job that would take long; while nobody serves; and with nothing to do.
    let (broker, nodes) = Broker::start_with(common, &["--fault", "stall:3:60000"])?;
    let mut session = start(&nodes, &clip, 5)?;
    let (id, worker) = workers(1)?[0];
    let started_at = Instant::now();
    while debugfs::own_sessions()?[0].number("done") < 2 {
        ensure!(
            started_at.elapsed() < common.limit(),
            "the first jobs are not done"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    let started_at = Instant::now();
    debugfs::abort(id)?;
    let end = match session.drain() {
        Err(error) => error,
        Ok(()) => bail!("an aborted session still decodes"),
    };
    let took = started_at.elapsed();
    figures.longest("abort_ms", took);
    within("an abort", took, Duration::from_millis(common.limit_ms / 4))?;
    ensure!(end.errno() == Some(Errno::IO), "it ends with {end}, not EIO");
    let state = &debugfs::own_sessions()?[0];
    ensure!(
        state.text("state") == "lost",
        "its state is {}",
        state.text("state")
    );
    ensure!(
        state.number("claimed") + state.number("in_flight") == 0,
        "jobs are left after an abort"
    );
    let started_at = Instant::now();
    while std::fs::exists(format!("/proc/{worker}/fd"))? && !is_dead(worker) {
        ensure!(started_at.elapsed() < common.limit(), "the worker was not killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    session
        .restart()
        .context("STREAMOFF and STREAMON after an abort")?;
    for job in &clip.jobs[..2] {
        session.submit(job).context("after an abort")?;
    }
    session.drain().context("after an abort")?;
    let mut exact = clip.compare(session.pictures(), 0..2)?;
    drop(session);
    broker.stop()?;

    // A session that streams, and one that only is open; again and again, while jobs come.
    let (broker, nodes) = Broker::start(common)?;
    for round in 0..8 {
        let mut session = start(&nodes, &clip, round % 5)?;
        let id = debugfs::own_sessions()?[0].number("id");
        debugfs::abort(id)?;
        let refused = clip.jobs[round % 5..]
            .iter()
            .any(|job| session.submit(job).is_err());
        ensure!(refused || session.drain().is_err(), "round {round} still decodes");
        session.restart()?;
        for job in &clip.jobs {
            session.submit(job)?;
        }
        session.drain()?;
        exact += clip.compare_all(session.pictures())?;
        drop(session);
        let idle = Device::open(&nodes, false)?;
        debugfs::abort(debugfs::own_sessions()?[0].number("id"))?;
        drop(idle);
    }
    figures.set("exact_pictures", exact);
    broker.stop()?;
    Ok(())
}

/// Returns whether a process is a zombie, which only waits to be reaped, or gone.
fn is_dead(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
    })
}

/// Kills and replaces the broker, each time while a job is in flight: no picture is lost.
pub(super) fn replace_broker(common: &Common, args: &ReplaceArgs, figures: &mut Figures) -> Result<()> {
    let clip = common.clips()?.usual("360p")?;
    // The stall makes sure that something is in flight when the broker dies, and still is when its end was
    // seen, which takes half a second on a busy machine. The watchdog does not see it.
    let stall_ms = parameter(WATCHDOG)? / 2;
    let faults = [5, 12].map(|job| format!("--fault=stall:{job}:{stall_ms}"));
    let stall = faults.each_ref().map(String::as_str);
    let (mut broker, mut nodes) = Broker::start_with(common, &stall)?;
    let (mut in_flight, mut exact, mut replaced) = (0, 0, 0);
    while replaced < args.replacements {
        let mut session = start(&nodes, &clip, 0)?;
        for (index, job) in clip.jobs.iter().enumerate() {
            session.submit(job)?;
            if ![5, 12].contains(&index) || replaced == args.replacements {
                continue;
            }
            let started_at = Instant::now();
            while debugfs::own_sessions()?[0].number("in_flight") == 0 {
                ensure!(started_at.elapsed() < common.limit(), "no job is in flight");
            }
            broker.end(Signal::KILL)?;
            // Still: the worker is in the middle of it.
            in_flight += usize::from(debugfs::own_sessions()?[0].number("in_flight") > 0);
            (broker, nodes) = Broker::start_with(common, &stall)?;
            // The nodes stay when a broker goes, so they do not tell.
            let started_at = Instant::now();
            while debugfs::stats()?
                .get("state")
                .is_none_or(|state| state != "serving")
            {
                ensure!(
                    started_at.elapsed() < Duration::from_secs(20),
                    "the new broker does not serve"
                );
                std::thread::sleep(Duration::from_millis(5));
            }
            replaced += 1;
        }
        session.drain()?;
        figures.calls(session.longest());
        exact += clip.compare_all(session.pictures())?;
    }
    figures.set("replaced", replaced);
    figures.set("with_a_job_in_flight", in_flight);
    figures.set("exact_pictures", exact);
    ensure!(
        in_flight == replaced,
        "a job was in flight at {in_flight} of {replaced} replacements"
    );
    broker.stop()?;
    Ok(())
}

/// Opens sessions and allocates buffers without end.
pub(super) fn limits(common: &Common, figures: &mut Figures) -> Result<()> {
    let (broker, nodes) = Broker::start(common)?;
    let default = parameter("max_sessions")?;
    let most = 64;
    set_parameter("max_sessions", most)?;
    let mut open = Vec::new();
    for number in 0..most {
        open.push(Device::open(&nodes, false).with_context(|| format!("session {number}"))?);
    }
    let errno = Device::open(&nodes, false).err().and_then(|error| error.errno());
    ensure!(errno == Some(Errno::MFILE), "one open too many: {errno:?}");
    let workers = debugfs::own_sessions()?
        .iter()
        .filter(|session| session.number("worker") > 0)
        .count();
    ensure!(
        workers == 0,
        "{workers} sessions that were only opened have a worker"
    );
    figures.set("sessions", open.len());
    open.pop();
    drop(Device::open(&nodes, false).context("an open after one has gone")?);
    drop(open);
    set_parameter("max_sessions", default)?;

    // Memory: of one session, then of all; and all of it comes back.
    let clip = common.clips()?.usual("1080p")?;
    let plan = Plan::new(clip.codec, &clip.jobs);
    for name in ["max_session_mb", "max_memory_mb"] {
        let before = parameter(name)?;
        set_parameter(name, 1)?;
        let refused = Session::open(&nodes, &plan, &Options::default());
        set_parameter(name, before)?;
        // Not even one picture of 1080p fits.
        match refused {
            Err(error) if error.errno() == Some(Errno::NOMEM) => {}
            Err(error) => bail!("beyond {name}: {error}"),
            Ok(_) => bail!("{name} is no limit"),
        }
    }
    let session = decode(&nodes, clip.codec, &clip.jobs, &Options::default())?;
    figures.set("exact_pictures", clip.compare_all(session.pictures())?);
    let used = debugfs::stat("memory")?;
    ensure!(used > 0, "a session with buffers uses no memory");
    figures.set("session_bytes", used);
    drop(session);
    // A work item frees, and a worker keeps until it ends.
    let end = Instant::now() + Duration::from_secs(2);
    while debugfs::stat("memory")? != 0 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    let left = debugfs::stat("memory")?;
    ensure!(left == 0, "{left} bytes are left when all sessions have gone");
    broker.stop()?;
    Ok(())
}
