// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Decodes a file as often as asked into buffers that are used again as a client would, and prints what it
//! took: for measuring the engine alone, by time, under callgrind or strace.
//!
//! It runs freely: a job is submitted as soon as the decoder takes it, whether or not earlier ones are
//! reported. A buffer is used again when every job that refers to its picture must have been reported by
//! then.
//!
//! Everything that a worker is handed is made before the time begins. With 0 rounds nothing is decoded: what
//! that costs is to be subtracted.

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use daedalus_client::CodedJob;
use daedalus_engine::memory::{Mapping, View};
use daedalus_engine::{Decoder, Job, Options, Status, Threads};
use daedalus_uapi::fourcc;
use daedalus_uapi::protocol::Control;
use support::Capture;

/// What a job needs, ready for submission.
struct PreparedJob {
    coded: CodedJob,
    payload: View,
    /// All controls, with those that an earlier request has set.
    controls: Vec<(u32, bool, Vec<u8>)>,
    /// Which of the buffers it decodes into.
    capture: usize,
}

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let [file, threads, rounds] = words.as_slice() else {
        anyhow::bail!("usage: decode FILE THREADS ROUNDS");
    };
    let source = daedalus_client::jobs(Path::new(file))?;
    let format = source.codec().coded_format();
    let threads: u32 = threads.parse().context("THREADS")?;
    let (jobs, captures) = prepare(source.collect::<Result<_, _>>()?, threads as usize)?;
    let options = Options {
        threads: Threads::Fixed(threads),
        ..Options::default()
    };
    for _ in 0..rounds.parse().context("ROUNDS")? {
        let mut decoder = daedalus_engine::open(format, &options)?;
        let start = Instant::now();
        decode(decoder.as_mut(), &jobs, &captures)?;
        println!(
            "{} jobs, {} buffers, {:.4} s",
            jobs.len(),
            captures.len(),
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

/// Makes jobs ready, and the buffers they need, for a decoder that holds back at most `unreported` jobs.
fn prepare(coded: Vec<CodedJob>, unreported: usize) -> Result<(Vec<PreparedJob>, Vec<Capture>)> {
    let last = support::last_uses(&coded);
    let mut sticky: HashMap<u32, Vec<u8>> = HashMap::new();
    let (mut held, mut free) = (HashMap::<u64, usize>::new(), Vec::<usize>::new());
    let (mut jobs, mut captures) = (Vec::new(), Vec::new());
    for (index, job) in coded.into_iter().enumerate() {
        for control in &job.controls {
            sticky.insert(control.id, control.value.clone());
        }
        let mapping = Mapping::anonymous(job.payload.len().max(1))?;
        mapping.write(0, &job.payload)?;
        let payload = View::new(mapping, 0, job.payload.len(), 0)?;
        let first_field = held.remove(&job.timestamp).filter(|_| job.same_capture);
        let capture = match first_field.or_else(|| free.pop()) {
            Some(at) => at,
            None => {
                let kind = if job.bit_depth > 8 {
                    fourcc::P010
                } else {
                    fourcc::NV12
                };
                let capture = Capture::new(kind, job.coded_width, job.coded_height)?;
                // No page is touched for the first time while time is taken.
                capture.fill(0x80)?;
                captures.push(capture);
                captures.len() - 1
            }
        };
        held.insert(job.timestamp, capture);
        let over: Vec<_> = held
            .keys()
            .copied()
            .filter(|timestamp| {
                last.get(timestamp)
                    .is_none_or(|&last| last + unreported <= index + 1)
            })
            .collect();
        free.extend(over.iter().filter_map(|timestamp| held.remove(timestamp)));
        let controls = sticky
            .iter()
            .map(|(&id, value)| (id, job.control(id).is_some(), value.clone()))
            .collect();
        jobs.push(PreparedJob {
            coded: job,
            payload,
            controls,
            capture,
        });
    }
    Ok((jobs, captures))
}

/// Decodes all jobs.
fn decode(decoder: &mut dyn Decoder, jobs: &[PreparedJob], captures: &[Capture]) -> Result<()> {
    let mut reports = Vec::new();
    for (id, prepared) in (1..).zip(jobs) {
        let controls: Vec<_> = prepared
            .controls
            .iter()
            .map(|(id, in_request, value)| Control {
                id: *id,
                in_request: *in_request,
                elems: support::elems(*id, value),
                value,
            })
            .collect();
        let job = Job {
            id,
            timestamp: prepared.coded.timestamp,
            same_capture: prepared.coded.same_capture,
            coded: prepared.payload.clone(),
            controls: &controls,
            raw: captures[prepared.capture].raw.clone(),
        };
        decoder.submit(&job, &mut reports);
    }
    decoder.drain(&mut reports);
    ensure!(
        reports.len() == jobs.len() && reports.iter().all(|report| report.status == Status::Ok),
        "not every picture is exact: {:?}",
        reports.iter().find(|report| report.status != Status::Ok)
    );
    Ok(())
}
