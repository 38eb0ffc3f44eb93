// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The conformance vectors, which lie beside the tree and are no part of it.
//!
//! No other file says where they are: `./dev lint` refuses it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The folder of the vectors, seen from the top of the tree.
pub const PLACE: &str = "../shared/vectors";

/// The line of a test that is skipped for want of the vectors.
pub const MISSING: &str = "no conformance vectors: unpack them to ../shared/vectors beside the tree";

/// The beginning of such a test's line.
pub const SKIPPED: &str = "skipped: ";

/// Returns the directory of the vectors beside `tree`: it has a directory for each codec, with a
/// MANIFEST.tsv.
///
/// A directory without a MANIFEST is not it: the Debian root, in which the tests run, always has the empty
/// directory that the vectors are mounted at.
pub fn beside(tree: &Path) -> Option<PathBuf> {
    let dir = tree.join(PLACE).canonicalize().ok()?;
    let codecs = std::fs::read_dir(&dir).ok()?;
    codecs
        .flatten()
        .any(|codec| has_manifest(&codec.path()))
        .then_some(dir)
}

/// Returns the directory of the vectors of `codec`, the name of a codec, for a test of this tree. If there is
/// none, says so, and that `test` is skipped.
///
/// # Panics
///
/// If `codec` is no name of a directory: the test would be skipped for ever.
pub fn for_test(codec: &str, test: &str) -> Option<PathBuf> {
    assert!(
        codec
            .bytes()
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit()),
        "{codec} is no directory's name"
    );
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = beside(&tree)
        .map(|dir| dir.join(codec))
        .filter(|dir| has_manifest(dir));
    if dir.is_none() {
        // The test harness keeps what `println!` says of tests that pass.
        writeln!(std::io::stdout(), "{SKIPPED}{test} ({codec}): {MISSING}").ok();
    }
    dir
}

fn has_manifest(codec: &Path) -> bool {
    codec.join("MANIFEST.tsv").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_has_no_vectors() -> std::io::Result<()> {
        let top = std::env::temp_dir().join(format!("daedalus-vectors-{}", std::process::id()));
        let tree = top.join("tree");
        std::fs::create_dir_all(&tree)?;
        assert_eq!(beside(&tree), None);
        let dir = tree.join(PLACE);
        std::fs::create_dir_all(dir.join("codec"))?;
        assert_eq!(beside(&tree), None);
        std::fs::write(dir.join("codec/MANIFEST.tsv"), "")?;
        assert_eq!(beside(&tree), Some(dir.canonicalize()?));
        std::fs::remove_dir_all(&top)
    }
}
