// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The broker, as a scenario starts and ends it.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use daedalus_client::device::{Nodes, find};
use rustix::process::Signal;

use super::process::kill;

/// The driver's name, by which its nodes are found.
const DRIVER: &str = "daedalus";
/// How long the broker may take to register and to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Finds the device's nodes.
///
/// # Errors
///
/// When there is no device.
pub(crate) fn nodes() -> Result<Nodes> {
    find(DRIVER).context("no device")
}

/// A running broker, killed when dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    child: Child,
}

impl Broker {
    /// Starts one with further arguments `args` and waits until it serves the device. Its log is appended to
    /// `log`.
    ///
    /// # Errors
    ///
    /// When it ends, or does not bring the device in time.
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
        let start = Instant::now();
        loop {
            match find(DRIVER) {
                Ok(nodes) => return Ok((broker, nodes)),
                Err(error) if start.elapsed() > PATIENCE => {
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

    /// Returns its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal and waits for its end. Returns its exit status, and how long it took.
    ///
    /// # Errors
    ///
    /// When it does not end in time.
    pub(crate) fn end(mut self, signal: Signal) -> Result<(ExitStatus, Duration)> {
        let start = Instant::now();
        kill(self.child.id(), signal)?;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok((status, start.elapsed()));
            }
            ensure!(start.elapsed() < PATIENCE, "the broker does not end on a signal");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it by SIGTERM. Returns how long that took.
    ///
    /// # Errors
    ///
    /// When it does not end in time, or not with success.
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
