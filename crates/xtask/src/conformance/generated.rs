// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The streams that the vectors lack: made by `daedalus-tests generated` in the Debian root, which has the
//! encoders, as a folder with MANIFEST.tsv.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::bed::Bed;
use crate::make::root;
use crate::site::ui;

/// Makes the streams if they are not there; the folder.
pub(crate) fn folder(bed: &Bed, small: bool) -> Result<PathBuf> {
    let program = root::inside(bed, &bed.binaries()?.join("daedalus-tests"));
    let out = bed.target.join("generated");
    let step = ui::Step::begin(if small {
        "generated streams, the small ones (the first time: up to a minute)"
    } else {
        "generated streams (the first time: up to 6 minutes)"
    });
    let mut cmd = bed
        .command(program)?
        .args(["generated", "--out"])
        .arg(root::inside(bed, &out));
    if small {
        cmd = cmd.arg("--small");
    }
    let printed = cmd.output()?;
    drop(step);
    let name = printed.trim().rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        bail!("the generator of the streams did not say where they are");
    }
    Ok(out.join(name))
}
