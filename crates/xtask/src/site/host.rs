// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine that `./dev` runs on: being root on it, and the Debian packages it needs.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use super::cmd::Cmd;
use super::ui;

/// Packages that make the root and the kernels, and why each.
pub(crate) const PACKAGES: [(&str, &str); 14] = [
    ("bc", "kernel build"),
    ("bison", "kernel build"),
    ("debian-archive-keyring", "signatures of Debian's archive"),
    ("flex", "kernel build"),
    ("gcc", "kernel and module build"),
    ("kmod", "depmod of the kernel's modules"),
    ("libc6-dev", "kernel build: UML is a program of this machine"),
    ("libelf-dev", "kernel build"),
    ("libssl-dev", "kernel build"),
    ("make", "kernel and module build"),
    ("mmdebstrap", "the Debian 13 root"),
    ("patch", "the kernel's patch for large buffers"),
    ("perl", "checkpatch"),
    ("xz-utils", "unpacking the kernel source"),
];

/// The machine.
pub(crate) struct Host {
    no_install: bool,
    ready: Mutex<bool>,
}

impl Host {
    /// `no_install`: missing packages are an error.
    pub(crate) fn new(no_install: bool) -> Self {
        Self {
            no_install,
            ready: Mutex::new(false),
        }
    }

    /// The command as root: itself, or by sudo.
    pub(crate) fn privileged(&self, cmd: Cmd) -> Result<Cmd> {
        if geteuid().is_root() {
            return Ok(cmd);
        }
        if !in_path("sudo") {
            bail!("this needs root: run ./dev as root, or install sudo");
        }
        Ok(cmd.prefixed("sudo"))
    }

    /// Removes a tree that root may own, and unmounts what a maker of roots that was killed has left mounted
    /// in it.
    pub(crate) fn remove_tree(&self, path: &Path) -> Result<()> {
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        for mount in mounted_below(&mounts, &path.canonicalize()?) {
            self.privileged(Cmd::new("umount").arg("--").arg(mount))?.run()?;
        }
        // --one-file-system: whatever may be mounted in a root meanwhile is not part of the cache.
        self.privileged(Cmd::new("rm").args(["-rf", "--one-file-system", "--"]).arg(path))?
            .run()
    }

    /// Returns the packages of [`PACKAGES`] that are not installed.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        PACKAGES
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !installed(name))
            .collect()
    }

    /// Installs what is missing, once a run.
    pub(crate) fn ready(&self) -> Result<()> {
        let mut ready = self
            .ready
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if *ready {
            return Ok(());
        }
        let missing = self.missing();
        if !missing.is_empty() {
            self.install(&missing)?;
        }
        *ready = true;
        Ok(())
    }

    fn install(&self, packages: &[&str]) -> Result<()> {
        if self.no_install {
            bail!(
                "--no-install, but these packages are missing here: {}",
                packages.join(" ")
            );
        }
        if !in_path("apt-get") {
            bail!(
                "this machine has no apt-get: a Debian 12 or 13 is needed, with the packages {}",
                packages.join(" ")
            );
        }
        let _step = ui::Step::begin(&format!("installing on this machine: {}", packages.join(" ")));
        let dir = std::env::temp_dir().join(format!("dev-apt-{}", std::process::id()));
        let log = dir.join("apt.log");
        let apt = |cmd: Cmd| self.privileged(cmd)?.log(&log).run();
        // One broken source of the machine's does not matter if the packages can be had all the same.
        let updated = apt(Cmd::new("apt-get").args(["-q", "update"]));
        apt(Cmd::new("env")
            .args([
                "DEBIAN_FRONTEND=noninteractive",
                "apt-get",
                "-qy",
                "install",
                "--no-install-recommends",
            ])
            .args(packages))
        .with_context(|| {
            let update = updated.err().map(|error| format!(" (before that: {error:#})"));
            format!(
                "could not install {}{}",
                packages.join(" "),
                update.unwrap_or_default()
            )
        })?;
        std::fs::remove_dir_all(&dir).ok();
        Ok(())
    }
}

/// The mount points below a directory, the last one first, of the text of /proc/PID/mountinfo
/// (proc_pid_mountinfo(5)).
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

fn installed(package: &str) -> bool {
    Cmd::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .output()
        .is_ok_and(|status| status.trim() == "installed")
}

/// True if the PATH has that program.
pub(crate) fn in_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_last_is_unmounted_first() {
        let text = "21 1 8:1 / / rw - ext4 /dev/vda rw\n30 21 0:4 / /a\\040b/root/dev rw shared:2 - tmpfs \
                    none rw\n\
                    31 30 0:5 / /a\\040b/root/dev/pts rw - devpts none rw\n32 21 0:6 / /a\\040broot rw - \
                    tmpfs none rw\n";
        let found = mounted_below(text, Path::new("/a b"));
        assert_eq!(
            found,
            [Path::new("/a b/root/dev/pts"), Path::new("/a b/root/dev")]
        );
        assert!(mounted_below(text, Path::new("/a b/root/dev/pts")).is_empty());
    }
}
