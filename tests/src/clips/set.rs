// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A set of streams: a directory named by a hash of its generator and of the programs that make it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use daedalus_client::raw::hex;
use md5::{Digest, Md5};
use rustix::fs::{FlockOperation, flock};

use crate::codec;

/// Frames per second of every stream.
pub(super) const RATE: usize = 30;

/// Returns the sources that decide the bytes of every set, behind those of one generator.
pub(super) fn sources(own: &[&'static str]) -> Vec<&'static str> {
    let of_codecs = codec::rows().map(|row| row.clips.source);
    let common = [include_str!("scene.rs"), include_str!("../random.rs")];
    own.iter().copied().chain(common).chain(of_codecs).collect()
}

/// Returns the set in `out` that these sources and programs (name, argument that prints the version) make;
/// `make` fills its directory if it is not there. `last` is the file by which it is known to be whole.
pub(super) fn set_of(
    out: &Path,
    sources: &[&str],
    programs: &[(&str, &str)],
    last: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let set = out.join(key(sources, programs)?);
    // One generator at a time; the other one finds the finished set.
    let lock = File::create(out.join(".lock"))?;
    flock(&lock, FlockOperation::LockExclusive).context("cannot lock the clip cache")?;
    if !set.join(last).is_file() {
        let partial = out.join(".partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir(&partial)?;
        make(&partial)?;
        if set.exists() {
            fs::remove_dir_all(&set)?;
        }
        fs::rename(&partial, &set)?;
    }
    Ok(set)
}

/// Returns a hash of everything that decides the bytes of a set.
fn key(sources: &[&str], programs: &[(&str, &str)]) -> Result<String> {
    let mut hash = Md5::new();
    for source in sources {
        hash.update(source);
    }
    for (program, argument) in programs {
        let output = Command::new(program)
            .arg(argument)
            .stdin(Stdio::null())
            .output()
            .with_context(|| {
                format!("cannot start {program}: the clips are made in the Debian root, which has it")
            })?;
        hash.update(program);
        hash.update(&output.stdout);
        hash.update(&output.stderr);
    }
    Ok(hex(&hash.finalize())[..16].to_owned())
}
