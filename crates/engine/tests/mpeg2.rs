// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is particular to MPEG-2: fields, slices that are missing, references that nobody has.

#[path = "support/clips.rs"]
mod clips;
mod support;

use anyhow::{Context, Result, ensure};
use daedalus_client::{Codec, CodedJob, Control};
use daedalus_engine::{Options, Status, Threads};
use daedalus_uapi::v4l2_controls::*;
use support::{Player, capture_for, decode, player};

fn edit<T>(job: &mut CodedJob, id: u32, change: impl FnOnce(&mut T))
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable,
{
    let Some(control) = job.controls.iter_mut().find(|control| control.id == id) else {
        return;
    };
    if let Some(mut value) = control.get::<T>() {
        change(&mut value);
        *control = Control::new(id, &value);
    }
}

/// The places of the slices in a payload, and its end.
fn slices(payload: &[u8]) -> Vec<usize> {
    let starts = payload.windows(3).enumerate();
    let mut starts: Vec<usize> = starts
        .filter(|(_, w)| *w == [0, 0, 1])
        .map(|(at, _)| at)
        .collect();
    starts.push(payload.len());
    starts
}

/// The jobs of a stream of field pictures: two fields are a frame.
fn fields() -> Result<Option<Vec<CodedJob>>> {
    let Some(folder) = daedalus_client::vectors::for_test("mpeg2", "fields are damaged") else {
        return Ok(None);
    };
    let jobs = daedalus_client::jobs(folder.join("mpeg2dec-streams/tcela-8-fp-dp.m2v"))?;
    let jobs: Vec<CodedJob> = jobs.collect::<Result<_, _>>()?;
    ensure!(jobs.iter().any(|job| job.same_capture), "there are no fields");
    Ok(Some(jobs))
}

/// Decodes all jobs, each field into its frame's buffer; returns status and picture of each.
fn decode_fields(jobs: &[CodedJob]) -> Result<Vec<(Status, Vec<u8>)>> {
    let mut player = player(Codec::Mpeg2)?;
    let mut capture = capture_for(&jobs[0])?;
    jobs.iter()
        .map(|job| {
            if !job.same_capture {
                capture = capture_for(job)?;
            }
            let report = player.play(job, &capture)?;
            Ok((report.status, capture.semi_planar(job.visible)?))
        })
        .collect()
}

#[test]
fn a_lost_slice_is_reported_in_frames_and_fields() -> Result<()> {
    let clean = clips::jobs(Codec::Mpeg2)?;
    for (job, lost) in [(0, 0), (0, 5), (1, 11), (2, 3)] {
        let mut jobs = clean[..4].to_vec();
        let starts = slices(&jobs[job].payload);
        ensure!(starts.len() == 13, "slices at {starts:?}");
        jobs[job].payload.drain(starts[lost]..starts[lost + 1]);
        let pictures = decode(&mut player(Codec::Mpeg2)?, &jobs, 0xff)?;
        ensure!(
            pictures[job].0 == Status::Error,
            "slice {lost} of picture {job} is lost, and the picture called exact"
        );
    }
    let Some(clean) = fields()? else {
        return Ok(());
    };
    for job in 0..4 {
        let mut jobs = clean[..6].to_vec();
        let starts = slices(&jobs[job].payload);
        let lost = starts.len() / 2;
        jobs[job].payload.drain(starts[lost]..starts[lost + 1]);
        let pictures = decode_fields(&jobs)?;
        ensure!(pictures[job].0 == Status::Error, "field {job} is called exact");
        // What refers to it, and the second field of its frame, is wrong as well.
        ensure!(
            pictures[5].0 == Status::Error,
            "a field behind field {job} is called exact"
        );
    }
    Ok(())
}

/// FFmpeg's hwaccel sends the end code with the last picture (mpeg12dec.c, decode_chunks).
#[test]
fn the_end_of_a_sequence_behind_a_picture_is_no_damage() -> Result<()> {
    let mut jobs = clips::jobs(Codec::Mpeg2)?[..4].to_vec();
    let expected = decode(&mut player(Codec::Mpeg2)?, &jobs, 0xff)?;
    jobs.iter_mut()
        .for_each(|job| job.payload.extend([0, 0, 1, 0xb7]));
    let pictures = decode(&mut player(Codec::Mpeg2)?, &jobs, 0xff)?;
    ensure!(
        pictures == expected && pictures.iter().all(|picture| picture.0 == Status::Ok),
        "a picture has the error flag"
    );
    Ok(())
}

/// Wherever a picture is cut off, it is reported, or nothing that matters is missing.
#[test]
fn a_truncated_picture_is_reported() -> Result<()> {
    let clean = clips::jobs(Codec::Mpeg2)?;
    for threads in [1, 2] {
        let options = Options {
            threads: Threads::Fixed(threads),
            ..Options::default()
        };
        let play = |length: &dyn Fn(usize, usize) -> usize| -> Result<Vec<(Status, Vec<u8>)>> {
            let mut player = Player::new(Codec::Mpeg2.coded_format(), &options)?;
            let jobs = clean[..3].iter().enumerate();
            let all = jobs.map(|(at, job)| {
                let capture = capture_for(job)?;
                capture.fill(0xff)?;
                let payload = &job.payload[..length(at, job.payload.len())];
                let report = player.play_payload(job, payload, &capture)?;
                Ok((report.status, capture.semi_planar(job.visible)?))
            });
            all.collect()
        };
        let expected = play(&|_, whole| whole)?;
        for (victim, job) in clean.iter().enumerate().take(3) {
            let length = job.payload.len();
            // Everywhere in the last slices, and here and there before.
            let last = length.saturating_sub(150)..length;
            for cut in (1..length).step_by(length / 60).chain(last) {
                let pictures = play(&|at, whole| if at == victim { cut } else { whole })?;
                for (at, (picture, due)) in pictures.iter().zip(&expected).enumerate() {
                    ensure!(
                        picture.0 == Status::Error || picture.1 == due.1,
                        "{threads} threads, {cut} of {length} bytes of picture {victim}: picture {at} is no \
                         error"
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_frame_whose_first_field_is_lost_is_no_exact_picture() -> Result<()> {
    let Some(clean) = fields()? else {
        return Ok(());
    };
    let expected = decode_fields(&clean)?;
    ensure!(expected.iter().all(|(status, _)| *status == Status::Ok));
    let first = (2..clean.len())
        .find(|at| clean[*at].hold_capture)
        .context("no first field")?;
    // Without data the library does not get it.
    let mut jobs = clean.clone();
    jobs[first].payload = vec![0, 0, 1, 0xb5];
    let pictures = decode_fields(&jobs)?;
    ensure!(pictures[..first] == expected[..first], "pictures before");
    let flagged = |at: usize| pictures[at].0 == Status::Error;
    ensure!(
        flagged(first) && flagged(first + 1),
        "half a frame is called exact"
    );
    // Without its second field a frame is no reference.
    let jobs = [&clean[..=first], &clean[first + 2..]].concat();
    let pictures = decode_fields(&jobs)?;
    for (at, (picture, job)) in pictures.iter().zip(&jobs).enumerate().skip(first + 1) {
        let due = clean
            .iter()
            .position(|other| (other.timestamp, other.same_capture) == (job.timestamp, job.same_capture));
        let due = &expected[due.context("a job of no stream")?];
        ensure!(
            picture.0 == Status::Error || picture.1 == due.1,
            "picture {at} is wrong, and called exact"
        );
    }
    Ok(())
}

#[test]
fn fields_pair_by_timestamp_alone() -> Result<()> {
    let Some(clean) = fields()? else {
        return Ok(());
    };
    // FFmpeg queues the buffer again instead of holding it.
    let mut jobs = clean.clone();
    for job in &mut jobs {
        job.same_capture = false;
    }
    let expected = decode_fields(&clean)?;
    let mut player = player(Codec::Mpeg2)?;
    let mut capture = capture_for(&jobs[0])?;
    for (at, (job, expected)) in jobs.iter().zip(&expected).enumerate() {
        if !clean[at].same_capture {
            capture = capture_for(job)?;
        }
        let report = player.play(job, &capture)?;
        ensure!(
            (report.status, capture.semi_planar(job.visible)?) == *expected,
            "field {at}: {:?}",
            report.reason
        );
    }
    Ok(())
}

#[test]
fn references_are_those_that_the_library_has() -> Result<()> {
    let clean = clips::jobs(Codec::Mpeg2)?;
    let id = V4L2_CID_STATELESS_MPEG2_PICTURE;
    let played = |change: &dyn Fn(&mut [CodedJob])| -> Result<Vec<Status>> {
        let mut jobs = clean[..4].to_vec();
        change(&mut jobs);
        let mut player = player(Codec::Mpeg2)?;
        jobs.iter()
            .map(|job| Ok(player.play(job, &capture_for(job)?)?.status))
            .collect()
    };
    use Status::{Error, Ok as Exact};
    ensure!(played(&|_| ())? == [Exact; 4]);
    // I P B B: another picture, and none.
    let p = |name| move |picture: &mut V4l2CtrlMpeg2Picture| picture.forward_ref_ts = name;
    for name in [0, u64::MAX, 77, clean[1].timestamp] {
        ensure!(
            played(&|jobs| edit(&mut jobs[1], id, p(name)))?[1] == Error,
            "{name}"
        );
    }
    let statuses = played(&|jobs| {
        edit(&mut jobs[2], id, |b: &mut V4l2CtrlMpeg2Picture| {
            std::mem::swap(&mut b.forward_ref_ts, &mut b.backward_ref_ts);
        });
    })?;
    ensure!(statuses == [Exact, Exact, Error, Exact], "{statuses:?}");
    // Behind the first I picture a B picture need not have a forward reference.
    let mut b = clean[2].clone();
    let i = clean[0].timestamp;
    for (name, status) in [(0, Exact), (u64::MAX, Exact), (77, Error)] {
        edit(&mut b, id, |picture: &mut V4l2CtrlMpeg2Picture| {
            (picture.forward_ref_ts, picture.backward_ref_ts) = (name, i);
        });
        let mut player = player(Codec::Mpeg2)?;
        player.play(&clean[0], &capture_for(&b)?)?;
        ensure!(player.play(&b, &capture_for(&b)?)?.status == status, "{name}");
    }
    Ok(())
}

#[test]
fn controls_that_no_stream_has_are_errors() -> Result<()> {
    let clean = clips::jobs(Codec::Mpeg2)?;
    let status = |change: &dyn Fn(&mut CodedJob)| -> Result<Status> {
        let mut job = clean[0].clone();
        change(&mut job);
        let mut player: Player = player(Codec::Mpeg2)?;
        Ok(player.play(&job, &capture_for(&clean[0])?)?.status)
    };
    ensure!(status(&|_| ())? == Status::Ok);
    for id in clean[0].controls.iter().map(|control| control.id) {
        let removed = status(&|job| job.controls.retain(|control| control.id != id))?;
        ensure!(removed == Status::Error, "without {id:#x}");
    }
    let sequence = V4L2_CID_STATELESS_MPEG2_SEQUENCE;
    for chroma_format in [0, 2, 3] {
        let change = |sequence: &mut V4l2CtrlMpeg2Sequence| sequence.chroma_format = chroma_format;
        ensure!(status(&|job| edit(job, sequence, change))? == Status::Error);
    }
    let change = |picture: &mut V4l2CtrlMpeg2Picture| {
        picture.picture_coding_type = V4L2_MPEG2_PIC_CODING_TYPE_D;
    };
    ensure!(status(&|job| edit(job, V4L2_CID_STATELESS_MPEG2_PICTURE, change))? == Status::Error);
    let change = |matrices: &mut V4l2CtrlMpeg2Quantisation| matrices.non_intra_quantiser_matrix[9] = 0;
    ensure!(status(&|job| edit(job, V4L2_CID_STATELESS_MPEG2_QUANTISATION, change))? == Status::Error);
    Ok(())
}
