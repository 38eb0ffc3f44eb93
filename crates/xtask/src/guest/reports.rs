// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Finding the kernel's own reports in its log.

use anyhow::{Context, Result};

use crate::site::Site;

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
pub(crate) struct FalseReport {
    pattern: String,
    /// What a further line of the same report has to contain: then all of that report is known.
    inside: Option<String>,
}

/// Lines that one report may have.
const LONGEST: usize = 120;

/// What the first and the last line of a longer account contain.
const BLOCKS: [(&str, &str); 3] = [
    ("WARNING: ", "end trace"),
    ("vmalloc error:", "Mem-Info:"),
    ("page allocation failure:", "Mem-Info:"),
];

impl FalseReport {
    fn new(text: &str) -> Self {
        let (pattern, inside) = match text.split_once(">>") {
            Some((pattern, inside)) => (pattern, Some(inside.trim().to_owned())),
            None => (text, None),
        };
        Self {
            pattern: pattern.trim().to_owned(),
            inside,
        }
    }

    /// How many of these lines it is about, if the first one begins it.
    fn covers(&self, lines: &[&str]) -> Option<usize> {
        let first = lines.first().filter(|line| line.contains(&self.pattern))?;
        let Some(inside) = &self.inside else {
            let end = BLOCKS.iter().find(|(begin, _)| first.contains(begin));
            let end = end.and_then(|(_, end)| lines.iter().take(LONGEST).position(|line| line.contains(end)));
            return Some(end.map_or(1, |last| last + 1));
        };
        // The time stamp's bracket is the last one of a line without a message.
        let is_empty = |line: &str| line.rsplit(']').next().is_none_or(|text| text.trim().is_empty());
        let most = &lines[..lines.len().min(LONGEST)];
        let trace = most.iter().position(|line| line.contains("Call Trace"))?;
        let length = trace + most[trace..].iter().position(|line| is_empty(line))?;
        let is_same = MARKS.iter().any(|mark| first.contains(mark))
            && most[..length].iter().any(|line| line.contains(inside));
        is_same.then_some(length)
    }
}

/// Reads testbed/uml/known-reports: `text of the report's line | reason`, or
/// `text of its first line >> text of a further line | reason`.
pub(crate) fn false_reports(site: &Site) -> Result<Vec<FalseReport>> {
    let text = crate::site::files::read(&site.repo.join("testbed/uml/known-reports"))?;
    crate::site::files::data_lines(&text)
        .map(|line| {
            let (pattern, reason) = line
                .split_once('|')
                .context("testbed/uml/known-reports: a line without '|'")?;
            anyhow::ensure!(
                !pattern.trim().is_empty() && !reason.trim().is_empty(),
                "known-reports: {line}"
            );
            Ok(FalseReport::new(pattern))
        })
        .collect()
}

/// The lines of `log` that are or begin reports, without the known false ones.
pub(crate) fn find(log: &str, false_reports: &[FalseReport]) -> Vec<String> {
    let lines: Vec<&str> = log.lines().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if let Some(length) = false_reports
            .iter()
            .find_map(|report| report.covers(&lines[at..]))
        {
            at += length;
            continue;
        }
        // A message of the kernel's start says that such a checker is there.
        let is_report = MARKS.iter().any(|mark| line.contains(mark))
            && !line.contains("kasan: KernelAddressSanitizer initialized");
        if is_report {
            found.push(line.trim().to_owned());
        }
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_found_and_known_ones_are_not() {
        let log = "[ 0.1] Linux version 7\n[ 0.2] kasan: KernelAddressSanitizer initialized\n\
                   [ 3.0] BUG: KASAN: slab-use-after-free in f\n[ 4.0] INFO: task x:1 blocked for more than \
                   20 seconds\n\
                   [ 5.0] WARNING: suspicious RCU usage\n";
        assert_eq!(find(log, &[]).len(), 3);
        assert_eq!(find(log, &[FalseReport::new("suspicious RCU")]).len(), 2);
    }

    #[test]
    fn a_whole_report_is_known_by_one_of_its_lines() {
        let log = "[ 1.0] WARNING: suspicious RCU usage\n[ 1.0] \n[ 1.0] Call Trace:\n[ 1.0]  [<60>] a+0x1\n\
                   [ 1.0] \n\
                   [ 2.0] WARNING: suspicious RCU usage\n[ 2.0] \n[ 2.0] Call Trace:\n[ 2.0]  [<61>] b+0x1\n\
                   [ 2.0] \n";
        assert_eq!(find(log, &[]).len(), 4);
        let found = find(log, &[FalseReport::new("suspicious RCU usage >> a+0x")]);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|line| line.starts_with("[ 2.0]")), "{found:?}");
        assert_eq!(
            find(log, &[FalseReport::new("suspicious RCU usage >> c+0x")]).len(),
            4
        );
    }

    #[test]
    fn a_known_first_line_stands_for_the_whole_account() {
        let log = "[ 1.0] WARNING: drivers/a.c:5 at f+0x1/0x2, CPU#0: x/1\n[ 1.1] Call Trace:\n[ 1.2] ---[ \
                   end trace 0 ]---\n\
                   [ 2.0] WARNING: drivers/b.c:5 at g+0x1/0x2, CPU#0: x/1\n[ 2.1] Call Trace:\n[ 2.2] ---[ \
                   end trace 0 ]---\n";
        assert_eq!(find(log, &[FalseReport::new("at f+")]).len(), 2);
        let log = "[ 1.0] x: vmalloc error: size 5\n[ 1.1] Call Trace:\n[ 1.2] Mem-Info:\n[ 2.0] y: vmalloc \
                   error: size 5\n\
                   [ 2.1] Call Trace:\n[ 2.2] Mem-Info:\n";
        assert_eq!(find(log, &[FalseReport::new("x: vmalloc")]).len(), 1);
    }
}
