// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's own checkers on the module: style, and all warnings of the compiler and of sparse.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::bed::Bed;
use crate::make::apt::{self, PrivateApt};
use crate::make::kernel::{Kernel, KernelBuild};
use crate::make::module;
use crate::outcome::Outcome;
use crate::site::cache::Stamp;
use crate::site::cmd::{Cmd, last_lines};
use crate::site::files::{lock_file, read};

/// The name of the check of the style.
const STYLE: &str = "checkpatch --strict";
/// The tests' own module, whose style is checked, too.
const TESTS: &str = "testbed/caches";
/// checkpatch's options.
const OPTIONS: [&str; 5] = ["--strict", "--no-tree", "--no-summary", "--terse", "--show-types"];

/// Checks the style of the module, the protocol header and the tests' own module with the kernel's checker.
pub(crate) fn checkpatch(bed: &Bed, outcome: &Outcome) {
    outcome.check(STYLE, || {
        let source = bed.kernel_source()?;
        let copy = module::copy_source(bed, "checkpatch")?;
        let files = style_files(&[
            copy.clone(),
            copy.join("../include/uapi/linux"),
            bed.repo.join(TESTS),
        ])?;
        let ignored = |path: &Path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            bed.conf(&format!("checkpatch.ignore.{file}")).unwrap_or("NONE")
        };
        let mut inputs = Stamp::new()
            .with("judged", include_str!("module.rs"))
            .with("kernel", &source.dir.to_string_lossy());
        for path in &files {
            inputs = inputs.with("ignored", ignored(path));
        }
        let parts = [module::OWN.parts, &[TESTS]].concat();
        let inputs = module::stamp(&bed.repo, &parts, inputs)?;
        bed.cache.once(STYLE, &inputs, || {
            let log = bed.target.join("test/checkpatch.log");
            std::fs::remove_file(&log).ok();
            for path in &files {
                // Its exit status only repeats what it prints.
                Cmd::new("perl")
                    .arg(source.dir.join("scripts/checkpatch.pl"))
                    .args(OPTIONS)
                    .args(["--ignore", ignored(path), "--file"])
                    .arg(path)
                    .log(&log)
                    .status()?;
            }
            let output = read(&log)?;
            if !output.trim().is_empty() {
                bail!("{}", last_lines(&output, 10));
            }
            Ok(format!("{} files", files.len()))
        })
    });
}

/// Returns the C files in these directories, sorted.
fn style_files(dirs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for dir in dirs {
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "c" || end == "h") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Builds the module against one kernel with all of the compiler's and sparse's warnings, of which there must
/// be none.
pub(crate) fn warnings(bed: &Bed, outcome: &Outcome, which: Kernel) {
    let name = format!("module against the {which} kernel: W=1 and sparse");
    outcome.check(&name, || {
        let (kernel, sparse) = (bed.kernel(which)?, sparse(bed)?);
        let flags = ["W=1".to_owned(), "C=2".to_owned(), format!("CHECK={sparse}")];
        // The build tree's name stands for source, configuration and compiler.
        let inputs = Stamp::new()
            .with("judged", include_str!("module.rs"))
            .with("kernel", &kernel.tree.to_string_lossy())
            .with("flags", &flags.join("\n"));
        let inputs = module::stamp(&bed.repo, module::OWN.parts, inputs)?;
        bed.cache
            .once(&name, &inputs, || build(bed, &kernel, which, &flags))
    });
}

/// Builds it; the number of files that sparse looked at.
fn build(bed: &Bed, kernel: &KernelBuild, which: Kernel, flags: &[String]) -> Result<String> {
    let name = format!("{which}-checked");
    let _lock = lock_file(
        &bed.target.join(format!("module/.{name}.lock")),
        "checking the module",
    )?;
    let dir = module::copy_source(bed, &name)?;
    let log = bed.target.join(format!("test/module-{which}.log"));
    std::fs::remove_file(&log).ok();
    // Warnings come only from what is compiled: everything, each time.
    module::make(kernel, which, &dir, "clean").log(&log).run()?;
    module::make(kernel, which, &dir, "modules")
        .args(flags)
        .log(&log)
        .run()?;
    let source = bed.kernel_source()?;
    let output = read(&log)?;
    let kernel = [source.dir.to_string_lossy(), kernel.tree.to_string_lossy()].map(String::from);
    let warnings = lines_of_module(&output, &kernel);
    if !warnings.is_empty() {
        bail!("{} warning(s):\n{}", warnings.len(), warnings.join("\n"));
    }
    let checked = |line: &&str| line.trim_start().starts_with("CHECK ");
    match output.lines().filter(checked).count() {
        0 => bail!("sparse looked at no file (see {})", log.display()),
        count => Ok(format!("{count} files")),
    }
}

/// The command line of sparse. This kernel's headers need a newer one than Debian 12 and 13 have, and that
/// one a newer libc than Debian 12's: the root's.
fn sparse(bed: &Bed) -> Result<String> {
    let suite = bed.conf("tools.sparse")?;
    let stamp = |package: &str| Stamp::new().with("package", package);
    let package = apt::settled(
        bed,
        &format!("{suite}-sparse"),
        |package| bed.cache.has("sparse", &stamp(package)),
        || PrivateApt::new(bed, suite, None)?.candidate("sparse"),
    )?;
    let what = format!("unpacking {package}");
    let dir = bed.cache.artefact("sparse", &stamp(&package), &what, |path| {
        bed.host.remove_tree(path)?;
        let (name, version) = package.split_once('=').context("a package without a version")?;
        let deb = PrivateApt::new(bed, suite, None)?.download(name, version)?;
        let log = bed.cache.dir().join("sparse.log");
        Cmd::new("dpkg-deb").arg("-x").arg(deb).arg(path).log(log).run()
    })?;
    let root = bed.root()?;
    Ok(format!(
        "{root}/lib64/ld-linux-x86-64.so.2 --library-path {root}/usr/lib/x86_64-linux-gnu {}/usr/bin/sparse",
        dir.display(),
        root = root.display(),
    ))
}

/// The warnings and errors in a build's log that are not about the kernel's own files.
fn lines_of_module<'a>(log: &'a str, kernel: &[String]) -> Vec<&'a str> {
    log.lines()
        .filter(|line| {
            ["warning:", "error:", "WARNING:", "ERROR:"]
                .iter()
                .any(|word| line.contains(word))
        })
        .filter(|line| !kernel.iter().any(|dir| line.starts_with(dir.as_str())))
        .filter(|line| !line.contains("the compiler differs from the one used to build the kernel"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_modules_warnings_count() {
        let log =
            "/k/include/linux/x.h:1:1: warning: not ours\ndaedalus_job.c:2:3: warning: ours\n  CHECK a.c\n";
        assert_eq!(
            lines_of_module(log, &["/k".into()]),
            ["daedalus_job.c:2:3: warning: ours"]
        );
    }
}
