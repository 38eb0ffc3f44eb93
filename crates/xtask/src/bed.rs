// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The test bed: the site, and the artefacts that were made on it in this run.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::make::kernel::{self, Kernel};
use crate::make::{crates, module, programs, root};
use crate::site::cmd::Cmd;
use crate::site::{Options, Site};

/// The test bed. Its artefacts are made when first asked for; threads may ask at the same time. It derefs to
/// its site: makers take that, and what they build upon, instead of the bed.
pub(crate) struct Bed {
    site: Site,
    root: Artefact<PathBuf>,
    source: Artefact<kernel::Source>,
    kernels: [Artefact<kernel::KernelBuild>; Kernel::COUNT],
    modules: [Artefact<PathBuf>; Kernel::COUNT],
    binaries: Artefact<PathBuf>,
    crates: Artefact<PathBuf>,
}

impl Deref for Bed {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Bed {
    /// Finds the site; makes nothing yet.
    pub(crate) fn new(options: Options) -> Result<Self> {
        Ok(Self {
            site: Site::new(options)?,
            root: Artefact::default(),
            source: Artefact::default(),
            kernels: Default::default(),
            modules: Default::default(),
            binaries: Artefact::default(),
            crates: Artefact::default(),
        })
    }

    /// Returns the directory of the Debian 13 root.
    pub(crate) fn root(&self) -> Result<PathBuf> {
        self.root.get(|| root::make(self, root::BED))
    }

    /// Returns the directory of the crates of Cargo.lock, for use with no network.
    pub(crate) fn crates(&self) -> Result<PathBuf> {
        self.crates.get(|| crates::make(self))
    }

    /// Returns the unpacked and patched kernel source.
    pub(crate) fn kernel_source(&self) -> Result<kernel::Source> {
        self.source.get(|| kernel::source(self))
    }

    /// Returns a built UML kernel with its modules.
    pub(crate) fn kernel(&self, which: Kernel) -> Result<kernel::KernelBuild> {
        let make = || kernel::make(self, &self.kernel_source()?, which);
        self.kernels[which.index()].get(make)
    }

    /// Returns the directory that holds daedalus_v4l2.ko, built against that kernel; made anew from the tree
    /// once a run.
    pub(crate) fn module(&self, which: Kernel) -> Result<PathBuf> {
        let make = || module::build(self, &self.kernel(which)?, which);
        self.modules[which.index()].get(make)
    }

    /// Returns the directory of the workspace's programs, built in the Debian 13 root; made anew from the
    /// tree once a run.
    pub(crate) fn binaries(&self) -> Result<PathBuf> {
        self.binaries.get(|| programs::make(self, self.command("cargo")?))
    }

    /// Returns a command that runs in the Debian 13 root ([`root::command`]).
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Cmd> {
        self.command_with(program, &[])
    }

    /// Returns a command that runs in the Debian 13 root with more directories mounted: on the machine, and
    /// in the root.
    pub(crate) fn command_with(
        &self,
        program: impl AsRef<std::ffi::OsStr>,
        binds: &[(&Path, &str)],
    ) -> Result<Cmd> {
        self.command_in(&self.root()?, program, binds)
    }

    /// Returns a command that runs in another root.
    pub(crate) fn command_in(
        &self,
        root: &Path,
        program: impl AsRef<std::ffi::OsStr>,
        binds: &[(&Path, &str)],
    ) -> Result<Cmd> {
        root::command(self, (root, &self.crates()?), program, binds)
    }
}

/// A value that is made at most once, by whoever asks first; a failure is tried again at the next call.
struct Artefact<T>(Mutex<Option<T>>);

impl<T> Default for Artefact<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Artefact<T> {
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

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_failure_is_not_kept() {
        let artefact = Artefact::<u32>::default();
        assert!(artefact.get(|| bail!("no")).is_err());
        assert_eq!(artefact.get(|| Ok(1)).unwrap(), 1);
        assert_eq!(artefact.get(|| Ok(2)).unwrap(), 1);
    }
}
