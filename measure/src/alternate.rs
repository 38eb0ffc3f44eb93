// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Alternating runs: every round runs every command once, in an order that rotates, so that whatever else the
//! machine does strikes all alike. A round before the first one is not counted: it fills caches, and shows
//! which decoder libraries each command loads.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::process::{self, Times};

/// Arguments of `daedalus-measure alternate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The commands (JSON).
    #[arg(long)]
    plan: PathBuf,
    /// File to which a line of JSON is written for every run.
    #[arg(long)]
    out: PathBuf,
    /// Directory for what the commands print.
    #[arg(long)]
    scratch: PathBuf,
    /// The broker's process, whose workers' time is counted, too.
    #[arg(long)]
    broker: Option<u32>,
}

/// A plan of runs.
#[derive(Debug, Deserialize)]
struct Plan {
    runs: usize,
    commands: Vec<Entry>,
}

/// A command.
#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    /// Program and arguments.
    words: Vec<String>,
    /// Copies that are started at once.
    #[serde(default = "one")]
    copies: usize,
    /// Program and arguments of a run that no time is taken of, after the round: it proves what the timed one
    /// decodes.
    #[serde(default)]
    proof: Vec<String>,
    /// The file in which the proof leaves a checksum; without one, it prints what GStreamer's
    /// videocodectestsink posts.
    #[serde(default)]
    checksum: Option<PathBuf>,
}

fn one() -> usize {
    1
}

/// The times of a run, in seconds.
#[derive(Debug, Serialize)]
struct Row<'a> {
    name: &'a str,
    /// From 1; 0 is not counted.
    round: usize,
    wall: f64,
    /// From the start of all copies to the end of each.
    each: Vec<f64>,
    user: f64,
    system: f64,
    /// Processor time of the broker's workers that ended in this run.
    workers: f64,
    broker: f64,
    kernel_threads: f64,
    /// The end of the output of the command.
    printed: String,
    /// Only in round 0.
    libraries: BTreeSet<String>,
    checksum: Option<String>,
}

/// Runs it.
pub(crate) fn run(args: &Args) -> Result<()> {
    let text = fs::read_to_string(&args.plan).context("the plan cannot be read")?;
    let plan: Plan = serde_json::from_str(&text).context("the plan is malformed")?;
    ensure!(!plan.commands.is_empty(), "the plan has no command");
    fs::create_dir_all(&args.scratch)?;
    let mut out = File::create(&args.out)?;
    for round in 0..=plan.runs {
        let mut rows = Vec::new();
        for at in 0..plan.commands.len() {
            let entry = &plan.commands[(at + round) % plan.commands.len()];
            let row = timed(entry, round, args).with_context(|| entry.name.clone())?;
            rows.push((entry, row));
        }
        for (entry, mut row) in rows {
            if !entry.proof.is_empty() {
                row.checksum = Some(proven(entry, args).with_context(|| format!("{}: proof", entry.name))?);
            }
            serde_json::to_writer(&mut out, &row)?;
            writeln!(out)?;
        }
        out.flush()?;
    }
    Ok(())
}

fn command(words: &[String], log: &Path) -> Result<Command> {
    let (program, arguments) = words.split_first().context("no program")?;
    let file = File::create(log)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    Ok(command)
}

/// Returns the end of what a command printed.
fn end_of(log: &Path) -> Result<String> {
    let text = String::from_utf8_lossy(&fs::read(log)?).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(8)..].join("\n"))
}

fn timed<'a>(entry: &'a Entry, round: usize, args: &Args) -> Result<Row<'a>> {
    let log = |copy: usize| args.scratch.join(format!("copy-{copy}.log"));
    let mut commands = (0..entry.copies)
        .map(|copy| command(&entry.words, &log(copy)))
        .collect::<Result<Vec<_>>>()?;
    let before = others(args.broker)?;
    let start = Instant::now();
    // Not waited for through these handles: wait4 gives what each has used.
    let mut running = Vec::new();
    for command in &mut commands {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", entry.words[0]))?;
        running.push(child.id());
    }
    let watch = LibraryWatch::default();
    let mut each = Vec::new();
    let (mut user, mut system) = (0.0, 0.0);
    std::thread::scope(|scope| -> Result<()> {
        if round == 0 {
            scope.spawn(|| watch.watch(&running, args.broker));
        }
        let ended = (0..running.len()).try_for_each(|_| {
            let ended = process::wait()?;
            each.push(start.elapsed().as_secs_f64());
            user += ended.user;
            system += ended.system;
            let copy = running
                .iter()
                .position(|pid| *pid == ended.pid)
                .unwrap_or_default();
            ensure!(
                ended.status == Some(0),
                "exit status {:?}: {}",
                ended.status,
                end_of(&log(copy))?
            );
            Ok(())
        });
        watch.done.store(true, Ordering::Release);
        ended
    })?;
    let wall = start.elapsed().as_secs_f64();
    let after = others(args.broker)?;
    Ok(Row {
        name: &entry.name,
        round,
        wall,
        each,
        user,
        system,
        workers: after.workers - before.workers,
        broker: after.broker - before.broker,
        kernel_threads: after.kernel_threads - before.kernel_threads,
        printed: end_of(&log(0))?,
        libraries: watch
            .found
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner),
        checksum: None,
    })
}

/// Processor time of others than the commands, in seconds.
#[derive(Clone, Copy, Default)]
struct Others {
    workers: f64,
    broker: f64,
    kernel_threads: f64,
}

fn others(broker: Option<u32>) -> Result<Others> {
    let Some(broker) = broker else {
        return Ok(Others::default());
    };
    process::no_worker(broker)?;
    let times = Times::of(broker)?;
    Ok(Others {
        workers: times.children,
        broker: times.own,
        kernel_threads: process::kernel_threads()?,
    })
}

/// Looks which libraries are loaded, by the commands and by the broker's workers.
#[derive(Default)]
struct LibraryWatch {
    done: AtomicBool,
    found: Mutex<BTreeSet<String>>,
}

impl LibraryWatch {
    fn watch(&self, commands: &[u32], broker: Option<u32>) {
        while !self.done.load(Ordering::Acquire) {
            let workers = broker.and_then(|broker| process::workers(broker).ok());
            let mut found = self
                .found
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            for pid in commands.iter().chain(workers.iter().flatten()) {
                found.extend(process::libraries(*pid));
            }
            drop(found);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Runs the proof; the checksum that it leaves.
fn proven(entry: &Entry, args: &Args) -> Result<String> {
    let log = args.scratch.join("proof.log");
    if let Some(file) = &entry.checksum {
        // What an earlier one left must not pass for this one's.
        fs::remove_file(file).ok();
    }
    let status = command(&entry.proof, &log)?.status()?;
    ensure!(status.success(), "{status}: {}", end_of(&log)?);
    let printed = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let sum = match &entry.checksum {
        Some(file) => fs::read_to_string(file)
            .with_context(|| format!("no {}", file.display()))?
            .trim()
            // FFmpeg's muxer `md5` puts this in front.
            .trim_start_matches("MD5=")
            .to_owned(),
        None => posted(&printed).context("videocodectestsink posted no checksum")?,
    };
    ensure!(
        sum.len() == 32 && sum.chars().all(|c| c.is_ascii_hexdigit()),
        "'{sum}' is no MD5"
    );
    Ok(sum)
}

/// Returns the checksum in a message that `gst-launch-1.0 -m` has printed.
fn posted(printed: &str) -> Option<String> {
    let (_, rest) = printed.split_once("conformance/checksum,")?;
    let (_, rest) = rest.split_once("checksum=(string)")?;
    Some(rest.chars().take_while(char::is_ascii_hexdigit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_posted_checksum_is_found() {
        let printed = "Got message #52 from element \"s\" (element): conformance/checksum, \
                       checksum-type=(string)MD5, checksum=(string)0a1b;\nGot EOS";
        assert_eq!(posted(printed).as_deref(), Some("0a1b"));
        assert_eq!(posted("Got EOS"), None);
    }
}
