// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sessions close in any order: the video node, the media node, requests, exported buffers and mappings go at
//! random times from several threads, in every state that a session and its requests can be in, while queues
//! stop, buffers are given back and requests are made new beside it. The kernel's log says whether that was
//! right.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use daedalus_client::device::{Device, Nodes, Request};
use daedalus_client::memory::Mapping;
use daedalus_client::queue::{Backing, Queue};
use daedalus_client::v4l2::{self, BUF_TYPE_CAPTURE, BUF_TYPE_OUTPUT};

use super::common::Common;
use super::imports::prepared;
use super::leaks::QUEUES;
use crate::guest::broker::Broker;
use crate::guest::clip::Clip;
use crate::guest::figures::Figures;
use crate::guest::left;
use crate::random::Random;

/// Threads that close.
const THREADS: usize = 4;
/// The most requests of a session.
const REQUESTS: u64 = 6;

/// Arguments of `orders`.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Seconds for which it goes on.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
}

/// Something that a thread does once, and lets go of what it held.
type Action = Box<dyn FnOnce() + Send>;

/// What one thread does in one round.
type Share = Mutex<Vec<Action>>;

/// Runs the scenario.
pub(super) fn run(common: &Common, options: &Options, figures: &mut Figures) -> Result<()> {
    let clips = common.small_clips()?;
    let (broker, nodes) = Broker::start_logged(&common.broker_log, &[])?;
    let mut rng = Random::part(common.seed, 0);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let shares: Vec<Share> = (0..THREADS).map(|_| Share::default()).collect();
    // All threads stand at it before a round and after it; without actions, the rounds are over.
    let barrier = Barrier::new(THREADS + 1);
    let (mut rounds, mut actions) = (0usize, 0usize);
    let result = std::thread::scope(|scope| -> Result<()> {
        for (number, share) in shares.iter().enumerate() {
            let (barrier, seed) = (&barrier, common.seed);
            scope.spawn(move || closer(share, barrier, Random::part(seed, 1 + number as u64)));
        }
        let mut result = Ok(());
        while result.is_ok() && Instant::now() < end {
            match round(&nodes, &clips, &mut rng) {
                Ok(mut all) => {
                    actions += all.len();
                    while let Some(action) = all.pop() {
                        lock(&shares[rng.index(THREADS)]).push(action);
                    }
                    // A thread without an action would take the rounds for over.
                    for share in &shares {
                        lock(share).push(Box::new(|| {}));
                    }
                    barrier.wait();
                    barrier.wait();
                    rounds += 1;
                }
                Err(error) => result = Err(error).with_context(|| format!("round {rounds}")),
            }
        }
        barrier.wait();
        result
    });
    figures.set("rounds", rounds);
    figures.set("actions", actions);
    result?;
    ensure!(rounds > 0, "not even one round was made");
    broker.stop()?;
    left::nothing_and_nobody()
}

/// Locks what a thread is to do, whatever became of who held it.
fn lock(share: &Share) -> std::sync::MutexGuard<'_, Vec<Action>> {
    share.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does what the rounds bring, each action after a random moment.
fn closer(share: &Share, barrier: &Barrier, mut rng: Random) {
    loop {
        barrier.wait();
        let actions = std::mem::take(&mut *lock(share));
        if actions.is_empty() {
            return;
        }
        for action in actions {
            match rng.below(4) {
                0 => std::thread::yield_now(),
                1 => (0..rng.below(4000)).for_each(|_| std::hint::spin_loop()),
                _ => {}
            }
            action();
        }
        barrier.wait();
    }
}

/// Brings a session into a random state. Returns what is to be done to it, in random order.
fn round(nodes: &Nodes, clips: &[Clip], rng: &mut Random) -> Result<Vec<Action>> {
    let clip = &clips[rng.index(clips.len())];
    let (device, _) = prepared(nodes, clip)?;
    let mut queues = QUEUES.map(|buf_type| Queue::new(&device, buf_type));
    let mut mappings: Vec<Arc<Mapping>> = Vec::new();
    let mut exports: Vec<OwnedFd> = Vec::new();
    for queue in &mut queues {
        if rng.one_in(6) {
            continue;
        }
        queue.allocate(2 + rng.below(2) as u32, &Backing::Mmap)?;
        for index in 0..queue.len() {
            if rng.one_in(3) {
                exports.push(queue.export(index, 0, true)?);
            }
        }
    }
    let [output, capture] = &mut queues;
    let streams = !output.is_empty() && !capture.is_empty() && !rng.one_in(3);
    if streams {
        output.stream(true)?;
        capture.stream(true)?;
    }
    if rng.one_in(2) {
        for index in 0..capture.len() {
            capture.queue_picture(index)?;
        }
    }
    let requests = requests(&device, output, clip, rng)?;
    for queue in &mut queues {
        for index in 0..queue.len() {
            mappings.extend(queue.take(index)?);
        }
    }
    drop(queues);

    let mut actions: Vec<Action> = Vec::new();
    for (number, request) in requests.into_iter().enumerate() {
        if rng.one_in(4) {
            // Made new by one thread while another closes it.
            let other = Request::from(rustix::io::dup(request.as_fd())?);
            actions.push(Box::new(move || {
                // Refused while it is queued.
                let _ = other.reinit();
            }));
        }
        if rng.one_in(4) {
            let (device, again) = (
                Arc::clone(&device),
                Request::from(rustix::io::dup(request.as_fd())?),
            );
            let controls = clip.jobs[number % clip.jobs.len()].controls[..1].to_vec();
            actions.push(Box::new(move || {
                // Refused while it is queued.
                let _ = device.set_controls(&controls, Some(&again));
            }));
        }
        actions.push(Box::new(move || drop(request)));
    }
    actions.extend(exports.into_iter().map(|fd| Box::new(move || drop(fd)) as Action));
    actions.extend(
        mappings
            .into_iter()
            .map(|one| Box::new(move || drop(one)) as Action),
    );
    for buf_type in [BUF_TYPE_OUTPUT, BUF_TYPE_CAPTURE] {
        if rng.one_in(3) {
            let device = Arc::clone(&device);
            actions.push(Box::new(move || {
                // It may not stream.
                let _ = v4l2::stream(device.video(), false, buf_type);
            }));
        }
        if rng.one_in(3) {
            let device = Arc::clone(&device);
            actions.push(Box::new(move || {
                let mut none = v4l2::RequestBuffers {
                    type_: buf_type,
                    memory: v4l2::MEMORY_MMAP,
                    ..Default::default()
                };
                // Refused while it streams.
                let _ = v4l2::reqbufs(device.video(), &mut none);
            }));
        }
    }
    // The session's last users close both nodes, the one in one thread, the other in another.
    let media = rustix::io::dup(device.media()?)?;
    actions.push(Box::new(move || drop(media)));
    actions.push(Box::new(move || drop(device)));
    for last in (1..actions.len()).rev() {
        actions.swap(last, rng.index(last + 1));
    }
    Ok(actions)
}

/// Makes requests of the session, with controls and a buffer or without, queued or not.
fn requests(device: &Arc<Device>, output: &Queue, clip: &Clip, rng: &mut Random) -> Result<Vec<Request>> {
    let mut requests = Vec::new();
    for number in 0..rng.below(REQUESTS + 1) as usize {
        let request = device.request()?;
        let job = &clip.jobs[number % clip.jobs.len()];
        if !rng.one_in(4) {
            let count = if rng.one_in(2) { 1 } else { job.controls.len() };
            device.set_controls(&job.controls[..count], Some(&request))?;
        }
        if number < output.len() && !rng.one_in(3) {
            output.queue_coded(number, &job.payload, job.timestamp, false, &request)?;
            if !rng.one_in(3) {
                request.queue()?;
            }
        }
        requests.push(request);
    }
    Ok(requests)
}
