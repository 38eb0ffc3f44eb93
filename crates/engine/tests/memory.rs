// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A library that has no memory left for a packet. A test of its own: the limit is the whole process's.

#[path = "support/clips.rs"]
mod clips;
mod support;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use daedalus_client::Codec;
use daedalus_engine::{Options, Status, Threads};
use daedalus_uapi::fourcc;
use ffmpeg_sys_next as ff;
use support::{Capture, Player};

/// Sets the most bytes that libavutil allocates at once.
fn limit(bytes: usize) {
    // SAFETY: it stores a number, atomically.
    unsafe { ff::av_max_alloc(bytes) }
}

#[test]
fn a_packet_without_memory_is_an_error_and_no_hang() -> Result<()> {
    // Of the codecs that libavcodec decodes without another library.
    let own = Codec::ALL
        .iter()
        .filter(|codec| !codec.info().ffmpeg.starts_with("lib"));
    for (&codec, threads) in own.flat_map(|codec| [(codec, 1), (codec, 3)]) {
        let jobs = clips::jobs(codec)?;
        let options = Options {
            threads: Threads::Fixed(threads),
            ..Options::default()
        };
        let mut player = Player::new(codec.coded_format(), &options)?;
        let (mut reports, mut longest) = (Vec::new(), Duration::ZERO);
        for (i, job) in jobs.iter().enumerate() {
            let capture = Capture::new(fourcc::NV12, job.coded_width, job.coded_height)?;
            let start = Instant::now();
            limit(if i == 2 { 1 } else { i32::MAX as usize });
            player.submit(job, &job.payload, &capture)?;
            limit(i32::MAX as usize);
            longest = longest.max(start.elapsed());
            reports.extend(player.reports());
        }
        while reports.len() < jobs.len() {
            player.advance();
            reports.extend(player.reports());
        }
        let said = format!("{codec:?} with {threads} threads: {reports:?}");
        ensure!(
            reports[2].status == Status::Error,
            "the picture without memory: {said}"
        );
        let after = reports.iter().skip(clips::GOP);
        ensure!(
            after.filter(|report| report.status == Status::Ok).count() == jobs.len() - clips::GOP,
            "from the next key frame on: {said}"
        );
        ensure!(longest < Duration::from_secs(5), "{longest:?}: {said}");
    }
    Ok(())
}
