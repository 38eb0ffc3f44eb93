// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The process that workers are forked from.
//!
//! Loading libavcodec and what it depends on takes a tenth of a second and several MiB for each process that
//! executes. This process does it once, before anybody wants a worker, and holds nothing of any client: a session fd
//! passes through it to the worker only. Workers share the pages that none of them writes to.
//!
//! ```text
//! broker ──socket──► fork server ──fork──► (one that ends at once) ──fork──► worker
//!    ▲                                                                         │
//!    └──────────── is its parent from then on, as the subreaper ───────────────┘
//! ```
//!
//! Invariants:
//! - The process has one thread, so the memory of a fork is consistent.
//! - It answers requests in their order, each exactly once, when the broker is the worker's parent.
//! - A worker touches nothing of the session before the answer that names it has been sent. Until then it is in the
//!   server's process group, and it ends if the server does. So no worker runs that the broker does not know.
//! - It ends when the broker closes the socket or dies. Workers do not.
//!
//! Workers of one server have the same addresses and the same stack canaries. So a broker that saw a worker crash
//! takes another server for the next, and nobody can try one guess after the other.

#![expect(unsafe_code, reason = "fork() has no safe wrapper")]

use std::io::{self, IoSlice, IoSliceMut, stdin};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use rustix::cmsg_space;
use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, setpgid, waitpid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::cli::WorkerOptions;
use crate::worker;

/// The most descriptors of a message.
const MOST_FDS: usize = 3;

/// What the broker asks for: a worker of a session.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) session: u64,
    /// The session fd: its standard input.
    pub(crate) fd: OwnedFd,
    /// Where it logs: its standard error.
    pub(crate) log: OwnedFd,
    /// The file to which it records: its standard output.
    pub(crate) trace: Option<OwnedFd>,
}

impl Request {
    /// Sends it, with copies of the descriptors.
    ///
    /// # Errors
    /// `EAGAIN` if the socket does not take it at once.
    pub(crate) fn send(&self, socket: impl AsFd) -> rustix::io::Result<()> {
        let mut fds = vec![self.fd.as_fd(), self.log.as_fd()];
        fds.extend(self.trace.as_ref().map(AsFd::as_fd));
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        send(socket.as_fd(), &self.session.to_ne_bytes(), &fds, flags)
    }

    /// Waits for the next one; `None` when the broker is gone.
    fn receive(socket: impl AsFd) -> Result<Option<Self>> {
        let Some((session, fds)) = receive(socket.as_fd(), RecvFlags::empty())? else {
            return Ok(None);
        };
        let mut fds = fds.into_iter();
        let (Some(fd), Some(log)) = (fds.next(), fds.next()) else {
            anyhow::bail!("a request without its descriptors");
        };
        Ok(Some(Self {
            session: u64::from_ne_bytes(session),
            fd,
            log,
            trace: fds.next(),
        }))
    }
}

/// A message of the server: that it is ready, once, and then the answer to each request.
#[derive(Debug)]
pub(crate) enum Answer {
    Ready,
    /// Without the pidfd if the receiver had no descriptor left for it.
    Started {
        pid: Pid,
        pidfd: Option<OwnedFd>,
    },
    Failed(Errno),
}

impl Answer {
    fn send(&self, socket: impl AsFd) -> rustix::io::Result<()> {
        let (pid, errno, fds) = match self {
            Self::Ready => (0, 0, Vec::new()),
            Self::Started { pid, pidfd } => {
                let fds = pidfd.iter().map(AsFd::as_fd).collect();
                (pid.as_raw_pid(), 0, fds)
            }
            Self::Failed(errno) => (0, errno.raw_os_error(), Vec::new()),
        };
        let [pid, errno] = [pid.to_ne_bytes(), errno.to_ne_bytes()];
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&pid);
        bytes[4..].copy_from_slice(&errno);
        send(socket.as_fd(), &bytes, &fds, SendFlags::NOSIGNAL)
    }

    /// Takes the next one; `None` when the server is gone.
    ///
    /// # Errors
    /// `EAGAIN` if there is none.
    pub(crate) fn receive(socket: impl AsFd) -> rustix::io::Result<Option<Self>> {
        let Some((bytes, fds)) = receive(socket.as_fd(), RecvFlags::DONTWAIT)? else {
            return Ok(None);
        };
        let [a, b, c, d, errno @ ..] = bytes;
        let pid = Pid::from_raw(i32::from_ne_bytes([a, b, c, d]));
        Ok(Some(match (pid, i32::from_ne_bytes(errno)) {
            (Some(pid), _) => Self::Started {
                pid,
                pidfd: fds.into_iter().next(),
            },
            (None, 0) => Self::Ready,
            (None, errno) => Self::Failed(Errno::from_raw_os_error(errno)),
        }))
    }
}

fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8; 8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    retry_on_intr(|| sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags))?;
    Ok(())
}

/// A message and its descriptors.
type Message = ([u8; 8], Vec<OwnedFd>);

/// Takes a message; `None` when the other side is gone.
fn receive(socket: BorrowedFd<'_>, flags: RecvFlags) -> rustix::io::Result<Option<Message>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 8];
    let received = retry_on_intr(|| {
        recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | flags,
        )
    });
    let length = match received {
        Ok(message) => message.bytes,
        Err(Errno::CONNRESET) => 0,
        Err(error) => return Err(error),
    };
    if length == 0 {
        return Ok(None);
    }
    if length != bytes.len() {
        return Err(Errno::BADMSG);
    }
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    Ok(Some((bytes, fds)))
}

/// Serves the broker at the other end of the standard input. In a worker it returns when the session is over.
///
/// # Errors
/// If the standard input is no such socket, or what the worker says.
pub(crate) fn run(options: &WorkerOptions) -> Result<()> {
    rustix::thread::set_name(c"daedalus-fork").context("naming the process")?;
    // What each worker would do otherwise: tables that the libraries make when they are first used.
    daedalus_engine::warm_up();
    let tasks = std::fs::read_dir("/proc/self/task").context("/proc/self/task")?;
    ensure!(
        tasks.count() == 1,
        "a library has started a thread, so nothing can be forked"
    );
    Answer::Ready
        .send(stdin())
        .context("standard input is no socket of a broker")?;
    loop {
        let Some(request) = Request::receive(stdin())? else {
            return Ok(());
        };
        match fork_twice(|| (), || ()) {
            Ok(Process::Server(worker)) => {
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
            Ok(Process::Worker(release)) => {
                if !is_released(&release) {
                    return Ok(());
                }
                drop(release);
                let session = request.session;
                let records = request.trace.is_some();
                take(request).context("taking over the session's descriptors")?;
                return worker::run(options, records.then_some(session));
            }
            Err(errno) => answer(&Answer::Failed(errno))?,
        }
    }
}

fn answer(answer: &Answer) -> Result<()> {
    answer.send(stdin()).context("answering the broker")
}

/// In a worker: its standard descriptors are those of the request.
fn take(request: Request) -> rustix::io::Result<()> {
    // Ctrl-C on a terminal is for the broker, which then decides about its workers.
    setpgid(None, None)?;
    dup2_stdin(request.fd)?;
    dup2_stderr(request.log)?;
    if let Some(trace) = request.trace {
        dup2_stdout(trace)?;
    }
    Ok(())
}

/// Tells the processes apart that [`fork_twice`] returns in.
enum Process {
    Server(Waiting),
    /// With the pipe of [`is_released`].
    Worker(OwnedFd),
}

/// A worker that waits to be released. It ends if this value is dropped instead, and if the server ends.
struct Waiting {
    pid: Pid,
    release: OwnedFd,
}

impl Waiting {
    fn release(self) {
        // It fails only if the worker has been killed. A pipe that is empty takes a byte at once.
        let _ = write(&self.release, &[1]);
    }
}

/// Waits until the server releases this worker. False: the server has ended, or has not answered for it.
fn is_released(release: &OwnedFd) -> bool {
    matches!(retry_on_intr(|| read(release, &mut [0; 1])), Ok(1))
}

/// Forks a process whose parent has ended, so that the nearest subreaper, the broker, is its parent. It returns in
/// the server when that is so. The parent may be killed at any point, by the kernel for one, if memory is short.
/// It calls `before` before it forks and `after` when it has.
fn fork_twice(before: impl FnOnce(), after: impl FnOnce()) -> rustix::io::Result<Process> {
    // Nobody is to wait for a word that a killed process has not written.
    let pids = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let (wait, release) = pipe_with(PipeFlags::CLOEXEC)?;
    let Some(parent) = fork()? else {
        before();
        let result = fork();
        if let Ok(None) = result {
            // The pipe ends when the server closes it.
            drop(release);
            return Ok(Process::Worker(wait));
        }
        after();
        let word = match result {
            Ok(worker) => worker.map_or(0, Pid::as_raw_pid),
            Err(errno) => -errno.raw_os_error(),
        };
        // Fewer bytes than a pipe takes at once.
        let _ = write(&pids.1, &word.to_ne_bytes());
        // SAFETY: it ends the process without running what is registered for the end of the program: that is the
        // server's, and this copy of it holds nothing that outlives the process.
        unsafe { libc::_exit(0) }
    };
    let ended = retry_on_intr(|| waitpid(Some(parent), WaitOptions::empty()))?;
    if ended.and_then(|(_, status)| status.exit_status()) != Some(0) {
        return Err(Errno::AGAIN);
    }
    let mut word = [0; 4];
    if read(&pids.0, &mut word)? != word.len() {
        return Err(Errno::IO);
    }
    match i32::from_ne_bytes(word) {
        errno @ ..0 => Err(Errno::from_raw_os_error(-errno)),
        pid => Pid::from_raw(pid)
            .map(|pid| Process::Server(Waiting { pid, release }))
            .ok_or(Errno::IO),
    }
}

/// `None` in the new process.
fn fork() -> rustix::io::Result<Option<Pid>> {
    // SAFETY: this process has one thread, so no lock is held by a thread that the new one lacks.
    match unsafe { libc::fork() } {
        -1 => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::AGAIN)),
        pid => Ok(Pid::from_raw(pid)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap()
    }

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn requests_arrive_with_their_descriptors() {
        let (broker, server) = pair();
        for trace in [None, Some(null())] {
            let records = trace.is_some();
            let request = Request {
                session: 0x0123_4567_89ab,
                fd: null(),
                log: null(),
                trace,
            };
            request.send(&broker).unwrap();
            let got = Request::receive(&server).unwrap().unwrap();
            assert_eq!((got.session, got.trace.is_some()), (0x0123_4567_89ab, records));
        }
        drop(broker);
        assert!(Request::receive(&server).unwrap().is_none(), "the broker is gone");
    }

    #[test]
    fn answers_are_a_worker_or_an_error() {
        let (broker, server) = pair();
        let pid = rustix::process::getpid();
        let pidfd = Some(pidfd_open(pid, PidfdFlags::empty()).unwrap());
        Answer::Ready.send(&server).unwrap();
        Answer::Started { pid, pidfd }.send(&server).unwrap();
        Answer::Failed(Errno::AGAIN).send(&server).unwrap();
        assert!(matches!(
            Answer::receive(&broker).unwrap().unwrap(),
            Answer::Ready
        ));
        let first = Answer::receive(&broker).unwrap().unwrap();
        assert!(matches!(first, Answer::Started { pid: got, pidfd: Some(_) } if got == pid));
        let second = Answer::receive(&broker).unwrap().unwrap();
        assert!(matches!(second, Answer::Failed(Errno::AGAIN)));
        assert!(
            matches!(Answer::receive(&broker), Err(Errno::AGAIN)),
            "none is left"
        );
        drop(server);
        assert!(Answer::receive(&broker).unwrap().is_none(), "the server is gone");
    }

    /// What [`fork_twice`] returns within 5 s in a process that has the hooks; `None` if it does not.
    fn forked(before: fn(), after: fn()) -> Option<rustix::io::Result<()>> {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let result = fork_twice(before, after);
            if let Ok(Process::Worker(_)) = result {
                // SAFETY: it ends a copy of the test's process, which has nothing to clean up.
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

    #[test]
    fn what_is_no_message_is_refused() {
        let (broker, server) = pair();
        write(&broker, b"short").unwrap();
        assert!(Request::receive(&server).is_err());
        send(broker.as_fd(), &[0; 8], &[], SendFlags::empty()).unwrap();
        assert!(Request::receive(&server).is_err(), "no descriptors");
    }
}
