// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks the kernel's version and configuration, and the module.

use std::io::Read;

use super::check::{Check, Status};
use crate::device::MODULE;
use crate::system::System;

/// The options that dkms.conf needs. Without one of them the kernel lacks symbols that the module uses.
const NEEDED: [&str; 3] = ["VIDEO_DEV", "MEDIA_CONTROLLER", "VIDEOBUF2_V4L2"];
/// The kernels that dkms.conf names: major and minor number of the first and of the last.
const VERSIONS: [(u32, u32); 2] = [(6, 12), (7, 3)];

/// The EFI variable of Secure Boot: four bytes of attributes, then 1 if it is on.
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// The keys that the owner of the machine enrolled, as certificates one after the other.
const ENROLLED: &str = "/sys/firmware/efi/efivars/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23";
/// Where DKMS keeps what it knows of the module.
const DKMS: &str = "/var/lib/dkms/daedalus-v4l2";
/// The certificate of the key that DKMS signs with.
const DKMS_KEY: &str = "/var/lib/dkms/mok.pub";

pub(super) fn check(system: &System) -> Vec<Check> {
    let release = system.release();
    let kernel = kernel(system, &release);
    // If the kernel is unfit, it is no second fault that it has no module.
    let unfit = kernel.status == Status::Bad;
    let mut checks = vec![kernel];
    if !unfit || system.exists(MODULE) {
        checks.push(module(system, &release));
    }
    checks
}

fn kernel(system: &System, release: &str) -> Check {
    // A loaded module was built for this kernel, whatever dkms.conf says.
    if let Some(version) = version(release).filter(|_| !system.exists(MODULE)) {
        let [first, last] = VERSIONS;
        if version < first || version > last {
            return Check::bad(
                "kernel",
                format!(
                    "{release}: the module is for Linux {}.{} to {}.{}",
                    first.0, first.1, last.0, last.1
                ),
                another(release),
            );
        }
    }
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
        another(release),
    )
}

/// Returns major and minor number of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|end: char| !end.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Returns whether this is the kernel of the Windows Subsystem for Linux, which no distribution packages.
fn of_windows(release: &str) -> bool {
    release.to_ascii_lowercase().contains("microsoft")
}

/// Returns the command that installs a kernel for which the module can be built.
fn another(release: &str) -> String {
    if of_windows(release) {
        return "build a kernel from 6.12 on from https://github.com/microsoft/WSL2-Linux-Kernel and name it \
                in .wslconfig, then build the module against it: `make -C kernel KDIR=…`"
            .to_owned();
    }
    if release.ends_with("-kvm") {
        return "sudo apt install linux-image-generic linux-headers-generic, and boot that kernel: the kvm \
                flavour has no video core"
            .to_owned();
    }
    let architecture = match release.rsplit('-').next() {
        Some(name @ ("amd64" | "arm64")) => name,
        _ if cfg!(target_arch = "aarch64") => "arm64",
        _ => "amd64",
    };
    let install = format!("sudo apt install linux-image-{architecture} linux-headers-{architecture}");
    if release.contains("-cloud-") {
        format!(
            "{install}, and boot that kernel in place of linux-image-cloud-{architecture}'s: cloud kernels \
             have no video core"
        )
    } else {
        format!(
            "{install}, and boot that kernel; Debian 12 has one in bookworm-backports (-t bookworm-backports)"
        )
    }
}

/// Returns the file that has the running kernel's configuration, and its text.
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
    let built = built(system, &format!("/lib/modules/{release}"), 4);
    if system.exists(MODULE) {
        // A module that DKMS does not know was loaded by hand, from anywhere.
        return if built || !system.exists(DKMS) {
            Check::good("module", "daedalus_v4l2 is loaded")
        } else {
            Check::note(
                "module",
                format!(
                    "daedalus_v4l2 is loaded, but not built for {release}: after the next boot there is \
                     none; sudo apt install linux-headers-{release} && sudo dkms autoinstall"
                ),
            )
        };
    }
    if built {
        return not_loaded(system);
    }
    let found = format!("daedalus_v4l2 is not loaded, and not built for {release}");
    if of_windows(release) {
        return Check::bad("module", found, another(release));
    }
    Check::bad(
        "module",
        found,
        "sudo apt install daedalus-v4l2-dkms linux-headers-$(uname -r) && sudo modprobe daedalus_v4l2",
    )
}

/// Returns the check of a module that was built and is not loaded. A kernel that requires signatures may have
/// refused it.
fn not_loaded(system: &System) -> Check {
    let Some(who) = asks_for_signatures(system).filter(|_| !enrolled(system)) else {
        return Check::bad(
            "module",
            "daedalus_v4l2 is not loaded",
            "sudo modprobe daedalus_v4l2",
        );
    };
    Check::bad(
        "module",
        format!("daedalus_v4l2 is not loaded, and this kernel loads only modules whose key it knows ({who})"),
        format!(
            "sudo modprobe daedalus_v4l2; if it says \"Key was rejected by service\" or \"Operation not \
             permitted\": sudo mokutil --import {DKMS_KEY}, reboot, and choose \"Enroll MOK\""
        ),
    )
}

/// Returns what makes this kernel refuse unsigned modules, if it does.
fn asks_for_signatures(system: &System) -> Option<&'static str> {
    if system
        .text("/sys/module/module/parameters/sig_enforce")
        .is_ok_and(|text| text.trim() == "Y")
    {
        return Some("module.sig_enforce");
    }
    // Without securityfs, as in a container, the firmware alone can be asked.
    match system.text("/sys/kernel/security/lockdown") {
        Ok(levels) => (!levels.contains("[none]")).then_some("kernel lockdown"),
        Err(_) => {
            let variable = system.bytes(SECURE_BOOT).ok()?;
            (variable.get(4) == Some(&1)).then_some("Secure Boot")
        }
    }
}

/// Returns whether the kernel knows the key that DKMS signs with.
fn enrolled(system: &System) -> bool {
    let (Ok(key), Ok(keys)) = (system.bytes(DKMS_KEY), system.bytes(ENROLLED)) else {
        return false;
    };
    !key.is_empty() && keys.windows(key.len()).any(|part| part == key)
}

/// Returns whether the module's file is in a directory or at most `depth` directories below it.
fn built(system: &System, dir: &str, depth: u32) -> bool {
    system.names(dir).into_iter().any(|name| {
        name.starts_with("daedalus_v4l2.ko")
            || (depth > 0 && !["kernel", "build", "source"].contains(&name.as_str()) && {
                let path = format!("{dir}/{name}");
                system.path(&path).is_dir() && built(system, &path, depth - 1)
            })
    })
}
