// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the crates of others are allowed to be.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::bed::Bed;
use crate::outcome::Outcome;
use crate::site::cache::Stamp;
use crate::site::cmd::{Cmd, last_lines};
use crate::site::files::read;

/// The line of testbed/bed.conf with cargo-deny's version.
const VERSION: &str = "tools.cargo-deny";
/// The name of the check.
const NAME: &str = "licences and sources of crates (cargo-deny)";

/// cargo-deny's words.
const WORDS: &str =
    "--locked --all-features --log-level warn check --hide-inclusion-graph bans licenses sources";

/// Checks licences, bans and sources of the crates. The advisory database is no part: it needs the network at
/// every run.
pub(crate) fn licences(bed: &Bed, outcome: &Outcome) {
    outcome.check(NAME, || {
        let inputs = inputs(&bed.repo, bed.conf(VERSION)?)?;
        bed.cache.once(NAME, &inputs, || {
            let tool = cargo_deny(bed)?;
            let log = bed.target.join("test/deny.log");
            std::fs::remove_file(&log).ok();
            Cmd::new(tool)
                .args(WORDS.split(' '))
                .cwd(&bed.repo)
                .log(&log)
                .run()?;
            Ok(last_lines(&read(&log)?, 1))
        })
    });
}

/// The inputs of the check: the tool, its rules, and which crates there are.
fn inputs(repo: &Path, version: &str) -> Result<Stamp> {
    let mut stamp = Stamp::new().with("version", version).with("words", WORDS);
    for file in ["deny.toml", "Cargo.lock"] {
        stamp = stamp.with_file(file, &repo.join(file))?;
    }
    let manifests = Cmd::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "Cargo.toml", "*/Cargo.toml"])
        .cwd(repo)
        .output()?;
    for file in manifests.lines() {
        stamp = stamp.with_file(file, &repo.join(file))?;
    }
    Ok(stamp)
}

/// cargo-deny, built once by the machine's Rust and kept in the cache.
fn cargo_deny(bed: &Bed) -> Result<PathBuf> {
    let version = bed.conf(VERSION)?;
    let stamp = Stamp::new().with("version", version);
    let dir = bed.cache.artefact(
        "cargo-deny",
        &stamp,
        &format!("building cargo-deny {version} (4-8 minutes)"),
        |path| {
            let log = bed.cache.dir().join("cargo-deny.log");
            std::fs::remove_file(&log).ok();
            let work = path.join("build");
            // Unoptimised: it runs for a second, and optimising it takes many minutes.
            Cmd::new("cargo")
                .args([
                    "install",
                    "cargo-deny",
                    "--locked",
                    "--debug",
                    "--version",
                    version,
                    "--root",
                ])
                .arg(path)
                .args(["--config", "profile.dev.debug=false"])
                .env("CARGO_TARGET_DIR", &work)
                .log(&log)
                .run()?;
            Ok(std::fs::remove_dir_all(work)?)
        },
    )?;
    Ok(dir.join("bin/cargo-deny"))
}
