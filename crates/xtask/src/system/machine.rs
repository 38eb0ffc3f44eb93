// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a guest with a disk is, and what is done in it.

use std::path::Path;

use crate::make::root;

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
    /// The file of its kernel beside the disk.
    pub(super) fn kernel(self) -> String {
        format!("vmlinuz-{}", self.name)
    }

    /// The file of its initramfs beside the disk.
    pub(super) fn initramfs(self) -> String {
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

/// What is done in the guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene<'a> {
    /// The packages of the tree are used as a user would use them, and purged.
    Use,
    /// Debian's Chromium plays, with the packages of the tree.
    Chromium,
    /// The packages of this directory are upgraded to those of the tree, and back, in every order.
    Upgrade(&'a Path),
}
