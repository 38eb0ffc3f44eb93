// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Building the kernel module, always from a copy: the tree itself is never littered.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::kernel::{Kernel, KernelBuild};
use crate::site::Site;
use crate::site::cache::Stamp;
use crate::site::cmd::Cmd;
use crate::site::files::lock_file;
use crate::site::ui;

/// A module's source, to be built from a copy.
pub(crate) struct Source<'a> {
    /// What tells its copy and what is built from others'.
    pub(crate) suffix: &'a str,
    /// The directories of the tree that it needs.
    pub(crate) parts: &'a [&'a str],
    /// The one of them in which make runs.
    pub(crate) dir: &'a str,
    /// What make makes there.
    pub(crate) file: &'a str,
}

/// The module of this tree.
pub(crate) const OWN: Source<'static> = Source {
    suffix: "",
    parts: &["kernel", "include"],
    dir: "kernel",
    file: FILE,
};

/// The module's file.
pub(crate) const FILE: &str = "daedalus_v4l2.ko";

/// Makes `target/module/NAME/{kernel,include}` equal to the tree's, and leaves what make built there.
pub(crate) fn copy_source(site: &Site, name: &str) -> Result<PathBuf> {
    copy(site, name, &OWN)
}

/// Makes the same copy of the parts of another source; the directory in which make runs.
pub(crate) fn copy(site: &Site, name: &str, source: &Source<'_>) -> Result<PathBuf> {
    let copy = site.target.join("module").join(name);
    for part in source.parts {
        let from = site.repo.join(part);
        let names = files(&from, &from)?;
        if names.is_empty() {
            bail!("the tree has no {part}/");
        }
        let to = copy.join(part);
        std::fs::create_dir_all(&to)?;
        for old in files(&to, &to)?.difference(&names) {
            std::fs::remove_file(to.join(old))?;
        }
        for name in &names {
            let (text, target) = (std::fs::read(from.join(name))?, to.join(name));
            // An unchanged file keeps its time, so that make has nothing to do.
            if std::fs::read(&target).is_ok_and(|old| old == text) {
                continue;
            }
            if let Some(parent) = target.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&target, text)?;
        }
    }
    Ok(copy.join(source.dir))
}

/// Adds the names and contents of the source files in these directories to the inputs of what is made of
/// them.
pub(crate) fn stamp(repo: &Path, parts: &[&str], mut stamp: Stamp) -> Result<Stamp> {
    for part in parts {
        let top = repo.join(part);
        for name in files(&top, &top)? {
            stamp = stamp.with_file(&format!("{part}/{}", name.display()), &top.join(&name))?;
        }
    }
    Ok(stamp)
}

/// The source files under `dir`, relative to `top`.
fn files(top: &Path, dir: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    if !dir.exists() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !name.starts_with('.') {
                found.extend(files(top, &path)?);
            }
            continue;
        }
        let source = name.ends_with(".h") || (name.ends_with(".c") && !name.ends_with(".mod.c"));
        if source || ["Kbuild", "Makefile", "Kconfig"].contains(&&*name) {
            found.insert(path.strip_prefix(top)?.to_owned());
        }
    }
    Ok(found)
}

/// Returns make's options to use all processors, and to keep what each command prints together.
pub(crate) fn jobs() -> [String; 2] {
    let jobs = std::thread::available_parallelism().map_or(2, usize::from);
    [format!("-j{jobs}"), "--output-sync".to_owned()]
}

/// Returns the command `make GOAL` of the module in `dir` against a UML kernel.
pub(crate) fn make(kernel: &KernelBuild, which: Kernel, dir: &Path, goal: &str) -> Cmd {
    let make = Cmd::new("make")
        .args(jobs())
        .arg("-C")
        .arg(&kernel.tree)
        .args(["ARCH=um", "V=0", &format!("M={}", dir.display()), goal])
        .env("MAKEFLAGS", "");
    match which {
        Kernel::Coverage => make.arg("GCOV_PROFILE=y"),
        Kernel::Plain | Kernel::Sanitizers | Kernel::Image => make,
    }
}

/// Builds the module for the guest; the directory for /mnt/modules: the kernel's own modules and this one.
pub(crate) fn build(site: &Site, kernel: &KernelBuild, which: Kernel) -> Result<PathBuf> {
    let _lock = lock_file(
        &site.target.join(format!("module/.{which}.lock")),
        "building the module",
    )?;
    let modules = site.target.join("guest-modules").join(which.to_string());
    let origin = modules.join(".origin");
    if std::fs::read_to_string(&origin).ok() != Some(kernel.tree.display().to_string()) {
        if modules.exists() {
            std::fs::remove_dir_all(&modules)?;
        }
        std::fs::create_dir_all(&modules)?;
        Cmd::new("cp")
            .arg("-r")
            .arg(kernel.modules.join("lib"))
            .arg(&modules)
            .run()?;
        std::fs::write(&origin, kernel.tree.display().to_string())?;
    }
    let dir = copy_source(site, &which.to_string())?;
    let log = site.target.join(format!("module/{which}.log"));
    std::fs::remove_file(&log).ok();
    let _step = ui::Step::begin(&format!("building the module ({which} kernel)"));
    make(kernel, which, &dir, "modules").log(&log).run()?;
    let new = modules.join(format!("{FILE}.new"));
    std::fs::copy(dir.join(FILE), &new).with_context(|| format!("the build made no {FILE}"))?;
    std::fs::rename(new, modules.join(FILE))?;
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_file_is_an_input() {
        let repo = std::env::temp_dir().join(format!("xtask-module-{}", std::process::id()));
        let include = repo.join("include/uapi/linux");
        std::fs::create_dir_all(&include).unwrap();
        std::fs::create_dir_all(repo.join("kernel")).unwrap();
        let now = || stamp(&repo, OWN.parts, Stamp::new()).unwrap().text().to_owned();
        let mut stamps = BTreeSet::from([now()]);
        for (file, text) in [
            ("kernel/a.c", "int a;"),
            ("kernel/a.c", "int a;\n"),
            ("kernel/b.h", ""),
            ("kernel/Kbuild", "obj-m := a.o"),
            ("include/uapi/linux/a.h", "#define A 1"),
            ("include/uapi/linux/a.h", "#define A 2"),
        ] {
            std::fs::write(repo.join(file), text).unwrap();
            assert!(stamps.insert(now()), "{file} is no input");
        }
        std::fs::write(repo.join("kernel/a.o"), "").unwrap();
        assert!(!stamps.insert(now()), "what is built is an input");
        std::fs::remove_dir_all(repo).unwrap();
    }
}
