// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The crates of Cargo.lock, vendored.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::root::CRATES;
use crate::site::Site;
use crate::site::cache::Stamp;
use crate::site::cmd::Cmd;
use crate::site::files::read;

/// Returns the inputs of the vendored crates.
pub(crate) fn stamp(site: &Site) -> Result<Stamp> {
    Ok(Stamp::new()
        .with("lock", &read(&site.repo.join("Cargo.lock"))?)
        .with("layout", "1"))
}

/// Downloads the crates of Cargo.lock by the machine's cargo, so that its configuration counts and the root
/// needs no network.
pub(crate) fn make(site: &Site) -> Result<PathBuf> {
    let stamp = stamp(site)?;
    site.cache
        .artefact("crates", &stamp, "downloading the crates of Cargo.lock", |path| {
            let log = site.cache.dir().join("crates.log");
            std::fs::remove_file(&log).ok();
            vendor_into(site, &site.repo.join("Cargo.toml"), (path, CRATES), &log)
        })
}

/// Downloads the crates of the Cargo.lock beside a manifest to `path`, which is `place` where they are used,
/// with a CARGO_HOME that finds them.
pub(crate) fn vendor_into(
    site: &Site,
    manifest: &Path,
    (path, place): (&Path, &str),
    log: &Path,
) -> Result<()> {
    site.host.remove_tree(path)?;
    let home = path.join("home");
    std::fs::create_dir_all(&home)?;
    Cmd::new("cargo")
        .args(["vendor", "--locked", "--versioned-dirs", "--manifest-path"])
        .arg(manifest)
        .arg(path.join("vendor"))
        .log(log)
        .run()
        .context(
            "cargo cannot download the crates of Cargo.lock (after a change of a Cargo.toml: is \
                  Cargo.lock up to date?)",
        )?;
    let config = format!(
        "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"{place}/vendor\"\n\
         [net]\noffline = true\n"
    );
    Ok(std::fs::write(home.join("config.toml"), config)?)
}
