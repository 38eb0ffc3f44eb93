// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The file system as the commands see it: every path goes through a prefix, so that tests can build a
//! machine in a directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use daedalus_settings::accounts::{self, Group};

/// A machine, seen through its file system.
#[derive(Clone, Debug)]
pub(crate) struct System {
    prefix: PathBuf,
}

impl System {
    /// This machine.
    pub(crate) fn this() -> Self {
        Self::at(Path::new("/"))
    }

    /// Returns the machine whose root is this directory.
    pub(crate) fn at(prefix: &Path) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// Returns the place of an absolute path.
    pub(crate) fn path(&self, absolute: &str) -> PathBuf {
        self.prefix.join(absolute.trim_start_matches('/'))
    }

    /// Returns a file's bytes.
    pub(crate) fn bytes(&self, absolute: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(absolute))
    }

    /// Returns a file's text, without white space around it.
    pub(crate) fn text(&self, absolute: &str) -> io::Result<String> {
        let bytes = self.bytes(absolute)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Returns whether something is there.
    pub(crate) fn exists(&self, absolute: &str) -> bool {
        self.path(absolute).exists()
    }

    /// Returns the names in a directory, sorted; none if it is not there.
    pub(crate) fn names(&self, absolute: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(absolute))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Returns what the kernel calls itself.
    pub(crate) fn release(&self) -> String {
        self.text("/proc/sys/kernel/osrelease").unwrap_or_default()
    }

    /// Looks a group up in /etc/group.
    pub(crate) fn group(&self, name: &str) -> Option<Group> {
        let text = self.text(accounts::GROUP).ok()?;
        accounts::groups(&text).find(|group| group.name == name)
    }

    /// Finds a program in the directories of PATH, or in those for administrators.
    pub(crate) fn program(&self, name: &str) -> Option<String> {
        let path = std::env::var("PATH").unwrap_or_default();
        path.split(':')
            .chain(["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"])
            .filter(|dir| dir.starts_with('/'))
            .map(|dir| format!("{dir}/{name}"))
            .find(|path| self.exists(path))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine in a directory, which goes with it.
    pub(crate) struct Machine {
        pub(crate) system: System,
        dir: PathBuf,
    }

    impl Machine {
        pub(crate) fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let dir = std::env::temp_dir().join(format!("daedalus-{name}-{}", std::process::id()));
            let machine = Self {
                system: System::at(&dir),
                dir,
            };
            for (path, text) in files {
                machine.put(path, text.as_bytes());
            }
            machine
        }

        pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
            let path = self.system.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }

        pub(crate) fn remove(&self, path: &str) {
            let path = self.system.path(path);
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.dir).ok();
        }
    }
}
