// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The order in which to make what runs in guests, and what it takes.

use anyhow::{Result, bail};

use crate::bed::Bed;
use crate::make::kernel::Kernel;
use crate::make::{crates, root};
use crate::site::ui;

/// Says what this machine still lacks, how long making it takes and how much disk it takes. True if anything.
pub(crate) fn announce(bed: &Bed, kernels: &[Kernel]) -> Result<bool> {
    let mut lines = Vec::new();
    let packages = bed.host.missing();
    if !packages.is_empty() {
        lines.push(format!(
            "packages to install on this machine: {} (up to 1 minute)",
            packages.join(" ")
        ));
    }
    if !bed.cache.has("root", &root::stamp(bed)?) {
        lines.push("a Debian 13 root, made by mmdebstrap: 1-2 minutes, 2 GB".to_owned());
    }
    for which in kernels {
        let any = std::fs::read_dir(bed.cache.dir().join("stamps"))?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .any(|name| name.starts_with(&format!("uml-{which}-")));
        if !any {
            lines.push(match which {
                Kernel::Plain => {
                    "a UML kernel from Debian's source: 4-7 minutes on 2 processors, 2.2 GB".to_owned()
                }
                Kernel::Image => "the same, linked statically, for the image: 3-6 minutes, 0.5 GB".to_owned(),
                Kernel::Coverage => "the same with counters in the module: 3-6 minutes, 0.5 GB".to_owned(),
                Kernel::Sanitizers => "the same with KASAN and lockdep: 6-10 minutes, 1 GB".to_owned(),
            });
        }
    }
    if !bed.cache.has("crates", &crates::stamp(bed)?) {
        lines.push("the crates of Cargo.lock: 1 minute, 0.5 GB".to_owned());
    }
    if !bed.target.join("guest-bin").exists() {
        lines.push(
            "the module, the daemon and the tools, built in that root: 2 minutes, 0.5 GB under target/"
                .to_owned(),
        );
    }
    if lines.is_empty() {
        return Ok(false);
    }
    ui::note(&format!(
        "not there yet, and made now (in {} and target/):",
        bed.cache.dir().display()
    ));
    for line in &lines {
        ui::note(&format!("  - {line}"));
    }
    Ok(true)
}

/// Everything that a run in a guest of these kernels needs, with what can go on at the same time doing so.
pub(crate) fn prepare(bed: &Bed, kernels: &[Kernel]) -> Result<()> {
    bed.host.ready()?;
    std::thread::scope(|scope| {
        let kernels = scope.spawn(|| -> Result<()> {
            for which in kernels {
                bed.module(*which)?;
            }
            Ok(())
        });
        let programs = bed.binaries();
        let kernels = kernels
            .join()
            .unwrap_or_else(|_| bail!("building the kernels ended by a panic"));
        programs?;
        kernels
    })
}

/// `./dev build`.
pub(crate) fn everything(bed: &Bed) -> Result<()> {
    let kernels = [Kernel::Plain, Kernel::Sanitizers];
    announce(bed, &kernels)?;
    prepare(bed, &kernels)?;
    ui::note("root, kernels, module, daemon and tools are ready");
    Ok(())
}
