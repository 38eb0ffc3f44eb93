// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev arm64`: the Debian packages in a Debian 13 for arm64 with systemd, in QEMU: installed, used as a
//! user would use them, and purged, with kernels of 4 KiB and 16 KiB pages. What is done in the guest is
//! testbed/system/run. Results: target/arm64.

use anyhow::Result;

use crate::bed::Bed;
use crate::make::root;
use crate::outcome::Outcome;
use crate::system::{self, Flavour, Guest, Machine, Scene};

/// Arguments of `./dev arm64`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// The page size of the kernel to boot
    #[arg(long, value_enum, default_value_t = Which::All)]
    pages: Which,
    /// QEMU's name of the processor; without it, a Raspberry Pi 5's for each page size, and once `max`, which
    /// has pointer authentication and branch target identification
    #[arg(long)]
    cpu: Option<String>,
    /// Install the packages, and have Debian's Chromium play a clip of each codec on the device, instead of
    /// the rest
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

/// 4 KiB pages: linux-image-arm64.
const SMALL: Flavour = Flavour {
    name: "4k",
    ending: "-arm64",
    page: 4096,
};
/// 16 KiB, as on a Raspberry Pi 5: linux-image-arm64-16k.
const LARGE: Flavour = Flavour {
    name: "16k",
    ending: "-arm64-16k",
    page: 16384,
};

pub(crate) const MACHINE: Machine = Machine {
    architecture: "arm64",
    emulator: root::EMULATOR,
    qemu: &["qemu-system-aarch64", "-M", "virt,gic-version=3"],
    console: "ttyAMA0",
    programs: Some("usr/bin/qemu-aarch64"),
    flavours: &[SMALL, LARGE],
};

/// The processor of a Raspberry Pi 5.
const CPU: &str = "cortex-a76";
/// QEMU's largest one.
const MAX: &str = "max";

/// The guests to boot.
fn guests(args: &Args) -> Vec<Guest> {
    let flavours = MACHINE.flavours.iter().filter(|flavour| match args.pages {
        Which::All => true,
        Which::Small => **flavour == SMALL,
        Which::Large => **flavour == LARGE,
    });
    let cpu = args.cpu.as_deref().unwrap_or(CPU);
    let upgraded = |flavour: &Flavour| *flavour == LARGE && !args.chromium;
    let mut guests: Vec<_> = flavours
        .map(|flavour| guest(*flavour, cpu, upgraded(flavour)))
        .collect();
    if args.cpu.is_none() && args.pages == Which::All && !args.chromium {
        guests.push(guest(SMALL, MAX, false));
    }
    guests
}

/// The guest in which packages are upgraded: DKMS builds a module there for the running kernel alone.
pub(crate) fn upgraded() -> Guest {
    guest(LARGE, CPU, true)
}

fn guest(flavour: Flavour, cpu: &str, upgraded: bool) -> Guest {
    Guest {
        flavour,
        // A cheap algorithm: the architected one is several times slower to emulate, and no part of what is
        // tested.
        cpu: if cpu == MAX {
            "max,pauth-impdef=on".to_owned()
        } else {
            cpu.to_owned()
        },
        cpu_name: cpu.to_owned(),
        upgraded,
        authentication: cpu == MAX,
    }
}

/// Builds the packages, and runs the guests one after the other.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let dir = bed.target.join("arm64");
    let scene = if args.chromium {
        Scene::Chromium
    } else {
        Scene::Use
    };
    system::run(bed, &MACHINE, &guests(args), &dir, scene)
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
        assert_eq!((all[2].flavour, all[2].cpu_name.as_str()), (SMALL, MAX));
        assert_eq!(guests(&args(Which::All, None, true)).len(), 2);
        let one = guests(&args(Which::Large, Some("max"), false));
        assert_eq!(one.len(), 1);
        assert!(one[0].upgraded && one[0].authentication);
    }
}
