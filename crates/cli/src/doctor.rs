// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `daedalus doctor`: finds what keeps clients from decoding, and prints the command that repairs it.

mod check;
mod clients;
mod kernel;
mod nodes;
mod software;

use std::io::Write;

use anyhow::Result;

use crate::system::System;
use check::{Check, Status};
use software::LIBRARIES;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whether this user may open the nodes; the one who runs it (or who ran sudo) if absent
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Runs all checks and prints them. Returns false if one has failed.
pub(crate) fn run(args: &Args) -> Result<bool> {
    let system = System::this();
    let user = args
        .user
        .clone()
        .or_else(|| std::env::var("SUDO_USER").ok())
        .or_else(|| nodes::own_name(&system))
        .unwrap_or_else(|| "root".to_owned());
    let mut checks = examine(&system, &user);
    // The daemon cannot start without its libraries, which would report a missing one again.
    if checks
        .iter()
        .all(|check| check.status != Status::Bad || !LIBRARIES.contains(&check.name))
    {
        checks.extend(software::starts(&system));
    }
    checks.extend(clients::check(&system));
    let failed = checks.iter().filter(|check| check.status == Status::Bad).count();
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &checks)?;
        writeln!(out)?;
    } else {
        for check in &checks {
            write!(out, "{check}")?;
        }
        if failed == 0 {
            writeln!(out, "nothing is wrong")?;
        } else {
            writeln!(
                out,
                "{failed} of {} checks failed; mend the first one first",
                checks.len()
            )?;
        }
    }
    Ok(failed == 0)
}

/// Makes the checks that read the file system only, from the kernel upwards: the first failure is often the
/// cause of the others.
fn examine(system: &System, user: &str) -> Vec<Check> {
    let mut checks = kernel::check(system);
    checks.extend(software::check(system));
    checks.extend(nodes::check(system, user));
    checks
}

#[cfg(test)]
mod tests {
    use daedalus_uapi::codec::{Codec, CodecSet};

    use super::*;
    use crate::device::tests::{SESSIONS, STATS};
    use crate::system::tests::Machine;

    const CONFIG: &str = "CONFIG_VIDEO_DEV=m\nCONFIG_MEDIA_CONTROLLER=y\nCONFIG_VIDEOBUF2_V4L2=m\n";

    /// A machine on which everything is right for the user "viewer".
    fn healthy(name: &str) -> Machine {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        let platform = "/sys/bus/platform/drivers/daedalus/daedalus.0";
        let machine = Machine::new(
            name,
            &[
                ("/proc/sys/kernel/osrelease", "6.12.1\n"),
                ("/boot/config-6.12.1", CONFIG),
                ("/lib/modules/6.12.1/updates/dkms/daedalus_v4l2.ko.xz", ""),
                ("/sys/module/daedalus_v4l2/parameters/watchdog_ms", "900\n"),
                (&format!("{platform}/video4linux/video5/name"), "daedalus-dec\n"),
                (&format!("{platform}/media3/model"), "daedalus\n"),
                ("/sys/kernel/debug/daedalus/stats", STATS),
                ("/sys/kernel/debug/daedalus/sessions", SESSIONS),
                (
                    "/usr/bin/daedalusd",
                    "\x7fELF\0libavcodec.so.61\0libdav1d.so.7\0libc.so.6\0",
                ),
                ("/usr/lib/x86_64-linux-gnu/libavcodec.so.61", ""),
                ("/usr/lib/x86_64-linux-gnu/libdav1d.so.7", ""),
                ("/dev/daedalus-v4l2", ""),
                ("/dev/video5", ""),
                ("/dev/media3", ""),
                (
                    "/etc/passwd",
                    "root:x:0:0::/:/bin/sh\nviewer:x:4242:4242::/:/bin/sh\n",
                ),
            ],
        );
        for node in ["/dev/video5", "/dev/media3"] {
            let path = machine.system.path(node);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).unwrap();
        }
        let gid = std::fs::metadata(machine.system.path("/dev/video5"))
            .unwrap()
            .gid();
        let groups = format!("other:x:65533:\nvideo:x:{gid}:somebody,viewer\n");
        machine.put("/etc/group", groups.as_bytes());
        machine
    }

    fn failures(machine: &Machine) -> Vec<(&'static str, String, String)> {
        examine(&machine.system, "viewer")
            .into_iter()
            .filter(|check| check.status == Status::Bad)
            .map(|check| (check.name, check.found, check.fix.unwrap()))
            .collect()
    }

    fn only(machine: &Machine, name: &str, found: &str, mend: &str) {
        let failures = failures(machine);
        let [(failed, why, command)] = &failures[..] else {
            panic!("{failures:?}")
        };
        assert_eq!(*failed, name);
        assert!(why.contains(found), "{why}");
        assert!(command.contains(mend), "{command}");
    }

    #[test]
    fn a_healthy_machine_has_no_failure() {
        let machine = healthy("doctor-good");
        assert!(failures(&machine).is_empty(), "{:?}", failures(&machine));
    }

    #[test]
    fn no_module() {
        let machine = healthy("doctor-module");
        for gone in ["/sys/module", "/sys/kernel", "/sys/bus", "/dev"] {
            machine.remove(gone);
        }
        only(&machine, "module", "not loaded", "sudo modprobe daedalus_v4l2");
        machine.remove("/lib/modules");
        only(&machine, "module", "not built", "apt install daedalus-v4l2-dkms");
    }

    #[test]
    fn a_module_that_was_upgraded_away() {
        let machine = healthy("doctor-upgraded");
        machine.remove("/lib/modules");
        let module = |machine: &Machine| {
            let mut checks = examine(&machine.system, "viewer").into_iter();
            checks.find(|check| check.name == "module").unwrap()
        };
        // It was loaded by hand.
        assert_eq!(module(&machine).status, Status::Good);
        machine.put("/var/lib/dkms/daedalus-v4l2/0.1.0/source/dkms.conf", b"");
        let check = module(&machine);
        assert_eq!(check.status, Status::Note);
        assert!(
            check
                .found
                .contains("linux-headers-6.12.1 && sudo dkms autoinstall"),
            "{check:?}"
        );
        assert!(failures(&machine).is_empty(), "clients go on");
    }

    #[test]
    fn no_daemon() {
        let machine = healthy("doctor-daemon");
        machine.put(
            "/sys/kernel/debug/daedalus/stats",
            b"state=orphaned\ndaemon=daedalusd 0.1.0\n",
        );
        only(&machine, "daemon", "orphaned", "systemctl start daedalus-v4l2");
        // Nodes appear with the first daemon: their absence is no failure of its own.
        machine.remove("/sys/bus");
        machine.remove("/dev/video5");
        machine.put("/sys/kernel/debug/daedalus/stats", b"state=unserved\n");
        only(&machine, "daemon", "unserved", "systemctl start daedalus-v4l2");
    }

    #[test]
    fn everything_left_to_hardware() {
        let [first, second, ref rest @ ..] = *Codec::ALL else {
            panic!("the registry has one codec");
        };
        let rest: CodecSet = rest.iter().copied().collect();
        let machine = healthy("doctor-hardware");
        machine.put("/sys/kernel/debug/daedalus/stats", b"state=unserved\n");
        machine.put(
            "/run/daedalus-v4l2-hardware",
            format!("/dev/video0 x {first},{second}\n/dev/dri/renderD128 i915 {first},{rest}\n").as_bytes(),
        );
        machine.put(
            "/etc/daedalus-v4l2.conf",
            b"# codecs = all\ncodecs = auto # ours\n",
        );
        assert!(failures(&machine).is_empty(), "{:?}", failures(&machine));
        let left = |machine: &Machine| {
            let checks = examine(&machine.system, "viewer").into_iter();
            checks
                .filter(|check| check.name == "others")
                .map(|check| check.found)
                .collect::<String>()
        };
        let by_va_api = rest
            .iter()
            .map(|codec| format!(", {codec} to /dev/dri/renderD128 (i915, by VA-API)"));
        let expected = format!(
            "{first} to /dev/video0 (x), {second} to /dev/video0 (x){};",
            by_va_api.collect::<String>()
        );
        assert!(left(&machine).contains(&expected), "{}", left(&machine));
        machine.put(
            "/etc/daedalus-v4l2.conf",
            format!("codecs = {second}\n").as_bytes(),
        );
        assert_eq!(failures(&machine).len(), 1);
        assert_eq!(left(&machine), "");
        machine.put("/etc/daedalus-v4l2.conf", b"");
        machine.put(
            "/run/daedalus-v4l2-hardware",
            format!("/dev/video0 x {first},{second}\n").as_bytes(),
        );
        assert_eq!(failures(&machine).len(), 1);
    }

    #[test]
    fn wrong_group() {
        let machine = healthy("doctor-group");
        let groups = machine.system.text("/etc/group").unwrap();
        machine.put("/etc/group", groups.replace(",viewer", "").as_bytes());
        only(
            &machine,
            "permissions",
            "viewer is not in the group video",
            "usermod -aG video viewer",
        );
        machine.put("/etc/group", b"video:x:65533:viewer\n");
        only(
            &machine,
            "permissions",
            "does not belong to the group video",
            "udevadm trigger",
        );
    }

    #[test]
    fn codec_library_missing() {
        let machine = healthy("doctor-library");
        machine.remove("/usr/lib/x86_64-linux-gnu/libavcodec.so.61");
        only(
            &machine,
            "libavcodec",
            "libavcodec.so.61 is not there",
            "apt install --reinstall libavcodec61",
        );
        machine.put("/usr/lib/x86_64-linux-gnu/libavcodec.so.61", b"");
        machine.remove("/usr/lib/x86_64-linux-gnu/libdav1d.so.7");
        only(
            &machine,
            "dav1d",
            "libdav1d.so.7 is not there",
            "apt install --reinstall libdav1d7",
        );
    }

    /// A machine whose kernel is another one, for which no module is built and which has loaded none.
    fn running(name: &str, release: &str, config: &str) -> Machine {
        let machine = healthy(name);
        for gone in ["/sys/module", "/sys/kernel", "/sys/bus", "/dev", "/lib/modules"] {
            machine.remove(gone);
        }
        machine.put("/proc/sys/kernel/osrelease", release.as_bytes());
        machine.put(&format!("/boot/config-{release}"), config.as_bytes());
        machine
    }

    #[test]
    fn kernel_without_the_video_core() {
        for (release, mend) in [
            (
                "6.12.117+deb13-cloud-amd64",
                "apt install linux-image-amd64 linux-headers-amd64, and boot that kernel in place of \
                 linux-image-cloud-amd64",
            ),
            ("7.3.4+deb13-cloud-arm64", "apt install linux-image-arm64 "),
            ("6.14.0-1004-kvm", "apt install linux-image-generic "),
            ("6.18.1-microsoft-standard-WSL2", "WSL2-Linux-Kernel"),
            ("7.2.13", "apt install linux-image-"),
        ] {
            let config = CONFIG.replace("CONFIG_VIDEO_DEV=m\n", "# CONFIG_VIDEO_DEV is not set\n");
            let machine = running("doctor-kernel", release, &config);
            only(&machine, "kernel", "CONFIG_VIDEO_DEV", mend);
        }
    }

    #[test]
    fn kernel_too_old_or_too_new() {
        for release in ["6.1.0-40-amd64", "6.11.9", "7.4.0-rc1"] {
            let machine = running("doctor-version", release, CONFIG);
            only(
                &machine,
                "kernel",
                "for Linux 6.12 to 7.3",
                "apt install linux-image-",
            );
        }
        for release in ["6.12.117+deb13-amd64", "7.3.4"] {
            let machine = running("doctor-version", release, CONFIG);
            only(&machine, "module", "not built", "linux-headers-$(uname -r)");
        }
        // The module is loaded: somebody has built it for this kernel.
        let machine = healthy("doctor-version");
        machine.put("/proc/sys/kernel/osrelease", b"7.4.1");
        machine.put("/boot/config-7.4.1", CONFIG.as_bytes());
        assert!(failures(&machine).is_empty(), "{:?}", failures(&machine));
    }

    #[test]
    fn windows_has_no_package_of_headers() {
        let machine = running("doctor-windows", "6.18.1-microsoft-standard-WSL2", CONFIG);
        only(&machine, "module", "not built", "WSL2-Linux-Kernel");
    }

    #[test]
    fn module_refused_for_its_signature() {
        const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        const ENROLLED: &str = "/sys/firmware/efi/efivars/MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23";
        const MODPROBE: &str = "sudo modprobe daedalus_v4l2";
        const IMPORT: &str = "mokutil --import /var/lib/dkms/mok.pub";
        let machine = healthy("doctor-signature");
        for gone in ["/sys/module", "/sys/kernel", "/sys/bus", "/dev"] {
            machine.remove(gone);
        }
        let mend = |machine: &Machine| {
            let [(name, _, mend)] = &failures(machine)[..] else {
                panic!("{:?}", failures(machine))
            };
            assert_eq!(*name, "module");
            mend.clone()
        };
        machine.put(SECURE_BOOT, &[6, 0, 0, 0, 0]);
        assert_eq!(mend(&machine), MODPROBE);
        machine.put(SECURE_BOOT, &[6, 0, 0, 0, 1]);
        only(&machine, "module", "Secure Boot", IMPORT);
        // A kernel that does not lock itself down loads what it gets, with Secure Boot too.
        machine.put(
            "/sys/kernel/security/lockdown",
            b"[none] integrity confidentiality\n",
        );
        assert_eq!(mend(&machine), MODPROBE);
        machine.put(
            "/sys/kernel/security/lockdown",
            b"none [integrity] confidentiality\n",
        );
        only(&machine, "module", "kernel lockdown", IMPORT);
        machine.put("/var/lib/dkms/mok.pub", b"certificate");
        machine.put(ENROLLED, b"\x07\0\0\0of another");
        only(&machine, "module", "kernel lockdown", IMPORT);
        machine.put(ENROLLED, b"\x07\0\0\0...certificate...");
        assert_eq!(mend(&machine), MODPROBE);
        machine.remove(ENROLLED);
        machine.remove("/sys/kernel");
        machine.put(SECURE_BOOT, &[6, 0, 0, 0, 0]);
        assert_eq!(mend(&machine), MODPROBE);
        machine.put("/sys/module/module/parameters/sig_enforce", b"Y\n");
        only(&machine, "module", "module.sig_enforce", IMPORT);
    }
}
