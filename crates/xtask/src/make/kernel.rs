// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guest's kernels: the newest linux-source-7.* of Debian, built for UML, plain and with sanitizers.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::apt::{self, PrivateApt};
use crate::site::Site;
use crate::site::cache::Stamp;
use crate::site::cmd::Cmd;
use crate::site::files::{data_lines, read};

/// Which kernel a guest boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kernel {
    /// As a distribution would build it.
    Plain,
    /// With KASAN, lockdep, UBSAN and fault injection; several times slower.
    Sanitizers,
    /// Counts which of the module's lines ran.
    Coverage,
    /// Plain, linked statically, with a root that is a file: what `./dev image` packs.
    Image,
}

impl Kernel {
    /// How many there are.
    pub(crate) const COUNT: usize = 4;

    /// From 0 on.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Sanitizers => 1,
            Self::Coverage => 2,
            Self::Image => 3,
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Sanitizers => "sanitizers",
            Self::Coverage => "coverage",
            Self::Image => "image",
        })
    }
}

/// The unpacked and patched source.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Its top directory.
    pub(crate) dir: PathBuf,
    /// Debian's package version.
    pub(crate) version: String,
}

/// A built kernel.
#[derive(Clone, Debug)]
pub(crate) struct KernelBuild {
    /// The build tree; out-of-tree modules are built against it.
    pub(crate) tree: PathBuf,
    /// The bootable program.
    pub(crate) program: PathBuf,
    /// The directory with `lib/modules/RELEASE`.
    pub(crate) modules: PathBuf,
}

fn patches(site: &Site) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(site.repo.join("testbed/uml/patches"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    Ok(files)
}

/// The inputs of the source tree; `package` is NAME=VERSION.
fn source_stamp(site: &Site, package: &str) -> Result<Stamp> {
    let mut stamp = Stamp::new().with("package", &package.replacen('=', " ", 1));
    for patch in patches(site)? {
        stamp = stamp.with("patch", &read(&patch)?);
    }
    Ok(stamp)
}

/// Downloads, unpacks and patches the source if it is not in the cache.
pub(crate) fn source(site: &Site) -> Result<Source> {
    let (suite, prefix) = (site.conf("kernel.suite")?, site.conf("kernel.package")?);
    let package = apt::settled(
        site,
        &format!("{suite}-{prefix}"),
        |package| source_stamp(site, package).is_ok_and(|stamp| site.cache.has("source", &stamp)),
        || PrivateApt::new(site, suite, None)?.newest(prefix),
    )?;
    let (name, version) = package.split_once('=').context("a package without a version")?;
    let stamp = source_stamp(site, &package)?;
    let dir = site.cache.artefact(
        "source",
        &stamp,
        &format!("unpacking {name} {version} (160 MB to download, 1.7 GB on disk)"),
        |path| {
            site.host.ready()?;
            let log = site.cache.dir().join("source.log");
            std::fs::remove_file(&log).ok();
            site.host.remove_tree(path)?;
            let unpacked = path.join("deb");
            std::fs::create_dir_all(&unpacked)?;
            let apt = PrivateApt::new(site, site.conf("kernel.suite")?, None)?;
            let deb = apt.download(name, version)?;
            Cmd::new("dpkg-deb")
                .arg("-x")
                .arg(&deb)
                .arg(&unpacked)
                .log(&log)
                .run()?;
            let archive = unpacked.join(format!("usr/src/{name}.tar.xz"));
            Cmd::new("tar")
                .args(["--strip-components=1", "-xJf"])
                .arg(&archive)
                .cwd(path)
                .log(&log)
                .run()?;
            site.host.remove_tree(&unpacked)?;
            for patch in patches(site)? {
                Cmd::new("patch")
                    .args(["-p1", "-i"])
                    .arg(&patch)
                    .cwd(path)
                    .log(&log)
                    .run()?;
            }
            // Both are in the cache as the unpacked tree now.
            std::fs::remove_file(&deb).ok();
            Ok(())
        },
    )?;
    Ok(Source {
        dir,
        version: version.to_owned(),
    })
}

/// The configuration lines of a kernel.
fn fragment(site: &Site, which: Kernel) -> Result<String> {
    let mut text = read(&site.repo.join("testbed/uml/plain.config"))?;
    if which != Kernel::Plain {
        text.push_str(&read(&site.repo.join(format!("testbed/uml/{which}.config")))?);
    }
    Ok(data_lines(&text).fold(String::new(), |all, line| all + line + "\n"))
}

/// Builds a kernel if it is not in the cache.
pub(crate) fn make(site: &Site, source: &Source, which: Kernel) -> Result<KernelBuild> {
    site.host.ready()?;
    let fragment = fragment(site, which)?;
    let stamp = Stamp::new()
        // The path: the build tree refers to its source by it.
        .with("source", &source.dir.to_string_lossy())
        .with("config", &fragment)
        .with(
            "compiler",
            &Cmd::new("gcc")
                .args(["-dumpfullversion", "-dumpmachine"])
                .output()?,
        );
    let what = match which {
        Kernel::Plain => "building the UML kernel (3-6 minutes, 0.5 GB)",
        Kernel::Sanitizers => "building the UML kernel with KASAN and lockdep (6-10 minutes, 1 GB)",
        Kernel::Image => "building the UML kernel of the image (3-6 minutes, 0.5 GB)",
        Kernel::Coverage => "building the UML kernel that counts lines (3-6 minutes, 0.5 GB)",
    };
    let tree = site
        .cache
        .artefact(&format!("uml-{which}"), &stamp, what, |path| {
            // What an interrupted build left is good for make to go on with: nothing counts before the stamp
            // is written.
            std::fs::create_dir_all(path)?;
            let log = site.cache.dir().join(format!("uml-{which}.log"));
            std::fs::remove_file(&log).ok();
            let config = path.join("wanted.config");
            std::fs::write(&config, &fragment)?;
            let make = |args: &[&str]| kernel_make(&source.dir, path).args(args).log(&log).run();
            kernel_make(&source.dir, path)
                .arg("allnoconfig")
                .env("KCONFIG_ALLCONFIG", &config)
                .log(&log)
                .run()?;
            verify_config(&fragment, &read(&path.join(".config"))?)?;
            let jobs = std::thread::available_parallelism().map_or(2, usize::from);
            make(&[&format!("-j{jobs}")])?;
            let installed = path.join("installed");
            site.host.remove_tree(&installed)?;
            make(&[
                "modules_install",
                &format!("INSTALL_MOD_PATH={}", installed.display()),
            ])?;
            drop_objects(path)
        })?;
    Ok(KernelBuild {
        program: tree.join("linux"),
        modules: tree.join("installed"),
        tree,
    })
}

fn kernel_make(source: &Path, tree: &Path) -> Cmd {
    // Variables of a surrounding make or of the user would change what is built.
    Cmd::new("make")
        .arg("-C")
        .arg(source)
        .args(["ARCH=um", "V=0"])
        .arg(format!("O={}", tree.display()))
        .env("KBUILD_BUILD_USER", "bed")
        .env("KBUILD_BUILD_HOST", "daedalus")
        .env("MAKEFLAGS", "")
}

/// Makes sure that every line of `fragment` is in `config`, which Kconfig wrote.
fn verify_config(fragment: &str, config: &str) -> Result<()> {
    let mut missing = Vec::new();
    for line in fragment.lines() {
        let (symbol, value) = line
            .split_once('=')
            .with_context(|| format!("no configuration line: {line}"))?;
        let set = config
            .lines()
            .find_map(|set| set.strip_prefix(symbol)?.strip_prefix('='));
        let holds = if value == "n" {
            set.is_none()
        } else {
            set == Some(value)
        };
        if !holds {
            missing.push(format!("{line} (is: {})", set.unwrap_or("not set")));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "the kernel cannot be configured as wanted: {}",
        missing.join(", ")
    )
}

/// Removes the objects of the build: a third of the disk space, and of no use for modules.
fn drop_objects(tree: &Path) -> Result<()> {
    let mut dirs = vec![tree.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() && !["scripts", "installed"].contains(&&*entry.file_name().to_string_lossy()) {
                dirs.push(path);
            } else if kind.is_file()
                && path
                    .extension()
                    .is_some_and(|end| end == "o" || end == "a" || end == "cmd")
            {
                std::fs::remove_file(path)?;
            }
        }
    }
    // modpost of an out-of-tree module needs vmlinux's symbols, which are in Module.symvers.
    std::fs::remove_file(tree.join("vmlinux")).ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_that_was_not_set_is_named() {
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_AB=m\n";
        assert!(verify_config("CONFIG_A=y\nCONFIG_B=n\nCONFIG_C=n\nCONFIG_AB=m\n", config).is_ok());
        let error = verify_config("CONFIG_A=m\nCONFIG_B=y\n", config)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("CONFIG_A=m (is: y)") && error.contains("CONFIG_B=y (is: not set)"),
            "{error}"
        );
        assert!(verify_config("CONFIG_A=n\n", config).is_err());
    }
}
