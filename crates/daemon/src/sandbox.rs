// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The sandbox of a worker. An attacker who takes over its decoder gets the pixels of that one session and
//! nothing else.
//!
//! A worker calls [`enter`] once, after it has loaded its libraries and before it reads a byte of a client.
//! The layers are independent of each other:
//! - descriptors: all are closed but the session fd, the log pipe and one that the caller names;
//! - limits: private memory and descriptors; neither core dumps nor locked memory;
//! - privileges: another user, if the broker may set one (see [`privileges`]), and no capability, also after
//!   execve();
//! - not dumpable: other processes of the same user can neither trace the worker nor read its memory;
//! - Landlock: no files, no TCP, no abstract sockets, and no signals to other processes;
//! - seccomp: any system call that is not on the list of [`syscalls`] ends the process.

pub(crate) mod attempts;
mod descriptors;
mod limits;
pub(crate) mod privileges;
mod syscalls;

use std::os::fd::RawFd;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr,
    RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use seccompiler::SeccompAction;
use serde::{Deserialize, Serialize};

/// The file that lists the kernel's seccomp actions. It is absent if the kernel has no seccomp filters.
const ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";

/// How a worker is confined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SandboxOptions {
    pub(crate) mode: Mode,
    /// Private memory that a worker may have, in MiB. `None`: what a stream of 8192x8192 needs, but at most
    /// three quarters of the machine's memory.
    pub(crate) memory: Option<u64>,
}

/// What happens at a system call that is not on the list of [`syscalls`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Mode {
    /// It ends the worker.
    Strict,
    /// The kernel logs it and lets it pass.
    Log,
    /// Neither seccomp nor Landlock is used.
    Off,
}

/// The state of the layers that depend on the kernel.
#[derive(Debug)]
pub(crate) struct Report {
    /// The filter is installed and ends the process.
    pub(crate) seccomp: bool,
    /// The ABI of Landlock that is enforced; 0 without Landlock.
    pub(crate) landlock: i32,
}

/// Checks that workers can be confined. The broker calls it before it registers.
///
/// # Errors
/// If the kernel has no seccomp filters and `mode` needs them.
pub(crate) fn check(mode: Mode) -> Result<()> {
    if mode == Mode::Off {
        tracing::warn!(
            "--sandbox=off: workers are NOT confined; a crafted video can do whatever their user may do"
        );
        return Ok(());
    }
    if mode == Mode::Log {
        tracing::warn!("--sandbox=log: system calls that are not on the list are logged, not refused");
    }
    // If the directory is hidden, only the first worker can tell.
    let visible = Path::new("/proc/sys/kernel").exists();
    match std::fs::read_to_string(ACTIONS) {
        Ok(actions) if actions.split_whitespace().any(|word| word == "kill_process") => Ok(()),
        Err(_) if !visible => Ok(()),
        _ => bail!(
            "this kernel has no seccomp filters (CONFIG_SECCOMP_FILTER), so workers cannot be confined; \
             --sandbox=off serves all the same, for videos that you trust"
        ),
    }
}

/// Confines this process for the rest of its life. `threads` is the number of threads that the decoder may
/// start later. `open_fd` is a descriptor that stays open, besides the standard ones, and that may be written
/// to.
///
/// # Errors
/// If a layer fails. Without Landlock a warning is logged instead.
pub(crate) fn enter(options: &SandboxOptions, threads: u32, open_fd: Option<RawFd>) -> Result<Report> {
    confine(options, threads, open_fd, true)
}

/// Confines this process, with or without `seccomp`.
fn confine(options: &SandboxOptions, threads: u32, open_fd: Option<RawFd>, seccomp: bool) -> Result<Report> {
    // Credentials, Landlock domains and filters belong to a thread. Threads that start later inherit them.
    let tasks = std::fs::read_dir("/proc/self/task").context("/proc/self/task")?;
    ensure!(tasks.count() == 1, "the sandbox is for a process with one thread");
    descriptors::close_others(open_fd).context("closing inherited descriptors")?;
    limits::apply(options.memory, threads).context("setting limits")?;
    privileges::drop_all().context("dropping privileges")?;
    if options.mode == Mode::Off {
        tracing::warn!("the worker is NOT confined (--sandbox=off)");
        return Ok(Report {
            seccomp: false,
            landlock: 0,
        });
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("PR_SET_DUMPABLE")?;
    let landlock = restrict_landlock().context("Landlock")?;
    if landlock == 0 {
        tracing::warn!("this kernel has no Landlock; seccomp alone keeps the worker from files");
    }
    if !seccomp {
        return Ok(Report {
            seccomp: false,
            landlock,
        });
    }
    let action = match options.mode {
        Mode::Log => SeccompAction::Log,
        Mode::Strict | Mode::Off => SeccompAction::KillProcess,
    };
    syscalls::install(action, open_fd).context("seccomp; --sandbox=off serves without it")?;
    tracing::debug!(landlock, mode = ?options.mode, "confined");
    Ok(Report {
        seccomp: options.mode == Mode::Strict,
        landlock,
    })
}

/// Denies everything that this kernel's Landlock can deny. Returns its ABI, 0 if there is none.
fn restrict_landlock() -> Result<i32> {
    // The newest ABI with which these rules were tested. An older kernel enforces its part of them.
    let abi = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => 0,
        (_, LandlockStatus::Available { effective_abi, .. }) => effective_abi as i32,
        _ => 0,
    })
}
