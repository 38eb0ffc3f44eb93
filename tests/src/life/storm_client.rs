// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client in the storm: a process of its own, since it may be killed. It plays a clip again and again and
//! says after each time, in a line of JSON, what it saw.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::decoder::{Options, Plan, Session};
use daedalus_client::device::{ClientError, Longest, Nodes};
use daedalus_client::stateful::Settings;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::common::Common;
use super::stateful::{self, Player};
use crate::guest::broker;
use crate::guest::clip::Clip;
use crate::guest::debugfs;
use crate::random::Random;

/// How long a client that starts looks for a device.
const UNSERVED: Duration = Duration::from_secs(10);

/// Arguments of a client.
#[derive(Debug, clap::Args)]
pub(super) struct ClientArgs {
    /// The clip that it plays.
    #[arg(long)]
    clip: String,
    /// Of its random choices.
    #[arg(long)]
    seed: u64,
    /// Nothing is aimed at it: one session for all the time, every picture exact, no error.
    #[arg(long)]
    spared: bool,
    /// Through the stateful node.
    #[arg(long)]
    stateful: bool,
}

/// What a client saw since it last said so.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ClientTally {
    /// Pictures that had to be exact, and were.
    pub(super) exact: u64,
    pub(super) failed_jobs: u64,
    pub(super) sessions: u64,
    /// STREAMOFF and close at random moments.
    pub(super) stops: u64,
    pub(super) closes: u64,
    /// Sessions that ended with EIO or ENODEV.
    pub(super) given_up: u64,
    pub(super) longest_call_ms: u64,
    pub(super) longest_wait_ms: u64,
    /// How many calls stayed blocked for how long.
    pub(super) classes: Vec<u64>,
    /// What must not happen.
    pub(super) wrong: Option<String>,
}

impl ClientTally {
    /// Adds another's.
    pub(super) fn add(&mut self, other: &Self) {
        self.exact += other.exact;
        self.failed_jobs += other.failed_jobs;
        self.sessions += other.sessions;
        self.stops += other.stops;
        self.closes += other.closes;
        self.given_up += other.given_up;
        self.longest_call_ms = self.longest_call_ms.max(other.longest_call_ms);
        self.longest_wait_ms = self.longest_wait_ms.max(other.longest_wait_ms);
        self.classes
            .resize(self.classes.len().max(other.classes.len()), 0);
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            *mine += theirs;
        }
        if self.wrong.is_none() {
            self.wrong.clone_from(&other.wrong);
        }
    }

    /// Adds what a session's calls took, as far as `before` has not told it.
    fn calls(&mut self, before: &Longest, now: &Longest) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.longest_call_ms = self.longest_call_ms.max(ms(now.call));
        self.longest_wait_ms = self.longest_wait_ms.max(ms(now.wait));
        self.classes.resize(now.classes.len(), 0);
        for (class, (now, before)) in self
            .classes
            .iter_mut()
            .zip(now.classes.iter().zip(&before.classes))
        {
            *class += now - before;
        }
    }
}

/// Runs the client's process.
pub(super) fn run(common: &Common, args: &ClientArgs) -> Result<()> {
    let clip = common.clips()?.repeated(&args.clip, 2)?;
    let stream = args
        .stateful
        .then(|| stateful::Clip::load(common, &args.clip))
        .transpose()?;
    let nodes = nodes()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The end of the standard input is the sign to end.
            std::io::stdin().read_to_end(&mut Vec::new()).ok();
            over.store(true, Ordering::Relaxed);
        });
        let rng = &mut Random::new(args.seed);
        let result = match (&stream, args.spared) {
            (None, true) => spared(&nodes, &clip, &over),
            (None, false) => aimed_at(&nodes, &clip, rng, &over),
            (Some(stream), true) => stream_spared(stream, &over),
            (Some(stream), false) => stream_aimed_at(stream, rng, &over),
        };
        if let Err(error) = result {
            say(&ClientTally {
                wrong: Some(format!("{} (spared: {}): {error:#}", clip.name, args.spared)),
                ..ClientTally::default()
            })?;
        }
        Ok(())
    })
}

/// Finds the device. Brokers that are killed one after the other may leave it without one for longer than
/// open() waits.
fn nodes() -> Result<Nodes> {
    let start = Instant::now();
    loop {
        match broker::nodes() {
            Err(_) if start.elapsed() < UNSERVED => {}
            found => return found,
        }
    }
}

fn say(tally: &ClientTally) -> Result<()> {
    println!("{}", serde_json::to_string(tally)?);
    Ok(())
}

fn options() -> Options {
    Options {
        patience: Duration::from_secs(30),
        ..Options::default()
    }
}

/// Plays in one session from the first picture to the last.
fn spared(nodes: &Nodes, clip: &Clip, over: &AtomicBool) -> Result<()> {
    let mut session = Session::open(nodes, &Plan::new(clip.codec, &clip.jobs), &options())?;
    let mut sessions = 1;
    let mut before = Longest::default();
    while !over.load(Ordering::Relaxed) {
        for job in &clip.jobs {
            session.submit(job)?;
        }
        session.drain()?;
        let exact = clip.compare_all(&session.take_pictures())?;
        if session.failed_jobs() > 0 {
            bail!("{} jobs failed", session.failed_jobs());
        }
        session.restart()?;
        let mut tally = ClientTally {
            exact: exact as u64,
            sessions: std::mem::take(&mut sessions),
            ..ClientTally::default()
        };
        let now = session.longest();
        tally.calls(&before, &now);
        before = now;
        say(&tally)?;
    }
    Ok(())
}

/// Plays in sessions that end by chance, and whose workers are killed.
fn aimed_at(nodes: &Nodes, clip: &Clip, rng: &mut Random, over: &AtomicBool) -> Result<()> {
    let plan = Plan::new(clip.codec, &clip.jobs);
    while !over.load(Ordering::Relaxed) {
        let mut session = match Session::open(nodes, &plan, &options()) {
            Ok(session) => session,
            Err(error) => {
                allowed(error)?;
                say(&ClientTally {
                    given_up: 1,
                    ..ClientTally::default()
                })?;
                continue;
            }
        };
        let mut sessions = 1;
        let (mut before, mut failed) = (Longest::default(), 0);
        loop {
            let mut tally = ClientTally {
                sessions: std::mem::take(&mut sessions),
                ..ClientTally::default()
            };
            let ended = once(&mut session, clip, rng, &mut tally);
            tally.exact += clip.compare_from_keys(&session.take_pictures())? as u64;
            tally.failed_jobs = (session.failed_jobs() - failed) as u64;
            failed = session.failed_jobs();
            let now = session.longest();
            tally.calls(&before, &now);
            before = now;
            let again = match ended {
                Ok(again) => again,
                Err(error) => {
                    allowed(error)?;
                    tally.given_up += 1;
                    false
                }
            };
            say(&tally)?;
            if !again || over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    Ok(())
}

/// Plays the clip once. Returns false if the session is to be closed as it is.
fn once(
    session: &mut Session,
    clip: &Clip,
    rng: &mut Random,
    tally: &mut ClientTally,
) -> Result<bool, ClientError> {
    for job in &clip.jobs {
        session.submit(job)?;
        if rng.one_in(90) {
            tally.stops += 1;
            session.restart()?;
            return Ok(true);
        }
        if rng.one_in(240) {
            tally.closes += 1;
            return Ok(false);
        }
    }
    session.drain()?;
    session.restart()?;
    Ok(true)
}

/// Accepts the errors of a session that is lost: its workers died too often, or there is no broker.
fn allowed(error: ClientError) -> Result<()> {
    match error.errno() {
        Some(Errno::IO | Errno::NODEV) => Ok(()),
        _ => Err(error).context("an error that a lost worker does not explain"),
    }
}

fn settings() -> Settings {
    Settings {
        patience: Duration::from_secs(30),
        ..Settings::default()
    }
}

/// Plays a stream in one session from the first picture to the last.
fn stream_spared(clip: &stateful::Clip, over: &AtomicBool) -> Result<()> {
    let mut player = Player::open(clip, settings())?;
    let (mut sessions, mut before) = (1, Longest::default());
    while !over.load(Ordering::Relaxed) {
        player.rewind();
        player.finish()?;
        player.check()?;
        ensure!(
            player.stream.lost() == 0,
            "{} units were lost",
            player.stream.lost()
        );
        player.stream.start()?;
        player.stream.queue_all()?;
        let mut tally = ClientTally {
            exact: clip.sums.len() as u64,
            sessions: std::mem::take(&mut sessions),
            ..ClientTally::default()
        };
        let now = player.stream.device().longest();
        tally.calls(&before, &now);
        before = now;
        say(&tally)?;
    }
    Ok(())
}

/// Plays a stream in sessions that end by chance, and whose workers are killed.
fn stream_aimed_at(clip: &stateful::Clip, rng: &mut Random, over: &AtomicBool) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        let mut player = match Player::open(clip, settings()) {
            Ok(player) => player,
            Err(error) => {
                allowed_within(error)?;
                say(&ClientTally {
                    given_up: 1,
                    ..ClientTally::default()
                })?;
                continue;
            }
        };
        let mut sessions = 1;
        let (mut before, mut lost) = (Longest::default(), 0);
        loop {
            let mut tally = ClientTally {
                sessions: std::mem::take(&mut sessions),
                ..ClientTally::default()
            };
            let ended = stream_once(&mut player, clip, rng, &mut tally);
            tally.failed_jobs = player.stream.lost() - lost;
            lost = player.stream.lost();
            let now = player.stream.device().longest();
            tally.calls(&before, &now);
            before = now;
            let again = match ended {
                Ok(again) => again,
                Err(error) => {
                    allowed_within(error)?;
                    tally.given_up += 1;
                    false
                }
            };
            say(&tally)?;
            if !again || over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    Ok(())
}

/// Plays a stream once. Every picture is exact if no worker was lost meanwhile. Returns false if the session
/// is to be closed as it is.
fn stream_once(
    player: &mut Player<'_>,
    clip: &stateful::Clip,
    rng: &mut Random,
    tally: &mut ClientTally,
) -> Result<bool> {
    let all = clip.units.len();
    let restarts = || -> Result<u64> {
        let sessions = debugfs::own_sessions()?;
        Ok(sessions.first().map_or(0, |session| session.number("restarts")))
    };
    player.rewind();
    if rng.one_in(3) {
        let pictures = player.pictures.len() + rng.index(clip.sums.len());
        player.until("pictures", |player| {
            player.pictures.len() >= pictures || player.fed == all
        })?;
        if rng.one_in(3) {
            tally.closes += 1;
            return Ok(false);
        }
        tally.stops += 1;
        player.stream.seek()?;
        player.rewind();
    }
    let before = restarts()?;
    player.until("feeding", |player| player.fed == all)?;
    if !player.stream.streams() {
        // The first units were lost with a worker, and nobody knows the format.
        player.stream.seek()?;
        return Ok(true);
    }
    player.stream.stop()?;
    player.take_end()?;
    if restarts()? == before {
        player.check()?;
        tally.exact += clip.sums.len() as u64;
    } else {
        player.since_rewind();
    }
    player.stream.start()?;
    player.stream.queue_all()?;
    Ok(true)
}

/// As [`allowed`].
fn allowed_within(error: anyhow::Error) -> Result<()> {
    allowed(error.downcast::<ClientError>()?)
}
