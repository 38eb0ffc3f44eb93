// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Circles of imports: no two files of a crate may need each other, directly or through others.
//!
//! A file needs another when a path in it leads to an item of the other, by `use` or in the code. A path that
//! leads through an import of a third file needs that file, too, unless it is the crate's root, whose imports
//! are its face. `mod x;` alone is no need, and neither is what a macro expands to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Result, anyhow};
use serde_json::{Value, json};

use super::exceptions::Exceptions;
use super::rust::Tree;

/// The name of this check in the list of exceptions.
pub(crate) const NAME: &str = "circle";

/// Which files a file needs, and one path that leads to each.
type Needs = BTreeMap<String, BTreeMap<String, String>>;

/// Checks all crates; returns the report and, in it or as an error, the circles that are not excepted.
///
/// # Errors
///
/// Names each circle by its files.
pub(crate) fn check(files: &BTreeMap<String, String>, exceptions: &Exceptions) -> (Value, Result<String>) {
    let mut crates = Vec::new();
    let mut found = BTreeMap::new();
    for root in roots(files) {
        let needs = needs(&Tree::read(&root, files));
        let circles = circles(&needs);
        for circle in &circles {
            let text = shown(&needs, circle);
            for file in circle {
                found.insert(file.clone(), text.clone());
            }
        }
        crates.push(json!({ "root": root, "needs": needs, "circles": circles }));
    }
    let (count, tied) = (crates.len(), found.len());
    let wrong = exceptions.judge(NAME, &found);
    let result = if wrong.is_empty() {
        Ok(format!("{count} crates, {tied} files in circles"))
    } else {
        // Every file of a circle has the same text.
        let texts: BTreeSet<String> = wrong.into_iter().collect();
        Err(anyhow!("{}", texts.into_iter().collect::<Vec<_>>().join("; ")))
    };
    (json!({ "crates": crates }), result)
}

/// Finds the root files of all crates: of libraries, programs, tests, examples and build scripts.
fn roots(files: &BTreeMap<String, String>) -> Vec<String> {
    let mut roots = BTreeSet::new();
    let packages = files
        .iter()
        .filter(|(name, text)| name.ends_with("Cargo.toml") && text.contains("[package]"));
    for (manifest, text) in packages {
        let dir = manifest.trim_end_matches("Cargo.toml");
        for file in ["src/lib.rs", "src/main.rs", "build.rs"] {
            roots.insert(format!("{dir}{file}"));
        }
        for line in text.lines() {
            let path = line.trim().strip_prefix("path = \"");
            if let Some(path) = path.and_then(|path| path.strip_suffix(".rs\"")) {
                roots.insert(format!("{dir}{path}.rs"));
            }
        }
        for sub in ["src/bin/", "tests/", "examples/", "benches/"] {
            let below = format!("{dir}{sub}");
            for name in files.keys() {
                let Some(rest) = name.strip_prefix(&below) else {
                    continue;
                };
                let is_root = match rest.split_once('/') {
                    None => rest.ends_with(".rs"),
                    Some((_, rest)) => rest == "main.rs",
                };
                if is_root {
                    roots.insert(name.clone());
                }
            }
        }
    }
    roots
        .into_iter()
        .filter(|root| files.contains_key(root))
        .collect()
}

/// Which file of a crate needs which.
fn needs(tree: &Tree) -> Needs {
    let mut needs = Needs::new();
    for (number, module) in tree.modules.iter().enumerate() {
        let from = needs.entry(module.file.clone()).or_default();
        let imports = module.uses.iter().map(|import| &import.path);
        for path in imports.chain(&module.paths) {
            for to in tree.resolve(number, path) {
                let to = &tree.modules[to].file;
                if *to != module.file {
                    from.entry(to.clone()).or_insert_with(|| path.join("::"));
                }
            }
        }
    }
    needs
}

/// Returns the files that `from` needs, directly or through others.
fn reached<'a>(needs: &'a Needs, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        for to in needs.get(file).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(to.as_str()) {
                open.push(to);
            }
        }
    }
    reached
}

/// Returns the sets of files that need each other.
fn circles(needs: &Needs) -> Vec<BTreeSet<String>> {
    let reach: BTreeMap<&str, BTreeSet<&str>> = needs
        .keys()
        .map(|file| (file.as_str(), reached(needs, file)))
        .collect();
    let mut circles = Vec::new();
    let mut files_seen = BTreeSet::new();
    for (file, reached) in &reach {
        if !reached.contains(file) || !files_seen.insert(*file) {
            continue;
        }
        let mut circle = BTreeSet::from([(*file).to_owned()]);
        for other in reached.iter().filter(|other| reach[**other].contains(file)) {
            files_seen.insert(other);
            circle.insert((*other).to_owned());
        }
        circles.push(circle);
    }
    circles
}

/// Returns a circle's files, and one way around from its first file on.
fn shown(needs: &Needs, circle: &BTreeSet<String>) -> String {
    let all = circle.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let Some(first) = circle.first() else { return all };
    let mut before: BTreeMap<&str, (&str, &String)> = BTreeMap::new();
    let mut open = VecDeque::from([first.as_str()]);
    while let Some(file) = open.pop_front() {
        for (to, path) in &needs[file] {
            if to == first {
                let mut way = format!("{file} uses {path}");
                let mut at = file;
                while let Some(&(earlier, path)) = before.get(at) {
                    way = format!("{earlier} uses {path}, {way}");
                    at = earlier;
                }
                return format!("{} files need each other: {all} ({way})", circle.len());
            }
            if !before.contains_key(to.as_str()) {
                before.insert(to.as_str(), (file, path));
                open.push_back(to);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        let manifest = ("a/Cargo.toml", "[package]\nname = \"a\"\n");
        std::iter::once(&manifest)
            .chain(list)
            .map(|(name, text)| ((*name).into(), (*text).into()))
            .collect()
    }

    fn judged(files: &BTreeMap<String, String>, exceptions: &str) -> Result<String> {
        check(
            files,
            &Exceptions::parse(&format!("check\tfile\treason\n{exceptions}"), &[NAME])?,
        )
        .1
    }

    #[test]
    fn a_circle_is_named_by_its_files() {
        let files = tree(&[
            ("a/src/lib.rs", "mod b; mod c; mod d;"),
            ("a/src/b.rs", "use crate::c::C; pub struct B;"),
            ("a/src/c.rs", "pub struct C; fn f() { super::d::g() }"),
            ("a/src/d.rs", "use crate::b; pub fn g() -> b::B { b::B }"),
        ]);
        let error = judged(&files, "").unwrap_err().to_string();
        assert!(
            error.contains("3 files need each other: a/src/b.rs, a/src/c.rs, a/src/d.rs"),
            "{error}"
        );
        assert!(
            error.contains("a/src/b.rs uses crate::c::C, a/src/c.rs uses super::d::g"),
            "{error}"
        );
        let line = |file: &str| format!("circle\t{file}\tlater\n");
        let all = line("a/src/b.rs") + &line("a/src/c.rs");
        assert!(judged(&files, &all).is_err());
        assert!(judged(&files, &(all + &line("a/src/d.rs"))).is_ok());
    }

    #[test]
    fn a_child_that_uses_its_parents_items_closes_a_circle_with_it() {
        let parent = ("a/src/b.rs", "mod c; pub struct B; fn f() { c::g() }");
        let lib = ("a/src/lib.rs", "mod b;");
        let up = tree(&[lib, parent, ("a/src/b/c.rs", "use super::B; pub fn g() {}")]);
        assert!(judged(&up, "").is_err());
        let down = tree(&[lib, parent, ("a/src/b/c.rs", "pub fn g() {}")]);
        assert!(judged(&down, "").is_ok());
        // Only the declaration leads down.
        let only = tree(&[
            lib,
            ("a/src/b.rs", "mod c; pub struct B;"),
            ("a/src/b/c.rs", "use super::B;"),
        ]);
        assert!(judged(&only, "").is_ok());
    }

    #[test]
    fn a_facade_and_tests_in_the_same_file_close_none() {
        let files = tree(&[
            ("a/src/lib.rs", "mod b; mod c; pub use b::B;"),
            (
                "a/src/b.rs",
                "use crate::c::C; pub struct B; #[cfg(test)] mod tests { use super::*; }",
            ),
            ("a/src/c.rs", "pub struct C;"),
            ("a/src/main.rs", "use a::B;"),
            ("a/tests/t/main.rs", "mod u; use u::f;"),
            ("a/tests/t/u.rs", "pub fn f() {}"),
        ]);
        assert_eq!(judged(&files, "").unwrap(), "3 crates, 0 files in circles");
        assert_eq!(
            roots(&files),
            ["a/src/lib.rs", "a/src/main.rs", "a/tests/t/main.rs"]
        );
    }

    #[test]
    fn an_exception_that_is_not_needed_fails() {
        let files = tree(&[("a/src/lib.rs", "")]);
        let error = judged(&files, "circle\ta/src/b.rs\tlater\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("a/src/b.rs"), "{error}");
    }
}
