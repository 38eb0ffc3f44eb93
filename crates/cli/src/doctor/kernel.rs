// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's configuration, and the module.

use std::io::Read;

use super::Check;
use crate::device::MODULE;
use crate::system::System;

/// What the module is linked against. Up to 6.x, MEDIA_CONTROLLER_REQUEST_API too, which drivers select; it has no symbol
/// of its own in 7.2.
const NEEDED: [&str; 5] = [
    "VIDEO_DEV",
    "MEDIA_CONTROLLER",
    "V4L2_MEM2MEM_DEV",
    "VIDEOBUF2_DMA_CONTIG",
    "DMA_SHARED_BUFFER",
];

pub(super) fn check(system: &System) -> Vec<Check> {
    let release = system.release();
    let kernel = kernel(system, &release);
    // A module for a kernel that cannot take it is no second fault.
    let unfit = kernel.verdict == super::Verdict::Bad;
    let mut checks = vec![kernel];
    if !unfit || system.exists(MODULE) {
        checks.push(module(system, &release));
    }
    checks
}

fn kernel(system: &System, release: &str) -> Check {
    let Some((place, config)) = configuration(system, release) else {
        return Check::note(
            "kernel",
            format!("{release}: its configuration is neither in /proc/config.gz nor in /boot"),
        );
    };
    let missing: Vec<String> = NEEDED
        .iter()
        .map(|name| format!("CONFIG_{name}"))
        .filter(|name| {
            !config.lines().any(|line| {
                line.strip_prefix(name.as_str())
                    .is_some_and(|rest| rest == "=y" || rest == "=m")
            })
        })
        .collect();
    if missing.is_empty() {
        return Check::good(
            "kernel",
            format!("{release} has all that the module needs ({place})"),
        );
    }
    Check::bad(
        "kernel",
        format!("{release} has no {} ({place})", missing.join(", ")),
        "boot a kernel that has them: on arm64 `sudo apt install linux-image-arm64` and reboot; Debian's amd64 kernels \
         have no mem2mem: in a kernel source, `scripts/config -e V4L_TEST_DRIVERS -m VIDEO_VISL -m VIDEO_VIVID`, build and \
         `sudo apt install linux-image-….deb`; or run clients in the guest: `./dev guest -- CMD`",
    )
}

/// The running kernel's configuration, and where it was.
fn configuration(system: &System, release: &str) -> Option<(String, String)> {
    if let Ok(packed) = system.bytes("/proc/config.gz") {
        let mut text = String::new();
        if flate2::read::GzDecoder::new(&packed[..])
            .read_to_string(&mut text)
            .is_ok()
        {
            return Some(("/proc/config.gz".to_owned(), text));
        }
    }
    [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
    ]
    .into_iter()
    .find_map(|place| system.text(&place).ok().map(|text| (place, text)))
}

fn module(system: &System, release: &str) -> Check {
    if system.exists(MODULE) {
        return Check::good("module", "daedalus_v4l2 is loaded");
    }
    if built(system, &format!("/lib/modules/{release}"), 4) {
        return Check::bad(
            "module",
            "daedalus_v4l2 is not loaded",
            "sudo modprobe daedalus_v4l2",
        );
    }
    Check::bad(
        "module",
        format!("daedalus_v4l2 is not loaded, and not built for {release}"),
        "sudo apt install daedalus-v4l2-dkms linux-headers-$(uname -r) && sudo modprobe daedalus_v4l2",
    )
}

/// Whether the module's file is under a directory.
fn built(system: &System, dir: &str, depth: u32) -> bool {
    system.names(dir).into_iter().any(|name| {
        name.starts_with("daedalus_v4l2.ko")
            || (depth > 0 && !["kernel", "build", "source"].contains(&name.as_str()) && {
                let path = format!("{dir}/{name}");
                system.path(&path).is_dir() && built(system, &path, depth - 1)
            })
    })
}
