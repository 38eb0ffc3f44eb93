// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which codecs other devices of this machine decode: they are left to those.
//!
//! A video node decodes a codec if it is a memory-to-memory device whose OUTPUT queue takes it, as a
//! stateless or as a stateful decoder's does. Encoders have raw pictures there. visl, the kernel's own test
//! device, is treated like any other decoder: whoever loads it wants it to be used.
//!
//! A GPU decodes by VA-API. Asking it would need libva and the vendor's driver in a process that root starts.
//! So a GPU counts by two names: its kernel driver, and the VA-API driver that is installed for it
//! ([`GPUS`]). The table has codecs that old GPUs of a driver lack. Players rank decoders of V4L2 and of
//! VA-API alike, and GStreamer takes the first by name, so a codec that is missing here takes the hardware
//! away from players. A codec too many leaves a player with its own software decoder, which is no slower than
//! this one.

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

/// The driver of the module's own video node. It is never opened: an open waits while a broker starts.
const OWN: &str = "daedalus";
const NODES: &str = "sys/class/video4linux";
const RENDER_NODES: &str = "sys/class/drm";
/// Where distributions have libva's drivers: in `dri` below these, or below their subdirectories.
const LIBRARIES: [&str; 3] = ["usr/lib", "usr/lib64", "usr/local/lib"];

/// The kernel drivers of GPUs that decode, the VA-API drivers for them, and what these decode together.
///
/// - Intel: H.264 since 2010. VP9 since Kaby Lake; AV1 since Tiger Lake, which i965 does not know.
/// - AMD: H.264 in each UVD and VCN. VP9 since Raven, AV1 since RDNA 2; both have amdgpu, never radeon.
/// - nouveau is left out: it decodes only with firmware that distributions may not ship. virtio-gpu is left out:
///   its host decides what it decodes. Drivers without hardware (vgem, vkms, simpledrm) are left out.
/// - The VA-API driver on top of V4L2 (v4l2_request) is left out: this device may be what is below it.
const GPUS: [(&str, &str, u32); 6] = [
    ("i915", "iHD", CODEC_H264 | CODEC_VP9 | CODEC_AV1),
    ("i915", "i965", CODEC_H264 | CODEC_VP9),
    ("xe", "iHD", CODEC_H264 | CODEC_VP9 | CODEC_AV1),
    ("amdgpu", "radeonsi", CODEC_H264 | CODEC_VP9 | CODEC_AV1),
    ("radeon", "radeonsi", CODEC_H264),
    ("radeon", "r600", CODEC_H264),
];

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

/// Asks all video nodes, and looks at all GPUs. A node that cannot be asked is reported and counts as none.
pub(crate) fn look() -> Vec<Decoder> {
    let root = Path::new("/");
    let mut decoders = video_nodes(root, formats);
    decoders.extend(render_nodes(root));
    decoders
}

/// Finds the video nodes that decode; `ask` tells the driver and the OUTPUT formats of one.
fn video_nodes(root: &Path, ask: impl Fn(&Path) -> rustix::io::Result<(String, Vec<u32>)>) -> Vec<Decoder> {
    let class = root.join(NODES);
    let mut found = Vec::new();
    for name in names(&class, "video") {
        if driver(&class.join(&name)).as_deref() == Some(OWN) {
            continue;
        }
        let node = format!("/dev/{name}");
        match ask(&root.join(&node[1..])) {
            Ok((driver, formats)) => {
                let codecs = codecs(&formats);
                if codecs != 0 {
                    found.push(Decoder { node, driver, codecs });
                }
            }
            Err(error) => {
                tracing::warn!(node, %error, "cannot be asked what it decodes; it counts as no decoder");
            }
        }
    }
    found
}

/// Finds the GPUs that decode by VA-API: those with a driver in the kernel and one for libva.
fn render_nodes(root: &Path) -> Vec<Decoder> {
    let class = root.join(RENDER_NODES);
    names(&class, "renderD")
        .into_iter()
        .filter_map(|name| {
            let driver = driver(&class.join(&name))?;
            let node = format!("/dev/dri/{name}");
            let codecs = GPUS
                .iter()
                .filter(|(kernel, va, _)| *kernel == driver && va_driver(root, va))
                .fold(0, |set, (_, _, codecs)| set | codecs);
            let decodes = codecs != 0 && root.join(&node[1..]).exists();
            decodes.then_some(Decoder { node, driver, codecs })
        })
        .collect()
}

/// Tells whether a driver of libva is installed.
fn va_driver(root: &Path, name: &str) -> bool {
    let file = format!("dri/{name}_drv_video.so");
    LIBRARIES.iter().map(|dir| root.join(dir)).any(|dir| {
        dir.join(&file).exists()
            || names(&dir, "")
                .into_iter()
                .any(|architecture| dir.join(architecture).join(&file).exists())
    })
}

/// Returns the kernel driver of a device of a class.
fn driver(device: &Path) -> Option<String> {
    let link = fs::read_link(device.join("device/driver")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

/// Returns the names in a directory that begin so, sorted; none if it is not there.
fn names(dir: &Path, start: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(start))
        .collect();
    names.sort();
    names
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

    /// A machine in a directory, which goes with it.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("daedalus-hardware-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn file(&self, path: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }

        /// A device of a class, its driver, and its node.
        fn device(&self, class: &str, node: &str, driver: &str) {
            let name = node.rsplit('/').next().unwrap();
            let dir = self.0.join(class).join(name).join("device");
            fs::create_dir_all(&dir).unwrap();
            std::os::unix::fs::symlink(format!("../../../bus/x/drivers/{driver}"), dir.join("driver"))
                .unwrap();
            self.file(node);
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn lines(decoders: &[Decoder]) -> Vec<String> {
        decoders
            .iter()
            .map(|decoder| decoder.line().trim_end().to_owned())
            .collect()
    }

    #[test]
    fn own_nodes_are_known_by_their_driver() {
        let machine = Machine::new("own");
        machine.device(NODES, "dev/video0", "rockchip-vpu");
        machine.device(NODES, "dev/video1", "daedalus");
        machine.device(NODES, "dev/video2", "uvcvideo");
        machine.device(NODES, "dev/video3", "broken");
        // A node of another driver may have any name, and one without a driver is asked, too.
        fs::write(machine.0.join(NODES).join("video0/name"), "daedalus-dec\n").unwrap();
        fs::create_dir_all(machine.0.join(NODES).join("video4")).unwrap();
        let asked = std::cell::RefCell::new(Vec::new());
        let found = video_nodes(&machine.0, |path| {
            let node = path.strip_prefix(&machine.0).unwrap().to_str().unwrap();
            asked.borrow_mut().push(node.to_owned());
            match node {
                "dev/video3" => Err(rustix::io::Errno::ACCESS),
                "dev/video2" => Ok(("uvcvideo".into(), vec![])),
                "dev/video4" => Ok(("vicodec".into(), vec![fourcc(*b"H264")])),
                _ => Ok(("hantro-vpu".into(), vec![H264_SLICE, VP9_FRAME])),
            }
        });
        assert_eq!(
            *asked.borrow(),
            ["dev/video0", "dev/video2", "dev/video3", "dev/video4"]
        );
        assert_eq!(
            lines(&found),
            ["/dev/video0 hantro-vpu h264,vp9", "/dev/video4 vicodec h264"]
        );
    }

    #[test]
    fn gpus_count_with_both_drivers() {
        const IHD: &str = "usr/lib/x86_64-linux-gnu/dri/iHD_drv_video.so";
        let gpus = [
            ("i915", IHD, "h264,vp9,av1"),
            ("i915", "usr/lib64/dri/i965_drv_video.so", "h264,vp9"),
            ("xe", IHD, "h264,vp9,av1"),
            ("amdgpu", "usr/lib/dri/radeonsi_drv_video.so", "h264,vp9,av1"),
            ("radeon", "usr/lib/x86_64-linux-gnu/dri/r600_drv_video.so", "h264"),
        ];
        for (kernel, va, codecs) in gpus {
            let machine = Machine::new("gpu");
            machine.device(RENDER_NODES, "dev/dri/renderD128", kernel);
            assert!(
                render_nodes(&machine.0).is_empty(),
                "{kernel} without a driver of libva"
            );
            machine.file(va);
            let line = format!("/dev/dri/renderD128 {kernel} {codecs}");
            assert_eq!(lines(&render_nodes(&machine.0)), [line]);
            fs::remove_file(machine.0.join("dev/dri/renderD128")).unwrap();
            assert!(render_nodes(&machine.0).is_empty(), "{kernel} without a node");
        }
    }

    #[test]
    fn what_never_counts_as_a_gpu() {
        let machine = Machine::new("never");
        for va in [
            "iHD",
            "i965",
            "radeonsi",
            "r600",
            "nouveau",
            "virtio_gpu",
            "v4l2_request",
        ] {
            machine.file(&format!("usr/lib/x86_64-linux-gnu/dri/{va}_drv_video.so"));
        }
        let drivers = [
            "vgem",
            "vkms",
            "simpledrm",
            "nouveau",
            "virtio_gpu",
            "v3d",
            "daedalus",
        ];
        for (number, driver) in drivers.iter().enumerate() {
            machine.device(RENDER_NODES, &format!("dev/dri/renderD{}", 128 + number), driver);
        }
        // A GPU whose driver is another's: its card node is no render node.
        machine.device(RENDER_NODES, "dev/dri/card0", "i915");
        assert!(
            render_nodes(&machine.0).is_empty(),
            "{:?}",
            render_nodes(&machine.0)
        );
        // The driver on top of V4L2 is nobody's.
        let machine = Machine::new("request");
        machine.file("usr/lib/x86_64-linux-gnu/dri/v4l2_request_drv_video.so");
        machine.device(RENDER_NODES, "dev/dri/renderD128", "i915");
        assert!(
            render_nodes(&machine.0).is_empty(),
            "{:?}",
            render_nodes(&machine.0)
        );
    }

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
