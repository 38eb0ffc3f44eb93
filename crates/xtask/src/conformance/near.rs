// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compares the pictures that count with those of another decoder, for codecs whose standard leaves the
//! rounding of the transform open: `daedalus-tests near`, in the Debian root, which has the decoder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use daedalus_uapi::Codec;

use super::folders::Item;
use crate::bed::Bed;
use crate::make::root;
use crate::outcome::Outcome;
use crate::site::ui;

/// Where the root has the streams.
const STREAMS: &str = "/mnt";

/// Compares the streams of a codec, which are in folders below `streams`. Notes nothing for a codec whose
/// pictures are exact.
pub(super) fn check(
    bed: &Bed,
    outcome: &Outcome,
    streams: &Path,
    codec: Codec,
    items: &[Item],
) -> Result<()> {
    let program = root::inside(bed, &bed.binaries()?.join("daedalus-tests"));
    let folders: BTreeSet<&PathBuf> = items.iter().map(|item| &item.folder).collect();
    for folder in folders {
        let compare = || {
            bed.command_with(&program, &[(streams, STREAMS)])?
                .args(["near", "--codec", codec.name()])
                .arg(Path::new(STREAMS).join(folder))
                .output()
        };
        let compared = compare();
        if compared.as_ref().is_ok_and(|lines| lines.trim().is_empty()) {
            continue;
        }
        outcome.check(
            &format!("conformance {codec}, another decoder's pictures"),
            || {
                let lines = compared?;
                lines.lines().for_each(|line| ui::line(&format!("  {line}")));
                Ok(lines.lines().last().context("no line")?.to_owned())
            },
        );
    }
    Ok(())
}
