// SPDX-License-Identifier: Apache-2.0 OR MIT
//! GStreamer's element for dav1d, which Debian 13 does not have: built from crates.io, for the bench only.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::bed::Bed;
use crate::make::crates;
use crate::make::root::{self, TREE};
use crate::site::files::read;

/// The package that depends on the plugin.
const PACKAGE: &str = "testbed/bench/dav1ddec";

/// The directory that holds the plugin, built if it is not there; a directory of the tree.
pub(crate) fn plugin(bed: &Bed) -> Result<PathBuf> {
    let root = root::make(bed, root::BENCH)?;
    let dir = bed.target.join("bench/dav1ddec");
    let inside = root::inside(bed, &dir);
    let inside = inside.to_str().context("not UTF-8")?;
    let manifest = bed.repo.join(PACKAGE).join("Cargo.toml");
    let lock = read(&bed.repo.join(PACKAGE).join("Cargo.lock"))?;
    let crates = dir.join("crates");
    let place = format!("{inside}/crates");
    // Written last: it says that the rest is there.
    let stamp = dir.join("Cargo.lock");
    if std::fs::read_to_string(&stamp).ok().as_deref() != Some(&lock) {
        std::fs::create_dir_all(&dir)?;
        crates::vendor_into(bed, &manifest, (&crates, &place), &dir.join("crates.log"))?;
        std::fs::write(&stamp, lock)?;
    }
    bed.command_in(&root, "env", &[])?
        .arg(format!("CARGO_HOME={place}/home"))
        .arg(format!("CARGO_TARGET_DIR={inside}"))
        .args(["cargo", "build", "--release", "--locked", "--offline", "--quiet"])
        .args(["--package", "gst-plugin-dav1d", "--manifest-path"])
        .arg(Path::new(TREE).join(PACKAGE).join("Cargo.toml"))
        .run()
        .context("building GStreamer's element for dav1d failed")?;
    Ok(dir.join("release"))
}
