// SPDX-License-Identifier: Apache-2.0 OR MIT
//! vm.max_map_count of the machine: UML maps every page of a guest process on its own, and hangs at the
//! default limit. Raised while guests run, announced, and put back by the last run that needs it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use crate::site::Site;
use crate::site::cmd::Cmd;
use crate::site::{signals, ui};

const SETTING: &str = "/proc/sys/vm/max_map_count";
/// Enough for 4 GiB of 4 KiB pages.
const WANTED: u64 = 1_048_576;

/// Raises the setting for the rest of this process.
pub(crate) fn raise_map_count(site: &Site) -> Result<()> {
    static DONE: Mutex<bool> = Mutex::new(false);
    let mut done = DONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if *done {
        return Ok(());
    }
    *done = true;
    // Runs at the same time share the lock; the value from before the first of them is in the file beside it,
    // and stays there if a run was killed.
    let saved = site.cache.dir().join("max_map_count");
    let lock = File::options()
        .create(true)
        .append(true)
        .open(site.cache.dir().join("locks/max_map_count"))?;
    let first = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
    if first {
        let now = current()?;
        if now >= WANTED && !saved.exists() {
            return Ok(());
        }
        if now < WANTED {
            std::fs::write(&saved, now.to_string())?;
            if let Err(error) = set(site, WANTED) {
                std::fs::remove_file(&saved)?;
                ui::note(&format!(
                    "vm.max_map_count of this machine is {now} and cannot be raised ({error:#}): guests with \
                     much \
                     memory in use may hang"
                ));
                return Ok(());
            }
            ui::note(&format!(
                "vm.max_map_count of this machine: {now} -> {WANTED} while guests run, then put back"
            ));
        }
    }
    flock(&lock, FlockOperation::LockShared)?;
    let privileged = site.host.privileged(Cmd::new("sh"))?;
    signals::at_end(move || {
        if let Err(error) = put_back(&lock, &saved, privileged) {
            eprintln!("dev: vm.max_map_count was not put back: {error:#}");
        }
    });
    Ok(())
}

fn current() -> Result<u64> {
    let text = std::fs::read_to_string(SETTING).with_context(|| format!("cannot read {SETTING}"))?;
    text.trim()
        .parse()
        .with_context(|| format!("{SETTING} is '{}'", text.trim()))
}

fn set(site: &Site, value: u64) -> Result<()> {
    write_setting(site.host.privileged(Cmd::new("sh"))?, value)
}

fn write_setting(shell: Cmd, value: u64) -> Result<()> {
    shell
        .args(["-c", &format!("echo {value} > {SETTING}")])
        .output()
        .map(drop)
}

fn put_back(lock: &File, saved: &Path, shell: Cmd) -> Result<()> {
    // Another run still holds it shared: the last one puts it back.
    if flock(lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    let saved: PathBuf = saved.to_owned();
    let Ok(before) = std::fs::read_to_string(&saved) else {
        return Ok(());
    };
    let before: u64 = before.trim().parse().context("the saved value is no number")?;
    write_setting(shell, before)?;
    std::fs::remove_file(saved)?;
    ui::note(&format!("vm.max_map_count of this machine is {before} again"));
    Ok(())
}
