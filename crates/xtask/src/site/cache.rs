// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cache: artefacts named by the hash of their inputs, shared by clones and by runs at the same time.
//!
//! An artefact is a directory `KIND-HASH`. It counts as whole only if `stamps/KIND-HASH` is there, which is
//! written last. Whoever makes or checks it holds the lock `locks/KIND-HASH`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use md5::{Digest, Md5};

use super::cmd::Cmd;
use super::files::{Lock, lock_file, write_whole};
use super::host::Host;
use super::ui;

/// Artefacts of other inputs that nobody used for this long are removed by `./dev clean`.
const UNUSED: Duration = Duration::from_secs(3 * 24 * 3600);

/// What the names of checks begin with that need not run again.
const PASSED: &str = "passed";

/// The inputs of an artefact or of a check, as text.
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

    /// Adds a file to the inputs, by a sum of its bytes.
    pub(crate) fn with_file(self, name: &str, path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(self.with(name, &hex(&Md5::digest(bytes))))
    }

    /// Returns the inputs, as they are written down.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    fn hash(&self) -> String {
        hex(&Md5::digest(self.0.as_bytes())[..6])
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The cache directory.
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens `$XDG_CACHE_HOME/daedalus` or `~/.cache/daedalus`, and makes it if need be.
    pub(crate) fn open() -> Result<Self> {
        let base = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| Path::new(dir).is_absolute()) {
            Some(dir) => PathBuf::from(dir),
            None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
        };
        Self::at(&base.join("daedalus"))
    }

    /// Opens the cache in a directory, which is made if need be.
    fn at(dir: &Path) -> Result<Self> {
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

    /// The artefact of these inputs; `make` fills its directory (which may hold the rest of an interrupted
    /// try) if it is not there. `what` names it for the user.
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

    /// Runs a check whose result depends on nothing but `inputs`, unless it passed with the same ones before.
    /// Returns the note of the run that passed.
    ///
    /// # Errors
    ///
    /// As `check`. A check that failed runs again.
    pub(crate) fn once(
        &self,
        name: &str,
        inputs: &Stamp,
        check: impl FnOnce() -> Result<String>,
    ) -> Result<String> {
        let inputs = inputs.clone().with("check", name);
        let mark = self.mark(PASSED, &inputs);
        // When, what it said, then its inputs: names of marks are too short to vouch for them.
        let passed = std::fs::read_to_string(&mark).unwrap_or_default();
        let parts: Vec<&str> = passed.splitn(3, '\n').collect();
        if let [when, note, text] = parts[..] {
            if text == inputs.0 {
                File::options()
                    .append(true)
                    .open(&mark)?
                    .set_modified(SystemTime::now())?;
                return Ok(format!("{note}; same inputs as when it passed on {when}"));
            }
        }
        let note = check()?.replace('\n', " ");
        let when = Cmd::new("date").args(["-u", "+%F %H:%M UTC"]).output()?;
        write_whole(&mark, &format!("{}\n{note}\n{}", when.trim(), inputs.0))?;
        Ok(note)
    }

    /// Takes a named lock of the cache, and says so if that must wait.
    pub(crate) fn lock(&self, name: &str, what: &str) -> Result<Lock> {
        lock_file(&self.dir.join("locks").join(name), what)
    }

    /// Removes artefacts that were not used lately, or everything.
    pub(crate) fn clean(&self, host: &Host, all: bool) -> Result<()> {
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
            host.remove_tree(&self.dir.join(mark.file_name()))?;
            removed += 1;
        }
        if all {
            for name in ["apt", "tools"] {
                host.remove_tree(&self.dir.join(name))?;
            }
        }
        ui::note(&format!(
            "{removed} artefacts removed from {}",
            self.dir.display()
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_make_the_name() {
        let a = Stamp::new().with("suite", "one");
        assert_eq!(a.hash(), Stamp::new().with("suite", "one\n").hash());
        assert_ne!(a.hash(), Stamp::new().with("suite", "two").hash());
        assert_ne!(a.hash(), Stamp::new().with("suit", "eone").hash());
    }

    fn scratch(name: &str) -> Cache {
        let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&dir).ok();
        Cache::at(&dir).unwrap()
    }

    #[test]
    fn a_check_runs_again_when_an_input_or_a_flag_changed_or_it_failed() {
        let cache = scratch("passed");
        let file = cache.dir().join("input.c");
        let runs = std::cell::Cell::new(0);
        let run = |name: &str, flags: &str, passes: bool| {
            let inputs = Stamp::new().with("flags", flags).with_file("input.c", &file)?;
            cache.once(name, &inputs, || {
                runs.set(runs.get() + 1);
                anyhow::ensure!(passes, "a warning");
                Ok("1 file\nno warning".to_owned())
            })
        };
        std::fs::write(&file, "int a;\n").unwrap();
        assert!(run("sparse", "W=1", false).is_err());
        assert_eq!(run("sparse", "W=1", true).unwrap(), "1 file no warning");
        assert_eq!(runs.get(), 2, "what failed runs again");
        let again = run("sparse", "W=1", false).unwrap();
        assert!(
            again.starts_with("1 file no warning; same inputs as when it passed on 20"),
            "{again}"
        );
        assert_eq!(runs.get(), 2, "what passed does not");
        run("sparse", "W=2", true).unwrap();
        assert_eq!(runs.get(), 3, "another flag");
        std::fs::write(&file, "int a;\n\n").unwrap();
        run("sparse", "W=1", true).unwrap();
        assert_eq!(runs.get(), 4, "another input");
        run("checkpatch", "W=1", true).unwrap();
        assert_eq!(runs.get(), 5, "another check");
        // A mark of other inputs, as if two had the same short name.
        let inputs = Stamp::new()
            .with("flags", "W=1")
            .with_file("input.c", &file)
            .unwrap();
        let mark = cache.mark(PASSED, &inputs.with("check", "sparse"));
        std::fs::write(mark, "when\nnote\n== other\n").unwrap();
        run("sparse", "W=1", true).unwrap();
        assert_eq!(runs.get(), 6, "other inputs");
        std::fs::remove_dir_all(cache.dir()).unwrap();
    }

    #[test]
    fn a_failed_artefact_is_made_again_and_a_whole_one_is_not() {
        let cache = scratch("cache");
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
        std::fs::remove_dir_all(cache.dir()).unwrap();
    }
}
