// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Damaged, missing and hostile input: every job is answered, pixels are always written and sane, and
//! decoding is exact again from the next key frame on.

#[path = "support/clips.rs"]
mod clips;
mod support;

use std::cell::RefCell;

use anyhow::{Context, Result, ensure};
use daedalus_client::{Codec, CodedJob};
use daedalus_engine::{Options, Status};
use daedalus_uapi::codec::CodecSet;
use daedalus_uapi::fourcc;
use proptest::prelude::*;
use support::{Capture, Player, capture_for, decode, player};

/// As [`capture_for`], with chroma in a plane of its own: every library decodes luma into the buffer.
fn direct_capture_for(job: &CodedJob) -> Result<Capture> {
    Capture::new(fourcc::NV12M, job.coded_width, job.coded_height)
}

/// Deterministic noise.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

/// Indices of the key frames, of which each clip has three.
fn key_frames(jobs: &[CodedJob]) -> Result<Vec<usize>> {
    let keys: Vec<_> = jobs
        .iter()
        .enumerate()
        .filter(|(_, job)| job.key)
        .map(|(i, _)| i)
        .collect();
    ensure!(keys.len() >= 3 && keys[0] == 0, "key frames at {keys:?}");
    Ok(keys)
}

#[test]
fn damage_ends_at_the_next_key_frame() -> Result<()> {
    for &codec in Codec::ALL {
        let clean = clips::jobs(codec)?;
        let keys = key_frames(&clean)?;
        let expected = decode(&mut player(codec)?, &clean, 0)?;
        ensure!(
            expected.iter().all(|(status, _)| *status == Status::Ok),
            "{codec:?}: clean clip has errors"
        );
        let mut random = Random(7);
        let mut reported = 0;
        for round in 0..12 {
            let mut damaged = clean.clone();
            // Between the first key frame, itself included, and the second.
            let victim = &mut damaged[random.below(keys[1])].payload;
            match round % 3 {
                0 => victim.truncate(random.below(victim.len()).max(1)),
                1 => {
                    for _ in 0..20 {
                        let at = random.below(victim.len());
                        victim[at] ^= 1 << random.below(8);
                    }
                }
                _ => {
                    let start = random.below(victim.len());
                    victim[start..].fill(0xa5);
                }
            }
            let zeros = decode(&mut player(codec)?, &damaged, 0)?;
            let ones = decode(&mut player(codec)?, &damaged, 0xff)?;
            let unwritten = zeros.iter().zip(&ones).position(|(zeros, ones)| zeros != ones);
            ensure!(
                unwritten.is_none(),
                "{codec:?}, round {round}: picture {unwritten:?} shows pixels that were never written"
            );
            reported += usize::from(zeros.iter().any(|(status, _)| *status == Status::Error));
            for i in keys[1]..clean.len() {
                ensure!(
                    zeros[i] == expected[i],
                    "{codec:?}, round {round}: picture {i} is not exact again ({:?}, pixels equal: {})",
                    zeros[i].0,
                    zeros[i].1 == expected[i].1
                );
            }
        }
        println!("{codec:?}: damage reported in {reported} of 12 rounds");
        ensure!(reported >= 2, "{codec:?}: damage is hardly ever noticed");
    }
    Ok(())
}

#[test]
fn without_any_picture_the_error_is_grey_and_later_the_last_good_picture() -> Result<()> {
    for &codec in Codec::ALL {
        let clean = clips::jobs(codec)?;
        let mut player = player(codec)?;
        let garbage = [0, 0, 1, 0x65, 0xff, 0x12, 0x34];
        let capture = capture_for(&clean[0])?;
        let report = player.play_payload(&clean[0], &garbage, &capture)?;
        ensure!(report.status == Status::Error && report.reason.is_some());
        let pixels = capture.semi_planar(clean[0].visible)?;
        ensure!(pixels.iter().all(|&byte| byte == 0x80), "{codec:?}: not grey");

        player.play(&clean[0], &capture)?;
        let good = capture.semi_planar(clean[0].visible)?;
        let other = capture_for(&clean[0])?;
        let report = player.play_payload(&clean[1], &[], &other)?;
        ensure!(report.status == Status::Error);
        ensure!(
            other.semi_planar(clean[0].visible)? == good,
            "{codec:?}: not the last good picture"
        );

        player.reset();
        let report = player.play_payload(&clean[1], &[], &other)?;
        ensure!(report.status == Status::Error);
        ensure!(
            other
                .semi_planar(clean[0].visible)?
                .iter()
                .all(|&byte| byte == 0x80)
        );
    }
    Ok(())
}

#[test]
fn a_seek_is_exact_from_a_key_frame_and_harmless_from_elsewhere() -> Result<()> {
    for &codec in Codec::ALL {
        let clean = clips::jobs(codec)?;
        let keys = key_frames(&clean)?;
        let expected = decode(&mut player(codec)?, &clean, 0)?;
        let mut player = player(codec)?;
        // To and fro, in the middle of groups of pictures, with STREAMOFF in between.
        for &(from, to) in &[
            (0, 5),
            (keys[1], keys[1] + 3),
            (keys[2], clean.len()),
            (0, clean.len()),
        ] {
            let pictures = decode(&mut player, &clean[from..to], 0)?;
            ensure!(pictures == expected[from..to], "{codec:?}: pictures {from}..{to}");
            player.reset();
        }
        // Not at a key frame: all are answered; from the next key frame on, all are exact.
        let from = keys[1] + 2;
        let pictures = decode(&mut player, &clean[from..], 0x11)?;
        ensure!(
            pictures[keys[2] - from..] == expected[keys[2]..],
            "{codec:?}: no recovery after a seek"
        );
        ensure!(
            pictures[0].0 == Status::Error,
            "{codec:?}: a picture without references is called exact"
        );
    }
    Ok(())
}

#[test]
fn a_small_capture_buffer_costs_its_own_picture_only() -> Result<()> {
    for &codec in Codec::ALL {
        let clean = clips::jobs(codec)?;
        let expected = decode(&mut player(codec)?, &clean, 0)?;
        let mut player = player(codec)?;
        for (i, job) in clean.iter().enumerate() {
            if i % 3 == 1 {
                let small = Capture::new(fourcc::NV12, 64, 64)?;
                ensure!(player.play(job, &small)?.status == Status::Error);
            } else if i % 3 == 2 {
                let unknown = capture_for(job)?.with_format(codec.coded_format());
                ensure!(player.play(job, &unknown)?.status == Status::Error);
            } else {
                let capture = capture_for(job)?;
                ensure!(player.play(job, &capture)?.status == Status::Ok);
                ensure!(
                    capture.semi_planar(job.visible)? == expected[i].1,
                    "{codec:?}: picture {i}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn a_ten_bit_buffer_for_an_eight_bit_picture_is_an_error() -> Result<()> {
    for &codec in Codec::ALL {
        let clean = clips::jobs(codec)?;
        let capture = Capture::new(fourcc::P010, clean[0].coded_width, clean[0].coded_height)?;
        let report = player(codec)?.play(&clean[0], &capture)?;
        ensure!(report.status == Status::Error);
        let pixels = capture.semi_planar(clean[0].visible)?;
        ensure!(
            pixels.chunks(2).all(|sample| sample == [0, 0x80]),
            "{codec:?}: not grey"
        );
    }
    Ok(())
}

#[test]
fn a_picture_that_was_overwritten_is_the_last_good_one_no_more() -> Result<()> {
    for &codec in Codec::ALL {
        let clean = clips::jobs(codec)?;
        let job = &clean[0];
        let mut player = player(codec)?;
        let capture = direct_capture_for(job)?;
        ensure!(player.play(job, &capture)?.status == Status::Ok);
        // The same memory again, for a picture that does not go into it: it is made grey, of ten bit.
        let mut wide = capture.clone().with_format(fourcc::P010);
        (wide.raw.width, wide.raw.height) = (128, 64);
        ensure!(player.play(job, &wide)?.status == Status::Error);
        let other = capture_for(job)?;
        ensure!(player.play_payload(&clean[1], &[], &other)?.status == Status::Error);
        let pixels = other.semi_planar(job.visible)?;
        ensure!(
            pixels.iter().all(|&byte| byte == 0x80),
            "{codec:?}: what is left of the last good picture is shown"
        );
    }
    Ok(())
}

#[test]
fn the_null_backend_answers_grey() -> Result<()> {
    let options = Options {
        backend: daedalus_engine::Backend::Null,
        ..Options::default()
    };
    for &codec in Codec::ALL {
        let jobs = clips::jobs(codec)?;
        let mut player = Player::new(codec.coded_format(), &options)?;
        let pictures = decode(&mut player, &jobs, 0)?;
        ensure!(
            pictures
                .iter()
                .all(|(status, bytes)| *status == Status::Ok && bytes.iter().all(|&b| b == 0x80)),
            "{codec:?}"
        );
    }
    Ok(())
}

#[test]
fn linked_libraries_serve_all_codecs_and_unknown_formats_are_refused() {
    assert_eq!(daedalus_engine::served_codecs(), CodecSet::all());
    assert!(daedalus_engine::open(fourcc::NV12, &Options::default()).is_err());
}

/// Overwrites random parts of controls and payload of a real clip.
fn fuzz(codec: Codec, seed: u64) -> Result<()> {
    thread_local! {
        static CLIPS: RefCell<Vec<(Codec, Vec<CodedJob>)>> = const { RefCell::new(Vec::new()) };
    }
    let clean = CLIPS.with_borrow_mut(|clips| -> Result<_> {
        if !clips.iter().any(|(other, _)| *other == codec) {
            clips.push((codec, clips::jobs(codec)?));
        }
        Ok(clips
            .iter()
            .find(|(other, _)| *other == codec)
            .context("clip")?
            .1
            .clone())
    })?;
    let mut random = Random(seed);
    let mut player = player(codec)?;
    for job in clean.iter().take(clips::GOP) {
        let mut job = job.clone();
        if random.below(2) == 0 {
            let index = random.below(job.controls.len());
            let value = &mut job.controls[index].value;
            for _ in 0..=random.below(8) {
                let at = random.below(value.len());
                value[at] = random.below(256) as u8;
            }
        }
        if random.below(4) == 0 {
            let at = random.below(job.payload.len());
            job.payload[at] = random.below(256) as u8;
        }
        let capture = Capture::new(fourcc::NV12, 322, 182)?;
        player.play(&job, &capture)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn hostile_controls_and_data_are_answered(codec in 0..Codec::ALL.len(), seed in any::<u64>()) {
        fuzz(Codec::ALL[codec], seed).map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
    }
}

#[test]
fn a_job_without_the_control_that_has_the_size_is_an_error() -> Result<()> {
    for &codec in Codec::ALL {
        let mut job = clips::jobs(codec)?.swap_remove(0);
        // It has the size, too, or what the picture refers to. A codec of 8 bits only has that in its first.
        let control = match codec.info().depth_control {
            0 => job.controls[0].id,
            depth => depth,
        };
        job.controls.retain(|c| c.id != control);
        let capture = capture_for(&job)?;
        let report = player(codec)?.play(&job, &capture)?;
        ensure!(report.status == Status::Error, "{codec:?}: {report:?}");
    }
    Ok(())
}

#[test]
fn damage_is_reported_for_all_pictures_that_refer_to_it() -> Result<()> {
    for &codec in Codec::ALL {
        let clean = clips::jobs(codec)?;
        let keys = key_frames(&clean)?;
        let expected = decode(&mut player(codec)?, &clean, 0)?;
        let mut player = player(codec)?;
        // The picture after the first key frame is lost altogether.
        for (i, job) in clean.iter().enumerate() {
            let capture = capture_for(job)?;
            let payload = if i == 1 {
                &job.payload[..4]
            } else {
                &job.payload[..]
            };
            let report = player.play_payload(job, payload, &capture)?;
            let equal = capture.semi_planar(job.visible)? == expected[i].1;
            ensure!(
                equal || report.status == Status::Error,
                "{codec:?}: picture {i} is wrong, and called exact"
            );
            let recovered = i < 1 || i >= keys[1];
            ensure!(equal || !recovered, "{codec:?}: picture {i} is wrong");
            ensure!(
                report.status == Status::Ok || !recovered,
                "{codec:?}: picture {i} is called wrong"
            );
        }
    }
    Ok(())
}

#[test]
fn a_picture_that_never_came_is_missed_by_all_that_refer_to_it() -> Result<()> {
    for &codec in Codec::ALL {
        let clean = clips::jobs(codec)?;
        let keys = key_frames(&clean)?;
        let expected = decode(&mut player(codec)?, &clean, 0)?;
        let mut wrong = 0;
        for lost in 1..keys[1] {
            let jobs: Vec<_> = [&clean[..lost], &clean[lost + 1..]].concat();
            let expected = [&expected[..lost], &expected[lost + 1..]].concat();
            let pictures = decode(&mut player(codec)?, &jobs, 0x77)?;
            for (i, (picture, due)) in pictures.iter().zip(&expected).enumerate() {
                let equal = picture.1 == due.1;
                wrong += usize::from(!equal);
                ensure!(
                    equal || picture.0 == Status::Error,
                    "{codec:?} without {lost}: picture {i} is wrong, and called exact"
                );
            }
            ensure!(
                pictures[..lost] == expected[..lost] && pictures[keys[1] - 1..] == expected[keys[1] - 1..],
                "{codec:?} without {lost}: more than its group of pictures is wrong"
            );
        }
        ensure!(wrong > 0, "{codec:?}: no picture refers to any other");
    }
    Ok(())
}

#[test]
fn a_decoder_that_starts_in_the_middle_calls_nothing_exact_that_is_not() -> Result<()> {
    for &codec in Codec::ALL {
        let clean = clips::jobs(codec)?;
        let keys = key_frames(&clean)?;
        let expected = decode(&mut player(codec)?, &clean, 0)?;
        for from in [1, 3, 6, keys[1] + 2] {
            let pictures = decode(&mut player(codec)?, &clean[from..], 0x33)?;
            for (i, (status, bytes)) in pictures.iter().enumerate() {
                let equal = *bytes == expected[from + i].1;
                ensure!(
                    equal || *status == Status::Error,
                    "{codec:?} from {from}: picture {i} is not exact"
                );
            }
            let next = keys
                .iter()
                .find(|&&key| key > from)
                .context("no key frame follows")?;
            ensure!(
                pictures[next - from..] == expected[*next..],
                "{codec:?} from {from}: no recovery"
            );
        }
    }
    Ok(())
}

#[test]
fn a_client_that_spoils_its_references_harms_its_own_pictures_only() -> Result<()> {
    for &codec in Codec::ALL {
        let clean = clips::jobs(codec)?;
        let keys = key_frames(&clean)?;
        let expected = decode(&mut player(codec)?, &clean, 0)?;
        let mut player = player(codec)?;
        // One buffer for everything: each picture is decoded over its own reference, which the client has
        // overwritten before.
        let only = capture_for(&clean[0])?;
        for (i, job) in clean[..keys[2]].iter().enumerate() {
            player.play(job, &only)?;
            only.fill(i as u8)?;
        }
        // Memory that is gone while the decoder refers to it, as in every other test too.
        drop(only);
        let pictures = decode(&mut player, &clean[keys[2]..], 0)?;
        ensure!(
            pictures
                .iter()
                .zip(&expected[keys[2]..])
                .all(|((_, bytes), (_, right))| bytes == right),
            "{codec:?}: no recovery"
        );
    }
    Ok(())
}

#[test]
fn memory_is_given_back_when_a_queue_stops() -> Result<()> {
    let mut all = 0;
    for &codec in Codec::ALL {
        let clean = clips::jobs(codec)?;
        let mut player = player(codec)?;
        let mut captures = Vec::new();
        for job in &clean {
            let capture = direct_capture_for(job)?;
            player.play(job, &capture)?;
            captures.push(capture);
        }
        ensure!(
            captures.iter().any(Capture::is_held),
            "{codec:?}: nothing was decoded into CAPTURE"
        );
        player.reset();
        let held = captures.iter().filter(|capture| capture.is_held()).count();
        println!("{codec:?}: {held} buffers are still held");
        all += held;
    }
    ensure!(all == 0, "{all} buffers are still held after a reset");
    Ok(())
}
