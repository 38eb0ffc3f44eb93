// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The module against the headers of Debian's own kernels: the arm64 ones that it is for, and the newest amd64 one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::apt::{self, PrivateApt};
use crate::bed::{Bed, data_lines, read};
use crate::cache::{Stamp, remove_tree};
use crate::cmd::last_lines;
use crate::module;
use crate::outcome::Outcome;
use crate::root::{self, HEADERS};

/// A line of testbed/headers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The package that depends on the newest headers of a flavour.
    pub(crate) package: String,
    pub(crate) suite: String,
    /// Debian's name of the architecture.
    pub(crate) architecture: String,
    /// Symbols that this kernel does not export, as a reason why linking ends with modpost's complaint; empty where
    /// the module must link.
    pub(crate) missing: Vec<String>,
}

impl Target {
    /// A name for files, unlike any other target's.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.suite, self.package)
    }

    /// Debian builds with one compiler's full name, which a root may have in another version: this one is there.
    pub(crate) fn compiler(&self) -> &'static str {
        if self.architecture == "arm64" {
            "aarch64-linux-gnu-gcc"
        } else {
            "gcc"
        }
    }
}

/// Headers of one kernel, unpacked together.
pub(crate) struct Headers {
    /// Where, on the machine.
    pub(crate) dir: PathBuf,
    /// The package with the flavour's configuration: the directory's name under usr/src.
    pub(crate) name: String,
}

/// `./dev modules`.
pub(crate) fn run(bed: &Bed) -> Result<Outcome> {
    let outcome = Outcome::new();
    for target in targets(&bed.repo)? {
        let what = if target.missing.is_empty() {
            "links"
        } else {
            "compiles"
        };
        outcome.check(
            &format!("module {what} against {}/{}", target.suite, target.package),
            || check(bed, &target),
        );
    }
    Ok(outcome)
}

/// The lines of testbed/headers.
pub(crate) fn targets(repo: &Path) -> Result<Vec<Target>> {
    parse(&read(&repo.join("testbed/headers"))?)
}

fn parse(text: &str) -> Result<Vec<Target>> {
    data_lines(text)
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [package, suite, architecture, missing @ ..] = words.as_slice() else {
                bail!(
                    "testbed/headers: '{line}' is not PACKAGE SUITE ARCHITECTURE [MISSING SYMBOL PREFIX …]"
                );
            };
            Ok(Target {
                package: (*package).into(),
                suite: (*suite).into(),
                architecture: (*architecture).into(),
                missing: missing.iter().map(|word| (*word).into()).collect(),
            })
        })
        .collect()
}

fn check(bed: &Bed, target: &Target) -> Result<String> {
    let unresolved = missing(bed, target)?;
    let kernel = headers(bed, target)?.name;
    let kernel = kernel.trim_start_matches("linux-headers-");
    Ok(match unresolved.len() {
        0 => kernel.to_owned(),
        count => format!(
            "{kernel}; {count} symbols that it does not export: {}",
            unresolved.join(" ")
        ),
    })
}

/// Compiles the module, and links it if it must; the symbols that the kernel lacks, all of them expected.
pub(crate) fn missing(bed: &Bed, target: &Target) -> Result<Vec<String>> {
    let headers = headers(bed, target)?;
    let copy = module::copy_source(bed, &target.name())?;
    let log = bed.target.join(format!("test/module-{}.log", target.name()));
    std::fs::remove_file(&log).ok();
    let make = |goal: &str| -> Result<crate::cmd::Cmd> {
        let mut cmd = root::command_with(bed, "make", &[(&headers.dir, HEADERS)])?
            .arg("-C")
            .arg(format!("{HEADERS}/usr/src/{}", headers.name))
            .arg(format!("M={}", root::inside(bed, &copy).display()))
            .args(["V=0", goal]);
        if target.architecture == "arm64" {
            cmd = cmd.args(["ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"]);
        }
        cmd = cmd.arg(format!("CC={}", target.compiler()));
        // BTF is for tracing programs on a machine that runs the module, and needs that kernel's vmlinux.
        cmd = cmd.arg("CONFIG_DEBUG_INFO_BTF_MODULES=");
        if !target.missing.is_empty() {
            cmd = cmd.arg("KBUILD_MODPOST_WARN=1");
        }
        Ok(cmd.log(&log))
    };
    make("clean")?.run()?;
    make("modules")?.run()?;
    if !copy.join(module::FILE).exists() {
        bail!("the build made no {}", module::FILE);
    }
    let said = read(&log)?;
    let warnings = warnings(&said);
    if !warnings.is_empty() {
        bail!("{}", last_lines(&warnings.join("\n"), 10));
    }
    // modpost names only the first ten.
    let exported = read(
        &headers
            .dir
            .join(format!("usr/src/{}/Module.symvers", headers.name)),
    )?;
    let nm = if target.architecture == "arm64" {
        "aarch64-linux-gnu-nm"
    } else {
        "nm"
    };
    let wanted = root::command(bed, nm)?
        .args(["--undefined-only", "--format=just-symbols"])
        .arg(root::inside(bed, &copy.join(module::FILE)))
        .output()?;
    let unresolved = unresolved(&wanted, &exported)?;
    let excused = |symbol: &&&str| {
        target
            .missing
            .iter()
            .any(|prefix| symbol.starts_with(prefix.as_str()))
    };
    let unexpected: Vec<&&str> = unresolved.iter().filter(|symbol| !excused(symbol)).collect();
    if !unexpected.is_empty() {
        bail!("symbols that this kernel does not export: {unexpected:?}");
    }
    if unresolved.is_empty() && !target.missing.is_empty() {
        bail!(
            "testbed/headers says that this kernel lacks {:?}, but the module links",
            target.missing
        );
    }
    Ok(unresolved.into_iter().map(str::to_owned).collect())
}

/// The symbols of `wanted` that `exported`, a Module.symvers, does not have.
fn unresolved<'a>(wanted: &'a str, exported: &'a str) -> Result<Vec<&'a str>> {
    let exported: BTreeSet<&str> = exported
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    let wanted: BTreeSet<&str> = wanted.split_whitespace().collect();
    if exported.is_empty() || wanted.is_empty() {
        bail!("no list of the kernel's symbols or of the module's");
    }
    Ok(wanted.difference(&exported).copied().collect())
}

/// The warnings of a build that are about the module itself.
fn warnings(log: &str) -> Vec<&str> {
    let known = [
        // The root's tools are not those that the kernel was built with.
        "the compiler differs from the one used to build the kernel",
        "pahole version differs from the one used to build the kernel",
    ];
    // The unresolved symbols are looked at on their own.
    let modpost = |line: &str| {
        line.starts_with("WARNING: modpost:")
            && (line.ends_with("undefined!") || line.contains("unresolved symbol warnings"))
    };
    log.lines()
        .filter(|line| line.to_ascii_lowercase().contains("warning:") || line.contains("error:"))
        .filter(|line| !line.starts_with(HEADERS) && !modpost(line))
        .filter(|line| !known.iter().any(|known| line.contains(known)))
        .collect()
}

/// Downloads and unpacks the headers that `target` names now, the common part and the host programs with them.
pub(crate) fn headers(bed: &Bed, target: &Target) -> Result<Headers> {
    // NAME=VERSION of each package, one a line.
    let stamp = |list: &str| Stamp::new().with("packages", list).with("place", HEADERS);
    let list = apt::settled(
        bed,
        &target.name(),
        |list| bed.cache.has("headers", &stamp(list)),
        || Ok(resolve(bed, target)?.join("\n")),
    )?;
    let first = list.lines().next().and_then(|line| line.split([':', '=']).next());
    let name = first.context("no headers package")?.to_owned();
    let what = format!("unpacking {name} (15 MB to download, 100 MB on disk)");
    let dir = bed.cache.artefact("headers", &stamp(&list), &what, |path| {
        remove_tree(bed, path)?;
        std::fs::create_dir_all(path)?;
        let apt = PrivateApt::new(bed, &target.suite, foreign(target))?;
        for line in list.lines() {
            let (package, version) = line.split_once('=').context("no '=' in the settled packages")?;
            let deb = apt.download(package, version)?;
            let log = bed.cache.dir().join("headers.log");
            crate::cmd::Cmd::new("dpkg-deb")
                .arg("-x")
                .arg(&deb)
                .arg(path)
                .log(&log)
                .run()?;
            std::fs::remove_file(deb)?;
        }
        relocate(&path.join("usr/src"))
    })?;
    Ok(Headers { dir, name })
}

fn foreign(target: &Target) -> Option<&str> {
    Some(target.architecture.as_str()).filter(|architecture| *architecture != "amd64")
}

fn resolve(bed: &Bed, target: &Target) -> Result<Vec<String>> {
    let apt = PrivateApt::new(bed, &target.suite, foreign(target))?;
    let qualified = |name: &str| match foreign(target) {
        Some(architecture) => format!("{name}:{architecture}"),
        None => name.to_owned(),
    };
    let flavour = apt.depends(&qualified(&target.package))?;
    let flavour = flavour.iter().find(|name| name.starts_with("linux-headers-"));
    let flavour = flavour.with_context(|| format!("{} depends on no linux-headers-*", target.package))?;
    let flavour_name = flavour.split(':').next().unwrap_or(flavour);
    let depends = apt.depends(&qualified(flavour_name))?;
    let mut names = vec![qualified(flavour_name)];
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
        let list = parse("# c\nlinux-headers-x s arm64\nlinux-headers-y t amd64 v4l2_m2m_ vb2_\n").unwrap();
        assert!(list[0].missing.is_empty());
        assert_eq!(list[1].missing, ["v4l2_m2m_", "vb2_"]);
        assert!(parse("linux-headers-x").is_err());
    }

    #[test]
    fn only_warnings_about_the_module_count() {
        let log = "WARNING: modpost: \"v4l2_m2m_init\" [/x/a.ko] undefined!\n\
                   /daedalus/headers/x.h:1: warning: old\nwarning: the compiler differs from the one used to build the kernel\n\
                   a.c:1:2: warning: unused\nWARNING: modpost: missing MODULE_LICENSE()\n";
        assert_eq!(warnings(log).len(), 2);
    }

    #[test]
    fn symbols_that_are_not_exported() {
        let exported = "0x1\tkfree\tvmlinux\tEXPORT_SYMBOL\n";
        assert_eq!(
            unresolved("kfree\nv4l2_m2m_init\n", exported).unwrap(),
            ["v4l2_m2m_init"]
        );
        assert!(unresolved("", exported).is_err());
        assert!(unresolved("kfree", "").is_err());
    }
}
