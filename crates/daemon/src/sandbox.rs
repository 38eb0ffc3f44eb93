// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What confines a worker: whoever makes its decoder run code of theirs has the pixels of that one
//! session, and nothing else.
//!
//! [`enter`] is called once, when the process has loaded its libraries and before it reads a byte that
//! a client wrote. Layers, each of which holds without the others:
//! - descriptors: the session fd, the log pipe, and what was named explicitly; everything else is closed;
//! - limits: private memory, descriptors, no core dump, no locked memory;
//! - privileges: another user if the broker may set one (see [`privileges`]), no capability, none to be
//!   had by executing something;
//! - not dumpable: other processes of the same user can neither trace it nor look into it;
//! - Landlock: no file, no TCP, no abstract socket and no signal outside;
//! - seccomp: the system calls of [`syscalls`], any other one ends the process.

pub(crate) mod attempts;
mod descriptors;
mod limits;
pub(crate) mod privileges;
mod syscalls;

use std::os::fd::RawFd;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset, RulesetAttr,
    RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use seccompiler::SeccompAction;

/// What the kernel says of its seccomp actions; absent without seccomp filters.
const ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";

/// How a worker is confined; the broker passes these on.
#[derive(Debug, Clone, Args)]
pub(crate) struct SandboxOptions {
    /// What confines workers: strict ends a worker at any system call it has no need of; log lets such
    /// calls pass and has the kernel log them; off leaves seccomp and Landlock out.
    #[arg(long = "sandbox", value_enum, default_value = "strict", value_name = "MODE")]
    pub(crate) mode: Mode,
    /// Private memory that a worker may have, in MiB. Default: what a stream of 8192x8192 needs, but at
    /// most three quarters of the machine's memory.
    #[arg(long = "worker-memory", value_name = "MIB", value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    pub(crate) memory: Option<u64>,
}

/// What happens at a system call that a worker has no need of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Strict,
    Log,
    Off,
}

impl SandboxOptions {
    /// The words of a command line that say the same.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(name) = self.mode.to_possible_value() {
            words.push(format!("--sandbox={}", name.get_name()));
        }
        words.extend(self.memory.map(|mib| format!("--worker-memory={mib}")));
        words
    }
}

/// The layers that depend on the kernel, and how they turned out.
#[derive(Debug)]
pub(crate) struct Report {
    /// The filter is installed and ends the process.
    pub(crate) seccomp: bool,
    /// The ABI of Landlock that is enforced; 0 is none.
    pub(crate) landlock: i32,
}

/// For the broker, before it serves anybody: an error if no worker could be confined.
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
    // Where the directory itself is hidden nothing is known; then the first worker says it.
    let known = Path::new("/proc/sys/kernel").exists();
    match std::fs::read_to_string(ACTIONS) {
        Ok(actions) if actions.split_whitespace().any(|word| word == "kill_process") => Ok(()),
        Err(_) if !known => Ok(()),
        _ => bail!(
            "this kernel has no seccomp filters (CONFIG_SECCOMP_FILTER), so workers cannot be confined; \
             --sandbox=off serves all the same, for videos that you trust"
        ),
    }
}

/// Confines this process, for good. `threads` is what the decoder may start later; `kept` is a
/// descriptor, besides the standard ones, that stays open and may be written to.
///
/// # Errors
/// If a layer cannot be had, but for Landlock, without which a warning is logged.
pub(crate) fn enter(options: &SandboxOptions, threads: u32, kept: Option<RawFd>) -> Result<Report> {
    confine(options, threads, kept, true)
}

/// [`enter`], which always has `seccomp`.
fn confine(options: &SandboxOptions, threads: u32, kept: Option<RawFd>, seccomp: bool) -> Result<Report> {
    // Credentials, Landlock domains and filters are the thread's own; later threads inherit them.
    let tasks = std::fs::read_dir("/proc/self/task").context("/proc/self/task")?;
    ensure!(tasks.count() == 1, "the sandbox is for a process with one thread");
    descriptors::close_others(kept).context("closing inherited descriptors")?;
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
    syscalls::install(action, kept).context("seccomp; --sandbox=off serves without it")?;
    tracing::debug!(landlock, mode = ?options.mode, "confined");
    Ok(Report {
        seccomp: options.mode == Mode::Strict,
        landlock,
    })
}

/// Takes away everything that this kernel's Landlock knows. Returns its ABI, 0 if there is none.
fn restrict_landlock() -> Result<i32> {
    // The newest that these rules were tested with; an older kernel enforces what it has.
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
