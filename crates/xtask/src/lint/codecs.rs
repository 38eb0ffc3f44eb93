// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Codecs are named in few places: their own folders and files, the registry, the tables of clips and limits,
//! and documents. All other files iterate the registry.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use daedalus_uapi::Codec;
use daedalus_uapi::fourcc;
use serde_json::{Value, json};

use super::exceptions::Exceptions;

/// The name of this check in the list of exceptions.
pub(crate) const NAME: &str = "codec";
/// How many files may name a codec without being of the kinds below.
const MOST: usize = 20;

/// The registry: of the programs, of the protocol, of the module, and of the folders of codecs.
const REGISTRY: [&str; 4] = [
    "crates/uapi/src/codec.rs",
    "include/uapi/linux/daedalus.h",
    "kernel/daedalus_codecs.h",
    "crates/codecs/src/lib.rs",
];
/// What tables of clips and limits end with.
const TABLE: &str = ".tsv";
/// What documents end with or lie in.
const DOCUMENTS: [&str; 5] = [".md", ".svg", "LICENSES/", "debian/changelog", "debian/copyright"];
/// Names that a codec's name is a part of, without being codecs: a library, with elements named after it, and
/// what files of raw pictures begin with.
const NO_CODECS: [&str; 2] = ["dav1d", "yuv4mpeg2"];

/// Checks all files; returns the report and the result.
///
/// # Errors
///
/// Names each file that names a codec, with the first line that does.
pub(crate) fn check(files: &BTreeMap<String, String>, exceptions: &Exceptions) -> (Value, Result<String>) {
    let words = words();
    let mut found = BTreeMap::new();
    let mut report = BTreeMap::new();
    for (file, text) in files.iter().filter(|(file, _)| !may_name(file, &words)) {
        let lines: Vec<(usize, &str)> = text
            .lines()
            .zip(1..)
            .filter(|(line, _)| names(line, &words))
            .map(|(line, number)| (number, line.trim()))
            .collect();
        if let Some((number, line)) = lines.first() {
            let shown: String = line.chars().take(60).collect();
            found.insert(file.clone(), format!("{file}:{number} names a codec: {shown}"));
            report.insert(file, lines.iter().map(|(number, _)| *number).collect::<Vec<_>>());
        }
    }
    let report = json!({ "words": words, "files": report });
    let judged = || -> Result<String> {
        let count = exceptions.count(NAME, MOST)?;
        let wrong = exceptions.judge(NAME, &found);
        if !wrong.is_empty() {
            bail!("{}", wrong.join("; "));
        }
        Ok(format!("{} files, {count} exceptions", files.len()))
    };
    (report, judged())
}

/// Returns what stands for a codec in a text, in small letters: names, formats, magic numbers.
fn words() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for codec in Codec::ALL {
        let row = codec.info();
        let formats = row.stateful_formats.iter().chain([&row.coded_format]);
        words.extend(formats.map(|format| fourcc::name(*format)));
        words.extend(row.ivf.iter().map(|magic| fourcc::name(fourcc::fourcc(*magic))));
        words.extend([row.name, row.title].into_iter().map(str::to_owned));
        words.extend(row.matroska.iter().map(|&name| name.to_owned()));
    }
    words.into_iter().map(|word| word.to_lowercase()).collect()
}

/// Returns true if a line has one of the words, also as a part of a longer one.
fn names(line: &str, words: &BTreeSet<String>) -> bool {
    let line = NO_CODECS
        .iter()
        .fold(line.to_lowercase(), |line, name| line.replace(name, ""));
    words.iter().any(|word| line.contains(word.as_str()))
}

/// Returns true for files that may name a codec.
fn may_name(file: &str, words: &BTreeSet<String>) -> bool {
    let document = |part: &&str| file.ends_with(*part) || file.starts_with(*part);
    let own = file
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|part| words.contains(&part.to_lowercase()));
    own || REGISTRY.contains(&file) || file.ends_with(TABLE) || DOCUMENTS.iter().any(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(file: &str, text: &str, exceptions: &str) -> Result<String> {
        let files = BTreeMap::from([(file.to_owned(), text.to_owned())]);
        check(
            &files,
            &Exceptions::parse(&format!("check\tfile\treason\n{exceptions}"), &[NAME])?,
        )
        .1
    }

    #[test]
    fn every_codec_of_the_registry_is_looked_for() {
        for codec in Codec::ALL {
            let format = fourcc::name(codec.coded_format());
            for text in [
                codec.name(),
                codec.title(),
                &format,
                &format!("x{}y_", codec.name()),
            ] {
                let error = judged("a/b.rs", &format!("\n {text}"), "")
                    .unwrap_err()
                    .to_string();
                assert!(error.starts_with("a/b.rs:2 names a codec: "), "{error}");
            }
            for file in ["{}/b.rs", "a/x_{}.c", "a/{}-b.txt", "a/{}"] {
                assert!(
                    judged(&file.replace("{}", codec.name()), codec.title(), "").is_ok(),
                    "{file}"
                );
            }
        }
        assert!(
            judged(
                "a/b.rs",
                "libdav1d is a library, dav1ddec its element, YUV4MPEG2 the head of raw pictures",
                ""
            )
            .is_ok()
        );
    }

    #[test]
    fn the_registry_tables_and_documents_name_codecs() {
        let name = Codec::ALL[0].name();
        for file in REGISTRY
            .into_iter()
            .chain(["a/clips.tsv", "docs/a.md", "docs/a/b.svg"])
        {
            assert!(judged(file, name, "").is_ok(), "{file}");
        }
    }

    #[test]
    fn an_exception_has_to_be_needed() {
        let name = Codec::ALL[0].name();
        assert!(judged("a/b.rs", name, "codec\ta/b.rs\ta reason\n").is_ok());
        assert!(judged("a/b.rs", "none", "codec\ta/b.rs\ta reason\n").is_err());
        let many: Vec<String> = (0..=MOST).map(|n| format!("codec\t{n}.rs\ta reason\n")).collect();
        let error = judged("a/b.rs", "none", &many.concat()).unwrap_err().to_string();
        assert!(error.contains("20 are allowed"), "{error}");
    }
}
