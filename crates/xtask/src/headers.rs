// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Headers of Debian's own kernels: which there are, downloaded and unpacked, and the module built against
//! them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::bed::Bed;
use crate::make::apt::{self, PrivateApt};
use crate::make::module::{self, Source};
use crate::make::root::{self, HEADERS};
use crate::site::cache::Stamp;
use crate::site::cmd::{Cmd, last_lines};
use crate::site::files::{data_lines, lock_file, read, write_whole};

/// The artefacts' name in the cache.
const KIND: &str = "headers";

/// A line of testbed/headers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The package that depends on the newest headers of a flavour.
    pub(crate) package: String,
    pub(crate) suite: String,
    /// Debian's name of the architecture.
    pub(crate) architecture: String,
}

impl Target {
    /// A name for files, unlike any other target's.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.suite, self.package)
    }

    /// Debian builds with one compiler's full name, which a root may have in another version: this one is
    /// there.
    pub(crate) fn compiler(&self) -> &'static str {
        if self.architecture == "arm64" {
            "aarch64-linux-gnu-gcc"
        } else {
            "gcc"
        }
    }

    /// The architecture if it is not this machine's.
    pub(crate) fn foreign(&self) -> Option<&str> {
        Some(self.architecture.as_str()).filter(|architecture| *architecture != "amd64")
    }

    /// The name of a package of this architecture, as apt takes it.
    pub(crate) fn qualified(&self, name: &str) -> String {
        match self.foreign() {
            Some(architecture) => format!("{}:{architecture}", name.split(':').next().unwrap_or(name)),
            None => name.to_owned(),
        }
    }
}

/// Headers of one kernel, unpacked together.
pub(crate) struct Headers {
    /// Where, on the machine.
    pub(crate) dir: PathBuf,
    /// The package with the flavour's configuration: the directory's name under usr/src.
    pub(crate) name: String,
    /// NAME=VERSION of each package, one a line.
    packages: String,
}

impl Headers {
    /// The kernel's release.
    pub(crate) fn release(&self) -> &str {
        self.name.trim_start_matches("linux-headers-")
    }
}

/// The lines of testbed/headers.
pub(crate) fn targets(repo: &Path) -> Result<Vec<Target>> {
    parse(&read(&repo.join("testbed/headers"))?)
}

fn parse(text: &str) -> Result<Vec<Target>> {
    data_lines(text)
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [package, suite, architecture] = words.as_slice() else {
                bail!("testbed/headers: '{line}' is not PACKAGE SUITE ARCHITECTURE");
            };
            Ok(Target {
                package: (*package).into(),
                suite: (*suite).into(),
                architecture: (*architecture).into(),
            })
        })
        .collect()
}

/// The variables of make for a target.
fn variables(target: &Target) -> Vec<String> {
    // BTF is for tracing programs on a machine that runs the module, and needs that kernel's vmlinux.
    let mut variables = vec!["V=0".to_owned(), "CONFIG_DEBUG_INFO_BTF_MODULES=".to_owned()];
    variables.push(format!("CC={}", target.compiler()));
    if target.architecture == "arm64" {
        variables.extend(["ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"].map(str::to_owned));
    }
    variables
}

/// Returns the inputs of a module that is built for `target`: sources, headers, make's variables, compilers,
/// and how it is judged, here.
pub(crate) fn inputs(bed: &Bed, target: &Target, headers: &Headers, source: &Source<'_>) -> Result<Stamp> {
    let stamp = Stamp::new()
        .with("build", include_str!("headers.rs"))
        .with("headers", &headers.packages)
        .with("variables", &variables(target).join(" "))
        .with_file("packages of the root", &bed.root()?.join("var/lib/dpkg/status"))?;
    module::stamp(&bed.repo, source.parts, stamp)
}

/// Builds a module for `target` against its unpacked headers, unless it is there from the same inputs; the
/// path of its file. A symbol that this kernel does not export is modpost's error, and a warning about the
/// module is one, too.
pub(crate) fn build(bed: &Bed, target: &Target, headers: &Headers, source: &Source<'_>) -> Result<PathBuf> {
    let name = format!("{}{}", target.name(), source.suffix);
    let built = bed.target.join(format!("module/{name}.ko"));
    let _lock = lock_file(&built.with_extension("lock"), "building the module")?;
    let (inputs, mark) = (
        inputs(bed, target, headers, source)?,
        built.with_extension("inputs"),
    );
    if built.exists() && std::fs::read_to_string(&mark).is_ok_and(|text| text == inputs.text()) {
        return Ok(built);
    }
    std::fs::remove_file(&mark).ok();
    let copy = module::copy(bed, &name, source)?;
    let log = bed.target.join(format!("module/{name}.log"));
    std::fs::remove_file(&log).ok();
    let make = |goal: &str| -> Result<Cmd> {
        Ok(bed
            .command_with("make", &[(&headers.dir, HEADERS)])?
            .args(module::jobs())
            .arg("-C")
            .arg(format!("{HEADERS}/usr/src/{}", headers.name))
            .arg(format!("M={}", root::inside(bed, &copy).display()))
            .arg(goal)
            .args(variables(target))
            .log(&log))
    };
    make("clean")?.run()?;
    make("modules")?.run()?;
    let output = read(&log)?;
    let warnings = warnings(&output);
    if !warnings.is_empty() {
        bail!("{}", last_lines(&warnings.join("\n"), 10));
    }
    // By rename: whoever uses the last one keeps it.
    std::fs::rename(copy.join(source.file), &built)
        .with_context(|| format!("the build made no {}", source.file))?;
    write_whole(&mark, inputs.text())?;
    Ok(built)
}

/// The warnings of a build that are about the module itself.
fn warnings(log: &str) -> Vec<&str> {
    let exceptions = [
        // The root's tools are not those that the kernel was built with.
        "the compiler differs from the one used to build the kernel",
        "pahole version differs from the one used to build the kernel",
    ];
    log.lines()
        .filter(|line| line.to_ascii_lowercase().contains("warning:") || line.contains("error:"))
        .filter(|line| !line.starts_with(HEADERS))
        .filter(|line| !exceptions.iter().any(|text| line.contains(text)))
        .collect()
}

/// Downloads and unpacks the headers that `target` names now, the common part and the host programs with
/// them.
pub(crate) fn get(bed: &Bed, target: &Target) -> Result<Headers> {
    let list = apt::settled(
        bed,
        &target.name(),
        |list| have(bed, list),
        || Ok(resolve(bed, target)?.join("\n")),
    )?;
    unpacked(bed, target, &list)
}

/// True if the headers of these packages are in the cache.
pub(crate) fn have(bed: &Bed, list: &str) -> bool {
    bed.cache.has(KIND, &stamp(list))
}

/// The inputs of unpacked headers: NAME=VERSION of each package, one a line.
fn stamp(list: &str) -> Stamp {
    Stamp::new().with("packages", list).with("place", HEADERS)
}

/// Downloads and unpacks the packages of `list`, as [`resolve`] finds them, if they are not in the cache.
pub(crate) fn unpacked(bed: &Bed, target: &Target, list: &str) -> Result<Headers> {
    let first = list.lines().next().and_then(|line| line.split([':', '=']).next());
    let name = first.context("no headers package")?.to_owned();
    let what = format!("unpacking {name} (15 MB to download, 100 MB on disk)");
    let dir = bed.cache.artefact(KIND, &stamp(list), &what, |path| {
        bed.host.remove_tree(path)?;
        std::fs::create_dir_all(path)?;
        let apt = PrivateApt::new(bed, &target.suite, target.foreign())?;
        for line in list.lines() {
            let (package, version) = line.split_once('=').context("no '=' in the settled packages")?;
            let deb = apt.download(package, version)?;
            let log = bed.cache.dir().join("headers.log");
            Cmd::new("dpkg-deb")
                .arg("-x")
                .arg(&deb)
                .arg(path)
                .log(&log)
                .run()?;
            std::fs::remove_file(deb)?;
        }
        relocate(&path.join("usr/src"))
    })?;
    Ok(Headers {
        dir,
        name,
        packages: list.to_owned(),
    })
}

/// NAME=VERSION of the packages with the newest headers for `target`, those of the flavour first.
pub(crate) fn resolve(bed: &Bed, target: &Target) -> Result<Vec<String>> {
    let apt = PrivateApt::new(bed, &target.suite, target.foreign())?;
    let flavour = apt.depends(&target.qualified(&target.package))?;
    let flavour = flavour.iter().find(|name| name.starts_with("linux-headers-"));
    let flavour = flavour.with_context(|| format!("{} depends on no linux-headers-*", target.package))?;
    let flavour_name = flavour.split(':').next().unwrap_or(flavour);
    let depends = apt.depends(&target.qualified(flavour_name))?;
    let mut names = vec![target.qualified(flavour_name)];
    for prefix in ["linux-headers-", "linux-kbuild-"] {
        let name = depends.iter().find(|name| name.starts_with(prefix));
        let name = name.with_context(|| format!("{flavour_name} depends on no {prefix}*"))?;
        // The host programs run here, whatever the kernel is for; the common part is for all.
        names.push(name.split(':').next().unwrap_or(name).to_owned());
    }
    names.iter().map(|name| apt.candidate(name)).collect()
}

/// Has the unpacked makefiles find each other where they are mounted.
fn relocate(sources: &Path) -> Result<()> {
    for entry in std::fs::read_dir(sources)? {
        for file in ["Makefile", ".kernelvariables", "include/config/auto.conf.cmd"] {
            let path = entry
                .as_ref()
                .map_err(|error| anyhow::anyhow!("{error}"))?
                .path()
                .join(file);
            let Ok(text) = std::fs::read_to_string(&path) else {
                continue;
            };
            if text.contains("/usr/src/linux-headers-") {
                std::fs::write(
                    &path,
                    text.replace(
                        "/usr/src/linux-headers-",
                        &format!("{HEADERS}/usr/src/linux-headers-"),
                    ),
                )?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_list() {
        let list = parse("# c\nlinux-headers-x s arm64\n").unwrap();
        assert_eq!(list[0].name(), "s-linux-headers-x");
        assert!(parse("linux-headers-x").is_err());
        assert!(parse("linux-headers-x s arm64 v4l2_m2m_").is_err());
    }

    #[test]
    fn each_architecture_has_its_compiler() {
        let words = |architecture: &str| {
            let list = parse(&format!("linux-headers-x s {architecture}\n")).unwrap();
            variables(&list[0]).join(" ")
        };
        assert!(words("amd64").contains("CC=gcc") && !words("amd64").contains("ARCH="));
        assert!(words("arm64").contains("CC=aarch64-linux-gnu-gcc ARCH=arm64"));
    }

    #[test]
    fn only_warnings_about_the_module_count() {
        let log = "/daedalus/headers/x.h:1: warning: old\nwarning: the compiler differs from the one used to \
                   build the kernel\n\
                   a.c:1:2: warning: unused\nWARNING: modpost: missing MODULE_LICENSE()\n";
        assert_eq!(warnings(log).len(), 2);
    }
}
