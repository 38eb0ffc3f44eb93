// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev modules`: the module links against the headers of Debian's own kernels (testbed/headers).

use anyhow::{Result, bail};

use crate::bed::Bed;
use crate::headers::{self, Headers, Target};
use crate::make::{module, root};
use crate::outcome::Outcome;

/// What the module may depend on: a kernel that is configured for V4L2 and media devices has these, whatever
/// drivers it has.
const DEPENDS: [&str; 4] = ["mc", "videobuf2-common", "videobuf2-v4l2", "videodev"];

/// Builds the module for each kernel, unless that succeeded on this machine with the same inputs.
pub(crate) fn run(bed: &Bed) -> Result<Outcome> {
    let outcome = Outcome::new();
    for target in headers::targets(&bed.repo)? {
        let name = format!("module links against {}/{}", target.suite, target.package);
        let name = format!("{name} ({})", target.architecture);
        outcome.check(&name, || {
            let headers = headers::get(bed, &target)?;
            let inputs = headers::inputs(bed, &target, &headers, &module::OWN)?;
            let inputs = inputs.with("judged", include_str!("foreign.rs"));
            bed.cache.once(&name, &inputs, || check(bed, &target, &headers))
        });
    }
    Ok(outcome)
}

/// Builds the module, and looks at what it depends on; the kernel's release and that list.
fn check(bed: &Bed, target: &Target, headers: &Headers) -> Result<String> {
    let file = headers::build(bed, target, headers, &module::OWN)?;
    let depends = bed
        .command("modinfo")?
        .args(["-F", "depends"])
        .arg(root::inside(bed, &file))
        .output()?;
    let depends = depends.trim();
    let more: Vec<&str> = depends
        .split(',')
        .filter(|name| !DEPENDS.contains(&name.replace('_', "-").as_str()))
        .collect();
    if !more.is_empty() {
        bail!(
            "the module depends on {} besides {}",
            more.join(", "),
            DEPENDS.join(", ")
        );
    }
    Ok(format!("{}, depends on {depends}", headers.release()))
}
