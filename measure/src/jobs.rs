// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Measures the cost of the way through the device: a small client decodes a clip's jobs again and again in
//! one session.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daedalus_client::CodedJob;
use daedalus_client::decoder::{Options, Plan, Session};
use daedalus_client::device;
use serde::Serialize;

use crate::calls::{Calls, Strace};
use crate::process;

/// Arguments of `daedalus-measure jobs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The clip.
    #[arg(long)]
    clip: PathBuf,
    /// Jobs that time is taken of, at each depth, at most.
    #[arg(long, default_value_t = 4000)]
    count: usize,
    /// Seconds after which these are enough.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Jobs that strace sees.
    #[arg(long, default_value_t = 100)]
    traced: usize,
    /// Jobs in flight; with 1 the client waits for each picture before it sends the next job.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    depths: Vec<usize>,
    /// The broker's process.
    #[arg(long)]
    broker: u32,
    /// The file for the output of strace.
    #[arg(long)]
    strace: PathBuf,
}

/// The figures at one depth.
#[derive(Debug, Serialize)]
struct Row {
    codec: &'static str,
    width: u32,
    height: u32,
    depth: usize,
    jobs: usize,
    seconds: f64,
    /// Time of each job in µs, from its first system call to the return of its buffers: only at depth 1.
    latencies: Vec<f64>,
    /// Processor time of the worker and of the client, in seconds.
    worker: f64,
    client: f64,
    traced: usize,
    strace: Calls,
}

/// Plays, and prints a line of JSON for each depth.
pub(crate) fn run(args: &Args) -> Result<()> {
    let nodes = device::find("daedalus")?;
    let source = daedalus_client::jobs(&args.clip)?;
    let codec = source.codec();
    let jobs: Vec<CodedJob> = source.collect::<Result<_, _>>()?;
    let first = jobs.first().context("the clip has no job")?;
    for &depth in &args.depths {
        process::no_worker(args.broker)?;
        let options = Options {
            depth,
            hash: false,
            ..Options::default()
        };
        let mut session = Session::open(&nodes, &Plan::new(codec, &jobs), &options)?;
        let mut next = jobs.iter().cycle();
        // Every buffer is mapped then.
        play(&mut session, &mut next, jobs.len(), depth, Duration::MAX)?;
        let worker = process::worker(args.broker)?;
        let (worker_before, client_before) =
            (process::runtime(worker)?, process::runtime(std::process::id())?);
        let start = Instant::now();
        let limit = Duration::from_secs(args.seconds);
        let latencies = play(&mut session, &mut next, args.count, depth, limit)?;
        let seconds = start.elapsed().as_secs_f64();
        let (worker_after, client_after) = (process::runtime(worker)?, process::runtime(std::process::id())?);
        let strace = Strace::attach(worker, &args.strace)?;
        play(&mut session, &mut next, args.traced, depth, Duration::MAX)?;
        let calls = strace.detach()?;
        ensure!(
            calls.count() as usize >= args.traced,
            "strace saw {} calls of {} jobs",
            calls.count(),
            args.traced
        );
        ensure!(
            session.failed_jobs() == 0,
            "{} jobs failed",
            session.failed_jobs()
        );
        let row = Row {
            codec: codec.title(),
            width: first.coded_width,
            height: first.coded_height,
            depth,
            jobs: latencies.len(),
            seconds,
            latencies: if depth == 1 { latencies } else { Vec::new() },
            worker: worker_after - worker_before,
            client: client_after - client_before,
            traced: args.traced,
            strace: calls,
        };
        println!("{}", serde_json::to_string(&row)?);
    }
    Ok(())
}

/// Plays so many jobs to their end, or fewer when the time is over; what each took in µs.
fn play<'j>(
    session: &mut Session,
    jobs: &mut impl Iterator<Item = &'j CodedJob>,
    count: usize,
    depth: usize,
    limit: Duration,
) -> Result<Vec<f64>> {
    let start = Instant::now();
    let mut times = Vec::with_capacity(count);
    for job in jobs.take(count) {
        if start.elapsed() > limit {
            break;
        }
        let job_start = Instant::now();
        session.submit(job)?;
        if depth == 1 {
            session.drain()?;
        }
        times.push(job_start.elapsed().as_secs_f64() * 1e6);
        session.take_pictures();
    }
    session.drain()?;
    session.take_pictures();
    Ok(times)
}
