// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Installing and purging the packages in copies of a Debian 13 without a kernel and without a service
//! manager, by testbed/package/install-test.

use std::path::Path;

use anyhow::{Context, Result};

use crate::bed::Bed;
use crate::make::root::{self, TREE};
use crate::outcome::Outcome;
use crate::site::cmd::{Cmd, last_lines};
use crate::site::files::read;

/// The parts of the script, each in a copy of its own.
const PARTS: [(&str, &str); 2] = [
    (
        "install",
        "apt install of the packages alone, in a fresh Debian 13",
    ),
    ("purge", "apt purge leaves no file, user and unit"),
];

/// Runs the parts.
pub(crate) fn run(bed: &Bed, dir: &Path, outcome: &Outcome) {
    for (part, what) in PARTS {
        outcome.check(what, || one(bed, dir, part));
    }
}

fn one(bed: &Bed, dir: &Path, part: &str) -> Result<String> {
    let fresh = root::make(bed, root::FRESH)?;
    let copy = dir.join(format!("fresh-{part}"));
    bed.host.remove_tree(&copy)?;
    let log = dir.join(format!("{part}.log"));
    std::fs::remove_file(&log).ok();
    bed.host
        .privileged(
            Cmd::new("cp")
                .args(["-a", "--reflink=auto"])
                .arg(&fresh)
                .arg(&copy),
        )?
        .run()?;
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let result = bed
        .host
        .privileged(
            Cmd::new(own)
                .args(["__enter", "--writable", "--root"])
                .arg(&copy)
                .arg("--bind")
                .arg(format!("{}={TREE}", bed.repo.display()))
                .args(["--env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
                .args(["--env", "LC_ALL=C.UTF-8", "--env", "HOME=/root"])
                .args(["--env", "DEBIAN_FRONTEND=noninteractive"])
                .args(["--", "sh"])
                .arg(format!("{TREE}/testbed/package/install-test"))
                .arg(part)
                .arg(root::inside(bed, dir)),
        )?
        .log(&log)
        .run();
    bed.host.remove_tree(&copy)?;
    result?;
    Ok(last_lines(&read(&log)?, 1))
}
