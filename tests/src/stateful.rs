// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Clients of the stateful node: FFmpeg itself, and the small one that does what the kernel's document says.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::device::ClientError;
use daedalus_client::raw::{RawFormat, Shape};
use daedalus_client::stateful::{self, Settings};
use daedalus_common::play::{Row, Stream};
use daedalus_uapi::codec::{self, Codec};
use daedalus_uapi::fourcc;

use crate::rows::Comparison;

/// Bytes of a unit of a stream that may be cut anywhere.
const PIECE: usize = 100_003;

/// Begins the error of a client that does not take the stream, which is no matter of the device.
pub(crate) const REFUSES: &str = "the real client refuses";

/// Returns FFmpeg's name of its decoder for stateful devices.
pub(crate) fn ffmpeg_decoder(codec: Codec) -> String {
    format!("{codec}_v4l2m2m")
}

/// Refuses what FFmpeg's decoder for stateful devices does not carry.
///
/// # Errors
/// With the reason and its place in FFmpeg's source.
pub(crate) fn check_ffmpeg(stream: &Stream) -> Result<()> {
    if stream.format.as_deref() == Some("P010_10LE") {
        bail!("{REFUSES}: v4l2_fmt.c has no format for 10 bit");
    }
    if stream.converted {
        bail!("{REFUSES}: a rawvideo output has one size");
    }
    if !has_ffmpeg_decoder(stream.codec)? {
        let name = ffmpeg_decoder(stream.codec);
        bail!("{REFUSES}: v4l2_m2m_dec.c has no {name}");
    }
    Ok(())
}

/// Returns whether FFmpeg has a decoder of this codec for stateful devices.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn has_ffmpeg_decoder(codec: Codec) -> Result<bool> {
    let decoders = Command::new("ffmpeg")
        .args(["-hide_banner", "-v", "error", "-decoders"])
        .stdin(Stdio::null())
        .output()
        .context("cannot start ffmpeg")?;
    let name = ffmpeg_decoder(codec);
    let listing = String::from_utf8_lossy(&decoders.stdout);
    Ok(listing.split_whitespace().any(|word| word == name))
}

/// Returns the shape of the pictures that FFmpeg writes.
pub(crate) fn shape(stream: &Stream) -> Shape {
    Shape {
        format: RawFormat::Nv12,
        width: stream.width,
        height: stream.height,
    }
}

/// Starts FFmpeg, which decodes `file` and writes every picture as NV12.
///
/// # Errors
/// If it cannot be started.
pub(crate) fn ffmpeg(decoder: &str, file: &Path, log: &Path) -> Result<Child> {
    // No filter may hide what the decoder hands over: neither scaling nor frames that are made up or dropped.
    let input = ["-nostdin", "-hide_banner", "-v", "error", "-c:v", decoder, "-i"];
    let output = "-map 0:v:0 -noautoscale -fps_mode passthrough -f rawvideo -pix_fmt nv12 -";
    Command::new("ffmpeg")
        .args(input)
        .arg(file)
        .args(output.split(' '))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(log)?)
        .process_group(0)
        .spawn()
        .context("cannot start ffmpeg")
}

/// Reads until `into` is full or the input ends. Returns the bytes that were read.
///
/// # Errors
/// The input's.
pub(crate) fn read_whole(input: &mut impl Read, into: &mut [u8]) -> Result<usize> {
    let mut count = 0;
    while count < into.len() {
        match input.read(&mut into[count..])? {
            0 => break,
            bytes => count += bytes,
        }
    }
    Ok(count)
}

/// Returns a file as units for OUTPUT: pieces of any size where the codec allows that, else the container's
/// units.
///
/// # Errors
/// If the file cannot be read.
pub(crate) fn units(codec: Codec, file: &Path) -> Result<Vec<Vec<u8>>> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    if codec.info().stream == codec::Stream::StartCodes {
        return Ok(bytes.chunks(PIECE).map(<[u8]>::to_vec).collect());
    }
    let contents = daedalus_client::container::open(bytes)?;
    Ok(contents.units.collect::<Result<_, _>>()?)
}

/// Plays a stream through the small client.
pub(crate) fn row(stream: &Stream, base: &Path, out: &Path) -> Row {
    let mut comparison = Comparison::begin(stream, "literal", "literal", None, out);
    let outcome = play(stream, base, &mut comparison);
    comparison.end(outcome)
}

fn play(stream: &Stream, base: &Path, comparison: &mut Comparison) -> Result<()> {
    comparison.load_references(stream, base)?;
    let units = units(stream.codec, &base.join(&stream.path))?;
    let longest = units.iter().map(Vec::len).max().unwrap_or(0);
    ensure!(longest > 0, "the stream is empty");
    let coded_format = stream.codec.info().stateful_formats[0];
    let settings = Settings {
        unit_bytes: u32::try_from(longest)?,
        ..Settings::default()
    };
    let node = stateful::find(coded_format)?;
    let mut decoder = stateful::Stream::open(&node, coded_format, settings)?;
    let mut received = Ok(());
    stateful::play(&mut decoder, units, &mut |shown| {
        let format = match shown.format {
            fourcc::P010 => RawFormat::P010,
            _ => RawFormat::Nv12,
        };
        let shape = Shape {
            format,
            width: shown.visible.width as usize,
            height: shown.visible.height as usize,
        };
        if let Err(error) = comparison.receive(shape, &shown.pixels) {
            received = Err(error);
            return Err(ClientError::Unexpected("a picture that does not compare".into()));
        }
        Ok(())
    })
    .map_err(anyhow::Error::from)
    .or_else(|error| received.and(Err(error)))
    .map(drop)
}

/// Arguments of `daedalus-tests framed`.
#[derive(Debug, clap::Args)]
pub(crate) struct FramedArgs {
    /// The stream.
    input: PathBuf,
    /// The file to write.
    output: PathBuf,
}

/// Writes a stream with a header before each unit: a magic number, and the unit's bytes in network order.
///
/// # Errors
/// If a file cannot be read or written.
pub(crate) fn framed(args: &FramedArgs) -> Result<()> {
    let mut head = [0; 64];
    let count = read_whole(&mut File::open(&args.input)?, &mut head)?;
    let codec = daedalus_client::container::codec(&head[..count])?;
    let mut framed = Vec::new();
    for unit in units(codec, &args.input)? {
        framed.extend(*b"rdhV");
        framed.extend(u32::try_from(unit.len())?.to_be_bytes());
        framed.extend(unit);
    }
    std::fs::write(&args.output, framed).with_context(|| args.output.display().to_string())
}
