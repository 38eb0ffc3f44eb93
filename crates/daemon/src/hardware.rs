// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finds the codecs that other devices of this machine decode. The broker leaves them to those devices.
//!
//! A video node counts as a decoder if it is a memory-to-memory device whose OUTPUT queue takes a coded
//! format, either that of a stateless decoder or that of a stateful one. Encoders have raw formats there.
//! visl, the kernel's test device, is treated like any other decoder: whoever loads it wants to use it.
//!
//! A GPU decodes by VA-API. Asking it would take libva and the vendor's driver in a process that root starts.
//! Instead two names decide: that of its kernel driver and that of the VA-API driver that is installed for
//! it. The registry lists the pairs for each codec ([`CodecInfo::gpus`]). It is generous: old GPUs of a
//! driver lack some of these codecs. Players rank V4L2 and VA-API decoders alike, and GStreamer takes the
//! first by name. So a codec that is missing in the list takes the hardware away from players. A codec too
//! many leaves a player with its own software decoder, which is no slower than this one.
//!
//! [`CodecInfo::gpus`]: daedalus_uapi::codec::CodecInfo::gpus

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use daedalus_settings::hardware::Device;
use daedalus_uapi::codec::{Codec, CodecSet};
use daedalus_uapi::video::{CAP_M2M, CAP_M2M_MPLANE, QUEUE_OUTPUT, QUEUE_OUTPUT_MPLANE, VideoNode};

/// The driver of the module's own video node. That node is never opened: an open waits while a broker starts.
const OWN_DRIVER: &str = "daedalus";
const VIDEO_CLASS: &str = "sys/class/video4linux";
const RENDER_CLASS: &str = "sys/class/drm";
/// The directories in which distributions install libva's drivers, in `dri` or in `*/dri`.
const LIBRARIES: [&str; 3] = ["usr/lib", "usr/lib64", "usr/local/lib"];

/// Runs `daedalusd hardware`: writes a line for each device to `output`, or to the standard output.
///
/// # Errors
/// If the output cannot be written.
pub(crate) fn run(output: Option<&Path>) -> Result<()> {
    let mut lines: Vec<String> = detect().iter().map(Device::to_string).collect();
    // The end of the last line.
    lines.push(String::new());
    let text = lines.join("\n");
    match output {
        // The broker, another user, reads the file, so the umask must not count.
        Some(path) => fs::write(path, text)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o644)))
            .with_context(|| path.display().to_string()),
        None => std::io::stdout()
            .write_all(text.as_bytes())
            .context("standard output"),
    }
}

/// Returns the devices that decode. A node that cannot be opened or queried is logged and left out.
pub(crate) fn detect() -> Vec<Device> {
    let root = Path::new("/");
    let mut devices = video_nodes(root, query);
    devices.extend(render_nodes(root));
    devices
}

/// Returns the video nodes that decode. `query` returns the driver and the OUTPUT formats of a node.
fn video_nodes(root: &Path, query: impl Fn(&Path) -> rustix::io::Result<(String, Vec<u32>)>) -> Vec<Device> {
    let class = root.join(VIDEO_CLASS);
    let mut devices = Vec::new();
    for name in names(&class, "video") {
        if driver(&class.join(&name)).as_deref() == Some(OWN_DRIVER) {
            continue;
        }
        let node = format!("/dev/{name}");
        match query(&root.join(&node[1..])) {
            Ok((driver, formats)) => {
                let codecs = codecs(&formats);
                if !codecs.is_empty() {
                    devices.push(Device { node, driver, codecs });
                }
            }
            Err(error) => {
                tracing::warn!(node, %error, "cannot be asked what it decodes; it counts as no decoder");
            }
        }
    }
    devices
}

/// Returns the GPUs that decode by VA-API.
fn render_nodes(root: &Path) -> Vec<Device> {
    let class = root.join(RENDER_CLASS);
    names(&class, "renderD")
        .into_iter()
        .filter_map(|name| {
            let driver = driver(&class.join(&name))?;
            let node = format!("/dev/dri/{name}");
            let decodes = |codec: &Codec| {
                let mut gpus = codec.info().gpus.iter();
                gpus.any(|(kernel, va)| *kernel == driver && has_va_driver(root, va))
            };
            let codecs: CodecSet = Codec::ALL.iter().copied().filter(decodes).collect();
            let counts = !codecs.is_empty() && root.join(&node[1..]).exists();
            counts.then_some(Device { node, driver, codecs })
        })
        .collect()
}

/// Returns whether a driver of libva is installed.
fn has_va_driver(root: &Path, name: &str) -> bool {
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

/// Returns the names in a directory that start with `prefix`, sorted; none if there is no such directory.
fn names(dir: &Path, prefix: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

/// Asks a node for its driver and, if it is a memory-to-memory device, for its OUTPUT formats.
fn query(path: &Path) -> rustix::io::Result<(String, Vec<u32>)> {
    let node = VideoNode::open(path)?;
    let capability = node.capability()?;
    let queue = match capability.of_node() {
        bits if bits & CAP_M2M_MPLANE != 0 => QUEUE_OUTPUT_MPLANE,
        bits if bits & CAP_M2M != 0 => QUEUE_OUTPUT,
        _ => return Ok((capability.driver(), Vec::new())),
    };
    Ok((capability.driver(), node.formats(queue)?))
}

/// Returns the codecs of OUTPUT formats.
fn codecs(formats: &[u32]) -> CodecSet {
    let codecs = formats.iter().map(|&format| Codec::from_output_format(format));
    codecs.flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use daedalus_uapi::codec::CODECS;
    use daedalus_uapi::fourcc::{NV12, YUV420};

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

    fn lines(devices: &[Device]) -> Vec<String> {
        devices.iter().map(Device::to_string).collect()
    }

    #[test]
    fn own_nodes_are_known_by_their_driver() {
        let machine = Machine::new("own");
        machine.device(VIDEO_CLASS, "dev/video0", "rockchip-vpu");
        machine.device(VIDEO_CLASS, "dev/video1", "daedalus");
        machine.device(VIDEO_CLASS, "dev/video2", "uvcvideo");
        machine.device(VIDEO_CLASS, "dev/video3", "broken");
        // A node of another driver may have any name, and one without a driver is asked, too.
        fs::write(machine.0.join(VIDEO_CLASS).join("video0/name"), "daedalus-dec\n").unwrap();
        fs::create_dir_all(machine.0.join(VIDEO_CLASS).join("video4")).unwrap();
        let nodes = std::cell::RefCell::new(Vec::new());
        let found = video_nodes(&machine.0, |path| {
            let node = path.strip_prefix(&machine.0).unwrap().to_str().unwrap();
            nodes.borrow_mut().push(node.to_owned());
            match node {
                "dev/video3" => Err(rustix::io::Errno::ACCESS),
                "dev/video2" => Ok(("uvcvideo".into(), vec![])),
                "dev/video4" => Ok(("vicodec".into(), vec![CODECS[0].stateful_formats[0]])),
                _ => Ok((
                    "hantro-vpu".into(),
                    vec![CODECS[0].coded_format, CODECS[1].coded_format],
                )),
            }
        });
        assert_eq!(
            *nodes.borrow(),
            ["dev/video0", "dev/video2", "dev/video3", "dev/video4"]
        );
        let [first, second] = [CODECS[0].name, CODECS[1].name];
        assert_eq!(
            lines(&found),
            [
                format!("/dev/video0 hantro-vpu {first},{second}"),
                format!("/dev/video4 vicodec {first}")
            ]
        );
    }

    #[test]
    fn gpus_count_with_both_drivers() {
        const DIRECTORIES: [&str; 3] = ["usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/lib"];
        let pairs: BTreeSet<_> = CODECS.iter().flat_map(|row| row.gpus).collect();
        for (pair, directory) in pairs.into_iter().zip(DIRECTORIES.iter().cycle()) {
            let (kernel, va) = *pair;
            let codecs = Codec::ALL.iter().copied();
            let codecs: CodecSet = codecs.filter(|codec| codec.info().gpus.contains(pair)).collect();
            let va = &format!("{directory}/dri/{va}_drv_video.so");
            let machine = Machine::new("gpu");
            machine.device(RENDER_CLASS, "dev/dri/renderD128", kernel);
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
            machine.device(RENDER_CLASS, &format!("dev/dri/renderD{}", 128 + number), driver);
        }
        // A GPU whose driver is another's: its card node is no render node.
        machine.device(RENDER_CLASS, "dev/dri/card0", "i915");
        assert!(
            render_nodes(&machine.0).is_empty(),
            "{:?}",
            render_nodes(&machine.0)
        );
        // The driver on top of V4L2 is nobody's.
        let machine = Machine::new("request");
        machine.file("usr/lib/x86_64-linux-gnu/dri/v4l2_request_drv_video.so");
        machine.device(RENDER_CLASS, "dev/dri/renderD128", "i915");
        assert!(
            render_nodes(&machine.0).is_empty(),
            "{:?}",
            render_nodes(&machine.0)
        );
    }

    #[test]
    fn formats_of_both_kinds_of_decoder() {
        for row in &CODECS {
            let stateless = codecs(&[u32::MAX, row.coded_format]);
            assert_eq!(stateless, row.codec.into());
            assert!(
                row.stateful_formats
                    .iter()
                    .all(|&format| codecs(&[format]) == stateless)
            );
        }
        let all: Vec<u32> = CODECS.iter().map(|row| row.coded_format).collect();
        assert_eq!(codecs(&all), CodecSet::all());
        // An encoder takes pictures.
        assert!(codecs(&[NV12, YUV420]).is_empty());
    }
}
