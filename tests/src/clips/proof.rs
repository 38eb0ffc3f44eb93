// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Parses a generated stream and demands the features that it is there for: encoders ignore options that they
//! do not like.

use std::path::Path;

use anyhow::{Result, ensure};
use daedalus_client::CodedJob;

use crate::codec::clips::{Proof, Spec};

/// Checks that the stream has everything that it must have.
pub(super) fn check(spec: &Spec, clip: &Path) -> Result<()> {
    let jobs: Vec<CodedJob> = daedalus_client::jobs(clip)?.collect::<Result<_, _>>()?;
    ensure!(
        jobs.iter().all(|job| job.bit_depth == spec.encoder.depth),
        "not every picture has {} bits",
        spec.encoder.depth
    );
    let size = |job: &CodedJob| (job.coded_width, job.coded_height);
    let changes = |key: bool| {
        jobs.windows(2)
            .filter(|pair| size(&pair[0]) != size(&pair[1]) && pair[1].key == key)
            .count()
    };
    for proof in spec.proofs {
        let (name, found, enough) = match *proof {
            Proof::InterResize(least) => {
                let keys = jobs.iter().skip(1).filter(|job| job.key).count();
                (
                    format!("InterResize({least})"),
                    format!("{} such changes, {keys} further key pictures", changes(false)),
                    changes(false) >= least && keys == 0,
                )
            }
            Proof::NewSequence(exactly) => (
                format!("NewSequence({exactly})"),
                format!(
                    "{} changes at key pictures, {} at others",
                    changes(true),
                    changes(false)
                ),
                changes(true) == exactly && changes(false) == 0,
            ),
            Proof::Least(name, least, of) => {
                let most = jobs.iter().map(of).max().unwrap_or_default();
                (
                    format!("{name}({least})"),
                    format!("{most} at most"),
                    most >= least,
                )
            }
            Proof::Tool(name, uses) => {
                let count = jobs.iter().filter(|job| uses(job)).count();
                (name.to_owned(), format!("{count} pictures"), count > 0)
            }
        };
        ensure!(enough, "it must have {name}; found: {found}");
        eprintln!("  {name}: {found}");
    }
    Ok(())
}
