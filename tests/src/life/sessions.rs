// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Many sessions at once: what each of them costs, and that nothing is left of those whose client vanishes.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daedalus_client::decoder::{Options, Plan, Session};
use daedalus_client::device::Device;
use rustix::io::Errno;
use rustix::process::Signal;

use super::common::{Common, TurnArgs, WATCHDOG};
use super::long::private;
use crate::codec;
use crate::guest::broker::{self, Broker};
use crate::guest::clip::Clip;
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::left::ResourceUsage;
use crate::guest::module::{parameter, set_parameter, with_parameter};
use crate::guest::process::{kill, pids};

/// Sessions that are open at one time.
const SESSIONS: usize = 64;
/// The size of the clips that they decode, in turn.
const SIZE: &str = "1080p";
/// KiB of private memory that a worker may have after one picture.
const MOST_KIB: u64 = 25 * 1024;
/// Jobs that a client which is to vanish has done before: what it maps is all there, and the rest is other
/// scenarios' matter.
const FIRST: usize = 6;
/// What a picture and the start of a worker may take where time is not measured.
const PATIENCE_MS: u64 = 8000;
/// The module's parameter with the time that a worker may outlive its client.
const WORKER_WAIT: &str = "worker_wait_ms";
/// The name of a worker's process.
const WORKER: &str = "daedalus-worker";

/// Arguments of `sessions-client`.
#[derive(Debug, clap::Args)]
pub(super) struct ClientArgs {
    /// The clip that it plays.
    #[arg(long)]
    clip: String,
    /// Again and again; without it, once, and then the session stays open.
    #[arg(long)]
    again: bool,
    /// How many of the clip's jobs it does the first time, before it says so; all without it.
    #[arg(long, value_name = "JOBS")]
    first: Option<usize>,
}

/// Returns the processes that are workers, whoever they belong to. Zombies are none.
pub(super) fn workers() -> Result<HashSet<u32>> {
    let mut found = HashSet::new();
    for pid in pids()? {
        // It may end meanwhile.
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if comm.trim_end() == WORKER && !matches!(state(pid), None | Some('Z' | 'X')) {
            found.insert(pid);
        }
    }
    Ok(found)
}

/// Returns the letter of a process's state; `None` if there is no such process.
pub(super) fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Waits until `check` holds; returns how long that took.
pub(super) fn wait_for(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    while !check()? {
        ensure!(
            start.elapsed() <= limit,
            "{what}: not within {} ms",
            limit.as_millis()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(start.elapsed())
}

/// Runs `body` while pictures and workers may take their time: time is not measured here, and the machine may
/// be busy otherwise.
pub(super) fn patiently<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let names = [WATCHDOG, WORKER_WAIT];
    let before = [parameter(names[0])?, parameter(names[1])?];
    for (name, value) in names.into_iter().zip(before) {
        set_parameter(name, value.max(PATIENCE_MS))?;
    }
    let result = body();
    for (name, value) in names.into_iter().zip(before) {
        set_parameter(name, value)?;
    }
    result
}

/// Reads the entries of the dmabufs that a process has mapped, each with its header (proc_pid_smaps(5)).
pub(super) fn mapped_dmabufs(pid: u32) -> Result<Vec<String>> {
    let path = format!("/proc/{pid}/smaps");
    let smaps = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(dmabufs(&smaps))
}

/// Returns the entries of dmabufs in a `smaps` file.
pub(super) fn dmabufs(smaps: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    let mut is_dmabuf = false;
    for line in smaps.lines() {
        let is_header = !line.split(' ').next().is_some_and(|word| word.ends_with(':'));
        if is_header {
            is_dmabuf = line.contains("dmabuf");
            entries.extend(is_dmabuf.then(String::new));
        }
        if let (true, Some(entry)) = (is_dmabuf, entries.last_mut()) {
            entry.push_str(line);
            entry.push('\n');
        }
    }
    entries
}

/// What one process has mapped of dmabufs.
#[derive(Debug, Default, PartialEq, Eq)]
struct MappedBuffers {
    mappings: usize,
    /// KiB that the kernel counts as resident in them.
    resident_kib: u64,
}

impl MappedBuffers {
    fn of(pid: u32) -> Result<Self> {
        Ok(Self::parse(&mapped_dmabufs(pid)?))
    }

    fn parse(entries: &[String]) -> Self {
        let resident = |line: &str| {
            let words = line.strip_prefix("Rss:")?;
            words.split_whitespace().next()?.parse::<u64>().ok()
        };
        Self {
            mappings: entries.len(),
            resident_kib: entries
                .iter()
                .flat_map(|entry| entry.lines())
                .filter_map(resident)
                .sum(),
        }
    }
}

/// Returns the KiB of memory that only this process has: its heap, stacks, changed library pages and library
/// pages that nobody else has mapped. The buffers of its session are shared, and mapped by page number
/// without a page that could be counted, which is checked here: what is counted of them is nothing.
fn private_kib(worker: u32) -> Result<u64> {
    let mapped = MappedBuffers::of(worker)?;
    ensure!(
        mapped.mappings >= 2,
        "worker {worker} has {} buffers mapped, and decoded a picture",
        mapped.mappings
    );
    ensure!(
        mapped.resident_kib == 0,
        "{} KiB of buffers are counted as memory of worker {worker}",
        mapped.resident_kib
    );
    let path = format!("/proc/{worker}/smaps_rollup");
    let rollup = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = private(&rollup);
    ensure!(kib > 0, "worker {worker} has no private memory");
    Ok(kib)
}

/// Decodes a clip's first picture, which is exact, with as few buffers as possible.
pub(super) fn one_picture(device: Arc<Device>, clip: &Clip) -> Result<Session> {
    let key = &clip.jobs[..1];
    ensure!(key[0].key, "it begins with no key frame");
    let options = Options {
        depth: 1,
        patience: Duration::from_secs(30),
        ..Options::default()
    };
    let mut session = Session::prepare(device, &Plan::new(clip.codec, key), &options)?;
    session.submit(&key[0])?;
    session.drain()?;
    clip.compare(session.pictures(), 0..1)?;
    Ok(session)
}

pub(super) fn many_sessions(common: &Common, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?.every(SIZE)?;
    let (broker, nodes) = Broker::start(common)?;
    let default = parameter("max_sessions")?;
    set_parameter("max_sessions", SESSIONS as u64)?;
    let mut devices = Vec::new();
    for number in 0..SESSIONS {
        devices.push(Device::open(&nodes, false).with_context(|| format!("session {number}"))?);
    }
    let refused = Device::open(&nodes, false).err().and_then(|error| error.errno());
    set_parameter("max_sessions", default)?;
    ensure!(refused == Some(Errno::MFILE), "one open too many: {refused:?}");
    ensure!(
        workers()?.is_empty(),
        "sessions that were only opened have workers"
    );

    let sessions = patiently(|| {
        let in_turn = devices.into_iter().zip(clips.iter().cycle()).enumerate();
        in_turn
            .map(|(number, (device, clip))| {
                one_picture(device, clip).with_context(|| format!("session {number}, {}", clip.name))
            })
            .collect::<Result<Vec<Session>>>()
    })?;
    figures.set("exact_pictures", sessions.len());

    let listed = debugfs::own_sessions()?;
    let own: HashSet<u32> = listed
        .iter()
        .map(|session| session.number("worker") as u32)
        .collect();
    ensure!(
        own.len() == SESSIONS && own == workers()?,
        "{SESSIONS} sessions decoded, and have {} workers",
        own.len()
    );
    figures.set("workers", own.len());
    figures.set("buffers_mib", debugfs::stat("memory")? >> 20);
    let mut most = 0;
    for clip in &clips {
        let coded = clip.codec.coded_format().to_le_bytes();
        let coded = String::from_utf8_lossy(&coded);
        let kib = listed
            .iter()
            .filter(|session| session.text("format") == coded)
            .map(|session| private_kib(session.number("worker") as u32))
            .collect::<Result<Vec<u64>>>()?;
        ensure!(
            kib.len() >= SESSIONS / clips.len(),
            "{} sessions decode {coded}",
            kib.len()
        );
        let largest = kib.iter().copied().max().unwrap_or_default();
        most = most.max(largest);
        figures.set(&format!("{}_private_kib_most", clip.name), largest);
        figures.set(
            &format!("{}_private_kib_mean", clip.name),
            kib.iter().sum::<u64>() / kib.len() as u64,
        );
    }
    ensure!(
        most < MOST_KIB,
        "a worker has {most} KiB of private memory after one picture, and {MOST_KIB} are allowed"
    );
    drop(sessions);
    let took = wait_for("the workers end", common.limit(), || Ok(workers()?.is_empty()))?;
    figures.longest("workers_ended_ms", took);
    broker.stop()?;
    Ok(())
}

/// Runs a client's process, until its standard input ends or it is killed.
pub(super) fn client(common: &Common, args: &ClientArgs) -> Result<()> {
    let clip = common.clips()?.clip(&args.clip)?;
    let nodes = broker::nodes()?;
    let mut session = Session::open(&nodes, &Plan::new(clip.codec, &clip.jobs), &Options::default())?;
    let all = clip.jobs.len();
    let mut count = args.first.map_or(all, |first| first.min(all));
    loop {
        for job in &clip.jobs[..count] {
            session.submit(job)?;
        }
        session.drain()?;
        println!("{}", clip.compare(&session.take_pictures(), 0..count)?);
        if !args.again {
            break;
        }
        session.restart()?;
        count = all;
    }
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Memory of buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BufferMemory {
    /// What the module has charged to sessions.
    charged: u64,
    /// What is really there: the sizes of all dmabufs in the kernel. Each plane has one for its worker, and
    /// its memory cannot go before that, which every mapping holds.
    exported: u64,
}

impl BufferMemory {
    fn now() -> Result<Self> {
        let left = ResourceUsage::now()?;
        Ok(Self {
            charged: left.memory,
            exported: left.bytes,
        })
    }
}

/// A client in a process of its own, which has decoded pictures; its worker has the buffers mapped.
struct Victim {
    process: Child,
    /// Open for as long as the client is to live.
    _stdin: ChildStdin,
    worker: u32,
}

impl Victim {
    fn start(common: &Common, clip: &str, again: bool) -> Result<Self> {
        let list = common.clips.as_deref().context("this scenario needs --clips")?;
        let mut process = Command::new(std::env::current_exe()?)
            .args([
                "life",
                "sessions-client",
                "--clip",
                clip,
                "--first",
                &FIRST.to_string(),
            ])
            .arg("--clips")
            .arg(list)
            .args(again.then_some("--again"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a client")?;
        let stdin = process.stdin.take().context("no pipe to the client")?;
        let stdout = process.stdout.take().context("no pipe from the client")?;
        let mut victim = Self {
            process,
            _stdin: stdin,
            worker: 0,
        };
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the client that plays {clip} has failed");
        // It says more with --again, and nobody is to wait for it.
        std::thread::spawn(move || stdout.lines().for_each(drop));
        let client = u64::from(victim.process.id());
        let sessions = debugfs::sessions()?;
        let session = sessions.iter().find(|session| session.number("client") == client);
        victim.worker = session.context("the client has no session")?.number("worker") as u32;
        ensure!(victim.worker > 0, "the client's session has no worker");
        Ok(victim)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // It has ended already, unless the scenario failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
        // A worker that is stopped would stay, and keep the module.
        if state(self.worker) == Some('T') {
            let _ = kill(self.worker, Signal::KILL);
        }
    }
}

/// How the client's worker is when the client vanishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// It decodes.
    Busy,
    /// It waits for jobs.
    Idle,
    /// It was stopped in the middle of jobs.
    StoppedBusy,
    /// It was stopped, and has no job.
    StoppedIdle,
}

impl Moment {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Busy, "busy_ms"),
        (Self::Idle, "idle_ms"),
        (Self::StoppedBusy, "stopped_busy_ms"),
        (Self::StoppedIdle, "stopped_idle_ms"),
    ];

    fn plays(self) -> bool {
        matches!(self, Self::Busy | Self::StoppedBusy)
    }

    fn stops(self) -> bool {
        matches!(self, Self::StoppedBusy | Self::StoppedIdle)
    }
}

/// Arguments of `vanished-client`.
#[derive(Debug, clap::Args)]
pub(super) struct VanishArgs {
    /// How long a worker may outlive its client meanwhile, in milliseconds; the module's own time without it.
    #[arg(long)]
    worker_wait_ms: Option<u64>,
    #[command(flatten)]
    turns: TurnArgs,
}

/// Kills clients, and looks for what is left of them.
pub(super) fn vanished_client(common: &Common, args: &VanishArgs, figures: &mut Figures) -> Result<()> {
    with_parameter(WORKER_WAIT, args.worker_wait_ms, |_| {
        vanish_all(common, &args.turns, figures)
    })
}

/// Kills clients of each codec, at each moment.
fn vanish_all(common: &Common, turns: &TurnArgs, figures: &mut Figures) -> Result<()> {
    let (broker, _) = Broker::start(common)?;
    let watchdog = Duration::from_millis(parameter(WATCHDOG)?);
    let (names, mut killed) = (codec::every(SIZE), 0);
    for (codec, name) in names.iter().enumerate() {
        for (case, (moment, figure)) in Moment::ALL.into_iter().enumerate() {
            if !turns.take(case, codec, names.len()) {
                continue;
            }
            // A process that cannot run is given the watchdog's time, as for a job.
            let limit = common.limit() + if moment.stops() { watchdog } else { Duration::ZERO };
            let (took, mapped) =
                vanish(common, name, moment, limit).with_context(|| format!("{name}, {moment:?}"))?;
            figures.longest(figure, took);
            figures.most("mapped_buffers", mapped);
            killed += 1;
        }
    }
    figures.set("killed_clients", killed);
    figures.longest("watchdog_ms", watchdog);
    broker.stop()?;
    Ok(())
}

/// Kills a client: how long it takes until its memory is free and its worker has gone, and how many buffers
/// that had mapped.
fn vanish(common: &Common, clip: &str, moment: Moment, limit: Duration) -> Result<(Duration, usize)> {
    let before = BufferMemory::now()?;
    let (mut victim, mapped, usage) = patiently(|| {
        let victim = Victim::start(common, clip, moment.plays())?;
        if moment.stops() {
            kill(victim.worker, Signal::STOP)?;
            wait_for(
                "SIGSTOP",
                common.limit(),
                || Ok(state(victim.worker) == Some('T')),
            )?;
        }
        let mapped = MappedBuffers::of(victim.worker)?.mappings;
        Ok((victim, mapped, BufferMemory::now()?))
    })?;
    let worker = victim.worker;
    ensure!(mapped >= 2, "the worker has {mapped} buffers mapped");
    ensure!(
        usage.charged > before.charged && usage.exported > before.exported,
        "a session with buffers holds {usage:?}, and none {before:?}"
    );
    let start = Instant::now();
    victim.process.kill().context("cannot kill the client")?;
    victim.process.wait()?;
    let mut left = before;
    wait_for("the memory is free and the worker gone", limit, || {
        left = BufferMemory::now()?;
        Ok(left == before && matches!(state(worker), None | Some('Z' | 'X')))
    })
    .with_context(|| format!("{left:?} is left of {usage:?}, {:?} of the worker", state(worker)))?;
    Ok((start.elapsed(), mapped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_dmabufs_are_told_from_other_memory() {
        let smaps = "7f10-7f20 rw-s 00000000 00:0b 7 /dmabuf:\nSize: 64 kB\nRss: 0 kB\n\
                     7f20-7f30 rw-p 00000000 00:00 0\nRss: 64 kB\n\
                     7f30-7f40 r--s 00000000 00:0b 8 /dmabuf:\nRss: 4 kB\n";
        let expected = MappedBuffers {
            mappings: 2,
            resident_kib: 4,
        };
        assert_eq!(MappedBuffers::parse(&dmabufs(smaps)), expected);
    }
}
