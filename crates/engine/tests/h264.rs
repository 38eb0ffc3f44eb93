// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is particular to H.264: slices, fields, and packets that libavcodec complains about late.

#[path = "support/clips.rs"]
mod clips;
#[path = "support/decoded.rs"]
mod decoded;
mod support;

use anyhow::{Context, Result, anyhow, ensure};
use daedalus_client::{Codec, CodedJob};
use daedalus_engine::{Options, Status, Threads};
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_H264_DECODE_PARAMS, V4L2_H264_DECODE_PARAM_FLAG_FIELD_PIC,
    V4L2_H264_DPB_ENTRY_FLAG_ACTIVE, V4l2CtrlH264DecodeParams,
};
use support::{Player, capture_for, decode, player};
use zerocopy::{FromBytes, IntoBytes};

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
            .filter(|report| report.status == Status::Error)
            .collect();
        ensure!(
            matches!(wrong[..], [report] if report.job == victim as u64 + 1),
            "without {victim}: {wrong:?}"
        );
    }
    ensure!(harmless > 0, "all pictures are referred to");
    Ok(())
}

/// Changes the parameters of a job's picture.
fn change(job: &mut CodedJob, body: impl FnOnce(&mut V4l2CtrlH264DecodeParams)) -> Result<()> {
    let control = job
        .controls
        .iter_mut()
        .find(|control| control.id == V4L2_CID_STATELESS_H264_DECODE_PARAMS)
        .context("no parameters")?;
    let mut params = V4l2CtrlH264DecodeParams::read_from_bytes(&control.value)
        .map_err(|error| anyhow!("parameters: {error:?}"))?;
    body(&mut params);
    control.value = params.as_bytes().to_vec();
    Ok(())
}

/// The second field of the last picture before an IDR picture never comes. The IDR picture is no second
/// field: it ends all references to earlier pictures.
#[test]
fn an_idr_picture_after_a_lone_field_ends_references() -> Result<()> {
    let mut jobs = clips::jobs(Codec::H264)?;
    let idr = clips::GOP;
    let (earlier, lone, later) = (idr - 2, idr - 1, idr + 1);
    ensure!(jobs[idr].key && !jobs[later].key, "other pictures than expected");
    change(&mut jobs[lone], |params| {
        params.flags |= V4L2_H264_DECODE_PARAM_FLAG_FIELD_PIC;
    })?;
    let timestamp = jobs[earlier].timestamp;
    let mut changed = 0;
    change(&mut jobs[later], |params| {
        for entry in &mut params.dpb {
            if entry.flags & V4L2_H264_DPB_ENTRY_FLAG_ACTIVE != 0 {
                entry.reference_ts = timestamp;
                changed += 1;
            }
        }
    })?;
    ensure!(changed > 0, "picture {later} refers to none");
    let pictures = decode(&mut player(Codec::H264)?, &jobs[..=later], 0)?;
    ensure!(pictures[earlier].0 == Status::Ok && pictures[idr].0 == Status::Ok);
    ensure!(
        pictures[later].0 == Status::Error,
        "a picture that refers past an IDR picture is called exact"
    );
    Ok(())
}

/// Places of a stream that are damaged.
const DAMAGED_PLACES: usize = 40;

/// Overwrites a run of bytes of a stream of fields and frames, in one place after the other. libavcodec does
/// not notice all of that in fields. It notices the same with frame threads.
#[test]
fn frame_threads_report_the_same_damage() -> Result<()> {
    let Some(folder) = daedalus_client::vectors::for_test("h264", "streams of fields are damaged") else {
        return Ok(());
    };
    let sound = std::fs::read(folder.join("JVT-FR-EXT/HCAFF1_HHI.264"))?;
    let (mut noticed, mut missed) = (0, Vec::new());
    for place in 1..DAMAGED_PLACES {
        let mut bytes = sound.clone();
        let start = bytes.len() * place / DAMAGED_PLACES;
        bytes[start..start + 100].fill(0xff);
        let [one, two] = [1, 2].map(|threads| decoded::decode(Codec::H264, bytes.clone(), threads));
        let (one, two) = (one?, two?);
        ensure!(
            one.pictures.len() == two.pictures.len(),
            "place {place}: {} and {} pictures, whose sums are {} and {}",
            one.pictures.len(),
            two.pictures.len(),
            one.sum,
            two.sum
        );
        let (one, two) = (one.damaged, two.damaged);
        noticed += usize::from(!one.is_empty());
        if one.iter().any(|number| !two.contains(number)) {
            missed.push((place, one, two));
        }
    }
    ensure!(missed.is_empty(), "place, with one thread, with two: {missed:?}");
    ensure!(
        noticed >= DAMAGED_PLACES / 3,
        "damage is noticed at {noticed} places only"
    );
    Ok(())
}
