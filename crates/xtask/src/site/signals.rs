// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What must happen however this process ends: children killed, settings of the machine put back.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

type Undo = Box<dyn FnOnce() + Send>;

static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());
static UNDO: Mutex<Vec<Undo>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills the registered process groups, undoes what is to be undone and exits on SIGINT, SIGTERM and SIGHUP.
pub(crate) fn install() -> Result<()> {
    let mut signals =
        signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot catch signals")?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("\ndev: signal {signal}: stopping");
            for group in lock(&GROUPS).iter() {
                // A group that is gone already is what is wanted.
                let _ = kill_process_group(*group, Signal::KILL);
            }
            clean_up();
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// A process group that a signal to this process must kill, until this is dropped.
pub(crate) struct Group(Pid);

impl Group {
    /// Registers the group led by `pid`.
    pub(crate) fn register(pid: Pid) -> Self {
        lock(&GROUPS).push(pid);
        Self(pid)
    }

    /// Kills every process of the group.
    pub(crate) fn kill(&self) {
        // A group that is gone already is what is wanted.
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        lock(&GROUPS).retain(|pid| *pid != self.0);
    }
}

/// Has `action` run once, at the end of the process or on a signal.
pub(crate) fn at_end(action: impl FnOnce() + Send + 'static) {
    lock(&UNDO).push(Box::new(action));
}

/// Runs what [`at_end`] collected, last first.
pub(crate) fn clean_up() {
    loop {
        // The lock is not held while an action runs: it may take long, and may itself start commands.
        let Some(action) = lock(&UNDO).pop() else { return };
        action();
    }
}
