// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev package --crates`: which crates of the packaged programs Debian has, in a version that Cargo takes
//! instead of Cargo.lock's. docs/crates.md lists those that it lacks: a distribution has to package or vendor
//! them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

use crate::bed::Bed;
use crate::make::apt::PrivateApt;
use crate::site::files::write_whole;

/// What debian/rules builds.
const PROGRAMS: [&str; 3] = ["daedalus-daemon", "daedalus-cli", "daedalus-assets"];

/// A crate and its version.
type Crate = (String, String);

/// Compares, and writes the document. The note says how many there are.
pub(crate) fn run(bed: &Bed) -> Result<String> {
    let suite = bed.conf("root.suite")?;
    let tree = bed
        .command("cargo")?
        .args(["tree", "--locked", "--offline", "--prefix=none", "--format={p}"])
        .args(["--edges=normal,build"])
        .args(PROGRAMS.map(|name| format!("--package={name}")))
        .output()?;
    let used = used(&tree);
    ensure!(!used.is_empty(), "cargo tree names no crate:\n{tree}");
    let provided = provided(&PrivateApt::new(bed, suite, None)?.available()?);
    ensure!(!provided.is_empty(), "the package lists of {suite} name no crate");
    let (text, lacking) = document(suite, &used, &provided);
    write_whole(&bed.repo.join("docs/crates.md"), &text)?;
    Ok(format!("{} crates, of which {suite} lacks {lacking}", used.len()))
}

/// The crates of `cargo tree` that are not ours: lines NAME vVERSION, with a path if they are of this tree.
fn used(tree: &str) -> BTreeSet<Crate> {
    tree.lines()
        .filter(|line| !line.contains("(/"))
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
            Some((name.to_owned(), version.to_owned()))
        })
        .collect()
}

/// Names of Debian's packages of crates, those that others provide among them, with the version of the
/// package.
fn provided(available: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for paragraph in available.split("\n\n") {
        let field = |name: &str| {
            paragraph
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let (Some(package), Some(version)) = (field("Package"), field("Version")) else {
            continue;
        };
        if !package.starts_with("librust-") {
            continue;
        }
        let provides = field("Provides").unwrap_or_default();
        let names = provides
            .split(", ")
            .filter_map(|one| one.split(' ').next())
            .chain([package]);
        for name in names {
            found.insert(name.to_owned(), version.to_owned());
        }
    }
    found
}

/// What of a version Cargo's compatibility is about: 1 of 1.2.3, 0.2 of 0.2.3, 0.0.3 of 0.0.3.
fn compatible(version: &str) -> Option<String> {
    let plain = version.split(['-', '+']).next()?;
    let mut parts = plain.split('.');
    let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next()?);
    Some(match (major, minor) {
        ("0", "0") => format!("0.0.{patch}"),
        ("0", _) => format!("0.{minor}"),
        _ => major.to_owned(),
    })
}

fn document(suite: &str, used: &BTreeSet<Crate>, provided: &BTreeMap<String, String>) -> (String, usize) {
    let mut rows = String::new();
    let mut lacking = 0;
    for (name, version) in used {
        let stem = format!("librust-{}", name.to_lowercase().replace('_', "-"));
        let exact = compatible(version).and_then(|key| provided.get(&format!("{stem}-{key}-dev")));
        if exact.is_some() {
            continue;
        }
        lacking += 1;
        let other = provided
            .get(&format!("{stem}-dev"))
            .map_or("none", |version| version.as_str());
        rows.push_str(&format!("| {name} | {version} | {other} |\n"));
    }
    let text = format!(
        "# Crates that Debian lacks\n\n\
         `./dev package --crates` writes this file. It compares the crates of the packaged programs\n\
         (`cargo tree` of {}) with the packages `librust-*-dev`\n\
         of Debian {suite}. Debian has {} of {} in a version that Cargo accepts in place of that of\n\
         Cargo.lock. Somebody would have to package or vendor the others; `./dev package` vendors all of\n\
         them ([install.md](install.md)).\n\n\
         | crate | Cargo.lock | Debian's version |\n\
         | --- | --- | --- |\n{rows}",
        PROGRAMS.join(", "),
        used.len() - lacking,
        used.len(),
    );
    (text, lacking)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_and_a_list_of_packages() {
        let tree = "daedalus-cli v0.1.0 (/daedalus/tree/crates/cli)\nclap v4.5.1\n\
                    clap_derive v4.5.0 (proc-macro)\n\
                    clap v4.5.1 (*)\nlandlock v0.4.4\n";
        let used = used(tree);
        assert_eq!(used.len(), 3);
        let available = "Package: librust-clap-4-dev\nVersion: 4.5.23-1\n\
                         Provides: librust-clap-4+std-dev (= 4.5.23-1), librust-clap-dev (= 4.5.23-1)\n\n\
                         Package: librust-clap-derive-dev\nVersion: 4.5.13-2\n\
                         Provides: librust-clap-derive-4-dev (= 4.5.13-2)\n\nPackage: librust-landlock-dev\n\
                         Version: 0.3.1-1\n\nPackage: libc6-dev\nVersion: 2\n";
        let (text, lacking) = document("trixie", &used, &provided(available));
        assert_eq!(lacking, 1, "{text}");
        assert!(text.contains("| landlock | 0.4.4 | 0.3.1-1 |\n"), "{text}");
    }

    #[test]
    fn compatibility_is_cargos() {
        for (version, key) in [
            ("1.2.3", "1"),
            ("0.9.4", "0.9"),
            ("0.0.6", "0.0.6"),
            ("0.1.0+wasi-1", "0.1"),
        ] {
            assert_eq!(compatible(version).as_deref(), Some(key));
        }
        assert_eq!(compatible("x"), None);
    }
}
