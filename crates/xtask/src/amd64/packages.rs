// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev amd64 --packages`: the Debian packages in a Debian 13 for amd64 with systemd, as `./dev arm64` has
//! them in one for arm64.

use anyhow::Result;

use crate::bed::Bed;
use crate::make::root;
use crate::outcome::Outcome;
use crate::system::{self, Flavour, Guest, Machine, Scene};

/// linux-image-amd64.
const STOCK: Flavour = Flavour {
    name: "stock",
    ending: "-amd64",
    page: 4096,
};

const MACHINE: Machine = Machine {
    architecture: "amd64",
    emulator: root::EMULATOR_AMD64,
    qemu: &["qemu-system-x86_64", "-M", "q35"],
    console: "ttyS0",
    programs: None,
    flavours: &[STOCK],
};

/// Builds the packages, and runs the guest.
pub(super) fn run(bed: &Bed, cpu: &str) -> Result<Outcome> {
    let guest = Guest {
        flavour: STOCK,
        cpu: cpu.to_owned(),
        cpu_name: cpu.split(',').next().unwrap_or(cpu).to_owned(),
        upgraded: true,
        authentication: false,
    };
    let dir = bed.target.join("amd64/packages");
    system::run(bed, &MACHINE, &[guest], &dir, Scene::Use)
}
