// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Checks that run nothing of the device: sources as text, format, clippy, unit tests, licences, and the
//! kernel's own checkers on the module.

mod codecs;
mod columns;
mod crates;
mod exceptions;
mod imports;
mod lines;
mod module;
mod rust;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use daedalus_common::vectors;
use serde_json::Value;

use crate::bed::Bed;
use crate::make::kernel::Kernel;
use crate::outcome::Outcome;
use crate::site::cmd::{Cmd, last_lines};
use crate::site::files::{read, write_json, write_whole};
use crate::{docs, layers};
pub(crate) use crates::licences;
use exceptions::Exceptions;
pub(crate) use module::{checkpatch, warnings};

/// A source file has one role; more lines than this say that it has several.
const MOST_LINES: usize = 900;

/// Arguments of `./dev lint`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {
    /// Only the checks that read the tree's files, and build nothing
    #[arg(long)]
    files: bool,
}

/// `./dev lint`.
pub(crate) fn run(bed: &Bed, args: &Args, parse: docs::Parse) -> Result<Outcome> {
    let outcome = Outcome::new();
    files(bed, &outcome);
    docs::marked(bed, &outcome, parse);
    if args.files {
        return Ok(outcome);
    }
    bed.host.ready()?;
    rust(bed, &outcome);
    licences(bed, &outcome);
    checkpatch(bed, &outcome);
    for which in [Kernel::Plain, Kernel::Sanitizers] {
        warnings(bed, &outcome, which);
    }
    Ok(outcome)
}

/// Headers and sizes of all files of the tree, what they name and import, and the layers of the module.
pub(crate) fn files(bed: &Bed, outcome: &Outcome) {
    layers::check(bed, outcome);
    sources(bed, outcome);
    place_of_vectors(bed, outcome);
    outcome.check("every file names its licence and has one role", || {
        let listed = listed(&read(&bed.repo.join("REUSE.toml"))?);
        let files = texts(bed)?;
        let mut wrong = Vec::new();
        for (name, text) in &files {
            let licence =
                name.starts_with("LICENSES/") || listed.iter().any(|pattern| matches(pattern, name));
            let header = |line: &str| line.contains("SPDX-License-Identifier: ");
            if !licence && !text.lines().take(4).any(header) {
                wrong.push(format!(
                    "{name} has no SPDX-License-Identifier and is not in REUSE.toml"
                ));
            }
            let end = Path::new(name).extension().and_then(|end| end.to_str());
            if matches!(end, Some("rs" | "c" | "h")) && text.lines().count() > MOST_LINES {
                wrong.push(format!("{name} has more than {MOST_LINES} lines"));
            }
        }
        if !wrong.is_empty() {
            bail!("{}", wrong.join("; "));
        }
        Ok(format!("{} files", files.len()))
    });
}

/// Circles of imports, names of codecs and long lines, and a count of the lines. The reports are
/// target/imports.json, codecs.json, columns.json, lines.json and lines.md.
fn sources(bed: &Bed, outcome: &Outcome) {
    type Check = fn(&BTreeMap<String, String>, &Exceptions) -> (Value, Result<String>);
    let checks: [(&str, &str, Check); 3] = [
        ("no two files import each other", "imports", imports::check),
        (
            "only a codec's own files and the tables name it",
            "codecs",
            codecs::check,
        ),
        ("lines have at most 110 columns", "columns", columns::check),
    ];
    let sources = || -> Result<_> {
        let names = [imports::NAME, codecs::NAME, columns::NAME];
        let list = Exceptions::parse(&read(&bed.repo.join(exceptions::FILE))?, &names)?;
        let files: BTreeMap<String, String> = texts(bed)?.into_iter().collect();
        let lines = lines::count(&files);
        write_json(&bed.target.join("lines.json"), &lines)?;
        write_whole(&bed.target.join("lines.md"), &lines::table(&lines))?;
        Ok((list, files))
    };
    let (list, files) = match sources() {
        Ok(sources) => sources,
        Err(error) => {
            outcome.check("the sources are read", || Err(error));
            return;
        }
    };
    for (name, report, check) in checks {
        outcome.check(name, || {
            let (found, result) = check(&files, &list);
            write_json(&bed.target.join(format!("{report}.json")), &found)?;
            result
        });
    }
}

/// Reads the text files that git knows of: their names and what is in them.
fn texts(bed: &Bed) -> Result<Vec<(String, String)>> {
    let names = Cmd::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .cwd(&bed.repo)
        .output()
        .context("the tree is no git checkout")?;
    // A file that was just removed and is not committed yet has nothing to check, nor has one that is no
    // text.
    let text = |name: &str| {
        let text = std::fs::read_to_string(bed.repo.join(name)).ok()?;
        Some((name.to_owned(), text))
    };
    Ok(names.split('\0').filter_map(text).collect())
}

/// Checks that every file that wants the vectors asks `vectors::beside` for them.
fn place_of_vectors(bed: &Bed, outcome: &Outcome) {
    outcome.check("one file says where the vectors are", || {
        let files = texts(bed)?;
        let (names, wrong): (Vec<&str>, Vec<&str>) = files
            .iter()
            .filter(|(_, text)| names_vectors(text))
            .map(|(name, _)| name.as_str())
            .partition(|name| may_name_vectors(name));
        if !wrong.is_empty() {
            bail!("{}: ask crates/common/src/vectors.rs", wrong.join(", "));
        }
        Ok(names.join(", "))
    });
}

/// Returns true if a text has the vectors' path, or the part of it that another spelling begins with.
fn names_vectors(text: &str) -> bool {
    let whole = vectors::PLACE.trim_start_matches("../");
    let beside = vectors::PLACE.trim_end_matches("/vectors");
    text.contains(whole) || text.contains(beside)
}

/// Returns true for the file with the function, the script that makes the mount point in the root, and
/// documents, which tell their readers where to put the vectors.
fn may_name_vectors(name: &str) -> bool {
    let files = ["crates/common/src/vectors.rs", "testbed/root/customize"];
    files.contains(&name) || name.ends_with(".md")
}

/// The patterns of REUSE.toml's `path` lines.
fn listed(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with("path"))
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

/// True if `name` is meant by a pattern, in which `*` is anything without a directory.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((begin, end)) => name
            .strip_prefix(begin)
            .and_then(|rest| rest.strip_suffix(end))
            .is_some_and(|rest| !rest.contains('/')),
    }
}

/// Runs cargo in the root with a log of its own.
fn cargo(bed: &Bed, name: &str, args: &[&str]) -> Result<PathBuf> {
    let log = bed.target.join(format!("test/{name}.log"));
    std::fs::remove_file(&log).ok();
    bed.command("cargo")?.args(args).log(&log).run()?;
    Ok(log)
}

/// Format and clippy, with the Rust of the Debian root: the oldest that is supported.
pub(crate) fn rust(bed: &Bed, outcome: &Outcome) {
    outcome.check("format (cargo fmt)", || {
        cargo(bed, "fmt", &["fmt", "--all", "--check"])?;
        Ok(String::new())
    });
    outcome.check("clippy, no warning and no undocumented unsafe", || {
        let words = "clippy --workspace --all-targets --locked --offline -- -D warnings \
                     -D clippy::undocumented_unsafe_blocks -D unsafe_op_in_unsafe_fn";
        cargo(bed, "clippy", &words.split_whitespace().collect::<Vec<_>>())?;
        Ok(String::new())
    });
}

/// The unit and integration tests that need no kernel.
pub(crate) fn unit_tests(bed: &Bed, outcome: &Outcome) {
    outcome.check("unit tests (cargo test)", || {
        let words = ["test", "--workspace", "--locked", "--offline", "--no-fail-fast"];
        let log = cargo(bed, "unit", &words).map_err(|error| {
            let text = std::fs::read_to_string(bed.target.join("test/unit.log")).unwrap_or_default();
            match failures(&text) {
                failed if failed.is_empty() => error,
                failed => error.context(failed),
            }
        })?;
        let text = read(&log)?;
        let (passed, ignored) = test_counts(&text);
        if passed == 0 {
            bail!("cargo test ran no test:\n{}", last_lines(&text, 10));
        }
        Ok(format!("{passed} passed, {ignored} ignored"))
    });
    let text = std::fs::read_to_string(bed.target.join("test/unit.log")).unwrap_or_default();
    let skips = skips(&text);
    if !skips.is_empty() {
        outcome.skip(&format!("unit tests: {}", skips.join(", ")), vectors::MISSING);
    }
}

/// Returns what tests of a `cargo test` log said that they skipped for want of the vectors.
fn skips(log: &str) -> Vec<&str> {
    // A test's line may begin with what the harness said of another test.
    let part = |line: &str| {
        let begin = line.find(vectors::SKIPPED)? + vectors::SKIPPED.len();
        let end = line.find(vectors::MISSING)?.checked_sub(": ".len())?;
        Some((begin, end))
    };
    log.lines()
        .filter_map(|line| part(line).and_then(|(begin, end)| line.get(begin..end)))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect()
}

/// What the targets that failed said at their end, of a `cargo test --no-fail-fast` log; empty if none is
/// named.
fn failures(log: &str) -> String {
    let mut text = String::new();
    for target in log
        .lines()
        .filter_map(|line| line.trim().strip_prefix("`-p ")?.strip_suffix('`'))
    {
        // `-p PACKAGE --test NAME`, or `--lib` and `--bin NAME`, whose files are named after the crate.
        let mut words = target.split_whitespace();
        let package = words.next().unwrap_or_default().replace('-', "_");
        let name = words.nth(1).map_or(package, |name| name.replace('-', "_"));
        let section = log.split("     Running ").find(|part| {
            part.lines()
                .next()
                .unwrap_or_default()
                .contains(&format!("/{name}-"))
        });
        text.push_str(&format!(
            "{target}:\n{}\n",
            last_lines(section.unwrap_or_default(), 25)
        ));
    }
    text
}

/// Sums of the `test result:` lines: passed and ignored.
fn test_counts(log: &str) -> (usize, usize) {
    let number = |line: &str, word: &str| {
        let mut before = "";
        for part in line.split_whitespace() {
            if part.trim_end_matches(';') == word {
                return before.parse().unwrap_or(0);
            }
            before = part;
        }
        0
    };
    log.lines()
        .filter(|line| line.starts_with("test result:"))
        .fold((0, 0), |(passed, ignored), line| {
            (passed + number(line, "passed"), ignored + number(line, "ignored"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_a_header_are_listed_by_pattern() {
        let listed = listed("version = 1\npath = [\"*.md\", \"docs/*\", \"a\"]\nother = \"b\"\n");
        assert_eq!(listed, ["*.md", "docs/*", "a"]);
        let any = |name: &str| listed.iter().any(|pattern| matches(pattern, name));
        assert!(any("README.md") && any("docs/x.png") && any("a"));
        assert!(!any("crates/README.md") && !any("docs/x/y") && !any("b"));
    }

    #[test]
    fn only_one_source_may_name_the_vectors() {
        let whole = format!("dir.join({:?})", vectors::PLACE);
        let (parent, name) = vectors::PLACE.rsplit_once('/').unwrap_or_default();
        let parts = format!("dir.join({parent:?}).join({name:?})");
        assert!(names_vectors(&whole) && names_vectors(&parts) && names_vectors(&whole.replace("../", "x/")));
        assert!(!names_vectors(
            "let vectors = vectors::beside(tree); // a shared mapping"
        ));
        assert!(may_name_vectors("README.md") && may_name_vectors("crates/common/src/vectors.rs"));
        assert!(!may_name_vectors("crates/client/tests/vectors.rs"));
    }

    #[test]
    fn test_results_add_up() {
        let log = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\n\
                   test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(test_counts(log), (7, 1));
        assert_eq!(test_counts("nothing"), (0, 0));
    }

    #[test]
    fn skipped_tests_are_named_once() {
        let line = format!("{}the engine (a codec): {}\n", vectors::SKIPPED, vectors::MISSING);
        let log = format!("test a ... {line}ok\n{line}test result: ok\n");
        assert_eq!(skips(&log), ["the engine (a codec)"]);
        assert!(skips("test result: ok. 3 passed").is_empty());
    }

    #[test]
    fn failed_targets_are_quoted() {
        let log = "     Running unittests src/lib.rs (target/debug/deps/my_crate-12)\nown words\n\
                   \x20    Running tests/rebuild/main.rs (target/debug/deps/rebuild-34)\n3 failed\n\
                   \x20  Doc-tests my_crate\nerror: 2 targets failed:\n    `-p my-crate --lib`\n    \
                   `-p my-crate --test rebuild`\n";
        let text = failures(log);
        assert!(
            text.contains("my-crate --lib:") && text.contains("own words"),
            "{text}"
        );
        assert!(text.contains("3 failed"), "{text}");
        assert_eq!(failures("test result: ok"), "");
    }
}
