// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is particular to H.264: slices, and packets that libavcodec complains about late.

#[path = "support/clips.rs"]
mod clips;
mod support;

use anyhow::{Result, ensure};
use daedalus_client::Codec;
use daedalus_engine::{Options, Status, Threads};
use support::{Player, capture_for, decode, player};

#[test]
fn a_lost_slice_is_reported_and_concealed() -> Result<()> {
    let clean = clips::jobs(Codec::H264)?;
    let expected = decode(&mut player(Codec::H264)?, &clean, 0)?;
    for lost in 0..4 {
        let mut jobs = clean[..3].to_vec();
        let payload = &mut jobs[2].payload;
        let mut starts: Vec<_> = payload
            .windows(3)
            .enumerate()
            .filter(|(_, w)| *w == [0, 0, 1])
            .map(|(i, _)| i)
            .collect();
        ensure!(starts.len() == 4, "slices at {starts:?}");
        starts.push(payload.len());
        payload.drain(starts[lost]..starts[lost + 1]);
        let pictures = decode(&mut player(Codec::H264)?, &jobs, 0xff)?;
        ensure!(pictures[..2] == expected[..2], "pictures before");
        ensure!(
            pictures[2].0 == Status::Error,
            "slice {lost} is lost and the picture called exact"
        );
        // Three quarters are there: the concealed picture resembles the true one more than grey does.
        let distance =
            |a: &[u8], b: &[u8]| -> u64 { a.iter().zip(b).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum() };
        let true_picture = &expected[2].1;
        let grey = distance(&vec![0x80; true_picture.len()], true_picture);
        let concealed = distance(&pictures[2].1, true_picture);
        ensure!(
            concealed < grey / 2,
            "slice {lost}: concealment is off by {concealed}, grey by {grey}"
        );
    }
    Ok(())
}

#[test]
fn what_is_wrong_with_a_packet_is_not_held_against_a_later_one() -> Result<()> {
    let clean = clips::jobs(Codec::H264)?;
    let options = Options {
        threads: Threads::Fixed(3),
        ..Options::default()
    };
    let mut harmless = 0;
    // Of the first group of pictures: one that none refers to.
    for victim in 1..clips::GOP {
        let referred = clean
            .iter()
            .any(|job| job.references.contains(&clean[victim].timestamp));
        if referred {
            continue;
        }
        harmless += 1;
        let mut player = Player::new(Codec::H264.coded_format(), &options)?;
        let mut reports = Vec::new();
        for (i, job) in clean.iter().enumerate() {
            // A slice with pic_parameter_set_id 254, which there is not: libavcodec complains, and begins no
            // picture.
            let garbage = [0, 0, 1, 0x01, 0xc0, 0x7f, 0xff, 0xff, 0x80];
            let payload = if i == victim { &garbage[..] } else { &job.payload };
            player.submit(job, payload, &capture_for(job)?)?;
            reports.extend(player.reports());
        }
        while reports.len() < clean.len() {
            player.advance();
            reports.extend(player.reports());
        }
        let wrong: Vec<_> = reports
            .iter()
            .filter(|done| done.status == Status::Error)
            .collect();
        ensure!(
            matches!(wrong[..], [done] if done.job == victim as u64 + 1),
            "without {victim}: {wrong:?}"
        );
    }
    ensure!(harmless > 0, "all pictures are referred to");
    Ok(())
}
