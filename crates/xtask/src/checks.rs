// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks that a guest makes and writes down (testbed/check.sh is the other side).

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::outcome::{Check, CheckResult, Outcome};
use crate::site::cmd::{Cmd, Exit};

/// The script that guests source.
pub(crate) const SCRIPT: &str = "testbed/check.sh";
/// The file of a guest's results with its checks that have ended, one a line.
pub(crate) const FILE: &str = "checks.tsv";

/// Runs a guest, and records its checks, with `label` before their names, as the guest writes them to `file`.
pub(crate) fn watched(guest: &Cmd, file: &Path, label: &str, outcome: &Outcome) -> Result<Exit> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let mut count = 0;
            loop {
                let last = done.load(Ordering::Acquire);
                let text = fs::read_to_string(file).unwrap_or_default();
                // A line counts when it is whole.
                let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
                for line in whole.lines().skip(count) {
                    count += 1;
                    match parse(line) {
                        Ok(mut check) => {
                            check.name = format!("{label}: {}", check.name);
                            outcome.record(check);
                        }
                        Err(error) => {
                            outcome.check(&format!("{label}: a line of {FILE}"), || Err(error));
                        }
                    }
                }
                if last {
                    return;
                }
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        let exit = guest.status();
        done.store(true, Ordering::Release);
        if follower.join().is_err() {
            bail!("following the guest's checks ended by a panic");
        }
        exit
    })
}

/// Reads NAME, VERDICT, the times of begin and end in seconds, NOTE.
fn parse(line: &str) -> Result<Check> {
    let cells: Vec<&str> = line.splitn(5, '\t').collect();
    let [name, result, begin, end, note] = cells.as_slice() else {
        bail!("not five columns: {line}");
    };
    Ok(Check {
        name: (*name).to_owned(),
        result: match *result {
            "passed" => CheckResult::Passed,
            "failed" => CheckResult::Failed,
            "skipped" => CheckResult::Skipped,
            other => bail!("{name}: verdict {other}"),
        },
        note: (*note).to_owned(),
        seconds: end.parse::<f64>()? - begin.parse::<f64>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_guest() {
        let check = parse("apt install\tpassed\t10.25\t12.75\tone\ttwo").unwrap();
        assert_eq!((check.result, check.seconds), (CheckResult::Passed, 2.5));
        assert_eq!(check.note, "one\ttwo");
        assert!(parse("a\tpassed\t1\t2").is_err());
        assert!(parse("a\tmaybe\t1\t2\t").is_err());
    }
}
