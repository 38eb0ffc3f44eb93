// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cache: artefacts named by the hash of their inputs, shared by clones and by runs at the same time.
//!
//! An artefact is a directory `KIND-HASH`. It counts as whole only if `stamps/KIND-HASH` is there, which is
//! written last. Whoever makes or checks it holds the lock `locks/KIND-HASH`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use md5::{Digest, Md5};
use rustix::fs::{FlockOperation, flock};

use crate::bed::Bed;
use crate::cmd::Cmd;
use crate::ui;

/// Artefacts of other inputs that nobody used for this long are removed by `./dev clean`.
const UNUSED: Duration = Duration::from_secs(3 * 24 * 3600);

/// The inputs of an artefact, as text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stamp(String);

impl Stamp {
    /// No inputs yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds one input.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.push_str(&format!("== {name}\n{}\n", value.trim_end()));
        self
    }

    fn hash(&self) -> String {
        let sum = Md5::digest(self.0.as_bytes());
        sum[..6]
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}

/// The cache directory.
pub(crate) struct Cache {
    dir: PathBuf,
}

/// A lock that is held until this is dropped.
pub(crate) struct Lock(#[expect(dead_code, reason = "holds the lock by being open")] File);

impl Cache {
    /// Opens `$XDG_CACHE_HOME/daedalus` or `~/.cache/daedalus`, and makes it if need be.
    pub(crate) fn open() -> Result<Self> {
        let base = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| Path::new(dir).is_absolute()) {
            Some(dir) => PathBuf::from(dir),
            None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
        };
        let dir = base.join("daedalus");
        std::fs::create_dir_all(dir.join("locks"))
            .and_then(|()| std::fs::create_dir_all(dir.join("stamps")))
            .with_context(|| format!("cannot make the cache {}", dir.display()))?;
        Ok(Self {
            dir: dir.canonicalize()?,
        })
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where an artefact is or would be.
    pub(crate) fn path(&self, kind: &str, stamp: &Stamp) -> PathBuf {
        self.dir.join(format!("{kind}-{}", stamp.hash()))
    }

    /// True if it is there and whole.
    pub(crate) fn has(&self, kind: &str, stamp: &Stamp) -> bool {
        self.mark(kind, stamp).exists() && self.path(kind, stamp).exists()
    }

    fn mark(&self, kind: &str, stamp: &Stamp) -> PathBuf {
        self.dir.join("stamps").join(format!("{kind}-{}", stamp.hash()))
    }

    /// The artefact of these inputs; `make` fills its directory (which may hold the rest of an interrupted try)
    /// if it is not there. `what` names it for the user.
    pub(crate) fn artefact(
        &self,
        kind: &str,
        stamp: &Stamp,
        what: &str,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.path(kind, stamp);
        let mark = self.mark(kind, stamp);
        let _lock = self.lock(&format!("{kind}-{}", stamp.hash()), what)?;
        if self.has(kind, stamp) {
            // Its age is what `clean` goes by.
            File::options()
                .append(true)
                .open(&mark)?
                .set_modified(SystemTime::now())?;
            return Ok(path);
        }
        let _step = ui::Step::begin(what);
        make(&path).with_context(|| format!("{what}: failed"))?;
        write_whole(&mark, &stamp.0)?;
        Ok(path)
    }

    /// Takes a named lock of the cache, and says so if that must wait.
    pub(crate) fn lock(&self, name: &str, what: &str) -> Result<Lock> {
        lock_file(&self.dir.join("locks").join(name), what)
    }

    /// Removes artefacts that were not used lately, or everything.
    pub(crate) fn clean(&self, bed: &Bed, all: bool) -> Result<()> {
        let mut removed = 0;
        for entry in std::fs::read_dir(self.dir.join("stamps"))? {
            let mark = entry?;
            let age = mark.metadata()?.modified()?.elapsed().unwrap_or_default();
            if !all && age < UNUSED {
                continue;
            }
            let _lock = self.lock(
                &mark.file_name().to_string_lossy(),
                "an artefact that is to be removed",
            )?;
            std::fs::remove_file(mark.path())?;
            remove_tree(bed, &self.dir.join(mark.file_name()))?;
            removed += 1;
        }
        if all {
            for name in ["apt", "tools"] {
                remove_tree(bed, &self.dir.join(name))?;
            }
        }
        ui::note(&format!(
            "{removed} artefacts removed from {}",
            self.dir.display()
        ));
        Ok(())
    }
}

/// Takes the lock file `path`, and says so if that must wait for another run.
pub(crate) fn lock_file(path: &Path, what: &str) -> Result<Lock> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let file = File::options().create(true).append(true).open(path);
    let file = file.with_context(|| format!("cannot open the lock {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        ui::note(&format!("waiting for another run that has to do with: {what}"));
        flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(Lock(file))
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let temporary = path.with_extension(format!("new{}", std::process::id()));
    let mut file =
        File::create(&temporary).with_context(|| format!("cannot write {}", temporary.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

/// Removes a tree that root may own, and unmounts what a maker of roots that was killed has left mounted in it.
pub(crate) fn remove_tree(bed: &Bed, path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for mount in mounted_below(&mounts, &path.canonicalize()?) {
        bed.host
            .privileged(Cmd::new("umount").arg("--").arg(mount))?
            .run()?;
    }
    // --one-file-system: whatever may be mounted in a root meanwhile is not part of the cache.
    bed.host
        .privileged(Cmd::new("rm").args(["-rf", "--one-file-system", "--"]).arg(path))?
        .run()
}

/// The mount points below a directory, the last one first, of the text of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
fn mounted_below(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    // White space and backslashes are written in octal.
    let point = |text: &str| {
        let text = text.replace("\\040", " ").replace("\\011", "\t");
        PathBuf::from(text.replace("\\012", "\n").replace("\\134", "\\"))
    };
    let below = |path: &PathBuf| path != dir && path.starts_with(dir);
    points.rev().map(point).filter(below).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_last_is_unmounted_first() {
        let text = "21 1 8:1 / / rw - ext4 /dev/vda rw\n30 21 0:4 / /a\\040b/root/dev rw shared:2 - tmpfs none rw\n\
                    31 30 0:5 / /a\\040b/root/dev/pts rw - devpts none rw\n32 21 0:6 / /a\\040broot rw - tmpfs none rw\n";
        let found = mounted_below(text, Path::new("/a b"));
        assert_eq!(
            found,
            [Path::new("/a b/root/dev/pts"), Path::new("/a b/root/dev")]
        );
        assert!(mounted_below(text, Path::new("/a b/root/dev/pts")).is_empty());
    }

    #[test]
    fn inputs_make_the_name() {
        let a = Stamp::new().with("suite", "one");
        assert_eq!(a.hash(), Stamp::new().with("suite", "one\n").hash());
        assert_ne!(a.hash(), Stamp::new().with("suite", "two").hash());
        assert_ne!(a.hash(), Stamp::new().with("suit", "eone").hash());
    }

    #[test]
    fn a_failed_artefact_is_made_again_and_a_whole_one_is_not() {
        let dir = std::env::temp_dir().join(format!("xtask-cache-{}", std::process::id()));
        for sub in ["locks", "stamps"] {
            std::fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let cache = Cache { dir: dir.clone() };
        let stamp = Stamp::new().with("x", "1");
        let half = cache.artefact("thing", &stamp, "a thing", |path| {
            std::fs::create_dir(path)?;
            anyhow::bail!("interrupted")
        });
        assert!(half.is_err() && !cache.has("thing", &stamp));
        assert!(
            cache
                .artefact("thing", &stamp, "a thing", |path| Ok(std::fs::write(
                    path.join("f"),
                    ""
                )?))
                .is_ok()
        );
        assert!(
            cache
                .artefact("thing", &stamp, "a thing", |_| anyhow::bail!("made twice"))
                .is_ok()
        );
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
