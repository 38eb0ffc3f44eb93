// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev coverage`: which lines of kernel/*.c run when everything that tests the module runs. Each guest
//! leaves the counters of its kernel; gcov reads them, and the lines of all guests are put together here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::bed::Bed;
use crate::make::kernel::Kernel;
use crate::outcome::Outcome;
use crate::site::cmd::Cmd;
use crate::site::files::write_json;
use crate::site::ui;
use crate::{compliance, torture};

/// Percent of the lines that have to run.
const WANTED: f64 = 85.0;

/// The guests that are run, by the names of their directories under target/guest.
const GUESTS: [&str; 6] = [
    "compliance",
    "torture-life-coverage",
    "torture-reload",
    "torture-storm",
    "torture-hostile",
    "torture-exhaust-coverage",
];

/// How often each line of a file ran, and each function, which is known by its first line.
#[derive(Debug, Default)]
struct File {
    lines: BTreeMap<u64, u64>,
    functions: BTreeMap<(u64, String), u64>,
}

impl File {
    fn ran(&self) -> usize {
        self.lines.values().filter(|count| **count > 0).count()
    }

    fn percent(&self) -> f64 {
        percent(self.ran(), self.lines.len())
    }

    /// Functions that never ran.
    fn idle(&self) -> impl Iterator<Item = &str> {
        self.functions
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|((_, name), _)| name.as_str())
    }

    /// Runs of lines that never ran, as `N` or `N-M`; what lies between two lines of code counts for neither.
    fn gaps(&self) -> Vec<String> {
        let mut gaps: Vec<(u64, u64)> = Vec::new();
        let mut open = false;
        for (&line, &count) in &self.lines {
            match (count, open, gaps.last_mut()) {
                (0, true, Some(gap)) => gap.1 = line,
                (0, ..) => gaps.push((line, line)),
                _ => {}
            }
            open = count == 0;
        }
        let shown = |(from, to): (u64, u64)| match from == to {
            true => from.to_string(),
            false => format!("{from}-{to}"),
        };
        gaps.into_iter().map(shown).collect()
    }
}

type Files = BTreeMap<String, File>;

/// Runs it; `Err` is for what kept it from running at all.
pub(crate) fn run(bed: &Bed) -> Result<Outcome> {
    // Else a guest that did not run would be judged by what an earlier one left.
    for guest in GUESTS {
        std::fs::remove_dir_all(bed.target.join("guest").join(guest).join("gcov")).ok();
    }
    let outcome = compliance::run(bed, Kernel::Coverage)?;
    outcome.absorb(torture::run(bed, &torture::Args::coverage())?);
    let notes = bed.target.join("module/coverage/kernel");
    let mut files = Files::new();
    for guest in GUESTS {
        let name = format!("coverage: counters of {guest}");
        let counters = bed.target.join("guest").join(guest).join("gcov");
        outcome.check(&name, || {
            let found = gather(&notes, &counters, &mut files)?;
            Ok(format!("{found} files"))
        });
    }
    outcome.check("coverage: lines of kernel/*.c", || judge(bed, &files));
    Ok(outcome)
}

/// Adds what one guest counted. gcov wants the compiler's notes beside the counters.
fn gather(notes: &Path, counters: &Path, files: &mut Files) -> Result<usize> {
    let mut found = 0;
    for entry in std::fs::read_dir(counters).with_context(|| format!("no {}", counters.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|end| end != "gcda") {
            continue;
        }
        let name = path.file_stem().context("a counter without a name")?;
        let note = Path::new(name).with_extension("gcno");
        std::fs::copy(notes.join(&note), counters.join(&note))
            .with_context(|| format!("no {} in {}", note.display(), notes.display()))?;
        let text = Cmd::new("gcov")
            .args(["--json-format", "--stdout"])
            .arg(&path)
            .cwd(counters)
            .output()?;
        add(&serde_json::from_str(&text).context("what gcov printed")?, files)?;
        found += 1;
    }
    ensure!(found > 0, "nothing was counted");
    Ok(found)
}

/// Adds the lines and functions of gcov's JSON; of headers only gcov speaks too, and they are left out.
fn add(report: &Value, files: &mut Files) -> Result<()> {
    for file in report["files"].as_array().context("no files in gcov's JSON")? {
        let path = file["file"].as_str().context("a file without a name")?;
        let name = path.rsplit('/').next().unwrap_or(path);
        if !(name.starts_with("daedalus_") && name.ends_with(".c")) {
            continue;
        }
        let sum = files.entry(name.to_owned()).or_default();
        for line in file["lines"].as_array().into_iter().flatten() {
            let number = line["line_number"].as_u64().context("a line without a number")?;
            *sum.lines.entry(number).or_default() += line["count"].as_u64().unwrap_or(0);
        }
        for function in file["functions"].as_array().into_iter().flatten() {
            let at = function["start_line"].as_u64().unwrap_or(0);
            let name = function["name"].as_str().unwrap_or("?").to_owned();
            *sum.functions.entry((at, name)).or_default() +=
                function["execution_count"].as_u64().unwrap_or(0);
        }
    }
    Ok(())
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 * 100.0 / whole as f64
}

/// Prints and keeps the table; fails if too little ran.
fn judge(bed: &Bed, files: &Files) -> Result<String> {
    let mut table = String::from(
        "| file | lines | ran | % | functions that never ran |\n| --- | ---: | ---: | ---: | --- |\n",
    );
    for (name, file) in files {
        let idle: Vec<_> = file.idle().map(|name| format!("`{name}`")).collect();
        let (lines, ran) = (file.lines.len(), file.ran());
        writeln!(
            table,
            "| {name} | {lines} | {ran} | {:.1} | {} |",
            file.percent(),
            idle.join(", ")
        )?;
    }
    let lines = files.values().map(|file| file.lines.len()).sum();
    let ran = files.values().map(File::ran).sum();
    let share = percent(ran, lines);
    writeln!(table, "| all | {lines} | {ran} | {share:.1} | |")?;
    for line in table.lines() {
        ui::line(&format!("    {line}"));
    }
    let details: BTreeMap<_, _> = files
        .iter()
        .map(|(name, file)| {
            let idle: Vec<_> = file.idle().collect();
            let shown = json!({
                "lines": file.lines.len(), "ran": file.ran(),
                "functions_never_run": idle, "lines_never_run": file.gaps(),
            });
            (name, shown)
        })
        .collect();
    let dir = bed.target.join("torture");
    write_json(
        &dir.join("coverage.json"),
        &json!({ "lines": lines, "ran": ran, "percent": share, "files": details }),
    )?;
    std::fs::write(dir.join("coverage.md"), &table)?;
    if share < WANTED {
        bail!(
            "{ran} of {lines} lines ran, {share:.1} %, and {WANTED} % have to (target/torture/coverage.json)"
        );
    }
    Ok(format!("{ran} of {lines} lines ran, {share:.1} %"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_add_up() {
        let report = |counts: [u64; 4]| {
            json!({ "files": [
                { "file": "/a/kernel/daedalus_x.c",
                  "lines": [
                    { "line_number": 10, "count": counts[0] }, { "line_number": 11, "count": counts[1] },
                    { "line_number": 14, "count": counts[2] }, { "line_number": 20, "count": counts[3] },
                  ],
                  "functions": [
                    { "name": "f", "start_line": 10, "execution_count": counts[0] },
                    { "name": "g", "start_line": 20, "execution_count": counts[3] },
                  ] },
                {
                    "file": "include/linux/list.h",
                    "lines": [{ "line_number": 1, "count": 1 }],
                    "functions": []
                },
            ]})
        };
        let mut files = Files::new();
        add(&report([1, 0, 0, 0]), &mut files).unwrap();
        let file = &files["daedalus_x.c"];
        assert_eq!((file.ran(), file.gaps()), (1, vec!["11-20".to_owned()]));
        assert_eq!(file.idle().collect::<Vec<_>>(), ["g"]);
        add(&report([0, 0, 5, 0]), &mut files).unwrap();
        let file = &files["daedalus_x.c"];
        assert_eq!(files.len(), 1);
        assert_eq!(file.gaps(), ["11", "20"]);
        assert!((file.percent() - 50.0).abs() < 1e-9);
        assert!(add(&json!({}), &mut files).is_err());
    }
}
