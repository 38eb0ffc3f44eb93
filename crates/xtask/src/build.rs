// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What everything else needs: vendored crates, the workspace's programs, and the order in which to make things.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::bed::{Bed, read};
use crate::cache::{Stamp, remove_tree};
use crate::cmd::Cmd;
use crate::guest::Kernel;
use crate::root::{self, CRATES};
use crate::ui;

fn crates_stamp(bed: &Bed) -> Result<Stamp> {
    Ok(Stamp::new()
        .with("lock", &read(&bed.repo.join("Cargo.lock"))?)
        .with("layout", "1"))
}

/// Downloads the crates of Cargo.lock by the machine's cargo, so that its configuration counts and the root needs
/// no network.
pub(crate) fn vendor(bed: &Bed) -> Result<PathBuf> {
    let stamp = crates_stamp(bed)?;
    bed.cache
        .artefact("crates", &stamp, "downloading the crates of Cargo.lock", |path| {
            let log = bed.cache.dir().join("crates.log");
            std::fs::remove_file(&log).ok();
            vendor_into(bed, &bed.repo.join("Cargo.toml"), (path, CRATES), &log)
        })
}

/// Downloads the crates of the Cargo.lock beside a manifest to `path`, which is `place` where they are used, with a
/// CARGO_HOME that finds them.
pub(crate) fn vendor_into(
    bed: &Bed,
    manifest: &Path,
    (path, place): (&Path, &str),
    log: &Path,
) -> Result<()> {
    remove_tree(bed, path)?;
    let home = path.join("home");
    std::fs::create_dir_all(&home)?;
    Cmd::new("cargo")
        .args(["vendor", "--locked", "--versioned-dirs", "--manifest-path"])
        .arg(manifest)
        .arg(path.join("vendor"))
        .log(log)
        .run()
        .context("cargo cannot download the crates of Cargo.lock (after a change of a Cargo.toml: is Cargo.lock up to date?)")?;
    let config = format!(
        "[source.crates-io]\nreplace-with = \"vendored\"\n[source.vendored]\ndirectory = \"{place}/vendor\"\n\
         [net]\noffline = true\n"
    );
    Ok(std::fs::write(home.join("config.toml"), config)?)
}

/// Builds the workspace's programs in the root, with optimisation, and puts them into one directory.
pub(crate) fn binaries(bed: &Bed) -> Result<PathBuf> {
    let dir = bed.target.join("guest-bin");
    std::fs::create_dir_all(&dir)?;
    let cargo = root::command(bed, "cargo")?.args([
        "build",
        "--release",
        "--locked",
        "--offline",
        "--workspace",
        "--exclude",
        "daedalus-fuzz",
        "--exclude",
        "xtask",
        "--bins",
        "--message-format=json-render-diagnostics",
    ]);
    let _step = ui::Step::begin("building the daemon and the tools in the Debian root");
    let messages = cargo
        .output()
        .context("building the workspace in the Debian root failed")?;
    let mut built = Vec::new();
    for line in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("cargo's messages")?;
        if let Some(file) = message["executable"]
            .as_str()
            .filter(|file| file.starts_with(root::TREE))
        {
            let file = bed.repo.join(
                file.strip_prefix(root::TREE)
                    .unwrap_or(file)
                    .trim_start_matches('/'),
            );
            built.push(file);
        }
    }
    if built.is_empty() {
        bail!("the workspace has no program to run in the guest");
    }
    for file in built {
        let name = file.file_name().context("a program without a name")?.to_owned();
        let new = dir.join(format!(".{}.new", name.to_string_lossy()));
        // By rename: a guest that runs the old one keeps it.
        std::fs::copy(&file, &new).with_context(|| format!("cannot copy {}", file.display()))?;
        std::fs::rename(&new, dir.join(name))?;
    }
    Ok(dir)
}

/// Says what this machine still lacks, how long making it takes and how much disk it takes. True if anything.
pub(crate) fn announce(bed: &Bed, kernels: &[Kernel]) -> Result<bool> {
    let mut lines = Vec::new();
    let packages = bed.host.missing();
    if !packages.is_empty() {
        lines.push(format!(
            "packages to install on this machine: {} (up to 1 minute)",
            packages.join(" ")
        ));
    }
    if !bed.cache.has("root", &root::stamp(bed)?) {
        lines.push("a Debian 13 root, made by mmdebstrap: 1-2 minutes, 2 GB".to_owned());
    }
    for which in kernels {
        let any = std::fs::read_dir(bed.cache.dir().join("stamps"))?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .any(|name| name.starts_with(&format!("uml-{which}-")));
        if !any {
            lines.push(match which {
                Kernel::Plain => {
                    "a UML kernel from Debian's source: 4-7 minutes on 2 processors, 2.2 GB".to_owned()
                }
                Kernel::Image => "the same, linked statically, for the image: 3-6 minutes, 0.5 GB".to_owned(),
                Kernel::Coverage => "the same with counters in the module: 3-6 minutes, 0.5 GB".to_owned(),
                Kernel::Sanitizers => "the same with KASAN and lockdep: 6-10 minutes, 1 GB".to_owned(),
            });
        }
    }
    if !bed.cache.has("crates", &crates_stamp(bed)?) {
        lines.push("the crates of Cargo.lock: 1 minute, 0.5 GB".to_owned());
    }
    if !bed.target.join("guest-bin").exists() {
        lines.push(
            "the module, the daemon and the tools, built in that root: 2 minutes, 0.5 GB under target/"
                .to_owned(),
        );
    }
    if lines.is_empty() {
        return Ok(false);
    }
    ui::note(&format!(
        "not there yet, and made now (in {} and target/):",
        bed.cache.dir().display()
    ));
    for line in &lines {
        ui::note(&format!("  - {line}"));
    }
    Ok(true)
}

/// Everything that a run in a guest of these kernels needs, with what can go on at the same time doing so.
pub(crate) fn prepare(bed: &Bed, kernels: &[Kernel]) -> Result<()> {
    bed.host.ready()?;
    std::thread::scope(|scope| {
        let kernels = scope.spawn(|| -> Result<()> {
            for which in kernels {
                bed.module(*which)?;
            }
            Ok(())
        });
        let programs = bed.binaries();
        let kernels = kernels
            .join()
            .unwrap_or_else(|_| bail!("building the kernels ended by a panic"));
        programs?;
        kernels
    })
}

/// `./dev build`.
pub(crate) fn everything(bed: &Bed) -> Result<()> {
    let kernels = [Kernel::Plain, Kernel::Sanitizers];
    announce(bed, &kernels)?;
    prepare(bed, &kernels)?;
    ui::note("root, kernels, module, daemon and tools are ready");
    Ok(())
}
