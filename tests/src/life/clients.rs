// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Several sessions at once.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use daedalus_client::decoder::{Options, Plan, Session};

use super::daemon::Broker;
use super::{Common, Figures, debugfs};

/// Four sizes, three codecs, one of them twice.
const CLIPS: [&str; 4] = ["h264-480p", "vp9-360p", "vp9-240p", "av1-qvga"];

pub(super) fn four_clients(common: &Common, figures: &mut Figures) -> Result<()> {
    let clips = common.clips()?;
    let clips = CLIPS.map(|name| clips.clip(name));
    let clips: Vec<_> = clips.into_iter().collect::<Result<_>>()?;
    let (broker, nodes) = Broker::start(common)?;
    let ready = Barrier::new(clips.len());
    let done = AtomicBool::new(false);
    let most_streaming = AtomicUsize::new(0);
    let most_busy = AtomicUsize::new(0);
    let results: Vec<Result<_>> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if let Ok(sessions) = debugfs::own_sessions() {
                    let busy = sessions.iter().filter(|session| session.number("in_flight") > 0);
                    let pending = |session: &&debugfs::Session| {
                        session.number("waiting") + session.number("claimed") + session.number("in_flight")
                            > 0
                    };
                    most_busy.fetch_max(busy.count(), Ordering::Relaxed);
                    most_streaming.fetch_max(sessions.iter().filter(pending).count(), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let players: Vec<_> = clips
            .iter()
            .map(|clip| {
                let (nodes, ready) = (&nodes, &ready);
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
    });
    let mut pictures = 0;
    for result in results {
        let (count, longest) = result?;
        pictures += count;
        figures.calls(longest);
    }
    figures.set("pictures", pictures);
    figures.set("clients", CLIPS.to_vec());
    let (streaming, busy) = (
        most_streaming.load(Ordering::Relaxed),
        most_busy.load(Ordering::Relaxed),
    );
    let peak = debugfs::stat("busy_peak")?;
    figures.set("sessions_with_jobs_at_once", streaming);
    figures.set("sessions_with_a_job_in_a_worker_at_once", busy);
    figures.set("busy_peak", peak);
    ensure!(
        streaming == CLIPS.len(),
        "at most {streaming} of {} sessions had jobs at the same time",
        CLIPS.len()
    );
    ensure!(
        peak >= CLIPS.len() as u64,
        "at most {peak} workers had a job at the same time"
    );
    broker.stop()?;
    Ok(())
}
