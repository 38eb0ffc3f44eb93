// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fork server: the process from which workers are forked.
//!
//! A process that executes the program loads libavcodec and its dependencies, which takes a tenth of a second
//! and several MiB. The fork server loads them once, before the first session. Workers are forks of it and
//! share the pages that none of them writes to. The fork server keeps nothing of a client: it passes session
//! fds on to the workers.
//!
//! ```text
//! broker ──socket──► fork server ──fork──► intermediate process ──fork──► worker
//!    ▲                                     (exits at once)                  │
//!    └─────────── becomes the worker's parent, as the subreaper ────────────┘
//! ```
//!
//! Invariants:
//! - The process has one thread, so the memory of a fork is consistent.
//! - It answers each request exactly once, in the order of the requests. When it answers, the broker is the
//!   worker's parent.
//! - A worker does not use the session before the server has sent the answer that names it. Until then it is
//!   in the server's process group, and it ends if the server ends. So the broker knows every worker that
//!   runs.
//! - The server ends when the broker closes the socket or dies. Workers go on.
//!
//! Workers of one server have the same addresses and the same stack canaries. After a worker has crashed, the
//! broker therefore replaces the server, so that an attacker cannot try one guess after the other.

#![expect(unsafe_code, reason = "fork() has no safe wrapper")]

pub(crate) mod messages;

use std::io::{self, stdin};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, setpgid, waitpid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::{logging, worker};
use messages::{Answer, Request, receive_config};

/// Serves the broker at the other end of the standard input. In a worker it returns when the session is over.
///
/// # Errors
/// If the standard input is no socket of a broker, if a library has started a thread, or in a worker whatever
/// [`worker::run`] returns.
pub(crate) fn run() -> Result<()> {
    let received = receive_config(stdin());
    let level = received.as_ref().ok().and_then(Option::as_ref);
    logging::init_worker(level.and_then(|config| config.log_level));
    let Some(config) = received? else {
        return Ok(());
    };
    rustix::thread::set_name(c"daedalus-fork").context("naming the process")?;
    // The libraries make tables when they are first used. Workers need not make them again.
    daedalus_engine::warm_up();
    let tasks = std::fs::read_dir("/proc/self/task").context("/proc/self/task")?;
    ensure!(
        tasks.count() == 1,
        "a library has started a thread, so nothing can be forked"
    );
    answer(&Answer::Ready)?;
    loop {
        let Some(request) = Request::receive(stdin())? else {
            return Ok(());
        };
        match fork_twice(|| (), || ()) {
            Ok(Role::Server(worker)) => {
                drop(request);
                match pidfd_open(worker.pid, PidfdFlags::empty()) {
                    Ok(pidfd) => {
                        let (pid, pidfd) = (worker.pid, Some(pidfd));
                        answer(&Answer::Started { pid, pidfd })?;
                        worker.release();
                    }
                    Err(errno) => answer(&Answer::Failed(errno))?,
                }
            }
            Ok(Role::Worker(release)) => {
                if !wait_for_release(&release) {
                    return Ok(());
                }
                drop(release);
                let session = request.session;
                let records = request.trace.is_some();
                install_descriptors(request).context("taking over the session's descriptors")?;
                return worker::run(&config, records.then_some(session));
            }
            Err(errno) => answer(&Answer::Failed(errno))?,
        }
    }
}

fn answer(answer: &Answer) -> Result<()> {
    answer.send(stdin()).context("answering the broker")
}

/// Makes the descriptors of the request the standard ones of this worker, and gives it a process group of its
/// own.
fn install_descriptors(request: Request) -> rustix::io::Result<()> {
    // Ctrl-C on a terminal must reach the broker alone, which then decides about its workers.
    setpgid(None, None)?;
    dup2_stdin(request.fd)?;
    dup2_stderr(request.log)?;
    if let Some(trace) = request.trace {
        dup2_stdout(trace)?;
    }
    Ok(())
}

/// Tells the caller of [`fork_twice`] whether it is the fork server or the new worker.
enum Role {
    Server(PendingWorker),
    /// With the pipe for [`wait_for_release`].
    Worker(OwnedFd),
}

/// A worker that waits for its release. It ends if this value is dropped instead, and if the server ends.
struct PendingWorker {
    pid: Pid,
    release: OwnedFd,
}

impl PendingWorker {
    fn release(self) {
        // It fails only if the worker has been killed. An empty pipe takes a byte at once.
        let _ = write(&self.release, &[1]);
    }
}

/// Waits until the server releases this worker. Returns false if the server has ended or has not answered for
/// it.
fn wait_for_release(release: &OwnedFd) -> bool {
    matches!(retry_on_intr(|| read(release, &mut [0; 1])), Ok(1))
}

/// Forks an intermediate process, which forks the worker and exits. The worker's parent is then the nearest
/// subreaper, the broker. Returns in the worker, and in the server once the intermediate process has ended.
///
/// The intermediate process may be killed at any point, for example by the kernel if memory is short. It
/// calls `before` before it forks and `after` when it has.
///
/// # Errors
/// Errors of `pipe()` and `fork()`; `EAGAIN` if the intermediate process was killed.
fn fork_twice(before: impl FnOnce(), after: impl FnOnce()) -> rustix::io::Result<Role> {
    // Non-blocking: a killed process has written nothing, and the server must not wait for it.
    let report = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let (wait, release) = pipe_with(PipeFlags::CLOEXEC)?;
    let Some(intermediate) = fork()? else {
        before();
        let result = fork();
        if let Ok(None) = result {
            // The pipe ends when the server closes it.
            drop(release);
            return Ok(Role::Worker(wait));
        }
        after();
        let number = match result {
            Ok(worker) => worker.map_or(0, Pid::as_raw_pid),
            Err(errno) => -errno.raw_os_error(),
        };
        // An empty pipe takes 4 bytes at once.
        let _ = write(&report.1, &number.to_ne_bytes());
        // SAFETY: _exit() ends the process without the exit handlers, which belong to the server. This copy
        // of the server owns nothing that outlives the process.
        unsafe { libc::_exit(0) }
    };
    let ended = retry_on_intr(|| waitpid(Some(intermediate), WaitOptions::empty()))?;
    if ended.and_then(|(_, status)| status.exit_status()) != Some(0) {
        return Err(Errno::AGAIN);
    }
    let mut number = [0; 4];
    if read(&report.0, &mut number)? != number.len() {
        return Err(Errno::IO);
    }
    match i32::from_ne_bytes(number) {
        errno @ ..0 => Err(Errno::from_raw_os_error(-errno)),
        pid => Pid::from_raw(pid)
            .map(|pid| Role::Server(PendingWorker { pid, release }))
            .ok_or(Errno::IO),
    }
}

/// Forks. Returns `None` in the new process.
fn fork() -> rustix::io::Result<Option<Pid>> {
    // SAFETY: this process has one thread, so no other thread holds a lock that the new process would wait
    // for.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::AGAIN)),
        pid => Ok(Pid::from_raw(pid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the result of [`fork_twice`] with these hooks; `None` if it takes longer than 5 s.
    fn forked(before: fn(), after: fn()) -> Option<rustix::io::Result<()>> {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let result = fork_twice(before, after);
            if let Ok(Role::Worker(_)) = result {
                // SAFETY: _exit() ends a copy of the test's process, which has nothing to clean up.
                unsafe { libc::_exit(0) }
            }
            send.send(result.map(drop))
        });
        receive.recv_timeout(std::time::Duration::from_secs(5)).ok()
    }

    fn killed() {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }

    #[test]
    fn a_parent_that_is_killed_between_the_forks_is_an_error() {
        assert!(matches!(forked(|| (), || ()), Some(Ok(()))));
        assert!(matches!(forked(killed, || ()), Some(Err(_))), "before the fork");
        assert!(matches!(forked(|| (), killed), Some(Err(_))), "after the fork");
    }
}
