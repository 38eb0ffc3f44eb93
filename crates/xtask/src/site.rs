// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The ground that everything else stands on: the tree, its results, the cache, the machine, and how files
//! are written and commands run on it. Nothing here knows how anything is made.

pub(crate) mod cache;
pub(crate) mod cmd;
pub(crate) mod files;
pub(crate) mod host;
pub(crate) mod signals;
pub(crate) mod table;
pub(crate) mod ui;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use daedalus_common::vectors;

use cache::Cache;
use files::{data_lines, read};
use host::Host;

/// Options of every command.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// Install no package on the machine.
    pub(crate) no_install: bool,
}

/// Where everything is.
pub(crate) struct Site {
    /// The top of the tree.
    pub(crate) repo: PathBuf,
    /// The tree's `target`, where all results go.
    pub(crate) target: PathBuf,
    /// The directory of artefacts that outlive a clone: root, kernels, crates.
    pub(crate) cache: Cache,
    /// The machine: its packages, and how to be root on it.
    pub(crate) host: Host,
    conf: BTreeMap<String, String>,
}

impl Site {
    /// Finds the tree and the cache.
    pub(crate) fn new(options: Options) -> Result<Self> {
        let repo = match std::env::var_os("DAEDALUS_REPO") {
            Some(repo) => PathBuf::from(repo),
            None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.."),
        };
        let repo = repo
            .canonicalize()
            .with_context(|| format!("no tree at {}", repo.display()))?;
        // These paths end up as words of a kernel command line and as a mount option.
        if repo
            .to_string_lossy()
            .contains(|c: char| c.is_whitespace() || c == ',' || c == '"')
        {
            bail!(
                "the tree is at {}: no space, comma or quote may be in that path",
                repo.display()
            );
        }
        let conf = parse_conf(&read(&repo.join("testbed/bed.conf"))?)?;
        Ok(Self {
            target: repo.join("target"),
            repo,
            cache: Cache::open()?,
            host: Host::new(options.no_install),
            conf,
        })
    }

    /// Returns a value of testbed/bed.conf.
    pub(crate) fn conf(&self, key: &str) -> Result<&str> {
        self.conf
            .get(key)
            .map(String::as_str)
            .with_context(|| format!("testbed/bed.conf has no line '{key}'"))
    }

    /// Returns the directory of the conformance vectors beside the tree, if they are there.
    pub(crate) fn vectors(&self) -> Option<PathBuf> {
        vectors::beside(&self.repo)
    }
}

/// Reads `key = value` lines; `#` begins a comment.
fn parse_conf(text: &str) -> Result<BTreeMap<String, String>> {
    let mut conf = BTreeMap::new();
    for line in data_lines(text) {
        let (key, value) = line
            .split_once('=')
            .with_context(|| format!("testbed/bed.conf: no '=' in '{line}'"))?;
        conf.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Ok(conf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conf_lines() {
        let conf = parse_conf("# a comment\nroot.suite = forky # why\n\n").unwrap();
        assert_eq!(conf["root.suite"], "forky");
        assert!(parse_conf("nonsense").is_err());
    }
}
