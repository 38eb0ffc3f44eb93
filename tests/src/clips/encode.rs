// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Encoders, and the reference decoders that say what the right pictures are. FFmpeg is the second of two.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::raw::{RawFormat, Shape, md5_hex};

use super::{ffmpeg, near};
use crate::codec;
use crate::codec::clips::{ClipRow, Files, Reference};

/// Returns the programs whose versions decide the encoded bytes and the references: name, and the argument
/// that makes it print its version.
pub(super) fn programs() -> Vec<(&'static str, &'static str)> {
    let of_codecs = codec::rows().flat_map(|row| row.clips.programs.iter().copied());
    of_codecs.chain([("ffmpeg", "-version")]).collect()
}

/// Makes a command of a program with its options.
///
/// # Errors
///
/// When there is no program.
pub(super) fn command(line: &str) -> Result<Command> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().context("no program")?);
    command.args(words);
    Ok(command)
}

/// Runs an encoder with its options.
///
/// # Errors
///
/// When the encoder is missing or fails; the text holds the end of what it printed.
pub(super) fn encode(row: &ClipRow, line: &str, files: &Files<'_>) -> Result<()> {
    let mut command = command(line)?;
    (row.files)(&mut command, files);
    run(command)
}

fn run(mut command: Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let result = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    let messages = String::from_utf8_lossy(&result.stderr);
    ensure!(
        result.status.success(),
        "{name} failed ({}): {}",
        result.status,
        messages.trim()
    );
    Ok(())
}

/// The MD5 of every picture of a clip as NV12, in display order, by the decoder of this name.
pub(super) type Sums = (&'static str, Vec<String>);

/// Returns the sums of a clip's pictures, by the codec's own reference and by FFmpeg: by FFmpeg alone if the
/// other pictures are near those.
///
/// # Errors
///
/// When a decoder fails or hands over a partial picture, or when the two do not agree.
pub(super) fn references(row: &ClipRow, clip: &Path, recon: &Path, shape: Shape) -> Result<Vec<Sums>> {
    let name = row.reference.name();
    let by_ffmpeg = ("ffmpeg", ffmpeg_reference(clip, shape)?);
    let own = match row.reference {
        Reference::Reconstruction(name) => {
            let file = File::open(recon).with_context(|| format!("there is no {name}"))?;
            frame_sums(BufReader::new(file), shape)?
        }
        Reference::Decoder(line) => {
            let mut command = command(line)?;
            command.args(["-o", "-"]).arg(clip);
            decoder_sums(command, shape)?
        }
        Reference::Checksums(_) => {
            reconstruct(clip, recon, shape)?;
            frame_sums(BufReader::new(File::open(recon)?), shape)?
        }
        Reference::Near(near) => {
            let compared = near::compare(near, clip, shape)?;
            ensure!(
                compared.pictures == by_ffmpeg.1.len(),
                "{name} and ffmpeg do not agree"
            );
            return Ok(vec![by_ffmpeg]);
        }
    };
    ensure!(own == by_ffmpeg.1, "{name} and ffmpeg do not agree");
    Ok(vec![(name, own), by_ffmpeg])
}

/// Writes the pictures of a clip to `recon`. The clip has the encoder's checksum of each.
///
/// # Errors
///
/// When a picture has another checksum, or has none.
pub(super) fn reconstruct(clip: &Path, recon: &Path, shape: Shape) -> Result<()> {
    let format = match shape.format {
        RawFormat::I420Le10 => "yuv420p10le",
        _ => "yuv420p",
    };
    let output = Command::new("ffmpeg")
        .args(["-v", "debug", "-nostdin", "-y", "-threads", "1"])
        .args(["-err_detect", "crccheck+explode", "-i"])
        .arg(clip)
        .args(["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", format])
        .arg(recon)
        .stdin(Stdio::null())
        .output()
        .context("cannot start ffmpeg")?;
    let messages = String::from_utf8_lossy(&output.stderr);
    let of = |word: &str| messages.lines().filter(|line| line.contains(word)).count();
    ensure!(output.status.success(), "ffmpeg failed: {}", output.status);
    let pictures = std::fs::metadata(recon)?.len() as usize / shape.packed_len();
    let (right, wrong) = (of("Verifying checksum"), of("- incorrect"));
    ensure!(
        wrong == 0,
        "{wrong} pictures have another checksum than the encoder's"
    );
    ensure!(right >= pictures, "{pictures} pictures have {right} checksums");
    Ok(())
}

/// Returns the MD5 of every picture as NV12, in display order, by FFmpeg.
///
/// # Errors
///
/// When the decoder fails or hands over a partial picture.
fn ffmpeg_reference(clip: &Path, shape: Shape) -> Result<Vec<String>> {
    let mut c = ffmpeg::decoder(clip);
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
