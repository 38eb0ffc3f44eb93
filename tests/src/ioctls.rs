// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ioctl sequence of a client, from a log of strace, in a form that can be kept and compared.
//!
//! A log is made by `strace -f -y -v -X verbose -e trace=ioctl,poll,ppoll -o LOG CLIENT…`. A kept trace is
//! text: a header of lines that begin with `#`, one of them `# waits: …`, then an event per line.

mod sequence;
mod strace;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;

use sequence::Sequence;

/// The header line that lists the waits.
const WAITS: &str = "# waits:";

/// Arguments of `daedalus-tests ioctls`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the sequence of one or several runs, which must be the same.
    Normalise {
        /// What strace wrote; may be repeated.
        #[arg(long, required = true)]
        log: Vec<PathBuf>,
        /// A line of the trace's header, such as `stream: FILE`; may be repeated.
        #[arg(long)]
        header: Vec<String>,
    },
    /// Compares a run with a kept trace.
    Compare {
        /// The kept trace.
        #[arg(long)]
        trace: PathBuf,
        /// What strace wrote.
        #[arg(long)]
        log: PathBuf,
    },
}

/// Does it.
///
/// # Errors
///
/// When a log is no log, or the sequences differ.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.command {
        Command::Normalise { log, header } => {
            print!("{}", normalise(log, header)?);
        }
        Command::Compare { trace, log } => {
            let text = read(trace)?;
            let reference = parse(&text).with_context(|| format!("{} is no trace", trace.display()))?;
            compare(&reference, &load(log)?)?;
            println!("{} events as in {}", reference.events.len(), trace.display());
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn load(log: &Path) -> Result<Sequence> {
    let in_log = || format!("in {}", log.display());
    let sequence = sequence::of(&strace::calls(&read(log)?).with_context(in_log)?).with_context(in_log)?;
    ensure!(
        !sequence.events.is_empty(),
        "{} has no call to a V4L2 device",
        log.display()
    );
    Ok(sequence)
}

/// Returns the text of a trace of one or several runs.
fn normalise(logs: &[PathBuf], header: &[String]) -> Result<String> {
    let mut waits = BTreeSet::new();
    let mut first: Option<Sequence> = None;
    for log in logs {
        let mut sequence = load(log)?;
        waits.append(&mut sequence.waits);
        match &first {
            None => first = Some(sequence),
            Some(first) => compare(first, &sequence).context("the runs differ")?,
        }
    }
    let events = first.unwrap_or_default().events;
    let header: String = header
        .iter()
        .map(|line| format!("# {line}\n"))
        .collect::<Vec<_>>()
        .concat();
    let waits: String = waits
        .iter()
        .map(|wait| format!(" {wait}"))
        .collect::<Vec<_>>()
        .concat();
    Ok(format!("{header}{WAITS}{waits}\n{}\n", events.join("\n")))
}

/// Reads a trace from its text.
fn parse(text: &str) -> Result<Sequence> {
    let waits = text.lines().find_map(|line| line.strip_prefix(WAITS));
    let events: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(str::to_owned)
        .collect();
    ensure!(!events.is_empty(), "it has no event");
    Ok(Sequence {
        events,
        waits: waits
            .context("its header does not say what was waited for")?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    })
}

/// Compares two sequences; an error shows the first difference.
fn compare(reference: &Sequence, current: &Sequence) -> Result<()> {
    let length = reference.events.len().max(current.events.len());
    let different = (0..length).find(|&at| reference.events.get(at) != current.events.get(at));
    if let Some(at) = different {
        let show = |sequence: &Sequence| sequence.events.get(at).map_or("its end", |line| line).to_owned();
        let before = reference.events[at.saturating_sub(3)..at.min(reference.events.len())].join("\n    ");
        bail!(
            "event {} is `{}` and must be `{}`; before it, in both:\n    {before}",
            at + 1,
            show(current),
            show(reference)
        );
    }
    let other: Vec<&str> = current
        .waits
        .difference(&reference.waits)
        .map(String::as_str)
        .collect();
    ensure!(
        other.is_empty(),
        "it waits on the video node for {}, and the real client never does",
        other.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(events: &[&str], waits: &[&str]) -> Sequence {
        Sequence {
            events: events.iter().map(|line| (*line).to_owned()).collect(),
            waits: waits.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    #[test]
    fn the_first_difference_is_named() {
        let reference = sequence(&["A", "B", "C"], &["IN"]);
        assert!(compare(&reference, &reference).is_ok());
        let wrong = compare(&reference, &sequence(&["A", "X", "C"], &["IN"]))
            .unwrap_err()
            .to_string();
        assert!(wrong.starts_with("event 2 is `X` and must be `B`"), "{wrong}");
        let short = compare(&reference, &sequence(&["A", "B"], &[]))
            .unwrap_err()
            .to_string();
        assert!(
            short.starts_with("event 3 is `its end` and must be `C`"),
            "{short}"
        );
        let long = compare(&reference, &sequence(&["A", "B", "C", "D"], &[]))
            .unwrap_err()
            .to_string();
        assert!(long.starts_with("event 4 is `D` and must be `its end`"), "{long}");
    }

    #[test]
    fn fewer_waits_are_a_matter_of_speed_and_others_are_not() {
        let reference = sequence(&["A"], &["IN"]);
        assert!(compare(&reference, &sequence(&["A"], &[])).is_ok());
        let error = compare(&reference, &sequence(&["A"], &["PRI"]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("waits on the video node for PRI"), "{error}");
    }

    #[test]
    fn a_trace_is_read_as_it_was_written() {
        let reference = parse("# stream: x\n# waits: IN OUT\nA\nB c\n").unwrap();
        assert_eq!(reference, sequence(&["A", "B c"], &["IN", "OUT"]));
        assert!(parse("# waits:\n").is_err());
        assert!(parse("A\n").is_err());
    }
}
