// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev package --kernels`: DKMS builds the packaged module for each kernel of testbed/headers;
//! docs/supported-kernels.md is what came of it.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::bed::Bed;
use crate::headers::{self, Target};
use crate::make::root::{self, HEADERS};
use crate::outcome::Outcome;
use crate::site::cmd::{Cmd, last_lines};
use crate::site::files::{read, write_whole};

/// Where DKMS keeps what it built.
const STATE: &str = "/var/lib/dkms";

/// A row of the table.
struct Row {
    kernel: String,
    suite: String,
    architecture: String,
}

/// Builds for all kernels; writes the document if all went as testbed/headers says.
pub(crate) fn run(bed: &Bed, dir: &Path, version: &str, outcome: &Outcome) {
    let mut rows = Vec::new();
    let prepared = outcome.check("the module's package unpacks", || {
        unpack(bed, dir, version).map(|()| String::new())
    });
    let targets = headers::targets(&bed.repo);
    let Ok(targets) = targets else {
        outcome.check("testbed/headers", || targets.map(|_| String::new()));
        return;
    };
    for target in targets.iter().filter(|_| prepared) {
        let name = format!("DKMS for {}/{}", target.suite, target.package);
        outcome.check(&name, || {
            let row = one(bed, dir, version, target)?;
            let note = row.kernel.clone();
            rows.push(row);
            Ok(note)
        });
    }
    if rows.len() == targets.len() {
        outcome.check("docs/supported-kernels.md is written", || {
            write_whole(&bed.repo.join("docs/supported-kernels.md"), &document(&rows))?;
            Ok(format!("{} kernels", rows.len()))
        });
    }
}

/// Unpacks the built package; an empty state of DKMS beside it.
fn unpack(bed: &Bed, dir: &Path, version: &str) -> Result<()> {
    let deb = dir.join(format!("daedalus-v4l2-dkms_{version}_all.deb"));
    for name in ["dkms", "dkms-state"] {
        bed.host.remove_tree(&dir.join(name))?;
        std::fs::create_dir_all(dir.join(name))?;
    }
    let log = dir.join("dkms.log");
    std::fs::remove_file(&log).ok();
    Cmd::new("dpkg-deb")
        .arg("-x")
        .arg(deb)
        .arg(dir.join("dkms"))
        .log(&log)
        .run()
}

fn one(bed: &Bed, dir: &Path, version: &str, target: &Target) -> Result<Row> {
    let headers = headers::get(bed, target)?;
    let kernel = headers.name.trim_start_matches("linux-headers-").to_owned();
    let architecture = match target.architecture.as_str() {
        "arm64" => "aarch64",
        "amd64" => "x86_64",
        other => bail!("DKMS's name of {other} is not known here"),
    };
    let state = dir.join("dkms-state");
    let binds = [(headers.dir.as_path(), HEADERS), (state.as_path(), STATE)];
    let log = dir.join(format!("dkms-{}.log", target.name()));
    std::fs::remove_file(&log).ok();
    // BTF is for tracing programs on a machine that runs the module, and needs that kernel's vmlinux.
    let flags = format!(
        "MAKEFLAGS=CONFIG_DEBUG_INFO_BTF_MODULES= CC={}",
        target.compiler()
    );
    let exit = bed
        .command_in(&root::make(bed, root::PACKAGING)?, "env", &binds)?
        .arg(flags)
        .arg("dkms")
        .args(["build", "-m", "daedalus-v4l2", "-v", version])
        .args(["-k", &kernel, "-a", architecture, "--sourcetree"])
        .arg(root::inside(bed, &dir.join("dkms/usr/src")))
        .args([
            "--kernelsourcedir",
            &format!("{HEADERS}/usr/src/{}", headers.name),
        ])
        .log(&log)
        .status()?;
    let module = state.join(format!("daedalus-v4l2/{version}/{kernel}/{architecture}/module"));
    let built = std::fs::read_dir(&module).is_ok_and(|mut entries| entries.next().is_some());
    let code = exit.status.code().context("dkms was killed")?;
    if code != 0 || !built {
        bail!(
            "dkms ended with {code}; its last lines:\n{}",
            last_lines(&read(&log)?, 20)
        );
    }
    Ok(Row {
        kernel,
        suite: target.suite.clone(),
        architecture: target.architecture.clone(),
    })
}

fn document(rows: &[Row]) -> String {
    let mut text = "# Supported kernels\n\n\
        `./dev package --kernels` writes this file. It has DKMS build the packaged module against the\n\
        headers of Debian's kernels (`testbed/headers`). `BUILD_EXCLUSIVE_KERNEL` and\n\
        `BUILD_EXCLUSIVE_CONFIG` in dkms.conf select the kernels that DKMS skips: the installation goes\n\
        on, and there is no device. This table shows builds;\n\
        [install.md](install.md#tested-and-not-tested) lists the kernels in which the module ran.\n\n\
        | kernel | suite | architecture | DKMS |\n\
        | --- | --- | --- | --- |\n"
        .to_owned();
    for row in rows {
        text.push_str(&format!(
            "| {} | {} | {} | built |\n",
            row.kernel, row.suite, row.architecture
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Whether DKMS takes dkms.conf to be for a kernel: it reads the file as a script of bash, as here.
    fn is_for(kernel: &str) -> bool {
        Command::new("bash")
            .args([
                "-c",
                "kernel_source_dir=; . \"$1\" && [[ $2 =~ $BUILD_EXCLUSIVE_KERNEL ]]",
            ])
            .arg("dkms")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../debian/daedalus-v4l2-dkms.dkms"))
            .arg(kernel)
            .status()
            .is_ok_and(|status| status.success())
    }

    #[test]
    fn the_package_is_for_the_kernels_that_it_names() {
        for kernel in [
            "6.12.117+deb13-arm64",
            "6.19.0",
            "7.0.1",
            "7.2.13+deb14-amd64",
            "7.3",
            "7.3.4+deb13-arm64",
        ] {
            assert!(is_for(kernel), "{kernel}");
        }
        for kernel in [
            "6.1.0-40-arm64",
            "6.11.9",
            "6.120.1",
            "7.4.0",
            "7.30.1",
            "8.7.3",
            "16.12.1",
        ] {
            assert!(!is_for(kernel), "{kernel}");
        }
    }

    #[test]
    fn a_kernel_is_a_row() {
        let row = Row {
            kernel: "6.12.1-x".into(),
            suite: "s".into(),
            architecture: "arm64".into(),
        };
        let text = document(&[row]);
        assert!(text.ends_with("| 6.12.1-x | s | arm64 | built |\n"), "{text}");
    }
}
