// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One guest: QEMU, what comes in, what comes out, and the checks that testbed/system/run writes down.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use daedalus_uapi::Codec;
use serde_json::Value;

use super::disk;
use super::machine::{Guest, Machine, Scene};
use crate::bed::Bed;
use crate::guest::reports;
use crate::make::root;
use crate::outcome::Outcome;
use crate::site::cmd::{Cmd, Exit, describe, last_lines};
use crate::site::files::read;
use crate::site::ui;
use crate::{checks, compliance, package};

/// Until a guest that has not ended by itself is killed: emulation is slow, and other work makes it slower.
const LIMIT: Duration = Duration::from_secs(90 * 60);
/// Where the disk is in the root that QEMU runs in.
const DISK: &str = "/mnt/out";
/// The guest's memory in MiB.
const MEMORY: u32 = 2048;
const MEMORY_WITH_CHROMIUM: u32 = 4096;

/// What a guest is made of.
pub(super) struct Place<'a> {
    pub(super) machine: &'a Machine,
    pub(super) emulator: &'a Path,
    pub(super) disk: &'a Path,
    pub(super) clips: &'a Path,
    pub(super) packages: &'a Path,
    /// Packages of a later version, to which the guest upgrades.
    pub(super) later: Option<&'a Path>,
    /// What is done.
    pub(super) scene: Scene<'a>,
    /// Where the guest's own directory is made.
    pub(super) dir: &'a Path,
}

impl Place<'_> {
    /// The files of testbed with what is done instead of the rest.
    fn scripts(&self) -> &'static [&'static str] {
        match self.scene {
            Scene::Use => &[],
            Scene::Chromium => &["arm64/chromium", "arm64/chromium.html"],
            Scene::Upgrade(_) => &["upgrade/orders"],
        }
    }
}

/// Boots a guest and waits for its end; its checks, and the steps of an upgrade.
pub(super) fn run(bed: &Bed, place: &Place<'_>, guest: &Guest) -> Result<(Outcome, Vec<Value>)> {
    let outcome = Outcome::new();
    let (flavour, cpu) = (guest.flavour.name, &guest.cpu_name);
    let (more, called) = match place.scene {
        Scene::Chromium => ("-chromium", " Chromium"),
        Scene::Use | Scene::Upgrade(_) => ("", ""),
    };
    let dir = place.dir.join(format!("{flavour}-{cpu}{more}"));
    bed.host.remove_tree(&dir)?;
    for part in ["in", "out", "tmp"] {
        fs::create_dir_all(dir.join(part))?;
    }
    fill(bed, place, &dir.join("in"), guest)?;
    let console = dir.join("console.log");
    let qemu = qemu(bed, place, &dir, guest)?.log(&console).timeout(LIMIT);
    let label = format!("{} {flavour} {cpu}{called}", place.machine.architecture);
    let exit = {
        let _step = ui::Step::begin(&format!("running the guest {label}"));
        checks::watched(&qemu, &dir.join("out").join(checks::FILE), &label, &outcome)?
    };
    let log = String::from_utf8_lossy(&fs::read(&console)?).into_owned();
    outcome.check(&format!("{label}: the guest came to its end"), || {
        came_to_end(&dir.join("out"), &log, &exit)
    });
    outcome.check(&format!("{label}: the kernel's log has no report"), || {
        clean(bed, &log, &dir.join("out/kernel.log"))
    });
    Ok((outcome, steps(&dir.join("out/orders.jsonl"))?))
}

/// The steps of an upgrade; none if there were none.
fn steps(file: &Path) -> Result<Vec<Value>> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    read(file)?
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("{}: {line}", file.display())))
        .collect()
}

/// Puts together what the guest gets: the script and its settings, the packages, the clips.
fn fill(bed: &Bed, place: &Place<'_>, to: &Path, guest: &Guest) -> Result<()> {
    fs::copy(bed.repo.join("testbed/system/run"), to.join("run"))?;
    fs::copy(bed.repo.join(checks::SCRIPT), to.join("check.sh"))?;
    fs::copy(bed.repo.join(compliance::SCRIPT), to.join("compliance.sh"))?;
    for script in place.scripts() {
        let from = bed.repo.join("testbed").join(script);
        fs::copy(&from, to.join(from.file_name().unwrap_or_default()))?;
    }
    // What both page sizes of the stock processor lack is wanted where it has to be.
    let usual = Codec::ALL.first().context("no codec")?.info();
    let settings = format!(
        "pages={}\nauthentication={}\npipeline='{} ! v4l2sl{}dec'\n",
        guest.flavour.page,
        u8::from(guest.authentication),
        usual.gstreamer_parser,
        usual.gstreamer_name
    );
    fs::write(to.join("settings"), settings)?;
    copy_packages(place, place.packages, &to.join("packages"))?;
    if let Some(later) = place.later {
        copy_packages(place, later, &to.join("later"))?;
    }
    for (from, name) in [(place.clips, "clips"), (&bed.repo.join("debian/tests"), "tests")] {
        Cmd::new("cp").arg("-r").arg(from).arg(to.join(name)).run()?;
    }
    Ok(())
}

fn copy_packages(place: &Place<'_>, from: &Path, to: &Path) -> Result<()> {
    let own = format!("_{}.deb", place.machine.architecture);
    fs::create_dir_all(to)?;
    for deb in package::debs(from)? {
        let file = deb
            .file_name()
            .context("a package without a name")?
            .to_string_lossy()
            .into_owned();
        if !package::is_debug(&deb) && (file.ends_with("_all.deb") || file.ends_with(&own)) {
            fs::copy(&deb, to.join(file))?;
        }
    }
    Ok(())
}

fn qemu(bed: &Bed, place: &Place<'_>, dir: &Path, guest: &Guest) -> Result<Cmd> {
    let inside = |path: PathBuf| root::inside(bed, &path).display().to_string();
    let share = |tag: &str, more: &str| {
        let path = inside(dir.join(tag));
        format!("local,path={path},mount_tag={tag},security_model=none{more}")
    };
    let chromium = place.scene == Scene::Chromium;
    let memory = if chromium { MEMORY_WITH_CHROMIUM } else { MEMORY };
    let append = format!(
        "console={} root=/dev/vda rw panic=-1 oops=panic loglevel=7 systemd.show_status=no",
        place.machine.console
    );
    Ok(bed
        .command_in(place.emulator, "env", &[(place.disk, DISK)])?
        .arg(format!("TMPDIR={}", inside(dir.join("tmp"))))
        .args(place.machine.qemu)
        .args(["-cpu", &guest.cpu])
        .args([
            "-accel",
            "tcg,thread=multi",
            "-smp",
            "2",
            "-m",
            &memory.to_string(),
        ])
        .args(["-nodefaults", "-nographic", "-no-reboot", "-monitor", "none"])
        .args(["-serial", "stdio", "-device", "virtio-rng-pci"])
        // Chromium allocates what it shows from a graphics card.
        .args(if chromium {
            &["-device", "virtio-gpu-pci"][..]
        } else {
            &[]
        })
        .args(["-kernel", &format!("{DISK}/{}", guest.flavour.kernel())])
        .args(["-initrd", &format!("{DISK}/{}", guest.flavour.initramfs())])
        .args(["-append", &append])
        // What is written to the disk is forgotten with the guest.
        .args([
            "-drive",
            &format!(
                "file={DISK}/{},format=raw,if=virtio,snapshot=on,cache=unsafe",
                disk::FILE
            ),
        ])
        .args(["-virtfs", &share("in", ",readonly=on")])
        .args(["-virtfs", &share("out", "")]))
}

fn came_to_end(out: &Path, log: &str, exit: &Exit) -> Result<String> {
    let status = fs::read_to_string(out.join("status")).unwrap_or_default();
    if status.trim() != "0" || !exit.status.success() || exit.timed_out {
        let how = if status.trim().is_empty() {
            "before its script did".to_owned()
        } else {
            format!("after its script ended with {}", status.trim())
        };
        bail!(
            "QEMU: {}, {how}; the console's last lines:\n{}",
            describe(exit),
            last_lines(log, 15)
        );
    }
    Ok(String::new())
}

/// The console has what the kernel said up to a sudden end, the guest's own copy what was not for the
/// console.
fn clean(bed: &Bed, console: &str, own: &Path) -> Result<String> {
    let false_reports = reports::false_reports(bed)?;
    let own = read(own)?;
    let mut found = reports::find(console, &false_reports);
    found.extend(reports::find(&own, &false_reports));
    if let Some(first) = found.first() {
        bail!("{} lines, the first: {first}", found.len());
    }
    Ok(format!("{} lines", own.lines().count()))
}
