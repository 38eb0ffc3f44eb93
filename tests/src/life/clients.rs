// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several sessions at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use daedalus_client::decoder::{Options, Plan, Session};
use daedalus_client::device::{Longest, Nodes};

use super::common::Common;
use crate::codec::FOUR_CLIENTS;
use crate::guest::broker::Broker;
use crate::guest::clip::Clip;
use crate::guest::debugfs;
use crate::guest::figures::Figures;

/// Lets every worker wait for some milliseconds with each job that it has read: whether all of them have one
/// at the same time must not depend on the scheduler.
const HELD: &str = "--fault=stall:all:5";

/// Rounds until all workers have a job at the same time. On a busy machine one round may not do.
const ROUNDS: usize = 5;

/// The most sessions seen at one time with jobs, and with a job that their worker has read.
#[derive(Default)]
struct Peaks {
    streaming: AtomicUsize,
    busy: AtomicUsize,
}

pub(super) fn four_clients(common: &Common, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?;
    let clips = FOUR_CLIENTS.map(|name| clips.clip(name));
    let clips: Vec<_> = clips.into_iter().collect::<Result<_>>()?;
    let (broker, nodes) = Broker::start_with(common, &[HELD])?;
    let most = Peaks::default();
    let (mut pictures, mut peak, mut streaming) = (0, 0, 0);
    for _ in 0..ROUNDS {
        for result in play(&nodes, &clips, &most) {
            let (count, longest) = result?;
            pictures += count;
            figures.calls(longest);
        }
        peak = debugfs::stat("busy_peak")?;
        streaming = most.streaming.load(Ordering::Relaxed);
        if streaming == FOUR_CLIENTS.len() && peak >= FOUR_CLIENTS.len() as u64 {
            break;
        }
    }
    let busy = most.busy.load(Ordering::Relaxed);
    figures.set("pictures", pictures);
    figures.set("clients", FOUR_CLIENTS.to_vec());
    figures.set("sessions_with_jobs_at_once", streaming);
    figures.set("sessions_with_a_job_in_a_worker_at_once", busy);
    figures.set("busy_peak", peak);
    ensure!(
        streaming == FOUR_CLIENTS.len(),
        "at most {streaming} of {} sessions had jobs at the same time",
        FOUR_CLIENTS.len()
    );
    ensure!(
        peak >= FOUR_CLIENTS.len() as u64,
        "at most {peak} workers had a job at the same time"
    );
    broker.stop()?;
    Ok(())
}

/// Plays all clips at once, each in a session of its own. Returns the number of pictures, all exact, and the
/// longest calls of each.
fn play(nodes: &Nodes, clips: &[Clip], most: &Peaks) -> Vec<Result<(usize, Longest)>> {
    let ready = Barrier::new(clips.len());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Ok(sessions) = debugfs::own_sessions() {
                    let busy = sessions.iter().filter(|session| session.number("in_flight") > 0);
                    let pending = |session: &&debugfs::Session| {
                        session.number("waiting") + session.number("claimed") + session.number("in_flight")
                            > 0
                    };
                    most.busy.fetch_max(busy.count(), Ordering::Relaxed);
                    most.streaming
                        .fetch_max(sessions.iter().filter(pending).count(), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let players: Vec<_> = clips
            .iter()
            .map(|clip| {
                let ready = &ready;
                scope.spawn(move || -> Result<_> {
                    let opened =
                        Session::open(nodes, &Plan::new(clip.codec, &clip.jobs), &Options::default());
                    // All wait here whatever happened, or nobody would ever go on.
                    ready.wait();
                    let mut session = opened.with_context(|| clip.name.clone())?;
                    for job in &clip.jobs {
                        session.submit(job).with_context(|| clip.name.clone())?;
                    }
                    session.drain().with_context(|| clip.name.clone())?;
                    Ok((clip.compare_all(session.pictures())?, session.longest()))
                })
            })
            .collect();
        let results = players
            .into_iter()
            .map(|player| {
                player
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a client panicked")))
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        results
    })
}
