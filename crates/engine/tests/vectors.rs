// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every stream of the shared vectors through the engine: each shown picture has the MANIFEST's md5.

mod support;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use daedalus_client::Codec;
use daedalus_engine::{Options, Status, Threads};
use daedalus_uapi::fourcc;
use md5::{Digest, Md5};
use support::{Capture, Player};

/// One row of a MANIFEST.
struct Vector {
    path: PathBuf,
    name: String,
    ten_bit: bool,
    /// Md5 of all shown pictures, planar: the sum that the stream's own suite publishes.
    raw_md5: String,
}

fn vectors(codec: Codec) -> Result<Vec<Vector>> {
    let Some(folder) = daedalus_client::vectors::for_test(codec.name(), "the engine's pictures") else {
        return Ok(Vec::new());
    };
    let text = std::fs::read_to_string(folder.join("MANIFEST.tsv"))?;
    let mut rows = text.lines().filter(|line| !line.starts_with('#'));
    let columns: Vec<_> = rows.next().context("no header")?.split('\t').collect();
    let column = |name| {
        let index = columns.iter().position(|&column| column == name);
        index.with_context(|| format!("no column {name}"))
    };
    let (file, pixfmt, raw_md5) = (column("file")?, column("pixfmt")?, column("raw_md5")?);
    rows.map(|row| {
        let fields: Vec<_> = row.split('\t').collect();
        let field = |index: usize| fields.get(index).copied().context("short row");
        Ok(Vector {
            path: folder.join(field(file)?),
            name: field(file)?.to_owned(),
            ten_bit: field(pixfmt)?.contains("10"),
            raw_md5: field(raw_md5)?.to_owned(),
        })
    })
    .collect()
}

fn hex(sum: impl AsRef<[u8]>) -> String {
    let mut text = String::new();
    for byte in sum.as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Decodes a stream and compares with its sum. The sums of its single pictures, which are for NV12 and
/// P010, help to tell where a difference begins; they are wrong where they were made by a tool that
/// converts full-range streams.
fn check(vector: &Vector, options: &Options, format: u32) -> Result<()> {
    let suffix = if vector.ten_bit {
        "p010.frames.md5"
    } else {
        "nv12.frames.md5"
    };
    let sums = std::fs::read_to_string(format!("{}.{suffix}", vector.path.display())).unwrap_or_default();
    let expected: Vec<_> = sums
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let (mut all, mut different, mut inexact, mut index) = (Md5::new(), Vec::new(), Vec::new(), 0);
    let shown = support::decode_file(&vector.path, options, format, usize::MAX, |picture| {
        all.update(picture.planar());
        if expected.get(index) != Some(&hex(Md5::digest(&picture.bytes)).as_str()) {
            different.push(index);
        }
        if !picture.exact {
            inexact.push(index);
        }
        index += 1;
        Ok(())
    })?;
    ensure!(
        hex(all.finalize()) == vector.raw_md5,
        "{} of {shown} pictures differ, first {:?} ({} are expected)",
        different.len(),
        different.first(),
        expected.len()
    );
    ensure!(
        inexact.is_empty(),
        "{} exact pictures called wrong, first {}",
        inexact.len(),
        inexact[0]
    );
    Ok(())
}

fn check_all(codec: Codec, options: &Options, format: u32, every: usize) -> Result<()> {
    let only = std::env::var("ENGINE_VECTORS").unwrap_or_default();
    let mut failed = Vec::new();
    let mut count = 0;
    for vector in vectors(codec)?
        .iter()
        .step_by(every)
        .filter(|v| v.name.contains(&only))
    {
        count += 1;
        if let Err(error) = check(vector, options, format) {
            println!("FAILED {codec}/{}: {error:#}", vector.name);
            failed.push(vector.name.clone());
        }
    }
    println!("{codec}: {} of {count} streams exact", count - failed.len());
    println!(
        "so far, {} buffers were used again, {} of them while the decoder held them",
        support::USED_AGAIN.load(Ordering::Relaxed),
        support::USED_WHILE_HELD.load(Ordering::Relaxed)
    );
    ensure!(failed.is_empty(), "{} of {count} streams failed", failed.len());
    Ok(())
}

#[test]
fn vectors_are_exact() -> Result<()> {
    std::thread::scope(|scope| {
        let all = Codec::ALL
            .iter()
            .map(|codec| scope.spawn(|| check_all(*codec, &Options::default(), fourcc::NV12, 1)));
        // All are started before the first is waited for.
        let all: Vec<_> = all.collect();
        all.into_iter()
            .try_for_each(|one| one.join().map_err(|_| anyhow!("a panic"))?)
    })
}

/// ENGINE_MATRIX in the environment asks for every stream with every combination, which takes minutes.
fn every(sample: usize) -> usize {
    if std::env::var_os("ENGINE_MATRIX").is_some() {
        1
    } else {
        sample
    }
}

/// The other 8-bit CAPTURE formats, with fewer streams.
#[test]
fn other_formats_are_exact() -> Result<()> {
    for format in [fourcc::NV12M, fourcc::YUV420, fourcc::YUV420M] {
        for &codec in Codec::ALL {
            check_all(codec, &Options::default(), format, every(23))?;
        }
    }
    Ok(())
}

/// Jobs of a stream that [`with_jobs_in_flight`] decodes.
const JOBS_IN_FLIGHT: usize = 60;

/// Decodes a file as a client does that has up to `ahead` jobs in flight: it submits until so many are not
/// reported, then waits for the oldest. A buffer is used again as early as can be: when its picture was
/// reported, and the last job that refers to it was submitted. Returns each job's status and picture.
fn with_jobs_in_flight(path: &Path, threads: u32, ahead: usize) -> Result<Vec<(Status, Vec<u8>)>> {
    let options = Options {
        threads: Threads::Fixed(threads),
        ..Options::default()
    };
    let jobs = daedalus_client::jobs(path)?;
    let mut player = Player::new(jobs.codec().coded_format(), &options)?;
    let jobs: Vec<_> = jobs.take(JOBS_IN_FLIGHT).collect::<Result<_, _>>()?;
    let last = support::last_uses(&jobs);
    let mut free: Vec<Capture> = Vec::new();
    // Of jobs that are not reported, then of pictures that may be references.
    let mut submitted: VecDeque<(usize, Capture)> = VecDeque::new();
    let mut held: Vec<(u64, Capture)> = Vec::new();
    let mut pictures = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        held.retain(|(timestamp, capture)| {
            let needed = last.get(timestamp).is_some_and(|&last| last >= index);
            if !needed {
                free.push(capture.clone());
            }
            needed
        });
        let format = if job.bit_depth > 8 {
            fourcc::P010
        } else {
            fourcc::NV12
        };
        let first_field = job.same_capture.then(|| {
            let captures = submitted.iter().map(|(_, capture)| capture);
            let held = held.iter().map(|(_, capture)| capture);
            held.chain(captures).next_back().cloned()
        });
        let fits = |old: &Capture| {
            let raw = &old.raw;
            (raw.format, raw.width, raw.height)
                == (format, job.coded_width, job.coded_height.next_multiple_of(2))
        };
        let capture = match (first_field.flatten(), free.iter().rposition(fits)) {
            (Some(capture), _) => capture,
            (None, Some(at)) => free.remove(at),
            (None, None) => Capture::new(format, job.coded_width, job.coded_height)?,
        };
        player.submit(job, &job.payload, &capture)?;
        submitted.push_back((index, capture));
        let mut reports = player.reports();
        while !submitted.is_empty() {
            for report in reports.drain(..) {
                let (at, capture) = submitted.pop_front().context("a report without a job")?;
                ensure!(report.job == at as u64 + 1, "not in the order of submission");
                pictures.push((report.status, capture.semi_planar(jobs[at].visible)?));
                held.retain(|(timestamp, _)| *timestamp != jobs[at].timestamp);
                held.push((jobs[at].timestamp, capture));
            }
            if submitted.len() < ahead && index + 1 < jobs.len() {
                break;
            }
            player.advance();
            reports = player.reports();
            ensure!(!reports.is_empty() || submitted.is_empty(), "nothing is reported");
        }
    }
    Ok(pictures)
}

/// However many jobs a client has in flight, and however many threads decode them: the same pictures, and an
/// end.
#[test]
fn jobs_in_flight_change_nothing() -> Result<()> {
    /// A stream takes a second.
    const PATIENCE: Duration = Duration::from_secs(60);
    for &codec in Codec::ALL {
        let only = std::env::var("ENGINE_VECTORS").unwrap_or_default();
        let vectors = vectors(codec)?;
        let some = vectors
            .iter()
            .step_by(every(7))
            .filter(|vector| vector.name.contains(&only));
        let mut count = 0;
        for vector in some {
            count += 1;
            let one = with_jobs_in_flight(&vector.path, 1, 1).with_context(|| vector.name.clone())?;
            for (threads, ahead) in [(2, 2), (2, 3), (3, 2), (4, 1), (4, 3), (4, 5), (2, 100)] {
                let (send, receive) = std::sync::mpsc::channel();
                let path = vector.path.clone();
                // On a thread that can be left behind: what is looked for is that it hangs.
                std::thread::spawn(move || send.send(with_jobs_in_flight(&path, threads, ahead)));
                let several = receive.recv_timeout(PATIENCE).with_context(|| {
                    format!(
                        "{}: {threads} threads hang with {ahead} jobs in flight",
                        vector.name
                    )
                })??;
                let different = several.iter().zip(&one).position(|(several, one)| several != one);
                ensure!(
                    several.len() == one.len() && different.is_none(),
                    "{}: {threads} threads, {ahead} jobs in flight: job {different:?} differs",
                    vector.name
                );
            }
        }
        println!("{codec}: {count} streams are the same however many jobs are in flight");
    }
    Ok(())
}

/// What [`Options`] switches on and off changes no picture.
#[test]
fn every_option_is_exact() -> Result<()> {
    for (threads, direct) in [(1, false), (2, true), (4, true), (2, false), (4, false)] {
        let options = Options {
            threads: Threads::Fixed(threads),
            direct,
            ..Options::default()
        };
        for &codec in Codec::ALL {
            check_all(codec, &options, fourcc::NV12, every(if direct { 17 } else { 29 }))?;
        }
    }
    Ok(())
}
