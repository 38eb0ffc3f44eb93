// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One worker process.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};

use super::relay::Relay;
use crate::logging::FILTER_VARIABLE;
use crate::sandbox::privileges::User;

/// What a worker's environment keeps of the broker's: where libraries are, and what to log. Not
/// NOTIFY_SOCKET, by which it could speak for the service.
const ENVIRONMENT: [&str; 3] = [FILTER_VARIABLE, "LD_LIBRARY_PATH", "RUST_BACKTRACE"];

/// One arena for all threads. With more the allocator reads files that the sandbox refuses: how many processors there
/// are, before it makes another one, and whether memory is overcommitted, before one shrinks. The decoders' threads
/// hardly allocate.
const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "1");

/// This program.
pub(crate) const PROGRAM: &str = "/proc/self/exe";

/// `program`, which is this one again, as the fork server is started: another user if possible, hardly any environment.
pub(crate) fn worker_command(program: &Path, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    command.arg0("daedalusd").current_dir("/").env_clear().envs(
        ENVIRONMENT
            .iter()
            .filter_map(|&name| Some((name, std::env::var_os(name)?))),
    );
    command.env(ARENAS.0, ARENAS.1);
    if let Some(User { uid, gid }) = user {
        // Supplementary groups go as well, since root starts it.
        command.gid(gid).uid(uid);
    }
    command
}

/// A worker that has not been reaped. Dropping it leaves the process running.
#[derive(Debug)]
pub(crate) struct Child {
    session: u64,
    server: u64,
    pid: Pid,
    pidfd: OwnedFd,
    log: Relay,
}

/// What has become of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// It ended by itself, well or badly, or was told to.
    Ended,
    /// It did what no worker does: a signal of its own doing ended it.
    Crashed,
    /// Somebody killed it: the module does so if a job takes too long, also when a client stops in the
    /// middle of one. That is no fault of the stream, and takes its time.
    Killed,
}

impl Child {
    /// The worker with this pid, a child of this process, which the server of this number has forked.
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

    /// Readable when the process has ended.
    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    pub(crate) fn log(&self) -> &Relay {
        &self.log
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It fails only if the process has ended, which is what is wanted.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Passes on what the worker has logged, and reaps it if it has ended.
    pub(crate) fn tend(&mut self) -> State {
        // In this order, so that the last words of a process that has ended are all in the pipe.
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
