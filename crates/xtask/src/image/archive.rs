// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The archive that `./dev image` packs: where it is, and how it is unpacked.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::site::Site;
use crate::site::cmd::Cmd;

/// The archive's only directory.
pub(crate) const NAME: &str = "daedalus-image-amd64";
/// Where the guest has the demonstration's clips, with their list.
pub(crate) const CLIPS: &str = "/usr/share/daedalus/clips";

/// The archive that was packed last.
pub(crate) fn path(site: &Site) -> Result<PathBuf> {
    let archive = site.target.join("image").join(format!("{NAME}.tar"));
    if !archive.is_file() {
        bail!("there is no image: run ./dev image first");
    }
    Ok(archive)
}

/// The directory into which an archive was unpacked: `run` is in it.
pub(crate) fn unpack(archive: &Path, into: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(into)?;
    Cmd::new("tar")
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(into)
        .run()
        .with_context(|| format!("cannot unpack {}", archive.display()))?;
    let image = into.join(NAME);
    if !image.join("run").is_file() {
        bail!("{} is no image: it has no {NAME}/run", archive.display());
    }
    Ok(image)
}
