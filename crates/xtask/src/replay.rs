// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev replay`: GStreamer plays streams in a guest whose broker records, and the traces are decoded again
//! on the machine, with neither kernel nor client: in lock-step and free-running, with one thread and with
//! several.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::conformance::manifest;
use crate::guest::{self, GuestJob};
use crate::make::root;
use crate::outcome::Outcome;
use crate::play;
use crate::site::files::{read, write_json};
use crate::streams::{self, ListedStream, Use};

/// Arguments of `./dev replay`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {
    /// Traces to replay instead of new ones; they must be under the tree
    files: Vec<PathBuf>,
}

/// How the traces are replayed: threads, and whether free-running.
const WAYS: [(u32, bool); 5] = [(1, false), (1, true), (2, true), (4, true), (4, false)];

/// Runs it; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let outcome = Outcome::new();
    let dir = bed.target.join("replay");
    std::fs::create_dir_all(&dir)?;
    let traces = if args.files.is_empty() {
        let mut traces = Vec::new();
        outcome.check("replay: recording what GStreamer plays", || {
            let (note, recorded) = record(bed, &dir)?;
            traces = recorded;
            Ok(note)
        });
        traces
    } else {
        args.files
            .iter()
            .map(|file| Ok((file.display().to_string(), in_tree(bed, file)?)))
            .collect::<Result<_>>()?
    };
    if traces.is_empty() {
        return Ok(outcome);
    }
    for (threads, free_running) in WAYS {
        let pace = if free_running { "free-running" } else { "lock-step" };
        outcome.check(&format!("replay: {threads} thread(s), {pace}"), || {
            let rows = replay(bed, &traces, threads, free_running)?;
            write_json(&dir.join(format!("threads-{threads}-{pace}.json")), &rows)?;
            judge(&rows, traces.len())
        });
    }
    Ok(outcome)
}

/// A file under the tree, by its real path.
fn in_tree(bed: &Bed, file: &Path) -> Result<PathBuf> {
    let real = file
        .canonicalize()
        .with_context(|| format!("no file {}", file.display()))?;
    ensure!(
        real.starts_with(&bed.repo),
        "{} is not under the tree: copy it to target/",
        file.display()
    );
    Ok(real)
}

/// Plays and records in a guest. Returns a note, and the streams' names with their traces in
/// target/replay/traces.
fn record(bed: &Bed, dir: &Path) -> Result<(String, Vec<(String, PathBuf)>)> {
    let (list, origin) = match bed.vectors() {
        Some(vectors) => {
            let list = dir.join("list.json");
            write_json(&list, &streams(&vectors)?)?;
            (list, "vectors")
        }
        // Fewer features, and the same ways of decoding.
        None => (play::clips(bed)?.0, "generated clips, for want of vectors"),
    };
    let names = names(&list)?;
    let inside = list
        .strip_prefix(&bed.target)
        .context("the stream list is not under target/")?;
    // Recorded to tmpfs: many small writes to hostfs are slow.
    let script = format!(
        "mkdir -m 700 /tmp/traces\n\
         daedalus_start --record /tmp/traces\n\
         daedalus-tests play --list /mnt/target/{} --out /mnt/out --stall 30\n\
         daedalus_stop\n\
         daedalus_unload\n\
         [ -z \"$(find /tmp/traces -type f ! -perm 600)\" ]\n\
         cp -r /tmp/traces /mnt/out/traces\n",
        inside.display()
    );
    let result = guest::run(
        bed,
        &GuestJob::new("replay", &script).timeout(Duration::from_secs(300)),
    )?;
    result.judge()?;
    let traces = sorted(&result.out_dir.join("traces"))?;
    ensure!(
        traces.len() == names.len(),
        "{} streams were played, and {} traces recorded",
        names.len(),
        traces.len()
    );
    let directory = dir.join("traces");
    bed.host.remove_tree(&directory)?;
    std::fs::create_dir_all(&directory)?;
    let (mut paired, mut bytes) = (Vec::new(), 0);
    for (name, trace) in names.into_iter().zip(traces) {
        let to = directory.join(trace.file_name().context("a trace without a name")?);
        bytes += std::fs::copy(&trace, &to)?;
        paired.push((name, to));
    }
    let note = format!(
        "{} traces of {origin}, {:.1} MB, guest {:.0} s",
        paired.len(),
        bytes as f64 / 1e6,
        result.seconds
    );
    Ok((note, paired))
}

/// The list for `daedalus-tests play` (tests/src/stream.rs).
fn streams(vectors: &Path) -> Result<Vec<Value>> {
    let streams = streams::of(Use::Replay)?;
    streams.iter().map(|stream| entry(vectors, stream)).collect()
}

fn entry(vectors: &Path, stream: &ListedStream) -> Result<Value> {
    let path = stream.path();
    let rows = manifest::load(&vectors.join(stream.codec.name()))?;
    let row = rows.iter().find(|row| row.file == stream.file);
    let row = row.with_context(|| format!("no MANIFEST has {path}"))?;
    let (sums, deep) = stream.sums(vectors)?;
    Ok(json!({
        "name": path,
        "path": format!("/mnt/vectors/{path}"),
        "codec": stream.codec,
        "format": if deep { "P010_10LE" } else { "NV12" },
        "width": row.width,
        "height": row.height,
        "frames": read(&vectors.join(&sums))?.lines().count(),
        "references": [{ "name": "MANIFEST", "path": format!("/mnt/vectors/{sums}") }],
    }))
}

/// The streams' names, in the order in which they are played.
fn names(list: &Path) -> Result<Vec<String>> {
    let list: Vec<Value> = serde_json::from_str(&read(list)?).context("the stream list")?;
    Ok(list
        .iter()
        .map(|stream| stream["name"].as_str().unwrap_or_default().to_owned())
        .collect())
}

/// The traces of a directory in the order of their sessions: the client plays one stream after the other.
fn sorted(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut traces = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("no {}", dir.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let session = name
            .split("-session")
            .nth(1)
            .and_then(|rest| rest.split('-').next()?.parse::<u64>().ok());
        traces.push((
            session.with_context(|| format!("'{name}' names no session"))?,
            path,
        ));
    }
    traces.sort();
    Ok(traces.into_iter().map(|(_, path)| path).collect())
}

/// Replays in the Debian root. One row per trace, with the stream's name added.
fn replay(bed: &Bed, traces: &[(String, PathBuf)], threads: u32, free_running: bool) -> Result<Vec<Value>> {
    let program = root::inside(bed, &bed.binaries()?.join("daedalus"));
    // Differences are rows, not a failure of the command.
    let mut command = bed
        .command("sh")?
        .args(["-c", "\"$0\" \"$@\" || [ $? -eq 1 ]"])
        .arg(program)
        .args(["replay", "--json", &format!("--threads={threads}")]);
    if free_running {
        command = command.arg("--free-running");
    }
    for (_, trace) in traces {
        command = command.arg(root::inside(bed, trace));
    }
    let mut rows: Vec<Value> = command
        .timeout(Duration::from_secs(300))
        .output()?
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("malformed row: {line}")))
        .collect::<Result<_>>()?;
    for (row, (name, _)) in rows.iter_mut().zip(traces) {
        row["stream"] = json!(name);
    }
    Ok(rows)
}

/// Every trace has a row, and every row is equal.
fn judge(rows: &[Value], traces: usize) -> Result<String> {
    ensure!(
        rows.len() == traces,
        "{} of {traces} traces were replayed",
        rows.len()
    );
    let different: Vec<String> = rows
        .iter()
        .filter(|row| row["equal"] != true)
        .map(reason)
        .collect();
    ensure!(different.is_empty(), "{}", different.join("; "));
    let sum = |what: &str| -> u64 { rows.iter().filter_map(|row| row[what].as_u64()).sum() };
    let seconds: f64 = rows.iter().filter_map(|row| row["seconds"].as_f64()).sum();
    ensure!(sum("pictures") > 0, "no picture was compared");
    Ok(format!(
        "{traces} traces, {} jobs, {} pictures equal, {} continued by the next job, {:.0} fps",
        sum("jobs"),
        sum("pictures"),
        sum("held"),
        sum("jobs") as f64 / seconds.max(1e-9)
    ))
}

fn reason(row: &Value) -> String {
    let stream = row["stream"].as_str().unwrap_or_default();
    let why = row["error"]
        .as_str()
        .or_else(|| row["differences"][0].as_str())
        .unwrap_or("nothing could be compared");
    format!("{stream}: {} job(s) differ: {why}", row["different"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_differs_or_is_missing_fails() {
        let good =
            json!({"equal": true, "jobs": 3, "pictures": 3, "held": 0, "seconds": 1.0, "different": 0});
        let mut bad = good.clone();
        (bad["equal"], bad["different"]) = (json!(false), json!(1));
        bad["differences"] = json!(["job 2"]);
        let rows = [good, bad];
        assert!(judge(&rows[..1], 1).is_ok());
        assert!(judge(&rows[..1], 2).is_err());
        let error = judge(&rows, 2).unwrap_err().to_string();
        assert!(error.contains("job 2"), "{error}");
        assert!(judge(&[], 0).is_err());
    }

    #[test]
    fn traces_are_in_the_order_of_their_sessions() {
        let dir = std::env::temp_dir().join(format!("daedalus-sorted-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for session in [10, 9, 2] {
            std::fs::write(
                dir.join(format!("20260101T000000Z-session{session}-codec-0.trace")),
                "",
            )
            .unwrap();
        }
        let names: Vec<String> = sorted(&dir)
            .unwrap()
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(
            names[0].contains("session2-") && names[2].contains("session10-"),
            "{names:?}"
        );
    }
}
