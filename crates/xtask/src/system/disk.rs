// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's disk: a Debian 13 with systemd, stock kernels, their headers and GStreamer, made once
//! (testbed/system/customize).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::machine::{Flavour, Machine};
use crate::bed::Bed;
use crate::make::root;
use crate::site::cache::Stamp;
use crate::site::cmd::Cmd;
use crate::site::files::read;
use crate::site::signals;

/// The disk's file in the artefact.
pub(super) const FILE: &str = "disk.img";
/// The disk's size; the file has holes.
const SIZE: &str = "6G";
const SIZE_WITH_CHROMIUM: &str = "8G";
const PACKAGES: &str = "testbed/system/packages";
const CHROMIUM: &str = "testbed/arm64/packages-chromium";
const ARCHIVE: &str = "testbed/system/archive";
/// What is put on the disk, and what puts it there.
const SCRIPTS: [&str; 4] = ["customize", "initramfs", "bed-start", "bed.service"];

/// The directory with the disk, and the kernel and initramfs of each flavour.
pub(super) fn make(bed: &Bed, machine: &Machine, chromium: bool) -> Result<PathBuf> {
    let architecture = machine.architecture;
    let (mut packages, archive) = (root::packages(bed, PACKAGES)?, root::packages(bed, ARCHIVE)?);
    packages.extend(root::packages(bed, &format!("testbed/{architecture}/packages"))?);
    if chromium {
        packages.extend(root::packages(bed, CHROMIUM)?);
    }
    let size = if chromium { SIZE_WITH_CHROMIUM } else { SIZE };
    let testbed = bed.repo.join("testbed/system");
    let mut stamp = Stamp::new()
        .with("suite", bed.conf("root.suite")?)
        .with("architecture", architecture)
        .with("packages", &packages.join("\n"))
        .with("archive", &archive.join("\n"))
        .with("size", size);
    for script in SCRIPTS {
        stamp = stamp.with(script, &read(&testbed.join(script))?);
    }
    let what = format!(
        "making the {architecture} disk{}, several minutes)",
        if chromium {
            " with Chromium (Debian's packages: 600 MB to download, 2.1 GB on disk"
        } else {
            " (Debian's packages: 430 MB to download, 1.6 GB on disk"
        }
    );
    let emulator = root::make(bed, machine.emulator)?;
    bed.cache.artefact(architecture, &stamp, &what, |path| {
        bed.host.remove_tree(path)?;
        std::fs::create_dir_all(path)?;
        let files = path.join("root");
        let customize = format!(
            "--extract-hook=sh {} \"$1\" {} {architecture} '{}' '{}'",
            testbed.join("customize").display(),
            testbed.display(),
            packages.join(" "),
            archive.join(" ")
        );
        // Whether programs can be started is seen by starting them.
        let more = ["--skip=check/qemu".into(), "--skip=cleanup/apt".into(), customize];
        let log = format!("{architecture}.log");
        let install = || {
            let essential = ["?essential".to_owned()];
            root::debootstrap(bed, &files, ("extract", architecture), &essential, &more, &log)
        };
        match machine.programs {
            Some(programs) => emulated(bed, &emulator.join(programs), install)?,
            None => install()?,
        }
        for flavour in machine.flavours {
            take(bed, &files, path, *flavour)?;
        }
        let log = bed.cache.dir().join(log);
        let disk = path.join(FILE);
        bed.host
            .privileged(
                Cmd::new("/sbin/mke2fs")
                    .args(["-q", "-t", "ext4", "-d"])
                    .arg(&files)
                    .arg(&disk)
                    .arg(size),
            )?
            .log(&log)
            .run()?;
        readable(bed, &disk)?;
        bed.host.remove_tree(&files)
    })
}

/// Copies a kernel and its initramfs out of the disk's files, to names that [`Flavour::kernel`] has.
fn take(bed: &Bed, files: &Path, to: &Path, flavour: Flavour) -> Result<()> {
    let release = std::fs::read_dir(files.join("lib/modules"))?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .find(|name| name.ends_with(flavour.ending))
        .with_context(|| format!("no kernel *{} was installed", flavour.ending))?;
    for (from, name) in [
        (format!("boot/vmlinuz-{release}"), flavour.kernel()),
        (format!("boot/bed-{release}"), flavour.initramfs()),
    ] {
        let (from, to) = (files.join(from), to.join(name));
        if !from.exists() {
            bail!("the kernel {release} has no {}", from.display());
        }
        bed.host.privileged(Cmd::new("cp").arg(&from).arg(&to))?.run()?;
        readable(bed, &to)?;
    }
    Ok(())
}

fn readable(bed: &Bed, path: &Path) -> Result<()> {
    bed.host.privileged(Cmd::new("chmod").arg("644").arg(path))?.run()
}

/// Runs `body` while the kernel of this machine starts arm64 programs; then it is as before, whatever
/// happens.
fn emulated<T>(bed: &Bed, qemu: &Path, body: impl FnOnce() -> Result<T>) -> Result<T> {
    let script = bed.repo.join("testbed/arm64/emulation");
    let mark = bed.cache.dir().join("binfmt_misc-mounted");
    let _lock = bed.cache.lock("emulation", "emulation of arm64 programs")?;
    let off = bed
        .host
        .privileged(Cmd::new("sh").arg(&script).arg("off").arg(&mark))?;
    let at_end = off.clone();
    signals::at_end(move || {
        if let Err(error) = at_end.run() {
            eprintln!("dev: emulation of arm64 programs was not ended: {error:#}");
        }
    });
    bed.host
        .privileged(Cmd::new("sh").arg(&script).arg("on").arg(qemu).arg(&mark))?
        .run()
        .context("this machine's kernel cannot start arm64 programs (binfmt_misc)")?;
    let result = body();
    off.run()?;
    result
}
