// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One worker process.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::relay::Relay;
use crate::cli::BrokerOptions;
use crate::logging::FILTER_VARIABLE;
use crate::sandbox::privileges::User;

/// What a worker's environment keeps of the broker's: where libraries are, and what to log. Not
/// NOTIFY_SOCKET, by which it could speak for the service.
const ENVIRONMENT: [&str; 3] = [FILTER_VARIABLE, "LD_LIBRARY_PATH", "RUST_BACKTRACE"];

/// The allocator would read a file to learn how many processors there are, which the sandbox refuses,
/// once threads have used this many arenas; so this is all it gets.
const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "8");

/// This program again, as a worker is started: another user if possible, hardly any environment.
pub(crate) fn worker_command(user: Option<User>) -> Command {
    let mut command = Command::new("/proc/self/exe");
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
    process: std::process::Child,
    pidfd: OwnedFd,
    log: Relay,
}

/// What has become of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    /// It ended, well or badly.
    Ended,
    /// Somebody killed it: the module does so if a job takes too long, also when a client stops in the
    /// middle of one. That is no fault of the stream, and takes its time.
    Killed,
}

impl Child {
    /// Starts a worker for `session`, whose fd becomes its standard input and is closed here, as is
    /// the file to which it records, its standard output.
    ///
    /// The worker has no other file but the log pipe. The pipe does not block, so a broker that does
    /// not read costs the worker log lines, not time; and if the broker is gone, it costs nothing at
    /// all. Parent-death signals are not used: a worker outlives a broker that is killed.
    pub(crate) fn start(
        session: u64,
        fd: OwnedFd,
        trace: Option<File>,
        options: &BrokerOptions,
        user: Option<User>,
    ) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let mut command = worker_command(user);
        command
            .args(options.worker_arguments())
            .args(trace.is_some().then(|| format!("--record={session}")))
            // Ctrl-C on a terminal is for the broker, which then decides about its workers.
            .process_group(0)
            .stdin(Stdio::from(fd))
            .stdout(trace.map_or_else(Stdio::null, Stdio::from))
            .stderr(Stdio::from(write));
        let mut process = command.spawn()?;
        // A process that is not reaped keeps its pid, so this is the right one.
        match pidfd_open(Pid::from_child(&process), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Self {
                session,
                process,
                pidfd,
                log: Relay::new(session, read),
            }),
            Err(error) => {
                process.kill()?;
                process.wait()?;
                Err(error.into())
            }
        }
    }

    pub(crate) fn session(&self) -> u64 {
        self.session
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
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
        let ended = self.process.try_wait();
        self.log.forward();
        match ended {
            Ok(None) => State::Running,
            Ok(Some(status)) => {
                self.log.finish();
                self.report(status)
            }
            Err(error) => {
                tracing::error!(session = self.session, %error, "waiting for the worker");
                State::Ended
            }
        }
    }

    fn report(&self, status: ExitStatus) -> State {
        let (session, worker_pid) = (self.session, self.id());
        let signal = status.signal();
        if status.success() {
            tracing::info!(session, worker_pid, "worker ended");
        } else if signal == Some(Signal::TERM.as_raw()) {
            tracing::info!(session, worker_pid, "worker stopped");
        } else if signal == Some(Signal::KILL.as_raw()) {
            tracing::warn!(
                session,
                worker_pid,
                "worker killed, as the module does when a job takes too long or a session is aborted"
            );
            return State::Killed;
        } else if signal == Some(Signal::SYS.as_raw()) {
            tracing::error!(
                session,
                worker_pid,
                "worker killed by its sandbox: it made a system call of which it has no need"
            );
        } else {
            tracing::warn!(session, worker_pid, %status, "worker lost");
        }
        State::Ended
    }
}
