// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One worker process.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};

use super::relay::Relay;

/// A worker that has not been reaped. Dropping this leaves the process running.
#[derive(Debug)]
pub(crate) struct Child {
    session: u64,
    server: u64,
    pid: Pid,
    pidfd: OwnedFd,
    log: Relay,
}

/// The state of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// It exited, with any status, or SIGTERM ended it.
    Ended,
    /// A signal that it caused itself ended it.
    Crashed,
    /// SIGKILL ended it. The module sends it if a job takes too long, also when a client stops in the middle
    /// of a job. The stream need not be at fault, and this cannot happen often.
    Killed,
}

impl Child {
    /// Takes charge of the worker with this pid, a child of this process, which the fork server number
    /// `server` has forked.
    ///
    /// Parent-death signals are not used: a worker outlives a broker that is killed.
    pub(crate) fn new(session: u64, server: u64, pid: Pid, pidfd: OwnedFd, log: Relay) -> Self {
        Self {
            session,
            server,
            pid,
            pidfd,
            log,
        }
    }

    pub(crate) fn session(&self) -> u64 {
        self.session
    }

    pub(crate) fn server(&self) -> u64 {
        self.server
    }

    pub(crate) fn id(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// Returns the pidfd, which is readable when the process has ended.
    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    pub(crate) fn log(&self) -> &Relay {
        &self.log
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It fails only if the process has ended.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Passes on the worker's log, and reaps the worker if it has ended.
    pub(crate) fn update(&mut self) -> State {
        // In this order, so that the pipe has all lines of a process that has ended.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let ended = retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options));
        self.log.forward();
        match ended {
            Ok(None) => State::Running,
            Ok(Some(status)) => {
                self.log.finish();
                self.report(&status)
            }
            Err(error) => {
                tracing::error!(session = self.session, %error, "waiting for the worker");
                State::Ended
            }
        }
    }

    fn report(&self, status: &WaitIdStatus) -> State {
        let (session, worker_pid) = (self.session, self.id());
        match status.terminating_signal().and_then(Signal::from_named_raw) {
            None if status.exit_status() == Some(0) => tracing::info!(session, worker_pid, "worker ended"),
            Some(Signal::TERM) => tracing::info!(session, worker_pid, "worker stopped"),
            Some(Signal::KILL) => {
                tracing::warn!(
                    session,
                    worker_pid,
                    "worker killed, as the module does when a job takes too long or a session is aborted"
                );
                return State::Killed;
            }
            Some(Signal::SYS) => {
                tracing::error!(
                    session,
                    worker_pid,
                    "worker killed by its sandbox: it made a system call of which it has no need"
                );
                return State::Crashed;
            }
            None if status.exited() => {
                let exit = status.exit_status();
                tracing::warn!(session, worker_pid, exit, "worker lost");
            }
            _ => {
                let signal = status.terminating_signal();
                tracing::warn!(session, worker_pid, signal, "worker lost");
                return State::Crashed;
            }
        }
        State::Ended
    }
}
