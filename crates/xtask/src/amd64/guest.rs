// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Jobs in a guest of QEMU's that boots a stock kernel: the root, the tree and the results come by virtiofs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use crate::bed::Bed;
use crate::checks;
use crate::guest::{self, GuestJob};
use crate::make::root;
use crate::outcome::Outcome;
use crate::site::ui;
use crate::stock::{self, Stock};

/// The guest's memory in MiB.
const MEMORY: u32 = 2048;
/// Where the guest's root is in the emulator's.
const ROOT: &str = "/mnt";

/// What a guest is made of.
pub(super) struct Place<'a> {
    pub(super) emulator: &'a Path,
    pub(super) stock: &'a Stock,
    /// The module's file.
    pub(super) module: &'a Path,
    /// The directory of the tree's programs.
    pub(super) programs: &'a Path,
    /// QEMU's name of the processor.
    pub(super) cpu: &'a str,
}

/// Boots a guest for `job`, which makes checks, and waits for its end.
pub(super) fn run(
    bed: &Bed,
    place: &Place<'_>,
    job: &GuestJob,
    label: &str,
    outcome: &Outcome,
) -> Result<()> {
    let (out_dir, _lock) = guest::place(bed, &bed.target.join("amd64"), job)?;
    let start = Instant::now();
    let boot = boot(bed, place, &out_dir)?
        .log(out_dir.join(guest::LOG))
        .timeout(job.limit());
    let exit = {
        let _step = ui::Step::begin(&format!("running the guest {label}"));
        checks::watched(&boot, &out_dir.join(checks::FILE), label, outcome)?
    };
    let result = guest::collect(bed, out_dir, &exit, start)?;
    outcome.check(
        &format!("{label}: the guest came to its end, and its kernel reported nothing"),
        || {
            result.judge()?;
            Ok(format!("{:.0} s", result.seconds))
        },
    );
    Ok(())
}

/// The command that boots the guest, in the emulator's root with everything mounted.
fn boot(bed: &Bed, place: &Place<'_>, out_dir: &Path) -> Result<crate::site::cmd::Cmd> {
    let guest = |path: &str| format!("{ROOT}{path}");
    let module = format!("/mnt/modules/{}", stock::PLACE);
    let mut read_only: Vec<(PathBuf, String)> = [
        (bed.root()?, "/"),
        (bed.repo.clone(), "/mnt/repo"),
        (place.stock.dir.clone(), "/mnt/modules"),
        (place.module.to_owned(), module.as_str()),
        (place.programs.to_owned(), "/mnt/bin"),
    ]
    .map(|(from, to)| (from, guest(to.trim_end_matches('/'))))
    .into();
    if let Some(vectors) = bed.vectors() {
        read_only.push((vectors, guest("/mnt/vectors")));
    }
    read_only.push((place.stock.dir.clone(), root::HEADERS.to_owned()));
    let writable = [(out_dir.to_owned(), guest("/mnt/out"))];
    Ok(
        root::privileged_in(bed, place.emulator, "sh", &read_only, &writable)?
            .arg(guest("/mnt/repo/testbed/amd64/boot"))
            .args([place.cpu, &MEMORY.to_string()]),
    )
}
