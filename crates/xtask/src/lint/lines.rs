// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Lines of code by part of the tree and language, without blanks and comments.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::layers::code;

/// Lines by language.
pub(crate) type Languages = BTreeMap<Language, usize>;

/// What a file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Language {
    /// Rust that is shipped.
    Rust,
    /// Rust of unit and integration tests.
    #[serde(rename = "Rust tests")]
    RustTests,
    /// C and its headers.
    C,
    /// Shell scripts.
    Shell,
    /// Python.
    Python,
    /// Tables, lists, configuration, manifests.
    Data,
}

/// Counts the lines of each part of the tree: a crate, or a directory at its top.
pub(crate) fn count(files: &BTreeMap<String, String>) -> BTreeMap<String, Languages> {
    let mut parts: BTreeMap<String, Languages> = BTreeMap::new();
    for (name, text) in files {
        let Some(language) = language(name, text) else {
            continue;
        };
        let part = parts.entry(part(name)).or_default();
        let mut add = |language, lines| {
            if lines > 0 {
                *part.entry(language).or_default() += lines;
            }
        };
        match language {
            Language::Rust => {
                let (shipped, tests) = text
                    .find("\n#[cfg(test)]\nmod ")
                    .map_or((&text[..], ""), |at| text.split_at(at));
                add(Language::Rust, code(shipped).count());
                add(Language::RustTests, code(tests).count());
            }
            Language::RustTests | Language::C => add(language, code(text).count()),
            Language::Shell | Language::Python | Language::Data => add(language, hashed(text)),
        }
    }
    parts
}

/// Returns the table of a count, as Markdown.
pub(crate) fn table(parts: &BTreeMap<String, Languages>) -> String {
    let languages = [
        (Language::Rust, "Rust"),
        (Language::RustTests, "Rust tests"),
        (Language::C, "C"),
        (Language::Shell, "shell"),
        (Language::Python, "Python"),
        (Language::Data, "data"),
    ];
    let mut sums = Languages::new();
    let mut text = String::from("# Lines without blanks and comments\n\n| part |");
    for (_, name) in languages {
        text.push_str(&format!(" {name} |"));
    }
    text.push_str(&format!("\n|{}\n", " --- |".repeat(languages.len() + 1)));
    let row = |part: &str, lines: &Languages| {
        let cell =
            |(language, _): &(Language, &str)| lines.get(language).map_or(String::new(), usize::to_string);
        let cells: Vec<String> = languages.iter().map(cell).collect();
        format!("| {part} | {} |\n", cells.join(" | "))
    };
    for (part, lines) in parts {
        text.push_str(&row(part, lines));
        for (language, lines) in lines {
            *sums.entry(*language).or_default() += lines;
        }
    }
    text + &row("all", &sums)
}

/// Returns the part of the tree that a file belongs to.
fn part(name: &str) -> String {
    let mut dirs = name.split('/');
    match (dirs.next(), dirs.next(), dirs.next()) {
        (Some("crates"), Some(name), Some(_)) => format!("crates/{name}"),
        (Some("include"), Some(_), _) => "kernel".to_owned(),
        (Some(dir), Some(_), _) => dir.to_owned(),
        _ => "top".to_owned(),
    }
}

/// Returns a file's language; none for documents, licences and what cargo writes.
fn language(name: &str, text: &str) -> Option<Language> {
    let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
    let first = text.lines().next().unwrap_or_default();
    match end {
        "rs" => {
            let tests = stem.split('/').skip(1).any(|part| part == "tests");
            Some(if tests {
                Language::RustTests
            } else {
                Language::Rust
            })
        }
        "c" | "h" => Some(Language::C),
        "sh" => Some(Language::Shell),
        "py" => Some(Language::Python),
        "md" | "svg" | "lock" => None,
        _ if name.starts_with("LICENSES/") || name == "debian/changelog" || name == "debian/copyright" => {
            None
        }
        _ if first.starts_with("#!") && first.contains("python") => Some(Language::Python),
        _ if first.starts_with("#!") && first.ends_with("sh") => Some(Language::Shell),
        // Maintainer scripts have `set -e` after the interpreter's options.
        _ if first.starts_with("#!/bin/sh") || first.starts_with("#!/bin/bash") => Some(Language::Shell),
        _ => Some(Language::Data),
    }
}

/// Counts lines that are neither blank nor a comment of `#`.
fn hashed(text: &str) -> usize {
    let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    text.lines().filter(code).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_by_part_and_language() {
        let rust = "//! doc\n\nfn a() {} // b\n/* c\nd */\n\n#[cfg(test)]\nmod tests {\n}\n";
        let files = [
            ("crates/a/src/lib.rs", rust),
            ("crates/a/tests/b.rs", "fn b() {}\n"),
            ("crates/a/Cargo.toml", "# c\n[package]\n"),
            ("tests/src/main.rs", "fn main() {}\n"),
            ("kernel/a.c", "/*\n * b\n */\nint c;\n"),
            ("include/uapi/a.h", "int d;\n"),
            ("testbed/run", "#!/bin/sh -e\n# b\nset -u\n"),
            ("dev", "#!/usr/bin/env bash\n"),
            ("docs/a.md", "text\n"),
        ];
        let files = files
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into();
        let parts = count(&files);
        let of = |part: &str, language| parts[part].get(&language).copied();
        assert_eq!(of("crates/a", Language::Rust), Some(1));
        assert_eq!(of("crates/a", Language::RustTests), Some(4));
        assert_eq!(of("crates/a", Language::Data), Some(1));
        assert_eq!(of("tests", Language::Rust), Some(1));
        assert_eq!(of("kernel", Language::C), Some(2));
        assert_eq!(of("testbed", Language::Shell), Some(1));
        assert!(!parts.contains_key("docs"));
        assert!(table(&parts).contains("| kernel |  |  | 2 |  |  |  |\n"));
    }
}
