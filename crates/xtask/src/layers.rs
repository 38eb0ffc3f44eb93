// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The layers of the kernel module: which file calls which, and that no call points upward.
//!
//! The order of the files is the list at the top of `kernel/daedalus_core.h`, from the top layer to the
//! bottom one. Files on one line are one layer and do not call each other. The line with `<codec>` stands for
//! the files of all codecs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use daedalus_uapi::Codec;

use crate::bed::Bed;
use crate::outcome::Outcome;
use crate::site::files::{read, write_whole};

/// The file whose comment lists the layers.
const LIST: &str = "kernel/daedalus_core.h";

/// The word of the list for the files of codecs.
const CODECS: &str = "daedalus_<codec>";

/// Which files a file calls, and by which functions.
type Calls = BTreeMap<(String, String), BTreeSet<String>>;

/// Checks the order of the layers and writes target/layers.md: the calls between files, and the lines of
/// each.
pub(crate) fn check(bed: &Bed, outcome: &Outcome) {
    outcome.check("module: calls between layers point downward", || {
        let ranks = ranks(&read(&bed.repo.join(LIST))?)?;
        let sources = sources(bed)?;
        for file in sources.keys() {
            if !ranks.contains_key(file) {
                bail!("{file}.c is not in the list of layers of {LIST}");
            }
        }
        let calls = calls(&sources);
        write_whole(&bed.target.join("layers.md"), &table(&calls, &sources))?;
        let upward: Vec<String> = calls
            .iter()
            .filter(|((from, to), _)| ranks[from] >= ranks[to])
            .map(|((from, to), names)| format!("{from} calls {to}: {}", join(names)))
            .collect();
        if !upward.is_empty() {
            bail!("{}", upward.join("; "));
        }
        Ok(format!("{} files, {} arrows", sources.len(), calls.len()))
    });
}

/// The rank of each file, the top layer first: from the list in the comment.
fn ranks(header: &str) -> Result<BTreeMap<String, usize>> {
    let mut ranks = BTreeMap::new();
    let lines = header
        .lines()
        .filter_map(|line| line.strip_prefix(" *\tdaedalus_"))
        .map(|line| format!("daedalus_{line}"));
    for (rank, line) in lines.enumerate() {
        for word in line.split_whitespace() {
            if word == CODECS {
                let files = Codec::ALL.iter().map(|codec| format!("daedalus_{codec}"));
                ranks.extend(files.map(|file| (file, rank)));
            } else if word.starts_with("daedalus_") {
                ranks.insert(word.to_owned(), rank);
            }
        }
    }
    if ranks.is_empty() {
        bail!("{LIST} has no list of layers");
    }
    Ok(ranks)
}

/// The text of each source file of the module, by its name without the extension.
fn sources(bed: &Bed) -> Result<BTreeMap<String, String>> {
    let mut sources = BTreeMap::new();
    for entry in std::fs::read_dir(bed.repo.join("kernel"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "c") {
            let name = path.file_stem().context("a file without a name")?;
            sources.insert(name.to_string_lossy().into_owned(), read(&path)?);
        }
    }
    Ok(sources)
}

/// The names that begin with `daedalus_` in a line.
fn names(line: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    line.match_indices("daedalus_").filter_map(move |(at, _)| {
        let begins = line[..at].chars().next_back().is_none_or(|c| !is_word(c));
        let end = line[at..].find(|c| !is_word(c)).map_or(line.len(), |n| at + n);
        begins.then_some((at, &line[at..end]))
    })
}

/// The functions and objects that a file defines for others: names in lines that begin a definition.
fn defined(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let first = line.chars().next().unwrap_or(' ');
        let begins = first.is_ascii_lowercase()
            && !line.starts_with("static ")
            && !line.starts_with("struct daedalus_");
        let function = first.is_ascii_lowercase() && !line.starts_with("static ") && line.contains('(');
        if !(begins || function) || line.ends_with(';') && line.contains('(') {
            continue;
        }
        for (at, name) in names(line) {
            let after = line[at + name.len()..].chars().next().unwrap_or(' ');
            let is_type = line[..at].ends_with("struct ");
            if !is_type && "([ =".contains(after) {
                found.insert(name.to_owned());
                break;
            }
        }
    }
    found
}

/// Which file uses a function or an object that another one defines.
fn calls(sources: &BTreeMap<String, String>) -> Calls {
    let mut owner = BTreeMap::new();
    for (file, text) in sources {
        for name in defined(text) {
            owner.insert(name, file.clone());
        }
    }
    let mut calls = Calls::new();
    for (file, text) in sources {
        for line in code(text) {
            for (at, name) in names(line) {
                if line[..at].ends_with("struct ") {
                    continue;
                }
                match owner.get(name) {
                    Some(other) if other != file => {
                        calls
                            .entry((file.clone(), other.clone()))
                            .or_default()
                            .insert(name.to_owned());
                    }
                    _ => {}
                }
            }
        }
    }
    calls
}

/// Iterates the lines that are neither blank nor a comment of `//` or `/* */`.
pub(crate) fn code(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let line = line.trim();
        if inside {
            inside = !line.contains("*/");
            return false;
        }
        if line.starts_with("/*") {
            inside = !line.contains("*/");
            return false;
        }
        !line.is_empty() && !line.starts_with("//")
    })
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The report: lines of code per file, then the arrows.
fn table(calls: &Calls, sources: &BTreeMap<String, String>) -> String {
    let mut text = String::from(
        "# Files of the module\n\n| file | lines without blanks and comments |\n| --- | --- |\n",
    );
    let mut all = 0;
    for (file, source) in sources {
        let lines = code(source).count();
        all += lines;
        text.push_str(&format!("| {file}.c | {lines} |\n"));
    }
    text.push_str(&format!(
        "| all | {all} |\n\n# Who calls whom\n\n| file | calls | by |\n| --- | --- | --- |\n"
    ));
    for ((from, to), names) in calls {
        text.push_str(&format!("| {from} | {to} | {} |\n", join(names)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "/*\n *\tdaedalus_top\t\ta\n *\tdaedalus_left  daedalus_right\tb\n \
                          *\tdaedalus_<codec>\tc\n *\tdaedalus_low\td\n */\n";

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter()
            .map(|(name, text)| ((*name).into(), (*text).into()))
            .collect()
    }

    #[test]
    fn layers_are_read_from_the_top_down() {
        let ranks = ranks(HEADER).unwrap();
        assert_eq!(ranks["daedalus_top"], 0);
        assert_eq!(ranks["daedalus_left"], ranks["daedalus_right"]);
        for codec in Codec::ALL {
            assert_eq!(ranks[&format!("daedalus_{codec}")], 2);
        }
        assert_eq!(ranks["daedalus_low"], 3);
        assert!(super::ranks("/* none */").is_err());
    }

    #[test]
    fn a_call_is_an_arrow_and_a_comment_is_none() {
        let sources = files(&[
            (
                "daedalus_low",
                "/** daedalus_get() - get */\nint daedalus_get(struct daedalus_x *x)\n{\n}\n",
            ),
            (
                "daedalus_top",
                "/* daedalus_get() */\nstatic int f(void)\n{\n\treturn daedalus_get(NULL);\n}\n",
            ),
            (
                "daedalus_left",
                "/*\n * daedalus_get()\n */\nstruct daedalus_x x;\n",
            ),
        ]);
        let calls = calls(&sources);
        assert_eq!(calls.len(), 1);
        let key = ("daedalus_top".to_owned(), "daedalus_low".to_owned());
        assert_eq!(join(&calls[&key]), "daedalus_get");
    }

    #[test]
    fn definitions_are_functions_and_objects() {
        let text = "const struct daedalus_codec daedalus_table = {\n};\nu64 daedalus_id(struct daedalus_mem \
                    *m)\n{\n}\n\
                    static int daedalus_own(void)\n{\n}\nextern int daedalus_other(void);\n";
        let found = defined(text);
        assert!(
            found.contains("daedalus_table") && found.contains("daedalus_id"),
            "{found:?}"
        );
        assert!(
            !found.contains("daedalus_own") && !found.contains("daedalus_codec"),
            "{found:?}"
        );
    }
}
