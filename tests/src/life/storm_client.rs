// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client in the storm: a process of its own, since it may be killed. It plays a clip again and again and
//! says after each time, in a line of JSON, what it saw.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daedalus_client::decoder::{Options, Plan, Session};
use daedalus_client::device::{ClientError, Longest, Nodes};
use daedalus_client::stateful::Settings;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::common::Common;
use super::stateful_player::{self, Player};
use crate::guest::broker;
use crate::guest::clip::Clip;
use crate::guest::debugfs;
use crate::random::Random;

/// A session without an answer for so long is hung.
const PATIENCE: Duration = Duration::from_secs(30);
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
        .then(|| stateful_player::Clip::load(common, &args.clip))
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
            (None, true) => JobSession::open(&nodes, &clip).and_then(|mut one| spared(&mut one, &over)),
            (None, false) => aimed_at(|| JobSession::open(&nodes, &clip), rng, &over),
            (Some(stream), true) => StreamSession::open(stream).and_then(|mut one| spared(&mut one, &over)),
            (Some(stream), false) => aimed_at(|| StreamSession::open(stream), rng, &over),
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

/// A session in the storm, of either face.
trait StormSession {
    /// Plays everything once. Returns the number of pictures, which are exact.
    fn play_whole(&mut self) -> Result<u64>;

    /// Plays once, and ends by chance. Returns false if the session is to be closed as it is.
    fn play(&mut self, rng: &mut Random, tally: &mut ClientTally) -> Result<bool>;

    /// Returns the number of jobs or units that were lost so far.
    fn lost(&self) -> u64;

    /// Returns how long calls took so far.
    fn longest(&self) -> Longest;
}

/// Plays in one session, of which nothing may be lost.
fn spared(session: &mut impl StormSession, over: &AtomicBool) -> Result<()> {
    let (mut sessions, mut before) = (1, Longest::default());
    while !over.load(Ordering::Relaxed) {
        let mut tally = ClientTally {
            exact: session.play_whole()?,
            sessions: std::mem::take(&mut sessions),
            ..ClientTally::default()
        };
        ensure!(session.lost() == 0, "{} jobs or units were lost", session.lost());
        let now = session.longest();
        tally.calls(&before, &now);
        before = now;
        say(&tally)?;
    }
    Ok(())
}

/// Plays in sessions that end by chance, and whose workers are killed.
fn aimed_at<S: StormSession>(
    open: impl Fn() -> Result<S>,
    rng: &mut Random,
    over: &AtomicBool,
) -> Result<()> {
    while !over.load(Ordering::Relaxed) {
        let mut session = match open() {
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
        let (mut before, mut lost) = (Longest::default(), 0);
        loop {
            let mut tally = ClientTally {
                sessions: std::mem::take(&mut sessions),
                ..ClientTally::default()
            };
            let end = session.play(rng, &mut tally);
            tally.failed_jobs = session.lost() - lost;
            lost = session.lost();
            let now = session.longest();
            tally.calls(&before, &now);
            before = now;
            let again = match end {
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

/// Accepts the errors of a session that is lost: its workers died too often, or there is no broker.
fn allowed(error: anyhow::Error) -> Result<()> {
    let error: ClientError = error.downcast()?;
    match error.errno() {
        Some(Errno::IO | Errno::NODEV) => Ok(()),
        _ => Err(error).context("an error that a lost worker does not explain"),
    }
}

/// A session of the stateless node.
struct JobSession<'a> {
    session: Session,
    clip: &'a Clip,
}

impl<'a> JobSession<'a> {
    fn open(nodes: &Nodes, clip: &'a Clip) -> Result<Self> {
        let options = Options {
            patience: PATIENCE,
            ..Options::default()
        };
        let session = Session::open(nodes, &Plan::new(clip.codec, &clip.jobs), &options)?;
        Ok(Self { session, clip })
    }

    /// Plays the clip until it ends or chance ends it. Returns false if the session is to be closed as it is.
    fn play_jobs(&mut self, rng: &mut Random, tally: &mut ClientTally) -> Result<bool, ClientError> {
        for job in &self.clip.jobs {
            self.session.submit(job)?;
            if rng.one_in(90) {
                tally.stops += 1;
                self.session.restart()?;
                return Ok(true);
            }
            if rng.one_in(240) {
                tally.closes += 1;
                return Ok(false);
            }
        }
        self.session.drain()?;
        self.session.restart()?;
        Ok(true)
    }
}

impl StormSession for JobSession<'_> {
    fn play_whole(&mut self) -> Result<u64> {
        for job in &self.clip.jobs {
            self.session.submit(job)?;
        }
        self.session.drain()?;
        let exact = self.clip.compare_all(&self.session.take_pictures())?;
        self.session.restart()?;
        Ok(exact as u64)
    }

    fn play(&mut self, rng: &mut Random, tally: &mut ClientTally) -> Result<bool> {
        let end = self.play_jobs(rng, tally);
        tally.exact += self.clip.compare_from_keys(&self.session.take_pictures())? as u64;
        Ok(end?)
    }

    fn lost(&self) -> u64 {
        self.session.failed_jobs() as u64
    }

    fn longest(&self) -> Longest {
        self.session.longest()
    }
}

/// A session of the stateful node.
struct StreamSession<'a> {
    player: Player<'a>,
    clip: &'a stateful_player::Clip,
}

impl<'a> StreamSession<'a> {
    fn open(clip: &'a stateful_player::Clip) -> Result<Self> {
        let settings = Settings {
            patience: PATIENCE,
            ..Settings::default()
        };
        let player = Player::open(clip, settings)?;
        Ok(Self { player, clip })
    }

    /// Goes on after a drain.
    fn resume(&mut self) -> Result<()> {
        self.player.stream.start()?;
        Ok(self.player.stream.queue_all()?)
    }
}

/// Returns how often the worker of this process's session was replaced.
fn restarts() -> Result<u64> {
    let sessions = debugfs::own_sessions()?;
    Ok(sessions.first().map_or(0, |session| session.number("restarts")))
}

impl StormSession for StreamSession<'_> {
    fn play_whole(&mut self) -> Result<u64> {
        self.player.rewind();
        self.player.finish()?;
        self.player.check()?;
        self.resume()?;
        Ok(self.clip.sums.len() as u64)
    }

    /// Every picture is exact if no worker was lost meanwhile.
    fn play(&mut self, rng: &mut Random, tally: &mut ClientTally) -> Result<bool> {
        let (all, player) = (self.clip.units.len(), &mut self.player);
        player.rewind();
        if rng.one_in(3) {
            let pictures = player.pictures.len() + rng.index(self.clip.sums.len());
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
            tally.exact += self.clip.sums.len() as u64;
        } else {
            player.since_rewind();
        }
        self.resume()?;
        Ok(true)
    }

    fn lost(&self) -> u64 {
        self.player.stream.lost()
    }

    fn longest(&self) -> Longest {
        self.player.stream.device().longest()
    }
}
