// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Damaged jobs in the second of four closed groups of pictures, while another session plays something else:
//! every job is answered in time, the other groups are exact, and the damaged one shows only this session's
//! own pictures.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use daedalus_client::CodedJob;
use daedalus_client::device::Nodes;
use md5::{Digest, Md5};
use rustix::io::Errno;
use serde_json::json;

use super::common::Common;
use super::foreign::{ForeignPieces, RECOGNISED};
use super::variants::{DamagedJob, Kind, damage};
use crate::codec;
use crate::guest::broker::Broker;
use crate::guest::clip::{Clip, Clips, later};
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::rig::{ReturnedPicture, Rig};

/// Arguments of `damage`.
#[derive(Debug, clap::Args)]
pub(super) struct DamageArgs {
    /// The small clip of closed groups of pictures.
    clip: String,
    /// A clip of the same codec (of the large ones) whose pictures are larger.
    #[arg(long)]
    larger: String,
    /// Threads of a session's decoder; clips as small as these have one if nothing is said.
    #[arg(long)]
    threads: Option<u32>,
    /// How many variants.
    #[arg(long, default_value_t = 500)]
    variants: u64,
    /// The seed of the first variant; the next has the next. With `--variants 1`, one is repeated.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Variants that one session plays.
const PER_SESSION: u64 = 25;
/// More bytes than this that were not written are no chance.
const STALE: usize = 7;
/// Complaints that are quoted.
const QUOTED: usize = 12;

/// The counts of one kind of damage.
#[derive(Debug, Default)]
struct Tally {
    variants: usize,
    /// Pictures of the damaged groups: all, with the error flag, not exact, not exact and without the flag.
    pictures: usize,
    flagged: usize,
    inexact: usize,
    silent: usize,
}

/// The findings of all kinds of damage.
#[derive(Debug, Default)]
struct Findings {
    kinds: BTreeMap<Kind, Tally>,
    pictures: usize,
    refused: usize,
    longest: Duration,
    losses: u64,
    complaints: Vec<String>,
}

/// A clip, and the checksums of its pictures.
struct Subject {
    clip: Clip,
    /// MD5 of the picture of every job, shown or not.
    right: HashMap<u64, [u8; 16]>,
    /// Jobs that begin a group.
    keys: Vec<usize>,
    larger: CodedJob,
    payload: usize,
}

pub(super) fn damage_groups(common: &Common, args: &DamageArgs, figures: &mut Figures) -> Result<()> {
    let threads = args.threads.map(|threads| format!("--threads={threads}"));
    let words: Vec<&str> = threads.as_deref().into_iter().collect();
    figures.set("stream", [&[args.clip.as_str()], &words[..]].concat().join(" "));
    figures.set("first_seed", args.seed);
    let small = common.small()?;
    let (broker, nodes) = Broker::start_with(common, &words)?;
    let subject = Subject::load(&nodes, &small, &common.clips()?, args)?;
    let other = small.clip(codec::NOISE)?;
    let foreign = foreign(&nodes, &other)?;
    let done = AtomicBool::new(false);
    let rounds = AtomicUsize::new(0);
    let mut findings = Findings::default();
    let played = std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                play_clean(&nodes, &other, 3).context("the other session")?;
                rounds.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        });
        let mut seed = args.seed;
        let end = args.seed + args.variants;
        let mut played = Ok(());
        while seed < end && played.is_ok() {
            let next = end.min(seed + PER_SESSION);
            played = session(
                &nodes,
                &subject,
                &foreign,
                seed..next,
                common.limit(),
                &mut findings,
            );
            seed = next;
        }
        done.store(true, Ordering::Relaxed);
        let neighbour = neighbour
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the other session panicked")));
        played.and(neighbour)
    });
    report(&findings, figures);
    figures.set("rounds_of_the_other_session", rounds.load(Ordering::Relaxed));
    played?;
    if !findings.complaints.is_empty() {
        for complaint in &findings.complaints {
            eprintln!("{complaint}");
        }
        let quoted: Vec<&str> = findings
            .complaints
            .iter()
            .take(QUOTED)
            .map(String::as_str)
            .collect();
        bail!("{} variants: {}", findings.complaints.len(), quoted.join("; "));
    }
    ensure!(
        rounds.load(Ordering::Relaxed) > 0,
        "the other session played nothing"
    );
    broker.stop()?;
    Ok(())
}

impl Subject {
    fn load(nodes: &Nodes, small: &Clips, large: &Clips, args: &DamageArgs) -> Result<Self> {
        let clip = small.clip(&args.clip)?;
        let keys: Vec<usize> = (0..clip.jobs.len()).filter(|at| clip.jobs[*at].key).collect();
        ensure!(
            keys.len() >= 4 && keys[0] == 0,
            "{} has key frames at {keys:?}, not four closed groups",
            clip.name
        );
        let larger = large.clip(&args.larger)?;
        ensure!(larger.codec == clip.codec, "{} is of another codec", larger.name);
        let larger = larger.jobs[0].clone();
        let payloads = clip.jobs.iter().chain([&larger]).map(|job| job.payload.len());
        let payload = payloads.max().unwrap_or_default();
        let right = play_clean(nodes, &clip, 1)?;
        Ok(Self {
            right: right
                .iter()
                .map(|picture| (picture.timestamp, Md5::digest(&picture.packed).into()))
                .collect(),
            clip,
            keys,
            larger,
            payload,
        })
    }

    /// Returns the jobs of the clip, `round` times later.
    fn jobs(&self, round: u64) -> Vec<CodedJob> {
        // Every variant has timestamps of its own: a picture that is missing must not be found in the one
        // before.
        let shift = self.clip.period() * round;
        self.clip
            .jobs
            .iter()
            .map(|job| later(self.clip.codec, job, shift))
            .collect()
    }
}

/// Plays a clip as it is, `times` times, and demands that all pictures are exact.
fn play_clean(nodes: &Nodes, clip: &Clip, times: usize) -> Result<Vec<ReturnedPicture>> {
    let payload = clip.jobs.iter().map(|job| job.payload.len()).max();
    let mut rig = Rig::open(nodes, clip.codec, &clip.jobs[0], payload.unwrap_or_default(), 1)?;
    let mut returned = Vec::new();
    for _ in 0..times {
        returned.clear();
        for job in &clip.jobs {
            rig.submit(job, &mut returned)?
                .with_context(|| format!("controls of {}", clip.name))?;
        }
        rig.drain(&mut returned)?;
        clip.compare_packed(&returned)?;
    }
    Ok(returned)
}

/// Returns the pieces of the other session's pictures, and makes sure that they are recognised.
fn foreign(nodes: &Nodes, clip: &Clip) -> Result<ForeignPieces> {
    let mut foreign = ForeignPieces::default();
    let pictures = play_clean(nodes, clip, 1)?;
    for picture in &pictures {
        foreign.add(&picture.packed);
    }
    let mut grey = vec![0x80; 4096];
    ensure!(
        !foreign.is_in(&grey),
        "grey is taken for a picture of the other session"
    );
    grey[1001..1001 + RECOGNISED].copy_from_slice(&pictures[0].packed[500..500 + RECOGNISED]);
    ensure!(
        foreign.is_in(&grey) && foreign.len() > 10_000,
        "the other session's pictures are too plain to be recognised"
    );
    Ok(foreign)
}

/// Plays the variants `seeds` in one session.
fn session(
    nodes: &Nodes,
    subject: &Subject,
    foreign: &ForeignPieces,
    seeds: std::ops::Range<u64>,
    limit: Duration,
    findings: &mut Findings,
) -> Result<()> {
    let clip = &subject.clip;
    let mut rig = Rig::open(nodes, clip.codec, &clip.jobs[0], subject.payload, seeds.start)?;
    let room = rig.room()?;
    let mut losses = 0;
    for (round, seed) in (0..).zip(seeds) {
        let jobs = subject.jobs(round);
        let (first, second) = (subject.keys[1], subject.keys[2]);
        let damaged = damage(clip.codec, &jobs[first..second], &subject.larger, room, seed);
        let mut returned = Vec::new();
        let play = || -> Result<()> {
            for job in &jobs[..first] {
                clean(&mut rig, job, &mut returned)?;
            }
            for job in &damaged {
                rig.renew()?;
                findings.refused += submit(&mut rig, job, &mut returned)?;
            }
            for job in &jobs[second..] {
                clean(&mut rig, job, &mut returned)?;
            }
            rig.drain(&mut returned)
        };
        let mut play = play;
        play().with_context(|| format!("seed {seed} ({:?})", Kind::of(seed)))?;
        let shift = subject.clip.period() * round;
        judge(subject, foreign, (seed, shift), &returned, limit, findings)?;
        let now = debugfs::own_sessions()?
            .iter()
            .map(|session| session.number("restarts"))
            .sum();
        if now > losses {
            findings
                .complaints
                .push(format!("seed {seed} ({:?}): the worker was lost", Kind::of(seed)));
            findings.losses += now - losses;
            losses = now;
        }
    }
    Ok(())
}

fn clean(rig: &mut Rig, job: &CodedJob, returned: &mut Vec<ReturnedPicture>) -> Result<()> {
    rig.submit(job, returned)?.context("controls of a clean job")
}

/// Submits a damaged job; returns how often the device refused its controls.
fn submit(rig: &mut Rig, damaged: &DamagedJob, returned: &mut Vec<ReturnedPicture>) -> Result<usize> {
    let mut job = damaged.job.clone();
    let mut refused = 0;
    let mut otherwise = damaged.otherwise.iter();
    loop {
        match rig.submit(&job, returned)? {
            Ok(()) => return Ok(refused),
            Err(Errno::INVAL | Errno::RANGE | Errno::NOSPC) => refused += 1,
            Err(errno) => bail!("damaged controls are refused with {errno}"),
        }
        let next = otherwise.next();
        job.controls = next.context("the device refuses clean controls")?.clone();
    }
}

/// Looks at the pictures that came back of a variant.
fn judge(
    subject: &Subject,
    foreign: &ForeignPieces,
    (seed, shift): (u64, u64),
    returned: &[ReturnedPicture],
    limit: Duration,
    findings: &mut Findings,
) -> Result<()> {
    let kind = Kind::of(seed);
    let jobs = &subject.clip.jobs;
    let (first, second) = (jobs[subject.keys[1]].timestamp, jobs[subject.keys[2]].timestamp);
    let tally = findings.kinds.entry(kind).or_default();
    tally.variants += 1;
    let mut found = Vec::new();
    for picture in returned {
        findings.pictures += 1;
        findings.longest = findings.longest.max(picture.took);
        let timestamp = picture.timestamp - shift;
        let right = subject.right.get(&timestamp).context("a picture of no job")?;
        let digest: [u8; 16] = Md5::digest(&picture.packed).into();
        let exact = digest == *right;
        let number = timestamp / 1000;
        if picture.took > limit {
            found.push(format!("picture {number} took {} ms", picture.took.as_millis()));
        }
        if (first..second).contains(&timestamp) {
            tally.pictures += 1;
            tally.flagged += usize::from(picture.error);
            tally.inexact += usize::from(!exact);
            tally.silent += usize::from(!exact && !picture.error);
            if kind.is_noticeable(subject.clip.codec) && !exact && !picture.error {
                found.push(format!("picture {number} is not exact and has no error flag"));
            }
        } else if !exact || picture.error {
            found.push(format!(
                "picture {number}, of another group, {}",
                if exact {
                    "has the error flag"
                } else {
                    "is not exact"
                }
            ));
        }
        if picture.stale > STALE {
            found.push(format!(
                "picture {number} ({}) shows {} bytes that nobody wrote",
                if picture.error { "error" } else { "no error" },
                picture.stale
            ));
        }
        if !exact && foreign.is_in(&picture.packed) {
            found.push(format!("picture {number} shows the other session's picture"));
        }
    }
    if let Some(what) = found.first() {
        let more = found.len() - 1;
        findings
            .complaints
            .push(format!("seed {seed} ({kind:?}): {what} (and {more} more)"));
    }
    Ok(())
}

fn report(findings: &Findings, figures: &mut Figures) {
    let sum = |number: fn(&Tally) -> usize| findings.kinds.values().map(number).sum::<usize>();
    figures.set("variants", sum(|tally| tally.variants));
    figures.set("pictures", findings.pictures);
    figures.set("damaged_groups_pictures", sum(|tally| tally.pictures));
    figures.set("flagged", sum(|tally| tally.flagged));
    figures.set("inexact", sum(|tally| tally.inexact));
    figures.set("inexact_without_flag", sum(|tally| tally.silent));
    figures.set("controls_refused", findings.refused);
    figures.longest("longest_answer_ms", findings.longest);
    figures.set("workers_lost", findings.losses);
    let kinds: serde_json::Map<String, serde_json::Value> = findings
        .kinds
        .iter()
        .map(|(kind, tally)| {
            let tally = json!({
                "variants": tally.variants,
                "pictures": tally.pictures,
                "flagged": tally.flagged,
                "inexact": tally.inexact,
                "inexact_without_flag": tally.silent,
            });
            (format!("{kind:?}"), tally)
        })
        .collect();
    figures.set("kinds", kinds);
}
