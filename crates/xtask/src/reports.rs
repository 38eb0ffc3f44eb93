// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finding the kernel's own reports in its log.

use anyhow::{Context, Result};

use crate::bed::Bed;

/// What a report begins with or contains. A guest's kernel log has none of these on a good day.
const MARKS: [&str; 22] = [
    "BUG:",
    "BUG at",
    "kernel BUG",
    "WARNING:",
    "Oops",
    "Call Trace",
    "Kernel panic",
    "KASAN",
    "UBSAN",
    "possible circular",
    "possible recursive",
    "possible irq lock inversion",
    "inconsistent lock state",
    "suspicious RCU usage",
    "held lock freed",
    "still held",
    "blocked for more than",
    "refcount_t:",
    "list_add corruption",
    "list_del corruption",
    "segfault at",
    "daedalus-bed: stuck",
];

/// A report that is known to be false, with the reason (testbed/uml/known-reports).
pub(crate) struct Known {
    pattern: String,
}

/// Reads testbed/uml/known-reports: `text of the report's line | reason`.
pub(crate) fn known(bed: &Bed) -> Result<Vec<Known>> {
    let text = crate::bed::read(&bed.repo.join("testbed/uml/known-reports"))?;
    crate::bed::data_lines(&text)
        .map(|line| {
            let (pattern, reason) = line
                .split_once('|')
                .context("testbed/uml/known-reports: a line without '|'")?;
            anyhow::ensure!(
                !pattern.trim().is_empty() && !reason.trim().is_empty(),
                "known-reports: {line}"
            );
            Ok(Known {
                pattern: pattern.trim().to_owned(),
            })
        })
        .collect()
}

/// The lines of `log` that are or begin reports, without the known false ones.
pub(crate) fn find(log: &str, known: &[Known]) -> Vec<String> {
    log.lines()
        .filter(|line| MARKS.iter().any(|mark| line.contains(mark)))
        // Messages of the kernel's start that say that such a checker is there.
        .filter(|line| !line.contains("kasan: KernelAddressSanitizer initialized"))
        .filter(|line| !known.iter().any(|known| line.contains(&known.pattern)))
        .map(|line| line.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_found_and_known_ones_are_not() {
        let log = "[ 0.1] Linux version 7\n[ 0.2] kasan: KernelAddressSanitizer initialized\n\
                   [ 3.0] BUG: KASAN: slab-use-after-free in f\n[ 4.0] INFO: task x:1 blocked for more than 20 seconds\n\
                   [ 5.0] WARNING: suspicious RCU usage\n";
        assert_eq!(find(log, &[]).len(), 3);
        assert_eq!(
            find(
                log,
                &[Known {
                    pattern: "suspicious RCU".into()
                }]
            )
            .len(),
            2
        );
    }
}
