// SPDX-License-Identifier: Apache-2.0 OR MIT
//! VP8: what libavcodec passes over in silence, and what decoders do not agree on.

#[path = "support/clips.rs"]
mod clips;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use daedalus_client::{Codec, CodedJob, Control};
use daedalus_codecs::vp8::tables::{
    COEFFICIENT_UPDATES, KEY_UV_MODES, KEY_Y_MODES, MOTION_VECTOR_UPDATES, UV_MODES, Y_MODES,
};
use daedalus_codecs::vp8::{CopyOrder, FrameHeader, Slots};
use daedalus_engine::{Options, Status, Threads};
use daedalus_uapi::fourcc;
use daedalus_uapi::v4l2_controls::{
    V4L2_CID_STATELESS_VP8_FRAME, V4L2_VP8_FRAME_FLAG_SIGN_BIAS_ALT, V4L2_VP8_FRAME_FLAG_SIGN_BIAS_GOLDEN,
    V4l2CtrlVp8Frame,
};
use support::{Capture, Player};

/// An encoder of booleans (RFC 6386, 7.3).
struct Booleans {
    out: Vec<u8>,
    range: u32,
    bottom: u32,
    /// Shifts until the next byte is whole.
    left: u32,
}

impl Booleans {
    fn new() -> Self {
        Self {
            out: Vec::new(),
            range: 255,
            bottom: 0,
            left: 24,
        }
    }

    fn boolean(&mut self, probability: u8, value: bool) {
        let split = 1 + (((self.range - 1) * u32::from(probability)) >> 8);
        if value {
            self.bottom = self.add(split);
            self.range -= split;
        } else {
            self.range = split;
        }
        while self.range < 128 {
            self.range <<= 1;
            if self.bottom >> 31 != 0 {
                self.carry();
            }
            self.bottom <<= 1;
            self.left -= 1;
            if self.left == 0 {
                self.out.push((self.bottom >> 24) as u8);
                self.bottom &= 0x00ff_ffff;
                self.left = 8;
            }
        }
    }

    fn add(&mut self, split: u32) -> u32 {
        let (sum, carries) = self.bottom.overflowing_add(split);
        if carries {
            self.carry();
        }
        sum
    }

    /// Adds one to the bytes that are out.
    fn carry(&mut self) {
        for byte in self.out.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
    }

    fn literal(&mut self, bits: u32, value: u32) {
        for bit in (0..bits).rev() {
            self.boolean(128, (value >> bit) & 1 != 0);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.literal(32, 0);
        self.out
    }
}

/// How the only macroblock of a frame is predicted. None has coefficients, so each picture is of one colour.
#[derive(Clone, Copy)]
enum Block {
    /// Without neighbours these are 128, 127 and 129.
    Dc,
    Vertical,
    Horizontal,
    Last,
    Golden,
    Alternate,
}

/// A frame of 16 by 16 pixels.
#[derive(Clone, Copy)]
struct Tiny {
    key: bool,
    block: Block,
    /// Of last, golden, alternate.
    refresh: [bool; 3],
    /// `copy_buffer_to_golden`, `copy_buffer_to_alternate`.
    copy: [u32; 2],
}

impl Tiny {
    /// Returns a key frame.
    fn key() -> Self {
        Self {
            key: true,
            ..Self::inter(Block::Dc)
        }
    }

    /// Returns an inter frame that changes no slot.
    fn inter(block: Block) -> Self {
        Self {
            key: false,
            block,
            refresh: [false; 3],
            copy: [0; 2],
        }
    }

    fn refreshing(self, refresh: [bool; 3]) -> Self {
        Self { refresh, ..self }
    }

    fn copying(self, golden: u32, alternate: u32) -> Self {
        Self {
            copy: [golden, alternate],
            ..self
        }
    }

    fn encode(self) -> Vec<u8> {
        let mut bits = Booleans::new();
        if self.key {
            bits.literal(2, 0);
        }
        // No segments; no loop filter; one partition; the finest quantizer.
        bits.literal(1, 0);
        bits.literal(1 + 6 + 3, 0);
        bits.literal(1, 0);
        bits.literal(2, 0);
        bits.literal(7 + 5, 0);
        if !self.key {
            let [_, golden, alternate] = self.refresh;
            bits.literal(1, golden.into());
            bits.literal(1, alternate.into());
            if !golden {
                bits.literal(2, self.copy[0]);
            }
            if !alternate {
                bits.literal(2, self.copy[1]);
            }
            bits.literal(2, 0);
        }
        bits.literal(1, 1);
        if !self.key {
            bits.literal(1, self.refresh[0].into());
        }
        for probability in COEFFICIENT_UPDATES.iter().flatten() {
            bits.boolean(*probability, false);
        }
        bits.literal(1, 1);
        bits.literal(8, 128);
        if !self.key {
            for _ in 0..3 {
                bits.literal(8, 128);
            }
            bits.literal(2, 0);
            for probability in MOTION_VECTOR_UPDATES.iter().flatten() {
                bits.boolean(*probability, false);
            }
        }
        // The macroblock: it has no coefficients.
        bits.boolean(128, true);
        self.encode_block(&mut bits);
        let first = bits.finish();
        let tag = u32::from(!self.key) | (1 << 4) | ((first.len() as u32) << 5);
        let mut data = tag.to_le_bytes()[..3].to_vec();
        if self.key {
            data.extend([0x9d, 0x01, 0x2a, 16, 0, 16, 0]);
        }
        data.extend(first);
        data.extend([0; 8]);
        data
    }

    fn encode_block(self, bits: &mut Booleans) {
        let reference = match self.block {
            Block::Last => Some([false, false]),
            Block::Golden => Some([true, false]),
            Block::Alternate => Some([true, true]),
            _ => None,
        };
        if !self.key {
            bits.boolean(128, reference.is_some());
        }
        if let Some([other, alternate]) = reference {
            bits.boolean(128, other);
            if other {
                bits.boolean(128, alternate);
            }
            // No motion; 7 is the probability where no neighbour has any (16.3).
            bits.boolean(7, false);
            return;
        }
        let [y, uv] = if self.key {
            [KEY_Y_MODES.as_slice(), &KEY_UV_MODES]
        } else {
            [Y_MODES.as_slice(), &UV_MODES]
        };
        let (vertical, horizontal) = (
            matches!(self.block, Block::Vertical),
            matches!(self.block, Block::Horizontal),
        );
        if self.key {
            bits.boolean(y[0], true);
            bits.boolean(y[1], horizontal);
            let (probability, value) = if horizontal {
                (y[3], false)
            } else {
                (y[2], vertical)
            };
            bits.boolean(probability, value);
        } else {
            bits.boolean(y[0], vertical || horizontal);
            if vertical || horizontal {
                bits.boolean(y[1], false);
                bits.boolean(y[2], horizontal);
            }
        }
        bits.boolean(uv[0], vertical || horizontal);
        if vertical || horizontal {
            bits.boolean(uv[1], horizontal);
            if horizontal {
                bits.boolean(uv[2], false);
            }
        }
    }
}

/// Writes frames as an IVF file.
fn write_ivf(name: &str, frames: &[Tiny]) -> Result<PathBuf> {
    let mut file = [&b"DKIF\0\0\x20\0VP80\x10\0\x10\0"[..], &[30, 0, 0, 0, 1, 0, 0, 0]].concat();
    file.extend((frames.len() as u32).to_le_bytes());
    file.extend([0; 4]);
    for (number, frame) in frames.iter().enumerate() {
        let data = frame.encode();
        file.extend((data.len() as u32).to_le_bytes());
        file.extend((number as u64).to_le_bytes());
        file.extend(data);
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}.ivf", std::process::id()));
    std::fs::write(&path, file)?;
    Ok(path)
}

/// Returns the pictures of one of FFmpeg's decoders, as NV12 of 16 by 16 pixels.
fn judged(decoder: &str, path: &Path) -> Result<Vec<Vec<u8>>> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-threads", "1", "-c:v", decoder, "-i"])
        .arg(path)
        .args([
            "-f",
            "rawvideo",
            "-pix_fmt",
            "nv12",
            "-fps_mode",
            "passthrough",
            "-",
        ])
        .output()
        .context("this test needs the ffmpeg program")?;
    ensure!(
        output.status.success(),
        "{decoder}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output
        .stdout
        .chunks(16 * 16 * 3 / 2)
        .map(<[u8]>::to_vec)
        .collect())
}

fn player() -> Result<Player> {
    Player::new(Codec::Vp8.coded_format(), &Options::default())
}

fn play(player: &mut Player, job: &CodedJob, before: u8) -> Result<(Status, Vec<u8>)> {
    let capture = Capture::new(fourcc::NV12, job.coded_width, job.coded_height)?;
    capture.fill(before)?;
    let report = player.play(job, &capture)?;
    Ok((report.status, capture.semi_planar(job.visible)?))
}

fn jobs_of(path: &Path) -> Result<Vec<CodedJob>> {
    Ok(daedalus_client::jobs(path)?.collect::<Result<_, _>>()?)
}

/// Golden takes what the alternate slot has: before that was copied to, says libavcodec, and after, says
/// libvpx. So the picture in golden is another one, and no frame that may refer to it is called exact.
#[test]
fn where_decoders_copy_in_another_order_pictures_are_exact_or_flagged() -> Result<()> {
    for (name, alternate) in [("golden-alternate", 2), ("golden-last", 1)] {
        let frames = [
            Tiny::key(),
            Tiny::inter(Block::Vertical).refreshing([false, true, false]),
            Tiny::inter(Block::Horizontal).refreshing([false, false, true]),
            Tiny::inter(Block::Last).copying(2, alternate),
            Tiny::inter(Block::Golden),
            Tiny::inter(Block::Alternate),
            Tiny::inter(Block::Last),
            Tiny::inter(Block::Vertical).refreshing([true, true, true]),
            Tiny::key(),
            Tiny::inter(Block::Golden),
        ];
        let path = write_ivf(name, &frames)?;
        let right = judged("libvpx", &path)?;
        let other = judged("vp8", &path)?;
        ensure!(
            right.len() == frames.len() && other.len() == frames.len(),
            "{name}: {} and {} pictures",
            right.len(),
            other.len()
        );
        // The stream is what it is meant to be, for both of them.
        let luma = |pictures: &[Vec<u8>]| pictures.iter().map(|picture| picture[0]).collect::<Vec<_>>();
        let (golden, alternate) = if alternate == 2 { (127, 127) } else { (128, 128) };
        ensure!(
            luma(&right) == [128, 127, 129, 128, golden, alternate, 128, 127, 128, 128],
            "{name}: libvpx shows {:?}",
            luma(&right)
        );
        ensure!(
            luma(&other)[4] == 129,
            "{name}: libavcodec copies as libvpx does now"
        );
        let jobs = jobs_of(&path)?;
        let mut player = player()?;
        for (number, (job, right)) in jobs.iter().zip(&right).enumerate() {
            let (status, picture) = play(&mut player, job, 0)?;
            ensure!(
                picture == *right || status == Status::Error,
                "{name}: picture {number} is wrong, and called exact"
            );
            let consistent = !(4..8).contains(&number);
            ensure!(
                (status == Status::Ok) == consistent,
                "{name}: picture {number} is {status:?}"
            );
        }
        // FFmpeg and Chromium name the pictures as libavcodec has them: that makes nothing right.
        let mut player = self::player()?;
        let mut slots = Slots::default();
        for (number, (job, right)) in jobs.iter().zip(&right).enumerate() {
            let mut job = job.clone();
            edit(&mut job, |frame| {
                let names = slots.pictures().map(Option::unwrap_or_default);
                [frame.last_frame_ts, frame.golden_frame_ts, frame.alt_frame_ts] = names;
            })?;
            let header = FrameHeader::read(&job.payload)?;
            slots = slots.after(&header, job.timestamp, CopyOrder::AtOnce);
            let (status, picture) = play(&mut player, &job, 0)?;
            ensure!(
                picture == *right || status == Status::Error,
                "{name}: picture {number} is wrong, and called exact"
            );
            ensure!(
                (status == Status::Ok) != (4..8).contains(&number),
                "{name}: picture {number} is {status:?}"
            );
        }
    }
    Ok(())
}

fn control(job: &CodedJob) -> Result<V4l2CtrlVp8Frame> {
    job.control(V4L2_CID_STATELESS_VP8_FRAME)
        .and_then(Control::get)
        .context("no control")
}

fn edit(job: &mut CodedJob, change: impl FnOnce(&mut V4l2CtrlVp8Frame)) -> Result<()> {
    let mut frame = control(job)?;
    change(&mut frame);
    job.controls = vec![Control::new(V4L2_CID_STATELESS_VP8_FRAME, &frame)];
    Ok(())
}

/// The client's parser and the engine's reader were written apart: they read the same.
fn agree(path: &Path) -> Result<usize> {
    let jobs = jobs_of(path)?;
    let mut slots = Slots::default();
    for (number, job) in jobs.iter().enumerate() {
        let (frame, header) = (control(job)?, FrameHeader::read(&job.payload)?);
        let has = |flag| frame.flags & flag != 0;
        ensure!(
            header.key == job.key
                && header.first_part_size == frame.first_part_size
                && header.num_dct_parts == frame.num_dct_parts
                && header.dct_part_sizes == frame.dct_part_sizes
                && header.sign_bias_golden == has(V4L2_VP8_FRAME_FLAG_SIGN_BIAS_GOLDEN)
                && header.sign_bias_alternate == has(V4L2_VP8_FRAME_FLAG_SIGN_BIAS_ALT)
                && header
                    .size
                    .is_none_or(|size| (size.width, size.height) == (job.coded_width, job.coded_height)),
            "frame {number}: {header:?} is not {frame:?}"
        );
        let names = [frame.last_frame_ts, frame.golden_frame_ts, frame.alt_frame_ts];
        ensure!(
            names == slots.pictures().map(Option::unwrap_or_default),
            "frame {number} names {names:?}, not {slots:?}"
        );
        slots = slots.after(&header, job.timestamp, CopyOrder::AlternateFirst);
    }
    Ok(jobs.len())
}

#[test]
fn two_readers_agree_on_every_vector() -> Result<()> {
    let Some(folder) = daedalus_client::vectors::for_test("vp8", "two readers agree") else {
        return Ok(());
    };
    let manifest = std::fs::read_to_string(folder.join("MANIFEST.tsv"))?;
    let mut frames = 0;
    for row in manifest.lines().filter(|line| line.contains(".ivf\t")) {
        let file = row.split('\t').next().context("an empty row")?;
        frames += agree(&folder.join(file)).with_context(|| file.to_owned())?;
    }
    ensure!(frames > 500, "{frames} frames");
    Ok(())
}

#[test]
fn a_partition_that_is_cut_off_is_flagged_and_shows_nothing_unwritten() -> Result<()> {
    let clean = clips::jobs(Codec::Vp8)?;
    for number in 0..clips::GOP {
        let whole = clean[number].payload.len();
        for cut in [1, 2, 10, whole / 4, whole / 2, whole - 20, whole - 4] {
            let mut shown = Vec::new();
            for before in [0, 0xff] {
                let mut player = player()?;
                for job in &clean[..number] {
                    ensure!(play(&mut player, job, before)?.0 == Status::Ok);
                }
                let mut job = clean[number].clone();
                job.payload.truncate(whole.saturating_sub(cut).max(1));
                let (status, picture) = play(&mut player, &job, before)?;
                ensure!(
                    status == Status::Error,
                    "frame {number} without {cut} bytes is called exact"
                );
                shown.push(picture);
                let (status, picture) = play(&mut player, &clean[number + 1], before)?;
                ensure!(
                    clean[number + 1].key || status == Status::Error,
                    "what refers to frame {number} is called exact"
                );
                shown.push(picture);
            }
            for (which, (zeros, ones)) in shown[..2].iter().zip(&shown[2..]).enumerate() {
                let at = zeros.iter().zip(ones).position(|(zeros, ones)| zeros != ones);
                ensure!(
                    at.is_none(),
                    "frame {number} without {cut} bytes: picture {which} shows at {at:?} what nobody decoded"
                );
            }
        }
    }
    Ok(())
}

/// As [`play`], into a buffer that is decoded into directly: chroma has memory of its own.
fn play_direct(player: &mut Player, job: &CodedJob, before: u8) -> Result<(Status, Vec<u8>)> {
    let capture = Capture::new(fourcc::YUV420M, job.coded_width, job.coded_height)?;
    capture.fill(before)?;
    let report = player.play(job, &capture)?;
    Ok((report.status, capture.semi_planar(job.visible)?))
}

#[test]
fn what_was_not_decoded_is_in_no_later_picture() -> Result<()> {
    let clean = clips::jobs(Codec::Vp8)?;
    for number in [0, 2] {
        let mut shown = Vec::new();
        for before in [0, 0xff] {
            let mut player = player()?;
            let mut pictures = Vec::new();
            for (at, job) in clean[..clips::GOP].iter().enumerate() {
                let mut job = job.clone();
                if at == number {
                    job.payload.truncate(job.payload.len() / 2);
                }
                pictures.push(play_direct(&mut player, &job, before)?);
            }
            ensure!(pictures[number].0 == Status::Error);
            shown.push(pictures);
        }
        ensure!(shown[0] == shown[1], "without half of frame {number}");
    }
    Ok(())
}

/// The client's sizes are those of the data that it got: nothing tells that the end is missing, but that
/// libavcodec does not come to the end of the picture.
#[test]
fn data_that_ends_too_early_is_found_without_the_control() -> Result<()> {
    let clean = clips::jobs(Codec::Vp8)?;
    let (mut cut, mut flagged) = (0, 0);
    for quarter in 1..4 {
        let mut job = clean[0].clone();
        job.payload.truncate(job.payload.len() * quarter / 4);
        let header = FrameHeader::read(&job.payload)?;
        edit(&mut job, |frame| frame.dct_part_sizes = header.dct_part_sizes)?;
        let mut pictures = Vec::new();
        for before in [0, 0xff] {
            let (status, picture) = play(&mut player()?, &job, before)?;
            pictures.push(picture);
            cut += 1;
            flagged += usize::from(status == Status::Error);
        }
        ensure!(pictures[0] == pictures[1], "it shows what nobody decoded");
    }
    ensure!(flagged == cut, "{flagged} of {cut} are flagged");
    Ok(())
}

#[test]
fn a_frame_without_data_costs_its_own_picture_only() -> Result<()> {
    let clean = clips::jobs(Codec::Vp8)?;
    let (mut player, mut other) = (player()?, player()?);
    for (number, job) in clean[..clips::GOP].iter().enumerate() {
        let due = play(&mut other, job, 0)?;
        ensure!(play(&mut player, job, 0)? == due, "picture {number}");
        let mut empty = job.clone();
        (empty.payload, empty.timestamp) = (Vec::new(), job.timestamp + 500);
        let (status, picture) = play(&mut player, &empty, 0)?;
        ensure!(
            status == Status::Error && picture == due.1,
            "not the last good picture"
        );
    }
    Ok(())
}

#[test]
fn a_control_of_another_frame_is_flagged() -> Result<()> {
    let clean = clips::jobs(Codec::Vp8)?;
    type Change = fn(&mut V4l2CtrlVp8Frame);
    let changes: [(&str, Change); 8] = [
        ("first_part_size", |frame| frame.first_part_size += 1),
        ("num_dct_parts", |frame| frame.num_dct_parts = 2),
        ("dct_part_sizes", |frame| frame.dct_part_sizes[0] += 1),
        ("no partitions", |frame| frame.num_dct_parts = 0),
        ("flags", |frame| frame.flags ^= 1),
        ("last_frame_ts", |frame| frame.last_frame_ts = 7),
        ("golden_frame_ts", |frame| frame.golden_frame_ts = 0),
        ("alt_frame_ts", |frame| frame.alt_frame_ts += 1000),
    ];
    for (what, change) in changes {
        let mut player = player()?;
        for (number, job) in clean[..=clips::GOP].iter().enumerate() {
            let mut job = job.clone();
            if number == 3 {
                edit(&mut job, change)?;
            }
            let (status, _) = play(&mut player, &job, 0)?;
            let wrong = (3..clips::GOP).contains(&number);
            // A longer last partition costs no later frame anything but its reference.
            ensure!(
                (status == Status::Error) == wrong,
                "{what}: picture {number} is {status:?}"
            );
        }
    }
    let mut player = player()?;
    let mut job = clean[0].clone();
    job.controls.clear();
    ensure!(play(&mut player, &job, 0)?.0 == Status::Error, "no control");
    let mut job = clean[0].clone();
    edit(&mut job, |frame| frame.width += 2)?;
    ensure!(
        play(&mut self::player()?, &job, 0)?.0 == Status::Error,
        "another size"
    );
    Ok(())
}

#[test]
fn any_number_of_threads_is_exact() -> Result<()> {
    let clean = clips::jobs(Codec::Vp8)?;
    let mut one = player()?;
    let due: Vec<_> = clean
        .iter()
        .map(|job| play(&mut one, job, 0))
        .collect::<Result<_>>()?;
    for threads in [2, 4] {
        let options = Options {
            threads: Threads::Fixed(threads),
            ..Options::default()
        };
        let mut player = Player::new(Codec::Vp8.coded_format(), &options)?;
        for (job, due) in clean.iter().zip(&due) {
            ensure!(play(&mut player, job, 0)? == *due, "{threads} threads");
        }
    }
    Ok(())
}
