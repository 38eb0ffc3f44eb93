// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The test bed as a whole: where things are, and what has been made so far in this run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::cache::Cache;
use crate::guest::Kernel;
use crate::host::Host;
use crate::{build, kernel, module, root, vectors};

/// What the command line says of every command.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// Install no package on the machine.
    pub(crate) no_install: bool,
}

/// The test bed. Its parts are made when first asked for; threads may ask at the same time.
pub(crate) struct Bed {
    /// The top of the tree.
    pub(crate) repo: PathBuf,
    /// The tree's `target`, where all results go.
    pub(crate) target: PathBuf,
    /// What outlives a clone: root, kernels, crates.
    pub(crate) cache: Cache,
    /// The machine: its packages, and how to be root on it.
    pub(crate) host: Host,
    conf: BTreeMap<String, String>,
    root: Made<PathBuf>,
    source: Made<kernel::Source>,
    kernels: [Made<kernel::Built>; Kernel::COUNT],
    modules: [Made<PathBuf>; Kernel::COUNT],
    binaries: Made<PathBuf>,
    crates: Made<PathBuf>,
}

impl Bed {
    /// Finds the tree and the cache; makes nothing yet.
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
        let conf_file = repo.join("testbed/bed.conf");
        let text = std::fs::read_to_string(&conf_file)
            .with_context(|| format!("cannot read {}", conf_file.display()))?;
        let cache = Cache::open()?;
        Ok(Self {
            target: repo.join("target"),
            repo,
            cache,
            host: Host::new(options.no_install),
            conf: parse_conf(&text)?,
            root: Made::default(),
            source: Made::default(),
            kernels: Default::default(),
            modules: Default::default(),
            binaries: Made::default(),
            crates: Made::default(),
        })
    }

    /// A value of testbed/bed.conf.
    pub(crate) fn conf(&self, key: &str) -> Result<&str> {
        self.conf
            .get(key)
            .map(String::as_str)
            .with_context(|| format!("testbed/bed.conf has no line '{key}'"))
    }

    /// The conformance vectors beside the tree, if they are there.
    pub(crate) fn vectors(&self) -> Option<PathBuf> {
        vectors::beside(&self.repo)
    }

    /// The Debian 13 root.
    pub(crate) fn root(&self) -> Result<PathBuf> {
        self.root.get(|| root::make(self, root::BED))
    }

    /// The crates of Cargo.lock, for use with no network.
    pub(crate) fn crates(&self) -> Result<PathBuf> {
        self.crates.get(|| build::vendor(self))
    }

    /// The unpacked and patched kernel source.
    pub(crate) fn kernel_source(&self) -> Result<kernel::Source> {
        self.source.get(|| kernel::source(self))
    }

    /// A built UML kernel with its modules.
    pub(crate) fn kernel(&self, which: Kernel) -> Result<kernel::Built> {
        self.kernels[which.index()].get(|| kernel::make(self, which))
    }

    /// The directory that holds daedalus_v4l2.ko, built against that kernel; made anew from the tree once a run.
    pub(crate) fn module(&self, which: Kernel) -> Result<PathBuf> {
        self.modules[which.index()].get(|| module::build(self, which))
    }

    /// The directory of the workspace's programs, built in the Debian 13 root; made anew from the tree once a run.
    pub(crate) fn binaries(&self) -> Result<PathBuf> {
        self.binaries.get(|| build::binaries(self))
    }
}

/// A value that is made at most once, by whoever asks first; a failure is tried again at the next call.
struct Made<T>(Mutex<Option<T>>);

impl<T> Default for Made<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Made<T> {
    fn get(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*slot {
            return Ok(value.clone());
        }
        let value = make()?;
        *slot = Some(value.clone());
        Ok(value)
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

/// The lines of a data file, trimmed, without comments and blanks.
pub(crate) fn data_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
}

/// Reads a file, with its name in the error.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
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

    #[test]
    fn a_failure_is_not_kept() {
        let made = Made::<u32>::default();
        assert!(made.get(|| bail!("no")).is_err());
        assert_eq!(made.get(|| Ok(1)).unwrap(), 1);
        assert_eq!(made.get(|| Ok(2)).unwrap(), 1);
    }
}
