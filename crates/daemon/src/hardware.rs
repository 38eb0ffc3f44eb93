// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which codecs other devices of this machine decode: they are left to those.
//!
//! A device decodes a codec if it is a memory-to-memory device whose OUTPUT queue takes it, as a stateless or as a
//! stateful decoder's does. Encoders have raw pictures there. Of visl, the kernel's own test device, it is believed
//! like of any other: whoever loads it wants it to be used.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use daedalus_uapi::fourcc::{AV1_FRAME, H264_SLICE, VP9_FRAME, fourcc};
use daedalus_uapi::protocol::{CODEC_AV1, CODEC_H264, CODEC_VP9};
use daedalus_uapi::video::{CAP_M2M, CAP_M2M_MPLANE, QUEUE_OUTPUT, QUEUE_OUTPUT_MPLANE, VideoNode};

use crate::cli::Codec;

/// The name of the module's own video node. It is never opened: while a broker starts, an open waits for it.
const OWN: &str = "daedalus-dec";
const NODES: &str = "/sys/class/video4linux";

/// Formats of OUTPUT queues and the codecs that they mean: those of stateless decoders, then of stateful ones.
const FORMATS: [(u32, u32); 7] = [
    (H264_SLICE, CODEC_H264),
    (VP9_FRAME, CODEC_VP9),
    (AV1_FRAME, CODEC_AV1),
    (fourcc(*b"H264"), CODEC_H264),
    (fourcc(*b"AVC1"), CODEC_H264),
    (fourcc(*b"VP90"), CODEC_VP9),
    (fourcc(*b"AV01"), CODEC_AV1),
];

#[derive(Debug, Args)]
pub(crate) struct HardwareOptions {
    /// Write to this file, which `daedalusd broker --hardware` reads, instead of to the standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A decoder that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decoder {
    node: String,
    driver: String,
    /// `CODEC_*` bits.
    codecs: u32,
}

/// `daedalusd hardware`: a line for each decoder.
///
/// # Errors
/// If the output cannot be written.
pub(crate) fn run(options: &HardwareOptions) -> Result<()> {
    let text: String = look().iter().map(Decoder::line).collect();
    match &options.output {
        // Whatever the umask: the broker is another user.
        Some(path) => fs::write(path, text)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o644)))
            .with_context(|| path.display().to_string()),
        None => std::io::stdout()
            .write_all(text.as_bytes())
            .context("standard output"),
    }
}

/// Asks all video nodes. One that cannot be asked is reported and counts as none.
pub(crate) fn look() -> Vec<Decoder> {
    let mut nodes: Vec<String> = fs::read_dir(NODES)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("video"))
        .collect();
    nodes.sort();
    nodes.iter().filter_map(|name| ask(name)).collect()
}

fn ask(name: &str) -> Option<Decoder> {
    let called = fs::read_to_string(format!("{NODES}/{name}/name")).ok()?;
    if called.trim() == OWN {
        return None;
    }
    let node = format!("/dev/{name}");
    match formats(Path::new(&node)) {
        Ok((driver, formats)) => {
            let codecs = codecs(&formats);
            (codecs != 0).then_some(Decoder { node, driver, codecs })
        }
        Err(error) => {
            tracing::warn!(node, %error, "cannot be asked what it decodes; it counts as no decoder");
            None
        }
    }
}

/// The node's driver, and its OUTPUT formats if it is a memory-to-memory device.
fn formats(path: &Path) -> rustix::io::Result<(String, Vec<u32>)> {
    let node = VideoNode::open(path)?;
    let capability = node.capability()?;
    let queue = match capability.of_node() {
        can if can & CAP_M2M_MPLANE != 0 => QUEUE_OUTPUT_MPLANE,
        can if can & CAP_M2M != 0 => QUEUE_OUTPUT,
        _ => return Ok((capability.driver(), Vec::new())),
    };
    Ok((capability.driver(), node.formats(queue)?))
}

fn codecs(formats: &[u32]) -> u32 {
    FORMATS
        .iter()
        .filter(|(format, _)| formats.contains(format))
        .fold(0, |set, (_, codec)| set | codec)
}

/// What an earlier [`run`] wrote.
///
/// # Errors
/// If the file cannot be read, or is some other file.
pub(crate) fn read(path: &Path) -> Result<Vec<Decoder>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines()
        .map(Decoder::parse)
        .collect::<Result<_>>()
        .with_context(|| format!("{}: not written by 'daedalusd hardware'", path.display()))
}

/// The codecs of all of them, and for each codec who decodes it.
pub(crate) fn union(decoders: &[Decoder]) -> (u32, String) {
    let mut by_codec = BTreeMap::new();
    for decoder in decoders {
        for codec in Codec::value_variants() {
            if decoder.codecs & codec.bit() != 0 {
                by_codec.entry(codec.bit()).or_insert_with(|| {
                    format!(
                        "{} by {} ({})",
                        Codec::names(codec.bit()),
                        decoder.node,
                        decoder.driver
                    )
                });
            }
        }
    }
    let set = by_codec.keys().fold(0, |set, bit| set | bit);
    (set, by_codec.into_values().collect::<Vec<_>>().join(", "))
}

impl Decoder {
    fn line(&self) -> String {
        format!("{} {} {}\n", self.node, self.driver, Codec::names(self.codecs))
    }

    fn parse(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [node, driver, codecs] = words[..] else {
            bail!("'{line}' is not NODE DRIVER CODECS");
        };
        let mut set = 0;
        for name in codecs.split(',') {
            match Codec::from_str(name, false) {
                Ok(codec) => set |= codec.bit(),
                Err(_) => bail!("'{name}' is no codec"),
            }
        }
        Ok(Self {
            node: node.to_owned(),
            driver: driver.to_owned(),
            codecs: set,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_both_kinds_of_decoder() {
        assert_eq!(codecs(&[fourcc(*b"S265"), H264_SLICE]), CODEC_H264);
        assert_eq!(
            codecs(&[fourcc(*b"VP90"), fourcc(*b"AV01"), VP9_FRAME]),
            CODEC_VP9 | CODEC_AV1
        );
        // An encoder takes pictures.
        assert_eq!(codecs(&[fourcc(*b"NV12"), fourcc(*b"YU12")]), 0);
    }

    #[test]
    fn what_is_written_is_read() {
        let decoders = vec![
            Decoder {
                node: "/dev/video10".into(),
                driver: "bcm2835-codec".into(),
                codecs: CODEC_H264,
            },
            Decoder {
                node: "/dev/video11".into(),
                driver: "visl".into(),
                codecs: CODEC_H264 | CODEC_VP9,
            },
        ];
        let text: String = decoders.iter().map(Decoder::line).collect();
        assert_eq!(
            text,
            "/dev/video10 bcm2835-codec h264\n/dev/video11 visl h264,vp9\n"
        );
        let again: Vec<Decoder> = text.lines().map(|line| Decoder::parse(line).unwrap()).collect();
        assert_eq!(again, decoders);
        let (set, who) = union(&decoders);
        assert_eq!(set, CODEC_H264 | CODEC_VP9);
        assert_eq!(
            who,
            "h264 by /dev/video10 (bcm2835-codec), vp9 by /dev/video11 (visl)"
        );
        assert_eq!(union(&[]), (0, String::new()));
        for line in ["", "/dev/video0 visl", "/dev/video0 visl h263", "a b c d"] {
            assert!(Decoder::parse(line).is_err(), "{line}");
        }
    }
}
