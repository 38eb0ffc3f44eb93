// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `./dev upgrade`: the packages of an earlier commit in a Debian 13 for arm64, upgraded to those of the
//! tree in every order, and back, while a client plays. What is done in the guest is
//! testbed/upgrade/orders. Results: target/upgrade.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::arm64;
use crate::bed::Bed;
use crate::outcome::Outcome;
use crate::package;
use crate::site::cache::Stamp;
use crate::site::cmd::Cmd;
use crate::site::files::lock_file;
use crate::system::{self, Scene};

/// The first version: its module speaks version 1 of the protocol, and is of v4l2-mem2mem, which Debian's
/// kernels for arm64 have.
const FIRST: &str = "23cb5d9";

/// Arguments of `./dev upgrade`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    /// The commit whose packages are installed first; they are built by its own `./dev package`
    #[arg(long, value_name = "COMMIT", default_value = FIRST)]
    from: String,
}

/// Makes the packages, and runs the guest.
pub(crate) fn run(bed: &Bed, args: &Args) -> Result<Outcome> {
    bed.host.ready()?;
    let dir = bed.target.join("upgrade");
    let outcome = Outcome::new();
    let mut former = None;
    outcome.check(&format!("the packages of {} are there", args.from), || {
        let packages = packages(bed, &args.from, &dir)?;
        former = Some(packages);
        Ok(String::new())
    });
    if let Some(former) = former {
        let scene = Scene::Upgrade(&former);
        outcome.absorb(system::run(
            bed,
            &arm64::MACHINE,
            &[arm64::upgraded()],
            &dir,
            scene,
        )?);
    }
    Ok(outcome)
}

/// The directory with the packages of a commit, which are made once.
fn packages(bed: &Bed, commit: &str, dir: &Path) -> Result<PathBuf> {
    let full = git(bed, &["rev-parse", "--verify", "--quiet"])
        .arg(format!("{commit}^{{commit}}"))
        .output()
        .with_context(|| format!("this clone has no commit {commit}"))?;
    let full = full.trim();
    let short = full.get(..7).unwrap_or(full);
    let what = format!("building the packages of {commit} (a quarter of an hour)");
    let stamp = Stamp::new().with("commit", full).with("layout", "1");
    bed.cache.artefact("packages", &stamp, &what, |path| {
        bed.host.remove_tree(path)?;
        std::fs::create_dir_all(path)?;
        let place = dir.join(short);
        let _lock = lock_file(&place.join(".lock"), "building the packages")?;
        build(bed, full, &place, path)
    })
}

/// Has the commit's own package maker build them in a worktree below `place`; copies them to `to`.
fn build(bed: &Bed, commit: &str, place: &Path, to: &Path) -> Result<()> {
    let tree = place.join("tree");
    // What an interrupted build has made is good.
    if !tree.join(".git").exists() {
        bed.host.remove_tree(&tree)?;
        git(bed, &["worktree", "prune"]).run()?;
        git(bed, &["worktree", "add", "--quiet", "--detach"])
            .arg(&tree)
            .arg(commit)
            .run()?;
    }
    let log = place.join("build.log");
    Cmd::new(tree.join("dev"))
        .args(["package", "--build-only"])
        .cwd(&tree)
        .log(&log)
        .run()?;
    let debs: Vec<PathBuf> = package::debs(&tree.join("target/package"))?
        .into_iter()
        .filter(|deb| !package::is_debug(deb))
        .collect();
    if debs.is_empty() {
        bail!("no packages were built: {}", log.display());
    }
    for deb in debs {
        let name = deb.file_name().context("a package without a name")?.to_owned();
        std::fs::copy(&deb, to.join(name))?;
    }
    bed.host.remove_tree(&tree)?;
    git(bed, &["worktree", "prune"]).run()
}

fn git(bed: &Bed, args: &[&str]) -> Cmd {
    Cmd::new("git")
        .args(["-c", "safe.directory=*"])
        .args(args)
        .cwd(&bed.repo)
}
