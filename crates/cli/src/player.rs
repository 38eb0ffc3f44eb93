// SPDX-License-Identifier: Apache-2.0 OR MIT
//! GStreamer as a child process, which decodes a file through the device or in software.

use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::container;
use daedalus_client::gdp::Reader;
use daedalus_client::raw::{RawFormat, Shape};
use daedalus_uapi::Codec;
use daedalus_uapi::codec::{CODECS, CodecInfo, Stream};
use indicatif::{ProgressBar, ProgressStyle};

use crate::device::Snapshot;
use crate::system::System;

/// Bytes of a file in which its codec is named.
const HEAD: u64 = 1 << 20;
/// The containers, for people.
const FILES: &str = "IVF, WebM, Matroska, MP4, MPEG-TS";
/// The first bytes of Matroska and WebM (RFC 8794), and GStreamer's element for them.
const EBML: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];
const MATROSKA: &str = "matroskademux";
/// Bytes of a packet of an MPEG transport stream, and the first of them (H.222.0, 2.4.3.2).
const TS_PACKET: usize = 188;
const TS_SYNC: u8 = 0x47;

/// A decoder: the device, or software.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Device,
    Software,
}

/// A file that is being decoded.
pub(crate) struct Playback {
    /// The file's codec.
    pub(crate) codec: Codec,
    /// The decoder's element.
    pub(crate) element: String,
    child: Child,
    reader: Reader<BufReader<ChildStdout>>,
    messages: Option<JoinHandle<String>>,
    picture: Vec<u8>,
}

/// Starts decoding.
pub(crate) fn start(file: &Path, by: By) -> Result<Playback> {
    // gdppay takes no padded lines, so that pictures arrive in GStreamer's default layout.
    let (codec, element, mut command) = pipeline(file, by, &["gdppay", "fdsink fd=1 sync=false"])?;
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start gst-launch-1.0: sudo apt install gstreamer1.0-tools")?;
    let out = child.stdout.take().context("gst-launch-1.0 without an output")?;
    let messages = child.stderr.take().map(|mut errors| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            errors.read_to_end(&mut text).ok();
            String::from_utf8_lossy(&text).into_owned()
        })
    });
    Ok(Playback {
        codec,
        element,
        child,
        reader: Reader::new(BufReader::with_capacity(1 << 20, out)),
        messages,
        picture: Vec::new(),
    })
}

/// Returns a command that decodes a file as fast as it can and throws the pictures away, its codec and
/// decoder.
pub(crate) fn discarding(file: &Path, by: By) -> Result<(Codec, String, Command)> {
    pipeline(file, by, &["fakesink sync=false"])
}

/// Returns a command that decodes a file into `sink`, with its codec and decoder.
fn pipeline(file: &Path, by: By, sink: &[&str]) -> Result<(Codec, String, Command)> {
    let (codec, mut parts) = source(file)?;
    let element = match by {
        By::Device => of_device(codec)?,
        By::Software => in_software(codec)?,
    };
    parts.push(codec.info().gstreamer_parser.to_owned());
    parts.push(element.clone());
    parts.extend(sink.iter().map(|&part| part.to_owned()));
    let mut command = Command::new("gst-launch-1.0");
    command.args(["-q", "filesrc"]).arg(location(file)?);
    for part in parts {
        command.arg("!").args(part.split(' '));
    }
    command
        .env("GST_DEBUG_NO_COLOR", "1")
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    Ok((codec, element, command))
}

/// gst-launch reads a backslash and quotes in its words.
fn location(file: &Path) -> Result<String> {
    let path = file
        .to_str()
        .with_context(|| format!("{} is no text", file.display()))?;
    Ok(format!(
        "location=\"{}\"",
        path.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

/// Returns the codec of a file, and the elements that take it out of its container.
fn source(file: &Path) -> Result<(Codec, Vec<String>)> {
    let mut head = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(HEAD).read_to_end(&mut head))
        .with_context(|| format!("cannot read {}", file.display()))?;
    if let Some(demuxer) = demuxer(&head) {
        return demuxed(file, demuxer);
    }
    let codec = match container::codec(&head) {
        Ok(codec) => codec,
        // A codec that WebM does not have, or one behind the head.
        Err(_) if head.starts_with(&EBML) => return demuxed(file, MATROSKA),
        Err(error) => {
            let streams = of_streams(|row, _| row.title.to_owned()).join(" or ");
            let name = file.display();
            let hint = format!("ffmpeg -i {name} -map 0:v -c copy out.mkv");
            bail!("{name} is no {FILES}, {streams} stream ({error}); try: {hint}");
        }
    };
    let parts = match &head[..] {
        [b'D', b'K', b'I', b'F', ..] => vec!["ivfparse".to_owned()],
        _ if head.starts_with(&EBML) => vec![MATROSKA.to_owned()],
        _ if codec.info().stream != Stream::Obus => Vec::new(),
        // The low-overhead format begins with a temporal delimiter that has a size field.
        [0x12, 0, ..] => vec![format!(
            "{},stream-format=obu-stream",
            codec.info().gstreamer_media
        )],
        _ => bail!(
            "{} is an {} stream of the length-delimited format; put it into a container first",
            file.display(),
            codec.title()
        ),
    };
    Ok((codec, parts))
}

/// Returns GStreamer's element for a container whose codec is not told by its first bytes.
fn demuxer(head: &[u8]) -> Option<&'static str> {
    if head.get(4..8) == Some(b"ftyp") {
        return Some("qtdemux");
    }
    let is_sync = |packet: usize| head.get(packet * TS_PACKET) == Some(&TS_SYNC);
    (0..3).all(is_sync).then_some("tsdemux")
}

/// Asks GStreamer for the codec of a file's first video track that is one of ours. Returns it, and the
/// elements that take that track out.
fn demuxed(file: &Path, demuxer: &str) -> Result<(Codec, Vec<String>)> {
    let media: Vec<&str> = CODECS.iter().map(|row| row.gstreamer_media).collect();
    let output = Command::new("gst-launch-1.0")
        .args(["-v", "filesrc"])
        .arg(location(file)?)
        .args(["!", demuxer, "!"])
        .arg(media.join(";"))
        .args(["!", "fakesink", "num-buffers=1"])
        .stdin(Stdio::null())
        .output()
        .context("cannot start gst-launch-1.0: sudo apt install gstreamer1.0-tools")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let has = |row: &&CodecInfo| {
        let caps = format!("caps = {},", row.gstreamer_media);
        text.lines()
            .any(|line| line.contains("sink: ") && line.contains(&caps))
    };
    let row = CODECS.iter().find(has).with_context(|| {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let reason = errors.lines().find(|line| line.contains("ERROR"));
        let titles: Vec<&str> = CODECS.iter().map(|row| row.title).collect();
        format!(
            "{demuxer} finds no video of {} in {}: {}",
            titles.join(", "),
            file.display(),
            reason.unwrap_or("no such track")
        )
    })?;
    Ok((
        row.codec,
        vec![demuxer.to_owned(), row.gstreamer_media.to_owned()],
    ))
}

/// Names the files that can be decoded, for help.
pub(crate) fn files() -> String {
    let streams = of_streams(|row, kind| format!("{} {kind} streams", row.title));
    format!("{FILES}, {}", streams.join(", "))
}

/// Names one of the files that can be decoded, for help.
pub(crate) fn one_file() -> String {
    let streams = of_streams(|row, kind| format!("an {} {kind} stream", row.title));
    format!("{FILES}, {}", streams.join(" or "))
}

/// Names each codec whose streams need no container, by its row and the kind of stream.
fn of_streams(name: impl Fn(&CodecInfo, &str) -> String) -> Vec<String> {
    let kind = |row: &CodecInfo| match row.stream {
        Stream::StartCodes => Some("byte"),
        Stream::Obus => Some("OBU"),
        Stream::None => None,
    };
    CODECS
        .iter()
        .filter_map(|row| Some(name(row, kind(row)?)))
        .collect()
}

/// Returns the element that opens this driver's node, so that no other decoder stands in.
fn of_device(codec: Codec) -> Result<String> {
    let node = Snapshot::take(&System::this())
        .video
        .context("there is no device: `daedalus doctor` says why")?;
    let listing = inspect(&["v4l2codecs"])?;
    for name in listing.lines().filter_map(|line| line.trim().split(':').next()) {
        if name.starts_with("v4l2sl")
            && name.ends_with(&format!("{}dec", codec.info().gstreamer_name))
            && inspect(&[name])?.contains(&format!("\"{node}\""))
        {
            return Ok(name.to_owned());
        }
    }
    bail!("GStreamer has no {codec} element for {node}: `daedalus doctor` says why")
}

fn in_software(codec: Codec) -> Result<String> {
    let names = codec.info().gstreamer;
    names
        .iter()
        .find(|name| inspect(&["--exists", name]).is_ok())
        .map(|name| (*name).to_owned())
        .with_context(|| {
            format!(
                "GStreamer has none of {}: sudo apt install gstreamer1.0-libav gstreamer1.0-plugins-bad",
                names.join(", ")
            )
        })
}

fn inspect(words: &[&str]) -> Result<String> {
    let output = Command::new("gst-inspect-1.0")
        .args(words)
        .stdin(Stdio::null())
        .output()
        .context("cannot start gst-inspect-1.0: sudo apt install gstreamer1.0-tools")?;
    ensure!(output.status.success(), "GStreamer has no {}", words.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Playback {
    /// Returns the next picture as packed NV12 or P010, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(Shape, &[u8])>> {
        let shape = match self.reader.next_picture() {
            Ok(Some((shape, data))) => {
                shape.semi_planar_from_gst(data, &mut self.picture)?;
                shape
            }
            Ok(None) => {
                self.end()?;
                return Ok(None);
            }
            Err(error) => {
                self.end()?;
                return Err(error);
            }
        };
        Ok(Some((shape, &self.picture)))
    }

    fn end(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        let messages = self
            .messages
            .take()
            .and_then(|messages| messages.join().ok())
            .unwrap_or_default();
        let errors: Vec<&str> = messages.lines().filter(|line| line.contains("ERROR")).collect();
        ensure!(
            status.success() && errors.is_empty(),
            "{} failed ({status}): {}",
            self.element,
            errors.first().copied().unwrap_or(messages.trim())
        );
        Ok(())
    }
}

impl Drop for Playback {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Returns whether samples have 10 bit.
pub(crate) fn is_wide(shape: Shape) -> bool {
    matches!(shape.format, RawFormat::P010 | RawFormat::I420Le10)
}

/// Returns a line on a terminal that counts pictures.
pub(crate) fn progress(file: &Path) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("{spinner} {msg}: {pos} frames, {per_sec}")?;
    let bar = ProgressBar::new_spinner().with_style(style);
    Ok(bar.with_message(file.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_kind_of_file() {
        let (files, one_file) = (files(), one_file());
        assert!(files.starts_with(FILES) && one_file.starts_with(&format!("{FILES}, an ")));
        for row in &CODECS {
            let kind = match row.stream {
                Stream::StartCodes => "byte",
                Stream::Obus => "OBU",
                Stream::None => continue,
            };
            let name = format!("{} {kind} stream", row.title);
            assert!(files.contains(&format!("{name}s")) && one_file.contains(&format!("an {name}")));
        }
    }

    #[test]
    fn containers_are_known_by_their_first_bytes() {
        assert_eq!(demuxer(b"\0\0\0\x20ftypisom"), Some("qtdemux"));
        let mut packets = vec![0; 3 * TS_PACKET];
        assert_eq!(demuxer(&packets), None);
        for packet in packets.chunks_mut(TS_PACKET) {
            packet[0] = TS_SYNC;
        }
        assert_eq!(demuxer(&packets), Some("tsdemux"));
        assert_eq!(demuxer(&packets[..2 * TS_PACKET]), None);
        assert_eq!(demuxer(b"\0\0\0\x01"), None);
    }

    #[test]
    fn the_codec_of_a_long_file_is_known_without_reading_it() {
        let path = std::env::temp_dir().join(format!("daedalus-long-{}.ivf", std::process::id()));
        let head = [&b"DKIF\0\0\x20\0"[..], &CODECS[0].ivf[0]].concat();
        std::fs::write(&path, head).unwrap();
        // Sparse, and more than fits into memory.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let found = source(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found.unwrap(), (CODECS[0].codec, vec!["ivfparse".to_owned()]));
    }
}
