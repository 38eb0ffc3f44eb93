// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev package`: the Debian packages, built with no network in a Debian 13 root of their own, examined
//! by lintian, and installed into and purged from a Debian 13 that has no kernel. Results: target/package.

mod crates;
mod install;
mod kernels;
mod versions;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use md5::{Digest, Md5};
use serde_json::json;

use crate::bed::Bed;
use crate::make::root;
use crate::outcome::Outcome;
use crate::results;
use crate::site::cmd::Cmd;
use crate::site::files::{lock_file, read, write_whole};
use crate::site::ui;

/// A run of dpkg-buildpackage: what to build, and for which architecture.
type Build = (&'static str, &'static str);

/// Every package: the daemon's once for each architecture.
const EVERYTHING: [Build; 2] = [("binary", "amd64"), ("any", "arm64")];
/// What these make, debugging symbols apart.
const PACKAGES: usize = 3;

/// Arguments of `./dev package`.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Args {
    /// Do not install what was built
    #[arg(long)]
    build_only: bool,
    /// Only have DKMS build the module's package for the kernels of testbed/headers, and write
    /// docs/supported-kernels.md
    #[arg(long, conflicts_with = "build_only")]
    kernels: bool,
    /// Only compare the crates of the programs with Debian's, and write docs/crates.md
    #[arg(long, conflicts_with_all = ["build_only", "kernels"])]
    crates: bool,
}

/// Builds, examines and installs the packages.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    let start = Instant::now();
    bed.host.ready()?;
    let part = if args.kernels {
        "package/kernels"
    } else {
        "package"
    };
    let dir = bed.target.join(part);
    std::fs::create_dir_all(&dir)?;
    let _lock = lock_file(&dir.join(".lock"), "building the packages")?;
    let outcome = Outcome::new();
    if args.crates {
        outcome.check("docs/crates.md is written", || crates::run(bed));
        return Ok(outcome);
    }
    let version = versions::version(&bed.repo)?;
    if args.kernels {
        if outcome.check("the module's package builds", || {
            build(bed, &dir, &[("all", "amd64")], 1)
        }) {
            kernels::run(bed, &dir, &version, &outcome);
        }
        return Ok(outcome);
    }
    let built = outcome.check("packages build for amd64 and arm64", || everything(bed, &dir));
    if built {
        outcome.check("lintian: no error, no warning", || lintian(bed, &dir));
        if !args.build_only {
            install::run(bed, &dir, &outcome);
        }
    }
    let packages: Vec<_> = debs(&dir)?
        .iter()
        .map(|deb| describe(deb))
        .collect::<Result<_>>()?;
    results::write(
        &dir.join("results.json"),
        start,
        json!({ "packages": packages }),
        &outcome,
    )?;
    ui::note("the packages and results.json are in target/package");
    Ok(outcome)
}

/// Builds all packages into `dir`; their names.
pub(crate) fn everything(bed: &Bed, dir: &Path) -> Result<String> {
    build(bed, dir, &EVERYTHING, PACKAGES)
}

/// Builds `count` packages from a copy of the tree; the names of the .debs.
fn build(bed: &Bed, dir: &Path, builds: &[Build], count: usize) -> Result<String> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| {
            ["deb", "changes", "buildinfo"]
                .iter()
                .any(|suffix| end == *suffix)
        }) {
            std::fs::remove_file(path)?;
        }
    }
    let source = copy_tree(bed, dir)?;
    let log = dir.join("build.log");
    std::fs::remove_file(&log).ok();
    buildpackage(bed, &source, &log, builds)?;
    let names: Vec<String> = debs(dir)?
        .iter()
        .filter(|deb| !is_debug(deb))
        .filter_map(|deb| Some(deb.file_name()?.to_string_lossy().into_owned()))
        .collect();
    if names.len() != count {
        bail!("not {count} packages: {names:?}");
    }
    Ok(names.join(" "))
}

/// Builds the packages of an architecture as a later version, by way of `dir`, into `to`. Only the
/// packages' version differs: the programs are the same.
pub(crate) fn later(bed: &Bed, dir: &Path, architecture: &'static str, to: &Path) -> Result<String> {
    let source = copy_tree(bed, dir)?;
    let version = versions::version(&source)?;
    let later = format!("{version}+later1");
    let changelog = source.join("debian/changelog");
    let old = read(&changelog)?;
    let signature = old
        .lines()
        .find(|line| line.starts_with(" -- "))
        .context("debian/changelog has no signature")?;
    let entry = format!(
        "daedalus-v4l2 ({later}) unstable; urgency=medium\n\n  * A later version.\n\n{signature}\n\n"
    );
    write_whole(&changelog, &(entry + &old))?;
    let dkms = source.join("debian/daedalus-v4l2-dkms.dkms");
    let stated = |version: &str| format!("PACKAGE_VERSION=\"{version}\"");
    write_whole(&dkms, &read(&dkms)?.replace(&stated(&version), &stated(&later)))?;
    let builds = [("all", "amd64"), ("any", architecture)];
    let result = buildpackage(bed, &source, &dir.join("later.log"), &builds);
    bed.host.remove_tree(to)?;
    std::fs::create_dir_all(to)?;
    for deb in debs(dir)? {
        let name = deb
            .file_name()
            .context("a package without a name")?
            .to_string_lossy()
            .into_owned();
        if name.contains(&format!("_{later}_")) {
            std::fs::rename(&deb, to.join(name))?;
        }
    }
    result?;
    let count = debs(to)?.iter().filter(|deb| !is_debug(deb)).count();
    if count != 2 {
        bail!("{count} packages of version {later}, not 2");
    }
    Ok(later)
}

/// Runs dpkg-buildpackage; what it makes is beside `source`.
fn buildpackage(bed: &Bed, source: &Path, log: &Path, builds: &[Build]) -> Result<()> {
    for (kind, architecture) in builds {
        let _step = ui::Step::begin(&format!("building the packages ({kind}, {architecture})"));
        bed.command_in(&root::make(bed, root::PACKAGING)?, "env", &[])?
            .arg("--chdir")
            .arg(root::inside(bed, source))
            .arg("dpkg-buildpackage")
            .arg(format!("--build={kind}"))
            .arg(format!("--host-arch={architecture}"))
            .arg("--no-sign")
            .log(log)
            .run()?;
    }
    Ok(())
}

/// Copies what git knows of to a directory of `dir`, which it returns.
fn copy_tree(bed: &Bed, dir: &Path) -> Result<PathBuf> {
    let copy = dir.join("source");
    bed.host.remove_tree(&copy)?;
    let names = Cmd::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .cwd(&bed.repo)
        .output()
        .context("the tree is no git checkout")?;
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (bed.repo.join(name), copy.join(name));
        // A file that was just removed, and is not committed yet.
        if !from.exists() {
            continue;
        }
        std::fs::create_dir_all(to.parent().context("a file without a directory")?)?;
        std::fs::copy(&from, &to).with_context(|| format!("cannot copy {name}"))?;
        // With its time: cargo builds anew what seems to have changed.
        let modified = std::fs::metadata(&from)?.modified()?;
        File::options().write(true).open(&to)?.set_modified(modified)?;
    }
    Ok(copy)
}

/// The .debs in `dir`, sorted.
pub(crate) fn debs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "deb") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// True for a package that holds only debugging symbols.
pub(crate) fn is_debug(deb: &Path) -> bool {
    deb.file_name()
        .is_some_and(|name| name.to_string_lossy().contains("-dbgsym_"))
}

fn describe(deb: &Path) -> Result<serde_json::Value> {
    let bytes = std::fs::read(deb)?;
    let sum = Md5::digest(&bytes)
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let name = deb.file_name().unwrap_or_default().to_string_lossy();
    let architecture = name
        .trim_end_matches(".deb")
        .rsplit('_')
        .next()
        .unwrap_or_default();
    Ok(json!({ "file": name, "architecture": architecture, "bytes": bytes.len(), "md5": sum }))
}

/// Lintian on the packages; debian/*.lintian-overrides say why what they override is as it is.
fn lintian(bed: &Bed, dir: &Path) -> Result<String> {
    let log = dir.join("lintian.log");
    std::fs::remove_file(&log).ok();
    let packages = debs(dir)?.into_iter().filter(|deb| !is_debug(deb));
    bed.command_in(&root::make(bed, root::PACKAGING)?, "lintian", &[])?
        .args(["--tag-display-limit=0", "--show-overrides", "--allow-root"])
        .args(packages.map(|deb| root::inside(bed, &deb)))
        .log(&log)
        .status()?;
    let output = read(&log)?;
    let of = |kind: &str| {
        output
            .lines()
            .filter(|line| line.starts_with(kind))
            .collect::<Vec<_>>()
    };
    let (errors, warnings, overridden) = (of("E: "), of("W: "), of("O: ").len());
    // What is neither a tag nor a remark on one is lintian's own failure.
    let strange: Vec<&str> = output
        .lines()
        .filter(|line| {
            !["E: ", "W: ", "O: ", "N:"]
                .iter()
                .any(|kind| line.starts_with(kind))
        })
        .filter(|line| !line.trim().is_empty())
        .collect();
    if !errors.is_empty() || !warnings.is_empty() || !strange.is_empty() {
        bail!("{}", [errors, warnings, strange].concat().join("\n"));
    }
    Ok(format!("{overridden} overridden"))
}
