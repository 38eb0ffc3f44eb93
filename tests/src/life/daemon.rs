// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker and the module, as a scenario starts and ends them.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::device::{Nodes, find};
use rustix::process::{Pid, Signal, kill_process};

use super::Common;

/// The driver's name, by which its nodes are found.
const DRIVER: &str = "daedalus";
/// How long the broker may take to register and to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a module that nobody uses any more may be in use.
const UNLOAD_LIMIT: Duration = Duration::from_secs(2);

/// The device's nodes, which are there.
pub(crate) fn nodes() -> Result<Nodes> {
    find(DRIVER).context("no device")
}

/// A running broker, killed when dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
}

impl Broker {
    /// Starts one and waits until it serves the device.
    pub(super) fn start(common: &Common) -> Result<(Self, Nodes)> {
        Self::start_with(common, &[])
    }

    /// As [`Broker::start`], with further arguments.
    pub(super) fn start_with(common: &Common, args: &[&str]) -> Result<(Self, Nodes)> {
        Self::start_logged(&common.broker_log, args)
    }

    /// As [`Broker::start_with`], with its log appended to `log`.
    pub(crate) fn start_logged(log: &Path, args: &[&str]) -> Result<(Self, Nodes)> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new("daedalusd")
            .arg("broker")
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start daedalusd")?;
        let mut broker = Self { child };
        let begun = Instant::now();
        loop {
            match find(DRIVER) {
                Ok(nodes) => return Ok((broker, nodes)),
                Err(error) if begun.elapsed() > PATIENCE => {
                    bail!(
                        "the broker did not bring the device within {} s: {error}",
                        PATIENCE.as_secs()
                    )
                }
                Err(_) => {}
            }
            if let Some(status) = broker.child.try_wait()? {
                bail!("the broker ended at once ({status}); its log says why");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal and waits for its end; returns how that was, and how long it took.
    pub(crate) fn end(mut self, signal: Signal) -> Result<(ExitStatus, Duration)> {
        let begun = Instant::now();
        kill(self.child.id(), signal)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, begun.elapsed()));
            }
            ensure!(begun.elapsed() < PATIENCE, "the broker does not end on a signal");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it in the orderly way, which has to succeed.
    pub(crate) fn stop(self) -> Result<Duration> {
        let (status, took) = self.end(Signal::TERM)?;
        ensure!(
            status.success(),
            "the broker's exit status after SIGTERM: {status}"
        );
        Ok(took)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It has ended already, unless a scenario failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub(crate) fn kill(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .context("no process id")?;
    kill_process(pid, signal).with_context(|| format!("cannot signal process {}", pid.as_raw_nonzero()))
}

/// Unloads the module. A request that was closed a moment ago pins it until the kernel's next grace
/// period, so it may take a while; returns how long.
pub(crate) fn unload() -> Result<Duration> {
    let begun = Instant::now();
    loop {
        match command("rmmod", &["daedalus_v4l2"]) {
            Ok(()) => return Ok(begun.elapsed()),
            Err(error) if begun.elapsed() > UNLOAD_LIMIT => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Runs a program that has to succeed.
pub(crate) fn command(program: &str, args: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}: {}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
