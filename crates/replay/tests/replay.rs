// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The engine decodes its own record again to the same pictures; and a change of the record is found.

#[path = "../../engine/tests/support/clips.rs"]
mod clips;
mod support;

use anyhow::{Context, Result, ensure};
use daedalus_client::{Codec, CodedJob, vectors};
use daedalus_replay::{FinishedJob, Options, Pace, Player, ReplayError, Report, What, replay};
use daedalus_trace::{JobStatus, Reader, Record, Writer};

fn options(threads: u32, pace: Pace) -> Options {
    Options {
        engine: daedalus_engine::Options {
            threads: daedalus_engine::Threads::Fixed(threads),
            ..daedalus_engine::Options::default()
        },
        pace,
        ..Options::default()
    }
}

fn play(trace: &[u8], options: &Options) -> Result<Report, ReplayError> {
    replay(&mut Reader::new(trace)?, options)
}

/// Replays a trace in every way. All must be equal, to the last picture.
fn check(trace: &[u8], jobs: usize) -> Result<()> {
    for threads in [1, 2, 4] {
        for pace in [Pace::LockStep, Pace::FreeRunning] {
            let report = play(trace, &options(threads, pace))?;
            let what = format!("{threads} threads, {pace:?}");
            ensure!(report.equal(), "{what}: {:?}", report.differences.first());
            ensure!(report.jobs == jobs as u64, "{what}: {} jobs", report.jobs);
            ensure!(
                report.pictures + report.held == report.jobs && report.unanswered == 0 && !report.cut,
                "{what}: {report:?}"
            );
        }
    }
    Ok(())
}

fn clip(codec: Codec) -> Result<(Vec<CodedJob>, Vec<u8>)> {
    let jobs = clips::jobs(codec)?;
    let trace = support::record(codec.coded_format(), &jobs, &[clips::GOP])?;
    Ok((jobs, trace))
}

#[test]
fn clips_are_replayed_exactly() -> Result<()> {
    for &codec in Codec::ALL {
        let (jobs, trace) = clip(codec)?;
        check(&trace, jobs.len()).context(codec.name())?;
        let coded: usize = jobs.iter().map(|job| job.payload.len()).sum();
        // The controls of each job, 3 to 60 kB, must not be what a trace consists of.
        ensure!(
            trace.len() < coded + jobs.len() * 1000,
            "{}: {} bytes of trace for {coded} coded bytes",
            codec.name(),
            trace.len()
        );
    }
    Ok(())
}

/// Streams with what the clips do not have: fields, 10 bit, frames that are shown again, film grain, sizes
/// that change.
#[test]
fn vectors_are_replayed_exactly() -> Result<()> {
    let streams: [(Codec, &[&str]); 4] = [
        (
            Codec::H264,
            &[
                "JVT-AVC_V1/CABA3_SVA_B.264",
                "JVT-AVC_V1/CVFI2_SVA_C.264",
                "JVT-FR-EXT/HCAMFF1_HHI.264",
                "goh264/high10_partitioned_p_cavlc.h264",
            ],
        ),
        (
            Codec::Vp9,
            &[
                "libvpx/vp90-2-02-size-66x18.webm",
                "libvpx/vp90-2-16-intra-only.webm",
                "cros-codecs/vp90-2-10-show-existing-frame.vp9.ivf",
            ],
        ),
        (
            Codec::Av1,
            &[
                "dav1d/8-bit/issues/309_odd_width.ivf",
                "dav1d/8-bit/data/00001131.ivf",
                "dav1d/10-bit/film_grain/av1-1-b10-23-film_grain-50.ivf",
            ],
        ),
        (
            Codec::Mpeg2,
            &[
                "mpeg2dec-streams/sony-ct2.m2v",
                "mpeg2dec-streams/tcela-8-fp-dp.m2v",
                "torchcodec/testsrc2_odd_width_mpeg2.m2v",
            ],
        ),
    ];
    for (codec, files) in streams {
        let Some(folder) = vectors::for_test(codec.name(), "vectors are replayed exactly") else {
            continue;
        };
        for file in files {
            let jobs = daedalus_client::jobs(folder.join(file))?.collect::<Result<Vec<_>, _>>()?;
            let trace = support::record(codec.coded_format(), &jobs, &[]).context(*file)?;
            check(&trace, jobs.len()).context(*file)?;
        }
    }
    Ok(())
}

/// Returns the records of a trace, after `change`.
fn changed(trace: &[u8], mut change: impl FnMut(&mut Record)) -> Result<Vec<u8>> {
    let mut reader = Reader::new(trace)?;
    let mut writer = Writer::new(Vec::new(), reader.session())?;
    while let Some(mut record) = reader.next_record()? {
        change(&mut record);
        writer.write(&record)?;
    }
    Ok(writer.finish()?)
}

#[test]
fn another_picture_is_found() -> Result<()> {
    let (_, trace) = clip(Codec::Vp9)?;
    // Damage inside of the fifth picture, before the second key frame.
    let trace = changed(&trace, |record| {
        if let Record::Job(job) = record {
            if job.job == 5 {
                let middle = job.coded.len() / 2;
                job.coded[middle..].iter_mut().for_each(|byte| *byte ^= 0x55);
            }
        }
    })?;
    let report = play(&trace, &options(1, Pace::LockStep))?;
    ensure!(!report.equal() && report.different >= 1, "{report:?}");
    let first = report.differences.first().context("no difference")?;
    ensure!(first.job == 5 && first.index == 4, "{first:?}");
    let beyond = report.differences.iter().find(|d| d.job > clips::GOP as u64);
    ensure!(beyond.is_none(), "beyond the key frame: {beyond:?}");
    Ok(())
}

#[test]
fn another_record_is_found() -> Result<()> {
    let (jobs, trace) = clip(Codec::H264)?;
    let other_sum = changed(&trace, |record| {
        if let Record::Done(done) = record {
            if done.job == 7 {
                done.md5 = done.md5.map(|sum| sum.map(|byte| !byte));
            }
        }
    })?;
    let report = play(&other_sum, &options(1, Pace::FreeRunning))?;
    ensure!(report.different == 1 && report.pictures == jobs.len() as u64);
    ensure!(matches!(
        report.differences[..],
        [daedalus_replay::Difference {
            job: 7,
            index: 6,
            what: What::Picture { .. }
        }]
    ));
    let other_status = changed(&trace, |record| {
        if let Record::Done(done) = record {
            if done.job == 9 {
                done.status = JobStatus::Error;
            }
        }
    })?;
    let report = play(&other_status, &options(1, Pace::LockStep))?;
    ensure!(report.different == 1 && report.errors == 1);
    let text = report.differences[0].to_string();
    ensure!(
        text.contains("job 9") && text.contains("recorded as error, replayed as ok"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_cut_trace_is_replayed_as_far_as_it_goes() -> Result<()> {
    let (_, trace) = clip(Codec::Av1)?;
    let report = play(&trace[..trace.len() * 2 / 3], &options(1, Pace::LockStep))?;
    ensure!(report.cut && report.equal(), "{report:?}");
    ensure!(report.statuses > 4 && report.unanswered <= 1, "{report:?}");
    // Nothing at all is not equal.
    let report = play(
        &changed(&trace, |record| *record = Record::Reset)?,
        &options(1, Pace::LockStep),
    )?;
    ensure!(!report.equal());
    Ok(())
}

#[test]
fn traces_that_contradict_themselves_are_refused() -> Result<()> {
    let (_, trace) = clip(Codec::Vp9)?;
    let refuse = |change: &mut dyn FnMut(&mut Record)| -> Result<String> {
        let error = play(&changed(&trace, change)?, &options(1, Pace::LockStep)).err();
        Ok(error.context("it was accepted")?.to_string())
    };
    let job = |change: fn(&mut daedalus_trace::Job)| {
        move |record: &mut Record| {
            if let Record::Job(job) = record {
                change(job);
            }
        }
    };
    for (mut change, says) in [
        (job(|job| job.planes[0].offset = u32::MAX), "not inside"),
        (job(|job| job.planes[0].buffer = 999), "never mapped"),
        (job(|job| job.coded_format = 7), "format"),
    ] {
        let error = refuse(&mut change)?;
        ensure!(error.contains(says), "{error}");
    }
    let error = refuse(&mut |record| {
        if let Record::Buffer(buffer) = record {
            buffer.size = u64::MAX;
        }
    })?;
    ensure!(error.contains("more than"), "{error}");
    let error = refuse(&mut |record| {
        if let Record::Done(done) = record {
            done.job = 1;
        }
    })?;
    ensure!(error.contains("never answered"), "{error}");
    Ok(())
}

/// The way of benchmarks: records first, then decoding alone.
#[test]
fn a_player_decodes_records_from_memory() -> Result<()> {
    let (jobs, trace) = clip(Codec::H264)?;
    let records: Vec<Record> = Reader::new(trace.as_slice())?.collect::<Result<_, _>>()?;
    let mut player = Player::new(daedalus_engine::Options::default(), Pace::FreeRunning);
    let mut exact = 0;
    let mut finished = |job: FinishedJob<'_>| exact += usize::from(job.status == JobStatus::Ok);
    for record in &records {
        player.feed(record, &mut finished)?;
    }
    player.drain(&mut finished);
    ensure!(exact == jobs.len() && player.pending() == 0);
    ensure!(player.decoding() > std::time::Duration::ZERO);
    Ok(())
}
