// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Structured ioctls with a daemon that works: several processes, each with sessions of its own, some of
//! which a thread or another process uses at the same time.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use daedalus_client::device::Nodes;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::client::{self, Client};
use super::common::{Common, ended, start};
use super::raw::{self, Arg};
use super::table::{Node, Op, Tally};
use crate::guest::broker::{self, Broker};
use crate::guest::clip::{Clip, Clips};
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::left;
use crate::random::Random;
use crate::stateful;

/// Arguments of `ioctls`.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Ioctls, of all processes together.
    #[arg(long, default_value_t = 20_000)]
    calls: u64,
    /// Processes at the same time.
    #[arg(long, default_value_t = 3)]
    processes: u64,
    /// On the stateful node.
    #[arg(long)]
    pub(super) stateful: bool,
}

/// Arguments of a process of it.
#[derive(Debug, clap::Args)]
pub(super) struct ProcessOptions {
    /// Ioctls of this process.
    #[arg(long)]
    calls: u64,
    /// Which of the seed's sequences it follows.
    #[arg(long)]
    part: u64,
    /// On the stateful node.
    #[arg(long)]
    stateful: bool,
}

/// A node, and what its clients play there.
struct Ground {
    nodes: Nodes,
    clips: Vec<Clip>,
    /// Of each clip's stream; empty on the stateless node.
    units: Vec<Arc<Vec<Vec<u8>>>>,
}

impl Ground {
    fn new(common: &Common, is_stateful: bool) -> Result<Self> {
        let mut nodes = broker::nodes()?;
        let clips = common.small_clips()?;
        let mut units = Vec::new();
        if is_stateful {
            nodes.video = daedalus_client::stateful::find(clips[0].codec.info().stateful_formats[0])?;
            let list = Clips::load(&common.clips)?;
            for clip in &clips {
                let (file, codec) = list.file(&clip.name)?;
                units.push(Arc::new(stateful::units(codec, &file)?));
            }
        }
        Ok(Self { nodes, clips, units })
    }

    /// Makes a fuzzer of `video` that goes on with the clip of this number.
    fn client(&self, video: OwnedFd, clip: usize, rng: Random) -> Result<Client<'_>> {
        let client = Client::new(video, &self.nodes, &self.clips[clip], rng)?;
        Ok(match self.units.get(clip) {
            Some(units) => client.with_units(units),
            None => client,
        })
    }

    /// Words of a process that plays here.
    fn words(&self, calls: u64, part: u64) -> Vec<String> {
        let mut words = vec![format!("--calls={calls}"), format!("--part={part}")];
        if !self.units.is_empty() {
            words.push("--stateful".into());
        }
        words
    }
}

/// What a process did.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    tally: Tally,
    /// Jobs that came back decoded.
    decoded: u64,
    sessions: u64,
    racing_threads: u64,
    racing_processes: u64,
}

impl Report {
    fn add(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        self.decoded += other.decoded;
        self.sessions += other.sessions;
        self.racing_threads += other.racing_threads;
        self.racing_processes += other.racing_processes;
    }

    fn take(&mut self, client: &mut Client<'_>) {
        self.tally.add(&std::mem::take(&mut client.tally));
        self.decoded += std::mem::take(&mut client.decoded);
    }
}

/// Demands that a client without privileges cannot raise its priority: the core would refuse all others
/// nearly everything.
fn no_priority(nodes: &Nodes) -> Result<()> {
    let refused = std::thread::scope(|scope| {
        let unprivileged = scope.spawn(|| -> Result<_> {
            // Capabilities are a thread's own.
            let mut sets = rustix::thread::capabilities(None)?;
            sets.effective = rustix::thread::CapabilitySet::empty();
            let video = client::open(&nodes.video)?;
            rustix::thread::set_capabilities(None, sets)?;
            let mut arg = Arg::default();
            arg.set(0, 3);
            Ok(raw::call(video.as_fd(), Op::SPriority.opcode(), &mut arg))
        });
        unprivileged.join().map_err(|_| anyhow!("a thread panicked"))
    })??;
    ensure!(
        refused == Err(Errno::PERM),
        "S_PRIORITY without privileges: {refused:?}"
    );
    Ok(())
}

/// Runs the scenario.
pub(super) fn run(common: &Common, options: &Options, figures: &mut Figures) -> Result<()> {
    let faces = if options.stateful {
        &["--faces=both"][..]
    } else {
        &[]
    };
    let (broker, _) = Broker::start_logged(&common.broker_log, faces)?;
    let ground = Ground::new(common, options.stateful)?;
    no_priority(&ground.nodes)?;
    let children: Vec<Child> = (0..options.processes)
        .map(|part| {
            let words = ground.words(options.calls.div_ceil(options.processes), part);
            start(common, "ioctls-process", &words, Stdio::null())
        })
        .collect::<Result<_>>()?;
    let mut all = Report::default();
    for child in children {
        all.add(&ended(child, "a process of the ioctl fuzzer")?);
    }
    ensure!(
        debugfs::stat("sessions")? == 0,
        "sessions are left although every process has ended"
    );
    broker.stop()?;
    let left = left::nothing_and_nobody();
    let (calls, succeeded) = all.tally.total(None);
    figures.set("calls", calls);
    figures.set("succeeded", succeeded);
    figures.set("jobs_decoded", all.decoded);
    figures.set("sessions", all.sessions);
    figures.set("racing_threads", all.racing_threads);
    figures.set("racing_processes", all.racing_processes);
    if options.stateful {
        for op in Op::of(Node::Stream) {
            let count = all.tally.0.get(&op).map_or(0, |count| count.succeeded);
            ensure!(count > 0, "{op:?} has never succeeded");
        }
    } else {
        shares(&all.tally, &[Node::Video, Node::Media], figures)?;
    }
    ensure!(
        all.decoded > 0,
        "nothing was decoded: the workers were never reached"
    );
    ensure!(calls >= options.calls, "only {calls} ioctls were called");
    left
}

/// Fewer calls than these are a short run.
const FEW_CALLS: u64 = 100_000;

/// Notes what each ioctl had of its node's calls and of success, in percent, and demands that each was called
/// and succeeded often enough.
pub(super) fn shares(tally: &Tally, nodes: &[Node], figures: &mut Figures) -> Result<()> {
    let percent = |part: u64, whole: u64| (part as f64 * 1000.0 / whole.max(1) as f64).round() / 10.0;
    let mut rare = Vec::new();
    let mut table = serde_json::Map::new();
    for node in nodes {
        let (calls, succeeded) = tally.total(Some(*node));
        let name = format!("{node:?}").to_lowercase();
        figures.set(&format!("{name}_calls"), calls);
        figures.set(&format!("{name}_succeeded_percent"), percent(succeeded, calls));
        // The calls of a session succeed or fail together, and a short run has few sessions.
        let least = if calls < FEW_CALLS { 15.0 } else { 25.0 };
        if percent(succeeded, calls) + chance(succeeded, calls) < least {
            rare.push(format!("{name}: {} % succeed", percent(succeeded, calls)));
        }
        for op in Op::of(*node) {
            let count = tally.0.get(&op).cloned().unwrap_or_default();
            let (share, good) = (percent(count.calls, calls), percent(count.succeeded, count.calls));
            if share + chance(count.calls, calls) < 1.0 || count.succeeded == 0 {
                rare.push(format!(
                    "{op:?}: {share} % of the calls, of which {good} % succeed"
                ));
            }
            table.insert(
                format!("{op:?}"),
                json!({ "calls": count.calls, "share_percent": share, "succeeded_percent": good,
                    "errors": count.errors }),
            );
        }
    }
    figures.set("ioctls", table);
    ensure!(
        rare.is_empty(),
        "called or succeeding too rarely: {}",
        rare.join("; ")
    );
    Ok(())
}

/// Returns by how many percent a share of so many calls may be off by chance, three standard deviations:
/// hardly any in a whole run, a few in the small part that `./dev test` takes.
fn chance(part: u64, whole: u64) -> f64 {
    let whole = whole.max(1) as f64;
    let share = part as f64 / whole;
    300.0 * (share * (1.0 - share) / whole).sqrt()
}

/// Runs one process of the fuzzer.
pub(super) fn process(common: &Common, options: &ProcessOptions) -> Result<()> {
    let ground = Ground::new(common, options.stateful)?;
    let mut rng = Random::part(common.seed, options.part);
    let mut report = Report::default();
    let mut racers: Vec<Child> = Vec::new();
    while report.tally.total(None).0 < options.calls {
        report.sessions += 1;
        let left = options.calls - report.tally.total(None).0;
        session(common, &ground, &mut rng, left, &mut report, &mut racers)?;
        // A racer outlives the session's first user, and not for long.
        while racers.len() > 2 {
            report.add(&ended(racers.remove(0), "a racing process")?);
        }
    }
    for racer in racers {
        report.add(&ended(racer, "a racing process")?);
    }
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// Runs one session, alone or with somebody else who uses its descriptors.
fn session(
    common: &Common,
    ground: &Ground,
    rng: &mut Random,
    left: u64,
    report: &mut Report,
    racers: &mut Vec<Child>,
) -> Result<()> {
    let clip = rng.index(ground.clips.len());
    let own = Random::new(rng.next());
    let mut client = ground.client(client::open(&ground.nodes.video)?, clip, own)?;
    let length = client.length().min(left + 50);
    let kind = rng.below(3);
    if kind == 0 {
        report.racing_processes += 1;
        let words = ground.words(length / 2, rng.next() >> 8);
        racers.push(start(
            common,
            "ioctls-racer",
            &words,
            Stdio::from(client.share()?),
        )?);
    }
    if kind == 1 {
        report.racing_threads += 1;
        let (video, seed) = (client.share()?, rng.next());
        let raced = std::thread::scope(|scope| {
            let racer = scope.spawn(move || -> Result<Report> {
                let mut racer = ground.client(video, clip, Random::new(seed))?;
                play(&mut racer, length / 2);
                let mut report = Report::default();
                report.take(&mut racer);
                Ok(report)
            });
            play(&mut client, length);
            racer.join().map_err(|_| anyhow!("a racing thread panicked"))
        });
        report.add(&raced??);
    } else {
        play(&mut client, length);
    }
    report.take(&mut client);
    if rng.one_in(2) {
        client.let_go();
    }
    Ok(())
}

fn play(client: &mut Client<'_>, calls: u64) {
    let end = client.calls + calls;
    while client.calls < end {
        client.turn();
        if client.rng().one_in(64) {
            client.let_go();
        }
        if client.rng().one_in(400) {
            client::moment(client.rng());
        }
    }
}

/// Runs a further user of a session: its standard input is the video node that another process opened.
pub(super) fn racer(common: &Common, options: &ProcessOptions) -> Result<()> {
    let ground = Ground::new(common, options.stateful)?;
    let mut rng = Random::part(common.seed, options.part);
    let video = rustix::io::fcntl_dupfd_cloexec(std::io::stdin().as_fd(), 3).context("the standard input")?;
    // The standard input itself is one more reference, which only this process's end gives up.
    let clip = rng.index(ground.clips.len());
    let mut client = ground.client(video, clip, rng)?;
    play(&mut client, options.calls);
    let mut report = Report::default();
    report.take(&mut client);
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
