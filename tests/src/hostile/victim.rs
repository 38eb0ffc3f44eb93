// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A session that does what every client does for each picture, without a picture: it queues a buffer in a
//! request and the request, and takes both back. None of it has to wait for anybody. The kernel counts how
//! often its thread slept in these calls (`voluntary_ctxt_switches` in proc(5)). A thread that is only kept
//! off the processor does not sleep, so a busy machine is not taken for a wait.
//!
//! It is a process of its own: threads of one process may have to wait for each other wherever they are.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};
use daedalus_client::device::{Nodes, Request};
use daedalus_client::queue::{Backing, Queue};
use daedalus_client::v4l2::BUF_TYPE_OUTPUT;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::common::{Common, start};
use super::imports::prepared;
use crate::guest::broker;
use crate::guest::clip::Clip;
use crate::guest::process::voluntary_switches;

/// How often it says that it goes on.
const BEAT: Duration = Duration::from_millis(1);

/// The session.
struct Session {
    output: Queue,
    request: Request,
    payload: Vec<u8>,
    status: File,
}

impl Session {
    /// Opens it, for the calling thread.
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

    /// Returns how often the thread has slept.
    fn slept(&self) -> Result<u64> {
        let mut text = [0; 4096];
        let length = self.status.read_at(&mut text, 0)?;
        voluntary_switches(&String::from_utf8_lossy(&text[..length]))
            .context("the thread's status counts no switches")
    }

    /// Makes the calls of one picture. The queue does not stream, so no worker is asked for anything.
    /// STREAMOFF gives the buffer back all the same.
    fn round(&self) -> Result<()> {
        self.output
            .queue_coded(0, &self.payload, 1000, false, &self.request)?;
        self.request.queue()?;
        self.output.stream(false)?;
        self.request.reinit()?;
        Ok(())
    }
}

/// One round of calls, or a call of another session. Times are in µs, of the clock that all processes share.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Span {
    start: u64,
    took: u64,
}

impl Span {
    /// Times a call.
    pub(super) fn of<T>(body: impl FnOnce() -> T) -> (T, Self) {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = u64::try_from(start.as_micros()).unwrap_or_default();
        let since = Instant::now();
        let result = body();
        let took = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        (result, Self { start, took })
    }

    /// Returns how long it took.
    pub(super) fn took(&self) -> Duration {
        Duration::from_micros(self.took)
    }

    /// Returns for how many µs of it `other` went on, too.
    fn overlap(&self, other: &Self) -> u64 {
        let end = (self.start + self.took).min(other.start + other.took);
        end.saturating_sub(self.start.max(other.start))
    }
}

/// What became of a victim.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct VictimReport {
    rounds: usize,
    /// Rounds in which it slept, and how often.
    slept: Vec<(Span, u64)>,
    /// Of all rounds, in µs.
    median: u64,
    p99: u64,
    max: u64,
}

impl VictimReport {
    /// Returns how often it slept in calls.
    pub(super) fn sleeps(&self) -> u64 {
        self.slept.iter().map(|(_, times)| times).sum()
    }

    /// Returns how long the longest round took in which it slept.
    pub(super) fn longest_sleep(&self) -> Duration {
        let longest = self.slept.iter().map(|(round, _)| round.took).max();
        Duration::from_micros(longest.unwrap_or_default())
    }

    /// Returns the largest part of any of `spans` for which the victim slept, of those that are at least
    /// `long`.
    pub(super) fn largest_share(&self, spans: &[Span], long: Duration) -> f64 {
        let spans = spans.iter().filter(|span| span.took() >= long);
        let asleep = |span: &Span| -> u64 { self.slept.iter().map(|(round, _)| round.overlap(span)).sum() };
        spans
            .map(|span| asleep(span) as f64 / span.took as f64)
            .fold(0.0, f64::max)
    }

    /// Returns its figures.
    pub(super) fn figures(&self) -> Value {
        let ms = |us: u64| us as f64 / 1000.0;
        json!({
            "rounds": self.rounds,
            "rounds_with_a_sleep": self.slept.len(),
            "voluntary_switches": self.sleeps(),
            "longest_sleep_ms": self.longest_sleep().as_secs_f64() * 1000.0,
            "median_ms": ms(self.median),
            "p99_ms": ms(self.p99),
            "max_ms": ms(self.max),
        })
    }
}

/// The process: plays until its standard input ends, writes a byte now and then, and at last what it saw.
pub(super) fn process(common: &Common) -> Result<()> {
    let nodes = broker::nodes()?;
    let clip = &common.small_clips()?[0];
    let ended = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&ended);
    std::thread::spawn(move || {
        // An error ends it, too.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        watched.store(true, Ordering::Relaxed);
    });
    let session = Session::open(&nodes, clip)?;
    let (mut took, mut slept) = (Vec::new(), Vec::new());
    let mut beat = Instant::now();
    let mut stdout = std::io::stdout();
    while !ended.load(Ordering::Relaxed) {
        let before = session.slept()?;
        let (result, span) = Span::of(|| session.round());
        result?;
        let times = session.slept()? - before;
        took.push(span.took);
        if times > 0 {
            slept.push((span, times));
        }
        if beat.elapsed() >= BEAT {
            stdout.write_all(b".")?;
            stdout.flush()?;
            beat = Instant::now();
        }
    }
    took.sort_unstable();
    let at = |percent: usize| {
        let index = (took.len() * percent / 100).min(took.len().saturating_sub(1));
        took.get(index).copied().unwrap_or_default()
    };
    let report = VictimReport {
        rounds: took.len(),
        slept,
        median: at(50),
        p99: at(99),
        max: at(100),
    };
    println!("\n{}", serde_json::to_string(&report)?);
    Ok(())
}

/// A victim that plays beside something.
pub(super) struct Victim {
    child: Mutex<Child>,
    beats: Arc<AtomicUsize>,
}

impl Victim {
    /// Runs `body` while a victim plays. Returns what became of the victim, too.
    pub(super) fn play<T>(
        common: &Common,
        body: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<(T, VictimReport)> {
        let mut child = start(common, "stall-victim", &[], Stdio::piped())?;
        let stdout = child.stdout.take().context("no pipe from the victim")?;
        let beats = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&beats);
        let reader = std::thread::spawn(move || listen(BufReader::new(stdout), &counted));
        let victim = Self {
            child: Mutex::new(child),
            beats,
        };
        let result = victim
            .moves(3, Duration::from_secs(20))
            .and_then(|()| body(&victim));
        let report = victim.end(reader)?;
        Ok((result?, report))
    }

    /// Ends the victim. Returns what became of it.
    fn end(&self, reader: JoinHandle<Result<VictimReport>>) -> Result<VictimReport> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        drop(child.stdin.take());
        let report = reader.join().map_err(|_| anyhow!("a thread panicked"))?;
        let status = child.wait()?;
        ensure!(status.success(), "the victim: {status}");
        report
    }

    /// Waits until the victim has gone on for `beats` times [`BEAT`] at least.
    pub(super) fn moves(&self, beats: usize, limit: Duration) -> Result<()> {
        let (before, start) = (self.beats.load(Ordering::Relaxed), Instant::now());
        while self.beats.load(Ordering::Relaxed) < before + beats {
            ensure!(
                start.elapsed() < limit,
                "another session's calls did not go on for {} ms",
                limit.as_millis()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Counts what the victim writes while it plays. Returns what it says at its end.
fn listen(mut stdout: impl BufRead, beats: &AtomicUsize) -> Result<VictimReport> {
    loop {
        let bytes = stdout.fill_buf()?;
        ensure!(!bytes.is_empty(), "the victim said nothing at its end");
        let (length, last) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => (end + 1, true),
            None => (bytes.len(), false),
        };
        stdout.consume(length);
        beats.fetch_add(length - usize::from(last), Ordering::Relaxed);
        if last {
            break;
        }
    }
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    serde_json::from_str(&line).with_context(|| format!("the victim says {line:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sleep_during_a_call_counts() {
        let span = |start, took| Span { start, took };
        let report = VictimReport {
            rounds: 3,
            slept: vec![(span(0, 150_000), 1), (span(250_000, 100_000), 2)],
            ..VictimReport::default()
        };
        let call = span(100_000, 200_000);
        assert_eq!(report.largest_share(&[call], Duration::from_millis(100)), 0.5);
        assert_eq!(report.largest_share(&[call], Duration::from_millis(300)), 0.0);
        assert_eq!(
            (report.sleeps(), report.longest_sleep()),
            (3, Duration::from_millis(150))
        );
    }

    #[test]
    fn beats_and_the_end_are_told_apart() {
        let text = format!(
            "...\n{}\n",
            serde_json::to_string(&VictimReport::default()).unwrap()
        );
        let beats = AtomicUsize::new(0);
        assert_eq!(listen(text.as_bytes(), &beats).unwrap().rounds, 0);
        assert_eq!(beats.load(Ordering::Relaxed), 3);
        assert!(listen(&b"..."[..], &beats).is_err());
    }
}
