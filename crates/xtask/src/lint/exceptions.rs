// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The list of files that a check of the sources lets pass, each with its reason.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use serde::Deserialize;

use crate::site::table;

/// Where the list is in the tree.
pub(crate) const FILE: &str = "crates/xtask/src/lint/exceptions.tsv";

/// The list.
pub(crate) struct Exceptions(Vec<Exception>);

#[derive(Deserialize)]
struct Exception {
    check: String,
    file: String,
    reason: String,
}

impl Exceptions {
    /// Reads the list: a check's name, a file's name and a reason.
    ///
    /// # Errors
    ///
    /// Names a line without a reason, or of a check that is none of `checks`.
    pub(crate) fn parse(text: &str, checks: &[&str]) -> Result<Self> {
        let rows: Vec<Exception> = table::rows(FILE, text)?;
        for Exception { check, file, reason } in &rows {
            ensure!(!reason.is_empty(), "{FILE}: no reason for {file}");
            ensure!(
                checks.contains(&check.as_str()),
                "{FILE}: there is no check '{check}'"
            );
        }
        Ok(Self(rows))
    }

    /// Returns the complaints of a check: files that offend and are not listed, with what is wrong, and files
    /// that are listed and do not offend.
    pub(crate) fn judge(&self, check: &str, found: &BTreeMap<String, String>) -> Vec<String> {
        let listed: Vec<&str> = self.of(check).map(|exception| exception.file.as_str()).collect();
        let new = found
            .iter()
            .filter(|(file, _)| !listed.contains(&file.as_str()))
            .map(|(_, text)| text.clone());
        let old = listed
            .iter()
            .filter(|file| !found.contains_key(**file))
            .map(|file| format!("{file} no longer needs its line '{check}' in {FILE}: remove it"));
        new.chain(old).collect()
    }

    /// Returns how many files are let pass.
    ///
    /// # Errors
    ///
    /// Says so when they are more than `most`.
    pub(crate) fn count(&self, check: &str, most: usize) -> Result<usize> {
        let count = self.of(check).count();
        if count > most {
            bail!("{FILE} has {count} lines '{check}', and {most} are allowed");
        }
        Ok(count)
    }

    fn of<'a>(&'a self, check: &'a str) -> impl Iterator<Item = &'a Exception> {
        self.0.iter().filter(move |exception| exception.check == check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_has_a_reason_and_is_needed() {
        let checks = ["codec", "circle"];
        let parse = |rows: &str| Exceptions::parse(&format!("check\tfile\treason\n{rows}"), &checks);
        assert!(parse("codec\ta.rs\t\n").is_err());
        assert!(parse("codec\ta.rs\n").is_err());
        assert!(parse("other\ta.rs\tx\n").is_err());
        let list = parse("# why\ncodec\ta.rs\ta table\ncodec\tb.rs\ta list\ncircle\tc.rs\tx\n").unwrap();
        let found = ["a.rs", "d.rs"].map(|file| (file.to_owned(), format!("{file} is wrong")));
        let wrong = list.judge("codec", &BTreeMap::from(found));
        assert_eq!(wrong[0], "d.rs is wrong");
        assert!(wrong[1].starts_with("b.rs no longer needs"), "{wrong:?}");
        assert_eq!(wrong.len(), 2);
        assert_eq!(list.count("codec", 2).unwrap(), 2);
        assert!(list.count("codec", 1).is_err());
    }

    #[test]
    fn the_list_of_the_tree_is_well_formed() {
        let checks = ["circle", "codec", "columns"];
        assert!(Exceptions::parse(include_str!("exceptions.tsv"), &checks).is_ok());
    }
}
