// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A session that does what every client does for each picture, without a picture: it queues a buffer in a request and
//! the request, and takes both back. None of it has to wait for anybody. How often and for how long its thread slept in
//! these calls is counted by the kernel (`voluntary_ctxt_switches` in proc(5)), so a busy machine is not taken for a
//! wait: who is only kept off the processor does not sleep.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daedalus_client::device::{Nodes, Request};
use daedalus_client::queue::{Backing, Queue};
use daedalus_client::v4l2::BUF_TYPE_OUTPUT;
use serde_json::{Value, json};

use super::imports::prepared;
use crate::life::clip::Clip;

/// The session.
struct Victim {
    output: Queue,
    request: Request,
    payload: Vec<u8>,
    status: File,
}

impl Victim {
    fn open(nodes: &Nodes, clip: &Clip) -> Result<Self> {
        let (device, _) = prepared(nodes, clip)?;
        let mut output = Queue::new(&device, BUF_TYPE_OUTPUT);
        output.allocate(1, &Backing::Mmap)?;
        Ok(Self {
            request: device.request()?,
            output,
            payload: clip.jobs[0].payload.clone(),
            status: File::open("/proc/thread-self/status").context("the thread's status")?,
        })
    }

    /// How often the thread has slept.
    fn slept(&self) -> Result<u64> {
        let mut text = [0; 4096];
        let length = self.status.read_at(&mut text, 0)?;
        voluntary(&String::from_utf8_lossy(&text[..length])).context("the thread's status counts no switches")
    }

    /// The calls of one picture. The queue does not stream, so that no worker is asked for anything; STREAMOFF gives the
    /// buffer back all the same.
    fn round(&self) -> Result<()> {
        self.output
            .queue_coded(0, &self.payload, 1000, false, &self.request)?;
        self.request.queue()?;
        self.output.stream(false)?;
        self.request.reinit()?;
        Ok(())
    }
}

/// The number of voluntary switches in /proc/PID/status.
fn voluntary(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

/// One round of calls.
#[derive(Clone, Copy, Debug)]
struct Round {
    begun: Instant,
    took: Duration,
    /// How often it slept.
    slept: u64,
}

/// A victim that plays beside something, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Beside {
    rounds: Mutex<Vec<Round>>,
    done: AtomicUsize,
    stop: AtomicBool,
}

impl Beside {
    /// Runs `body` while a victim plays; what became of the victim.
    pub(super) fn play<T>(
        nodes: &Nodes,
        clip: &Clip,
        body: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<(T, Seen)> {
        let beside = Self::default();
        let victim = Mutex::new(None);
        let result = std::thread::scope(|scope| {
            let thread = scope.spawn(|| beside.rounds(nodes, clip));
            let result = beside
                .moves(3, Duration::from_secs(20))
                .and_then(|()| body(&beside));
            beside.stop.store(true, Ordering::Relaxed);
            *victim.lock().unwrap_or_else(PoisonError::into_inner) = thread.join().ok();
            result
        });
        victim
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .context("the victim panicked")?
            .context("the victim")?;
        let rounds = beside.rounds.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((result?, Seen { rounds }))
    }

    fn rounds(&self, nodes: &Nodes, clip: &Clip) -> Result<()> {
        // Its thread's own: the file is the thread's that opened it.
        let victim = Victim::open(nodes, clip)?;
        while !self.stop.load(Ordering::Relaxed) {
            let before = victim.slept()?;
            let begun = Instant::now();
            victim.round()?;
            let took = begun.elapsed();
            let slept = victim.slept()? - before;
            let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
            rounds.push(Round { begun, took, slept });
            drop(rounds);
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until the victim has made `rounds` more rounds.
    pub(super) fn moves(&self, rounds: usize, limit: Duration) -> Result<()> {
        let (before, begun) = (self.done.load(Ordering::Relaxed), Instant::now());
        while self.done.load(Ordering::Relaxed) < before + rounds {
            ensure!(
                begun.elapsed() < limit,
                "another session's calls did not go on for {} ms",
                limit.as_millis()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// A call of the other session, or some at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    begun: Instant,
    took: Duration,
}

impl Span {
    /// Times a call.
    pub(super) fn of<T>(body: impl FnOnce() -> T) -> (T, Self) {
        let begun = Instant::now();
        let result = body();
        let took = begun.elapsed();
        (result, Self { begun, took })
    }

    pub(super) fn took(&self) -> Duration {
        self.took
    }
}

/// What became of a victim.
#[derive(Debug)]
pub(super) struct Seen {
    rounds: Vec<Round>,
}

impl Seen {
    /// For how long the victim slept in calls during `span`.
    fn asleep_in(&self, span: &Span) -> Duration {
        let end = span.begun + span.took;
        let overlap = |round: &Round| {
            let last = (round.begun + round.took).min(end);
            last.saturating_duration_since(round.begun.max(span.begun))
        };
        self.rounds
            .iter()
            .filter(|round| round.slept > 0)
            .map(overlap)
            .sum()
    }

    /// How often it slept in calls.
    pub(super) fn sleeps(&self) -> u64 {
        self.rounds.iter().map(|round| round.slept).sum()
    }

    /// The longest round in which it slept.
    pub(super) fn longest_sleep(&self) -> Duration {
        let slept = self.rounds.iter().filter(|round| round.slept > 0);
        slept.map(|round| round.took).max().unwrap_or_default()
    }

    /// The largest part of any of `spans` for which the victim slept, of those that are long enough to tell.
    pub(super) fn largest_share(&self, spans: &[Span], long: Duration) -> f64 {
        let spans = spans.iter().filter(|span| span.took >= long);
        spans
            .map(|span| self.asleep_in(span).as_secs_f64() / span.took.as_secs_f64())
            .fold(0.0, f64::max)
    }

    /// Its figures.
    pub(super) fn figures(&self) -> Value {
        let mut took: Vec<Duration> = self.rounds.iter().map(|round| round.took).collect();
        took.sort_unstable();
        let ms = |duration: Duration| (duration.as_secs_f64() * 1e5).round() / 100.0;
        let at = |percent: usize| took.get((took.len() * percent / 100).min(took.len().saturating_sub(1)));
        json!({
            "rounds": took.len(),
            "rounds_with_a_sleep": self.rounds.iter().filter(|round| round.slept > 0).count(),
            "voluntary_switches": self.sleeps(),
            "longest_sleep_ms": ms(self.longest_sleep()),
            "median_ms": at(50).map(|took| ms(*took)),
            "p99_ms": at(99).map(|took| ms(*took)),
            "max_ms": took.last().map(|took| ms(*took)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(voluntary(status), Some(12));
        assert_eq!(voluntary("Name:\tx\n"), None);
    }

    #[test]
    fn only_sleep_during_a_call_counts() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let round = |begun, took, slept| Round {
            begun: at(begun),
            took: Duration::from_millis(took),
            slept,
        };
        let seen = Seen {
            rounds: vec![round(0, 150, 1), round(150, 100, 0), round(250, 100, 2)],
        };
        let span = Span {
            begun: at(100),
            took: Duration::from_millis(200),
        };
        assert_eq!(seen.asleep_in(&span), Duration::from_millis(100));
        assert_eq!(seen.largest_share(&[span], Duration::from_millis(100)), 0.5);
        assert_eq!(seen.largest_share(&[span], Duration::from_millis(300)), 0.0);
        assert_eq!(
            (seen.sleeps(), seen.longest_sleep()),
            (3, Duration::from_millis(150))
        );
    }
}
