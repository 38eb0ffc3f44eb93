// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reports about other drivers, clients and an earlier driver of this name, as scenarios of this device. Each
//! is named after its source.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use daedalus_client::decoder::{Options, Plan, Session, decode};
use daedalus_client::device::Nodes;
use daedalus_client::stateful::Settings;
use rustix::process::Signal;

use super::common::{Common, within};
use super::edges;
use super::freeze::Client;
use super::sessions::{patiently, state, wait_for, workers};
use super::stateful;
use super::stateful_player::{Clip, Player, joined, nal_units};
use crate::codec;
use crate::guest::broker::Broker;
use crate::guest::clip;
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::left;
use crate::guest::process::kill;

/// A report: its source, and the scenario.
type Report = (&'static str, fn(&Clip, &Common, &Nodes) -> Result<()>);

/// Reports that one daemon serves.
const REPORTS: [Report; 11] = [
    (
        "Anthias 2796: bcm2835-codec hangs before the first CAPTURE buffer",
        |clip, common, _| stateful::stop_before_capture(clip, common),
    ),
    (
        "raspberrypi/linux 7618: the end is lost with nothing queued on either queue",
        |clip, common, _| stateful::end_without_capture(clip, common),
    ),
    (
        "Anthias 3164: a screen keeps pictures, and the decoder waits for them",
        kept_pictures,
    ),
    ("bcm2835-codec: stalls at high bitrates", high_bitrate),
    (
        "bcm2835-codec: warnings after hours of opening and closing",
        cycles,
    ),
    ("bcm2835-codec: sixteen changes of size", |clip, common, _| {
        stateful::size_changes(clip, common)
    }),
    ("bcm2835-codec: an event for other colours", |clip, common, _| {
        stateful::colours(clip, common)
    }),
    (
        "daedalus a3ada8ba: EBUSY among the processes of a browser",
        many_openers,
    ),
    ("daedalus a43296c1: a worker crashes at steps of size", steps),
    (
        "daedalus 29f16ece: a session decodes with the controls of another",
        two_sequences,
    ),
    (
        "AsahiLinux/linux 628: large allocations for each job",
        large_allocations,
    ),
];

/// Pictures that a screen keeps: the one that it shows, and the next one.
const KEPT: usize = 2;
/// Bytes of a long NAL unit: one for each picture would be 250 Mbit/s.
const HIGH_BITRATE_UNIT: usize = 1 << 20;
/// How many such units a stream has.
const HIGH_BITRATE_UNITS: usize = 32;
/// How often a session is opened and closed in each of its states.
const CYCLES: usize = 3;
/// Sessions that are opened at the same time.
const OPENERS: usize = 4;
/// Where the kernel is told which pages it does not have.
const FAULTS: &str = "/sys/kernel/debug/fail_page_alloc";
/// Allocations of this order and above fail: 64 KiB.
const LARGE_ORDER: u32 = 4;

/// Tries every report with the usual codec. Time is not measured.
pub(super) fn reports(common: &Common, figures: &mut Figures) -> Result<()> {
    patiently(|| all(common, figures))
}

fn all(common: &Common, figures: &mut Figures) -> Result<()> {
    edges::flush_held(common, figures).context("daedalus f10a26d8: a held buffer is queued twice")?;
    dead_daemon(common).context("daedalus 94be8c3d: clients cannot be killed when the daemon is dead")?;
    let clip = Clip::load(common, &codec::usual("240p"))?;
    let (broker, nodes) = Broker::start_with(common, &["--faces=both"])?;
    let mut wrong = Vec::new();
    for (source, report) in REPORTS {
        let start = Instant::now();
        let result = report(&clip, common, &nodes);
        eprintln!("{source}: {result:?}, {:?}", start.elapsed());
        if let Err(error) = result {
            wrong.push(format!("{source}: {error:#}"));
        }
    }
    broker.stop()?;
    figures.set("reports", REPORTS.len() + 2);
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    left::nothing()
}

/// Plays with one buffer more than a screen keeps.
fn kept_pictures(clip: &Clip, _: &Common, _: &Nodes) -> Result<()> {
    let settings = Settings {
        more_buffers: 1,
        ..Settings::default()
    };
    let mut player = Player::open(clip, settings)?;
    player.stream.keep_pictures(true);
    player.until("CAPTURE", |player| player.stream.streams())?;
    let buffers = player.stream.raw().len();
    ensure!(buffers == KEPT + 1, "{buffers} buffers");
    let mut stopped = false;
    while !player.over {
        while player.feed()? {}
        if player.fed == clip.units.len() && !stopped && player.stream.streams() {
            player.stream.stop()?;
            stopped = true;
        }
        while player.stream.held() > KEPT {
            player.stream.release_one()?;
        }
        player.turn()?;
    }
    player.check()
}

/// Plays units that fill their buffers, in each codec with start codes: zeros may stand before each.
fn high_bitrate(_: &Clip, common: &Common, _: &Nodes) -> Result<()> {
    for name in codec::every("240p") {
        let clip = Clip::load(common, &name)?;
        if !clip.has_start_codes() {
            continue;
        }
        let mut units = nal_units(&clip)?;
        let step = units.len().div_ceil(HIGH_BITRATE_UNITS);
        for unit in units.iter_mut().step_by(step) {
            unit.resize(HIGH_BITRATE_UNIT.max(unit.len()), 0);
        }
        clip.play(stateful::settings_of(&units), &units, &clip.sums)
            .context(name)?;
    }
    Ok(())
}

fn cycles(clip: &Clip, common: &Common, _: &Nodes) -> Result<()> {
    for _ in 0..CYCLES {
        stateful::closing(clip, common)?;
    }
    Ok(())
}

/// Opens both nodes from many sides at once, and plays on each.
fn many_openers(clip: &Clip, common: &Common, nodes: &Nodes) -> Result<()> {
    let jobs = common.clips()?.clip(&clip.name)?;
    let ready = Barrier::new(OPENERS);
    std::thread::scope(|scope| {
        let openers: Vec<_> = (0..OPENERS)
            .map(|opener| {
                let (ready, jobs) = (&ready, &jobs);
                scope.spawn(move || -> Result<()> {
                    ready.wait();
                    if opener % 2 == 0 {
                        return clip.play(Settings::default(), &clip.units, &clip.sums).map(drop);
                    }
                    let session = decode(nodes, jobs.codec, &jobs.jobs, &Options::default())?;
                    jobs.compare_all(session.pictures()).map(drop)
                })
            })
            .collect();
        openers.into_iter().try_for_each(|opener| {
            opener
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a client panicked")))
        })
    })
}

/// Climbs a ladder of sizes and comes down again, as adaptive streams do.
fn steps(clip: &Clip, common: &Common, _: &Nodes) -> Result<()> {
    let rungs = ["qvga", "240p", "360p", "480p", "360p", "240p", "qvga"];
    let rungs: Vec<Clip> = rungs
        .iter()
        .map(|size| Clip::load(common, &format!("{}-{size}", clip.codec)))
        .collect::<Result<_>>()?;
    let (units, sums) = joined(&rungs);
    let formats = rungs[0].play(stateful::settings_of(&units), &units, &sums)?;
    ensure!(
        formats as usize == rungs.len(),
        "{formats} formats were announced"
    );
    Ok(())
}

/// Decodes streams with other parameters in two sessions, a job of each in turn.
fn two_sequences(_: &Clip, common: &Common, nodes: &Nodes) -> Result<()> {
    let clips = common.clips()?;
    let clips = [clips.usual("240p")?, clips.usual("qvga")?];
    let open =
        |clip: &clip::Clip| Session::open(nodes, &Plan::new(clip.codec, &clip.jobs), &Options::default());
    let mut sessions = [open(&clips[0])?, open(&clips[1])?];
    let most = clips.iter().map(|clip| clip.jobs.len()).max().unwrap_or_default();
    for index in 0..most {
        for (session, clip) in sessions.iter_mut().zip(&clips) {
            if let Some(job) = clip.jobs.get(index) {
                session.submit(job)?;
            }
        }
    }
    for (session, clip) in sessions.iter_mut().zip(&clips) {
        session.drain()?;
        clip.compare_all(session.pictures())?;
    }
    Ok(())
}

/// Large allocations that fail, until it is dropped.
struct NoLargePages;

impl NoLargePages {
    fn begin() -> Result<Self> {
        let this = Self;
        Self::tell("min-order", LARGE_ORDER)?;
        Self::tell("verbose", 0)?;
        Self::tell("times", -1)?;
        std::fs::write(PathBuf::from(FAULTS).join("ignore-gfp-wait"), "N")?;
        Self::tell("probability", 100)?;
        Ok(this)
    }

    fn tell(name: &str, value: impl std::fmt::Display) -> Result<()> {
        let path = PathBuf::from(FAULTS).join(name);
        std::fs::write(&path, value.to_string())
            .with_context(|| format!("{}: the kernel injects no faults", path.display()))
    }
}

impl Drop for NoLargePages {
    fn drop(&mut self) {
        let told = Self::tell("probability", 0);
        debug_assert!(told.is_ok());
    }
}

/// Plays on while the kernel has no large pages, on both nodes.
fn large_allocations(clip: &Clip, common: &Common, nodes: &Nodes) -> Result<()> {
    let jobs = common.clips()?.clip(&clip.name)?;
    let mut session = Session::open(nodes, &Plan::new(jobs.codec, &jobs.jobs), &Options::default())?;
    let (first, rest) = jobs.jobs.split_at(jobs.jobs.len() / 2);
    for job in first {
        session.submit(job)?;
    }
    let mut player = Player::open(clip, Settings::default())?;
    player.until("pictures", |player| player.pictures.len() >= 2)?;
    let without = NoLargePages::begin()?;
    for job in rest {
        session.submit(job)?;
    }
    session.drain()?;
    player.finish()?;
    drop(without);
    jobs.compare_all(session.pictures())?;
    player.check()
}

/// Kills daemon and worker while a client waits for a job, and then the client, which must not wait where no
/// signal reaches it.
fn dead_daemon(common: &Common) -> Result<()> {
    let (broker, _) = Broker::start_with(common, &["--fault=stall:3:60000"])?;
    let client = Client::start(common, Stdio::null())?;
    let pid = client.0.id();
    wait_for("a job in flight", Duration::from_secs(20), || {
        let sessions = debugfs::sessions()?;
        Ok(sessions.iter().any(|session| session.number("in_flight") > 0))
    })?;
    let dying = workers()?;
    broker.end(Signal::KILL)?;
    for worker in dying {
        kill(worker, Signal::KILL).ok();
    }
    let start = Instant::now();
    while start.elapsed() < common.limit() {
        ensure!(
            state(pid) != Some('D'),
            "the client waits where no signal reaches it"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    kill(pid, Signal::KILL)?;
    let start = Instant::now();
    drop(client);
    within("a killed client's end", start.elapsed(), common.limit())
}
