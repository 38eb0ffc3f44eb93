// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev arm64`: the Debian packages in a Debian 13 for arm64 with systemd, in QEMU: installed, used as a user would
//! use them, and purged, with kernels of 4 KiB and 16 KiB pages. What is done in the guest is testbed/arm64/run.
//! Results: target/arm64.

mod clips;
mod disk;
mod guest;

use std::fmt;
use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use crate::bed::Bed;
use crate::cache::{lock_file, write_whole};
use crate::outcome::Outcome;
use crate::{package, root, ui};

/// Arguments of `./dev arm64`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// The page size of the kernel to boot
    #[arg(long, value_enum, default_value_t = Which::All)]
    pages: Which,
    /// QEMU's name of the processor; without it, a Raspberry Pi 5's for each page size, and once `max`, which has
    /// pointer authentication and branch target identification
    #[arg(long)]
    cpu: Option<String>,
    /// Install the packages, and have Debian's Chromium play a clip of each codec on the device, instead of the rest
    #[arg(long)]
    chromium: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    #[value(name = "4k")]
    Small,
    #[value(name = "16k")]
    Large,
    All,
}

/// The page size of a stock kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pages {
    /// 4 KiB: linux-image-arm64.
    Small,
    /// 16 KiB, as on a Raspberry Pi 5: linux-image-arm64-16k.
    Large,
}

impl Pages {
    const ALL: [Self; 2] = [Self::Small, Self::Large];

    fn kernel(self) -> String {
        format!("vmlinuz-{self}")
    }

    fn initramfs(self) -> String {
        format!("initrd-{self}")
    }

    fn bytes(self) -> u32 {
        match self {
            Self::Small => 4096,
            Self::Large => 16384,
        }
    }
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "4k",
            Self::Large => "16k",
        })
    }
}

/// The processor of a Raspberry Pi 5.
const CPU: &str = "cortex-a76";

/// The guests to boot.
fn guests(args: &Args) -> Vec<(Pages, String)> {
    let pages: Vec<Pages> = Pages::ALL
        .into_iter()
        .filter(|pages| match args.pages {
            Which::All => true,
            Which::Small => *pages == Pages::Small,
            Which::Large => *pages == Pages::Large,
        })
        .collect();
    let cpu = args.cpu.as_deref().unwrap_or(CPU);
    let mut guests: Vec<_> = pages.iter().map(|pages| (*pages, cpu.to_owned())).collect();
    if args.cpu.is_none() && args.pages == Which::All && !args.chromium {
        guests.push((Pages::Small, "max".to_owned()));
    }
    guests
}

/// Whether the packages are upgraded in this guest: once is enough, for DKMS builds the module again.
fn upgraded(pages: Pages, args: &Args) -> bool {
    pages == Pages::Large && !args.chromium
}

/// Builds the packages, and runs the guests one after the other.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let started = Instant::now();
    bed.host.ready()?;
    let dir = bed.target.join("arm64");
    std::fs::create_dir_all(&dir)?;
    let _lock = lock_file(&dir.join(".lock"), "running the arm64 guest")?;
    let outcome = Outcome::new();
    let packages = bed.target.join("package");
    let mut inputs = None;
    outcome.check("packages build for amd64 and arm64", || {
        std::fs::create_dir_all(&packages)?;
        let _lock = lock_file(&packages.join(".lock"), "building the packages")?;
        package::everything(bed, &packages)
    });
    if outcome.ok() {
        outcome.check("the arm64 disk and the clips are there", || {
            let made = (
                root::make(bed, root::EMULATOR)?,
                disk::make(bed, args.chromium)?,
                clips::make(bed, &dir, args.chromium)?,
            );
            inputs = Some(made);
            Ok(String::new())
        });
    }
    let later = dir.join("later");
    if outcome.ok() && guests(args).iter().any(|(pages, _)| upgraded(*pages, args)) {
        outcome.check("a later version of the packages builds", || {
            let _lock = lock_file(&packages.join(".lock"), "building the packages")?;
            package::later(bed, &packages, &later)
        });
    }
    let mut rows = Vec::new();
    if let Some((emulator, disk, clips)) = inputs {
        for (pages, cpu) in guests(args) {
            let place = guest::Place {
                emulator: &emulator,
                disk: &disk,
                clips: &clips,
                packages: &packages,
                later: upgraded(pages, args).then_some(later.as_path()),
                chromium: args.chromium,
            };
            let own = guest::run(bed, &place, pages, &cpu)?;
            rows.push(json!({ "pages": pages.to_string(), "cpu": cpu, "checks": own.checks() }));
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
    ui::note("results.json, and the console and the logs of each guest, are in target/arm64");
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_page_sizes_and_once_the_largest_processor() {
        let args = |pages, cpu: Option<&str>, chromium| Args {
            pages,
            cpu: cpu.map(str::to_owned),
            chromium,
        };
        let all = guests(&args(Which::All, None, false));
        assert_eq!(all.len(), 3);
        assert_eq!(all[2], (Pages::Small, "max".to_owned()));
        assert_eq!(guests(&args(Which::All, None, true)).len(), 2);
        let one = guests(&args(Which::Large, Some("max"), false));
        assert_eq!(one, [(Pages::Large, "max".to_owned())]);
    }
}
