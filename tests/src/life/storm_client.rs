// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A client in the storm: a process of its own, since it may be killed. It plays a clip again and again and says after
//! each time, in a line of JSON, what it saw.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use daedalus_client::decoder::{Options, Plan, Session};
use daedalus_client::device::{ClientError, Longest, Nodes};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::Common;
use super::clip::Clip;
use super::daemon;
use crate::hostile::random::Rng;

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
}

/// What a client saw since it last said so.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
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

impl Seen {
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

/// The client's process.
pub(super) fn run(common: &Common, args: &ClientArgs) -> Result<()> {
    let clip = common.clips()?.repeated(&args.clip, 2)?;
    let nodes = nodes()?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The end of the standard input is the sign to end.
            std::io::stdin().read_to_end(&mut Vec::new()).ok();
            over.store(true, Ordering::Relaxed);
        });
        let result = if args.spared {
            spared(&nodes, &clip, &over)
        } else {
            aimed_at(&nodes, &clip, &mut Rng::new(args.seed), &over)
        };
        if let Err(error) = result {
            say(&Seen {
                wrong: Some(format!("{} (spared: {}): {error:#}", clip.name, args.spared)),
                ..Seen::default()
            })?;
        }
        Ok(())
    })
}

/// The device; brokers that are killed one after the other may leave it without one for longer than open() waits.
fn nodes() -> Result<Nodes> {
    let begun = Instant::now();
    loop {
        match daemon::nodes() {
            Err(_) if begun.elapsed() < UNSERVED => {}
            found => return found,
        }
    }
}

fn say(seen: &Seen) -> Result<()> {
    println!("{}", serde_json::to_string(seen)?);
    Ok(())
}

fn options() -> Options {
    Options {
        patience: Duration::from_secs(30),
        ..Options::default()
    }
}

/// One session, from the first to the last.
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
        let mut seen = Seen {
            exact: exact as u64,
            sessions: std::mem::take(&mut sessions),
            ..Seen::default()
        };
        let now = session.longest();
        seen.calls(&before, &now);
        before = now;
        say(&seen)?;
    }
    Ok(())
}

/// Sessions that end by chance, and whose workers are killed.
fn aimed_at(nodes: &Nodes, clip: &Clip, rng: &mut Rng, over: &AtomicBool) -> Result<()> {
    let plan = Plan::new(clip.codec, &clip.jobs);
    while !over.load(Ordering::Relaxed) {
        let mut session = match Session::open(nodes, &plan, &options()) {
            Ok(session) => session,
            Err(error) => {
                allowed(error)?;
                say(&Seen {
                    given_up: 1,
                    ..Seen::default()
                })?;
                continue;
            }
        };
        let mut sessions = 1;
        let (mut before, mut failed) = (Longest::default(), 0);
        loop {
            let mut seen = Seen {
                sessions: std::mem::take(&mut sessions),
                ..Seen::default()
            };
            let ended = once(&mut session, clip, rng, &mut seen);
            seen.exact += clip.compare_from_keys(&session.take_pictures())? as u64;
            seen.failed_jobs = (session.failed_jobs() - failed) as u64;
            failed = session.failed_jobs();
            let now = session.longest();
            seen.calls(&before, &now);
            before = now;
            let again = match ended {
                Ok(again) => again,
                Err(error) => {
                    allowed(error)?;
                    seen.given_up += 1;
                    false
                }
            };
            say(&seen)?;
            if !again || over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    Ok(())
}

/// The clip once; false if the session is to be closed as it is.
fn once(session: &mut Session, clip: &Clip, rng: &mut Rng, seen: &mut Seen) -> Result<bool, ClientError> {
    for job in &clip.jobs {
        session.submit(job)?;
        if rng.one_in(90) {
            seen.stops += 1;
            session.restart()?;
            return Ok(true);
        }
        if rng.one_in(240) {
            seen.closes += 1;
            return Ok(false);
        }
    }
    session.drain()?;
    session.restart()?;
    Ok(true)
}

/// What a client may be told when its session is lost: its workers died too often, or there is no broker.
fn allowed(error: ClientError) -> Result<()> {
    match error.errno() {
        Some(Errno::IO | Errno::NODEV) => Ok(()),
        _ => Err(error).context("an error that a lost worker does not explain"),
    }
}
