// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The workspace's programs: the daemon and the tools.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::root;
use crate::site::Site;
use crate::site::cmd::Cmd;
use crate::site::ui;

/// Builds the workspace's programs in the root, with optimisation, and puts them into one directory; `cargo`
/// runs there.
pub(crate) fn make(site: &Site, cargo: Cmd) -> Result<PathBuf> {
    let dir = site.target.join("guest-bin");
    std::fs::create_dir_all(&dir)?;
    let cargo = cargo.args([
        "build",
        "--release",
        "--locked",
        "--offline",
        "--workspace",
        "--exclude",
        "daedalus-fuzz",
        "--exclude",
        "xtask",
        "--bins",
        "--message-format=json-render-diagnostics",
    ]);
    let _step = ui::Step::begin("building the daemon and the tools in the Debian root");
    let messages = cargo
        .output()
        .context("building the workspace in the Debian root failed")?;
    let mut built = Vec::new();
    for line in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("cargo's messages")?;
        if let Some(file) = message["executable"]
            .as_str()
            .filter(|file| file.starts_with(root::TREE))
        {
            let file = site.repo.join(
                file.strip_prefix(root::TREE)
                    .unwrap_or(file)
                    .trim_start_matches('/'),
            );
            built.push(file);
        }
    }
    if built.is_empty() {
        bail!("the workspace has no program to run in the guest");
    }
    for file in built {
        let name = file.file_name().context("a program without a name")?.to_owned();
        let new = dir.join(format!(".{}.new", name.to_string_lossy()));
        // By rename: a guest that runs the old one keeps it.
        std::fs::copy(&file, &new).with_context(|| format!("cannot copy {}", file.display()))?;
        std::fs::rename(&new, dir.join(name))?;
    }
    Ok(dir)
}
