// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Four clients, while workers, brokers and clients are killed and stopped at random. At one of them nothing
//! is ever aimed: it plays on, exact, in one session.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::device::CLASS_BOUNDS_MS;
use rustix::process::Signal;
use serde_json::json;

use super::common::Common;
use super::storm_client::ClientTally;
use crate::codec::STORM;
use crate::guest::broker::Broker;
use crate::guest::debugfs;
use crate::guest::figures::Figures;
use crate::guest::process::kill;
use crate::random::Random;

/// How long a process may be seen in uninterruptible sleep.
const STUCK: Duration = Duration::from_secs(5);
/// How long the spared client may say nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// Arguments of `storm`. The numbers are those of the whole; `--scale` takes a part of them.
#[derive(Debug, clap::Args)]
pub(super) struct StormArgs {
    /// Percent of every number.
    #[arg(long, default_value_t = 2)]
    scale: u64,
    /// Workers to kill.
    #[arg(long, default_value_t = 1000)]
    workers: u64,
    /// Workers to stop, which the watchdog has to end.
    #[arg(long, default_value_t = 200)]
    stopped: u64,
    /// Brokers to kill.
    #[arg(long, default_value_t = 200)]
    brokers: u64,
    /// Clients to kill.
    #[arg(long, default_value_t = 200)]
    clients: u64,
    /// STREAMOFF and close at random.
    #[arg(long, default_value_t = 200)]
    stops: u64,
    /// Of all random choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Through the stateful node.
    #[arg(long)]
    pub(super) stateful: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Event {
    Worker,
    Stop,
    Broker,
    Client,
}

/// A client's process, and what it said so far.
struct Player {
    child: Child,
    pid: u32,
    state: Arc<Mutex<(ClientTally, Instant)>>,
}

impl Player {
    fn start(common: &Common, number: usize, seed: u64, is_stateful: bool) -> Result<Self> {
        let list = common.clips.as_deref().context("this scenario needs --clips")?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args([
                "life",
                "storm-client",
                "--clip",
                STORM[number],
                "--deadline=100000",
            ])
            .arg(format!("--seed={seed}"))
            .arg("--clips")
            .arg(list);
        if number == 0 {
            command.arg("--spared");
        }
        if is_stateful {
            command.arg("--stateful");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a client")?;
        let out = child.stdout.take().context("a client without output")?;
        let state = Arc::new(Mutex::new((ClientTally::default(), Instant::now())));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                // The last line of a client that was killed may be cut short.
                if let Ok(news) = serde_json::from_str::<ClientTally>(&line) {
                    let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    state.0.add(&news);
                    state.1 = Instant::now();
                }
            }
        });
        let pid = child.id();
        Ok(Self { child, pid, state })
    }

    fn state(&self) -> (ClientTally, Instant) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Storm<'a> {
    common: &'a Common,
    is_stateful: bool,
    rng: Random,
    players: Vec<Player>,
    broker: Option<Broker>,
    /// What clients saw that were killed.
    before: ClientTally,
    done: HashMap<Event, u64>,
    /// Processes in uninterruptible sleep, and since when.
    asleep: HashMap<u32, Instant>,
    last_look: Instant,
}

pub(super) fn storm(common: &Common, args: &StormArgs, figures: &mut Figures) -> Result<()> {
    let part = |number: u64| (number * args.scale).div_ceil(100);
    let mut left: Vec<(Event, u64)> = vec![
        (Event::Worker, part(args.workers)),
        (Event::Stop, part(args.stopped)),
        (Event::Broker, part(args.brokers)),
        (Event::Client, part(args.clients)),
    ];
    let mut storm = Storm {
        common,
        is_stateful: args.stateful,
        rng: Random::new(args.seed),
        players: Vec::new(),
        broker: None,
        before: ClientTally::default(),
        done: HashMap::new(),
        asleep: HashMap::new(),
        last_look: Instant::now(),
    };
    storm.start_broker()?;
    // One after the other: how long workers take to start when several do at once is another question.
    for number in 0..STORM.len() {
        let seed = storm.rng.next();
        storm
            .players
            .push(Player::start(common, number, seed, args.stateful)?);
        storm
            .until(|storm| Ok(storm.players[number].state().0.exact > 0))
            .context("before the storm")?;
    }
    let start = Instant::now();
    while !left.is_empty() {
        let total: u64 = left.iter().map(|(_, number)| number).sum();
        let mut at = storm.rng.below(total);
        let chosen = left.iter_mut().find(|(_, number)| {
            let here = at < *number;
            at = at.saturating_sub(*number);
            here
        });
        let Some((event, number)) = chosen else {
            bail!("no event to choose");
        };
        if storm.strike(*event)? {
            *number -= 1;
            *storm.done.entry(*event).or_default() += 1;
        }
        left.retain(|(_, number)| *number > 0);
        let pause = storm.rng.below(40);
        std::thread::sleep(Duration::from_millis(pause));
        storm.look()?;
    }
    let stops = part(args.stops);
    storm
        .until(|storm| {
            let state = storm.all();
            Ok(state.stops + state.closes >= stops)
        })
        .context("waiting for the random STREAMOFF and close")?;
    let seconds = start.elapsed().as_secs_f64();
    // Everybody plays on for a moment after the last blow, and is exact.
    let exact = storm
        .players
        .iter()
        .map(|player| player.state().0.exact)
        .collect::<Vec<_>>();
    storm
        .until(|storm| {
            Ok(storm
                .players
                .iter()
                .zip(&exact)
                .all(|(player, exact)| player.state().0.exact > *exact))
        })
        .context("after the storm")?;
    storm.finish(args, seconds, figures)
}

impl Storm<'_> {
    fn start_broker(&mut self) -> Result<()> {
        let faces = if self.is_stateful { "both" } else { "stateless" };
        self.broker = Some(Broker::start_with(self.common, &[&format!("--faces={faces}")])?.0);
        Ok(())
    }

    fn spared(&self) -> (ClientTally, Instant) {
        self.players[0].state()
    }

    /// Returns the counts of all clients.
    fn all(&self) -> ClientTally {
        let mut all = self.before.clone();
        for player in &self.players {
            all.add(&player.state().0);
        }
        all
    }

    /// Waits until something is so, or something is wrong.
    fn until(&mut self, so: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        while !so(self)? {
            self.look()?;
            ensure!(start.elapsed() < SILENCE * 2, "it did not come to that");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Looks for what must not be.
    fn look(&mut self) -> Result<()> {
        for (number, player) in self.players.iter_mut().enumerate() {
            let (state, last) = player.state();
            if let Some(wrong) = state.wrong {
                bail!("client {number}: {wrong}");
            }
            if let Some(status) = player.child.try_wait()? {
                bail!("client {number} ended: {status}");
            }
            ensure!(
                last.elapsed() < SILENCE,
                "client {number} has said nothing for {SILENCE:?}"
            );
        }
        if self.last_look.elapsed() < Duration::from_secs(1) {
            return Ok(());
        }
        self.last_look = Instant::now();
        let mut asleep = HashMap::new();
        for entry in std::fs::read_dir("/proc")?.filter_map(Result::ok) {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // pid (name) state: kernel threads have no command line.
            let uninterruptible = stat
                .rsplit_once(')')
                .is_some_and(|(_, rest)| rest.starts_with(" D"));
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if uninterruptible && !command.is_empty() {
                let since = self.asleep.get(&pid).copied().unwrap_or_else(Instant::now);
                ensure!(since.elapsed() < STUCK, "process {pid} is in D state: {stat}");
                asleep.insert(pid, since);
            }
        }
        self.asleep = asleep;
        Ok(())
    }

    /// Strikes once, if there is anything to strike. Returns whether there was.
    fn strike(&mut self, event: Event) -> Result<bool> {
        match event {
            Event::Broker => {
                if let Some(broker) = self.broker.take() {
                    broker.end(Signal::KILL)?;
                }
                let pause = self.rng.below(100);
                std::thread::sleep(Duration::from_millis(pause));
                self.start_broker()?;
                Ok(true)
            }
            Event::Client => {
                let number = 1 + self.rng.index(self.players.len() - 1);
                let fresh = Player::start(self.common, number, self.rng.next(), self.is_stateful)?;
                let mut old = std::mem::replace(&mut self.players[number], fresh);
                old.child.kill()?;
                old.child.wait()?;
                // Its reader ends with its output.
                self.before.add(&old.state().0);
                Ok(true)
            }
            Event::Worker | Event::Stop => {
                let spared = u64::from(self.players[0].pid);
                let workers: Vec<u64> = debugfs::sessions()?
                    .iter()
                    .filter(|session| session.number("client") != spared)
                    .map(|session| session.number("worker"))
                    .filter(|worker| *worker != 0)
                    .collect();
                if workers.is_empty() {
                    return Ok(false);
                }
                let worker = u32::try_from(workers[self.rng.index(workers.len())])?;
                let signal = if event == Event::Worker {
                    Signal::KILL
                } else {
                    Signal::STOP
                };
                // It may have ended by itself a moment ago.
                Ok(kill(worker, signal).is_ok())
            }
        }
    }

    fn finish(mut self, args: &StormArgs, seconds: f64, figures: &mut Figures) -> Result<()> {
        let spared = self.spared().0;
        for player in &mut self.players {
            drop(player.child.stdin.take());
        }
        for (number, player) in self.players.iter_mut().enumerate() {
            let start = Instant::now();
            while player.child.try_wait()?.is_none() {
                ensure!(start.elapsed() < SILENCE, "client {number} does not end");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let all = self.all();
        if let Some(broker) = self.broker.take() {
            broker.stop()?;
        }
        let done = |event| self.done.get(&event).copied().unwrap_or_default();
        let events = self.done.values().sum::<u64>() + all.stops + all.closes;
        figures.set("scale_percent", args.scale);
        figures.set("seed", args.seed);
        figures.set("workers_killed", done(Event::Worker));
        figures.set("workers_stopped", done(Event::Stop));
        figures.set("brokers_killed", done(Event::Broker));
        figures.set("clients_killed", done(Event::Client));
        figures.set("streamoffs", all.stops);
        figures.set("closes", all.closes);
        figures.set(
            "events_per_second",
            (events as f64 * 10.0 / seconds).round() / 10.0,
        );
        figures.set("sessions", all.sessions);
        figures.set("sessions_given_up", all.given_up);
        figures.set("failed_jobs", all.failed_jobs);
        figures.set("exact_pictures", all.exact);
        figures.set("spared_exact_pictures", spared.exact);
        figures.set("longest_call_ms", all.longest_call_ms);
        figures.set("longest_wait_ms", all.longest_wait_ms);
        let bounds = CLASS_BOUNDS_MS.iter().map(|bound| format!("below {bound} ms"));
        let names = bounds.chain(std::iter::once("longer".to_owned()));
        let histogram: serde_json::Map<_, _> = names
            .zip(&all.classes)
            .map(|(name, count)| (name, json!(count)))
            .collect();
        figures.set("blocked", histogram);
        figures.set("limit_ms", self.common.limit_ms);
        if let Some(wrong) = all.wrong {
            bail!("a client: {wrong}");
        }
        ensure!(
            spared.failed_jobs == 0 && spared.given_up == 0,
            "the spared client had errors"
        );
        ensure!(
            all.failed_jobs > 0,
            "no job failed: nothing was hit while it worked"
        );
        let longest = all.longest_call_ms.max(all.longest_wait_ms);
        ensure!(
            longest <= self.common.limit_ms,
            "a call stayed blocked for {longest} ms, and {} ms are allowed",
            self.common.limit_ms
        );
        ensure!(
            debugfs::stat("sessions")? == 0,
            "sessions are left although all clients have ended"
        );
        Ok(())
    }
}
