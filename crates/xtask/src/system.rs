// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Debian packages in a Debian 13 with systemd, in QEMU: installed, used as a user would use them, and purged. What is
//! done in the guest is testbed/system/run.

mod clips;
mod disk;
mod guest;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use crate::bed::Bed;
use crate::make::root;
use crate::outcome::Outcome;
use crate::package;
use crate::site::files::{lock_file, write_whole};
use crate::site::ui;

/// A kind of machine that QEMU emulates.
pub(crate) struct Machine {
    /// Debian's name of the architecture; the directory of testbed with what is its own.
    pub(crate) architecture: &'static str,
    /// The root that QEMU is run from.
    pub(crate) emulator: root::Kind,
    /// QEMU's program and its board.
    pub(crate) qemu: &'static [&'static str],
    /// The kernel's name of the serial line.
    pub(crate) console: &'static str,
    /// QEMU's program for single programs of the architecture, where this machine's kernel cannot start them.
    pub(crate) programs: Option<&'static str>,
    /// The kernels on the disk.
    pub(crate) flavours: &'static [Flavour],
}

/// A stock kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flavour {
    /// Its name in results.
    pub(crate) name: &'static str,
    /// What its releases end with, and no other flavour's of that architecture.
    pub(crate) ending: &'static str,
    /// Bytes of a page.
    pub(crate) page: u32,
}

impl Flavour {
    fn kernel(self) -> String {
        format!("vmlinuz-{}", self.name)
    }

    fn initramfs(self) -> String {
        format!("initrd-{}", self.name)
    }
}

/// A guest to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) flavour: Flavour,
    /// QEMU's name of the processor.
    pub(crate) cpu: String,
    /// What the processor is called in results.
    pub(crate) cpu_name: String,
    /// Whether the packages are upgraded in it: once is enough, for DKMS builds the module again.
    pub(crate) upgraded: bool,
    /// Whether it has pointer authentication and branch target identification, and the kernel must use them.
    pub(crate) authentication: bool,
}

/// Builds the packages, and runs the guests one after the other; results go to `dir`. With `chromium`, Debian's Chromium
/// plays in them.
pub(crate) fn run(
    bed: &Bed,
    machine: &Machine,
    guests: &[Guest],
    dir: &Path,
    chromium: bool,
) -> Result<Outcome> {
    let started = Instant::now();
    let architecture = machine.architecture;
    bed.host.ready()?;
    std::fs::create_dir_all(dir)?;
    let _lock = lock_file(&dir.join(".lock"), &format!("running the {architecture} guest"))?;
    let outcome = Outcome::new();
    let packages = bed.target.join("package");
    let mut inputs = None;
    outcome.check("packages build for amd64 and arm64", || {
        std::fs::create_dir_all(&packages)?;
        let _lock = lock_file(&packages.join(".lock"), "building the packages")?;
        package::everything(bed, &packages)
    });
    if outcome.ok() {
        outcome.check(
            &format!("the {architecture} disk and the clips are there"),
            || {
                let made = (
                    root::make(bed, machine.emulator)?,
                    disk::make(bed, machine, chromium)?,
                    clips::make(bed, dir, chromium)?,
                );
                inputs = Some(made);
                Ok(String::new())
            },
        );
    }
    let later = dir.join("later");
    if outcome.ok() && guests.iter().any(|guest| guest.upgraded) {
        outcome.check("a later version of the packages builds", || {
            let _lock = lock_file(&packages.join(".lock"), "building the packages")?;
            package::later(bed, &packages, architecture, &later)
        });
    }
    let mut rows = Vec::new();
    if let Some((emulator, disk, clips)) = inputs {
        for guest in guests {
            let place = guest::Place {
                machine,
                emulator: &emulator,
                disk: &disk,
                clips: &clips,
                packages: &packages,
                later: guest.upgraded.then_some(later.as_path()),
                chromium,
                dir,
            };
            let own = guest::run(bed, &place, guest)?;
            rows.push(json!({
                "kernel": guest.flavour.name,
                "cpu": guest.cpu,
                "checks": own.checks(),
            }));
            outcome.absorb(own);
        }
    }
    let results = json!({
        "guests": rows,
        "seconds": started.elapsed().as_secs_f64(),
        "checks": outcome.checks(),
    });
    write_whole(
        &dir.join("results.json"),
        &serde_json::to_string_pretty(&results)?,
    )?;
    let shown = dir.strip_prefix(&bed.repo).unwrap_or(dir).display();
    ui::note(&format!(
        "results.json, and the console and the logs of each guest, are in {shown}"
    ));
    Ok(outcome)
}
