// SPDX-License-Identifier: Apache-2.0 OR MIT
//! GStreamer as the client: the element for a device, and the pipeline that plays a stream.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use daedalus_common::play::Stream;
use daedalus_uapi::codec::Codec;

use crate::codec;

/// The decoder elements of a run.
#[derive(Clone, Debug)]
pub(crate) enum Decoders {
    /// The stateless elements that GStreamer registered for the device of this driver.
    Driver(String),
    /// The stateful elements that GStreamer registered for the device of this driver.
    Stateful(String),
    /// Elements named by the caller, for the runner's own test without a device: a name for each codec.
    Named(Vec<(Codec, String)>),
}

/// A decoder element, and the device behind it.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    /// Factory name.
    pub(crate) name: String,
    /// The video node that it opens; `None` for an element that has no device.
    pub(crate) device: Option<String>,
}

impl Decoders {
    /// Returns the element for a codec. For a driver it asks GStreamer for the video node that each of its
    /// stateless elements opens, and the node for its driver, so that neither a software decoder nor another
    /// device can stand in.
    ///
    /// # Errors
    ///
    /// When no element qualifies; the text names those that were found instead.
    pub(crate) fn element(&self, codec: Codec) -> Result<Element> {
        match self {
            Self::Named(list) => list
                .iter()
                .find(|(c, _)| *c == codec)
                .map(|(_, name)| Element {
                    name: name.clone(),
                    device: None,
                })
                .with_context(|| format!("no element was named for {}", codec.name())),
            Self::Driver(driver) => element_of_driver(driver, codec, &STATELESS),
            Self::Stateful(driver) => element_of_driver(driver, codec, &STATEFUL),
        }
    }
}

/// A plugin's elements for a kind of decoder.
struct Plugin {
    name: &'static str,
    /// Begins the names of its elements.
    prefix: &'static str,
    /// The property that has the video node.
    node: &'static str,
}

const STATELESS: Plugin = Plugin {
    name: "v4l2codecs",
    prefix: "v4l2sl",
    node: "video-device ",
};

const STATEFUL: Plugin = Plugin {
    name: "video4linux2",
    prefix: "v4l2",
    node: "device ",
};

fn element_of_driver(driver: &str, codec: Codec, plugin: &Plugin) -> Result<Element> {
    let listing = run("gst-inspect-1.0", &[plugin.name])?;
    let suffix = format!("{}dec", codec.info().gstreamer_name);
    let mut devices = Vec::new();
    for name in listing.lines().filter_map(|line| line.trim().split(':').next()) {
        if !(name.starts_with(plugin.prefix) && name.ends_with(&suffix)) {
            continue;
        }
        let device = video_node(name, plugin.node)?;
        let found = driver_of(&device)?;
        if found == driver {
            return Ok(Element {
                name: name.to_owned(),
                device: Some(device),
            });
        }
        devices.push(format!("{name} opens {device} of driver {found}"));
    }
    if devices.is_empty() {
        bail!(
            "GStreamer registered no {}…{suffix}: it found no such {} device",
            plugin.prefix,
            codec.name()
        );
    }
    bail!(
        "no {} element belongs to driver {driver}: {}",
        codec.name(),
        devices.join("; ")
    )
}

/// Returns the node in an element's property.
fn video_node(element: &str, property: &str) -> Result<String> {
    let text = run("gst-inspect-1.0", &[element])?;
    text.lines()
        .skip_while(|line| !line.trim_start().starts_with(property))
        .find_map(|line| line.split_once("Default: \"")?.1.split('"').next())
        .map(str::to_owned)
        .with_context(|| format!("{element} does not say which video node it opens"))
}

/// Returns the driver name that a video node reports (VIDIOC_QUERYCAP).
fn driver_of(node: &str) -> Result<String> {
    let text = run("v4l2-ctl", &["-d", node, "--info"])?;
    text.lines()
        .find_map(|line| {
            line.trim()
                .strip_prefix("Driver name")?
                .split_once(':')
                .map(|(_, name)| name.trim().to_owned())
        })
        .with_context(|| format!("v4l2-ctl does not name the driver of {node}"))
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {} failed ({}): {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns the elements that read a file, take the stream out of its container and parse it.
///
/// # Errors
///
/// When the container is not known.
pub(crate) fn source(codec: Codec, file: &Path) -> Result<Vec<String>> {
    let container = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let row = codec::row(codec);
    let source = (row.gst_source)(file, container)?
        .with_context(|| format!("no demuxer is known for {codec} in .{container}"))?;
    let mut read = format!("filesrc location={}", file.display());
    if let Some(blocksize) = source.blocksize {
        read += &format!(" blocksize={blocksize}");
    }
    let mut parts = vec![read];
    parts.extend(source.elements.iter().copied().map(String::from));
    parts.push(row.gst_parser.into());
    Ok(parts)
}

/// Returns the pipeline that plays a stream and writes its raw pictures as GDP to standard output.
///
/// `gdppay` accepts no `GstVideoMeta`, so the decoder hands over pictures in GStreamer's default layout: it
/// copies them row by row from the CAPTURE buffer where the strides differ, and passes the buffer itself
/// where they do not. For a stream that is to be converted it hands over the CAPTURE buffer with its
/// `GstVideoMeta` in any case.
///
/// # Errors
///
/// When the container is not known.
pub(crate) fn pipeline(stream: &Stream, file: &Path, element: &Element) -> Result<Vec<String>> {
    let mut parts = source(stream.codec, file)?;
    parts.push(element.name.clone());
    if let Some(format) = &stream.format {
        parts.push(format!("video/x-raw,format={format}"));
    }
    if stream.converted {
        // Only the order of the samples changes, and their place in the word.
        parts.push("videoconvert dither=none".into());
        let wide = stream.format.as_deref() == Some("P010_10LE");
        parts.push(format!(
            "video/x-raw,format={}",
            if wide { "I420_10LE" } else { "I420" }
        ));
    }
    parts.push("gdppay".into());
    parts.push("fdsink fd=1 sync=false".into());
    Ok(parts.join(" ! ").split(' ').map(str::to_owned).collect())
}

/// Returns the command that plays a pipeline: errors go to standard error as text, standard output carries
/// data only.
pub(crate) fn command(pipeline: &[String]) -> Command {
    let mut command = Command::new("gst-launch-1.0");
    command
        .arg("-q")
        .args(pipeline)
        .env("GST_DEBUG_NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if std::env::var_os("GST_DEBUG").is_none() {
        command.env("GST_DEBUG", "2");
    }
    command
}

/// Returns whether the client's log says that it crashed: gst-launch catches the signal and waits for a
/// debugger.
pub(crate) fn crashed(log: &str) -> bool {
    log.lines()
        .any(|line| line.starts_with("Caught SIG") && !line.starts_with("Caught SIGINT"))
}

/// Returns the error messages in the client's log with their details; `None` if there are none.
pub(crate) fn errors_in(log: &str) -> Option<String> {
    let mut errors = Vec::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(text) = line
            .strip_prefix("ERROR: ")
            .or_else(|| line.strip_prefix("WARNING: erroneous"))
        {
            errors.push(text.trim().to_owned());
            if lines
                .next_if(|next| next.starts_with("Additional debug info"))
                .is_some()
            {
                if let Some(detail) = lines.next() {
                    errors.push(detail.trim().to_owned());
                }
            }
        }
    }
    (!errors.is_empty()).then(|| errors.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_text_keeps_its_details() {
        let log = "0:00 1 WARN x\nERROR: from element /p/d: Failed.\n\
                   Additional debug info:\n../d.c(1): f ():\nfoo\n";
        assert_eq!(
            errors_in(log).as_deref(),
            Some("from element /p/d: Failed. | ../d.c(1): f ():")
        );
        assert_eq!(errors_in("0:00 1 WARN x\n"), None);
    }
}
