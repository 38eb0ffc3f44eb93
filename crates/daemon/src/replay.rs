// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalusd replay`: decodes traces again and compares the results with the recorded ones.
//!
//! `daedalus replay` executes it. Only the daemon is linked with the decoders' libraries, so that the command
//! starts, and `daedalus doctor` can report them, where they are missing.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use daedalus_replay::{Options, Pace, Report, replay};
use daedalus_trace::Reader;
use serde::Serialize;

/// The most differences that are printed of a trace.
const MAX_DIFFERENCES: usize = 5;

/// The options of `daedalusd replay`.
#[derive(Debug)]
pub(crate) struct ReplayOptions {
    /// The traces.
    pub(crate) files: Vec<PathBuf>,
    /// Threads of the decoder: 1 to 64.
    pub(crate) threads: u32,
    /// Complete jobs only when a buffer is to be used again; else each job before the next begins.
    pub(crate) free_running: bool,
    /// Compare statuses but no pictures.
    pub(crate) unchecked: bool,
    /// Print one JSON object per trace and line instead of text.
    pub(crate) json: bool,
}

/// The results of one trace.
#[derive(Serialize)]
struct TraceReport {
    file: String,
    session: Option<u64>,
    threads: u32,
    pace: &'static str,
    equal: bool,
    jobs: u64,
    statuses: u64,
    pictures: u64,
    held: u64,
    errors: u64,
    refused: u64,
    unanswered: u64,
    cut: bool,
    different: u64,
    differences: Vec<String>,
    /// The error if it could not be replayed.
    error: Option<String>,
    /// Time from the first record to the last, with reading and comparing.
    seconds: f64,
    /// Time in calls of the decoder.
    decoding_seconds: f64,
    /// Jobs per second of the whole time.
    fps: f64,
}

/// Replays the traces and prints their results. The status is a failure if something differs or a trace
/// cannot be replayed.
pub(crate) fn main(args: &ReplayOptions) -> ExitCode {
    match run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // The reader, such as `head`, has closed the pipe: no failure.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("daedalusd: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a report of each trace; returns whether all are equal. The only error is that of the output: what
/// is wrong with a trace is in its report.
fn run(args: &ReplayOptions) -> io::Result<bool> {
    let mut out = std::io::stdout().lock();
    let mut all_equal = true;
    for file in &args.files {
        let report = trace_report(args, file);
        all_equal &= report.equal;
        if args.json {
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", report.text())?;
        }
        out.flush()?;
    }
    Ok(all_equal)
}

fn trace_report(args: &ReplayOptions, file: &Path) -> TraceReport {
    let mut session = None;
    let played = play(args, file, &mut session);
    let (report, error) = match played {
        Ok(report) => (report, None),
        Err(error) => (Report::default(), Some(format!("{error:#}"))),
    };
    let seconds = report.elapsed.as_secs_f64();
    TraceReport {
        file: file.display().to_string(),
        session,
        threads: args.threads,
        pace: if args.free_running {
            "free-running"
        } else {
            "lock-step"
        },
        equal: error.is_none() && report.equal(),
        jobs: report.jobs,
        statuses: report.statuses,
        pictures: report.pictures,
        held: report.held,
        errors: report.errors,
        refused: report.refused,
        unanswered: report.unanswered,
        cut: report.cut,
        different: report.different,
        differences: report.differences.iter().map(ToString::to_string).collect(),
        error,
        seconds,
        decoding_seconds: report.decoding.as_secs_f64(),
        fps: if seconds > 0.0 {
            report.jobs as f64 / seconds
        } else {
            0.0
        },
    }
}

fn play(args: &ReplayOptions, file: &Path, session: &mut Option<u64>) -> Result<Report> {
    let input = File::open(file).with_context(|| file.display().to_string())?;
    let mut trace = Reader::new(input).with_context(|| file.display().to_string())?;
    *session = Some(trace.session().session);
    let options = Options {
        engine: daedalus_engine::Options {
            threads: daedalus_engine::Threads::Fixed(args.threads),
            ..daedalus_engine::Options::default()
        },
        pace: if args.free_running {
            Pace::FreeRunning
        } else {
            Pace::LockStep
        },
        unchecked: args.unchecked,
    };
    replay(&mut trace, &options).with_context(|| format!("after {} records", trace.records()))
}

impl TraceReport {
    fn text(&self) -> String {
        let Self { file, .. } = self;
        if let Some(error) = &self.error {
            return format!("{file}: FAILED: {error}");
        }
        let mut notes = String::new();
        for (count, name) in [
            (self.errors, "recorded errors"),
            (self.held, "continued by the next job"),
            (self.refused, "answered without decoding"),
            (self.unanswered, "never answered"),
        ] {
            if count > 0 {
                notes.push_str(&format!(", {count} {name}"));
            }
        }
        if self.cut {
            notes.push_str(", cut off");
        }
        let result = if self.equal {
            "equal".to_owned()
        } else if self.statuses == 0 {
            "NOTHING TO COMPARE".to_owned()
        } else {
            format!("{} JOBS DIFFER", self.different)
        };
        let mut text = format!(
            "{file}: {result}: {} jobs, {} statuses and {} pictures compared{notes}; {:.1} fps",
            self.jobs, self.statuses, self.pictures, self.fps
        );
        for difference in self.differences.iter().take(MAX_DIFFERENCES) {
            text.push_str(&format!("\n  {difference}"));
        }
        text
    }
}
