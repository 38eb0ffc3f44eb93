// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is particular to HEVC: slice segments that are missing, which libavcodec neither conceals nor
//! reports.

#[path = "support/clips.rs"]
mod clips;
mod support;

use anyhow::{Context, Result, ensure};
use daedalus_client::{Codec, CodedJob, Control};
use daedalus_engine::{Options, Status, Threads};
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_HEVC_DECODE_PARAMS, V4L2_HEVC_DECODE_PARAM_FLAG_IDR_PIC,
    V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC, V4l2CtrlHevcDecodeParams,
};
use support::{Player, decode, player};

/// Returns where the slice segments of a payload begin, and its end.
fn segments(payload: &[u8]) -> Vec<usize> {
    let starts = payload
        .windows(3)
        .enumerate()
        .filter(|(_, bytes)| *bytes == [0, 0, 1]);
    starts.map(|(at, _)| at).chain([payload.len()]).collect()
}

#[test]
fn a_lost_segment_is_reported_and_the_rest_is_right() -> Result<()> {
    let clean = clips::jobs(Codec::Hevc)?;
    let expected = decode(&mut player(Codec::Hevc)?, &clean, 0)?;
    // A key picture and one that refers to it.
    for victim in [0, 2] {
        let starts = segments(&clean[victim].payload);
        ensure!(starts.len() == 3, "segments at {starts:?}");
        for lost in 0..2 {
            let mut jobs = clean[..=victim].to_vec();
            jobs[victim].payload.drain(starts[lost]..starts[lost + 1]);
            let pictures = decode(&mut player(Codec::Hevc)?, &jobs, 0xff)?;
            ensure!(pictures[..victim] == expected[..victim], "pictures before");
            ensure!(
                pictures[victim].0 == Status::Error,
                "segment {lost} of picture {victim} is lost and the picture called exact"
            );
            if lost == 1 {
                // A quarter of the luma from the top is far from the filters at the border.
                let quarter = 322 * 182 / 4;
                ensure!(
                    pictures[victim].1[..quarter] == expected[victim].1[..quarter],
                    "picture {victim}: what is there is not right"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn segments_out_of_order_and_those_of_two_pictures_are_reported() -> Result<()> {
    let clean = clips::jobs(Codec::Hevc)?;
    let starts = segments(&clean[0].payload);
    let (first, second) = (&clean[0].payload[..starts[1]], &clean[0].payload[starts[1]..]);
    for payload in [
        [second, first].concat(),
        [first, second, second].concat(),
        [first, second, first, second].concat(),
        first.to_vec(),
        second.to_vec(),
    ] {
        let mut jobs = clean[..1].to_vec();
        jobs[0].payload = payload;
        let pictures = decode(&mut player(Codec::Hevc)?, &jobs, 0)?;
        ensure!(
            pictures[0].0 == Status::Error,
            "{} bytes are called exact",
            jobs[0].payload.len()
        );
    }
    Ok(())
}

fn params(job: &mut CodedJob) -> Option<(&mut Control, V4l2CtrlHevcDecodeParams)> {
    let mut controls = job.controls.iter_mut();
    let control = controls.find(|control| control.id == V4L2_CID_STATELESS_HEVC_DECODE_PARAMS)?;
    let params = control.get()?;
    Some((control, params))
}

/// Order counts begin anew with a sequence.
#[test]
fn a_sequence_may_begin_with_a_count_of_the_one_before() -> Result<()> {
    const OPEN: &str = "-c:v libx265 -preset ultrafast -x265-params \
                        log-level=none:keyint=8:min-keyint=8:scenecut=0:open-gop=1:bframes=2:pools=1";
    let jobs = clips::encoded("open.hevc", OPEN)?;
    let cra = jobs.into_iter().find_map(|mut job| {
        let (control, mut params) = params(&mut job)?;
        let kinds = V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC | V4L2_HEVC_DECODE_PARAM_FLAG_IDR_PIC;
        if params.flags & kinds != V4L2_HEVC_DECODE_PARAM_FLAG_IRAP_PIC {
            return None;
        }
        // No picture before it is left, as after an end of sequence.
        params.num_active_dpb_entries = 0;
        *control = Control::new(control.id, &params);
        Some(job)
    });
    let cra = cra.context("x265 made no CRA picture")?;
    let pictures = decode(&mut player(Codec::Hevc)?, &[cra.clone(), cra], 0)?;
    ensure!(pictures.iter().all(|picture| picture.0 == Status::Ok));
    ensure!(pictures[0].1 == pictures[1].1);
    Ok(())
}

/// Whatever pictures are lost, the next sequence is right. libavcodec may hold something with the order count
/// of its first picture.
#[test]
fn lost_pictures_harm_none_of_the_next_sequence() -> Result<()> {
    let clean = clips::jobs(Codec::Hevc)?;
    let keys: Vec<usize> = (0..clean.len()).filter(|at| clean[*at].key).collect();
    ensure!(keys.len() >= 3, "key pictures at {keys:?}");
    let expected = decode(&mut player(Codec::Hevc)?, &clean, 0)?;
    let group = keys[1]..keys[2];
    for threads in [1, 2] {
        let options = Options {
            threads: Threads::Fixed(threads),
            ..Options::default()
        };
        for lost in group.clone() {
            // On the first picture all others depend.
            let mut jobs = clean.clone();
            for victim in [group.start].into_iter().chain(lost..group.end) {
                jobs[victim].payload = vec![0xa5; 1000];
            }
            let mut player = Player::new(Codec::Hevc.coded_format(), &options)?;
            let pictures = decode(&mut player, &jobs, 0xff)?;
            let wrong: Vec<usize> = (0..clean.len())
                .filter(|at| !group.contains(at) && pictures[*at] != expected[*at])
                .collect();
            ensure!(
                wrong.is_empty(),
                "{threads} threads: {lost} and the rest are lost, and {wrong:?} are wrong"
            );
        }
    }
    Ok(())
}

/// A sequence of larger pictures gets more threads, and one of smaller pictures fewer.
#[test]
fn threads_follow_the_size_of_a_sequence() -> Result<()> {
    const LARGE: &str = "-vf scale=720:480 -c:v libx265 -preset ultrafast -x265-params \
                         log-level=none:keyint=8:min-keyint=8:scenecut=0:open-gop=0:bframes=2:pools=1";
    let (small, large) = (clips::jobs(Codec::Hevc)?, clips::encoded("large.hevc", LARGE)?);
    let options = Options {
        threads: Threads::Auto { most: 4 },
        ..Options::default()
    };
    let mut several = Player::new(Codec::Hevc.coded_format(), &options)?;
    for jobs in [&small, &large, &small, &large] {
        let expected = decode(&mut player(Codec::Hevc)?, jobs, 0)?;
        let pictures = decode(&mut several, jobs, 0xff)?;
        ensure!(pictures == expected && pictures.iter().all(|picture| picture.0 == Status::Ok));
    }
    Ok(())
}
