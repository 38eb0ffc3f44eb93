// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Encoders, and the reference decoders that say what the right pictures are.
//!
//! A reference must not be a library that the worker decodes with, or a fault of that library would pass: H.264 is
//! checked against the encoder's own reconstruction, VP9 against libvpx and AV1 against libaom. FFmpeg comes second.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::picture::{RawFormat, Shape, md5_hex};
use crate::stream::Codec;

/// Frames between key frames: a clip has several, so that a decoder that was damaged can recover.
const KEY_INTERVAL: usize = 30;

/// The programs whose versions decide what the encoded bytes and the references are: name and the argument that
/// makes it print its version.
pub(super) const PROGRAMS: [(&str, &str); 7] = [
    ("x264", "--version"),
    ("vpxenc", "--help"),
    ("aomenc", "--help"),
    ("SvtAv1EncApp", "--version"),
    ("vpxdec", "--help"),
    ("aomdec", "--help"),
    ("ffmpeg", "-version"),
];

/// x264: CABAC, B pyramid, 8x8 transform, weighted prediction.
const X264: &str = "--quiet --no-progress --demuxer y4m --preset veryfast --profile high --bframes 3 --b-pyramid normal \
                    --ref 3 --crf 21 --threads 2";
/// libvpx, what both kinds of VP9 clips have in common: four tile columns at 1080p.
const VPXENC: &str = "--codec=vp9 --ivf --quiet --threads=2 --row-mt=1 --tile-columns=2";
/// libvpx, real-time: a tenth of the time of [`VPX_HIDDEN`], which matters at 1080p.
const VPX_REAL_TIME: &str = "--rt --passes=1 --cpu-used=6 --end-usage=vbr";
/// libvpx, two passes with hidden alternate reference frames in superframes.
const VPX_HIDDEN: &str =
    "--good --cpu-used=5 --lag-in-frames=16 --auto-alt-ref=1 --end-usage=q --cq-level=24";
/// Pictures of at most this many rows are worth [`VPX_HIDDEN`].
const HIDDEN_ROWS: usize = 240;
/// SVT-AV1: random access with hidden and re-shown frames.
const SVT: &str = "--preset 10 --crf 24 --progress 0 --lp 2";

/// The command that encodes `source` (Y4M, pictures of `rows` rows) into `output`. `recon` receives x264's
/// reconstruction.
fn encoder(codec: Codec, rows: usize, source: &Path, output: &Path, recon: &Path) -> Command {
    let interval = KEY_INTERVAL.to_string();
    let (program, options, more) = match codec {
        Codec::H264 => ("x264", X264, ""),
        Codec::Vp9 if rows <= HIDDEN_ROWS => ("vpxenc", VPXENC, VPX_HIDDEN),
        Codec::Vp9 => ("vpxenc", VPXENC, VPX_REAL_TIME),
        Codec::Av1 => ("SvtAv1EncApp", SVT, ""),
    };
    let mut c = Command::new(program);
    c.args(options.split_whitespace()).args(more.split_whitespace());
    match codec {
        Codec::H264 => c
            .args(["--keyint", &interval, "--dump-yuv"])
            .arg(recon)
            .arg("-o")
            .arg(output)
            .arg(source),
        // Constant quality ignores the rate, real time follows it: about 12 Mbit/s at 1080p.
        Codec::Vp9 => c
            .arg(format!("--target-bitrate={}", rows * rows / 100))
            .arg(format!("--kf-max-dist={interval}"))
            .arg("-o")
            .arg(output)
            .arg(source),
        Codec::Av1 => c
            .args(["--keyint", &interval, "-b"])
            .arg(output)
            .arg("-i")
            .arg(source),
    };
    c
}

/// Runs the encoder for `codec` on pictures of `rows` rows.
///
/// # Errors
///
/// When the encoder is missing or fails; the text holds the end of what it printed.
pub(super) fn encode(codec: Codec, rows: usize, source: &Path, output: &Path, recon: &Path) -> Result<()> {
    run(encoder(codec, rows, source, output, recon))
}

/// Runs an encoder.
///
/// # Errors
///
/// As for [`encode`].
pub(super) fn run(mut command: Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let result = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    let said = String::from_utf8_lossy(&result.stderr);
    ensure!(
        result.status.success(),
        "{name} failed ({}): {}",
        result.status,
        said.trim()
    );
    Ok(())
}

/// The MD5 of every picture as NV12, in display order, from the decoder that the worker does not use; with its name.
///
/// # Errors
///
/// When the decoder fails or hands over a partial picture.
pub(super) fn own_reference(
    codec: Codec,
    clip: &Path,
    recon: &Path,
    shape: Shape,
) -> Result<(&'static str, Vec<String>)> {
    match codec {
        Codec::H264 => {
            let file = File::open(recon).context("x264 wrote no reconstruction")?;
            Ok(("x264-recon", frame_sums(BufReader::new(file), shape)?))
        }
        Codec::Vp9 => {
            let mut c = Command::new("vpxdec");
            c.args(["--codec=vp9", "--rawvideo", "--i420", "-o", "-"])
                .arg(clip);
            Ok(("vpxdec", decoder_sums(c, shape)?))
        }
        Codec::Av1 => {
            let mut c = Command::new("aomdec");
            c.args(["--rawvideo", "--i420", "-o", "-"]).arg(clip);
            Ok(("aomdec", decoder_sums(c, shape)?))
        }
    }
}

/// FFmpeg decoding a clip, up to what is to be written and where. More threads than one decode fields of H.264 wrong at
/// times (ARCHITECTURE.md, Threads).
pub(super) fn ffmpeg_decoder(clip: &Path) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-nostdin", "-threads", "1", "-i"])
        .arg(clip);
    command
}

/// The MD5 of every picture as NV12, in display order, from FFmpeg.
///
/// # Errors
///
/// As for [`own_reference`].
pub(super) fn ffmpeg_reference(clip: &Path, shape: Shape) -> Result<Vec<String>> {
    let mut c = ffmpeg_decoder(clip);
    c.args([
        "-f",
        "rawvideo",
        "-pix_fmt",
        match shape.format {
            RawFormat::I420Le10 => "yuv420p10le",
            _ => "yuv420p",
        },
        "-fps_mode",
        "passthrough",
        "-",
    ]);
    decoder_sums(c, shape)
}

fn decoder_sums(mut command: Command, shape: Shape) -> Result<Vec<String>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let sums = match child.stdout.take() {
        Some(out) => frame_sums(out, shape).with_context(|| format!("reading from {name}")),
        None => bail!("{name} has no output"),
    };
    let status = child.wait()?;
    let sums = sums?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(sums)
}

fn frame_sums(mut source: impl Read, shape: Shape) -> Result<Vec<String>> {
    debug_assert!(
        matches!(shape.format, RawFormat::I420 | RawFormat::I420Le10),
        "reference decoders are asked for planar pictures"
    );
    let mut frame = vec![0; shape.packed_len()];
    let mut semi = Vec::new();
    let mut sums = Vec::new();
    loop {
        let mut filled = 0;
        while filled < frame.len() {
            match source.read(&mut frame[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        match filled {
            0 => return Ok(sums),
            n if n == frame.len() => {
                shape.semi_planar_from_packed(&frame, &mut semi)?;
                sums.push(md5_hex(&semi));
            }
            n => bail!("the last picture has {n} of {} bytes", frame.len()),
        }
    }
}

/// Writes a reference list: one line per picture, MD5 and byte count.
///
/// # Errors
///
/// When the file cannot be written.
pub(super) fn write_sums(path: &Path, sums: &[String], bytes: usize) -> Result<()> {
    let mut file = File::create(path)?;
    for sum in sums {
        writeln!(file, "{sum}  {bytes}")?;
    }
    Ok(())
}

/// Size in bytes of the largest coded picture that is a key frame: in IVF the largest frame, in Annex B the largest
/// access unit that holds an IDR slice.
///
/// # Errors
///
/// When the file is not of the expected container.
pub(super) fn largest_key_frame(codec: Codec, clip: &Path) -> Result<usize> {
    let data = std::fs::read(clip)?;
    match codec {
        Codec::H264 => Ok(annex_b_nals(&data)
            .filter(|nal| nal.first().is_some_and(|b| b & 31 == 5))
            .map(<[u8]>::len)
            .max()
            .unwrap_or(0)),
        Codec::Vp9 | Codec::Av1 => {
            ensure!(data.starts_with(b"DKIF"), "{} is no IVF file", clip.display());
            let mut at = 32;
            let mut sizes = Vec::new();
            while let Some(header) = data.get(at..at + 12) {
                let size = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
                sizes.push(size);
                at += 12 + size;
            }
            // The encoders are told to place a key frame every KEY_INTERVAL pictures and the first is one; hidden
            // pictures make positions of the others uncertain, so only the first is counted.
            Ok(sizes.first().copied().unwrap_or(0))
        }
    }
}

/// NAL units of an Annex B stream without their start codes.
fn annex_b_nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts: Vec<usize> = data
        .windows(3)
        .enumerate()
        .filter(|(_, w)| *w == [0, 0, 1])
        .map(|(at, _)| at + 3)
        .collect();
    let ends: Vec<usize> = starts
        .iter()
        .skip(1)
        .map(|s| s - 3)
        .chain(std::iter::once(data.len()))
        .collect();
    starts.into_iter().zip(ends).map(|(s, e)| &data[s..e])
}
